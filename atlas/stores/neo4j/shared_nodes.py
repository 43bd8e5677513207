"""Nodes and edges that SAEs and atlases share on a server, such as models and tokens.

Each stores in ``_atlases`` the atlases that use it, and is deleted when no atlas uses it.
Two atlases may describe the same node differently, such as the folder of a model, because
its key is its name. The server then shows the last pushed description, and the push reports
it. Only these nodes are ever changed in place.

A model whose parameters or tokenizer differ is another model, so a push that would give two
models one node is refused. For this, ``_parameters`` of a Model stores the digests of every
atlas that uses it, as the uuid and the digests of the chain, separated by spaces.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.disk.parts import differ
from atlas.errors import Mismatch
from atlas.progress import Progress
from atlas.schema import Edge, Node
from atlas.stores import Graph
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.staged_swap import BATCH_ROWS, batches, properties
from atlas.stores.partition import shared_edges, shared_nodes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Shared", "parameters"]

_JOIN = "CASE WHEN $me IN {0} THEN {0} ELSE {0} + $me END"
_LEAVE = "SET x._atlases = [a IN x._atlases WHERE a <> $me] WITH x WHERE size(x._atlases) = 0"


class Shared:
    """Writes the shared nodes and edges of one atlas on a server.

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
        """Return whether the shared edges of this atlas differ from those of the graph."""
        return any(
            {repr(row) for row in _rows(self._graph.tables[spec.type])}
            != {repr(row) for *row, _, mine in self._edges(spec) if mine}
            for spec in shared_edges()
        )

    def check_models(self) -> None:
        """Compare the models with those that other atlases have under the same names.

        Raises
        ------
        Mismatch
            If the weights, any parameter that both have read, or the tokenizer differ.
        """
        rows = {row["name"]: row for row in self._graph.tables["Model"].to_pylist()}
        found = self._bolt.ask(
            "UNWIND $names AS k MATCH (n:Model {name: k}) "
            "WHERE any(a IN coalesce(n._atlases, []) WHERE a <> $me) "
            "RETURN n.name, n.weights, n.tokenizer, "
            "[c IN coalesce(n._parameters, []) WHERE NOT c STARTS WITH $me "
            "AND split(c, ' ')[0] IN n._atlases]",
            {"names": list(rows), "me": self._graph.atlas},
        ).rows
        for name, weights, tokenizer, chains in found:
            mine = self._graph.models.get(name, ())
            deeper = any(differ(mine, chain.split()[1:]) for chain in chains)
            what = [
                word
                for word, other in (
                    ("weights", deeper or weights != rows[name]["weights"]),
                    ("tokenizer", tokenizer != rows[name]["tokenizer"]),
                )
                if other
            ]
            if what:
                raise Mismatch(
                    f"{self._bolt.url} shows a model named {name!r} of another atlas, and the model of that name "
                    f"in {self._graph.name!r} is another one: its {' and '.join(what)} differ. Push to another "
                    "database with `database`, or ingest with the model under another name."
                )

    def record_models(self) -> None:
        """Store the digests of the models of this atlas on the server."""
        me = self._graph.atlas
        self._bolt.write(
            "UNWIND $rows AS r MATCH (n:Model {name: r[0]}) WITH r, n, "
            "[c IN coalesce(n._parameters, []) WHERE NOT c STARTS WITH $me "
            "AND split(c, ' ')[0] IN n._atlases] + r[1] AS chains "
            "WHERE n._parameters IS NULL OR n._parameters <> chains SET n._parameters = chains",
            {
                "rows": [[name, chains] for name, chains in parameters(self._graph).items()],
                "me": me,
            },
        )

    def add(self, progress: Progress) -> None:
        """Write the shared rows that are missing or different on the server."""
        for node in shared_nodes():
            self._add_nodes(node, progress)
        for edge in shared_edges():
            self._add_edges(edge)

    def drop(self) -> None:
        """Release shared rows that the graph no longer has; delete those that no atlas uses."""
        for edge in shared_edges():
            wanted = {repr(row) for row in _rows(self._graph.tables[edge.type])}
            found = self._edges(edge)
            gone = [id for *row, id, mine in found if mine and repr(row) not in wanted]
            self._release_edges(edge, gone)
        for node in shared_nodes():
            keys = set(self._graph.tables[node.label][node.key].to_pylist())
            used = self._bolt.ask(
                f"MATCH (n:`{node.label}`) WHERE $me IN n._atlases RETURN collect(n.`{node.key}`)",
                {"me": self._graph.atlas},
            ).rows[0][0]
            gone = [key for key in used if key not in keys]
            match = f"MATCH (x:`{node.label}` {{`{node.key}`: k}})"
            self._release(match, "DETACH DELETE x", gone)

    def _add_nodes(self, spec: Node, progress: Progress) -> None:
        names = [spec.key, *(p.name for p in spec.properties if p.name != spec.key)]
        columns = ", ".join(f"n.`{n}`" for n in names)
        sets = ", ".join(f"n.`{n}` = r[{i}]" for i, n in enumerate(names))
        join = _JOIN.format("coalesce(n._atlases, [])")
        for batch in batches(self._graph.tables[spec.label], names):
            found = self._bolt.ask(
                f"UNWIND $keys AS k MATCH (n:`{spec.label}` {{`{spec.key}`: k}}) "
                f"RETURN collect([{columns}, $me IN coalesce(n._atlases, []), "
                "size(coalesce(n._atlases, []))])",
                {"keys": [row[0] for row in batch], "me": self._graph.atlas},
            ).rows[0][0]
            current = {row[0]: row for row in found}
            fresh = [row for row in batch if current.get(row[0], [])[:-1] != [*row, True]]
            for row in fresh:
                *stored, mine, users = current.get(row[0], [*row, False, 0])
                if stored != row and users > mine:
                    differ = [n for n, a, b in zip(names, stored, row, strict=True) if a != b]
                    progress.report(
                        f"Another atlas on this server describes the {spec.label} {row[0]!r} differently "
                        f"({', '.join(differ)}); the server now shows the description of "
                        f"{self._graph.name!r}."
                    )
            self._bolt.write(
                f"UNWIND $rows AS r MERGE (n:`{spec.label}` {{`{spec.key}`: r[0]}}) "
                f"SET {sets}, n._atlases = {join}",
                {"rows": fresh, "me": self._graph.atlas},
            )

    def _add_edges(self, spec: Edge) -> None:
        """Write edges; two edges are equal only if all keys and properties are.

        An outdated edge with the same keys is deleted first, so for a moment neither exists.
        """
        source, target = schema.node(spec.source), schema.node(spec.target)
        wanted = list(_rows(self._graph.tables[spec.type]))
        current = self._edges(spec)
        self._release_edges(spec, _outdated(spec, current, wanted))
        found = {repr(row): (id, mine) for *row, id, mine in current}
        me = self._graph.atlas
        self._bolt.write(
            f"UNWIND $rows AS r MATCH (a:`{source.label}` {{`{source.key}`: r[0]}}) "
            f"MATCH (b:`{target.label}` {{`{target.key}`: r[1]}}) "
            f"CREATE (a)-[e:`{spec.type}` {properties(spec.properties, at=2)}]->(b) SET e._atlases = [$me]",
            {"rows": [row for row in wanted if repr(row) not in found], "me": me},
        )
        join = [found[k][0] for k in map(repr, wanted) if k in found and not found[k][1]]
        self._bolt.write(
            f"UNWIND $ids AS id MATCH ()-[e:`{spec.type}`]->() WHERE elementId(e) = id "
            f"SET e._atlases = {_JOIN.format('e._atlases')}",
            {"ids": join, "me": me},
        )

    def _edges(self, spec: Edge) -> list[list[Any]]:
        """Return edges as rows: both keys, properties, element id, whether this atlas uses it."""
        source, target = schema.node(spec.source), schema.node(spec.target)
        columns = "".join(f"e.`{p.name}`, " for p in spec.properties)
        return self._bolt.ask(
            f"MATCH (a:`{spec.source}`)-[e:`{spec.type}`]->(b:`{spec.target}`) WHERE e._atlases IS NOT NULL "
            f"RETURN a.`{source.key}`, b.`{target.key}`, {columns}elementId(e), $me IN e._atlases",
            {"me": self._graph.atlas},
        ).rows

    def _release_edges(self, spec: Edge, ids: Sequence[str]) -> None:
        match = f"MATCH ()-[x:`{spec.type}`]->() WHERE elementId(x) = k"
        self._release(match, "DELETE x", ids)

    def _release(self, match: str, delete: str, keys: Sequence[str]) -> None:
        remaining = iter(keys)
        while batch := list(islice(remaining, BATCH_ROWS)):
            self._bolt.write(
                f"UNWIND $keys AS k {match} {_LEAVE} {delete}",
                {"keys": batch, "me": self._graph.atlas},
            )


def parameters(graph: Graph) -> dict[str, list[str]]:
    """Return for each model what a graph adds to its ``_parameters``."""
    return {
        name: [" ".join([graph.atlas, *chain])]
        for name in graph.tables["Model"]["name"].to_pylist()
        if (chain := graph.models.get(name))
    }


def _outdated(spec: Edge, current: Sequence[list[Any]], wanted: Sequence[list[Any]]) -> list[str]:
    """Return the ids of edges of this atlas that differ from a wanted edge with the same keys."""
    names = schema.arrow_schema(spec.type).names
    at = [names.index(key) for key in spec.keys]
    now = {tuple(row[i] for i in at): repr(row) for row in wanted}
    return [
        id
        for *row, id, mine in current
        if mine and now.get(tuple(row[i] for i in at), repr(row)) != repr(row)
    ]


def _rows(data: "pa.Table") -> Iterator[list[Any]]:
    names = data.schema.names
    return (row for batch in batches(data, names) for row in batch)
