"""Overlap of the communities of two graphs under feature matches (adjusted mutual information)."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.communities.detection import agreement
from analysis.communities.leiden import partition
from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.statistics.intervals import jackknife_interval
from analysis.statistics.nulls import permuted_within

__all__ = ["communities", "jackknife", "overlap", "overlap_null", "own_overlap"]

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

_GROUPS = 20


def communities(graph: CoactivationGraph, *, runs: int, seed: int) -> list[Labels]:
    """Detect communities with several runs of Leiden's method; -1 for nodes without an edge.

    Parameters
    ----------
    graph
        The graph, with or without weights.
    runs, seed
        Number of runs, and the seed of the first; later runs have consecutive seeds.
    """
    return [partition(graph.graph, weights=graph.weight, seed=seed + i).labels for i in range(runs)]


def overlap(a: Sequence[Labels], b: Sequence[Labels]) -> float | None:
    """Return the mean adjusted mutual information of communities of matched features over runs.

    It is 1 for equal communities and 0 on average for shuffled labels. The result is None if a
    side has fewer than two communities among the features with an edge on both sides.

    Parameters
    ----------
    a, b
        For each run, labels of the matched features in each graph, (matches,); -1 without an edge.
    """
    return _mean([agreement(x, y) for x, y in zip(a, b, strict=True)])


def own_overlap(labels: Sequence[Labels]) -> float | None:
    """Return the mean overlap of all pairs of runs on one graph, the ceiling of ``overlap``."""
    return _mean([agreement(x, y) for x, y in combinations(labels, 2)])


def overlap_null(
    pairs: Sequence[tuple[Sequence[Labels], Sequence[Labels]]],
    stratum: Labels,
    *,
    draws: int,
    seed: int,
) -> Floats:
    """Return the overlap with matches permuted within strata; (draws,), NaN if undefined.

    A draw is one permutation of all matches, shared by all pairs of graphs and all runs. The mean
    over pairs then has the same uncertainty as the observed mean. Features without an edge on
    one side are excluded from each pair after the permutation.

    Parameters
    ----------
    pairs
        Runs on A's graph and on B's, see ``overlap``. Several pairs of graphs, such as one per
        halving, are averaged.
    stratum
        int64, (matches,).
    draws, seed
        Number of draws, and the seed.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        number = permuted_within(stratum, rng)
        found.append(_mean([overlap(a, [y[number] for y in b]) for a, b in pairs]))
    return np.array([np.nan if one is None else one for one in found])


def jackknife(a: Sequence[Labels], b: Sequence[Labels], *, seed: int) -> tuple[float, float] | None:
    """Return the 95% jackknife interval of the overlap over matched features, or None.

    Communities are fixed, and a twentieth of the features is excluded at a time. A bootstrap
    would be biased, since copies of a feature agree with each other. None if the overlap is
    undefined.

    Parameters
    ----------
    a, b
        See ``overlap``.
    seed
        Seed of the split into twentieths.
    """
    complete = overlap(a, b)
    n = len(a[0])
    group = np.random.default_rng(seed).permutation(n) % _GROUPS
    without = [
        overlap([x[group != g] for x in a], [y[group != g] for y in b]) for g in range(_GROUPS)
    ]
    values = np.array([v for v in without if v is not None])
    if complete is None or n < _GROUPS or len(values) < _GROUPS:
        return None
    low, high = jackknife_interval(complete, values)
    return low, min(high, 1.0)


def _mean(values: Sequence[float | None]) -> float | None:
    if not values or any(v is None for v in values):
        return None
    return float(np.mean([v for v in values if v is not None]))
