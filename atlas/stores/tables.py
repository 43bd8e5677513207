"""The rows of a table as every store gives them: the schema's types, in the order of the keys."""

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
    """Return the column that says which SAE a node belongs to; None where SAEs share it."""
    if of.shared:
        return None
    return of.key if of.label == "SAE" else "sae"


def in_order(of: Node | Edge, data: "pa.Table") -> "pa.Table":
    """Return rows with exactly the schema's columns, sorted.

    The keys come first; where edges share both ends, their other columns decide
    (lists do not), so that the order does not depend on the engine. Texts are
    ordered by their code points.
    """
    wanted = schema.arrow_schema(of.name)
    lists = {p.name for p in of.properties if p.type.endswith("[]")}
    rest = [n for n in wanted.names if n not in of.keys and n not in lists]
    keys = [*of.keys, *rest] if isinstance(of, Edge) else list(of.keys)
    data = data.select(wanted.names).cast(wanted)
    return data.sort_by([(k, "ascending") for k in keys]).combine_chunks()
