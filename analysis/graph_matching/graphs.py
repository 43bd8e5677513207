"""The graph type of matching: weighted edges and node frequencies."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri
from scipy.stats import rankdata

from analysis.graph.igraph_conversion import as_igraph
from analysis.graph_matching.settings import Standard
from atlas.errors import BadInput
from ingest.codes.topk_membership import Membership, edges

if TYPE_CHECKING:
    import igraph

__all__ = [
    "STATISTICS",
    "NodeGraph",
    "embedded",
    "graph_of_membership",
    "local",
    "node_graph",
    "propagated",
    "unit",
]


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


Floats: TypeAlias = NDArray[np.float64]
Number = TypeVar("Number", bound=np.floating)

STATISTICS = (
    "log degree", "log strength", "clustering", "log core number", "log pagerank",
    "mean log degree of neighbours", "its standard deviation", "its mean by weight",
    "entropy of weights", "largest share of strength",
)  # fmt: skip
"""The statistics of a node in ``local``.

Strength is nearly proportional to the number of tokens with the node among the most active.
"""

# Shrinkage of the covariance: share of the mean eigenvalue added to each eigenvalue.
_SHRINK = 0.3

# Largest rounding residual of equal numbers minus their mean, also in single precision.
_NOTHING = 1e-5

# Significant digits; further digits depend on the order of summation.
_DIGITS = 9


def local(graph: NodeGraph) -> Floats:
    """Compute the statistics of each node; (nodes, ``len(STATISTICS)``)."""
    g, weights, steps = graph.igraph(), graph.matrix, graph.steps
    degree = np.diff(weights.indptr).astype(np.float64)
    log_degree = np.log1p(degree)
    evenly = csr_array((np.repeat(1 / np.maximum(degree, 1), np.diff(weights.indptr)),
                        weights.indices, weights.indptr), shape=weights.shape)  # fmt: skip
    mean = evenly @ log_degree
    variance = evenly @ log_degree**2 - mean**2
    surprise = csr_array(
        (-steps.data * np.log(steps.data), steps.indices, steps.indptr), steps.shape
    )
    columns = [
        log_degree,
        np.log1p(graph.strength),
        g.transitivity_local_undirected(mode="zero"),
        np.log1p(g.coreness()),
        np.log(g.pagerank()),
        mean,
        np.sqrt(np.maximum(variance, 0)),
        steps @ log_degree,
        np.asarray(surprise.sum(axis=1)),
        steps.max(axis=1).toarray().ravel(),
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def propagated(
    graph: NodeGraph, *, depth: int, standard: Standard, frequency: bool = False
) -> Floats:
    """Compute the statistics of nodes and their repeated means over neighbours.

    Parameters
    ----------
    graph
        The graph.
    depth
        Number of times that weighted means over neighbours are taken; 0 for the statistics of the
        nodes only.
    standard
        Standardization of each column over live nodes, before the next mean.
    frequency
        Whether to include the logarithm of the number of active tokens.

    Returns
    -------
    float64, (nodes, columns); 0 for nodes that are not live.
    """
    columns = local(graph)
    if frequency:
        columns = np.column_stack([columns, np.log(np.maximum(graph.active, 1))])
    found = [_standardised(columns, graph.live, standard)]
    for _ in range(depth):
        found.append(_standardised(graph.steps @ found[-1], graph.live, standard))
    return np.concatenate(found, axis=1)


def embedded(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return whitened unit vectors of the live nodes of two graphs.

    Whitening uses the shrunk common covariance of both graphs. Without it, correlated statistics
    such as degree, strength and core number would count several times.
    """
    both = np.concatenate([a, b])
    values, axes = np.linalg.eigh(np.cov(both, rowvar=False)) if len(both) > 1 else (None, None)
    if values is None or values.max() <= 0:
        return np.zeros_like(a), np.zeros_like(b)
    turn = axes / np.sqrt(np.maximum(values, 0) + _SHRINK * values.mean())
    return unit(a @ turn), unit(b @ turn)


def unit(rows: NDArray[Number]) -> NDArray[Number]:
    """Normalize rows to unit length, in their own precision; zero rows are unchanged."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    by = np.where(length > _NOTHING, length, 1).astype(rows.dtype)
    return cast("NDArray[Number]", rows / by)


def _standardised(columns: Floats, live: NDArray[np.int64], standard: Standard) -> Floats:
    out = np.zeros_like(columns)
    if not len(live):
        return out
    some = columns[live]
    scale = np.abs(some).max(axis=0)
    some = np.round(some / np.where(scale > 0, scale, 1), _DIGITS)
    if standard == "normal":
        out[live] = ndtri((rankdata(some, axis=0) - 0.5) / len(live))
    else:
        spread = np.where(np.ptp(some, axis=0) > 0, some.std(axis=0), 1)
        centred = np.where(np.ptp(some, axis=0) > 0, some - some.mean(axis=0), 0)
        out[live] = centred / spread
    return out
