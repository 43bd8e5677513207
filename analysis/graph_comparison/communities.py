"""Whether the communities of two graphs overlap under the matches: adjusted mutual information of their labels."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.communities.detection import agreement
from analysis.communities.leiden import partition
from analysis.graph_comparison.linked import Linked
from analysis.graph_comparison.matched_features import permuted

__all__ = ["communities", "jackknife", "overlap", "overlap_null", "own_overlap"]

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

_GROUPS = 20
_Z = 1.959964  # of a normal distribution, 95%


def communities(graph: Linked, *, runs: int, seed: int) -> list[Labels]:
    """Return the community of each node, -1 without an edge, by several runs of Leiden's method.

    Parameters
    ----------
    graph
        The graph; its weights count, where it has some.
    runs, seed
        How many, and the seed of the first; the others take the next ones.
    """
    return [partition(graph.graph, weights=graph.weight, seed=seed + i).labels for i in range(runs)]


def overlap(a: Sequence[Labels], b: Sequence[Labels]) -> float | None:
    """Return the adjusted mutual information of the communities of matched features, mean over runs.

    It is 0 on average where labels are shuffled and 1 where communities are the same. None
    where less than two features have an edge on both sides, or one side has but one community
    among these.

    Parameters
    ----------
    a, b
        A run each: labels of the matched features in either graph, (matches,); -1 without an edge.
    """
    return _mean([agreement(x, y) for x, y in zip(a, b, strict=True)])


def own_overlap(labels: Sequence[Labels]) -> float | None:
    """Return the same of every two runs on one graph: how far the method agrees with itself."""
    return _mean([agreement(x, y) for x, y in combinations(labels, 2)])


def overlap_null(
    pairs: Sequence[tuple[Sequence[Labels], Sequence[Labels]]],
    stratum: Labels,
    *,
    draws: int,
    seed: int,
) -> Floats:
    """Return the same with the matches permuted within strata; (draws,), NaN where there is none.

    A draw is one permutation of all matches, the same for all pairs of graphs and all runs: the
    mean over pairs is then as uncertain as the observed one. Features without an edge on one side
    are then excluded from each pair.

    Parameters
    ----------
    pairs
        Runs on A's graph and on B's, see ``overlap``; several pairs of graphs, such as one a
        halving, count as their mean.
    stratum
        int64, (matches,).
    draws, seed
        How often, and the seed.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        number = permuted(stratum, rng)
        found.append(_mean([overlap(a, [y[number] for y in b]) for a, b in pairs]))
    return np.array([np.nan if one is None else one for one in found])


def jackknife(a: Sequence[Labels], b: Sequence[Labels], *, seed: int) -> tuple[float, float] | None:
    """Return the 95% interval of the overlap over matched features, communities held fixed.

    A twentieth of the features is excluded at a time; drawing them with replacement would let
    copies of a feature agree with each other. None where there is no overlap.

    Parameters
    ----------
    a, b
        See ``overlap``.
    seed
        Of the division into twentieths.
    """
    whole = overlap(a, b)
    n = len(a[0])
    group = np.random.default_rng(seed).permutation(n) % _GROUPS
    without = [
        overlap([x[group != g] for x in a], [y[group != g] for y in b]) for g in range(_GROUPS)
    ]
    values = np.array([v for v in without if v is not None])
    if whole is None or n < _GROUPS or len(values) < _GROUPS:
        return None
    error = np.sqrt((_GROUPS - 1) * values.var())
    return float(whole - _Z * error), float(min(whole + _Z * error, 1.0))


def _mean(values: Sequence[float | None]) -> float | None:
    if not values or any(v is None for v in values):
        return None
    return float(np.mean([v for v in values if v is not None]))
