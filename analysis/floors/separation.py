"""How well a statistic separates two groups: AUC, and intervals of means over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Mean", "auc", "mean_over_seeds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its interval; the limits are None below two seeds."""

    value: float | None
    low: float | None
    high: float | None
    seeds: int


def auc(values: Floats, floor: Floats) -> float | None:
    """Return the probability that a value exceeds a value of the floor; ties count half.

    This is the area under the ROC curve of a classifier that thresholds the statistic. It is
    0.5 if the statistic does not separate the groups, and 0 or 1 if it separates them completely.

    Parameters
    ----------
    values, floor
        float64, (values,). Finite values of both groups.

    Returns
    -------
    The area; None if a group is empty.

    Examples
    --------
    >>> import numpy as np
    >>> auc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    0.875
    """
    n, m = len(values), len(floor)
    if not n or not m:
        return None
    ranks = stats.rankdata(np.concatenate([values, floor]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


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
