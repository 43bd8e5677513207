"""The spectrum of a set of directions, its summary, and its distance from other spectra."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.arrays import finite_matrix, finite_vector
from analysis.statistics.direction_nulls import NULLS, DirectionNull, draw_directions
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.permutation import permutation_p, two_sided_p
from analysis.statistics.threads import one_thread_if_small
from atlas.errors import BadInput

__all__ = [
    "FEWEST",
    "STATISTICS",
    "Spectrum",
    "compare_with_nulls",
    "distance_of_halves",
    "draw_some",
    "spectrum_distance",
    "spectrum_of",
]

Floats = NDArray[np.float64]

FEWEST = 3
"""Fewest directions that have a spectrum of more than one singular value."""

STATISTICS = ("participation_ratio", "stable_rank", "slope", "mean_share")
"""Numbers of a spectrum that are compared with nulls."""

_FEWEST_FITTED = 3


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of centred directions.

    Parameters
    ----------
    singular_values
        float64, (min(rows, columns),), descending.
    rows, columns
        Number of directions and of dimensions.
    mean_share
        Share of the sum of squares before centring that is due to the mean: 1 if all rows are
        equal, about 1 / rows if they are isotropic.
    fitted
        First and last rank, from 1, of the range in which the slope is fitted.
    """

    singular_values: Floats
    rows: int
    columns: int
    mean_share: float
    fitted: tuple[int, int]

    @property
    def normalised(self) -> Floats:
        """Singular values divided by their root mean square; a flat spectrum is 1 everywhere."""
        size = np.sqrt(np.mean(self.singular_values**2)) if len(self.singular_values) else 0.0
        return self.singular_values / size if size > 0 else self.singular_values

    @property
    def participation_ratio(self) -> float | None:
        """(Σλ)² / Σλ² of the variances λ: the number of dimensions if the spectrum is flat."""
        variances = self.normalised**2
        return float(variances.sum() ** 2 / (variances**2).sum()) if variances.any() else None

    @property
    def stable_rank(self) -> float | None:
        """Σλ / max λ: the squared Frobenius norm divided by the squared spectral norm."""
        variances = self.normalised**2
        return float(variances.sum() / variances[0]) if variances.any() else None

    @property
    def power_law(self) -> tuple[float, float] | None:
        """Slope of log variance against log rank by least squares, and R² of the line.

        None for fewer than three values above 0 in the range.
        """
        first, last = self.fitted
        variances = self.normalised[first - 1 : last] ** 2
        if len(variances) < _FEWEST_FITTED or not (variances > 0).all():
            return None
        x, y = np.log(np.arange(first, last + 1)), np.log(variances)
        slope, intercept = np.polyfit(x, y, 1)
        total = ((y - y.mean()) ** 2).sum()
        residual = ((y - slope * x - intercept) ** 2).sum()
        return float(slope), float(1 - residual / total) if total > 0 else 1.0

    def summary(self) -> dict[str, float | None]:
        """Return the values of ``STATISTICS``."""
        law = self.power_law
        return {
            "participation_ratio": self.participation_ratio,
            "stable_rank": self.stable_rank,
            "slope": law[0] if law else None,
            "mean_share": self.mean_share,
        }


def spectrum_of(directions: Floats, *, fit: tuple[float, float] = (0.05, 0.5)) -> Spectrum:
    """Return the spectrum of directions after their mean is subtracted.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length; at least one.
    fit
        Range of the fit of the slope, as shares of the number of nonzero singular values.

    Examples
    --------
    >>> spectrum = spectrum_of(np.eye(4))
    >>> round(spectrum.participation_ratio, 6), round(spectrum.mean_share, 6)
    (3.0, 0.25)
    """
    directions = finite_matrix(directions, "directions")
    rows, columns = directions.shape
    if not rows:
        raise BadInput("directions has no row; expected one direction or more.")
    mean = directions.mean(axis=0)
    total = float((directions**2).sum())
    centred = directions - mean
    # The smaller of the two Gram matrices has the same eigenvalues above 0.
    gram = centred.T @ centred if columns <= rows else centred @ centred.T
    values = np.linalg.eigvalsh(gram)[::-1]
    # Below this, an eigenvalue is rounding error.
    values[values < values[0] * len(values) * np.finfo(np.float64).eps] = 0.0
    rank = int((values > 0).sum())
    first = max(1, int(np.floor(fit[0] * rank)) + 1)
    return Spectrum(
        np.sqrt(values),
        rows,
        columns,
        mean_share=rows * float(mean @ mean) / total if total > 0 else 0.0,
        fitted=(first, int(np.floor(fit[1] * rank))),
    )


def spectrum_distance(one: Floats | Spectrum, other: Floats | Spectrum) -> float:
    """Return the Wasserstein-1 distance between the distributions of two normalised spectra.

    Both are divided by their root mean square, so that numbers of rows and columns may differ.

    Parameters
    ----------
    one, other
        (values,) each. Singular values, or the spectrum that has them.

    Raises
    ------
    BadInput
        If a side has no value, or values that are not finite.

    Examples
    --------
    >>> spectrum_distance(np.array([2.0, 2.0]), np.array([5.0, 5.0, 5.0]))
    0.0
    """
    sides = []
    for spectrum, name in ((one, "one"), (other, "other")):
        values = spectrum.singular_values if isinstance(spectrum, Spectrum) else spectrum
        values = finite_vector(values, name)
        if not len(values):
            raise BadInput(f"{name} has no singular value; expected one or more.")
        size = np.sqrt(np.mean(values**2))
        sides.append(values / size if size > 0 else values)
    a, b = sides
    return float(stats.wasserstein_distance(a, b))


