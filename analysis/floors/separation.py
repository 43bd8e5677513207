"""How well a statistic separates two groups: AUC, and intervals of means over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Mean", "mean_over_seeds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its interval; the limits are None below two seeds."""

    value: float | None
    low: float | None
    high: float | None
    seeds: int


def mean_over_seeds(
    values: Sequence[float], *, level: float, least: float = -np.inf, most: float = np.inf
) -> Mean:
    """Return the mean of one value per seed, with Student's t interval.

    Parameters
    ----------
    values
        One value per seed.
    level
        Confidence level.
    least, most
        Range of possible values, to which the interval is cut.

    Examples
    --------
    >>> mean_over_seeds([0.5], level=0.95)
    Mean(value=0.5, low=None, high=None, seeds=1)
    """
    count = len(values)
    if not count:
        return Mean(None, None, None, 0)
    mean = float(np.mean(values))
    if count == 1:
        return Mean(mean, None, None, 1)
    error = float(np.std(values, ddof=1)) / count**0.5
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Mean(mean, max(mean - half, least), min(mean + half, most), count)
