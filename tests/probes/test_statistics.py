"""Intervals and p-values agree with closed forms, with scipy, and with brute force."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.intervals import (
    bootstrap_samples,
    bootstrap_weights,
    jackknife_interval,
    quantile_interval,
)
from analysis.statistics.permutation import exceedance_p, permutation_p
from ingest.statistics.discoveries import q_values


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_quantile_interval_equals_percentiles(share):
    drawn = np.random.default_rng(0).normal(size=(57, 3))
    low, high = quantile_interval(drawn, share=share)
    tail = 50 * (1 - share)
    np.testing.assert_allclose(low, np.percentile(drawn, tail, axis=0), rtol=1e-9)
    np.testing.assert_allclose(high, np.percentile(drawn, 100 - tail, axis=0), rtol=1e-9)
    assert [float(x) for x in quantile_interval(np.array([4.0]), share=share)] == [4.0, 4.0]


def test_jackknife_of_a_mean_is_its_standard_error():
    """Without one value at a time, the jackknife error of a mean is s / sqrt(n)."""
    x = np.random.default_rng(1).gamma(2, size=40)
    without = (x.sum() - x) / (len(x) - 1)
    low, high = jackknife_interval(float(x.mean()), without)
    half = stats.norm.ppf(0.975) * stats.sem(x)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-6)
    assert jackknife_interval(2.0, np.full(5, 2.0)) == (2.0, 2.0)


def test_bootstrap_weights_have_the_moments_of_resampling():
    drawn = bootstrap_weights(6, 20_000, np.random.default_rng(0))
    assert (drawn.sum(axis=1) == 6).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(6), abs=0.04)
    assert drawn.var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.05)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert bootstrap_weights(1, 3, rng).tolist() == [[1.0]] * 3
    assert rng.bit_generator.state == state


def test_bootstrap_samples_are_uniform():
    drawn = bootstrap_samples(5, 4_000, seed=0)
    assert drawn.shape == (4_000, 5)
    assert stats.chisquare(np.bincount(drawn.ravel(), minlength=5)).pvalue > 1e-3
    assert np.array_equal(drawn, bootstrap_samples(5, 4_000, seed=0))
    assert bootstrap_samples(0, 3, seed=0).shape == (3, 0)


def test_permutation_p_equals_that_of_scipy():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.6, 1, 12), rng.normal(0, 1, 10)

    def statistic(a, b, axis=-1):
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    theirs = stats.permutation_test(
        (x, y), statistic, alternative="greater", n_resamples=999, rng=np.random.default_rng(0)
    )
    assert permutation_p(theirs.statistic, theirs.null_distribution) == pytest.approx(theirs.pvalue)


def test_exceedance_p_by_hand():
    assert exceedance_p(0, 19) == 0.05
    assert exceedance_p(19, 19) == 1.0
    assert exceedance_p(np.array([0, 4]), 9).tolist() == [0.1, 0.5]
    # A sum in another order counts as equal.
    assert permutation_p(0.1 + 0.2, np.array([0.3])) == 1.0
    assert permutation_p(math.inf, np.array([0.3])) is None


def test_q_values_are_the_least_rates_at_which_a_test_is_rejected():
    """By definition: p_i is rejected at q if some k has p_i <= p_(k) <= k q / m, over the known p."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        drawn = rng.integers(0, 20, rng.integers(1, 12)) / 20  # with ties, and zeros
        p = [None if rng.random() < 0.3 else float(one) for one in drawn]
        known = sorted(one for one in p if one is not None)
        m = len(known)
        for one, q in zip(p, q_values(p), strict=True):
            if one is None:
                assert q is None
                continue
            rates = [m * high / k for k, high in enumerate(known, start=1) if one <= high]
            assert q == pytest.approx(min(1.0, *rates), abs=1e-12)
    assert q_values([]) == []
    assert q_values([None, None]) == [None, None]
