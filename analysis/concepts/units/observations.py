"""Observations of a concept: activations of words, averaged over contexts, and their labels.

Contexts of one word are not independent, so a test of a unit counts each group of words with
one label once.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Live", "group_means", "live_columns"]

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Live:
    """The columns of an arm that vary over the words.

    Parameters
    ----------
    values
        float64, (rows, live).
    units
        int64, (live,). Index of each column in the arm.
    total
        Number of units of the arm, live or not.
    """

    values: Floats
    units: NDArray[np.int64]
    total: int

    def take(self, rows: NDArray[Any]) -> "Live":
        """Return some rows; columns that are constant there remain."""
        return Live(self.values[rows], self.units, self.total)

    def subset(self, columns: NDArray[np.int64]) -> "Live":
        """Return some live columns."""
        return Live(
            np.ascontiguousarray(self.values[:, columns]), self.units[columns], len(columns)
        )


def live_columns(matrix: "NDArray[Any] | sparse.csr_array") -> Live:
    """Return the columns that are not constant, in float64.

    Parameters
    ----------
    matrix
        (rows, units), dense or sparse.

    Examples
    --------
    >>> live_columns(np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])).units
    array([2])
    """
    total = int(matrix.shape[1])
    if not matrix.shape[0]:
        return Live(np.zeros((0, 0)), np.zeros(0, np.int64), total)
    if sparse.issparse(matrix):
        by_column = sparse.csc_array(matrix)
        units = np.flatnonzero(np.diff(by_column.indptr))
        values = by_column[:, units].toarray().astype(np.float64)
    else:
        values, units = np.asarray(matrix, dtype=np.float64), np.arange(total)
    varies = np.ptp(values, axis=0) > 0 if values.size else np.zeros(len(units), bool)
    return Live(np.ascontiguousarray(values[:, varies]), units[varies], total)


def group_means(
    values: Floats, groups: NDArray[np.int64], labels: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Average the rows of each group and label.

    Parameters
    ----------
    values
        (rows, units).
    groups
        int64, (rows,).
    labels
        bool, (rows,).

    Returns
    -------
    values
        float64, (observations, units).
    labels
        bool, (observations,).
    """
    key = groups * 2 + labels
    keys, which, counts = np.unique(key, return_inverse=True, return_counts=True)
    if len(keys) == len(key):
        order = np.argsort(key)
        return values[order], labels[order]
    rows = np.arange(len(key))
    average = sparse.csr_array((1 / counts[which], (which, rows)), shape=(len(keys), len(rows)))
    return np.asarray(average @ values), keys % 2 == 1
