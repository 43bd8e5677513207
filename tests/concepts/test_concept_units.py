"""Tests of single units against labels: SciPy as reference, error rates, planted units, dead units."""

import numpy as np
import pytest
from scipy import sparse, stats

from analysis.concepts.units.observations import group_means, live_columns
from analysis.concepts.units.separation import separate, smallest_effect
from analysis.statistics.permutation import exceedance_p
from analysis.statistics.ranks import auc_columns


def sparse_units(rng, rows=60, units=40, share=0.3):
    return rng.normal(1, 1, (rows, units)) * (rng.random((rows, units)) < share)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_statistics_equal_scipy(share):
    rng = np.random.default_rng(int(100 * share))
    x, labels = sparse_units(rng, share=share), rng.random(60) < 0.4
    found = separate(x, labels, draws=19, seed=0)
    with np.errstate(all="ignore"):
        welch = stats.ttest_ind(x[labels], x[~labels], equal_var=False)
    known = np.isfinite(welch.statistic)
    np.testing.assert_allclose(found.t[known], welch.statistic[known], atol=1e-8)
    np.testing.assert_allclose(found.p[known], welch.pvalue[known], atol=1e-8)
    for i in range(x.shape[1]):
        u = stats.mannwhitneyu(x[labels, i], x[~labels, i]).statistic
        assert found.auroc[i] == pytest.approx(u / (labels.sum() * (~labels).sum()))
        pooled = np.sqrt(
            (
                x[labels, i].var(ddof=1) * (labels.sum() - 1)
                + x[~labels, i].var(ddof=1) * ((~labels).sum() - 1)
            )
            / 58
        )
        if pooled > 0:
            g = (x[labels, i].mean() - x[~labels, i].mean()) / pooled * (1 - 3 / (4 * 58 - 1))
            assert found.effect[i] == pytest.approx(g)
    np.testing.assert_allclose(found.q, stats.false_discovery_control(found.p))


def test_permutation_p_equals_a_loop_over_permutations():
    rng = np.random.default_rng(1)
    x, labels = sparse_units(rng, rows=12, units=5), np.arange(12) < 5
    found = separate(x, labels, draws=99, seed=3)
    drawn = np.random.default_rng([3, 1]).permuted(np.tile(labels, (99, 1)), axis=1)
    with np.errstate(all="ignore"):
        t = np.array([stats.ttest_ind(x[d], x[~d], equal_var=False).statistic for d in drawn])
        seen = np.abs(stats.ttest_ind(x[labels], x[~labels], equal_var=False).statistic)
    t = np.abs(np.nan_to_num(t, nan=0.0))
    expected = exceedance_p((t >= seen - 1e-9).sum(axis=0), 99)
    np.testing.assert_allclose(found.p_permutation, expected)
    family = exceedance_p((t.max(axis=1)[:, None] >= seen - 1e-9).sum(axis=0), 99)
    np.testing.assert_allclose(found.p_max, family)


def family_errors(runs, draws=99):
    """Runs in which a unit has family-wise p <= .05, on units that do not depend on the labels."""
    errors = 0
    for run in range(runs):
        rng = np.random.default_rng([run, 7])
        x = sparse_units(rng, rows=48, units=60) @ np.eye(60) + rng.normal(size=(48, 1))
        x[:, ::2] = sparse_units(rng, rows=48, units=30, share=0.1)  # half of the units are sparse
        errors += bool(
            (separate(x, np.arange(48) % 3 == 0, draws=draws, seed=run).p_max <= 0.05).any()
        )
    return errors


def test_family_wise_error_on_labels_without_effect():
    """Seed 004 did not correct for 16,384 tests. At 5%, 40 runs have more than 6 errors with p < 1%."""
    assert family_errors(40) <= 6


@pytest.mark.deep
def test_family_wise_error_over_200_runs():
    """The error rate is at most 5%: 200 runs have more than 18 errors with p < 1%."""
    assert family_errors(200) <= 18


def test_planted_units_are_found_and_others_are_not():
    rng = np.random.default_rng(5)
    x, labels = sparse_units(rng, rows=240, units=500), np.arange(240) < 120
    x[:120, :5] += 1.0
    x[120:, 5:8] += 1.0
    found = separate(x, labels, draws=999, seed=0)
    assert np.flatnonzero(found.p_max <= 0.05).tolist() == list(range(8))
    assert (found.t[:5] > 0).all()
    assert (found.t[5:8] < 0).all()
    assert found.chance[:, 0].mean() == pytest.approx(5, abs=2)  # 1% of 500


def test_units_that_never_fire_are_counted_and_tested_units_have_no_nan():
    """In seed 004, dead latents had NaN p, which resembled localisation."""
    x = np.zeros((10, 6))
    x[:, 1] = 3.0  # active everywhere, and constant
    x[:2, 2] = 1.0
    x[:, 4] = np.arange(10)
    live = live_columns(sparse.csr_array(x))
    assert (live.units.tolist(), live.total) == ([2, 4], 6)
    assert live_columns(x).units.tolist() == [2, 4]
    found = separate(x, np.arange(10) < 5, draws=19, seed=0)
    for name in ("t", "p", "q", "auroc", "effect", "p_permutation", "p_max"):
        assert not np.isnan(getattr(found, name)).any(), name
    assert found.p[0] == found.p[1] == found.p_permutation[0] == 1
    assert found.auroc[0] == found.auroc[1] == 0.5


def test_degenerate_input():
    labels = np.array([True, True, False, False])
    separated = np.array([[1.0], [1.0], [0.0], [0.0]])
    found = separate(separated, labels, draws=19, seed=0)
    assert np.isinf(found.t[0])
    assert found.p[0] == 0
    assert found.auroc[0] == 1
    assert 1 / 20 <= found.p_max[0] < 1
    none = separate(np.zeros((4, 0)), labels, draws=19, seed=0)
    assert none.t.shape == none.q.shape == (0,)
    assert live_columns(np.zeros((0, 3))).total == 3
    assert np.isnan(auc_columns(separated, np.ones(4, bool))).all()


def test_large_means_cost_no_precision():
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(50, 3)), np.arange(50) < 25
    one, other = (separate(x + c, labels, draws=19, seed=0) for c in (0.0, 1e7))
    np.testing.assert_allclose(one.t, other.t, rtol=1e-6)


def test_contexts_of_a_word_count_once():
    """Ten contexts of a word are one observation: repeating rows does not lower any p."""
    rng = np.random.default_rng(3)
    x, labels, groups = rng.normal(size=(20, 4)), np.arange(20) < 10, np.arange(20)
    many = np.repeat(np.arange(20), rng.integers(1, 10, 20))
    values, own = group_means(x[many], groups[many], labels[many])
    order = np.lexsort([labels, groups])
    np.testing.assert_allclose(values, x[order])
    assert own.tolist() == labels[order].tolist()
    pair = group_means(
        np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 0]), np.array([1, 0, 1], bool)
    )
    assert pair[0].tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(("a", "b", "level"), [(20, 20, 0.05), (10, 60, 0.05), (100, 100, 0.001)])
def test_smallest_effect_has_the_stated_power(a, b, level):
    d = smallest_effect(a, b, level=level)
    n = stats.nct(a + b - 2, d * np.sqrt(a * b / (a + b)))
    assert n.sf(stats.t.isf(level / 2, a + b - 2)) == pytest.approx(0.8, abs=1e-6)
    assert smallest_effect(1, 5, level=level) is None
