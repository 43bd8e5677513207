"""Nulls: features swapped between tokens, edges swapped, and permutations within strata.

The bipartite null (``swapped``) preserves the counts of tokens and features, the degree-preserving
null (``rewired``) the degree of each node, and ``permuted_within`` what a stratum has in common.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.graph.igraph_conversion import as_igraph, seeded
from ingest.codes.topk_membership import Membership
from ingest.compilation import compiled

if TYPE_CHECKING:
    import igraph

__all__ = [
    "SWAPS",
    "movable",
    "permuted_within",
    "rewired",
    "rewired_bytes",
    "rewired_edges",
    "strata",
    "swapped",
]

Ints = NDArray[np.int64]

#: Attempted swaps per entry of the table. On the demo, the edges and clustering of the null and
#: the share of unmoved entries are stable from 2 on.
SWAPS = 5

# Attempted swaps per edge before the first rewired graph, and between two of them.
_FIRST_SWAPS = 10
_NEXT_SWAPS = 5

# Most nodes whose pairs are marked in one byte each while edges are swapped: 64 MiB.
_MARKED = 8192

_HELD = 5  # smallest mean number of items per stratum
_ORDERS = 20  # smallest number of permutations for p = 0.05


def swapped(
    membership: Membership, seed: int, *, within_documents: bool, swaps: int = SWAPS
) -> Membership:
    """Draw a random table with the same count for every token and every feature.

    A swap takes one entry, feature i of token s, and a random second entry, feature j of token
    t. It moves j to s and i to t, unless either token has that feature already. Every swap is
    as likely as its reverse, and a refused swap counts as a step. After many steps, all tables
    with these counts are therefore equally likely. Features become independent of each other
    given their counts, so the remaining graph structure is due to the counts alone.

    Parameters
    ----------
    membership
        The table.
    seed
        Seed of the draw.
    within_documents
        Swap only between tokens of the same document. Each feature then also has a fixed count
        in every document, so the null preserves the topics of documents.
    swaps
        Attempted swaps per entry of the table.

    Returns
    -------
    Membership
        The drawn table, with ``active`` of the input.
    """
    m = membership
    entries = len(m.features)
    if not entries:
        return m
    row = np.repeat(np.arange(len(m), dtype=np.int32), np.diff(m.indptr))
    first = np.ones(len(m), dtype=np.bool_)
    first[1:] = (m.document[1:] != m.document[:-1]) & within_documents
    group = (np.cumsum(first) - 1).astype(np.int32)
    begin = np.append(m.indptr[:-1][first], entries)
    features = m.features.copy()
    rng = np.random.default_rng(seed)
    _swap_all(rng, features, swaps, m.indptr, row, group, begin)
    _sort_rows(features, m.indptr)
    return replace(m, features=features)


def rewired(graph: Any, *, seed: int) -> Iterator["igraph.Graph"]:
    """Yield random simple graphs with the degrees of a graph, by igraph's rewiring.

    A swap replaces edges a–b and c–d by a–d and c–b, unless one of these exists or is a loop.
    A refused swap counts as a step, so after many steps all graphs with these degrees are
    equally likely. The first graph is ten attempted swaps per edge from the input, and each
    next one is five from the previous one. The iterator has no end.

    Parameters
    ----------
    graph
        An undirected graph of igraph or networkx, without loops or multiple edges. With fewer
        than two edges, it is yielded unchanged.
    seed
        Seed of the swaps.

    Examples
    --------
    >>> import networkx
    >>> drawn = next(rewired(networkx.path_graph(5), seed=0))
    >>> sorted(drawn.degree())
    [1, 1, 2, 2, 2]
    """
    current = as_igraph(graph).copy()
    generator = random.Random(seed)
    swaps = _FIRST_SWAPS
    while True:
        if current.ecount() > 1:
            with seeded(generator):
                current.rewire(n=swaps * current.ecount())
        yield current.copy()
        swaps = _NEXT_SWAPS


def rewired_edges(ends: Ints, *, nodes: int, seed: int) -> Iterator[Ints]:
    """Yield the edges of random simple graphs with the degrees of a graph.

    The chain is that of ``rewired``. Edges are arrays and pairs of nodes are marked in memory, so
    that a swap costs two reads; above 8,192 nodes, igraph swaps.

    Parameters
    ----------
    ends
        int64, (edges, 2). The edges, without loops or multiple edges. Fewer than two are yielded
        unchanged.
    nodes
        Number of nodes.
    seed
        Seed of the swaps.

    Yields
    ------
    ends
        int64, (edges, 2), in no order and with no order of the ends.

    Examples
    --------
    >>> ends = np.array([[0, 1], [1, 2], [2, 3]])
    >>> np.bincount(next(rewired_edges(ends, nodes=4, seed=0)).ravel()).tolist()
    [1, 2, 2, 1]
    """
    if nodes > _MARKED:
        import igraph

        for graph in rewired(igraph.Graph(n=nodes, edges=ends), seed=seed):
            yield np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    current = np.array(ends, dtype=np.int64).reshape(-1, 2)
    joined = np.zeros((nodes, nodes), dtype=np.bool_)
    joined[current[:, 0], current[:, 1]] = joined[current[:, 1], current[:, 0]] = True
    rng = np.random.default_rng(seed)
    swaps = _FIRST_SWAPS
    while True:
        if len(current) > 1:
            _swap_edges(rng, current, joined, swaps * len(current))
        yield current.copy()
        swaps = _NEXT_SWAPS


def rewired_bytes(nodes: int) -> int:
    """Return the bytes of the marks of ``rewired_edges``, which it holds until it is closed.

    Parameters
    ----------
    nodes
        Number of nodes.

    Examples
    --------
    >>> rewired_bytes(1000)
    1000000
    """
    return nodes**2 if nodes <= _MARKED else 0


def strata(frequency: Ints, degree: Ints, *, frequency_bins: int, degree_bins: int) -> Ints:
    """Divide features by quantiles of frequency, and within each by quantiles of degree.

    Parameters
    ----------
    frequency, degree
        (features,) each.
    frequency_bins, degree_bins
        Number of quantiles. It is reduced, first for degree, if strata would have fewer than
        about five features on average, since a single feature in a stratum cannot move.

    Returns
    -------
    stratum
        int64, (features,). The stratum of each feature.
    """
    few = len(frequency) / _HELD
    degree_bins = max(1, min(degree_bins, round(few / frequency_bins)))
    frequency_bins = max(1, min(frequency_bins, round(few / degree_bins)))
    outer = _quantile(frequency, frequency_bins)
    stratum = np.zeros(len(frequency), dtype=np.int64)
    for one in np.unique(outer):
        here = outer == one
        stratum[here] = one * degree_bins + _quantile(degree[here], degree_bins)
    return stratum


def movable(stratum: Ints) -> bool:
    """Return whether permutations within strata are a valid test.

    They are not valid if most features are alone in their stratum, or if there are fewer than
    twenty permutations, since matches then hardly change.

    Parameters
    ----------
    stratum
        int64, (features,).
    """
    _, size = np.unique(stratum, return_counts=True)
    orders = math.prod(min(math.factorial(min(n, _ORDERS)), _ORDERS) for n in size.tolist())
    return bool(2 * np.sum(size == 1) <= len(stratum)) and orders >= _ORDERS


def permuted_within(stratum: Ints, rng: np.random.Generator) -> Ints:
    """Draw a permutation within strata; (features,)."""
    order = np.argsort(stratum, kind="stable")
    found = np.empty(len(stratum), dtype=np.int64)
    found[order] = np.lexsort((rng.random(len(stratum)), stratum))
    return found


def _quantile(values: Ints, bins: int) -> Ints:
    """Return the quantile of each value; tied values are in the same one."""
    share = (rankdata(values) - 0.5) / max(len(values), 1)
    return np.minimum((share * bins).astype(np.int64), bins - 1)


@compiled
def _swap_all(
    rng: np.random.Generator,
    features: NDArray[np.int32],
    swaps: int,
    indptr: NDArray[np.int64],
    row: NDArray[np.int32],
    group: NDArray[np.int32],
    begin: NDArray[np.int64],
) -> None:
    entries = len(features)
    for step in range(swaps * entries):
        # Visiting the first entries in order leaves the null unchanged and reads memory in order.
        d = step % entries
        s = row[d]
        a, b = begin[group[s]], begin[group[s] + 1]
        e = a + int(rng.random() * (b - a))
        t = row[e]
        i, j = features[d], features[e]
        if s == t or i == j:
            continue
        duplicate = False
        for p in range(indptr[s], indptr[s + 1]):
            duplicate |= features[p] == j
        for p in range(indptr[t], indptr[t + 1]):
            duplicate |= features[p] == i
        if not duplicate:
            features[d], features[e] = j, i


@compiled
def _swap_edges(
    rng: np.random.Generator, ends: Ints, joined: NDArray[np.bool_], steps: int
) -> None:
    edges = len(ends)
    for _ in range(steps):
        d, e = int(rng.random() * edges), int(rng.random() * edges)
        # Each way to pair the four ends is as likely as its reverse.
        side = 1 if rng.random() < 0.5 else 0
        a, b = ends[d, 0], ends[d, 1]
        f, g = ends[e, side], ends[e, 1 - side]
        if a == g or f == b or joined[a, g] or joined[f, b]:
            continue
        joined[a, b] = joined[b, a] = joined[f, g] = joined[g, f] = False
        joined[a, g] = joined[g, a] = joined[f, b] = joined[b, f] = True
        ends[d, 1] = g
        ends[e, side], ends[e, 1 - side] = f, b


@compiled
def _sort_rows(features: NDArray[np.int32], indptr: NDArray[np.int64]) -> None:
    for t in range(len(indptr) - 1):
        features[indptr[t] : indptr[t + 1]].sort()
