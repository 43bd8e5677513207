"""Convert the co-activation graph of an SAE to igraph or networkx."""

from typing import TYPE_CHECKING, Any, Protocol

from atlas.errors import BadInput

if TYPE_CHECKING:
    import igraph
    import networkx
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["edge_ends", "igraph_of", "networkx_of"]


class AtlasTables(Protocol):
    """The methods of ``atlas.Atlas`` that this module needs, which that class imports."""

    @property
    def url(self) -> str:
        """Path or URL of the atlas."""

    def features(self, sae: str) -> "pa.Table":
        """Return the Feature nodes of an SAE."""

    def table(self, name: str, *, sae: str | None = None) -> "pa.Table":
        """Return a table of the graph."""


def edge_ends(edges: "pa.Table") -> "NDArray[np.int64]":
    """Return the feature indices of each CO_ACTIVATES edge, as int64 of shape (edges, 2)."""
    import numpy as np
    import pyarrow.compute as pc

    ends = []
    for end in ("source", "target"):
        parts = pc.split_pattern(edges[end], "/", max_splits=1, reverse=True)
        ends.append(pc.cast(pc.list_element(parts, 1), "int64").to_numpy())
    return np.stack(ends, axis=1)


def igraph_of(atlas: AtlasTables, sae: str, *, min_count: int = 1) -> "igraph.Graph":
    """Return the co-activation graph of an SAE as an igraph graph.

    Parameters
    ----------
    atlas
        The atlas.
    sae
        Name of the SAE.
    min_count
        Include only edges with at least this ``count``.

    Returns
    -------
    igraph.Graph
        Undirected; vertex i is feature i, and isolated features are vertices too. Vertices
        have the properties of Feature as attributes, edges those of CO_ACTIVATES.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    BadInput
        If the atlas has no features of the SAE.
    """
    import igraph

    nodes, edges = _tables(atlas, sae, min_count)
    graph = igraph.Graph(n=nodes.num_rows, edges=edge_ends(edges), directed=False)
    for name in nodes.column_names:
        graph.vs[name] = nodes[name].to_pylist()
    for name in edges.column_names[2:]:
        graph.es[name] = edges[name].to_pylist()
    return graph


def networkx_of(atlas: AtlasTables, sae: str, *, min_count: int = 1) -> "networkx.Graph[int]":
    """Return the co-activation graph of an SAE as a networkx graph; see ``igraph_of``."""
    import networkx

    nodes, edges = _tables(atlas, sae, min_count)
    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(enumerate(nodes.to_pylist()))
    rows: list[dict[str, Any]] = edges.drop_columns(["source", "target"]).to_pylist()
    ends = edge_ends(edges).tolist()
    graph.add_edges_from((a, b, row) for (a, b), row in zip(ends, rows, strict=True))
    return graph


def _tables(atlas: AtlasTables, sae: str, min_count: int) -> "tuple[pa.Table, pa.Table]":
    import pyarrow.compute as pc

    nodes = atlas.features(sae)
    if not nodes.num_rows:
        raise BadInput(
            f"{atlas.url} stores no features of {sae}; ingest the SAE again with `replace=True`."
        )
    edges = atlas.table("CO_ACTIVATES", sae=sae)
    return nodes, edges.filter(pc.greater_equal(edges["count"], min_count))
