"""How well a map preserves the neighbours of the full space, and agrees with another map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree, procrustes

from analysis.statistics.directions import Rows, cosine_blocks

__all__ = ["Quality", "agreement", "nearest_points", "overlap", "quality", "trustworthiness"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

#: Rows whose ranks are computed, at most; a seeded sample of more rows.
SAMPLE = 4096


@dataclass(frozen=True)
class Quality:
    """The quality of a map.

    Parameters
    ----------
    trustworthiness
        Trustworthiness (Venna & Kaski 2001); 1 is perfect. None for fewer than four points.
    overlap
        Mean share of a feature's nearest points that are also its nearest features in the full
        space.
    chance
        The overlap that random positions have.
    """

    trustworthiness: float | None
    overlap: float | None
    chance: float | None


def quality(rows: Rows, points: Floats, near: Ints, *, k: int, seed: int = 0) -> Quality:
    """Compute the quality of a map.

    Parameters
    ----------
    rows
        Unit rows: the full space, with cosine distance.
    points
        float64, (rows, 2). The map.
    near
        int64, (rows, k or more). Nearest rows in the full space.
    k
        Number of neighbours.
    seed
        Seed of the sample of rows for the trustworthiness.
    """
    n = len(points)
    k = min(k, n - 1)
    if k < 1:
        return Quality(None, None, None)
    drawn = nearest_points(points, k=k)
    return Quality(
        trustworthiness(rows, drawn, seed=seed), overlap(near[:, :k], drawn), k / (n - 1)
    )


def trustworthiness(rows: Rows, drawn: Ints, *, most: int = SAMPLE, seed: int = 0) -> float | None:
    """Return the trustworthiness of a map, with cosine distance in the full space.

    The definition is that of ``sklearn.manifold.trustworthiness``. Rows at equal distance share
    the best rank. Memory does not grow with the square of the rows.

    Parameters
    ----------
    rows
        Unit rows: the full space.
    drawn
        int64, (rows, k). The nearest points of each point of the map.
    most
        Number of rows whose neighbours are compared: a random sample if there are more.
    seed
        Seed of the sample.

    Returns
    -------
    float or None
        None if k is not below half the number of rows, for which it is not defined.
    """
    n, k = drawn.shape
    if not 0 < k < n / 2:
        return None
    chosen = np.arange(n)
    if n > most:
        chosen = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    penalty = 0
    for start, block in cosine_blocks(rows[chosen], rows):
        own = chosen[start : start + len(block)]
        here = np.arange(len(block))
        block[here, own] = -np.inf
        ordered = np.sort(block, axis=1)
        for row, cosines, sorted_cosines in zip(own, block, ordered, strict=True):
            wanted = cosines[drawn[row]]
            rank = n - np.searchsorted(sorted_cosines, wanted, side="right") + 1
            penalty += int(np.maximum(rank - k, 0).sum())
    return float(1.0 - 2.0 * penalty / (len(chosen) * k * (2 * n - 3 * k - 1)))


def overlap(one: Ints, two: Ints) -> float | None:
    """Return the mean share of neighbours that two lists of neighbours have in common.

    Parameters
    ----------
    one, two
        int64, (rows, k). Neighbours of each row; -1 for none.
    """
    n, k = one.shape
    if not n or not k:
        return None
    size = max(int(one.max()), int(two.max())) + 1
    first, second = (_membership(each, size) for each in (one, two))
    shared: NDArray[np.int64] = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    return float(shared.mean() / k)


def _membership(near: Ints, size: int) -> sparse.csr_array:
    row, column = np.nonzero(near >= 0)
    ones = np.ones(len(row), dtype=np.int64)
    return sparse.csr_array((ones, (row, near[row, column])), shape=(len(near), size))


def agreement(maps: Sequence[Floats], *, k: int) -> tuple[float | None, float | None]:
    """Compare the first map with maps of other seeds.

    Parameters
    ----------
    maps
        float64, (points, 2) each.
    k
        Number of neighbours.

    Returns
    -------
    correlation, overlap
        Means over the other maps: the Procrustes correlation, sqrt(1 - disparity) of
        ``scipy.spatial.procrustes``, and the share of common nearest points. None without other
        maps, or if all points of a map are equal.
    """
    if len(maps) < 2 or len(maps[0]) < 3 or not all(np.ptp(one, axis=0).any() for one in maps):
        return None, None
    first, *others = maps
    near = nearest_points(first, k=k)
    correlations = [np.sqrt(max(1.0 - procrustes(first, other)[2], 0.0)) for other in others]
    overlaps = [overlap(near, nearest_points(other, k=k)) or 0.0 for other in others]
    return float(np.mean(correlations)), float(np.mean(overlaps))


def nearest_points(points: Floats, *, k: int) -> Ints:
    """Return the k nearest other points of each point of a map, nearest first.

    Parameters
    ----------
    points
        float64, (points, 2).
    k
        Number of neighbours, at most points - 1.
    """
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
