"""Answers of both engines to random queries equal a brute force; see ``query_fuzz``."""

import random

import neo4j
import pytest
from query_fuzz import Query, RandomGraph, embedded_answers, queries, wrong

GRAPHS, EACH = 15, 12


def neo4j_answers(graph, requests, server):
    login = (server.username, server.password)
    with neo4j.GraphDatabase.driver(server.url, auth=login) as driver, driver.session() as session:
        session.run("MATCH (n:N) DETACH DELETE n").consume()
        session.run(
            "UNWIND $nodes AS n CREATE (:N {id: n[0], grp: n[1]})",
            nodes=[list(n) for n in graph.nodes],
        ).consume()
        session.run(
            "UNWIND $edges AS e MATCH (a:N {id: e[0]}) MATCH (b:N {id: e[1]}) "
            "CREATE (a)-[:E {cnt: e[2], weight: e[3]}]->(b)",
            edges=[[graph.nodes[s][0], graph.nodes[t][0], c, w] for s, t, c, w in graph.edges],
        ).consume()
        found = [[tuple(r.values()) for r in session.run(q.cypher)] for q in requests]
        session.run("MATCH (n:N) DETACH DELETE n").consume()
    return found


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_kuzu_equals_the_brute_force(seed, tmp_path):
    rng = random.Random(seed)
    graph = RandomGraph.draw(rng)
    requests = list(queries(rng, EACH))
    assert wrong(graph, requests, embedded_answers(graph, requests, tmp_path / "fuzz.kuzu")) == []


@pytest.mark.neo4j
def test_neo4j_equals_the_brute_force(empty_neo4j):
    for seed in range(GRAPHS):
        rng = random.Random(seed)
        graph = RandomGraph.draw(rng)
        requests = list(queries(rng, EACH))
        assert wrong(graph, requests, neo4j_answers(graph, requests, empty_neo4j)) == []


def test_the_brute_force_equals_counts_by_hand():
    """On a triangle a -> b -> c -> a and the edge b -> a, computed by hand."""
    nodes = (("a", 0), ("b", 1), ("c", 2))
    graph = RandomGraph(nodes, ((0, 1, 1, 1.0), (1, 2, 2, 2.0), (2, 0, 3, 3.0), (1, 0, 4, 4.0)))
    anything = {"node_filters": (None,) * 3, "optional": False, "aggregate": "count", "limit": 2}
    two = Query(("out", "out"), edge_filters=(None, None), shape="rows", **anything)
    assert sorted(two.answer(graph)) == [
        ("a", "a", 4.0),
        ("a", "b", 3.0),
        ("b", "b", 1.0),
        ("b", "c", 1.0),
        ("c", "a", 2.0),
    ]
    back = Query(("any", "any"), edge_filters=(None, ("=", 1)), shape="rows", **anything)
    # a -> b last: after b -> a or c -> a from the other end, and after b -> c or b -> a from b.
    assert sorted(back.answer(graph)) == [
        ("a", "a", 1.0),
        ("a", "c", 1.0),
        ("b", "b", 1.0),
        ("b", "c", 1.0),
    ]
    first = Query(("out", "out"), edge_filters=(None, None), shape="limit", **anything)
    assert first.answer(graph) == [("b", "b", 1.0), ("b", "c", 1.0)]
