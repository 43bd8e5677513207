"""The compiled loops of correlation: moments, columns, and products of two SAEs' codes.

Codes are tuples ``(indptr, indices, values)``. Units are numbered 0, 1, … among the compared
ones; ``rows[u]`` is the row of unit u in the codes.

Products are computed for a few features of A at a time. Each feature i has a line of ``d_B``
sums. For each unit on which i is active, the active features of B's row are added to the line.
The lines and a range of units fit into the processor's cache together. No array has the size
d_A x d_B, and a line is bitwise independent of the division of features among threads.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.compilation import compiled

__all__ = [
    "LINES",
    "Lists",
    "columns",
    "correlate",
    "deviations",
    "empty_lists",
    "gathered",
    "insert",
    "join",
    "pearson_of",
    "totals",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = tuple[Ints, NDArray[np.uint32], NDArray[np.float32]]
Columns: TypeAlias = tuple[Ints, NDArray[np.uint32], NDArray[np.float32]]
SideA: TypeAlias = tuple[Floats, Floats, Floats]
SideB: TypeAlias = tuple[Floats, Floats]

# If B's rows together have fewer entries than this share of d_B, a second pass over them reads
# and clears the sums, instead of a pass over all d_B.
_FEW = 0.25

# Bytes of the lines that are filled together, and the shortest range of units.
LINES = 8 << 20
_SHORTEST = 4096

# The best partners of each feature, in arrays of shape features x best: correlations (descending;
# 0 without a partner), partners and joint counts. Ties are sorted by the index of the partner, so
# lists do not depend on the order in which pairs are added.
Lists: TypeAlias = tuple[Floats, Ints, Ints]


def empty_lists(features: int, best: int) -> Lists:
    """Return empty lists."""
    shape = features, best
    return np.zeros(shape), np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)


@compiled
def insert(lists: Lists, feature: int, r: float, partner: int, joint: int) -> None:
    """Insert a pair with r > 0 into the list of a feature, if it is among the best."""
    pearson, partners, joints = lists
    at = pearson.shape[1]
    while at > 0 and (
        r > pearson[feature, at - 1]
        or (r == pearson[feature, at - 1] and partner < partners[feature, at - 1])
    ):
        at -= 1
    if at == pearson.shape[1]:
        return
    for k in range(pearson.shape[1] - 1, at, -1):
        pearson[feature, k] = pearson[feature, k - 1]
        partners[feature, k] = partners[feature, k - 1]
        joints[feature, k] = joints[feature, k - 1]
    pearson[feature, at], partners[feature, at], joints[feature, at] = r, partner, joint


@compiled
def join(lists: Lists, more: Lists) -> None:
    """Insert all pairs of other lists of the same features into these lists."""
    pearson, partners, joints = more
    for feature in range(pearson.shape[0]):
        for k in range(pearson.shape[1]):
            if pearson[feature, k] > 0:
                insert(
                    lists, feature, pearson[feature, k], partners[feature, k], joints[feature, k]
                )


@compiled
def totals(
    codes: Codes, rows: Ints, d_sae: int
) -> tuple[Ints, Floats, NDArray[np.float32], NDArray[np.float32]]:
    """Return the count, sum, minimum and maximum of the activations of each feature."""
    indptr, indices, values = codes
    count, total = np.zeros(d_sae, np.int64), np.zeros(d_sae)
    low, high = np.full(d_sae, np.inf, np.float32), np.zeros(d_sae, np.float32)
    for row in rows:
        for e in range(indptr[row], indptr[row + 1]):
            j, value = indices[e], values[e]
            count[j] += 1
            total[j] += value
            low[j] = min(low[j], value)
            high[j] = max(high[j], value)
    return count, total, low, high


@compiled
def deviations(codes: Codes, rows: Ints, mean: Floats) -> tuple[Floats, Floats]:
    """Return the sums of deviations from the mean, and of their squares, where active."""
    indptr, indices, values = codes
    first, second = np.zeros(len(mean)), np.zeros(len(mean))
    for row in rows:
        for e in range(indptr[row], indptr[row + 1]):
            j = indices[e]
            deviation = values[e] - mean[j]
            first[j] += deviation
            second[j] += deviation * deviation
    return first, second


@compiled
def columns(codes: Codes, rows: Ints, bounds: Ints) -> Columns:
    """Convert rows to columns by counting sort.

    Parameters
    ----------
    codes
        The codes.
    rows
        Their rows, one a unit.
    bounds
        d_sae + 1. Feature i has the entries ``bounds[i]:bounds[i + 1]`` of the result: all
        of its entries, or none, which excludes it.

    Returns
    -------
    The bounds, and the unit (ascending) and activation of each entry.
    """
    indptr, indices, values = codes
    at = bounds[:-1].copy()
    unit, value = np.empty(bounds[-1], np.uint32), np.empty(bounds[-1], np.float32)
    for u in range(len(rows)):
        for e in range(indptr[rows[u]], indptr[rows[u] + 1]):
            i = indices[e]
            if at[i] < bounds[i + 1]:
                unit[at[i]] = u
                value[at[i]] = values[e]
                at[i] += 1
    return bounds, unit, value


@compiled
def gathered(codes: Codes, rows: Ints) -> Codes:
    """Return a copy of the codes with the rows in this order, for sequential reading."""
    indptr, indices, values = codes
    ends = np.zeros(len(rows) + 1, np.int64)
    for u in range(len(rows)):
        ends[u + 1] = ends[u] + indptr[rows[u] + 1] - indptr[rows[u]]
    index, value = np.empty(ends[-1], np.uint32), np.empty(ends[-1], np.float32)
    for u in range(len(rows)):
        begin, end = indptr[rows[u]], indptr[rows[u] + 1]
        index[ends[u] : ends[u + 1]] = indices[begin:end]
        value[ends[u] : ends[u + 1]] = values[begin:end]
    return ends, index, value


@compiled
def _add(line: Floats, codes: Codes, row: int, x: float, active: float) -> int:
    """Add x times the row of B to the line's products, and ``active`` to its joint counts."""
    indptr, indices, values = codes
    for e in range(indptr[row], indptr[row + 1]):
        j = indices[e]
        line[j, 0] += x * values[e]
        line[j, 1] += active
    return int(indptr[row + 1] - indptr[row])


