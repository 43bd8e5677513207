"""Statistics of each node: degree, strength, clustering, centrality, core and component."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.communities.leiden import by_size
from analysis.graph.graph_statistics import EXACT_STEPS, SOURCES
from analysis.graph.igraph_conversion import as_igraph, checked_weights
from atlas.errors import BadInput

if TYPE_CHECKING:
    import igraph

__all__ = ["DAMPING", "NodeStatistics", "node_statistics"]

DAMPING = 0.85


@dataclass(frozen=True, eq=False)
class NodeStatistics:
    """Statistics of each node, in the order of the nodes; (nodes,) each.

    Parameters
    ----------
    degree
        int64. Number of neighbours.
    strength
        float64. Sum of the weights of its edges; the degree if there are no weights.
    clustering
        float64. Share of pairs of its neighbours with an edge; 0 for fewer than two neighbours.
    pagerank
        float64. Weighted PageRank; sums to 1.
    core
        int64. Core number: the largest k such that the node is in the k-core.
    betweenness
        float64. Share of shortest paths between other nodes that pass through the node, averaged
        over pairs, as in networkx with ``normalized=True``. Unconnected pairs count as 0.
        Weights are ignored. 0 for fewer than three nodes.
    component
        int64. Number of its connected component, in descending order of size; ties are in order
        of the lowest node.
    sources
        Number of nodes from which shortest paths were computed.
    exact
        Whether these are all nodes with an edge; otherwise ``betweenness`` is an estimate.
    """

    degree: NDArray[np.int64]
    strength: NDArray[np.float64]
    clustering: NDArray[np.float64]
    pagerank: NDArray[np.float64]
    core: NDArray[np.int64]
    betweenness: NDArray[np.float64]
    component: NDArray[np.int64]
    sources: int
    exact: bool


def node_statistics(
    graph: Any,
    *,
    weights: str | NDArray[np.float64] | None = None,
    seed: int = 0,
    exact_steps: int = EXACT_STEPS,
    sources: int = SOURCES,
) -> NodeStatistics:
    """Compute the statistics of each node.

    Parameters
    ----------
    graph
        An undirected graph of igraph or networkx, without loops or multiple edges.
    weights
        Edge weights above 0, in the order of the edges, or the name of an edge attribute;
        None for all 1. Attributes of edges are not used unless they are named.
    seed
        Seed of the sampled sources of shortest paths.
    exact_steps
        Largest linked nodes × edges for exact betweenness.
    sources
        Number of sampled source nodes beyond that; 2 or more.

    Raises
    ------
    BadInput
        If the graph is directed, has loops or multiple edges, or a weight is not above 0.
    """
    g = as_igraph(graph)
    n = g.vcount()
    values = checked_weights(graph, weights)
    degree = np.array(g.degree(), dtype=np.int64)
    component = np.array(g.connected_components(mode="weak").membership, dtype=np.int64)
    chosen, exact = _sources(
        degree, g.ecount(), seed=seed, exact_steps=exact_steps, sources=sources
    )
    return NodeStatistics(
        degree=degree,
        strength=np.array(g.strength(weights=values), dtype=np.float64),
        clustering=np.array(g.transitivity_local_undirected(mode="zero"), dtype=np.float64),
        pagerank=np.array(g.pagerank(weights=values, damping=DAMPING) if n else [], np.float64),
        core=np.array(g.coreness(), dtype=np.int64),
        betweenness=_betweenness(g, degree, chosen),
        component=by_size(component),
        sources=len(chosen),
        exact=exact,
    )


def _sources(
    degree: NDArray[np.int64], edges: int, *, seed: int, exact_steps: int, sources: int
) -> tuple[NDArray[np.int64], bool]:
    """Return the source nodes of shortest paths: all nodes with an edge, or a random sample."""
    if sources < 2:
        raise BadInput(f"sources is {sources}; betweenness needs 2 source nodes or more.")
    linked = np.flatnonzero(degree)
    if len(linked) * edges <= exact_steps or len(linked) <= sources:
        return linked, True
    return np.random.default_rng(seed).choice(linked, size=sources, replace=False), False


def _betweenness(
    g: "igraph.Graph", degree: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Estimate betweenness as a share of pairs, from the shortest paths from some nodes.

    A path does not pass through its own start. Each node is therefore scaled by the number of
    other sources, which makes the estimate unbiased.
    """
    n, linked = g.vcount(), int(np.sum(degree > 0))
    if n < 3 or not linked:
        return np.zeros(n)
    # igraph halves sums over ordered pairs in undirected graphs.
    over = 2 * np.array(g.betweenness(directed=False, sources=chosen.tolist()))
    walked = np.full(n, len(chosen))
    walked[chosen] -= 1
    share: NDArray[np.float64] = over * (linked - 1) / walked / ((n - 1) * (n - 2))
    return share
