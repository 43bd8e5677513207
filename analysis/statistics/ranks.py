"""Comparison of two groups by ranks."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["auc"]

Floats = NDArray[np.float64]


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
    n, m = len(values), len(others)
    if not n or not m:
        return None
    ranks = rankdata(np.concatenate([values, others]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
