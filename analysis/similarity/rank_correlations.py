"""Rank correlation (RSA) of the cosines of two point sets, for many pairings of their points.

Up to ``EXACT`` points, all cosines are ranked. Above, cosines are rounded to 16 bits, and the
codes of Y are stored for a range of its points at a time, so memory does not grow with the
square of the points.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.statistics.directions import cosine_blocks, is_sparse
from ingest.compilation import compiled, in_threads

__all__ = ["EXACT", "rank_correlations", "rank_correlations_of_cosines"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

EXACT = 4096
"""Largest number of points for which RSA ranks all cosines exactly."""

BYTES = 1 << 30
"""Bytes of the codes of Y that are in memory at once."""

_TILE = 256  # rows of cosines at a time
_CODES = 2**16
_RANGES = 8  # of draws, shared between threads


def rank_correlations_of_cosines(x: Floats, y: Floats, orders: Sequence[Ints]) -> Floats:
    """Return the Spearman correlation of two matrices of cosines, for several pairings.

    Parameters
    ----------
    x, y
        float64, (n, n), symmetric. Only entries below the diagonal are ranked.
    orders
        int64, (n,) each. Row i of X is paired with row ``order[i]`` of Y.

    Returns
    -------
    float64, one for each pairing; NaN with fewer than three points, or if all cosines of one
    side are equal.
    """
    found = np.full(len(orders), np.nan)
    if len(x) < 3 or not len(orders):
        return found
    own, other = _ranks(x), _ranks(y)
    if own is None or other is None:
        return found
    found[:] = 0
    every = np.stack(orders)
    _for_draws(lambda i, j: _add_exact(own, other, every[i:j], found[i:j]), len(orders))
    return found


def rank_correlations(x: Any, y: Any, orders: Sequence[Ints], *, most_bytes: int = BYTES) -> Floats:
    """Return the Spearman correlation of rounded cosines, for several pairings.

    Cosines are rounded to 16 bits on a scale that is finer near 0; rounded cosines share their
    mean rank.

    Parameters
    ----------
    x, y
        Unit rows, dense or sparse, with the same number n of rows.
    orders
        int64, (n,) each. Row i of X is paired with row ``order[i]`` of Y.
    most_bytes
        Bytes of codes of Y in memory. The cosines of X are computed once for each range of Y.

    Returns
    -------
    As ``rank_correlations_of_cosines``.
    """
    n = x.shape[0]
    found = np.full(len(orders), np.nan)
    if n < 3 or not len(orders):
        return found
    rank_x, rank_y = _code_ranks(x), _code_ranks(y)
    if rank_x is None or rank_y is None:
        return found
    found[:] = 0
    every = np.stack(orders)
    step = max(1, most_bytes // (2 * n))
    for first in range(0, n, step):
        _add_range(x, y, range(first, min(first + step, n)), (rank_x, rank_y), every, found)
    return found


def _add_range(
    x: Any,
    y: Any,
    some: range,
    ranks: tuple[Floats, Floats],
    orders: NDArray[np.int64],
    found: Floats,
) -> None:
    """Add the products of ranks of a range of points of Y, whose codes are freed on return."""
    codes = np.empty((len(some), y.shape[0]), dtype=np.uint16)
    for at, cosines in _tiles(y[some.start : some.stop], y):
        codes[at : at + len(cosines)] = _encode(cosines)
    for at, cosines in _triangle(x):
        rows = ranks[0][_encode(cosines)]
        add = partial(_add_some, rows, at, codes, some.start, ranks[1], orders, found)
        _for_draws(add, len(orders))


def _ranks(cosines: Floats) -> Floats | None:
    """Return centred ranks of all pairs, symmetric; squares below the diagonal sum to 1."""
    below = np.tri(len(cosines), k=-1, dtype=np.bool_)
    ranks = rankdata(cosines[below])
    ranks -= ranks.mean()
    norm = np.linalg.norm(ranks)
    if not norm:
        return None
    found: Floats = np.zeros_like(cosines)
    found[below] = ranks / norm
    found += found.T
    return found


def _tiles(a: Any, b: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield cosines of some rows of A with all rows of B, and the first of these rows."""
    return cosine_blocks(a, b, cells=_TILE * b.shape[0])


def _triangle(a: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield cosines of some rows of A with all rows up to them at least."""
    if is_sparse(a):
        yield from _tiles(a, a)
        return
    for first in range(0, len(a), _TILE):
        yield first, a[first : first + _TILE] @ a[: first + _TILE].T


def _code_ranks(points: Any) -> Floats | None:
    """Return the centred mean rank of each code, scaled so that squares over all pairs sum to 1."""
    counts = np.zeros(_CODES, dtype=np.int64)
    for first, cosines in _triangle(points):
        _count(_encode(cosines), first, counts)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    ranks = ranks - (counts.sum() + 1) / 2
    norm = np.sqrt((counts * ranks**2).sum())
    return ranks / norm if norm else None


def _encode(cosines: NDArray[Any]) -> NDArray[np.uint16]:
    """Round cosines to codes; the square root makes codes finer near 0, where most cosines are."""
    half = _CODES // 2 - 1
    scaled = np.copysign(np.sqrt(np.minimum(np.abs(cosines), 1.0)), cosines)
    codes: NDArray[np.uint16] = (np.rint(scaled * half) + half).astype(np.uint16)
    return codes


def _for_draws(work: Callable[[int, int], None], draws: int) -> None:
    cuts = np.unique(np.linspace(0, draws, min(draws, _RANGES) + 1).astype(int))
    in_threads(work, cuts.tolist())


def _add_some(
    x: Floats,
    at: int,
    y: NDArray[np.uint16],
    first: int,
    rank: Floats,
    orders: NDArray[np.int64],
    out: Floats,
    begin: int,
    end: int,
) -> None:
    _add_coded(x, at, y, first, rank, orders[begin:end], out[begin:end])


@compiled
def _count(codes: NDArray[np.uint16], first: int, counts: Ints) -> None:
    for i in range(len(codes)):
        for j in range(first + i):
            counts[codes[i, j]] += 1


@compiled
def _add_exact(x: Floats, y: Floats, orders: NDArray[np.int64], out: Floats) -> None:
    for draw in range(len(orders)):
        order = orders[draw]
        total = 0.0
        for i in range(len(order)):
            own, other = x[i], y[order[i]]
            for j in range(i):
                total += own[j] * other[order[j]]
        out[draw] += total


@compiled
def _add_coded(
    x: Floats,
    at: int,
    y: NDArray[np.uint16],
    first: int,
    rank: Floats,
    orders: NDArray[np.int64],
    out: Floats,
) -> None:
    """Add the products of ranks of rows ``at`` and following of X with the stored rows of Y."""
    for draw in range(len(orders)):
        order = orders[draw]
        total = 0.0
        for i in range(len(x)):
            partner = order[at + i] - first
            if 0 <= partner < len(y):
                own, other = x[i], y[partner]
                for j in range(at + i):
                    total += own[j] * rank[other[order[j]]]
        out[draw] += total
