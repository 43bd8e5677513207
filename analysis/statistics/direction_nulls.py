"""Null models of a set of directions: isotropic, of equal covariance, and with permuted columns.

Each null preserves less than the data have, so that the nulls which a statistic exceeds show
what it is due to:

==============  ===========================================================================
isotropic       nothing but the number of rows and columns
covariance      mean and covariance, by a Gaussian: no clusters, no loops, no sparse parts
permuted        the values of each column: no dependence between columns
==============  ===========================================================================

Rows of a draw are scaled to unit length like those of the data. The mean and the covariance
are therefore preserved only approximately.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["NULLS", "DirectionNull", "draw_directions", "unit_rows"]

Floats = NDArray[np.float64]

DirectionNull: TypeAlias = Literal["isotropic", "covariance", "permuted"]

NULLS: tuple[DirectionNull, ...] = get_args(DirectionNull)
"""The nulls, from the one that preserves least."""


def unit_rows(rows: NDArray[np.floating]) -> Floats:
    """Return the rows scaled to unit length, without rows of zeros.

    Parameters
    ----------
    rows
        (rows, columns). Finite.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8]])
    """
    rows = rows.astype(np.float64)
    # The largest entry first, so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=1, initial=0.0)
    rows = rows[largest > 0] / largest[largest > 0, None]
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def draw_directions(
    directions: Floats, null: DirectionNull, *, draws: int, seed: int
) -> Iterator[Floats]:
    """Yield random directions under a null, as many as there are.

    Parameters
    ----------
    directions
        (rows, columns). Rows of unit length.
    null
        The null.
    draws
        Number of draws.
    seed
        Seed. Nulls with the same seed use different random numbers.

    Yields
    ------
    (rows, columns)
        Rows of unit length; a row that is drawn as zeros is dropped.
    """
    rng = np.random.default_rng([seed, NULLS.index(null)])
    rows, columns = directions.shape
    mean, root = np.zeros(columns), np.empty((0, columns))
    if null == "covariance" and rows:
        mean = directions.mean(axis=0)
        root = _root(directions - mean)
    for _ in range(draws):
        if null == "permuted":
            yield unit_rows(rng.permuted(directions, axis=0))
        elif null == "covariance":
            yield unit_rows(rng.standard_normal((rows, len(root))) @ root + mean)
        else:
            yield unit_rows(rng.standard_normal((rows, columns)))


def _root(centred: Floats) -> Floats:
    """Return a matrix R of which R.T @ R is the covariance of centred rows; (rank, columns)."""
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    positive = values > values.max(initial=0.0) * 1e-12
    root: Floats = np.sqrt(values[positive])[:, None] * vectors[:, positive].T
    return root
