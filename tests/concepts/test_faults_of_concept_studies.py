"""A named test for each fault of the original studies of concepts that no other test names.

Tests elsewhere: padding and averaged positions (``test_concept_words``), units that never fire and the
family-wise error (``test_concept_units``), control tasks, convergence and leaking lemmas
(``test_concept_probes``), words of several tokens, three nulls and too few pairs
(``test_concept_subspaces``).
"""

from dataclasses import replace

import numpy as np
import pytest
from concept_spaces import row_of, spaces_of
from scipy import sparse
from scipy.stats import t as student

from analysis import ConceptSettings, SubspaceSettings, read_words
from analysis.concepts.subspaces.grid import concept_grid
from analysis.concepts.subspaces.study import NULLS, concept_rows
from analysis.concepts.tables import arm_row
from analysis.concepts.units.observations import live_columns
from analysis.concepts.units.separation import separate
from analysis.concepts.words.files import Concept
from analysis.concepts.worth.arms import Arm
from analysis.concepts.worth.evaluate import Question, score_arm
from atlas.studies.results import Result

WORDS = 120
LABELS = np.arange(WORDS) % 2 == 0
CONCEPT = Concept("g/f", "f", "m")


def question(*, probe_draws=9):
    number = np.arange(WORDS)
    settings = ConceptSettings(repeats=4, probe_draws=probe_draws)
    return Question.of(LABELS, number, number, settings=settings)


def scored(values, name):
    arm = Arm(name, live_columns(values))
    return arm, score_arm(arm, question(), complete=True)


def row(arm, scores, layer):
    counts = int(LABELS.sum()), int((~LABELS).sum())
    splits = question().splits
    return arm_row(
        CONCEPT, arm, scores, tests=None, layer=layer, splits=splits, counts=counts, level=0.05
    )


def half_width(values, ratio):
    """Half of Nadeau and Bengio's interval of the mean over splits."""
    error = np.sqrt((1 / len(values) + ratio) * np.var(values, ddof=1))
    return student.ppf(0.975, len(values) - 1) * error


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(0)
    layer = rng.normal(size=(WORDS, 12)) + 0.4 * LABELS[:, None] * (np.arange(12) < 3)
    features = np.maximum(layer @ rng.normal(size=(12, 40)) - 1, 0)
    return scored(layer, "layer"), scored(features, "features")


def test_the_error_of_a_score_is_that_of_splits_and_not_of_control_draws(arms):
    """The histograms of seed 004 showed 100 draws of a control around one split."""
    arm, scores = arms[0]
    assert np.std(scores.auc) > 0.01  # 20 splits, each with its own training words
    ratio = question().splits.ratio
    found = row(arm, scores, scores)
    assert found["auc"] == pytest.approx(scores.auc.mean())
    assert found["auc_high"] - found["auc"] == pytest.approx(half_width(scores.auc, ratio))
    wild = replace(scores, permuted_auc=np.linspace(0, 1, 9))
    for name in ("auc", "auc_low", "auc_high"):
        assert row(arm, wild, wild)[name] == found[name]


def test_the_difference_from_the_layer_is_paired_by_split(arms):
    """Seed 004 compared two accuracies, each of its own split, without an error."""
    (_, layer), (arm, scores) = arms
    found = row(arm, scores, layer)
    each = scores.auc - layer.auc
    ratio = question().splits.ratio
    assert found["difference"] == pytest.approx(each.mean())
    expected = half_width(each, ratio)
    assert found["difference_high"] - found["difference"] == pytest.approx(expected)
    unpaired = np.hypot(half_width(scores.auc, ratio), half_width(layer.auc, ratio))
    assert expected < unpaired


def test_counts_of_significant_units_come_with_their_number_under_permuted_labels():
    """Seed 004 compared 9 of 1,024 dimensions with 2 of 16,384 features, uncorrected."""
    rng = np.random.default_rng(1)
    found = separate(rng.normal(size=(WORDS, 500)), LABELS, draws=99, seed=0)
    # No unit separates: about 1% are below .01, the expected number, and none after correction.
    assert found.chance[:, 0].mean() == pytest.approx(5, abs=1)
    assert (found.p < 0.01).sum() == pytest.approx(5, abs=7)
    assert (found.q <= 0.05).sum() == (found.p_max <= 0.05).sum() == 0


def test_rarely_active_features_are_no_evidence_of_localisation():
    """54 of 16,384 features of seed 004 were significant at .01: fewer than the null expects.

    Here the features are copies of the informative dimensions, of which most never fire. Their
    share among all features falls with the dead ones, while the count among live ones does not.
    """
    rng = np.random.default_rng(2)
    live = np.maximum(rng.normal(size=(WORDS, 20)) + LABELS[:, None], 0)
    dead = sparse.csr_array(np.concatenate([live, np.zeros((WORDS, 980))], axis=1))
    columns = live_columns(dead)
    assert (columns.total, len(columns.units)) == (1000, 20)
    one, other = (separate(x, LABELS, draws=99, seed=0) for x in (live, columns.values))
    assert (one.p_max <= 0.05).sum() == (other.p_max <= 0.05).sum() > 10
    scores = score_arm(Arm("features", columns), question(), complete=False)
    alone = score_arm(Arm("features", live_columns(live)), question(), complete=False)
    assert scores.effective == pytest.approx(alone.effective)


