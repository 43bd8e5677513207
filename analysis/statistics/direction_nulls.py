"""Null models of a set of directions: isotropic, of equal covariance, and with permuted columns.

Each null preserves less than the data have, so that the nulls which a statistic exceeds show
what it is due to:

==============  ===========================================================================
isotropic       nothing but the number of rows and columns
covariance      mean and covariance. The draw is Gaussian, conditional on the mean and the
                covariance of the data, which it has exactly: no clusters, no loops
permuted        the values of each column: no dependence between columns
==============  ===========================================================================

Rows of a draw are then scaled to unit length like those of the data, which changes the
preserved values slightly.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from analysis.statistics.directions import directed_rows

__all__ = ["NULLS", "DirectionNull", "draw_directions"]

Floats = NDArray[np.float64]

DirectionNull: TypeAlias = Literal["isotropic", "covariance", "permuted"]

NULLS: tuple[DirectionNull, ...] = get_args(DirectionNull)
"""The nulls, from the one that preserves least."""


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
    # NumPy ignores zeros at the end of a seed: [seed, 0] would be the generator of ``seed``.
    rng = np.random.default_rng([seed, 1 + NULLS.index(null)])
    rows, columns = directions.shape
    mean = directions.mean(axis=0) if rows else np.zeros(columns)
    root = _root(directions - mean) if null == "covariance" else np.empty((0, columns))
    for _ in range(draws):
        if null == "permuted":
            yield _directed(rng.permuted(directions, axis=0))
        elif null == "covariance":
            yield _directed(_rotated(root, rows, rng) + mean)
        else:
            yield _directed(rng.standard_normal((rows, columns)))


def _directed(rows: Floats) -> Floats:
    directed: Floats = directed_rows(rows)[0]
    return directed


def _root(centred: Floats) -> Floats:
    """Return a matrix R of which R.T @ R is the scatter of centred rows; (rank, columns)."""
    values, vectors = np.linalg.eigh(centred.T @ centred)
    positive = values > values.max(initial=0.0) * 1e-12
    root: Floats = np.sqrt(values[positive])[:, None] * vectors[:, positive].T
    return root


def _rotated(root: Floats, rows: int, rng: np.random.Generator) -> Floats:
    """Return Q @ root, with orthonormal columns of sum 0 in Q, uniform; (rows, columns).

    Q is the first factor of a QR factorisation of a Gaussian matrix. With a positive diagonal
    the factorisation is unique, so that Q is uniform.
    """
    z = rng.standard_normal((rows, len(root)))
    z -= z.mean(axis=0)
    if rows > 2 * len(root):
        # By the Cholesky factor of the Gram matrix, which is well conditioned here and faster.
        upper = np.linalg.cholesky(z.T @ z).T
        rotated: Floats = z @ linalg.solve_triangular(upper, root)
    else:
        q, r = np.linalg.qr(z)
        rotated = (q * np.where(np.diag(r) < 0, -1.0, 1.0)) @ root
    return rotated
