"""One-to-one matches: an assignment of maximum total correlation above a threshold."""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from ingest.compilation import compiled
from ingest.match.pairs import Pairs

__all__ = ["assign", "one_to_one"]


def one_to_one(pairs: Pairs, *, threshold: float) -> NDArray[np.bool_]:
    """Choose pairs that share no feature, of the highest sum of (pearson - threshold).

    The parameters are those of ``assign``.
    """
    return assign(pairs.a, pairs.b, pairs.pearson, threshold=threshold)


def assign(
    a: NDArray[np.int64], b: NDArray[np.int64], value: NDArray[np.floating], *, threshold: float
) -> NDArray[np.bool_]:
    """Choose pairs that share no feature, of the highest sum of (value - threshold).

    Parameters
    ----------
    a, b
        The two features of each candidate pair.
    value
        The value of each pair, such as a correlation.
    threshold
        Value of a feature without a partner. A pair at or below it is never chosen.

    Returns
    -------
    Whether each pair is chosen.

    Notes
    -----
    The solution is exact: shortest augmenting paths with prices [1]_, over the candidates
    only. If several choices have the same sum, the pairs alone determine which is returned.

    References
    ----------
    .. [1] R. Jonker and A. Volgenant, "A Shortest Augmenting Path Algorithm for Dense and Sparse
       Linear Assignment Problems", Computing 38, 1987.
    """
    chosen = np.zeros(len(a), dtype=np.bool_)
    worth = np.flatnonzero(value > threshold)
    if not len(worth):
        return chosen
    rows, row = np.unique(a[worth], return_inverse=True)
    columns, column = np.unique(b[worth], return_inverse=True)
    order = np.lexsort((column, row))
    ends = np.searchsorted(row[order], np.arange(len(rows) + 1))
    weight = (value[worth] - threshold).astype(np.float64)
    of_row = _partners(ends, column[order], weight[order], len(columns))
    chosen[worth[of_row[row] == column]] = True
    return chosen


@compiled
def _partners(
    ends: NDArray[np.int64],
    column: NDArray[np.int64],
    weight: NDArray[np.float64],
    columns: int,
) -> NDArray[np.int64]:
    """Return the column of each row, -1 for none.

    Edges of row i are ``ends[i]`` to ``ends[i + 1]``. Prices of rows and columns are at least
    0, and the prices of both ends of an edge add up to at least its weight. Chosen edges have
    no slack, and rows or columns without a partner have price 0, so the total is maximal.
    Each row is added along the path of least slack to a free column, or to a row that then
    loses its partner.
    """
    rows = len(ends) - 1
    of_row, of_column = np.full(rows, -1), np.full(columns, -1)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    for i in range(rows):
        row_price[i] = weight[ends[i] : ends[i + 1]].max()
        for at in range(ends[i], ends[i + 1]):  # a free column without slack needs no search
            if weight[at] == row_price[i] and of_column[column[at]] < 0:
                of_row[i], of_column[column[at]] = column[at], i
                break
    cost = np.full(columns, np.inf)  # of the cheapest path known to a column
    via = np.empty(columns, dtype=np.int64)  # the row before it
    reached, passed = np.empty(columns, dtype=np.int64), np.empty(columns, dtype=np.int64)
    near = np.empty(columns, dtype=np.int64)
    for start in range(rows):
        if of_row[start] >= 0:
            continue
        n_reached = n_passed = n_near = 0
        heap = [(0.0, -1)]
        heap.pop()
        row, far, free = start, 0.0, -1
        best, loser = row_price[start], start
        while True:
            for at in range(ends[row], ends[row + 1]):
                j = column[at]
                slack = row_price[row] + column_price[j] - weight[at]
                total = far + max(slack, 0.0)  # rounding may make the slack negative
                if total < best and total < cost[j]:
                    if cost[j] == np.inf:
                        reached[n_reached] = j
                        n_reached += 1
                    cost[j], via[j] = total, row
                    if total > far:
                        heappush(heap, (total, j))
                    elif of_column[j] >= 0:
                        near[n_near] = j
                        n_near += 1
                    else:  # no free column can be nearer
                        best, free = total, j
                        break
            if free >= 0:
                break
            j = -1
            if n_near > 0:  # at the current distance: many columns if weights are tied
                n_near -= 1
                j = near[n_near]
            while len(heap) > 0 and j < 0:
                far, j = heappop(heap)
                if far > cost[j]:  # a cheaper path was found later
                    j = -1
            if j < 0 or far >= best:
                break
            if of_column[j] < 0:
                best, free = far, j
                break
            passed[n_passed] = j
            n_passed += 1
            row = of_column[j]
            if far + row_price[row] < best:
                best, loser = far + row_price[row], row
        row_price[start] = max(row_price[start] - best, 0.0)
        for k in range(n_passed):
            j = passed[k]
            column_price[j] += best - cost[j]
            i = of_column[j]
            row_price[i] = max(row_price[i] - (best - cost[j]), 0.0)
        j = free
        if free < 0:
            j = of_row[loser]
            of_row[loser] = -1
        while j >= 0:
            i = via[j]
            before = of_row[i]
            of_row[i], of_column[j] = j, i
            j = before if i != start else -1
        for k in range(n_reached):
            cost[reached[k]] = np.inf
    return of_row
