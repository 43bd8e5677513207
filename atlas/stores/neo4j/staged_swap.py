"""Replace SAEs on a Neo4j server atomically: stage, swap, sweep.

The nodes of an SAE are written as a *generation*, with the property ``_generation``. Its
SAE and Feature nodes have a staging label (``FeatureStaged``) at first. One transaction
then retires the old generation (``FeatureRetired``) and relabels the new one as
``Feature``. A query for ``:Feature`` or ``:SAE`` therefore sees only the old or only the
new generation, except during the commit itself: Neo4j isolates statements by "read
committed", so one statement can read rows of both.

Readers of this program never return such a mixture. Before the transaction, the node
``SWAP`` is committed, and it is deleted after the commit. A query is answered only if this
node is absent and the shown generations are equal, before and after it (``SHOWN``). If no
swap was under way at either moment, every swap between them changed a generation. A killed
push may leave the node. It then counts until its time limit has passed, which is also the
limit of the transaction, or until the next push. Other programs, such as Neo4j Browser, do
not check it.

Only these two labels flip, because a hundred times as many examples would
not fit into one transaction. The other owned nodes (Example) do not change their label,
have no unique key, and are distinguished by their generation. Queries reach them through
a Feature.

The SAE node is the record of its generation: it is written first and deleted last. Any
process that holds the lock can therefore find and delete what a killed process wrote.

An edge to a node of another SAE is written only if the server shows the current version
of that SAE. Otherwise it is written when the other SAE is swapped. Such an edge may be
missing for a while, but is never wrong.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.errors import AtlasError, StoreError
from atlas.progress import Pace, Stage
from atlas.schema import Node, Property
from atlas.stores import Graph
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.text_search import INDEXED_LENGTH, LOWER_CASE, index_examples
from atlas.stores.partition import Bundle, Slices, SliceSize, owned_nodes, sae_column, shared_nodes

if TYPE_CHECKING:
    import neo4j
    import pyarrow as pa

__all__ = ["FLIPS", "SHOWN", "Generations", "batches", "define", "flips", "groups", "properties"]

FLIPS = ("SAE", "Feature")
"""The labels that a swap changes, the record of the generation first."""

SWAP = "AtlasLock {name: 'swap'}"
"""The node that exists while a swap is under way; ``until`` is its limit in milliseconds."""

SHOWN = (
    f"OPTIONAL MATCH (l:{SWAP}) RETURN "
    "COLLECT { MATCH (s:SAE) RETURN [s.name, s._generation] ORDER BY s.name }, "
    "coalesce(l.until > timestamp(), false)"
)
"""A query for the shown generations, and whether a swap is under way."""

SWAP_SECONDS, SWAP_SECONDS_A_ROW = 60.0, 1e-3
"""Time limit of a swap, about 20 times what it takes: 131,072 features took 8 seconds."""
COMMIT_SECONDS = 60.0
"""Longest time of a commit, which a time limit does not end."""

BATCH_BYTES = 2 << 20  # of Arrow data in one transaction: about 10,000 edges or 1,000 examples
BATCH_ROWS = 10_000


def flips(of: Node) -> bool:
    """Return whether a swap changes the label of a node table."""
    return of.label in FLIPS


def define(bolt: Bolt, graph: Graph) -> None:
    """Create the constraints and indexes of the schema, and wait until they are online.

    Parameters
    ----------
    bolt
        The connection.
    graph
        The graph that will be written.
    """
    for spec in schema.NODES:
        unique = flips(spec) or spec in shared_nodes()
        if unique:
            _constrain(bolt, spec.label, spec.key)
        else:
            _index(bolt, spec.label, spec.key)
            _index(bolt, spec.label, "_generation")
        if flips(spec):
            _index(bolt, f"{spec.label}Staged", spec.key)
            if sae_column(spec) != spec.key:
                _index(bolt, spec.label, sae_column(spec) or "")
    _index_tokens(bolt, graph)
    index_examples(bolt)
    bolt.write("CALL db.awaitIndexes(600)")


def _index_tokens(bolt: Bolt, graph: Graph) -> None:
    """Create the text index, which finds tokens by their beginning or in a list.

    If a token is too long for an index, there is no index. The query for a part of a token
    ignores the case and scans all tokens, which are few.
    """
    import pyarrow.compute as pc

    longest = pc.max(pc.utf8_length(graph.tables["Token"]["text"])).as_py() or 0
    stored = bolt.ask(
        "MATCH (t:Token) WHERE size(t.text) > $most RETURN count(t) > 0", {"most": INDEXED_LENGTH}
    ).rows[0][0]
    if stored or longest > INDEXED_LENGTH:
        bolt.write("DROP INDEX `atlas_Token_text` IF EXISTS")
    else:
        bolt.write(
            "CREATE TEXT INDEX `atlas_Token_text` IF NOT EXISTS FOR (n:`Token`) ON (n.`text`)"
        )


class Generations:
    """Writes the SAEs of one graph to one server, and swaps each atomically.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    graph
        The graph.
    pace
        Corrects the forecast after each batch.
    """

    def __init__(self, bolt: Bolt, graph: Graph, pace: Pace) -> None:
        self._pace = pace
        self._bolt = bolt
        self._graph = graph
        self._slices = Slices(graph)
        self._shown: dict[str, str] = {}  # up-to-date SAEs -> their generation

    def retain(self, names: Sequence[str]) -> None:
        """Record the generations of unchanged SAEs."""
        rows = self._bolt.ask(
            "MATCH (s:SAE) WHERE s.name IN $names RETURN s.name, s._generation",
            {"names": list(names)},
        ).rows
        self._shown.update(dict(rows))

    def rows(self, name: str) -> int:
        """Return the number of nodes and edges that ``show`` would write for an SAE now."""
        return self._slices.size(name, among=self._shown).rows

    def show(self, name: str, stage: Stage) -> None:
        """Write a new generation of an SAE and swap it in.

        Raises
        ------
        StoreError
            If the number of written rows is not the expected one.
        """
        new = uuid.uuid4().hex
        owned = sorted(owned_nodes(), key=lambda n: n.label != "SAE")  # the record comes first
        count = {spec.label: self._nodes(spec, name, new, stage) for spec in owned}
        for edge in schema.EDGES:
            for bundle in self._slices.edges(edge, name, among=self._shown):
                self._edges(bundle, name, new, stage)
        self._swap(name, new, count)
        self._shown[name] = new

    def hide(self, name: str) -> None:
        """Retire an SAE, so that queries no longer see it."""
        self._swap(name, None, {})

    def _swap(self, name: str, new: str | None, count: Mapping[str, int]) -> None:
        """Retire the current generation of an SAE and show the new one, while readers wait."""
        current = self._bolt.ask(
            "MATCH (f:Feature) WHERE f.sae = $name RETURN count(f)", {"name": name}
        ).rows[0][0]
        limit = SWAP_SECONDS + SWAP_SECONDS_A_ROW * (current + sum(count.values()))
        try:
            self._bolt.write(
                f"MERGE (l:{SWAP}) SET l.until = timestamp() + $limit",
                {"limit": int(1000 * (limit + COMMIT_SECONDS))},
            )
            self._bolt.transact(
                lambda transaction: self._flip(transaction, name, new, count), timeout=limit
            )
        except (AtlasError, KeyboardInterrupt):
            with suppress(AtlasError):  # of a lost connection; the node then counts until its limit
                self.end_swap()
            raise
        self.end_swap()

    def end_swap(self) -> None:
        """Delete the node of a swap, after the transaction that has locked it."""
        self._bolt.write(f"MATCH (l:{SWAP}) DELETE l")

    def sweep(self, stage: Stage) -> None:
        """Delete every staged or retired generation, of any process.

        Deletion takes many transactions. The record is deleted last, so that the next sweep
        continues an interrupted one.
        """
        for state in ("Staged", "Retired"):
            found = self._bolt.ask(f"MATCH (s:`SAE{state}`) RETURN s._generation").rows
            for (generation,) in found:
                for spec in sorted(owned_nodes(), key=lambda n: n.label == "SAE"):
                    label = f"{spec.label}{state}" if flips(spec) else spec.label
                    self._delete(f"(n:`{label}` {{_generation: $generation}})", generation)
                    stage.advance(0)

    def _delete(self, node: str, generation: str) -> None:
        """Delete nodes after their edges; both in one transaction could exhaust the heap."""
        for pattern, name in ((f"{node}-[x]->()", "x"), (f"{node}<-[x]-()", "x"), (node, "n")):
            self._bolt.write(
                f"MATCH {pattern} CALL ({name}) {{ DELETE {name} }} IN TRANSACTIONS OF 10000 ROWS",
                {"generation": generation},
            )

    def _nodes(self, spec: Node, name: str, generation: str, stage: Stage) -> int:
        data = self._slices.nodes(spec, name)
        label = f"{spec.label}Staged" if flips(spec) else spec.label
        private: dict[str, Any] = {"_generation": generation}
        if spec.label == "SAE":
            private |= {"_atlas": self._graph.atlas, "_fingerprint": self._graph.fingerprints[name]}
            private |= {"_searchable": self._searchable(name)}
        lower = f", n._lower = {LOWER_CASE.format('n')} " if spec.label == "Example" else " "
        cypher = (
            f"UNWIND $rows AS r CREATE (n:`{label}` {properties(spec.properties)}) SET n += $private"
            f"{lower}RETURN count(n)"
        )
        for batch in batches(data, schema.arrow_schema(spec.label).names):
            self._write(cypher, {"rows": batch, "private": private}, len(batch), spec.label)
            stage.advance(len(batch))
            self._lap(data, len(batch))
        return int(data.num_rows)

    def _searchable(self, name: str) -> bool:
        """Return whether the text index can have all examples of an SAE."""
        import pyarrow.compute as pc

        texts = self._slices.nodes(schema.node("Example"), name)["text"]
        # In bytes, because Cypher counts some characters twice.
        return bool((pc.max(pc.binary_length(texts)).as_py() or 0) <= INDEXED_LENGTH)

    def _edges(self, bundle: Bundle, name: str, generation: str, stage: Stage) -> None:
        """Write edges, grouped by the end with fewer nodes, which needs one look-up per group."""
        spec, data = bundle.of, bundle.rows
        ends = {"source": (spec.source, bundle.source), "target": (spec.target, bundle.target)}
        near, far = ends
        if len(data["target"].unique()) < len(data["source"].unique()):
            near, far = far, near
        generations = self._shown | {name: generation}
        edge = f"[e:`{spec.type}` {properties(spec.properties, at=1)}]"
        pattern = f"(a)-{edge}->(b)" if near == "source" else f"(b)-{edge}->(a)"
        cypher = (
            f"UNWIND $groups AS g {_match('a', 'g[0]', *ends[near], staged=name)} "
            f"UNWIND g[1] AS r {_match('b', 'r[0]', *ends[far], staged=name)} "
            f"CREATE {pattern} RETURN count(e)"
        )
        fixed = {
            "a": generations.get(ends[near][1] or ""),
            "b": generations.get(ends[far][1] or ""),
        }
        columns = [near, far, *(p.name for p in spec.properties)]
        for batch in batches(data.sort_by(near), columns):
            self._write(cypher, {"groups": groups(batch), **fixed}, len(batch), spec.type)
            stage.advance(len(batch))
            self._lap(data, len(batch))

    def _lap(self, data: "pa.Table", rows: int) -> None:
        """Record that some rows of a table have been written."""
        self._pace.lap("push", SliceSize.of([data]).seconds * rows / data.num_rows)

    def _write(self, cypher: str, params: Mapping[str, Any], rows: int, table: str) -> None:
        written = self._bolt.write(cypher, params)
        if written != rows:
            raise StoreError(
                f"{self._bolt.url} wrote {written} of {rows} rows of {table}, because another program changes "
                "its nodes. Queries still see the old version; stop the other program and try again."
            )

    def _flip(
        self, transaction: "neo4j.Transaction", name: str, new: str | None, count: Mapping[str, int]
    ) -> None:
        """Retire the current generation of an SAE and show the new one."""
        # This locks the node: the next push waits for this transaction, even if its client is dead.
        transaction.run(f"MATCH (l:{SWAP}) SET l.sae = $name", {"name": name}).consume()
        for label in FLIPS:
            column = sae_column(schema.node(label))
            transaction.run(
                f"MATCH (n:`{label}` {{`{column}`: $name}}) REMOVE n:`{label}` SET n:`{label}Retired`",
                {"name": name},
            ).consume()
        for label in FLIPS if new is not None else ():
            shown = transaction.run(
                f"MATCH (n:`{label}Staged` {{_generation: $new}}) "
                f"REMOVE n:`{label}Staged` SET n:`{label}` RETURN count(n)",
                {"new": new},
            ).single(strict=True)[0]
            if shown != count[label]:
                raise StoreError(
                    f"{self._bolt.url} has {shown} of {count[label]} staged rows of {label}, because another "
                    "program changes its nodes. Queries still see the old version; try again."
                )


def properties(of: Sequence[Property], *, at: int = 0) -> str:
    """Return the Cypher map of properties, read from the row ``r`` beginning at index ``at``."""
    return "{" + ", ".join(f"`{p.name}`: r[{i}]" for i, p in enumerate(of, at)) + "}"


def batches(data: "pa.Table", columns: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Yield the rows of a table as lists, in batches for one transaction each."""
    each = max(1, data.nbytes // max(1, data.num_rows))
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // each))
    for start in range(0, data.num_rows, size):
        part = data.slice(start, size)
        yield [list(row) for row in zip(*(part[c].to_pylist() for c in columns), strict=True)]


def groups(rows: Sequence[list[Any]]) -> list[list[Any]]:
    """Group adjacent rows with the same first value: ``[a, b, …]`` to ``[a, [[b, …], …]]``."""
    found: list[list[Any]] = []
    for first, *rest in rows:
        if not found or found[-1][0] != first:
            found.append([first, []])
        found[-1][1].append(rest)
    return found


def _match(at: str, value: str, label: str, sae: str | None, *, staged: str) -> str:
    """Return the Cypher look-up of one end, by its key and, for owned nodes, its generation.

    It names the index, because a plan made while a label is empty may not use it.
    """
    spec = schema.node(label)
    if flips(spec) and sae == staged:
        label = f"{label}Staged"
    where = "" if sae is None else f" WHERE {at}._generation = ${at}"
    return f"MATCH ({at}:`{label}` {{`{spec.key}`: {value}}}) USING INDEX {at}:`{label}`(`{spec.key}`){where}"


def _constrain(bolt: Bolt, label: str, key: str) -> None:
    bolt.write(
        f"CREATE CONSTRAINT `atlas_{label}_{key}` IF NOT EXISTS "
        f"FOR (n:`{label}`) REQUIRE n.`{key}` IS UNIQUE"
    )


def _index(bolt: Bolt, label: str, key: str) -> None:
    bolt.write(f"CREATE INDEX `atlas_{label}_{key}` IF NOT EXISTS FOR (n:`{label}`) ON (n.`{key}`)")
