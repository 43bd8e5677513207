"""Update a copy of an older embedded view: only the tables whose parts have changed are written.

Most studies add edges of a few types and some properties of features. The tables of examples and
of co-activation, which take most of the time of a build, then remain as they are.

The older file is never modified. kuzu 0.11.3 handles some changes of a filled table wrongly (see
decision 0001), so only three changes are made, each of which is checked afterwards by reading the
table:

- a table of edges is dropped and written again;
- new nodes are added to a table without lists;
- numbers and bools of existing nodes are set.

Any other change, such as a removed node or a changed text, needs a complete build. Texts are not
set, because kuzu stored wrong texts when nodes were added to a table after that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from atlas import schema
from atlas.schema import Edge, Node
from atlas.stores import Graph
from atlas.stores.partition import in_order, tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MAX_UPDATES", "Readable", "Update", "is_updated", "plan_update"]

MAX_UPDATES = 20
"""Updates of a view after which it is built completely, so that its file does not grow."""


class Readable(Protocol):
    """A store whose tables can be read."""

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one table, sorted by its keys."""

    def rows(self, name: str) -> int:
        """Return the number of rows of a table."""


@dataclass(frozen=True)
class Update:
    """The changes from an older view to a graph.

    Parameters
    ----------
    edges
        Edge tables that are written again.
    added
        New nodes, by label.
    changed
        Key and changed properties of existing nodes, by label.
    rows
        Number of rows of each unchanged table.
    """

    edges: tuple[Edge, ...] = ()
    added: "Mapping[str, pa.Table]" = field(default_factory=dict)
    changed: "Mapping[str, pa.Table]" = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the tables that change, in the order of the schema."""
        own = {edge.type for edge in self.edges} | set(self.added) | set(self.changed)
        return [spec.name for spec in tables() if spec.name in own]


def plan_update(old: Readable, sources: Mapping[str, str], graph: Graph) -> Update | None:
    """Return the changes from an older view to a graph; None if it needs a complete build.

    Parameters
    ----------
    old
        The older view, open.
    sources
        The source of each of its tables, as ``Graph.sources`` of its graph was.
    graph
        The graph; only its changed tables are read.
    """
    if set(sources) != set(graph.sources) or not sources:
        return None
    edges: list[Edge] = []
    added: dict[str, pa.Table] = {}
    changed: dict[str, pa.Table] = {}
    rows: dict[str, int] = {}
    for spec in tables():
        if sources[spec.name] == graph.sources[spec.name]:
            rows[spec.name] = old.rows(spec.name)
        elif isinstance(spec, Edge):
            edges.append(spec)
        elif _has_lists(spec) or not _plan_nodes(spec, old, graph, into=(added, changed)):
            return None
    return Update(tuple(edges), added, changed, rows)


def is_updated(new: Readable, graph: Graph, update: Update) -> bool:
    """Return whether an updated view has the changed tables of a graph, and all other rows."""
    wrong_size = any(new.rows(name) != count for name, count in update.rows.items())
    return not wrong_size and all(
        new.table(name).equals(in_order(schema.table(name), graph.tables[name]))
        for name in update.names
    )


def _has_lists(spec: Node) -> bool:
    return any(p.type.endswith("[]") for p in spec.properties)


def _plan_nodes(
    spec: Node,
    old: Readable,
    graph: Graph,
    *,
    into: "tuple[dict[str, pa.Table], dict[str, pa.Table]]",
) -> bool:
    """Add new nodes and changed properties to ``into``.

    Return False if nodes are removed or texts have changed.
    """
    import pyarrow.compute as pc

    added, changed = into
    before = old.table(spec.label)
    after = in_order(spec, graph.tables[spec.label])
    is_old = pc.is_in(after[spec.key], value_set=before[spec.key].combine_chunks())
    same = after.filter(is_old)
    if not same[spec.key].equals(before[spec.key]):
        return False
    if same.num_rows < after.num_rows:
        added[spec.label] = after.filter(pc.invert(is_old))
    names = [n for n in same.column_names if not same[n].equals(before[n])]
    if any(p.type == "string" for p in spec.properties if p.name in names):
        return False
    if names and same.num_rows:
        changed[spec.label] = same.select([spec.key, *names])
    return True
