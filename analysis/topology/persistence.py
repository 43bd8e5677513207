"""Persistent homology of directions in angular distance, on landmarks, compared with nulls.

The statistic of a dimension is the ratio death / birth of its most persistent class [1]_. All
classes of H0 are born at 0, so that its statistic is the longest death divided by the median
death: high if there are clusters.

References
----------
.. [1] O. Bobrowski and P. Skraba, "A universal null-distribution for topological data analysis",
   2022, arXiv:2207.03926.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.direction_nulls import NULLS, draw_directions
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.permutation import max_statistic_p, permutation_p
from analysis.topology.extra import library
from analysis.topology.settings import TopologySettings

__all__ = [
    "ALL",
    "DIMENSIONS",
    "Persistence",
    "angles",
    "bottleneck_of_repeats",
    "compare_persistence",
    "farthest_points",
    "longest_ratio",
    "persistence_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSIONS = (0, 1, 2)
"""Dimensions of homology: clusters, loops, voids."""

ALL = "largest"
"""Name of the test of the largest statistic over the dimensions."""


@dataclass(frozen=True, eq=False)
class Persistence:
    """Persistence diagrams of repeats, and the statistic of each dimension.

    Parameters
    ----------
    diagrams
        For each repeat and dimension, float64 of shape (classes, 2): birth and death in
        radians; the death of a class that never dies is infinite.
    log_ratio
        float64, (dimensions,). Logarithm of the statistic, mean over repeats.
    """

    diagrams: list[list[Floats]]
    log_ratio: Floats


def angles(directions: Floats) -> Floats:
    """Return the angles between unit rows, in radians; (rows, rows)."""
    cosine = np.clip(directions @ directions.T, -1.0, 1.0)
    found: Floats = np.arccos(cosine)
    np.fill_diagonal(found, 0.0)
    return found


def farthest_points(directions: Floats, count: int, *, starts: Sequence[int]) -> Ints:
    """Return landmarks: each next one is the direction farthest from all landmarks so far.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    count
        Number of landmarks; all rows if there are fewer.
    starts
        The first landmark of each set. Sets share the passes over the directions.

    Returns
    -------
    int64, (sets, count). Landmarks in the order in which they are chosen.

    Examples
    --------
    >>> farthest_points(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), 2, starts=[0]).tolist()
    [[0, 2]]
    """
    count = min(count, len(directions))
    sets = np.arange(len(starts))
    chosen = np.empty((len(starts), count), dtype=np.int64)
    # The farthest angle is the lowest of the highest cosines.
    nearest = np.full((len(directions), len(starts)), -np.inf)
    for i in range(count):
        chosen[:, i] = starts if i == 0 else np.argmin(nearest, axis=0)
        np.maximum(nearest, directions @ directions[chosen[:, i]].T, out=nearest)
        nearest[chosen[:, i], sets] = np.inf
    return chosen


def longest_ratio(diagram: Floats, dimension: int) -> float:
    """Return the statistic of a diagram; 1 if it has no class that dies.

    Parameters
    ----------
    diagram
        float64, (classes, 2). Birth and death.
    dimension
        Dimension of homology; see the module.
    """
    finite = diagram[np.isfinite(diagram[:, 1])]
    if dimension == 0:
        deaths = finite[:, 1]
        median = float(np.median(deaths)) if len(deaths) else 0.0
        return float(deaths.max() / median) if median > 0 else 1.0
    finite = finite[finite[:, 0] > 0]
    return float((finite[:, 1] / finite[:, 0]).max(initial=1.0))


def persistence_of(directions: Floats, settings: TopologySettings) -> Persistence:
    """Compute the persistence diagrams of directions.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length; at least four.
    settings
        Numbers of landmarks and repeats, and the seed.

    Raises
    ------
    Missing
        If ripser is not installed.
    """
    rng = np.random.default_rng(settings.seed)
    starts = rng.integers(0, len(directions), settings.repeats).tolist()
    count = max(settings.landmarks, settings.void_landmarks)
    diagrams = [
        _diagrams(directions[order], settings)
        for order in farthest_points(directions, count, starts=starts)
    ]
    ratios = [[longest_ratio(one[k], k) for k in DIMENSIONS] for one in diagrams]
    return Persistence(diagrams, np.log(ratios).mean(axis=0))


def compare_persistence(
    directions: Floats, settings: TopologySettings, *, advance: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """Compare the statistics of directions with those of draws from the nulls.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length; at least four.
    settings
        Numbers of landmarks, repeats and draws, and the seed.
    advance
        Called after each draw.

    Yields
    ------
    dict
        For each null and dimension: ``null``, ``statistic`` (``H0``, ``H1``, ``H2``),
        ``observed``, ``null_mean``, ``null_low`` and ``null_high`` (2.5% and 97.5% quantiles) and
        the one-sided ``p``. For each null, one row more with the statistic ``largest``: the
        largest of the three in standard deviations, whose p corrects for their number.
    """
    observed = persistence_of(directions, settings).log_ratio
    for null in NULLS:
        drawn = draw_directions(directions, null, draws=settings.draws, seed=settings.seed)
        found = []
        for one in drawn:
            found.append(persistence_of(one, settings).log_ratio)
            advance()
        samples = np.stack(found)
        low, high = quantile_interval(samples)
        for k in DIMENSIONS:
            yield {
                "null": null,
                "statistic": f"H{k}",
                "observed": float(np.exp(observed[k])),
                "null_mean": float(np.exp(samples[:, k].mean())),
                "null_low": float(np.exp(low[k])),
                "null_high": float(np.exp(high[k])),
                "p": permutation_p(observed[k], samples[:, k]),
            }
        p, standardised = max_statistic_p(observed, samples)
        yield {"null": null, "statistic": ALL, "observed": float(standardised.max()), "p": p}


def bottleneck_of_repeats(diagrams: Sequence[Sequence[Floats]], dimension: int) -> float | None:
    """Return the mean bottleneck distance between the diagrams of repeats, in radians.

    None for a single repeat.

    Parameters
    ----------
    diagrams
        For each repeat and dimension, a diagram.
    dimension
        Dimension of homology.
    """
    bottleneck = library("persim").bottleneck
    finite = [one[dimension][np.isfinite(one[dimension][:, 1])] for one in diagrams]
    found = [
        # persim warns of empty diagrams; the distance of a class from none is half its length.
        bottleneck(a, b) if len(a) and len(b) else _half_longest(a, b)
        for a, b in combinations(finite, 2)
    ]
    return float(np.mean(found)) if found else None


def _half_longest(*diagrams: Floats) -> float:
    lengths = np.concatenate([np.diff(one, axis=1).ravel() for one in diagrams])
    return float(lengths.max(initial=0.0)) / 2


def _diagrams(landmarks: Floats, settings: TopologySettings) -> list[Floats]:
    """Return the diagrams of landmarks, which are in the order in which they were chosen."""
    ripser = library("ripser").ripser
    near = angles(landmarks[: settings.landmarks])
    found = ripser(near, maxdim=1, distance_matrix=True)["dgms"]
    few = angles(landmarks[: settings.void_landmarks])
    voids = ripser(few, maxdim=2, distance_matrix=True)["dgms"][2]
    return [np.asarray(one, dtype=np.float64).reshape(-1, 2) for one in (*found, voids)]
