"""Nodes and edges that SAEs and atlases share on a server, such as models and tokens.

Each remembers in ``_atlases`` which atlases hold it; one that no atlas holds any
more is deleted. A shared node's key is its name, so two atlases may describe one
differently (their folder of a model, say); the description pushed last is shown,
and it is said. Only these nodes are ever changed in place.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.progress import Progress
from atlas.schema import Edge, Node
from atlas.stores import Graph
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.staged_swap import BATCH_ROWS, batches, properties
from atlas.stores.partition import shared_edges, shared_nodes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Shared"]

_JOIN = "CASE WHEN $me IN {0} THEN {0} ELSE {0} + $me END"
_LEAVE = "SET x._atlases = [a IN x._atlases WHERE a <> $me] WITH x WHERE size(x._atlases) = 0"


class Shared:
    """What one atlas shares with others on a server.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    graph
        The graph of the atlas.
    """

    def __init__(self, bolt: Bolt, graph: Graph) -> None:
        self._bolt = bolt
        self._graph = graph

    def differ(self) -> bool:
        """Say whether the edges that this atlas holds are others than the graph's."""
        return any(
            {repr(row) for row in _rows(self._graph.tables[of.type])}
            != {repr(row) for *row, _, mine in self._edges(of) if mine}
            for of in shared_edges()
        )

    def add(self, progress: Progress) -> None:
        """Write the shared rows that are not there, or are there otherwise."""
        for node in shared_nodes():
            self._add_nodes(node, progress)
        for edge in shared_edges():
            self._add_edges(edge)

    def drop(self) -> None:
        """Let go of shared rows that the graph no longer has; delete those nobody holds."""
        for edge in shared_edges():
            wanted = {repr(row) for row in _rows(self._graph.tables[edge.type])}
            found = self._edges(edge)
            gone = [id for *row, id, mine in found if mine and repr(row) not in wanted]
            self._let_go(edge, gone)
        for node in shared_nodes():
            keys = set(self._graph.tables[node.label][node.key].to_pylist())
            held = self._bolt.ask(
                f"MATCH (n:`{node.label}`) WHERE $me IN n._atlases RETURN collect(n.`{node.key}`)",
                {"me": self._graph.atlas},
            ).rows[0][0]
            gone = [key for key in held if key not in keys]
            self._leave(f"MATCH (x:`{node.label}` {{`{node.key}`: k}})", "DETACH DELETE x", gone)

    def _add_nodes(self, of: Node, progress: Progress) -> None:
        names = [of.key, *(p.name for p in of.properties if p.name != of.key)]
        columns = ", ".join(f"n.`{n}`" for n in names)
        sets = ", ".join(f"n.`{n}` = r[{i}]" for i, n in enumerate(names))
        join = _JOIN.format("coalesce(n._atlases, [])")
        for batch in batches(self._graph.tables[of.label], names):
            found = self._bolt.ask(
                f"UNWIND $keys AS k MATCH (n:`{of.label}` {{`{of.key}`: k}}) "
                f"RETURN collect([{columns}, $me IN coalesce(n._atlases, []), "
                "size(coalesce(n._atlases, []))])",
                {"keys": [row[0] for row in batch], "me": self._graph.atlas},
            ).rows[0][0]
            there = {row[0]: row for row in found}
            fresh = [row for row in batch if there.get(row[0], [])[:-1] != [*row, True]]
            for row in fresh:
                *said, mine, holders = there.get(row[0], [*row, False, 0])
                if said != row and holders > mine:
                    differ = [n for n, a, b in zip(names, said, row, strict=True) if a != b]
                    progress.report(
                        f"Another atlas on this server describes the {of.label} {row[0]!r} differently "
                        f"({', '.join(differ)}); the description of {self._graph.name!r} is shown now."
                    )
            self._bolt.write(
                f"UNWIND $rows AS r MERGE (n:`{of.label}` {{`{of.key}`: r[0]}}) "
                f"SET {sets}, n._atlases = {join}",
                {"rows": fresh, "me": self._graph.atlas},
            )

    def _add_edges(self, of: Edge) -> None:
        """Write edges; a row says all of an edge, so one that differs in anything is another.

        One of the same keys that said something else goes first: for a moment neither is there.
        """
        source, target = schema.node(of.source), schema.node(of.target)
        wanted = list(_rows(self._graph.tables[of.type]))
        there = self._edges(of)
        self._let_go(of, _outdated(of, there, wanted))
        found = {repr(row): (id, mine) for *row, id, mine in there}
        me = self._graph.atlas
        self._bolt.write(
            f"UNWIND $rows AS r MATCH (a:`{source.label}` {{`{source.key}`: r[0]}}) "
            f"MATCH (b:`{target.label}` {{`{target.key}`: r[1]}}) "
            f"CREATE (a)-[e:`{of.type}` {properties(of.properties, at=2)}]->(b) SET e._atlases = [$me]",
            {"rows": [row for row in wanted if repr(row) not in found], "me": me},
        )
        join = [found[k][0] for k in map(repr, wanted) if k in found and not found[k][1]]
        self._bolt.write(
            f"UNWIND $ids AS id MATCH ()-[e:`{of.type}`]->() WHERE elementId(e) = id "
            f"SET e._atlases = {_JOIN.format('e._atlases')}",
            {"ids": join, "me": me},
        )

    def _edges(self, of: Edge) -> list[list[Any]]:
        """Return the edges of atlases: both keys, properties, element id, whether they are mine."""
        source, target = schema.node(of.source), schema.node(of.target)
        columns = "".join(f"e.`{p.name}`, " for p in of.properties)
        return self._bolt.ask(
            f"MATCH (a:`{of.source}`)-[e:`{of.type}`]->(b:`{of.target}`) WHERE e._atlases IS NOT NULL "
            f"RETURN a.`{source.key}`, b.`{target.key}`, {columns}elementId(e), $me IN e._atlases",
            {"me": self._graph.atlas},
        ).rows

    def _let_go(self, of: Edge, ids: Sequence[str]) -> None:
        match = f"MATCH ()-[x:`{of.type}`]->() WHERE elementId(x) = k"
        self._leave(match, "DELETE x", ids)

    def _leave(self, match: str, delete: str, keys: Sequence[str]) -> None:
        left = iter(keys)
        while some := list(islice(left, BATCH_ROWS)):
            self._bolt.write(
                f"UNWIND $keys AS k {match} {_LEAVE} {delete}",
                {"keys": some, "me": self._graph.atlas},
            )


def _outdated(of: Edge, there: Sequence[list[Any]], wanted: Sequence[list[Any]]) -> list[str]:
    """Return the ids of my edges that say something else than a wanted one of the same keys."""
    names = schema.arrow_schema(of.type).names
    at = [names.index(key) for key in of.keys]
    now = {tuple(row[i] for i in at): repr(row) for row in wanted}
    return [
        id
        for *row, id, mine in there
        if mine and now.get(tuple(row[i] for i in at), repr(row)) != repr(row)
    ]


def _rows(data: "pa.Table") -> Iterator[list[Any]]:
    names = data.schema.names
    return (row for batch in batches(data, names) for row in batch)
