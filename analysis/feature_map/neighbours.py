"""Exact nearest rows by cosine, block by block, for dense and sparse rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "Neighbours",
    "cosine_blocks",
    "is_sparse",
    "nearest",
    "nearest_points",
    "row_cosines",
    "unit_rows",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = Any
"""Unit rows, float32: a NumPy array or a SciPy CSR array."""

#: Cosines computed at once.
_CELLS = 1 << 24

#: Decimals to which two cosines of equal rows agree, whatever the order of their sums.
_DECIMALS = 12


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest rows of each row, nearest first.

    Parameters
    ----------
    index, cosine
        int64 and float64, (rows, neighbours).
    """

    index: Ints
    cosine: Floats


def is_sparse(rows: Any) -> bool:
    """Return whether rows are a SciPy sparse array."""
    return bool(sparse.issparse(rows))


def unit_rows(rows: Any) -> tuple[Rows, Ints]:
    """Scale rows to length 1, without those that have no direction.

    Parameters
    ----------
    rows
        (rows, dimensions). A NumPy array or a SciPy sparse array.

    Returns
    -------
    unit
        float32. The rows of finite length above 0, divided by it.
    which
        int64. Their indices.

    Examples
    --------
    >>> unit, which = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    >>> unit.tolist(), which.tolist()
    ([[0.6000000238418579, 0.800000011920929]], [0])
    """
    if is_sparse(rows):
        rows = sparse.csr_array(rows, dtype=np.float64)
        length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    else:
        rows = np.asarray(rows, dtype=np.float64)
        # Division by the largest entry first: squares of very small or large entries are lost.
        largest = np.abs(rows).max(axis=1, initial=0.0)
        scaled = np.divide(
            rows,
            largest[:, None],
            out=np.zeros_like(rows),
            where=(np.isfinite(largest) & (largest > 0))[:, None],
        )
        rows, length = scaled, np.linalg.norm(scaled, axis=1)
    which = np.flatnonzero(np.isfinite(length) & (length > 0))
    if is_sparse(rows):
        unit = sparse.diags_array(1.0 / length[which]) @ rows[which]
        return sparse.csr_array(unit, dtype=np.float32), which
    return (rows[which] / length[which, None]).astype(np.float32), which


def nearest(a: Rows, b: Rows | None = None, *, k: int) -> Neighbours:
    """Find the k rows of B with the highest cosine for each row of A, by comparing all pairs.

    Single precision selects candidates, with a margin above its rounding error. Double precision
    ranks them, so the result is exact. Ties go to the lower index.

    Parameters
    ----------
    a
        Unit rows; see ``unit_rows``.
    b
        Unit rows in the same space. If None, the neighbours are other rows of A.
    k
        Number of neighbours.

    Returns
    -------
    Neighbours
        ``index`` and ``cosine``, (rows of A, min(k, candidates)).

    Examples
    --------
    >>> rows, _ = unit_rows(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    >>> nearest(rows, k=1).index.ravel().tolist()
    [1, 0, 1]
    """
    others = a if b is None else b
    k = max(min(k, others.shape[0] - (b is None)), 0)
    index = np.empty((a.shape[0], k), dtype=np.int64)
    cosine = np.empty((a.shape[0], k))
    if not k:
        return Neighbours(index, cosine)
    # Bound of the error of a float32 inner product of unit vectors, for both compared values.
    terms = a.shape[1] if not is_sparse(a) else int(np.diff(a.indptr).max(initial=0))
    margin = 2.0 * (terms + 4) * float(np.finfo(np.float32).eps)
    for start, block in cosine_blocks(a, others):
        if b is None:
            here = np.arange(len(block))
            block[here, start + here] = -np.inf
        last = np.partition(block, block.shape[1] - k, axis=1)[:, block.shape[1] - k]
        row, column = np.nonzero(block >= (last - margin)[:, None])
        if b is None:
            row, column = row[column != start + row], column[column != start + row]
        exact = row_cosines(a, others, (start + row, column))
        order = np.lexsort([column, -np.round(exact, _DECIMALS), row])
        row, column, exact = row[order], column[order], exact[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        best = rank < k
        index[start + row[best], rank[best]] = column[best]
        cosine[start + row[best], rank[best]] = exact[best]
    return Neighbours(index, cosine)


def cosine_blocks(
    a: Rows, b: Rows, *, cells: int = _CELLS
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the first row and the cosines with all rows of B, for each block of rows of A.

    Parameters
    ----------
    a, b
        Unit rows.
    cells
        Number of cosines in a block, at most, unless B has more rows.
    """
    step = max(1, cells // max(b.shape[0], 1))
    transposed = sparse.csc_array(b.T) if is_sparse(b) else b.T
    for start in range(0, a.shape[0], step):
        block = a[start : start + step] @ transposed
        yield start, block.toarray() if is_sparse(block) else block


def row_cosines(a: Rows, b: Rows, pairs: tuple[Ints, Ints]) -> Floats:
    """Return the cosines of pairs of rows in double precision.

    Parameters
    ----------
    a, b
        Unit rows.
    pairs
        The row of A and the row of B of each pair.
    """
    i, j = pairs
    found = np.empty(len(i))
    step = max(1, (1 << 22) // max(a.shape[1], 1)) if not is_sparse(a) else 1 << 14
    for start in range(0, len(i), step):
        at = slice(start, start + step)
        x, y = a[i[at]], b[j[at]]
        if is_sparse(x):
            product = x.astype(np.float64).multiply(y.astype(np.float64)).sum(axis=1)
            found[at] = np.asarray(product).ravel()
        else:
            found[at] = np.einsum("ij,ij->i", x, y, dtype=np.float64)
    return found


def nearest_points(points: Floats, *, k: int) -> Ints:
    """Return the k nearest other points of each point of a map, nearest first.

    Parameters
    ----------
    points
        float64, (points, 2).
    k
        Number of neighbours, at most points - 1.
    """
    from scipy.spatial import KDTree

    n = len(points)
    k = max(min(k, n - 1), 0)
    if not k:
        return np.empty((n, 0), dtype=np.int64)
    # With equal points, the point itself need not be the first of its neighbours.
    _, found = KDTree(points).query(points, k=np.arange(1, k + 2))
    own = found == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True
    rest: Ints = np.asarray(found)[~own].reshape(n, k).astype(np.int64)
    return rest
