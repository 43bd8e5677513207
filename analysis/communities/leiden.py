"""Community detection with Leiden's method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.graph.igraph_conversion import as_igraph, checked_weights, seeded

__all__ = ["Partition", "by_size", "partition"]


def by_size(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups in descending order of size; ties are in order of the lowest node.

    Parameters
    ----------
    groups
        (nodes,). The group of each node; any integers.
    """
    _, first, back, size = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[back]


@dataclass(frozen=True, eq=False)
class Partition:
    """A partition of the nodes of a graph into communities.

    Parameters
    ----------
    labels
        int64, (nodes,). The community of each node, in descending order of size; ties are in order
        of the lowest node. -1 for nodes without an edge.
    modularity
        Weighted modularity at resolution 1; None for a graph without edges.
    """

    labels: NDArray[np.int64]
    modularity: float | None

    def __len__(self) -> int:
        return int(self.labels.max(initial=-1)) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of nodes in each community; (communities,)."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self))


def partition(
    graph: Any,
    *,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Partition:
    """Maximize modularity with Leiden's method (Traag, Waltman & van Eck 2019) until convergence.

    Parameters
    ----------
    graph
        An undirected graph of igraph or networkx, without loops or multiple edges.
    weights
        Edge weights above 0, in the order of the edges, or the name of an edge attribute;
        None for equal weights. Attributes of edges are not used unless they are named.
    seed
        Seed of the order in which nodes are moved.

    Raises
    ------
    BadInput
        If the graph is directed, has loops or multiple edges, or a weight is not above 0.

    Examples
    --------
    >>> import networkx
    >>> graph = networkx.Graph([(0, 1, {"weight": 9}), (1, 2, {"weight": 1}), (2, 3, {"weight": 9})])
    >>> partition(graph, weights="weight").labels.tolist()
    [0, 0, 1, 1]
    """
    g = as_igraph(graph)
    values = checked_weights(graph, weights)
    if not g.ecount():
        return Partition(np.full(g.vcount(), -1, dtype=np.int64), None)
    with seeded(seed):
        found = g.community_leiden(objective_function="modularity", weights=values, n_iterations=-1)
    raw = np.array(found.membership, dtype=np.int64)
    linked = np.array(g.degree(), dtype=np.int64) > 0
    labels = np.full(len(raw), -1, dtype=np.int64)
    labels[linked] = by_size(raw[linked])
    return Partition(labels, float(found.modularity))
