"""Similarity of two point sets by cosines: RSA, kNN-Jaccard and mutual nearest neighbours.

Row i of X is paired with row i of Y. The cosines of all points are computed a few rows at a
time, so that no float matrix of all pairs is in memory. Points are dense or sparse rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from analysis.statistics.directions import cosine_blocks, nearest
from ingest.compilation import compiled, in_threads

__all__ = [
    "EXACT",
    "Nearest",
    "Neighbours",
    "Points",
    "rank_correlations",
]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Points: TypeAlias = "Floats | sparse.csr_array"

_TILE = 256  # rows of cosines at a time
EXACT = 4096
"""Largest number of points for which RSA ranks all cosines exactly."""
_CODES = 2**16
_DECIMALS = 12
_RANGES = 8  # of draws, shared between threads


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest neighbour of each point on the other side, by cosine.

    Parameters
    ----------
    of_x, of_y
        int64, (n,). Index of the nearest point of the other side; -1 for a point at the origin.
    """

    of_x: Ints
    of_y: Ints

    @classmethod
    def of(cls, x: Points, y: Points, *, seed: int) -> "Nearest":
        """Find the neighbours; ties are broken at random, so that no row order is preferred."""
        rng = np.random.default_rng(seed)
        return cls(_nearest(x, y, rng), _nearest(y, x, rng))

    def value(self, order: Ints | None = None) -> float:
        """Return the share of pairs whose points are each other's nearest neighbours.

        Parameters
        ----------
        order
            int64, (n,). Row i of X is paired with row ``order[i]`` of Y; None for row i.
        """
        n = len(self.of_x)
        partner = np.arange(n) if order is None else order
        mutual = (self.of_x == partner) & (self.of_y[partner] == np.arange(n))
        return float(mutual.mean()) if n else float("nan")


def _nearest(x: Points, y: Points, rng: np.random.Generator) -> Ints:
    shuffled = rng.permutation(y.shape[0])
    found = np.full(x.shape[0], -1, dtype=np.int64)
    if len(shuffled):
        found[:] = shuffled[nearest(x, y[shuffled], k=1).index[:, 0]]
    found[_empty(x)] = -1
    return found


