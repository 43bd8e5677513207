"""Rows scaled to unit length, and the exact nearest rows by cosine, for dense and sparse rows.

All studies that compare directions or activations by cosine use these functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "NearestRows",
    "Rows",
    "cosine_blocks",
    "directed_rows",
    "is_sparse",
    "nearest",
    "row_cosines",
    "unit_rows",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = Any
"""Unit rows, float32 or float64: a NumPy array or a SciPy CSR array."""

#: Cosines, or entries of rows, that are computed at once.
_CELLS = 1 << 24

#: Entries of rows that are copied at once.
_ENTRIES = 1 << 22

#: Decimals to which two cosines of equal rows agree, whatever the order of their sums.
_DECIMALS = 12


@dataclass(frozen=True, eq=False)
class NearestRows:
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


def unit_rows(rows: Any, *, dtype: Any = np.float64) -> Rows:
    """Scale rows to length 1; rows that have no direction become zeros.

    Parameters
    ----------
    rows
        (rows, dimensions). A NumPy array or a SciPy sparse array. A row of zeros, or with NaN or Inf,
        has no direction.
    dtype
        Type of the result. Lengths are computed in float64.

    Returns
    -------
    (rows, dimensions)
        An array, or a CSR array if the rows are sparse.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    if is_sparse(rows):
        return _sparse_unit_rows(sparse.csr_array(rows, dtype=np.float64), dtype)
    rows = np.asarray(rows)
    unit = np.zeros(rows.shape, dtype=dtype)
    step = max(1, _CELLS // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        some = rows[start : start + step].astype(np.float64)
        # Division by the largest entry first: squares of very small or large entries are lost.
        largest = np.abs(some).max(axis=1, initial=0.0)
        directed = np.flatnonzero(np.isfinite(largest) & (largest > 0))
        scaled = some[directed] / largest[directed, None]
        unit[start + directed] = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def _sparse_unit_rows(rows: Any, dtype: Any) -> Rows:
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    directed = np.isfinite(length) & (length > 0)
    inverse = np.divide(1.0, length, out=np.zeros_like(length), where=directed)
    unit = sparse.csr_array(sparse.diags_array(inverse) @ rows, dtype=dtype)
    if not directed.all():
        unit.data[~np.isfinite(unit.data)] = 0.0
        unit.eliminate_zeros()
    return unit


def directed_rows(rows: Any, *, dtype: Any = np.float64) -> tuple[Rows, Ints]:
    """Scale rows to length 1, without those that have no direction.

    Parameters
    ----------
    rows, dtype
        See ``unit_rows``.

    Returns
    -------
    unit
        The rows that have a direction, at length 1.
    which
        int64. Their indices.

    Examples
    --------
    >>> unit, which = directed_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    >>> unit.tolist(), which.tolist()
    ([[0.6, 0.8]], [0])
    """
    unit = unit_rows(rows, dtype=dtype)
    if is_sparse(unit):
        directed = np.asarray(abs(unit).sum(axis=1)).ravel() > 0
    else:
        directed = unit.any(axis=1)
    which = np.flatnonzero(directed)
    return (unit if directed.all() else unit[which]), which


def nearest(a: Rows, b: Rows | None = None, *, k: int) -> NearestRows:
    """Find the k rows of B with the highest cosine for each row of A, by comparing all pairs.

    The precision of the rows selects candidates, with a margin above its rounding error. Double
    precision ranks them, so the result is exact. Ties go to the lower index.

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
    NearestRows
        ``index`` and ``cosine``, (rows of A, min(k, candidates)).

    Examples
    --------
    >>> rows = unit_rows(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    >>> nearest(rows, k=1).index.ravel().tolist()
    [1, 0, 1]
    """
    others = a if b is None else b
    k = max(min(k, others.shape[0] - (b is None)), 0)
    index: Ints = np.empty((a.shape[0], k), dtype=np.int64)
    cosine = np.empty((a.shape[0], k))
    if not k:
        return NearestRows(index, cosine)
    # Bound of the error of an inner product of unit vectors, for both compared values.
    terms = a.shape[1] if not is_sparse(a) else int(np.diff(a.indptr).max(initial=0))
    margin = 2.0 * (terms + 4) * float(max(np.finfo(each.dtype).eps for each in (a, others)))
    # Products of rows without negative entries are 0 only if the rows have no entry in common.
    disjoint = is_sparse(a) and min(a.data.min(initial=0), others.data.min(initial=0)) >= 0
    for start, block in cosine_blocks(a, others):
        if b is None:
            here = np.arange(len(block))
            block[here, start + here] = -np.inf
        last = np.partition(block, block.shape[1] - k, axis=1)[:, block.shape[1] - k]
        wanted = block >= (last - margin)[:, None]
        if disjoint:  # the lowest indices among equal cosines of 0
            zero = block == 0
            wanted &= ~zero | (np.cumsum(zero, axis=1, dtype=np.int32) <= k)
        row, column = np.nonzero(wanted)
        if b is None:
            row, column = row[column != start + row], column[column != start + row]
        exact = row_cosines(a, others, (start + row, column))
        order = np.lexsort([column, -np.round(exact, _DECIMALS), row])
        row, column, exact = row[order], column[order], exact[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        best = rank < k
        index[start + row[best], rank[best]] = column[best]
        cosine[start + row[best], rank[best]] = exact[best]
    return NearestRows(index, cosine)


def cosine_blocks(a: Rows, b: Rows, *, cells: int = _CELLS) -> Iterator[tuple[int, NDArray[Any]]]:
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
    for at in _pieces(a, b, pairs):
        x, y = a[i[at]], b[j[at]]
        if is_sparse(x):
            product = x.astype(np.float64).multiply(y.astype(np.float64)).sum(axis=1)
            found[at] = np.asarray(product).ravel()
        else:
            found[at] = np.einsum("ij,ij->i", x, y, dtype=np.float64)
    return found


def _pieces(a: Rows, b: Rows, pairs: tuple[Ints, Ints]) -> Iterator[slice]:
    """Yield slices of the pairs whose rows have at most ``_ENTRIES`` entries, or one pair."""
    i, j = pairs
    if is_sparse(a):
        entries = np.cumsum(np.diff(a.indptr)[i] + np.diff(b.indptr)[j], dtype=np.int64)
        cuts = np.flatnonzero(np.diff(entries // _ENTRIES)) + 1
    else:
        cuts = np.arange(0, len(i), max(1, _ENTRIES // max(a.shape[1], 1)))[1:]
    yield from (slice(*ends) for ends in pairwise([0, *cuts.tolist(), len(i)]))