@compiled
def _fill(
    line: Floats,
    column: tuple[int, int],
    units: tuple[int, int],
    a: Columns,
    shift: float,
    codes: Codes,
    rows: Ints,
) -> tuple[int, int]:
    """Add the products of a feature of A with each feature of B, over a range of units, to a line.

    The feature's column goes from ``column[0]`` to ``column[1]``. The result is the end of the
    range in it, and the number of additions.

    A feature of A with a shift is active on most units. It is summed over all units after its
    mean is subtracted, because its mean may be a thousand times its spread.
    """
    _, unit, value = a
    k, end = column
    added = 0
    if shift == 0:
        while k < end and unit[k] < units[1]:
            added += _add(line, codes, rows[unit[k]], np.float64(value[k]), 1.0)
            k += 1
        return k, added
    for u in range(units[0], units[1]):
        if k < end and unit[k] == u:
            added += _add(line, codes, rows[u], value[k] - shift, 1.0)
            k += 1
        else:
            added += _add(line, codes, rows[u], -shift, 0.0)
    return k, added


@compiled
def _fill_all(
    lines: Floats, first: int, end: int, a: Columns, side_a: SideA, codes: Codes, rows: Ints
) -> Ints:
    """Fill the empty lines of features [first, end) of A; return the number of additions of each.

    A range of units is long enough that each entry of a line gets about two additions. Shorter
    ranges would load lines into the cache more often than they use them.
    """
    bounds = a[0]
    shift, _, scale = side_a
    units, d_b = len(rows), lines.shape[1]
    per_unit = (bounds[end] - bounds[first]) / ((end - first) * max(units, 1))
    adds = per_unit * len(codes[1]) / max(len(codes[0]) - 1, 1)
    stretch = max(_SHORTEST, int(min(2.0 * d_b / max(adds, 1e-9), float(max(units, 1)))))
    at, added = bounds[first:end].copy(), np.zeros(end - first, np.int64)
    for begin in range(0, units, stretch):
        stop = min(begin + stretch, units)
        for i in range(first, end):
            if scale[i] != 0:
                column = (at[i - first], bounds[i + 1])
                at[i - first], more = _fill(
                    lines[i - first], column, (begin, stop), a, shift[i], codes, rows
                )
                added[i - first] += more
    return added


