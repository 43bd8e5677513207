"""If no SAE is named, a study uses the first SAE or pair, and ``--all`` uses all."""

import json
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pytest
from click.testing import CliRunner
from counting_study import CountStudy
from recording_progress import RecordingProgress

from analysis import PositionSettings, activation_by_position
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part
from atlas.errors import Missing
from atlas.plugins import StudyCommand
from atlas.schema import arrow_schema
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task
from ingest.synthetic import Planted, PlantedSettings

#: Name, role and site of each SAE, in the order of the atlas.
SAES = [
    ("a", "frozen-decoder", "early"),
    ("b", "trained", "early"),
    ("c", "trained", "late"),
    ("d", "trained", "late"),
]


@dataclass(frozen=True)
class PairStudy(CountStudy):
    """A study of pairs, whose result is the number of letters of both names."""

    @property
    def unnamed(self):
        return 2

    def tasks(self, at, saes):
        pairs = combinations(at.sound.saes if saes is None else saes, 2)
        return [Task("+".join(pair), pair, self.settings) for pair in pairs]

    def run(self, task, at):
        return Found([("letters", pa.table({"letters": [len("".join(task.saes))]}))])


def write(folder, saes):
    """Write the parts of some SAEs."""
    for name, role, hook in saes:
        row = {"name": name, "role": role, "model": "m", "hook": hook}
        table = pa.Table.from_pylist([row], schema=arrow_schema("SAE", "sae"))
        for kind, title in (("sae", "SAE"), ("tokens", "counts")):
            manifest = Manifest(kind=kind, name=name, saes=(name,))
            write_part(folder.part(kind, name), manifest, [(title, table)])


@pytest.fixture
def path(tmp_path):
    folder = Folder.create(tmp_path / "x.atlas")
    write(folder, SAES)
    return folder.path


def names(results):
    return [one.name for one in results]


def test_the_first_trained_sae_is_used_and_the_others_are_named(path):
    recorded = RecordingProgress()
    results = run_study(CountStudy(), path, progress=recorded)
    assert names(results) == ["b"]
    assert results.others == ("a", "c", "d")
    assert recorded.messages == [
        "No SAE was named, so b (the first) is used. Others: a, c, d. For all, pass `saes='all'`."
    ]
    assert '3 other SAEs were not used. For all, pass saes="all".' in str(results)
    assert "pass saes=&quot;all&quot;." in results._repr_html_()
    parts = Folder.open(path).sound().parts
    assert [key for key in parts if key.startswith("count/")] == ["count/b"]


def test_the_result_is_that_of_the_named_sae(path):
    assert run_study(CountStudy(), path).rows == run_study(CountStudy(fail=True), path, ["b"]).rows


def test_all_uses_every_sae(path):
    results = run_study(CountStudy(), path, "all")
    assert names(results) == ["a", "b", "c", "d"]
    assert results.others == ()
    assert "others" not in str(results)


def test_a_list_with_all_names_an_sae(path):
    write(Folder.open(path), [("all", "trained", "late")])
    assert names(run_study(CountStudy(), path, ["all"])) == ["all"]


def test_the_first_pair_is_of_trained_saes_at_one_site(path):
    recorded = RecordingProgress()
    results = run_study(PairStudy(), path, progress=recorded)
    assert names(results) == ["c+d"]
    assert "so c and d (the first pair) are used. Others: a, b." in recorded.messages[0]
    assert results.others == ("a", "b")
    assert len(run_study(PairStudy(), path, "all")) == 6


def test_an_sae_whose_inputs_are_missing_is_not_the_first(path):
    (Folder.open(path).part("tokens", "b") / "manifest.json").unlink()
    assert names(run_study(CountStudy(), path)) == ["c"]


def test_an_unavailable_sae_is_skipped(path):
    class Partly(CountStudy):
        def unavailable(self, tasks, at):
            return {task.name: Missing("It is away.") for task in tasks if task.name in "bd"}

    recorded = RecordingProgress()
    assert names(run_study(Partly(), path, progress=recorded)) == ["c"]
    assert recorded.messages[0] == "Skipped b: It is away."
    assert "Others: a, d. " in recorded.messages[1]


def test_the_reason_is_raised_if_every_sae_is_unavailable(path):
    class Never(CountStudy):
        def unavailable(self, tasks, at):
            return {task.name: Missing("It is away.") for task in tasks}

    with pytest.raises(Missing, match="It is away"):
        run_study(Never(), path)


def test_there_is_no_message_without_a_choice(tmp_path):
    folder = Folder.create(tmp_path / "one.atlas")
    write(folder, SAES[:1])
    recorded = RecordingProgress()
    assert names(run_study(CountStudy(), folder.path, progress=recorded)) == ["a"]
    assert recorded.messages == []


def test_the_command_and_python_use_the_same_sae(tmp_path):
    path = tmp_path / "planted.atlas"
    Planted(PlantedSettings(seed=2, shared=4, private=2)).write(path).close()
    saes = Folder.open(path).sound().saes
    words = ["positions", "--draws", "3", "--json", "-a", str(path)]
    one, every = (CliRunner().invoke(command(), [*words, *more]) for more in ([], ["--all"]))
    rows = activation_by_position(path, settings=PositionSettings(draws=3)).rows
    assert json.loads(one.stdout)["result"] == rows
    assert [row["sae"] for row in rows] == saes[:1]
    assert "--all" in one.stderr
    assert [row["sae"] for row in json.loads(every.stdout)["result"]] == saes
    both = CliRunner().invoke(command(), [*words, saes[0], "--all"])
    assert both.exit_code != 0
    assert "--all" in str(both.exception)


def test_each_study_of_named_saes_has_the_option():
    """Except studies that use all SAEs if none is named, or need names of SAEs, sites or features."""
    root = command()
    context = root.make_context("atlas", [], resilient_parsing=True)
    studies = [
        one
        for one in (root.get_command(context, name) for name in root.list_commands(context))
        if isinstance(one, StudyCommand) and any(p.nargs == -1 for p in one.params)
    ]
    without = {
        one.name for one in studies if "--all" not in [opt for p in one.params for opt in p.opts]
    }
    assert len(studies) > 12
    assert without == {"floors", "splitting", "truth"} | {"changes", "transcoder", "steer"}
