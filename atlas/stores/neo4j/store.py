"""The store on a Neo4j server, which several atlases can share.

``staged_swap`` describes how an SAE is replaced, ``shared_nodes`` what atlases share.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.errors import Mismatch, QueryFailed
from atlas.progress import Pace, Progress
from atlas.schema import Edge, Node
from atlas.stores import Graph, Limits, Params, StoredSae, SyncPlan
from atlas.stores.cypher import checked
from atlas.stores.cypher_names import check_properties
from atlas.stores.neo4j.captions import write_captions
from atlas.stores.neo4j.community_colours import colour_communities
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.shared_nodes import Shared
from atlas.stores.neo4j.staged_swap import SHOWN, Generations, define, flips
from atlas.stores.neo4j.text_search import by_index, make_searchable
from atlas.stores.partition import (
    Slices,
    SliceSize,
    in_order,
    sae_column,
    shared_edges,
    shared_nodes,
    tables,
)
from atlas.stores.planning import compare

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Neo4jStore"]

SECONDS_A_ROW_GONE = 45e-6
SECONDS_A_SWAP = 2.0


class Neo4jStore:
    """The atlases of one database of a server.

    Parameters
    ----------
    bolt
        The connection.
    wait
        Seconds to wait for another process that writes there.
    """

    def __init__(self, bolt: Bolt, *, wait: float = 30.0) -> None:
        self.url = bolt.url
        self._bolt = bolt
        self._wait = wait

    def contents(self) -> dict[str, StoredSae]:
        """Return the atlas and fingerprint of each SAE of all atlases, by SAE name."""
        rows = self._bolt.ask(
            "MATCH (s:SAE) RETURN s.name, s._atlas, s._fingerprint ORDER BY s.name"
        ).rows
        return {
            name: StoredSae(atlas or "", fingerprint or "") for name, atlas, fingerprint in rows
        }

    def plan(self, graph: Graph) -> SyncPlan:
        """Compute the changes of a sync; see ``Store.plan``."""
        current = self.contents()
        others = {n: loaded.atlas for n, loaded in current.items() if loaded.atlas != graph.atlas}
        if taken := sorted(set(others) & set(graph.fingerprints)):
            raise Mismatch(
                f"{self.url} shows {', '.join(taken)} of another atlas ({others[taken[0]] or 'unknown'}), "
                f"and {graph.name!r} has an SAE of the same name; push it under another name with `names`."
            )
        plan = compare(graph, {n: loaded for n, loaded in current.items() if n not in others})
        shared = Shared(self._bolt, graph)
        shared.check_models()
        plan = replace(plan, shared=shared.differ())
        if not plan.changes:
            return plan
        slices, shown, swaps = Slices(graph), set(plan.keep), (*plan.replace, *plan.add)
        size = SliceSize.of(graph.tables[e.type] for e in shared_edges())
        if swaps or plan.remove:
            size += SliceSize.of(graph.tables[n.label] for n in shared_nodes())
        for name in swaps:  # in the order of ``sync``: the later SAE of an edge writes it
            size += slices.size(name, among=shown)
            shown.add(name)
        gone = (*plan.replace, *plan.remove)
        seconds = size.seconds
        seconds += SECONDS_A_ROW_GONE * self._shown_rows(gone)
        seconds += SECONDS_A_SWAP * (len(swaps) + len(plan.remove))
        return replace(plan, rows=size.rows, seconds=seconds)

    def sync(self, plan: SyncPlan, progress: Progress) -> None:
        """Write the planned graph to the server; see ``Store.sync``.

        The plan is computed again under the lock, and data of killed syncs is deleted. A
        sync may be killed at any moment; the next one continues.

        Raises
        ------
        Locked
            If another process is writing to the database.
        Mismatch
            If another atlas has taken the name of an SAE meanwhile, or has another model of the
            same name.
        """
        graph = plan.graph
        with self._bolt.alone(wait=self._wait):
            define(self._bolt, graph)
            plan = self.plan(graph)
            pace = Pace({"push": plan.seconds}, progress=progress)
            generations, shared = Generations(self._bolt, graph, pace), Shared(self._bolt, graph)
            generations.end_swap()
            with progress.stage("cleaning up after unfinished pushes") as stage:
                generations.sweep(stage)
            if plan.changes:
                shared.add(progress)
            shared.record_models()
            if plan.changes:
                generations.retain(plan.keep)
                pace.skip()
            for name in plan.remove:
                with progress.stage(f"removing {name}{pace.title}") as stage:
                    generations.hide(name)
                    generations.sweep(stage)
                pace.lap("push", SECONDS_A_SWAP)
            for name in (*plan.replace, *plan.add):
                rows = generations.rows(name)
                title = f"pushing {name}{pace.title}"
                with progress.stage(title, total=rows, unit="rows") as stage:
                    generations.show(name, stage)
                    generations.sweep(stage)
                pace.lap("push", SECONDS_A_SWAP)
            shared.drop()
            colour_communities(self._bolt, graph.atlas)
            write_captions(self._bolt, graph.atlas)
            make_searchable(self._bolt, graph.atlas)

    def query(
        self, cypher: str, params: Params, *, timeout: float = 60, limits: Limits | None = None
    ) -> "pa.Table":
        """Run a read-only query; see ``Store.query``.

        Nodes and edges are returned as structs of their properties.
        """
        values = checked(cypher, params)
        limits = limits or Limits(timeout=timeout, rows=sys.maxsize)
        run = partial(
            self._bolt.ask,
            timeout=limits.timeout,
            rows=limits.rows,
            steady=SHOWN,
            strict=True,
        )
        faster = by_index(self._bolt, cypher)
        answer = run(faster, values)
        if faster != cypher and by_index(self._bolt, cypher) == cypher:
            answer = run(cypher, values)  # meanwhile an SAE came that is not searchable
        if any(all(row[i] is None for row in answer.rows) for i in range(len(answer.names))):
            # No rows, or a column of nulls, as Neo4j returns for a property that does not exist.
            check_properties(cypher)
        return _arrow(answer.names, answer.rows)

    def table(self, name: str, sae: str | None = None) -> "pa.Table":
        """Return one node or edge table, sorted by its keys; see ``Store.table``."""
        import pyarrow as pa

        spec = schema.table(name)
        cypher, params = _reading(spec, sae)
        rows = chain.from_iterable(r[0] for r in self._bolt.ask(cypher, params, steady=SHOWN).rows)
        wanted = schema.arrow_schema(name)
        columns = list(zip(*rows, strict=True)) or [()] * len(wanted)
        arrays = [pa.array(c, type=f.type) for c, f in zip(columns, wanted, strict=True)]
        return in_order(spec, pa.table(arrays, names=wanted.names))

    def _shown_rows(self, names: Sequence[str]) -> int:
        """Return the approximate number of nodes and edges that the server shows of SAEs."""
        answer = self._bolt.ask(
            "MATCH (f:Feature) WHERE f.sae IN $names "
            "RETURN sum(1 + COUNT { (f)--() } + COUNT { (f)-[:SHOWN_BY]->() })",
            {"names": list(names)},
        )
        return int(answer.rows[0][0])

    def close(self) -> None:
        """Close the connections."""
        self._bolt.close()


def _reading(spec: Node | Edge, sae: str | None) -> tuple[str, dict[str, Any]]:
    """Return the query that reads a table, and its parameters.

    Each record of the answer is a list of rows, because the driver takes 60 microseconds
    per record of any size. One list fits into the memory of the server: it has the
    flipping nodes of an SAE, all shared nodes of a table, or the edges of a node.
    """
    if isinstance(spec, Node):
        cypher = _reading_nodes(spec, only=sae is not None)
    else:
        cypher = _reading_edges(spec, only=sae is not None)
    return cypher, {} if sae is None else {"sae": sae}


def _reading_nodes(spec: Node, *, only: bool) -> str:
    row = f"[{', '.join(f'n.`{p.name}`' for p in spec.properties)}]"
    column = sae_column(spec)
    where = " WHERE s.name = $sae" if only else ""
    if column is None:
        return f"MATCH (n:`{spec.label}`) RETURN collect({row})"
    if flips(spec):
        same = f"MATCH (n:`{spec.label}` {{`{column}`: s.name}})"
        return f"MATCH (s:SAE){where} RETURN COLLECT {{ {same} RETURN {row} }}"
    # The label of these nodes does not distinguish the shown generation from others.
    same = f"MATCH (n:`{spec.label}` {{_generation: s._generation}})"
    return f"MATCH (s:SAE){where} {same} RETURN [{row}]"


def _reading_edges(spec: Edge, *, only: bool) -> str:
    """Return the query for edges, grouped by source, or by the target if it is an SAE."""
    ends = {"a": schema.node(spec.source), "b": schema.node(spec.target)}
    near, far = ("b", "a") if spec.target == "SAE" else ("a", "b")
    where: dict[str, list[str]] = {"a": [], "b": []}
    begin, column = "", sae_column(ends["a"])
    owned = [at for at, end in ends.items() if sae_column(end) is not None]
    if owned and not any(flips(end) for end in ends.values()):
        begin = "MATCH (s:SAE) "
        where[owned[0]].append(f"{owned[0]}._generation = s._generation")
    if only:  # an edge between shared nodes belongs to no SAE
        where["a"].append("false" if column is None else f"a.`{column}` = $sae")
    keys = {at: f"{at}.`{end.key}`" for at, end in ends.items()}
    row = f"[{', '.join([keys['a'], keys['b'], *(f'e.`{p.name}`' for p in spec.properties)])}]"
    clauses = {at: f" WHERE {' AND '.join(terms)}" if terms else "" for at, terms in where.items()}
    edges = f"(a)-[e:`{spec.type}`]->(b)".replace(f"({far})", f"({far}:`{ends[far].label}`)")
    return (
        f"{begin}MATCH ({near}:`{ends[near].label}`){clauses[near]} "
        f"RETURN COLLECT {{ MATCH {edges}{clauses[far]} RETURN {row} }}"
    )


def _arrow(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> "pa.Table":
    """Return an answer as a table; a column without values has the type null."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = []
    for name, values in zip(names, columns, strict=True):
        try:
            arrays.append(pa.array([_bare(v) for v in values]))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise QueryFailed(
                f"The column {name!r} of the answer cannot be converted to a table ({reason}); return texts, "
                "numbers or lists of one type."
            ) from error
    return pa.table(arrays, names=list(names))


def _bare(value: Any) -> Any:
    """Return a node or an edge as a map of its properties, in the schema's order."""
    from neo4j.graph import Node as GraphNode
    from neo4j.graph import Path, Relationship

    if isinstance(value, GraphNode | Relationship):
        names = value.labels if isinstance(value, GraphNode) else {value.type}
        known = [p.name for spec in tables() if spec.name in names for p in spec.properties]
        return {name: value.get(name) for name in known or sorted(value.keys())}
    if isinstance(value, Path):
        raise QueryFailed("A path cannot be a column; return properties of its nodes and edges.")
    if isinstance(value, list):
        return [_bare(v) for v in value]
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items()}
    return value
