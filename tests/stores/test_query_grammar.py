"""Both engines return equal rows for random queries that the embedded store accepts."""

import random

import neo4j
import pyarrow as pa
import pytest
from query_grammar import Writer, random_graph

from atlas.errors import QueryFailed, StoreError
from atlas.stores import Limits
from atlas.stores.cypher import checked
from atlas.stores.kuzu.engine import engine
from atlas.stores.kuzu.faults.refused import check_faults
from atlas.stores.kuzu.store import KuzuStore

NODES = pa.schema(
    [
        ("id", pa.int64()),
        ("s", pa.string()),
        ("i", pa.int64()),
        ("d", pa.float64()),
        ("b", pa.bool_()),
        ("l", pa.list_(pa.string())),
    ]
)
EDGES = pa.schema(
    [
        ("a", pa.int64()),
        ("z", pa.int64()),
        ("c", pa.int64()),
        ("w", pa.float64()),
        ("b", pa.bool_()),
        ("s", pa.string()),
    ]
)
PAIR = "MATCH (a) WHERE elementId(a) = r.a MATCH (z) WHERE elementId(z) = r.z"


def embedded(graph, path):
    """Return a store with a graph."""
    nodes, edges = graph
    database = engine().Database(str(path), buffer_pool_size=64 << 20)
    connection = engine().Connection(database)
    connection.execute(
        "CREATE NODE TABLE N (id INT64, s STRING, i INT64, d DOUBLE, b BOOL, l STRING[], PRIMARY KEY (id))"
    )
    connection.execute("COPY N FROM $rows", {"rows": pa.Table.from_pylist(nodes, NODES)})
    for kind, rows in edges.items():
        connection.execute(
            f"CREATE REL TABLE {kind} (FROM N TO N, c INT64, w DOUBLE, b BOOL, s STRING)"
        )
        connection.execute(f"COPY {kind} FROM $rows", {"rows": pa.Table.from_pylist(rows, EDGES)})
    connection.close()
    database.close()
    store = KuzuStore(path)
    store._database = store._read_only()
    return store


def embedded_rows(store, query):
    """Return the rows of the embedded store, or None if it refuses the query."""
    try:
        values = checked(query, {})
        check_faults(query)
        table = store.answer(query, values, limits=Limits(timeout=60, rows=10**6))
    except (QueryFailed, StoreError):
        return None
    return [tuple(row.values()) for row in table.to_pylist()]


def fill(session, graph):
    nodes, edges = graph
    session.run("MATCH (n:N) DETACH DELETE n").consume()
    created = session.run(
        "UNWIND $rows AS r CREATE (n:N) SET n = r RETURN r.id AS id, elementId(n) AS n", rows=nodes
    )
    known = {row["id"]: row["n"] for row in created}
    for kind, rows in edges.items():
        ends = [{**row, "a": known[row["a"]], "z": known[row["z"]]} for row in rows]
        create = f"CREATE (a)-[:{kind} {{c: r.c, w: r.w, b: r.b, s: r.s}}]->(z)"
        session.run(f"UNWIND $rows AS r {PAIR} {create}", rows=ends).consume()


def plain(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(float(value), 6) + 0.0 if number else value


def same_rows(one, two, *, in_order=False):
    """Return whether rows are equal; with ``in_order``, also their order."""
    if in_order:
        return [[plain(v) for v in row] for row in one] == [[plain(v) for v in row] for row in two]
    return sorted(repr([plain(v) for v in row]) for row in one) == sorted(
        repr([plain(v) for v in row]) for row in two
    )


def compare(server, folder, seeds, each, *, size=0):
    """Return the number of compared queries, and those with different rows.

    With a size, each graph has that number of nodes; kuzu computes 2,048 rows at a time, in several threads.
    """
    login, compared, different = (server.username, server.password), 0, []
    with neo4j.GraphDatabase.driver(
        server.url, auth=login, notifications_min_severity="OFF"
    ) as driver:
        for seed in seeds:
            rng = random.Random(seed)
            graph = random_graph(rng, size)
            store = embedded(graph, folder / f"{seed}.kuzu")
            with driver.session() as session:
                fill(session, graph)
                for _ in range(each):
                    query = Writer(rng, is_large=size > 0).query()
                    found = embedded_rows(store, query)
                    if found is None:
                        continue
                    neo4j_rows = [tuple(r.values()) for r in session.run(query)]
                    compared += 1
                    in_order = "ORDER BY" in query.splitlines()[-1]
                    if not same_rows(found, neo4j_rows, in_order=in_order):
                        different.append((seed, query, found[:5], neo4j_rows[:5]))
            store.close()
    return compared, different


@pytest.mark.neo4j
def test_both_engines_return_equal_rows(empty_neo4j, tmp_path):
    compared, different = compare(empty_neo4j, tmp_path, range(6), 15)
    assert different == []
    assert compared > 45


@pytest.mark.neo4j
@pytest.mark.deep
def test_both_engines_return_equal_rows_for_many_queries(empty_neo4j, tmp_path):
    compared, different = compare(empty_neo4j, tmp_path, range(1000, 1060), 50)
    assert different == []
    assert compared > 1500


@pytest.mark.neo4j
@pytest.mark.deep
def test_both_engines_return_equal_rows_on_large_graphs(empty_neo4j, tmp_path):
    compared, different = compare(empty_neo4j, tmp_path, range(2000, 2020), 15, size=3_000)
    assert different == []
    assert compared > 150
