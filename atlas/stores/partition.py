"""Divide the rows of a graph into those of each SAE and shared ones, by the schema alone.

A node table with a column ``sae`` (and ``SAE`` itself) is owned: each row belongs
to one SAE. The other nodes are shared. An edge belongs to the SAEs of its ends, and is
shared if both ends are. Tables have a common form in all stores: the types of the schema, sorted by key.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from atlas import schema
from atlas.schema import Edge, Node
from atlas.stores import Graph

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Bundle",
    "SliceSize",
    "Slices",
    "in_order",
    "is_shared",
    "owned_nodes",
    "sae_column",
    "shared_edges",
    "shared_nodes",
    "tables",
]


def tables() -> tuple[Node | Edge, ...]:
    """Return every table of the schema, nodes before edges."""
    return (*schema.NODES, *schema.EDGES)


def sae_column(of: Node) -> str | None:
    """Return the column that names the SAE of a node; None for shared nodes."""
    if of.shared:
        return None
    return of.key if of.label == "SAE" else "sae"


def in_order(of: Node | Edge, data: "pa.Table") -> "pa.Table":
    """Return rows with exactly the columns of the schema, sorted by key.

    Edges with the same ends are sorted by their other columns except lists, so that the
    order does not depend on the engine. Texts are sorted by code points.
    """
    wanted = schema.arrow_schema(of.name)
    lists = {p.name for p in of.properties if p.type.endswith("[]")}
    rest = [n for n in wanted.names if n not in of.keys and n not in lists]
    keys = [*of.keys, *rest] if isinstance(of, Edge) else list(of.keys)
    data = data.select(wanted.names).cast(wanted)
    return data.sort_by([(k, "ascending") for k in keys]).combine_chunks()


def owned_nodes() -> list[Node]:
    """Return the node tables whose rows belong to SAEs, including ``SAE``."""
    return [n for n in schema.NODES if sae_column(n) is not None]


def shared_nodes() -> list[Node]:
    """Return the node tables whose rows several SAEs, and several atlases, may share."""
    return [n for n in schema.NODES if sae_column(n) is None]


def is_shared(of: Edge) -> bool:
    """Return whether both ends of an edge are shared nodes."""
    return all(sae_column(schema.node(end)) is None for end in (of.source, of.target))


def shared_edges() -> list[Edge]:
    """Return the edge tables between shared nodes."""
    return [e for e in schema.EDGES if is_shared(e)]


@dataclass(frozen=True)
class Bundle:
    """Edges of one type between nodes of the same two SAEs.

    Parameters
    ----------
    of
        The edge table.
    source, target
        SAEs of the source and target nodes; None for shared nodes.
    rows
        The edges.
    """

    of: Edge
    source: str | None
    target: str | None
    rows: "pa.Table"


# Initial estimates for driver and server on the same two cores, per second: 10,000 edges
# CO_ACTIVATES (8 numbers), 27,000 edges without properties, or 6,000 examples of 32 tokens. The
# pace of the first batches corrects them, so only the ratios matter later.
SECONDS_A_ROW, SECONDS_A_VALUE, SECONDS_A_BYTE = 20e-6, 7e-6, 0.07e-6


@dataclass(frozen=True)
class SliceSize:
    """Amount of data to write: number of rows, number of values, and bytes of Arrow data."""

    rows: int = 0
    values: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, tables: "Iterable[pa.Table]") -> "SliceSize":
        """Return the size of some tables."""
        return sum((cls(t.num_rows, t.num_rows * t.num_columns, t.nbytes) for t in tables), cls())

    @property
    def seconds(self) -> float:
        """Rough forecast of the time to write the data to a server."""
        return (
            SECONDS_A_ROW * self.rows + SECONDS_A_VALUE * self.values + SECONDS_A_BYTE * self.bytes
        )

    def __add__(self, other: "SliceSize") -> "SliceSize":
        return SliceSize(
            self.rows + other.rows, self.values + other.values, self.bytes + other.bytes
        )


class Slices:
    """A graph, divided by SAE.

    Parameters
    ----------
    graph
        The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._tables = graph.tables
        self._owner = cache(self._find_owner)

    def nodes(self, of: Node, sae: str) -> "pa.Table":
        """Return the rows of an owned node table that belong to an SAE."""
        import pyarrow.compute as pc

        data = self._tables[of.label]
        return data.filter(pc.equal(data[sae_column(of)], sae))

    def edges(self, of: Edge, sae: str, *, among: Collection[str]) -> Iterator[Bundle]:
        """Yield the edges of an SAE whose other end is shared or belongs to the SAEs ``among``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        source, target = self._owner(of, "source"), self._owner(of, "target")
        touches = pc.or_(*(pc.fill_null(pc.equal(end, sae), False) for end in (source, target)))
        pairs = (
            pa.table({"s": source, "t": target}).filter(touches).group_by(["s", "t"]).aggregate([])
        )
        allowed = {None, sae, *among}
        for pair in sorted(pairs.to_pylist(), key=str):
            if {pair["s"], pair["t"]} <= allowed:
                both = pc.and_(_is(source, pair["s"]), _is(target, pair["t"]))
                yield Bundle(of, pair["s"], pair["t"], self._tables[of.type].filter(both))

    def size(self, sae: str, *, among: Collection[str]) -> SliceSize:
        """Return the size of the nodes of an SAE and of its edges, as ``edges`` yields them."""
        tables = [self.nodes(n, sae) for n in owned_nodes()]
        tables += [b.rows for e in schema.EDGES for b in self.edges(e, sae, among=among)]
        return SliceSize.of(tables)

    def _find_owner(self, spec: Edge, end: str) -> "pa.ChunkedArray":
        """Return, for each edge, the SAE of its source or target."""
        import pyarrow as pa
        import pyarrow.compute as pc

        node = schema.node(spec.source if end == "source" else spec.target)
        edges, column = self._tables[spec.type], sae_column(node)
        if column is None:
            return pa.chunked_array([pa.nulls(edges.num_rows, pa.string())])
        nodes = self._tables[node.label]
        at = pc.index_in(edges[end], value_set=nodes[node.key].combine_chunks())
        return nodes[column].take(at)


def _is(values: "pa.ChunkedArray", value: str | None) -> "pa.ChunkedArray":
    import pyarrow.compute as pc

    return pc.is_null(values) if value is None else pc.fill_null(pc.equal(values, value), False)
