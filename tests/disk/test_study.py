"""The runner of studies: names, inputs, stored parts, groups, workers."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pytest
from counting_study import CountSettings, CountStudy
from recording_progress import RecordingProgress

from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part
from atlas.errors import BadInput, Locked, Missing, QueryFailed, UnknownName
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_locked, run_study
from atlas.studies.settings import setting
from atlas.studies.study import Found


@pytest.fixture
def path(tmp_path):
    """Return an atlas of small parts: a and ab have tokens, abc has none."""
    folder = Folder.create(tmp_path / "x.atlas")
    for name in ("a", "ab", "abc"):
        for kind in ("sae", "tokens")[: 1 if name == "abc" else 2]:
            manifest = Manifest(kind=kind, name=name, saes=(name,))
            write_part(folder.part(kind, name), manifest, [("x", pa.table({"n": [len(name)]}))])
    return folder.path


def test_each_task_gets_a_part_that_records_its_inputs(path):
    recorded = RecordingProgress()
    results = run_study(CountStudy(CountSettings(2)), path, "all", progress=recorded)
    assert results.rows == [{"sae": "a", "letters": 2}, {"sae": "ab", "letters": 4}]
    assert "Skipped abc: it has no tokens" in recorded.messages[0]
    sound = Folder.open(path).sound()
    part = sound.parts["count/ab"]
    assert part.manifest.version == 2
    assert part.manifest.settings == {"factor": 2}
    assert part.manifest.sources == {"by": "hand"}
    assert part.manifest.made_from == {
        key: sound.parts[key].manifest.hash for key in ("sae/ab", "tokens/ab")
    }
    assert not list(Folder.open(path).cache.iterdir())


def test_a_result_stored_with_the_same_settings_is_read(path):
    run_study(CountStudy(), path, ["a"])
    recorded = RecordingProgress()
    (result,) = run_study(CountStudy(fail=True), path, ["a"], progress=recorded)
    assert result["letters"] == 1
    assert recorded.messages == ["The count of a is already stored with the same settings."]
    other = CountStudy(CountSettings(3), fail=True)
    assert run_study(other, path, ["a"], reuse=True)[0]["letters"] == 1
    with pytest.raises(BadInput, match="as requested"):
        run_study(other, path, ["a"])
    with pytest.raises(BadInput, match="as requested"):
        run_study(CountStudy(fail=True), path, ["a"], replace=True)
    assert run_study(CountStudy(CountSettings(3)), path, ["a"])[0]["letters"] == 3


def test_a_changed_input_makes_a_result_stale(path):
    run_study(CountStudy(), path, ["a"])
    folder = Folder.open(path)
    manifest = Manifest(kind="tokens", name="a", saes=("a",), seed=9)
    write_part(folder.part("tokens", "a"), manifest, [("x", pa.table({"n": [1]}))])
    assert "count/a" in folder.sound().stale
    with pytest.raises(BadInput, match="as requested"):
        run_study(CountStudy(fail=True), path, ["a"])
    run_study(CountStudy(), path, ["a"])
    assert "count/a" not in folder.sound().stale


def test_a_missing_name_or_input_is_one_message(path):
    with pytest.raises(UnknownName, match="No SAE is named 'b'"):
        run_study(CountStudy(), path, ["b"])
    with pytest.raises(
        Missing, match="The study count of abc needs the tokens of abc, which are missing"
    ):
        run_study(CountStudy(), path, ["abc"])
    folder = Folder.open(path)
    with folder.writing(), pytest.raises(Locked):
        run_study(CountStudy(), path, "all")


@dataclass(frozen=True)
class TwiceStudy(CountStudy):
    """A study that runs the count, and records the part of the count as its input."""

    kind: ClassVar[str] = "twice"
    resumes: ClassVar[bool] = True

    def run(self, task, at):
        (one,) = run_locked(CountStudy(), at.folder, task.saes, progress=at.progress)
        assert at.scratch.is_dir()
        table = pa.table({"letters": [2 * one["letters"]]})
        return Found([("letters", table)], made_from=(f"count/{task.name}",))


def test_a_study_runs_another_study_under_one_lock(path):
    folder = Folder.open(path)
    (result,) = run_study(TwiceStudy(), path, ["ab"])
    assert result["letters"] == 4
    parts = folder.sound().parts
    assert parts["twice/ab"].manifest.made_from == {
        key: parts[key].manifest.hash for key in ("sae/ab", "tokens/ab", "count/ab")
    }
    recorded = RecordingProgress()
    (again,) = run_study(TwiceStudy(), path, ["ab"], progress=recorded)
    assert dict(again) == dict(result)
    assert recorded.messages == ["The count of ab is already stored with the same settings."]
    run_study(CountStudy(CountSettings(3)), path, ["ab"])
    assert "twice/ab" in folder.sound().stale


def test_a_run_removes_its_scratch_folder_but_no_view(path):
    class GraphStudy(CountStudy):
        kind: ClassVar[str] = "graph"

    view = Folder.open(path).cache / "graph-0123456789abcdef.kuzu"
    view.mkdir(parents=True)
    run_study(GraphStudy(), path, ["a"])
    assert list(view.parent.iterdir()) == [view]


def test_workers_write_the_same_parts(path, tmp_path):
    import shutil

    copy = tmp_path / "copy.atlas"
    shutil.copytree(path, copy)
    folder = Folder.open(path)
    for where in (folder, Folder.open(copy)):
        for name in ("b", "bcd"):
            for kind in ("sae", "tokens"):
                manifest = Manifest(kind=kind, name=name, saes=(name,))
                write_part(where.part(kind, name), manifest, [("x", pa.table({"n": [1]}))])
    here = run_study(CountStudy(), path, "all")
    there = run_study(CountStudy(), copy, "all", workers=2)
    assert [dict(r) for r in here] == [dict(r) for r in there]
    hashes = [
        {k: p.manifest.hash for k, p in Folder.open(f).sound().parts.items()} for f in (path, copy)
    ]
    assert hashes[0] == hashes[1]
    with pytest.raises(BadInput, match="as requested"):
        run_study(CountStudy(fail=True), copy, "all", replace=True, workers=2)


def test_a_result_is_a_mapping_a_frame_and_html():
    row = {"sae": "<b>x</b>", "share": 0.123456, "many": list(range(9))}
    result = Result(
        "count",
        "x",
        row,
        verdict=["It is <i>so</i>."],
        tables=(["t"], lambda n: pa.table({"n": [1, 2]})),
    )
    assert dict(result) == row
    assert result["share"] == row["share"]
    assert repr(result) == "<count x: It is <i>so</i>.>"
    html = result._repr_html_()
    assert "<b>x</b>" not in html
    assert "<i>so</i>" not in html
    assert "&lt;i&gt;so&lt;/i&gt;" in html
    assert result.to_pandas().shape == (1, 3)
    assert result.to_pandas("t")["n"].tolist() == [1, 2]
    with pytest.raises(KeyError, match="no table"):
        result.table("other")
    with pytest.raises(NotImplementedError, match="no plot"):
        result.plot()
    both = Results([result, result])
    assert both.verdict == ["It is <i>so</i>."] * 2
    assert repr(Results()) == "<no results>"
    assert Results().to_pandas().empty


def test_one_result_is_plotted_and_several_name_how_to_select_one(monkeypatch):
    monkeypatch.setattr("atlas.plugins.find_plotter", lambda _: lambda one: f"plot of {one.name}")
    one, other, floor = (Result("count", name, {}) for name in ("x", "y", "x-frozen"))
    floor.floor = True
    assert Results([one]).plot() == "plot of x"
    assert Results([one, floor]).plot() == "plot of x"
    assert Results([floor]).plot() == "plot of x-frozen"
    with pytest.raises(BadInput, match=r"2 results \(x, y\).*`results\[0\]\.plot\(\)` for x\."):
        Results([one, other, floor]).plot()
    with pytest.raises(BadInput, match=r"5 results \(x, x, x, …\)"):
        Results([one] * 5).plot()
    with pytest.raises(BadInput, match="no results"):
        Results().plot()


def test_a_joined_table_has_the_part_and_the_floor_of_each_row():
    numbers = {"x": [1, 2], "x-frozen": [3]}
    results = Results(
        Result("count", name, {}, tables=(["t"], lambda _, n=n: pa.table({"n": n})))
        for name, n in numbers.items()
    )
    results[1].floor = True
    assert results.to_pandas("t").to_dict("list") == {
        "part": ["x", "x", "x-frozen"],
        "is_floor": [False, False, True],
        "n": [1, 2, 3],
    }
    first = results[:1]
    assert isinstance(first, Results)
    assert first.to_pandas("t")["n"].tolist() == [1, 2]
    assert list(first[0].to_pandas("t")) == ["n"]
    assert Results().to_pandas("t").empty
    with pytest.raises(KeyError, match="no table"):
        results.to_pandas("other")


def test_a_result_of_other_settings_is_replaced_with_a_message(path):
    class LongNamed(CountStudy):
        kind: ClassVar[str] = "long_counts"

    recorded = RecordingProgress()
    run_study(LongNamed(), path, ["a"])
    (again,) = run_study(LongNamed(CountSettings(3)), path, ["a"], progress=recorded)
    assert again["letters"] == 3
    assert recorded.messages[0] == (
        "The long counts of a are already stored with other settings (factor 1, now 3); they are replaced."
    )


@dataclass(frozen=True)
class DrawSettings(CountSettings):
    """Settings with draws."""

    draws: int = setting(20, "Draws.", least=0, paper=999)
    probes: int = setting(5, "Probes.", least=1, paper=50)


def test_a_run_without_a_number_of_draws_reads_a_result_of_other_draws(path):
    def run(**more):
        recorded = RecordingProgress()
        study = CountStudy(DrawSettings(**more))
        (result,) = run_study(study, path, ["a"], progress=recorded)
        stored = result.settings
        return (stored["factor"], stored["draws"], stored["probes"]), recorded.messages

    assert run()[0] == (1, 20, 5)
    assert run(draws=999, probes=50)[0] == (1, 999, 50)  # --full computes more
    stored, messages = run()
    assert stored == (1, 999, 50)
    assert messages == [
        "The count of a is already stored with 999 draws and 50 probes; `draws=20` `probes=5` measures again."
    ]
    assert run(draws=999)[0] == (1, 999, 50)
    # Other settings, or a number of draws that is passed, are computed as requested.
    assert run(draws=21)[0] == (1, 21, 5)
    assert run(draws=19)[0] == (1, 19, 5)
    stored, messages = run()
    assert stored == (1, 19, 5)
    assert "with 19 draws; `draws=20` measures again" in messages[0]
    assert run(draws=20)[0] == (1, 20, 5)  # also if it equals the default
    assert run(draws=0)[0] == (1, 0, 5)
    assert run()[0] == (1, 20, 5)  # without draws there is no control
    assert run(draws=999)[0] == (1, 999, 5)
    assert run(factor=2)[0] == (2, 20, 5)
    assert run(draws=999, probes=50)[0] == (1, 999, 50)
    assert run(factor=2)[0] == (2, 20, 5)


def test_arguments_of_other_types_are_refused(path):
    with pytest.raises(BadInput, match="An SAE is 3; expected its name"):
        run_study(CountStudy(), path, [3])
    with pytest.raises(BadInput, match="The atlas is None; expected its folder"):
        run_study(CountStudy(), None, "all")
    with pytest.raises(QueryFailed, match=r"Run it by `atlas.ask\('saes', …\)`"):
        Atlas.open(path).query("saes")
