"""A graph in which counterparts are searched: weighted edges, and how often each node is active."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.graph.igraph_conversion import as_igraph
from atlas.errors import BadInput
from ingest.codes.topk_membership import Membership, edges

if TYPE_CHECKING:
    import igraph

__all__ = ["NodeGraph", "graph_of_membership", "node_graph"]


@dataclass(frozen=True, eq=False)
class NodeGraph:
    """A graph without direction.

    Parameters
    ----------
    pairs
        int64, (edges, 2). Its edges; no loops, none twice.
    weight
        float64, (edges,). Their weights, above 0: tokens on which both were among the most active.
    active
        int64, (nodes,). How often each node is active; it is live if it ever is.
    tokens
        Of so many tokens.
    """

    pairs: NDArray[np.int64]
    weight: NDArray[np.float64]
    active: NDArray[np.int64]
    tokens: int

    def __len__(self) -> int:
        return len(self.active)

    @cached_property
    def matrix(self) -> csr_array:
        """float64, (nodes, nodes). The weights, both ways."""
        one, two = self.pairs.T
        ends = np.concatenate([one, two]), np.concatenate([two, one])
        return csr_array(
            (np.concatenate([self.weight, self.weight]), ends), shape=(len(self), len(self))
        )

    @cached_property
    def strength(self) -> NDArray[np.float64]:
        """float64, (nodes,). Sum of the weights of each node's edges."""
        return np.asarray(self.matrix.sum(axis=1), dtype=np.float64)

    @cached_property
    def steps(self) -> csr_array:
        """The random walk: each row of ``matrix`` divided by its sum."""
        return csr_array(
            self.matrix.multiply(1 / np.where(self.strength > 0, self.strength, 1)[:, None])
        )

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """int64, ascending. Nodes that are ever active."""
        return np.flatnonzero(self.active > 0)

    def igraph(self) -> "igraph.Graph":
        """Return it as igraph holds it."""
        import igraph

        return igraph.Graph(n=len(self), edges=self.pairs)

    def relabelled(self, label: NDArray[np.int64]) -> "NodeGraph":
        """Return the same graph, node i named ``label[i]``."""
        active = np.empty_like(self.active)
        active[label] = self.active
        return NodeGraph(label[self.pairs], self.weight, active, self.tokens)

    def among(self, nodes: NDArray[np.int64]) -> "NodeGraph":
        """Return the graph of some nodes and the edges among them; node i is ``nodes[i]``."""
        number = np.full(len(self), -1, dtype=np.int64)
        number[nodes] = np.arange(len(nodes))
        inner = (number[self.pairs] >= 0).all(axis=1)
        return NodeGraph(
            number[self.pairs[inner]], self.weight[inner], self.active[nodes], self.tokens
        )


def graph_of_membership(membership: Membership, *, min_count: int = 1) -> NodeGraph:
    """Make the co-activation graph of a table of tokens and their most active features."""
    pairs, count = edges(membership, min_count=min_count)
    return NodeGraph(pairs, count.astype(np.float64), membership.active, len(membership))


def node_graph(graph: Any, *, active: NDArray[np.int64] | None = None) -> NodeGraph:
    """Take a plain graph of igraph or networkx, nodes in its own order.

    Parameters
    ----------
    graph
        The graph. In igraph, an edge attribute ``count`` is its weight; else all weigh 1.
    active
        int64, (nodes,). How often each node is active; all are live and equal if None.

    Raises
    ------
    BadInput
        If it is no graph, directed, or has loops or double edges, a weight is not above 0, or
        ``active`` is not one a node.
    """
    g = as_igraph(graph)
    ends = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    weight = np.asarray(
        g.es["count"] if "count" in g.es.attributes() else np.ones(len(ends)), dtype=np.float64
    )
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise BadInput(
            "An edge's `count` is not above 0; leave out edges of no weight, and give each other its own."
        )
    active = np.ones(g.vcount(), dtype=np.int64) if active is None else np.asarray(active)
    if active.shape != (g.vcount(),):
        raise BadInput(
            f"The graph has {g.vcount()} nodes, and `active` has the shape {active.shape}; one number a "
            "node is expected."
        )
    return NodeGraph(ends, weight, active, int(active.max(initial=1)))
