"""The query for a text in examples uses the text index of Neo4j, and its answers do not depend on it."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pytest
from neo4j_server import Server
from store_graphs import make_graph, put

import queries
from atlas import schema
from atlas.stores import Graph
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.neo4j.store import Neo4jStore
from atlas.stores.neo4j.text_search import INDEXED_LENGTH, by_index

pytestmark = pytest.mark.neo4j

QUERY = queries.get("examples_with_text")
PIECES = ["The ", "DOG ", "dog ", "café ", "CAFÉ ", "日本 ", "😀", "a'b ", "%_* ", "\n", "\\"]
SOUGHT = [
    "",
    "d",
    "Do",
    "dog",
    "DOG the",
    "café",
    "日",
    "日本 日本",
    "😀",
    "a'b",
    "%",
    "\\",
    "cat",
    "og t",
]

Open = Callable[[], Neo4jStore]
Ask = Callable[..., list[list[Any]]]


@pytest.fixture
def driver(empty_neo4j: Server) -> Iterator[neo4j.Driver]:
    login = (empty_neo4j.username, empty_neo4j.password)
    with neo4j.GraphDatabase.driver(
        empty_neo4j.url, auth=login, notifications_min_severity="OFF"
    ) as opened:
        yield opened


def texts_graph(seed: int = 0, *, longest: int = 0) -> Graph:
    """Return a graph whose examples have random texts, some of them null, and one of this length."""
    draw = random.Random(seed)
    graph = make_graph(("a1", "a2"), features=20)
    rows = graph.tables["Example"].to_pylist()
    for i, row in enumerate(rows):
        words = draw.choices(PIECES, k=draw.randrange(1, 7))
        row["text"] = None if draw.random() < 0.1 else "".join(words)
        row["kind"] = draw.choice(["top", "top", "sampled"])
        row["activation"] = float(i)  # without ties
    if longest:
        rows[0] |= {"text": "x" * longest + " dog", "kind": "top"}
    return with_examples(graph, rows)


def with_examples(graph: Graph, rows: list[dict[str, Any]]) -> Graph:
    examples = pa.Table.from_pylist(rows, schema=schema.arrow_schema("Example"))
    return replace(graph, tables={**graph.tables, "Example": examples})


def sought(graph: Graph, text: str, sae: str = "") -> list[tuple[str, str]]:
    """Return features and texts of the examples with a text, by a loop."""
    return sorted(
        (f"{row['sae']}/{row['idx']}", row["text"])
        for row in graph.tables["Example"].to_pylist()
        if row["kind"] == "top" and row["text"] is not None
        if text.lower() in row["text"].lower() and sae in ("", row["sae"])
    )


def operators(driver: neo4j.Driver, cypher: str, values: dict[str, Any]) -> dict[str, str]:
    """Return the operators that a query ran by, with their details."""
    plans, found = [driver.execute_query(f"PROFILE {cypher}", values).summary.profile], {}
    while plans:
        plan = plans.pop()
        plans.extend(plan.get("children", ()))
        found[plan["operatorType"].partition("@")[0]] = str(plan["args"].get("Details", ""))
    return found


def answers(store: Neo4jStore | KuzuStore, text: str, sae: str = "") -> list[dict[str, Any]]:
    values = QUERY.fill({"text": text or "x", "sae": sae, "limit": 1000}) | {"text": text}
    return store.query(QUERY.cypher, values).to_pylist()


def assert_found(graph: Graph, *stores: Neo4jStore | KuzuStore) -> None:
    """Check the answers of every store for every text."""
    for text in SOUGHT:
        for sae in ("", "a2"):
            rows = [answers(store, text, sae) for store in stores]
            found = sorted((row["feature"], row["text"]) for row in rows[0])
            assert found == sought(graph, text, sae), text
            assert all(other == rows[0] for other in rows), text


def test_the_query_scans_the_index(open_neo4j: Open, driver: neo4j.Driver) -> None:
    put(store := open_neo4j(), texts_graph())
    values = {p.name: p.example for p in QUERY.parameters}
    assert "NodeIndexContainsScan" not in operators(driver, QUERY.cypher, values)
    used = operators(driver, by_index(store._bolt, QUERY.cypher), values)
    assert used["NodeIndexContainsScan"].startswith("TEXT INDEX e:Example(_lower)")
    other = queries.get("features_by_token_part").cypher
    assert by_index(store._bolt, other) == other


def test_the_index_answers_as_a_loop_and_as_the_embedded_store(
    open_neo4j: Open, tmp_path: Path
) -> None:
    graph = texts_graph(1)
    put(server := open_neo4j(), graph)
    embedded = KuzuStore.open(tmp_path / "g.kuzu", graph=lambda: graph)
    assert by_index(server._bolt, QUERY.cypher) != QUERY.cypher
    assert_found(graph, server, embedded)
    embedded.close()


@pytest.mark.parametrize("length", [INDEXED_LENGTH + 1, 40_000])
def test_a_text_that_is_too_long_for_an_index_is_found(open_neo4j: Open, length: int) -> None:
    graph = texts_graph(2, longest=length)
    put(store := open_neo4j(), graph)
    assert by_index(store._bolt, QUERY.cypher) == QUERY.cypher
    assert_found(graph, store)


def test_examples_without_lower_case_text_are_found_and_the_next_push_adds_it(
    open_neo4j: Open, driver: neo4j.Driver
) -> None:
    """An import by neo4j-admin writes neither the texts nor the flag; long texts have no index."""
    graph = texts_graph(3, longest=INDEXED_LENGTH + 1)
    long = graph.tables["Example"]["sae"][0].as_py()
    put(store := open_neo4j(), graph)
    driver.execute_query("MATCH (e:Example) REMOVE e._lower")
    driver.execute_query("MATCH (s:SAE) REMOVE s._searchable")
    assert_found(graph, store)
    assert not store.plan(graph).changes
    put(store, graph)
    flags = driver.execute_query("MATCH (s:SAE) RETURN s.name, s._searchable").records
    assert dict(map(tuple, flags)) == {name: name != long for name in ("a1", "a2")}
    assert_found(graph, store)
    others = [row for row in graph.tables["Example"].to_pylist() if row["sae"] != long]
    shown_by = graph.tables["SHOWN_BY"]
    ids = {row["id"] for row in others}
    edges = shown_by.filter(pa.array([t in ids for t in shown_by["target"].to_pylist()]))
    prints = {**graph.fingerprints, long: "without examples"}
    short = with_examples(graph, others)
    short = replace(short, tables={**short.tables, "SHOWN_BY": edges}, fingerprints=prints)
    put(store, short)
    assert by_index(store._bolt, QUERY.cypher) != QUERY.cypher
    assert_found(short, store)


def test_an_sae_that_comes_during_the_query_is_searched(
    open_neo4j: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push between the choice of the query and its answer shows an SAE with a long text."""
    before, after = texts_graph(4), texts_graph(4, longest=INDEXED_LENGTH + 1)
    after = replace(after, fingerprints={n: f"{f} new" for n, f in after.fingerprints.items()})
    put(store := open_neo4j(), before)
    writer, first = open_neo4j(), []

    def push_after(bolt: Any, cypher: str) -> str:
        chosen = by_index(bolt, cypher)
        if not first:
            first.append(chosen)
            put(writer, after)
        return chosen

    monkeypatch.setattr("atlas.stores.neo4j.store.by_index", push_after)
    found = sorted((row["feature"], row["text"]) for row in answers(store, "dog"))
    assert first != [QUERY.cypher]
    assert found == sought(after, "dog") != sought(before, "dog")
