"""Interpretability marks in the report on residual SAEs: planted differences, numbers by hand, sentences."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from geometry_parts import add_marks, study_atlas
from scipy.stats import t as student

from analysis.interpretability.marks import MARKS
from analysis.residual.report.findings import find
from analysis.residual.report.marks import (
    HARDER,
    mark_differences,
    mark_rows,
    marks_verdict,
    read_marks,
    separating,
)
from analysis.residual.report.report import html, numbers
from analysis.residual.report.study import open_study
from atlas.api import Atlas
from atlas.errors import Mismatch


def with_marks(path, shifts, *, seeds=6, **more):
    """Return the folder of a study whose arms have detection scores shifted by ``shifts``."""
    folder = study_atlas(path, seeds=seeds, features=20, draws=5)
    rng = np.random.default_rng(3)
    for row in open_study(folder).arms.to_dict("records"):
        shift = shifts.get(row["arm"], 0.0) + rng.normal(0, 0.004)
        add_marks(folder, row["sae"], rng=rng, shift=shift, **more)
    return folder


def differences(folder, **options):
    study = open_study(folder)
    return study, mark_differences(study, read_marks(folder.sound(), study)[0], **options)


@pytest.fixture(scope="module")
def harder(tmp_path_factory):
    return with_marks(tmp_path_factory.mktemp("harder") / "a.atlas", {"residual": -0.05})


def row_of(rows, mark, other, one="residual"):
    (row,) = (r for r in rows if (r["mark"], r["one"], r["other"]) == (mark, one, other))
    return row


def test_a_planted_difference_has_its_size_interval_and_q(harder):
    study, rows = differences(harder, strata=1)
    tables = read_marks(harder.sound(), study)[0]
    of = study.arms.set_index("sae")
    by_seed = [
        tables[f"residual-s{seed}"]["detection"].mean()
        - np.mean([tables[f"components-s{seed}-d{d}"]["detection"].mean() for d in range(2)])
        for seed in range(6)
    ]
    assert len(of) == 6 * 5
    row = row_of(rows, "detection", "components")
    assert row["mean"] == pytest.approx(np.mean(by_seed), abs=1e-12)
    assert row["mean"] == pytest.approx(-0.05, abs=0.01)
    assert row["p"] == row["p_floor"] == 2 / 2**6
    half = student.ppf(0.975, 5) * np.std(by_seed, ddof=1) / np.sqrt(6)
    assert row["high"] - row["mean"] >= 0.9 * half  # the variance of draws is added
    ranked = sorted(r["p"] for r in rows)
    steps = [p * len(ranked) / (i + 1) for i, p in enumerate(ranked)]
    for r in rows:
        assert r["q"] == pytest.approx(
            min(steps[max(i for i, p in enumerate(ranked) if p == r["p"]) :])
        )


def test_the_verdict_needs_both_controls(harder, tmp_path):
    rows = differences(harder)[1]
    assert {row["mark"] for row in rows if row["harder"]} <= {"detection", "top_share"}
    one_control = [row for row in rows if row["other"] != "token-means"]
    assert marks_verdict(one_control) == ""
    assert marks_verdict([]) == ""
    equal = differences(with_marks(tmp_path / "b.atlas", {}))[1]
    assert marks_verdict(equal).startswith("The marks do not show")
    assert marks_verdict(equal).endswith("Compared with token-means: no difference.")


@pytest.mark.parametrize(("way", "word"), [(True, "harder"), (False, "easier")])
def test_verdicts_in_words(way, word):
    rows = [
        {
            "mark": mark,
            "one": "residual",
            "other": other,
            "seeds": 6,
            "harder": way if mark in ("entropy", "detection") else None,
        }
        for mark in MARKS
        for other in ("components", "token-means")
    ]
    assert marks_verdict(rows) == (
        f"Residual features are {word} to interpret than those of both controls. Compared with components: {word} "
        f"by entropy, detection. Compared with token-means: {word} by entropy, detection."
    )
    rows[-1]["harder"] = not way  # one control of detection
    other = "easier" if way else "harder"
    words = marks_verdict(rows)
    assert words.startswith("The marks do not show")
    assert f"{word} by entropy" in words
    assert f"{other} by detection" in words


def test_agreement_and_detection_are_compared_minus_their_controls(tmp_path):
    """Residual features agree more with their match and with their control, so the difference is 0."""
    folder = study_atlas(tmp_path / "a.atlas", seeds=6, features=20, draws=5)
    rng = np.random.default_rng(5)
    for row in open_study(folder).arms.to_dict("records"):
        residual = row["arm"] == "residual"
        add_marks(folder, row["sae"], rng=rng, shift=0.0, agreement=0.3 if residual else 0.0)
    rows = differences(folder)[1]
    assert row_of(rows, "agreement", "components")["mean"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("sign", [-1, 1])
def test_harder_follows_the_direction_of_the_mark(tmp_path, sign):
    """Many seeds, so that q can be small even if few marks differ."""
    folder = with_marks(tmp_path / "a.atlas", {"residual": sign * 0.05}, seeds=12)
    rows = differences(folder)[1]
    for mark in ("detection", "top_share"):
        row = row_of(rows, mark, "token-means")
        assert row["harder"] is (sign * HARDER[mark] > 0)
        assert row["harder"] is (sign < 0)
    assert row_of(rows, "entropy", "components")["harder"] is None


def test_features_that_separate_a_concept_are_counted_by_arm(tmp_path):
    folder = with_marks(tmp_path / "a.atlas", {}, seeds=2)
    study = open_study(folder)
    assert separating(folder.sound(), study) == {}
    (first, *_) = mark_rows(study, read_marks(folder.sound(), study)[0], {})
    assert "concepts" not in first
    saes = tuple(study.arms["sae"])
    edges = [f"{sae}/{i}" for sae in saes if sae.startswith("baseline") for i in (1, 1, 4)]
    table = pa.table({"source": edges, "target": ["set/x"] * len(edges)})
    manifest = SimpleNamespace(saes=saes, tables={"SEPARATES": None})
    tested = SimpleNamespace(manifest=manifest, table=lambda name: table)
    found = separating(SimpleNamespace(of=lambda kind: [tested]), study)
    assert found == {sae: 2 * sae.startswith("baseline") for sae in saes}
    rows = {r["arm"]: r for r in mark_rows(study, read_marks(folder.sound(), study)[0], found)}
    assert rows["baseline"]["concepts"].mean == pytest.approx(2 / 20)
    assert rows["residual"]["concepts"].mean == 0


def test_few_seeds_are_reported(tmp_path):
    rows = differences(with_marks(tmp_path / "a.atlas", {"residual": -0.05}, seeds=2))[1]
    assert marks_verdict(rows).endswith("With 2 seeds no q of .05 is possible; six are needed.")
    assert {row["harder"] for row in rows} == {None}


def test_marks_of_other_settings_are_not_compared(tmp_path):
    folder = study_atlas(tmp_path / "a.atlas", seeds=2, features=10, draws=2)
    rng = np.random.default_rng(0)
    add_marks(folder, "baseline-s0", rng=rng, shift=0)
    add_marks(folder, "residual-s0", rng=rng, shift=0, settings={"words": 3})
    with pytest.raises(Mismatch, match=r"residual-s0 .*`atlas describe"):
        read_marks(folder.sound(), open_study(folder))


def test_the_report_has_marks_or_the_command_that_measures_them(harder, tmp_path):
    with Atlas.open(harder.path) as atlas:
        found = find(atlas)
    page = html(found, where="a.atlas")
    assert "Are residual features harder to interpret?" in page
    assert found.marks_verdict in page
    assert "atlas describe baseline-s0" in page  # among the commands
    data = numbers(found)
    assert data["marks_verdict"] == found.marks_verdict
    assert {row["arm"] for row in data["marks"]} == set(open_study(harder).arms["arm"])
    assert len(data["mark_differences"]) == 5 * 5
    without = study_atlas(tmp_path / "b.atlas", seeds=1, features=10, draws=2)
    with Atlas.open(without.path) as atlas:
        found = find(atlas)
    assert found.marks == []
    assert "run <code>atlas describe baseline-s0" in html(found, where="b.atlas")
