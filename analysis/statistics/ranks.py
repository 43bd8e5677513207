"""Statistics of ranks: comparison of two groups, and correlation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["auc", "auc_columns", "rank_correlation"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auc(values: Floats, others: Floats) -> float | None:
    """Return the probability that a value exceeds a value of the other group; ties count half.

    This is the area under the ROC curve of a classifier that thresholds the values. It is 0.5 if
    they do not separate the groups, and 0 or 1 if they separate them completely.

    Parameters
    ----------
    values, others
        float64, (values,). Values of both groups, without NaN.

    Returns
    -------
    The area; None if a group is empty.

    Examples
    --------
    >>> import numpy as np
    >>> auc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    0.875
    """
    if not len(values) or not len(others):
        return None
    both = np.concatenate([values, others])[:, None]
    return float(auc_columns(both, np.arange(len(both)) < len(values))[0])


def auc_columns(values: NDArray[np.floating[Any]], labels: Bools) -> Floats:
    """Return the AUROC of each column, ties count half.

    Parameters
    ----------
    values
        (rows, columns), without NaN.
    labels
        bool, (rows,), or (labellings, rows).

    Returns
    -------
    float64, (columns,), or (labellings, columns): Mann-Whitney's U / number of pairs. NaN for a
    labelling with one class.

    Examples
    --------
    >>> import numpy as np
    >>> auc_columns(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([True, False]))
    array([1. , 0.5])
    """
    ranks = rankdata(values, axis=0) if values.size else np.zeros(values.shape)
    each = np.atleast_2d(labels)
    ones = each.sum(axis=1)[:, None].astype(np.float64)
    pairs = ones * (len(values) - ones)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (each.astype(np.float64) @ ranks - ones * (ones + 1) / 2) / pairs
    area[np.broadcast_to(pairs == 0, area.shape)] = np.nan
    return np.asarray(area[0] if labels.ndim == 1 else area)


def rank_correlation(a: NDArray[Any], b: NDArray[Any], *, least: int = 3) -> float | None:
    """Return Spearman's correlation; ties share their mean rank.

    Parameters
    ----------
    a, b
        (values,). Paired values, without NaN.
    least
        Fewest pairs for a correlation.

    Returns
    -------
    The correlation; None for fewer pairs, or if all values of one side are equal.

    Examples
    --------
    >>> import numpy as np
    >>> rank_correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 8.0, 9.0]))
    1.0
    """
    if len(a) < least or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    x, y = (rank - rank.mean() for rank in (rankdata(a), rankdata(b)))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
