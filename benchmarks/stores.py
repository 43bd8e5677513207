"""How fast a graph is loaded: the embedded store, and Neo4j against one MERGE a row.

    python benchmarks/stores.py                # both; Neo4j is started from jars (Java 17, Maven)
    NEO4J_PASSWORD=… python benchmarks/stores.py --url bolt://localhost:7687
    python benchmarks/stores.py --no-neo4j --edges 4000000

The edges are made up, co-activation with all the properties of the schema; times
are wall clock. The embedded store is measured on the COPY of the edges, and on
building the complete file. Neo4j is measured on a complete push of one SAE (constraints,
features, edges, swap), the second of two, so that the server is warm. Against it
stand two naive loads of a sample of the same edges, on the same warm server and with
an index on the features, scaled to all of them: one MERGE a row, each in a
transaction of its own, and the same with 1,000 rows in a transaction. What is
written is removed at the end.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kuzu
import neo4j
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from atlas import schema
from atlas.progress import SILENT
from atlas.stores import Graph
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.opening import open_server

SAE = "benchmark"
ATLAS = "00000000-0000-4000-8000-00000000bbbb"
NAIVE = (
    "MERGE (a:NaiveFeature {id: $source}) MERGE (b:NaiveFeature {id: $target}) "
    "MERGE (a)-[e:CO_ACTIVATES]->(b) SET e += $properties"
)


def make_graph(features: int, edges: int, *, version: str = "1") -> Graph:
    """Return one SAE with so many features and random co-activation edges between them."""
    rng = np.random.default_rng(0)
    pairs = features * (features - 1) // 2
    if edges > pairs:
        raise SystemExit(f"{features} features have {pairs} pairs; ask for fewer --edges.")
    at = np.sort(rng.choice(pairs, edges, replace=False, shuffle=False))
    b = ((1 + np.sqrt(1 + 8 * at.astype(np.float64))) / 2).astype(np.int64)
    b -= b * (b - 1) // 2 > at  # the root may round up
    a = at - b * (b - 1) // 2
    ids = np.array([f"{SAE}/{i}" for i in range(features)])
    known: dict[str, dict[str, Any]] = {
        "SAE": {"name": [SAE]},
        "Feature": {"id": ids, "sae": [SAE] * features, "idx": np.arange(features)},
        "IN_SAE": {"source": ids, "target": [SAE] * features},
        "CO_ACTIVATES": {"source": ids[a], "target": ids[b]},
    }
    tables = {of.name: filled(of.name, known.get(of.name, {}), rng) for of in schema.TABLES}
    return Graph(ATLAS, "benchmark", tables, {SAE: version})


def filled(name: str, known: Mapping[str, Any], rng: np.random.Generator) -> pa.Table:
    """Return a table with the columns that are known, random numbers, and nulls."""
    wanted = schema.arrow_schema(name)
    rows = len(next(iter(known.values()), []))
    columns = []
    for field in wanted:
        if field.name in known:
            columns.append(pa.array(known[field.name], field.type))
        elif pa.types.is_floating(field.type):
            columns.append(pa.array(rng.random(rows)))
        elif pa.types.is_integer(field.type):
            columns.append(pa.array(rng.integers(1, 1000, rows)))
        else:
            columns.append(pa.nulls(rows, field.type))
    return pa.table(columns, schema=wanted)


def measure_kuzu(graph: Graph) -> dict[str, float]:
    """Measure the COPY of the edges into the embedded store, and the building of the file."""
    edges = graph.tables["CO_ACTIVATES"]
    copied: list[float] = []
    execute = kuzu.Connection.execute

    def timed(self: Any, query: str, *rest: Any) -> Any:
        began = time.perf_counter()
        answer = execute(self, query, *rest)
        if query.startswith("COPY `CO_ACTIVATES`"):
            copied.append(time.perf_counter() - began)
        return answer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.kuzu"
        kuzu.Connection.execute = timed
        began = time.perf_counter()
        try:
            KuzuStore.open(path, graph=lambda: graph).close()
        finally:
            kuzu.Connection.execute = execute
        took = time.perf_counter() - began
        size = path.stat().st_size
    values = edges.num_rows * (edges.num_columns - 2)
    return {
        "edges": edges.num_rows,
        "edges_per_second": edges.num_rows / copied[0],
        "values_per_second": values / copied[0],
        "whole_file_seconds": took,
        "bytes_per_edge": size / edges.num_rows,
    }


def measure_neo4j(server: Any, graph: Graph, *, sample: int) -> dict[str, float]:
    """Measure a push, and naive loads of a sample of the same edges."""
    rows = graph.tables["CO_ACTIVATES"].slice(0, sample).to_pylist()
    edges = graph.tables["CO_ACTIVATES"].num_rows
    login = {"username": server.username, "password": server.password}
    store = open_server(server.url, **login)
    auth = (server.username, server.password)
    try:
        for version in ("warm", "measured"):
            put(store, without(graph))
            again = Graph(graph.atlas, graph.name, graph.tables, {SAE: version})
            plan = store.plan(again)
            began = time.perf_counter()
            store.sync(plan, SILENT)
            took = time.perf_counter() - began
        with neo4j.GraphDatabase.driver(server.url, auth=auth) as driver, driver.session() as s:
            naive = {size: naive_load(s, rows, size) * edges / len(rows) for size in (1, 1000)}
    finally:
        put(store, without(graph))
        store.close()
    return {
        "edges": edges,
        "push_seconds": took,
        "push_seconds_estimated": plan.seconds,
        "edges_per_second": edges / took,
        "sampled_edges": len(rows),
        "naive_seconds_scaled": naive[1],
        "times_naive": naive[1] / took,
        "naive_in_transactions_seconds_scaled": naive[1000],
        "times_naive_in_transactions": naive[1000] / took,
    }


def without(graph: Graph) -> Graph:
    """Return the graph of an atlas that holds nothing."""
    tables = {name: table.slice(0, 0) for name, table in graph.tables.items()}
    return Graph(graph.atlas, graph.name, tables, {})


def put(store: Any, graph: Graph) -> None:
    """Make a store show a graph."""
    store.sync(store.plan(graph), SILENT)


def naive_load(session: neo4j.Session, rows: list[dict[str, Any]], size: int) -> float:
    """Load edges with one MERGE a row, so many in a transaction; return the seconds it took."""
    session.run(
        "CREATE CONSTRAINT naive IF NOT EXISTS FOR (f:NaiveFeature) REQUIRE f.id IS UNIQUE"
    ).consume()
    params = [
        {
            "source": row["source"],
            "target": row["target"],
            "properties": {k: v for k, v in row.items() if k not in ("source", "target")},
        }
        for row in rows
    ]
    try:
        session.run(NAIVE, params[0]).consume()  # plan it
        began = time.perf_counter()
        for start in range(0, len(params), size):
            with session.begin_transaction() as transaction:
                for row in params[start : start + size]:
                    transaction.run(NAIVE, row)
                transaction.commit()
        return time.perf_counter() - began
    finally:
        session.run("MATCH (f:NaiveFeature) DETACH DELETE f").consume()
        session.run("DROP CONSTRAINT naive").consume()


def servers(url: str | None) -> Iterator[Any]:
    """Yield the server that is named, or one of our own; none if it cannot be started."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    from neo4j_server import CannotStart, Own, Server

    if url:
        login = os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ.get("NEO4J_PASSWORD", "")
        yield Server(url, *login)
        return
    home = Path(tempfile.mkdtemp())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        try:
            own = stack.enter_context(Own(home / "home"))
            own.start()
        except CannotStart as error:
            print(f"Neo4j is left out: {error}", file=sys.stderr)
            return
        yield own.server


