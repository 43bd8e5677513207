"""Intervals from draws: quantiles of the bootstrap, and the jackknife."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_samples", "bootstrap_weights", "jackknife_interval", "quantile_interval"]

_Z = 1.959964  # 97.5% quantile of the normal distribution


def quantile_interval(
    samples: NDArray[np.float64], *, share: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the central share of the draws.

    Parameters
    ----------
    samples
        (draws,) or (draws, columns); all finite, at least one draw.
    share
        Share of the draws in the interval; 1 gives the minimum and the maximum.

    Returns
    -------
    low, high
        Limits of each column; scalars if ``samples`` has one dimension.
    """
    low, high = np.quantile(samples, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return low, high


def bootstrap_samples(units: int, draws: int, *, seed: int) -> NDArray[np.int64]:
    """Draw units with replacement, as many as there are, in each bootstrap draw.

    Parameters
    ----------
    units
        Number of units.
    draws, seed
        Number of draws, and their seed.

    Returns
    -------
    int64, (draws, units). Indices of the drawn units.
    """
    return np.random.default_rng(seed).integers(0, units, (draws, units))


def bootstrap_weights(units: int, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw how often each unit occurs in each bootstrap draw.

    A weighted sum over units then needs no copy of the data for each draw.

    Parameters
    ----------
    units
        Number of units. A single unit occurs once in each draw, and needs no random number.
    draws
        Number of draws.
    rng
        Random generator.

    Returns
    -------
    float64, (draws, units). Whole numbers; each row sums to ``units``.
    """
    if units == 1:
        return np.ones((draws, 1))
    samples = rng.multinomial(units, np.full(units, 1 / units), size=draws)
    return samples.astype(np.float64)


def jackknife_interval(value: float, without: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% delete-a-group jackknife interval of a statistic, by a normal approximation.

    Parameters
    ----------
    value
        The statistic of all data.
    without
        (groups,). The statistic without each of several groups of equal size; all finite.

    Returns
    -------
    low, high
        ``value`` ± 1.96 standard errors. The squared error is (groups - 1) times the variance of
        ``without`` (Shao & Wu 1989, "A general theory for jackknife variance estimation").
    """
    error = np.sqrt((len(without) - 1) * without.var())
    return float(value - _Z * error), float(value + _Z * error)
