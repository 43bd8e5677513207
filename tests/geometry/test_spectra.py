"""Spectra: NumPy's SVD as the reference, planted spectra, random ones, and degenerate input."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from analysis.spectra.spectrum import (
    compare_with_nulls,
    distance_of_halves,
    spectrum_distance,
    spectrum_of,
)
from analysis.statistics.direction_nulls import (
    NULLS,
    _root,
    _rotated,
    draw_directions,
)
from analysis.statistics.directions import directed_rows, unit_rows
from analysis.statistics.permutation import max_statistic_p, permutation_p, two_sided_p


def directions(rows, columns, *, seed=0, scale=None):
    random = np.random.default_rng(seed).normal(size=(rows, columns))
    return unit_rows(random if scale is None else random * scale)


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (30, 30), (3, 5), (2, 1)])
def test_spectrum_equals_the_svd_of_numpy(shape):
    x = directions(*shape) if shape[1] > 1 else np.array([[1.0], [-1.0]])
    found = spectrum_of(x)
    centred = x - x.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(found.singular_values, singular, atol=1e-7)
    np.testing.assert_allclose(found.singular_values**2, singular**2, atol=1e-12)
    variances = singular**2
    assert found.participation_ratio == pytest.approx(variances.sum() ** 2 / (variances**2).sum())
    frobenius, spectral = np.linalg.norm(centred), np.linalg.norm(centred, 2)
    assert found.stable_rank == pytest.approx(frobenius**2 / spectral**2)
    assert found.mean_share == pytest.approx(1 - frobenius**2 / np.linalg.norm(x) ** 2)


def test_planted_power_law_is_fitted_in_its_range():
    rng = np.random.default_rng(0)
    rank = np.arange(1, 41)
    left = np.linalg.qr(rng.normal(size=(300, 40)))[0]
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    found = spectrum_of((left * rank**-0.7) @ right, fit=(0.1, 0.5))
    assert found.fitted == (5, 20)
    slope, r2 = found.power_law
    assert slope == pytest.approx(-1.4)
    assert r2 == pytest.approx(1)


def test_normalised_spectra_are_compared_by_shape_not_by_size():
    a, b = (spectrum_of(directions(50, 8, seed=s)).singular_values for s in (0, 1))
    expected = wasserstein_distance(a / np.sqrt((a**2).mean()), b / np.sqrt((b**2).mean()))
    assert spectrum_distance(7 * a, b) == pytest.approx(expected)
    assert spectrum_distance(a, np.repeat(a, 3)) == pytest.approx(0)


def test_isotropic_null_has_the_participation_ratio_of_random_matrix_theory():
    rows, columns = 400, 60
    found = {
        r["statistic"]: r
        for r in compare_with_nulls(directions(rows, columns), draws=20, seed=1, fit=(0.05, 0.5))[0]
        if r["null"] == "isotropic"
    }
    # Marchenko and Pastur: the mean squared eigenvalue is 1 + columns / rows.
    expected = columns / (1 + columns / rows)
    assert found["participation_ratio"]["null_mean"] == pytest.approx(expected, rel=0.01)
    assert found["mean_share"]["null_mean"] == pytest.approx(1 / rows, rel=0.1)


def test_low_dimensional_directions_differ_from_isotropic_ones_and_not_from_their_covariance():
    x = directions(300, 20, scale=np.r_[np.ones(4), np.full(16, 0.05)])
    rows, _ = compare_with_nulls(x, draws=39, seed=0, fit=(0.05, 0.5))
    p = {(r["null"], r["statistic"]): r["p"] for r in rows}
    assert len(p) == 3 * 4 + 1
    assert p["isotropic", "participation_ratio"] == p["isotropic", "stable_rank"] == 0.05
    assert p["isotropic", "distance"] == 0.025
    (low, observed, high), p_covariance = next(
        ([r[k] for k in ("null_low", "observed", "null_high")], r["p"])
        for r in rows
        if r["null"] == "covariance" and r["statistic"] == "participation_ratio"
    )
    assert 0.9 * observed < low < high < 1.1 * observed  # by construction, so there is no test
    assert p_covariance is None


def test_dependent_columns_differ_from_permuted_columns():
    rng = np.random.default_rng(0)
    x = unit_rows(rng.normal(size=(300, 5)) @ rng.normal(size=(5, 20)))
    rows, _ = compare_with_nulls(x, draws=39, seed=0, fit=(0.05, 0.5))
    p = {(r["null"], r["statistic"]): r["p"] for r in rows}
    assert p["permuted", "distance"] == 0.025
    assert p["permuted", "participation_ratio"] == 0.05


def test_distance_of_halves_is_above_that_of_two_samples_of_one_distribution():
    scale = np.linspace(0.1, 1, 12)
    a, b = (directions(400, 12, seed=s, scale=scale) for s in (0, 1))
    between = spectrum_distance(spectrum_of(a).singular_values, spectrum_of(b).singular_values)
    other = spectrum_of(directions(400, 12, seed=2)).singular_values
    limit = distance_of_halves(a, draws=40, seed=0)
    assert between < limit < spectrum_distance(spectrum_of(a).singular_values, other)
    assert distance_of_halves(a[:5], draws=3, seed=0) is None


@pytest.mark.parametrize("shape", [(6, 20), (1, 4), (2, 2)])
@pytest.mark.parametrize("null", NULLS)
def test_fewer_rows_than_columns_can_be_drawn(shape, null):
    x = directions(*shape)
    (drawn,) = draw_directions(x, null, draws=1, seed=0)
    assert np.isfinite(drawn).all()
    assert drawn.shape[1] == shape[1]
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)


@pytest.mark.parametrize("null", NULLS)
def test_draws_preserve_what_the_null_names(null):
    x = directions(500, 6, scale=np.array([3, 2, 1, 1, 0.5, 0.1]))
    x = unit_rows(x + 0.3)
    drawn = list(draw_directions(x, null, draws=3, seed=0))
    again = list(draw_directions(x, null, draws=3, seed=0))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not np.array_equal(drawn[0], drawn[1])
    for one in drawn:
        assert one.shape == x.shape
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1)
    if null == "covariance":  # before scaling to unit length, mean and covariance are exact
        for y in (x, x[:7]):
            raw = _rotated(_root(y - y.mean(axis=0)), len(y), np.random.default_rng(0))
            np.testing.assert_allclose(raw.mean(axis=0), 0, atol=1e-9)
            np.testing.assert_allclose(np.cov(raw.T), np.cov(y.T), atol=1e-9)
    if null == "isotropic":
        assert np.abs(drawn[0].mean(axis=0)).max() < 0.1
    else:
        np.testing.assert_allclose(drawn[0].mean(axis=0), x.mean(axis=0), atol=0.1)


def test_random_directions_rarely_differ_from_isotropic_ones():
    p = [
        next(
            r["p"]
            for r in compare_with_nulls(directions(40, 6, seed=s), draws=19, seed=s, fit=(0, 1))[0]
            if r["null"] == "isotropic" and r["statistic"] == "distance"
        )
        for s in range(60)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.15  # 0.05 expected; above 0.15 in 1 of 1,000 sets


@pytest.mark.deep
def test_p_of_random_directions_is_uniform_over_400_sets():
    found = [
        {r["statistic"]: r["p"] for r in rows if r["null"] == "isotropic"}
        for s in range(400)
        for rows, _ in [compare_with_nulls(directions(40, 6, seed=s), draws=19, seed=s, fit=(0, 1))]
    ]
    for statistic in ("distance", "participation_ratio", "stable_rank", "slope", "mean_share"):
        p = np.array([one[statistic] for one in found])
        # The standard error of a share of .1 over 400 sets is .015.
        assert np.mean(p <= 0.1) <= 0.1 + 3 * 0.015


def test_degenerate_directions():
    equal = spectrum_of(np.tile([[0.6, 0.8]], (5, 1)))
    assert equal.mean_share == pytest.approx(1)
    assert equal.participation_ratio is equal.stable_rank is equal.power_law is None
    line = spectrum_of(np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]))
    assert line.participation_ratio == pytest.approx(1)
    assert line.power_law is None
    rows, _ = compare_with_nulls(np.tile([[0.6, 0.8]], (5, 1)), draws=20, seed=0, fit=(0.05, 0.5))
    unknown = [r["p"] for r in rows if r["statistic"] in ("participation_ratio", "slope")]
    assert unknown == [None] * len(unknown)


def test_rows_of_zeros_are_dropped_and_extreme_rows_are_scaled():
    x = np.array([[0.0, 0.0], [3e-300, 4e-300], [3e300, 4e300]])
    np.testing.assert_allclose(directed_rows(x)[0], [[0.6, 0.8], [0.6, 0.8]])
    assert unit_rows(np.empty((0, 4))).shape == (0, 4)


# ---------------------------------------------------------------- faults of the original study


def test_uniform_baseline_measures_its_mean_and_not_structure():
    """The original study compared with one matrix drawn uniformly from [0, 1].

    Its first singular value is that of the mean .5, √.75 = .866 of the norm, so that the distance
    from it measured an offset. Centred, it is an isotropic matrix like any other.
    """
    rng = np.random.default_rng(0)
    uniform = rng.random((2000, 100))
    singular = np.linalg.svd(uniform, compute_uv=False)
    assert singular[0] / np.linalg.norm(uniform) == pytest.approx(np.sqrt(0.75), abs=0.002)
    own, gaussian = spectrum_of(unit_rows(uniform)), spectrum_of(directions(2000, 100))
    assert own.mean_share == pytest.approx(0.75, abs=0.01)
    assert spectrum_distance(own.singular_values, gaussian.singular_values) < 0.01
    assert own.participation_ratio == pytest.approx(gaussian.participation_ratio, rel=0.01)


# ---------------------------------------------------------------- p-values


def test_two_sided_p_and_the_largest_statistic():
    samples = np.arange(39.0)
    assert two_sided_p(100.0, samples) == two_sided_p(-1.0, samples) == 0.05
    assert two_sided_p(19.0, samples) == 1
    assert two_sided_p(np.nan, samples) is None
    rng = np.random.default_rng(0)
    seen, draws = np.array([0.0, 50.0, 3.0]), rng.normal(size=(19, 3)) * [1, 10, 0] + [0, 0, 3]
    p, standardised = max_statistic_p(seen, draws)
    assert p == 0.05
    assert standardised[2] == 0
    one, _ = max_statistic_p(seen[1:2], draws[:, 1:2])
    assert one == permutation_p(50.0, draws[:, 1])
    assert max_statistic_p(np.empty(0), np.empty((5, 0)))[0] == 1


def test_p_of_the_largest_of_many_statistics_is_uniform():
    rng = np.random.default_rng(0)
    p = [max_statistic_p(x[0], x[1:])[0] for x in rng.normal(size=(1000, 20, 8))]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.03)  # standard error .0095
