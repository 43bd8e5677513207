"""What the graph says of each of its nodes: how linked, how central, in which piece."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.communities.numbering import by_size
from analysis.graph.graph_statistics import EXACT_STEPS, SOURCES
from analysis.graph.igraph_conversion import as_igraph, checked_weights
from atlas.errors import BadInput

if TYPE_CHECKING:
    import igraph

__all__ = ["DAMPING", "NodeStatistics", "node_statistics"]

DAMPING = 0.85


@dataclass(frozen=True, eq=False)
class NodeStatistics:
    """Numbers of each node, in the order of the nodes; (nodes,) each.

    Parameters
    ----------
    degree
        int64. Nodes it is linked to.
    strength
        float64. Sum of the weights of its edges; the degree where no weights were given.
    clustering
        float64. Share of pairs of its neighbours that are linked; 0 below two neighbours.
    pagerank
        float64. PageRank with the weights; sums to 1.
    core
        int64. The largest k such that it belongs to a set of nodes with k edges each within.
    betweenness
        float64. Share of the pairs of other nodes whose shortest path leads over it, as
        networkx gives with ``normalized=True``: where a pair has several shortest paths, the
        share of these; pairs that no path joins count as pairs. Weights are not read. 0 below
        three nodes.
    component
        int64. Number of its connected component: 0 is the largest, ties to the one that holds
        the lowest node.
    sources
        From how many nodes shortest paths were walked.
    exact
        Whether these were all that have an edge; otherwise ``betweenness`` is an estimate.
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
    weights: NDArray[np.float64] | None = None,
    seed: int = 0,
    exact_steps: int = EXACT_STEPS,
    sources: int = SOURCES,
) -> NodeStatistics:
    """Compute the numbers of each node.

    Parameters
    ----------
    graph
        Undirected, of igraph or networkx, without loops or double edges.
    weights
        Of its edges, in their order, above 0; all 1 if None.
    seed
        Of the nodes that shortest paths are walked from.
    exact_steps
        Betweenness is exact up to so many linked nodes times edges.
    sources
        Beyond that, from how many nodes it is estimated; 2 or more.

    Raises
    ------
    BadInput
        If the graph is directed, or has loops or double edges, or a weight is not above 0.
    """
    g = as_igraph(graph)
    n = g.vcount()
    given = checked_weights(g, weights)
    degree = np.array(g.degree(), dtype=np.int64)
    component = np.array(g.connected_components(mode="weak").membership, dtype=np.int64)
    drawn, exact = _sources(degree, g.ecount(), seed=seed, exact_steps=exact_steps, sources=sources)
    return NodeStatistics(
        degree=degree,
        strength=np.array(g.strength(weights=given), dtype=np.float64),
        clustering=np.array(g.transitivity_local_undirected(mode="zero"), dtype=np.float64),
        pagerank=np.array(g.pagerank(weights=given, damping=DAMPING) if n else [], np.float64),
        core=np.array(g.coreness(), dtype=np.int64),
        betweenness=_betweenness(g, degree, drawn),
        component=by_size(component),
        sources=len(drawn),
        exact=exact,
    )


def _sources(
    degree: NDArray[np.int64], edges: int, *, seed: int, exact_steps: int, sources: int
) -> tuple[NDArray[np.int64], bool]:
    """Return the nodes to walk from: all that have an edge, or some of these drawn at random."""
    if sources < 2:
        raise BadInput(f"Betweenness is estimated from 2 nodes or more; {sources} was given.")
    linked = np.flatnonzero(degree)
    if len(linked) * edges <= exact_steps or len(linked) <= sources:
        return linked, True
    return np.random.default_rng(seed).choice(linked, size=sources, replace=False), False


def _betweenness(
    g: "igraph.Graph", degree: NDArray[np.int64], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return betweenness as a share of pairs, from the shortest paths that begin at some nodes.

    Paths that begin at a node itself do not lead over it. So each node is scaled by how many
    of the other linked nodes were drawn, which makes the estimate right in the mean.
    """
    n, linked = g.vcount(), int(np.sum(degree > 0))
    if n < 3 or not linked:
        return np.zeros(n)
    # igraph halves sums over ordered pairs, as the graph is undirected.
    over = 2 * np.array(g.betweenness(directed=False, sources=drawn.tolist()))
    walked = np.full(n, len(drawn))
    walked[drawn] -= 1
    share: NDArray[np.float64] = over * (linked - 1) / walked / ((n - 1) * (n - 2))
    return share
