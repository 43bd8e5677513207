"""A graph as arrays, with the node statistics that distances compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.graph.igraph_conversion import as_igraph
from analysis.statistics.bipartite_null import swapped
from atlas.errors import BadInput
from ingest.codes.topk_membership import Membership, edges

if TYPE_CHECKING:
    import igraph

__all__ = ["Linked", "null_linked"]


@dataclass(frozen=True, eq=False)
class Linked:
    """An undirected graph.

    Parameters
    ----------
    nodes
        Number of nodes, including features without an edge.
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
        """Convert a graph of igraph or networkx, with nodes and edges in the same order.

        Parameters
        ----------
        graph
            An undirected graph without loops or multiple edges.
        weight
            Edge weights.

        Raises
        ------
        BadInput
            If it is not such a graph, or the numbers of weights and edges differ.
        """
        g = as_igraph(graph)
        if weight is not None and len(weight) != g.ecount():
            raise BadInput(
                f"There are {len(weight):,} weights and {g.ecount():,} edges; pass one weight per edge."
            )
        pairs = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
        return cls(g.vcount(), np.sort(pairs, axis=1), weight)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def graph(self) -> "igraph.Graph":
        """The unweighted graph in igraph."""
        import igraph

        return igraph.Graph(n=self.nodes, edges=self.pairs)

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """Degree of each node; (nodes,)."""
        return np.bincount(self.pairs.ravel(), minlength=self.nodes)

    @cached_property
    def numbers(self) -> Mapping[str, NDArray[np.float64]]:
        """Degree, clustering, core number and, with weights, strength of each node; (nodes,) each."""
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


def null_linked(membership: Membership, seed: int, *, min_count: int) -> Linked:
    """Draw a graph from the bipartite null; it has no weights.

    Parameters
    ----------
    membership
        The most active features of each token.
    seed
        Seed of the draw.
    min_count
        Smallest count of an edge.
    """
    drawn = swapped(membership, seed, within_documents=False)
    return Linked(membership.d_sae, edges(drawn, min_count=min_count)[0])
