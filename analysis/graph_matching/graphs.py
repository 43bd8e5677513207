"""The graph type of matching: weighted edges and node frequencies."""

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
    """An undirected weighted graph.

    Parameters
    ----------
    pairs
        int64, (edges, 2). Unique edges, without loops.
    weight
        float64, (edges,). Weights above 0: tokens with both nodes among the most active.
    active
        int64, (nodes,). Number of active tokens of each node; live nodes have at least 1.
    tokens
        Number of tokens.
    """

    pairs: NDArray[np.int64]
    weight: NDArray[np.float64]
    active: NDArray[np.int64]
    tokens: int

    def __len__(self) -> int:
        return len(self.active)

    @cached_property
    def matrix(self) -> csr_array:
        """float64, (nodes, nodes). The symmetric weight matrix."""
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
        """Transition probabilities of the random walk: rows of ``matrix`` divided by their sums."""
        return csr_array(
            self.matrix.multiply(1 / np.where(self.strength > 0, self.strength, 1)[:, None])
        )

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """int64, ascending. The live nodes."""
        return np.flatnonzero(self.active > 0)

    def igraph(self) -> "igraph.Graph":
        """Convert the graph to igraph."""
        import igraph

        return igraph.Graph(n=len(self), edges=self.pairs)

    def relabelled(self, label: NDArray[np.int64]) -> "NodeGraph":
        """Relabel node i as ``label[i]``."""
        active = np.empty_like(self.active)
        active[label] = self.active
        return NodeGraph(label[self.pairs], self.weight, active, self.tokens)

    def among(self, nodes: NDArray[np.int64]) -> "NodeGraph":
        """Return the subgraph induced by ``nodes``, in their order."""
        number = np.full(len(self), -1, dtype=np.int64)
        number[nodes] = np.arange(len(nodes))
        inner = (number[self.pairs] >= 0).all(axis=1)
        return NodeGraph(
            number[self.pairs[inner]], self.weight[inner], self.active[nodes], self.tokens
        )


def graph_of_membership(membership: Membership, *, min_count: int = 1) -> NodeGraph:
    """Build the co-activation graph from the most active features of each token."""
    pairs, count = edges(membership, min_count=min_count)
    return NodeGraph(pairs, count.astype(np.float64), membership.active, len(membership))


def node_graph(graph: Any, *, active: NDArray[np.int64] | None = None) -> NodeGraph:
    """Convert a graph of igraph or networkx, with nodes in the same order.

    Parameters
    ----------
    graph
        The graph. In igraph, the edge attribute ``count`` is the weight; otherwise weights are 1.
    active
        int64, (nodes,). Number of active tokens of each node; None for 1.

    Raises
    ------
    BadInput
        If it is not a graph, is directed, or has loops or multiple edges. Also if a weight is not
        above 0, or ``active`` does not have one number per node.
    """
    g = as_igraph(graph)
    ends = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    weight = np.asarray(
        g.es["count"] if "count" in g.es.attributes() else np.ones(len(ends)), dtype=np.float64
    )
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise BadInput(
            "The `count` of an edge is not above 0. Set it to a number above 0, or remove the edge."
        )
    active = np.ones(g.vcount(), dtype=np.int64) if active is None else np.asarray(active)
    if active.shape != (g.vcount(),):
        raise BadInput(
            f"The graph has {g.vcount()} nodes, but `active` has the shape {active.shape}; expected one "
            "number per node."
        )
    return NodeGraph(ends, weight, active, int(active.max(initial=1)))
