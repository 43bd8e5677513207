"""Similarity of two point sets by nearest points: kNN-Jaccard and mutual nearest neighbours.

Row i of X is paired with row i of Y. Points are dense or sparse rows.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.statistics.directions import nearest
from ingest.compilation import compiled

__all__ = [
    "Nearest",
    "Neighbours",
    "Points",
]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Points: TypeAlias = "Floats | sparse.csr_array"


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