@compiled
def _pearson(product: float, total: float, scale: float, mean: float, scale_b: float) -> float:
    """Return the correlation of a sum of products; 0 if it is negative."""
    return float(min(max((product - total * mean) * scale * scale_b, 0.0), 1.0))


@compiled
def correlate(
    first: int,
    end: int,
    a: Columns,
    side_a: SideA,
    codes: Codes,
    rows: Ints,
    side_b: SideB,
    min_joint: int,
    best_a: Lists,
    best_b: Lists,
) -> None:
    """Correlate features [first, end) of A with all of B; store the best of each in two lists.

    Parameters
    ----------
    first, end
        The features of A.
    a
        Their columns.
    side_a
        For each feature of A: the shift that is subtracted from it, the sum of the shifted
        values over all units, and its scale, 1 / the square root of its sum of squared
        deviations (0 if it is not eligible).
    codes
        B's codes.
    rows
        The row of B's codes that is paired with each unit.
    side_b
        The mean and the scale of each feature of B.
    min_joint
        Smallest number of units on which both features are active.
    best_a, best_b
        The lists of best partners (``Lists``), changed in place.
    """
    shift, total, scale = side_a
    bounds, unit, _ = a
    mean, scales = side_b
    indptr, indices, _ = codes
    list_a, list_b, d_b = best_a[0], best_b[0], len(mean)
    per_chunk = min(max(1, LINES // (16 * max(d_b, 1))), end - first)
    lines = np.zeros((per_chunk, d_b, 2))
    added = np.zeros(0, np.int64)
    for i in range(first, end):
        if (i - first) % per_chunk == 0:
            added = _fill_all(lines, i, min(i + per_chunk, end), a, side_a, codes, rows)
        if scale[i] == 0:
            continue
        line = lines[(i - first) % per_chunk]
        few = shift[i] == 0 and added[(i - first) % per_chunk] < _FEW * d_b
        for k in range(bounds[i], bounds[i + 1] if few else bounds[i]):
            row = rows[unit[k]]
            for e in range(indptr[row], indptr[row + 1]):
                j = indices[e]
                if line[j, 1] >= min_joint:
                    r = _pearson(line[j, 0], total[i], scale[i], mean[j], scales[j])
                    if r > 0 and r >= min(list_a[i, -1], list_b[j, -1]):
                        insert(best_a, i, r, j, int(line[j, 1]))
                        insert(best_b, j, r, i, int(line[j, 1]))
                line[j, 0] = line[j, 1] = 0
        for j in range(0 if few else d_b):
            if line[j, 1] >= min_joint:
                r = _pearson(line[j, 0], total[i], scale[i], mean[j], scales[j])
                if r > 0 and r >= min(list_a[i, -1], list_b[j, -1]):
                    insert(best_a, i, r, j, int(line[j, 1]))
                    insert(best_b, j, r, i, int(line[j, 1]))
            line[j, 0] = line[j, 1] = 0


@compiled
def pearson_of(
    first: int,
    end: int,
    a: Columns,
    side_a: SideA,
    codes: Codes,
    rows: Ints,
    side_b: SideB,
    min_joint: int,
    wanted: tuple[Ints, Ints],
    out: Floats,
) -> None:
    """Correlate requested pairs of features [first, end) of A with features of B.

    Parameters
    ----------
    first, end, a, side_a, codes, rows, side_b, min_joint
        As in ``correlate``.
    wanted
        The requested partners of feature i of A are ``wanted[1][wanted[0][i] :
        wanted[0][i + 1]]``.
    out
        The correlation of each requested pair, filled in place; 0 if it is no candidate.
    """
    shift, total, scale = side_a
    start, partner = wanted
    mean, scales = side_b
    line = np.zeros((len(mean), 2))
    for i in range(first, end):
        if scale[i] == 0 or start[i] == start[i + 1]:
            continue
        column = (a[0][i], a[0][i + 1])
        _fill(line, column, (0, len(rows)), a, shift[i], codes, rows)
        for k in range(start[i], start[i + 1]):
            j = partner[k]
            if line[j, 1] >= min_joint:
                out[k] = _pearson(line[j, 0], total[i], scale[i], mean[j], scales[j])
        line[:] = 0
