"""Bring tables to a common form for all stores: the types of the schema, sorted by key."""

from typing import TYPE_CHECKING

from atlas import schema
from atlas.schema import Edge, Node

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["in_order", "sae_column", "tables"]


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
