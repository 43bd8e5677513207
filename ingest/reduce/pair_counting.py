"""Pairs of features that are active together in a block: compiled loops over its entries.

All loops run over features: down a column, and from each of its entries along the remainder of
the token's row, which has the features of higher index. A pair (i, j) thus occurs at i < j,
the data of feature i stay in the cache, and threads for ranges of features never write to the
same element.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ingest.codes.store import Block
from ingest.compilation import compiled, in_threads

__all__ = ["Codes", "add_all", "add_to_keys", "chosen", "codes_of", "count_pairs", "part"]

# More ranges than threads, since features need different times; fewer for small blocks.
_RANGES = 4 * (os.cpu_count() or 1)
_ENTRIES_WORTH_A_RANGE = 4096


class Codes(NamedTuple):
    """A block's entries, by row and by column.

    Parameters
    ----------
    indptr
        int64, rows + 1. The start of each row's entries.
    indices
        int32. The feature of each entry, ascending within a row.
    values
        float64. Its activation.
    column
        int64, d_sae + 1. The start of each feature's entries in ``entry`` and ``row``.
    entry, row
        int32. The entries sorted by feature, and the row of each.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    column: NDArray[np.int64]
    entry: NDArray[np.int32]
    row: NDArray[np.int32]

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return len(self.column) - 1

    @property
    def ahead(self) -> NDArray[np.int64]:
        """Number of entries after each entry in its row."""
        number = np.diff(self.indptr)
        return np.repeat(self.indptr[1:], number) - np.arange(len(self.values)) - 1

    def counts(self) -> NDArray[np.int64]:
        """Return the number of entries of each feature."""
        return np.bincount(self.indices, minlength=self.d_sae)

    def sums(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum, by feature, of a weight of each entry."""
        total = np.bincount(self.indices, weights=weights, minlength=self.d_sae)
        return total.astype(np.float64, copy=False)  # for no entries, NumPy returns integers


def codes_of(block: Block) -> Codes:
    """Return the entries of a block."""
    indices, values = block.indices.astype(np.int32), block.values.astype(np.float64)
    return _by_column(block.indptr, indices, values, d_sae=block.d_sae)


def part(codes: Codes, which: NDArray[np.bool_]) -> Codes:
    """Return a subset of the entries."""
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(which)])[codes.indptr]
    return _by_column(indptr, codes.indices[which], codes.values[which], d_sae=codes.d_sae)


def chosen(codes: Codes, k: int) -> NDArray[np.bool_]:
    """Return which entries are among the k largest of their row; ties go to the lower index."""
    which = np.zeros(len(codes.values), dtype=np.bool_)
    _choose(codes.indptr, codes.values, min(k, codes.d_sae), which)
    return which


def count_pairs(
    codes: Codes, *, first: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs that occur, and the number of rows of each.

    Only pairs whose lower feature is in [first, end) are counted. Keys are ``i << 32 | j``,
    ascending.
    """
    at = np.zeros(codes.d_sae + 1, dtype=np.int64)
    _each_range(codes, lambda a, b: _count_partners(codes, max(a, first), min(b, end), at[1:]))
    np.cumsum(at, out=at)
    key = np.empty(at[-1], dtype=np.int64)
    count = np.empty(at[-1], dtype=np.int64)
    _each_range(codes, lambda a, b: _pairs(codes, max(a, first), min(b, end), at, key, count))
    return key, count


def add_to_keys(
    codes: Codes,
    key: NDArray[np.int64],
    at: NDArray[np.int64],
    *,
    joint: NDArray[np.int64],
    product: NDArray[np.float64],
) -> None:
    """Add the joint counts and products of known pairs in a block.

    Parameters
    ----------
    codes
        The block.
    key, at
        The ascending keys of the pairs, and the start of those of each lower feature
        (d_sae + 1).
    joint, product
        Changed in place: the number of rows with both features, and the sum of products of
        activations.
    """
    _each_range(codes, lambda a, b: _add_to_keys(codes, a, b, key, at, joint, product))


def add_all(codes: Codes, *, joint: NDArray[np.int64], product: NDArray[np.float64]) -> None:
    """Add the joint counts and products of all pairs, in row order of the upper triangle."""
    _each_range(codes, lambda a, b: _add_all(codes, a, b, joint, product))


def _by_column(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    *,
    d_sae: int,
) -> Codes:
    """Convert rows to columns of entry numbers, by SciPy's counting sort."""
    numbers = np.arange(len(values), dtype=np.int32)
    columns = csr_array((numbers, indices, indptr), (len(indptr) - 1, d_sae)).tocsc()
    column, row = columns.indptr.astype(np.int64), columns.indices.astype(np.int32)
    return Codes(indptr, indices, values, column, columns.data, row)


def _each_range(codes: Codes, work: Callable[[int, int], None]) -> None:
    """Call ``work`` in threads for ranges of features with similar numbers of entries."""
    ranges = min(_RANGES, len(codes.entry) // _ENTRIES_WORTH_A_RANGE)
    if ranges < 2:
        work(0, codes.d_sae)
        return
    ends = np.linspace(0, len(codes.entry), ranges + 1)[1:-1]
    inner = np.searchsorted(codes.column, ends)
    in_threads(work, np.unique([0, *inner, codes.d_sae]).tolist())


@compiled
def _choose(
    indptr: NDArray[np.int64], values: NDArray[np.float64], k: int, which: NDArray[np.bool_]
) -> None:
    top = np.empty(k)  # the k largest so far, descending
    for t in range(len(indptr) - 1):
        begin, end = indptr[t], indptr[t + 1]
        if end - begin <= k:
            which[begin:end] = True
            continue
        top[:] = 0.0
        for e in range(begin, end):
            if values[e] > top[k - 1]:
                p = k - 1
                while p > 0 and top[p - 1] < values[e]:
                    top[p] = top[p - 1]
                    p -= 1
                top[p] = values[e]
        ties = np.sum(top == top[k - 1])
        for e in range(begin, end):
            if values[e] > top[k - 1]:
                which[e] = True
            elif values[e] == top[k - 1] and ties > 0:
                which[e] = True
                ties -= 1


@compiled
def _count_partners(codes: Codes, first: int, end: int, partners: NDArray[np.int64]) -> None:
    seen = np.full(len(codes.column) - 1, -1, dtype=np.int32)
    for i in range(first, end):
        for p in range(codes.column[i], codes.column[i + 1]):
            for f in range(codes.entry[p] + 1, codes.indptr[codes.row[p] + 1]):
                j = codes.indices[f]
                if seen[j] != i:
                    seen[j] = i
                    partners[i] += 1


@compiled
def _pairs(
    codes: Codes,
    first: int,
    end: int,
    at: NDArray[np.int64],
    key: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    times = np.zeros(len(codes.column) - 1, dtype=np.int64)
    for i in range(first, end):
        n = at[i]
        for p in range(codes.column[i], codes.column[i + 1]):
            for f in range(codes.entry[p] + 1, codes.indptr[codes.row[p] + 1]):
                j = codes.indices[f]
                if times[j] == 0:
                    key[n] = (np.int64(i) << 32) | np.int64(j)
                    n += 1
                times[j] += 1
        key[at[i] : n].sort()
        for m in range(at[i], n):
            j = key[m] & 0xFFFFFFFF
            count[m] = times[j]
            times[j] = 0


@compiled
def _add_to_keys(
    codes: Codes,
    first: int,
    end: int,
    key: NDArray[np.int64],
    at: NDArray[np.int64],
    joint: NDArray[np.int64],
    product: NDArray[np.float64],
) -> None:
    times = np.zeros(len(codes.column) - 1, dtype=np.int64)  # count + 1, for known partners of i
    total = np.zeros(len(codes.column) - 1)
    for i in range(first, end):
        if at[i] == at[i + 1] or codes.column[i] == codes.column[i + 1]:
            continue
        for m in range(at[i], at[i + 1]):
            times[key[m] & 0xFFFFFFFF] = 1
        for p in range(codes.column[i], codes.column[i + 1]):
            e = codes.entry[p]
            for f in range(e + 1, codes.indptr[codes.row[p] + 1]):
                j = codes.indices[f]
                if times[j]:
                    times[j] += 1
                    total[j] += codes.values[e] * codes.values[f]
        for m in range(at[i], at[i + 1]):
            j = key[m] & 0xFFFFFFFF
            joint[m] += times[j] - 1
            product[m] += total[j]
            times[j] = 0
            total[j] = 0.0


@compiled
def _add_all(
    codes: Codes, first: int, end: int, joint: NDArray[np.int64], product: NDArray[np.float64]
) -> None:
    d_sae = len(codes.column) - 1
    times = np.zeros(d_sae, dtype=np.int64)
    total = np.zeros(d_sae)
    met = np.empty(d_sae, dtype=np.int32)
    for i in range(first, end):
        n = 0
        for p in range(codes.column[i], codes.column[i + 1]):
            e = codes.entry[p]
            for f in range(e + 1, codes.indptr[codes.row[p] + 1]):
                j = codes.indices[f]
                if times[j] == 0:
                    met[n] = j
                    n += 1
                times[j] += 1
                total[j] += codes.values[e] * codes.values[f]
        before = i * (2 * d_sae - i - 1) // 2 - i - 1  # pair (i, j) is at before + j
        for j in met[:n]:
            joint[before + j] += times[j]
            product[before + j] += total[j]
            times[j] = 0
            total[j] = 0.0
