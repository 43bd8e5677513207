"""Generated commands of studies: checks before work, --all, --out, JSON and tables."""

import json
import re
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from atlas.cli.study_command import Writer, study_command
from atlas.disk.folder import Sound
from atlas.errors import BadInput, Missing, RequestError
from atlas.plugins import study_commands
from atlas.studies.results import Result, Results
from atlas.studies.settings import documented, setting
from atlas.studies.study import check_inputs

ME = __name__
CALLS = []


@documented
@dataclass(frozen=True)
class Few:
    """Settings of the command."""

    draws: int = setting(3, "Draws.", least=1)


def run(atlas, saes, *, settings, replace, workers, ray, progress):
    """A study with one result."""
    CALLS.append(("run", saes, settings.draws, replace))
    return Results([Result("few", "one", {"sae": "one", "n": 7}, verdict=["It is so."])])


def prepare(paths, saes, *, size):
    """Refuse names that end in .bad, and write nothing."""
    CALLS.append(("prepare", [path.name for path in paths], saes, size))
    if any(path.suffix == ".bad" for path in paths):
        raise BadInput("The name ends in .bad.")
    return lambda results: [str(path) for path in paths]


def report(results, saes):
    """Return the content of --json."""
    return {"few": results.rows, "named": list(saes)}


def show(found):
    """Print the result."""
    click.echo(f"shown {found['named']}")


def invoke(arguments, tmp_path, **more):
    CALLS.clear()
    made = study_command("few", f"{ME}:run", Few, help="Do it.", **more)
    (tmp_path / "a.atlas").mkdir(exist_ok=True)
    return CliRunner().invoke(made, [*arguments, "-q", "-a", str(tmp_path / "a.atlas")])


WRITER = Writer("Files.", f"{ME}:prepare", (click.option("--size", type=int),))
EVERYTHING = {"writer": WRITER, "report": f"{ME}:report", "show": f"{ME}:show"}


def test_a_plain_command_prints_verdict_and_table(tmp_path):
    done = invoke(["one", "--draws", "5"], tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "It is so."
    assert "7" in done.stdout
    assert CALLS == [("run", ("one",), 5, False)]
    found = json.loads(invoke(["--json"], tmp_path).stdout)
    assert found["result"] == [{"sae": "one", "n": 7}]
    assert CALLS == [("run", None, 3, False)]


def test_paths_are_checked_before_the_study_runs(tmp_path):
    done = invoke(["one", "--out", "a.png", "--size", "4"], tmp_path, **EVERYTHING)
    assert done.exit_code == 0, done.output
    assert [call[0] for call in CALLS] == ["prepare", "run"]
    assert CALLS[0] == ("prepare", ["a.png"], ("one",), 4)
    assert done.stdout.splitlines() == ["It is so.", "shown ['one']", "a.png"]
    refused = invoke(["one", "--out", "a.bad"], tmp_path, **EVERYTHING)
    assert isinstance(refused.exception, BadInput)
    assert [call[0] for call in CALLS] == ["prepare"]
    invoke(["one"], tmp_path, **EVERYTHING)
    assert [call[0] for call in CALLS] == ["run"]
    invoke(["one", "--size", "4"], tmp_path, **EVERYTHING)  # an option alone
    assert [call[0] for call in CALLS] == ["prepare", "run"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (EVERYTHING, {"few": [{"sae": "one", "n": 7}], "named": ["one"], "written": ["a.png"]}),
        ({"writer": WRITER}, {"results": [{"sae": "one", "n": 7}], "written": ["a.png"]}),
    ],
)
def test_json_has_the_report_and_the_written_files(tmp_path, more, expected):
    done = invoke(["one", "--out", "a.png", "--json"], tmp_path, **more)
    assert json.loads(done.stdout)["result"] == expected


def test_a_narrow_table_has_no_score_without_its_control(tmp_path, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "60")
    row = {"sae": "one", "f1": 0.5, "a" * 30: 1, "b" * 30: 2, "chance": 0.1}
    monkeypatch.setattr(f"{ME}.run", lambda *_, **__: Results([Result("few", "one", row)] * 4))
    header = invoke([], tmp_path, controls={"f1": ["chance"]}).stdout.splitlines()[0]
    assert re.findall(r"sae|f1|chance", header) == ["sae", "f1", "chance"]


def test_names_and_all_exclude_each_other(tmp_path):
    done = invoke(["one", "--all"], tmp_path)
    assert isinstance(done.exception, RequestError)
    assert CALLS == []
    # Without names, the study itself selects the first SAE or pair.
    for arguments, passed in ((["--all"], "all"), ([], None)):
        assert invoke(arguments, tmp_path).exit_code == 0
        ((_, names, *_),) = CALLS
        assert names == passed


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("match", "atlas match"),
        ("graph_statistics", "atlas graph-stats"),
        ("concept_ablation", "atlas concepts --ablate"),  # no command of its own
        ("tokens", "atlas ingest --replace"),
    ],
)
def test_a_missing_part_names_the_command_that_computes_it(kind, command):
    with pytest.raises(Missing) as caught:
        check_inputs([f"{kind}/one"], Sound({}), what="The study")
    assert str(caught.value).endswith(f"missing; `{command}` computes it.")


def test_options_that_compute_other_kinds_exist():
    for command in study_commands().values():
        options = {word for parameter in command.params for word in parameter.opts}
        assert set(command.also.values()) <= options