def _empty(points: Points) -> NDArray[np.bool_]:
    empty: NDArray[np.bool_]
    if isinstance(points, sparse.csr_array):
        empty = np.diff(points.indptr) == 0
    else:
        empty = ~np.any(points != 0, axis=1)
    return empty


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest neighbours of each point on its own side, by cosine.

    Parameters
    ----------
    of_x, of_y
        int64, (n, k). Indices of the neighbours, without the point itself.
    """

    of_x: Ints
    of_y: Ints

    @classmethod
    def of(cls, x: Points, y: Points, *, k: int, seed: int) -> "Neighbours":
        """Find the neighbours.

        Ties are broken at random on each side. If they were broken by index, tied points would
        have the same neighbours on both sides, and unrelated points would seem similar.
        """
        rng = np.random.default_rng(seed)
        return cls(_neighbours(x, k, rng), _neighbours(y, k, rng))

    def value(self, order: Ints | None = None) -> float:
        """Return the mean Jaccard index of the neighbours of paired points.

        Parameters
        ----------
        order
            int64, (n,). Row i of X is paired with row ``order[i]`` of Y; None for row i.
        """
        n, k = self.of_x.shape
        if not n or not k:
            return float("nan")
        if order is None:
            return float(_jaccard(self.of_x, self.of_y).mean())
        back = np.empty(n, dtype=np.int64)
        back[order] = np.arange(n)  # the X row that is paired with each Y row
        return float(_jaccard(self.of_x, back[self.of_y[order]]).mean())


def _neighbours(points: Points, k: int, rng: np.random.Generator) -> Ints:
    shuffled = rng.permutation(points.shape[0])
    index = nearest(points[shuffled], k=k).index
    found = np.empty_like(index)
    found[shuffled] = shuffled[index]
    return found


@compiled
def _jaccard(a: Ints, b: Ints) -> Floats:
    found = np.empty(len(a))
    for i in range(len(a)):
        shared = 0
        for one in a[i]:
            for two in b[i]:
                if one == two:
                    shared += 1
        found[i] = shared / (2 * a.shape[1] - shared)
    return found


def rank_correlations(
    x: Points, y: Points, orders: Sequence[Ints], *, exact: int = EXACT
) -> Floats:
    """Return the Spearman correlation of the cosine dissimilarities, for several pairings.

    Parameters
    ----------
    x, y
        Unit rows, with the same number n of rows.
    orders
        int64, (n,) each. Row i of X is paired with row ``order[i]`` of Y.
    exact
        Largest number of points for exact ranks. With more, cosines are rounded to 16 bits on
        a scale that is finer near 0; rounded cosines share their mean rank.

    Returns
    -------
    float64, one for each pairing; NaN with fewer than three points, or if all cosines of one
    side are equal.
    """
    n = x.shape[0]
    found = np.full(len(orders), np.nan)
    if n < 3 or not len(orders):
        return found
    every = np.stack(orders)
    if n <= exact:
        own, other = _ranks(x), _ranks(y)
        if own is None or other is None:
            return found
        found[:] = 0
        _for_draws(lambda i, j: _add_exact(own, other, every[i:j], found[i:j]), len(orders))
        return found
    return _coded(x, y, every, found)


def _tiles(a: Points, b: Points) -> Iterator[tuple[int, Floats]]:
    return cosine_blocks(a, b, cells=_TILE * b.shape[0])


def _ranks(points: Points) -> Floats | None:
    """Return centred ranks of all pairs, symmetric; squares below the diagonal sum to 1."""
    cosines = np.concatenate([rows for _, rows in _tiles(points, points)])
    below = np.tril_indices(len(cosines), -1)
    # Cosines that differ by rounding only are ties.
    ranks = rankdata(np.round(cosines[below], _DECIMALS))
    ranks -= ranks.mean()
    norm = np.linalg.norm(ranks)
    if not norm:
        return None
    found: Floats = np.zeros_like(cosines)
    found[below] = ranks / norm
    found += found.T
    return found


def _coded(x: Points, y: Points, orders: NDArray[np.int64], found: Floats) -> Floats:
    n = x.shape[0]
    of_y = np.empty((n, n), dtype=np.uint16)
    counts = np.zeros((2, _CODES), dtype=np.int64)
    for first, cosines in _tiles(x, x):
        _count(_encode(cosines), first, counts[0])
    for first, cosines in _tiles(y, y):
        of_y[first : first + len(cosines)] = _encode(cosines)
        _count(of_y[first : first + len(cosines)], first, counts[1])
    rank_x, rank_y = _mean_ranks(counts[0]), _mean_ranks(counts[1])
    if rank_x is None or rank_y is None:
        return found
    found[:] = 0
    for first, cosines in _tiles(x, x):
        rows = rank_x[_encode(cosines)]
        _for_draws(
            partial(_add_some, rows, first, of_y, rank_y, orders, found),
            len(orders),
        )
    return found


def _add_some(
    x: Floats,
    first: int,
    y: NDArray[np.uint16],
    rank: Floats,
    orders: NDArray[np.int64],
    out: Floats,
    begin: int,
    end: int,
) -> None:
    _add_coded(x, first, y, rank, orders[begin:end], out[begin:end])


def _encode(cosines: Floats) -> NDArray[np.uint16]:
    """Round cosines to codes; the square root makes codes finer near 0, where most cosines are."""
    half = _CODES // 2 - 1
    scaled = np.copysign(np.sqrt(np.minimum(np.abs(cosines), 1.0)), cosines)
    codes: NDArray[np.uint16] = (np.rint(scaled * half) + half).astype(np.uint16)
    return codes


def _mean_ranks(counts: Ints) -> Floats | None:
    """Return the centred mean rank of each code, scaled so that squares over all pairs sum to 1."""
    ranks = np.cumsum(counts) - (counts - 1) / 2
    ranks = ranks - (counts.sum() + 1) / 2
    norm = np.sqrt((counts * ranks**2).sum())
    return ranks / norm if norm else None


def _for_draws(work: Callable[[int, int], None], draws: int) -> None:
    cuts = np.unique(np.linspace(0, draws, min(draws, _RANGES) + 1).astype(int))
    in_threads(work, cuts.tolist())


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
    first: int,
    y: NDArray[np.uint16],
    rank: Floats,
    orders: NDArray[np.int64],
    out: Floats,
) -> None:
    for draw in range(len(orders)):
        order = orders[draw]
        total = 0.0
        for i in range(len(x)):
            own, other = x[i], y[order[first + i]]
            for j in range(first + i):
                total += own[j] * rank[other[order[j]]]
        out[draw] += total