def compare_with_nulls(
    directions: Floats, *, draws: int, seed: int, fit: tuple[float, float]
) -> tuple[list[dict[str, Any]], dict[str, Floats]]:
    """Compare the spectrum of directions with spectra of random directions.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    draws, seed
        Number of draws from each null, and their seed.
    fit
        See ``spectrum_of``.

    Returns
    -------
    rows
        A row for each null and statistic: ``null``, ``statistic``, ``observed``, ``null_mean``,
        ``null_low`` and ``null_high`` (2.5% and 97.5% quantiles) and ``p``. The tests of
        ``STATISTICS`` are two-sided. The statistic ``distance`` is the distance of a spectrum
        from the mean of the others, one-sided. ``mean_share`` is compared with the isotropic
        null alone, because the others preserve the mean. The null of equal covariance has the
        same spectrum, except for the scaling of its rows; its p is None.
    means
        By null, the mean normalised spectrum of its draws, (values,).
    """
    own = spectrum_of(directions, fit=fit)
    rows: list[dict[str, Any]] = []
    means: dict[str, Floats] = {}
    with one_thread_if_small(min(directions.shape)):
        drawn = {null: _drawn(directions, null, draws=draws, seed=seed, fit=fit) for null in NULLS}
    for null, spectra in drawn.items():
        for name in STATISTICS:
            if name != "mean_share" or null == "isotropic":
                values = [_number(one.summary()[name]) for one in spectra]
                rows.append(_row(null, name, _number(own.summary()[name]), np.array(values)))
        seen, samples = _distances(own, spectra)
        rows.append(_row(null, "distance", seen, samples))
        size = min(len(one.singular_values) for one in spectra)
        means[null] = np.mean([one.normalised[:size] for one in spectra], axis=0)
    return rows, means


def draw_some(directions: Floats, *, draws: int, fit: tuple[float, float], seed: int) -> None:
    """Compute what some draws of ``compare_with_nulls`` and ``distance_of_halves`` cost.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    draws, seed, fit
        See ``compare_with_nulls``.
    """
    for null in NULLS:
        _drawn(directions, null, draws=draws, seed=seed, fit=fit)
    _halves(directions, draws=draws, seed=seed)


def _drawn(
    directions: Floats, null: DirectionNull, *, draws: int, seed: int, fit: tuple[float, float]
) -> list[Spectrum]:
    return [
        spectrum_of(drawn, fit=fit)
        for drawn in draw_directions(directions, null, draws=draws, seed=seed)
    ]


def distance_of_halves(directions: Floats, *, draws: int, seed: int) -> float | None:
    """Return a distance of spectra that is within sampling error.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    draws, seed
        Number of random splits of the rows into halves, and their seed.

    Returns
    -------
    float or None
        The distance between the spectra of two random halves that 2.5% of the splits exceed.
        None if a half has fewer than ``FEWEST`` rows. Halves have more sampling error than all
        rows, so that this is an upper limit for two sets of as many rows.
    """
    if len(directions) // 2 < FEWEST:
        return None
    with one_thread_if_small(min(directions.shape)):
        found = _halves(directions, draws=draws, seed=seed)
    return float(quantile_interval(found)[1])


def _halves(directions: Floats, *, draws: int, seed: int) -> Floats:
    """Return the distance between the spectra of the halves of each split; (draws,)."""
    half = len(directions) // 2
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        order = rng.permutation(len(directions))
        one, other = (
            spectrum_of(directions[rows]).singular_values
            for rows in (order[:half], order[half : 2 * half])
        )
        found.append(spectrum_distance(one, other))
    return np.array(found)


def _distances(own: Spectrum, drawn: list[Spectrum]) -> tuple[float, Floats]:
    """Return the distance of each spectrum from the mean of all others, the own one first.

    Under the null all are exchangeable, so that the rank of the first is a valid test.
    """
    size = min(len(one.singular_values) for one in (own, *drawn))
    spectra = np.stack([one.normalised[:size] for one in (own, *drawn)])
    others = (spectra.sum(axis=0) - spectra) / (len(spectra) - 1)
    distances = np.array([spectrum_distance(a, b) for a, b in zip(spectra, others, strict=True)])
    return float(distances[0]), distances[1:]


def _row(null: str, name: str, seen: float, samples: Floats) -> dict[str, Any]:
    finite = samples[np.isfinite(samples)]
    low, high = map(float, quantile_interval(finite)) if len(finite) else (np.nan, np.nan)
    test = permutation_p if name == "distance" else two_sided_p
    p = None if null == "covariance" else test(seen, samples)
    return {
        "null": null,
        "statistic": name,
        "observed": _or_none(seen),
        "null_mean": _or_none(finite.mean() if len(finite) else np.nan),
        "null_low": _or_none(low),
        "null_high": _or_none(high),
        "p": p,
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