def test_the_list_of_genders_has_no_word_that_has_none():
    """The list of seed 004 has Jack and Jenny as animals, and a gender for duck, fox and bear."""
    items = read_words("gender").items
    words = {item.word.lower(): item for item in items}
    assert not {"duck", "rabbit", "squirrel", "bear", "fox", "wolf"} & set(words)
    assert not {"robin", "sam", "alex", "taylor", "jordan", "casey", "jamie"} & set(words)
    for name in {"jack", "jenny"} & set(words):
        assert words[name].family == "name"
    labels = {}
    for item in items:
        labels.setdefault(item.word.lower(), set()).update(item.labels)
    assert all(len(own) == 1 for own in labels.values())


@pytest.mark.parametrize("suffix", ["ess", "woman"])
def test_words_of_one_suffix_are_one_family(suffix):
    """In seed 004, -ess and -woman in training words reveal the class of such test words."""
    items = read_words("gender").items
    own = [i for i in items if i.word.lower().endswith(suffix) and i.family != "name"]
    pairs = {item.group for item in own}
    assert len(own) > 3
    marked = {item.group for item in items if item.family.endswith(f"-{suffix}")}
    assert {item.group for item in own if item.family.endswith(f"-{suffix}")} <= marked
    plain = [item.word for item in own if item.group not in marked]
    assert set(plain) <= {"woman"}, plain
    # Both forms of a pair are in one group, so that no pair is split.
    assert all(len([i for i in items if i.group == group]) >= 2 for group in pairs & marked)


# ------------------------------------------------------------------ seed 002, concept subspaces


def test_a_concept_inside_another_is_not_its_own_control():
    """35 words of Calendar are among those of Time: the pairs of a concept are no other concept."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 8))
    y = x + rng.normal(size=(120, 8))
    y[:40] = x[:40]
    members = {
        "time": (np.arange(80),) * 2,
        "calendar": (np.arange(40),) * 2,
        "rest": (np.arange(80, 120),) * 2,
    }
    settings = SubspaceSettings(draws=19, neighbours=5)
    rows = list(concept_rows(spaces_of(x, y, rng=rng), members, settings))
    # All pairs outside of the calendar are equally noisy, also those of time.
    calendar = row_of(rows, "calendar")
    assert calendar["value"] == pytest.approx(1)
    assert calendar["other_null_high"] < 0.9
    assert calendar["other_p"] == 1 / 20


def grid_of(p):
    """Return results whose rows have these p of all nulls; (pairs of SAEs, concepts)."""
    import pyarrow as pa

    results = []
    for number, own in enumerate(p):
        rows = [
            {"concept": f"c{i}", "space": "decoder", "measure": "rsa", "pairs": 40, "value": 0.5}
            | {f"{null}{key}": value for null in NULLS for key, value in (("null", 0.1), ("p", x))}
            for i, x in enumerate(own)
        ]
        tables = {"rows": pa.Table.from_pylist(rows)}
        summary = {"a": "a", "b": f"b{number}"}
        results.append(
            Result("concept_subspaces", str(number), summary, tables=(tables, tables.__getitem__))
        )
    return results


def test_p_is_never_zero_and_q_is_over_concepts_and_pairs_of_saes():
    """Hundreds of tests of seed 002 were uncorrected, and their p could be 0."""
    rng = np.random.default_rng(4)
    p = rng.integers(1, 101, (5, 8)) / 100
    found = concept_grid(grid_of(p))
    assert len(found) == p.size
    every = np.sort(p.ravel())
    for one in found:
        rank = np.searchsorted(every, one["p"], side="right")
        expected = min(every[i] * p.size / (i + 1) for i in range(rank - 1, p.size))
        assert one["q"] == pytest.approx(min(expected, 1))
    x = rng.normal(size=(60, 6))
    members = {"a": (np.arange(40),) * 2, "b": (np.arange(40, 60),) * 2}
    settings = SubspaceSettings(draws=9, pairs=20)
    for one in concept_rows(spaces_of(x, x, rng=rng), members, settings):
        if one.get("measure"):
            assert one["p"] is None or one["p"] >= 1 / 10


def test_svcca_of_fewer_pairs_than_dimensions_is_not_reported():
    """With few pairs and many dimensions, canonical correlations of noise are 1."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 70, 50))
    members = {"few": (np.arange(35),) * 2, "rest": (np.arange(35, 70),) * 2}
    rows = list(concept_rows(spaces_of(x, y, rng=rng), members, SubspaceSettings(draws=3)))
    assert {r["value"] for r in rows if r.get("measure") == "svcca"} <= {None}
    assert row_of(rows, "few")["value"] == pytest.approx(0, abs=0.2)  # RSA of noise
