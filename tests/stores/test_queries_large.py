"""Every named query on tables above 10,000 rows, which the embedded engine reads in several threads and sorts in parts."""

import pytest
from expected_answers import ANSWERS, World
from large_graph import large_graph
from test_queries import required, rows

import queries
from atlas.stores.kuzu.store import KuzuStore

S0, S1, WIDE = "tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-wide"
ALL = {"limit": 100_000}
CHAIN = {"sae_a": S0, "sae_b": S1, "sae_c": WIDE}
# Parameters with which a query has rows on this graph, where its defaults have none or few.
CASES = {
    "conserved_edges": [{"max_q": 1.0, "min_count": 1, **ALL}],
    "counterpart_chain": [{**CHAIN, **ALL}],
    "effect_chains": [CHAIN, {**CHAIN, **ALL}],
    "examples_with_text": [{"text": "ONCE"}, {"text": "ONCE", **ALL}],
    "high_lift_pairs": [{"min_lift": 0.0, "max_joint": 10, **ALL}],
    "hubs": [{"min_degree": 1}, {"min_degree": 1, **ALL}],
    "narrow_features": [{"min_degree": 1}, {"min_degree": 1, **ALL}],
    "near_never_together": [{"min_cosine": 0.0, **ALL}],
    "splitting_chains": [{**CHAIN, **ALL}],
    "strongest_edges": [
        {"min_count": 1, "by": by, **limit} for by in ("count", "lift") for limit in ({}, ALL)
    ],
    "token_detectors": [{"min_share": 0.0, "min_rate": 0.0, **limit} for limit in ({}, ALL)],
    "unconserved_edges": [{"max_q": 1.0, "min_count": 1, **ALL}],
}
# Not asked: a million pairs of features share one of the eleven tokens, which takes minutes.
NAMES = [name for name in queries.names() if name != "shared_tokens"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    graph = large_graph(1, features=4_000)
    store = KuzuStore.open(tmp_path_factory.mktemp("kuzu") / "g.kuzu", graph=lambda: graph)
    yield store, World(graph)
    store.close()


@pytest.mark.deep
@pytest.mark.parametrize("name", NAMES)
def test_answers_on_large_tables_are_those_of_plain_python(asked, name):
    store, world = asked
    assert len(world.Feature) > 10_000
    query = queries.get(name)
    has_limit = any(p.name == "limit" for p in query.parameters)
    for case in [{}, *([ALL] if has_limit else []), *CASES.get(name, [])]:
        given = query.fill({**required(query), **case})
        expected = ANSWERS[name](world, **given)
        for _ in range(3):  # some faults of the engine are random
            assert rows(store.query(query.cypher, given)) == expected, case
