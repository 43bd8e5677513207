"""Communities of a graph by Leiden's method: a number for each node, the largest community first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.communities.numbering import by_size
from analysis.graph.igraph_conversion import as_igraph, checked_weights, seeded

__all__ = ["Partition", "partition"]


@dataclass(frozen=True, eq=False)
class Partition:
    """The nodes of a graph, divided.

    Parameters
    ----------
    labels
        int64, (nodes,). The community of each node, 0 is the largest, ties to the one that
        holds the lowest node; -1 for nodes without an edge.
    modularity
        At resolution 1, with the weights given; None without an edge.
    """

    labels: NDArray[np.int64]
    modularity: float | None

    def __len__(self) -> int:
        return int(self.labels.max(initial=-1)) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Nodes in each community; (communities,)."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self))


def partition(
    graph: Any, *, weights: Sequence[float] | NDArray[np.float64] | None = None, seed: int = 0
) -> Partition:
    """Find communities: Leiden's method on modularity (Traag, Waltman & van Eck 2019), until it settles.

    Parameters
    ----------
    graph
        Undirected, of igraph or networkx, without loops or double edges.
    weights
        Of its edges, in their order, above 0; all alike if None.
    seed
        Of the order in which it moves nodes.

    Raises
    ------
    BadInput
        If the graph is directed, or has loops or double edges, or a weight is not above 0.
    """
    g = as_igraph(graph)
    given = checked_weights(g, weights)
    if not g.ecount():
        return Partition(np.full(g.vcount(), -1, dtype=np.int64), None)
    with seeded(seed):
        found = g.community_leiden(objective_function="modularity", weights=given, n_iterations=-1)
    raw = np.array(found.membership, dtype=np.int64)
    linked = np.array(g.degree(), dtype=np.int64) > 0
    labels = np.full(len(raw), -1, dtype=np.int64)
    labels[linked] = by_size(raw[linked])
    return Partition(labels, float(found.modularity))