def main() -> None:
    """Measure what is requested and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--edges", type=int, default=1_000_000, help="for the embedded store")
    parser.add_argument("--neo4j-edges", type=int, default=200_000)
    parser.add_argument("--sample", type=int, default=5_000, help="edges loaded naively")
    parser.add_argument("--url", help="a Neo4j server; login in NEO4J_USERNAME, NEO4J_PASSWORD")
    parser.add_argument("--no-neo4j", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {"cores": os.cpu_count(), "kuzu": measure_kuzu(make_graph(args.features, args.edges))}
    for server in () if args.no_neo4j else servers(args.url):
        graph = make_graph(args.features, args.neo4j_edges)
        found["neo4j"] = measure_neo4j(server, graph, sample=args.sample)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


def show(found: Mapping[str, Any]) -> None:
    """Print what was measured, with the goals."""
    table = Table("measure", "found", "goal", box=None)
    embedded, server = found["kuzu"], found.get("neo4j")
    table.add_row(
        f"embedded store: COPY of {embedded['edges']:,} edges",
        f"{embedded['edges_per_second']:,.0f} edges/s",
        "500,000 edges/s",
    )
    table.add_row("    their properties", f"{embedded['values_per_second']:,.0f} values/s", "")
    table.add_row("    the complete file", f"{embedded['whole_file_seconds']:.1f} s", "")
    table.add_row("    on disk", f"{embedded['bytes_per_edge']:.0f} bytes/edge", "")
    if server:
        estimated = f"{server['push_seconds_estimated']:.1f} s estimated"
        table.add_row(
            f"Neo4j: push of {server['edges']:,} edges",
            f"{server['push_seconds']:.1f} s",
            estimated,
        )
        table.add_row("    edges", f"{server['edges_per_second']:,.0f} edges/s", "")
        sampled = f"(from {server['sampled_edges']:,})"
        table.add_row(
            f"    one MERGE a row {sampled}", f"{server['naive_seconds_scaled']:.0f} s", ""
        )
        table.add_row("    ratio", f"{server['times_naive']:.1f} x", "5 x")
        scaled = server["naive_in_transactions_seconds_scaled"]
        table.add_row(f"    1,000 of them in a transaction {sampled}", f"{scaled:.0f} s", "")
        table.add_row("    ratio", f"{server['times_naive_in_transactions']:.1f} x", "")
    Console().print(table)


if __name__ == "__main__":
    main()
