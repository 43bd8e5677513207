"""A graph as arrays: its edges, their weights, and the numbers of its features that distances compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.graph.igraph_conversion import as_igraph
from atlas.errors import BadInput

if TYPE_CHECKING:
    import igraph

__all__ = ["Linked"]


@dataclass(frozen=True, eq=False)
class Linked:
    """An undirected graph.

    Parameters
    ----------
    nodes
        How many; features without an edge count.
    pairs
        int64, (edges, 2). Lower node first.
    weight
        float64, (edges,). None for a graph without weights.
    """

    nodes: int
    pairs: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, graph: Any, *, weight: NDArray[np.float64] | None = None) -> "Linked":
        """Take a graph of igraph or networkx, nodes and edges in its order.

        Parameters
        ----------
        graph
            Undirected, without loops or double edges.
        weight
            Of its edges.

        Raises
        ------
        BadInput
            If it is no such graph, or weights do not fit its edges.
        """
        g = as_igraph(graph)
        if weight is not None and len(weight) != g.ecount():
            raise BadInput(
                f"There are {len(weight):,} weights and {g.ecount():,} edges; each edge needs one."
            )
        pairs = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
        return cls(g.vcount(), np.sort(pairs, axis=1), weight)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def graph(self) -> "igraph.Graph":
        """The graph in igraph, without weights."""
        import igraph

        return igraph.Graph(n=self.nodes, edges=self.pairs)

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """Edges of each node; (nodes,)."""
        return np.bincount(self.pairs.ravel(), minlength=self.nodes)

    @cached_property
    def numbers(self) -> Mapping[str, NDArray[np.float64]]:
        """Of each node, (nodes,) each: degree, clustering, core number, and strength where there are weights."""
        degree = self.degree.astype(np.float64)
        clustering = self.graph.transitivity_local_undirected(mode="zero")
        numbers: dict[str, NDArray[np.float64]] = {
            "degree": degree,
            "clustering": np.array(clustering, dtype=np.float64),
            "core": np.array(self.graph.coreness(), dtype=np.float64),
        }
        if self.weight is not None:
            both = np.repeat(self.weight, 2)
            total = np.bincount(self.pairs.ravel(), weights=both, minlength=self.nodes)
            numbers["strength"] = total.astype(np.float64)
        return numbers
