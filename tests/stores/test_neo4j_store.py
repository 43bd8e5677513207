"""The Neo4j store: atomic swaps, several atlases, killed pushes and refused logins."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pytest
from edge_graphs import assert_edges_belong, assert_no_mixture, edge_graph
from neo4j_server import Server, free_port, leftovers
from small_graph import small_graph
from store_graphs import ATLAS, OTHER, assert_shows, make_graph, put, rows_of

import queries
from atlas import schema
from atlas.errors import (
    BadInput,
    Locked,
    Mismatch,
    QueryFailed,
    StoreDenied,
    StoreError,
    StoreUnreachable,
)
from atlas.progress import SILENT, Silent
from atlas.stores import Graph, Store
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore
from atlas.stores.opening import is_server, open_server, open_store

pytestmark = pytest.mark.neo4j

Open = Callable[[], Neo4jStore]


@pytest.fixture
def ask(empty_neo4j: Server) -> Iterator[Callable[..., list[list[Any]]]]:
    """Run Cypher by the driver, without the store."""
    login = (empty_neo4j.username, empty_neo4j.password)
    with neo4j.GraphDatabase.driver(
        empty_neo4j.url, auth=login, notifications_min_severity="OFF"
    ) as driver:
        yield lambda cypher, **params: [
            list(r.values()) for r in driver.execute_query(cypher, params).records
        ]


def test_keys_are_unique_and_found_by_index(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    put(open_neo4j(), make_graph())
    unique = {
        (labels[0], keys[0])
        for labels, keys in ask(
            "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties WHERE type ENDS WITH 'UNIQUENESS' "
            "RETURN labelsOrTypes, properties"
        )
    }
    assert unique >= {
        (n.label, n.key) for n in schema.NODES if n.label not in ("Example", "Community")
    }
    indexed = {
        (labels[0], keys[0])
        for labels, keys in ask(
            "SHOW INDEXES YIELD type, state, labelsOrTypes, properties "
            "WHERE type = 'RANGE' AND state = 'ONLINE' RETURN labelsOrTypes, properties"
        )
    }
    assert indexed >= {
        ("Example", "id"),
        ("Community", "id"),
        ("Feature", "sae"),
        ("Feature", "id"),
    }


def test_retained_saes_are_not_written(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    store = open_neo4j()
    put(store, make_graph({"a1": "v1", "a2": "v1"}))
    retained = (
        "MATCH (n) WHERE n.sae = 'a1' OR n.name = 'a1' OR n:Token OR n:Model "
        "RETURN elementId(n) AS id, properties(n) ORDER BY id"
    )
    before = ask(retained)
    put(store, make_graph({"a1": "v1", "a2": "v2"}))
    assert ask(retained) == before
    assert leftovers(ask) == []


def test_a_graph_is_pushed_in_many_batches(
    open_neo4j: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.stores.neo4j.staged_swap.BATCH_ROWS", 5)
    graph, store = make_graph({"a1": "v1", "b1": "v1"}, features=40), open_neo4j()
    put(store, graph)
    assert_shows(store, graph)


# ---- several atlases


def test_two_atlases_share_a_database(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    store = open_neo4j()
    mine = make_graph(("a1", "b1"))
    put(store, mine)
    put(store, make_graph(("a2", "c1"), atlas=OTHER, name="second"))
    assert {n: loaded.atlas for n, loaded in store.contents().items()} == {
        "a1": ATLAS,
        "b1": ATLAS,
        "a2": OTHER,
        "c1": OTHER,
    }
    assert store.plan(mine).keep == ("a1", "b1")
    for name in ("Feature", "FIRES_ON", "Example"):
        assert store.table(name, "a1").to_pylist() == rows_of(mine, name, "a1")
    put(store, make_graph((), atlas=OTHER, name="second"))
    assert_shows(store, mine)  # shared nodes remain; those of the other atlas are removed
    put(store, make_graph(()))
    assert ask("MATCH (n) RETURN count(n)") == [[0]]


def test_a_shared_node_with_other_properties_is_reported(open_neo4j: Open) -> None:
    class Recorded(Silent):
        def __init__(self) -> None:
            self.sentences: list[str] = []

        def report(self, sentence: str) -> None:
            self.sentences.append(sentence)

    store = open_neo4j()
    put(store, make_graph(("a1",)))
    other = make_graph(("a2",), atlas=OTHER, name="second")
    models = other.tables["Model"].to_pylist()
    models[0]["source"] = "elsewhere"
    tables = dict(other.tables) | {
        "Model": other.tables["Model"].from_pylist(models, schema=schema.arrow_schema("Model"))
    }
    other = type(other)(other.atlas, other.name, tables, other.fingerprints)
    store.sync(store.plan(other), recorded := Recorded())
    assert len(recorded.sentences) == 1
    assert "describes the Model 'model a' differently (source)" in recorded.sentences[0]
    assert store.table("Model").to_pylist() == models


def with_models(graph: Graph, chain: str, **changed: str) -> Graph:
    """Return a graph whose models have a chain of digests, and other values in some columns."""
    rows = [row | changed for row in graph.tables["Model"].to_pylist()]
    table = pa.Table.from_pylist(rows, schema=schema.arrow_schema("Model"))
    return replace(
        graph,
        tables=dict(graph.tables) | {"Model": table},
        models={row["name"]: chain.split() for row in rows},
    )


@pytest.mark.parametrize(
    ("chain", "changed", "refused"),
    [
        ("x0 x1 x2", {}, ""),
        ("x0 x1", {}, ""),  # fewer blocks were read
        ("x0 x1 x2 x3", {}, ""),
        ("", {}, ""),  # an older atlas
        ("x0 x1 y2", {}, "weights"),  # differs only above block 0
        ("x0 x1 y2 y3", {}, "weights"),
        ("x0 x1 x2", {"weights": "other"}, "weights"),
        ("", {"weights": "other"}, "weights"),
        ("x0 x1 x2", {"tokenizer": "other"}, "tokenizer"),
        ("y0", {"tokenizer": "other"}, "weights and tokenizer"),
        ("x0 x1 x2", {"source": "elsewhere"}, ""),
    ],
)
def test_different_models_of_one_name_are_refused(
    open_neo4j: Open, chain: str, changed: dict[str, str], refused: str
) -> None:
    store = open_neo4j()
    first = with_models(make_graph(("a1",)), "x0 x1 x2")
    put(store, first)
    second = make_graph(("a2",), atlas=OTHER, name="second")
    second = with_models(second, chain, **changed)
    if not refused:
        put(store, second)
        assert set(store.contents()) == {"a1", "a2"}
        put(store, first)
        return
    with pytest.raises(Mismatch, match=f"'model a'.*its {refused} differ.*`database`"):
        store.plan(second)
    assert_shows(store, first)
    put(store, make_graph(()))  # removes the first atlas and frees the name
    put(store, second)
    with pytest.raises(Mismatch, match="of another atlas"):
        store.plan(first)


def test_a_model_of_one_atlas_may_change_and_is_compared_after_each_push(open_neo4j: Open) -> None:
    store, again = open_neo4j(), make_graph({"a1": "v2"})
    put(store, with_models(make_graph(("a1",)), "x0 x1"))
    put(store, with_models(again, "y0 y1"))
    other = make_graph(("a2",), atlas=OTHER, name="second")
    with pytest.raises(Mismatch, match="weights"):
        store.plan(with_models(other, "x0 x1"))
    put(store, with_models(other, "y0"))
    put(store, with_models(again, "y0 y1 y2"))  # a study read more blocks, and changed no SAE
    with pytest.raises(Mismatch, match="weights"):
        store.plan(with_models(other, "y0 y1 z2"))
    put(store, make_graph(()))
    put(store, with_models(other, "y0 y1 z2"))  # digests of the first atlas alone are removed


def test_the_next_push_adds_missing_digests(open_neo4j: Open) -> None:
    store, older = open_neo4j(), make_graph(("a1",))
    put(store, older)
    other = with_models(make_graph(("a2",), atlas=OTHER, name="second"), "y0 y1")
    store.plan(other)
    put(store, with_models(older, "x0 x1"))
    with pytest.raises(Mismatch, match="weights"):
        store.plan(other)


def test_a_different_model_pushed_after_the_plan_is_refused(open_neo4j: Open) -> None:
    first, second = open_neo4j(), open_neo4j()
    mine = with_models(make_graph(("a1",)), "x0 x1")
    plan = first.plan(mine)
    theirs = with_models(make_graph(("a2",), atlas=OTHER, name="second"), "x0 y1")
    put(second, theirs)
    with pytest.raises(Mismatch, match="weights"):
        first.sync(plan, SILENT)
    assert_shows(first, theirs)


def test_a_name_taken_after_the_plan_is_refused(open_neo4j: Open) -> None:
    first, second = open_neo4j(), open_neo4j()
    plan = first.plan(make_graph(("a1",)))
    theirs = make_graph(("a1",), atlas=OTHER, name="second")
    put(second, theirs)
    with pytest.raises(Mismatch, match="another atlas"):
        first.sync(plan, SILENT)
    assert_shows(first, theirs)


def test_a_second_writer_is_refused(empty_neo4j: Server, open_neo4j: Open) -> None:
    writer = open_neo4j()
    login = {"username": empty_neo4j.username, "password": empty_neo4j.password}
    impatient = Neo4jStore(Bolt(empty_neo4j.url, **login), wait=1)

    class WriteAtEachStage(Silent):
        refused = 0

        def stage(self, title: str, **known: Any) -> Any:
            if self.refused == 0:
                self.refused = 1
                with pytest.raises(Locked, match="Another process is writing"):
                    put(impatient, make_graph(("b1",), atlas=OTHER))
            return super().stage(title, **known)

    try:
        writer.sync(writer.plan(make_graph(("a1",))), busy := WriteAtEachStage())
        assert busy.refused
        put(open_neo4j(), make_graph(("b1",), atlas=OTHER))  # the lock is free
        assert set(impatient.contents()) == {"a1", "b1"}
    finally:
        impatient.close()


def test_of_two_waiting_writers_one_writes_and_one_is_refused(empty_neo4j: Server) -> None:
    login = {"username": empty_neo4j.username, "password": empty_neo4j.password}
    bolts = [Bolt(empty_neo4j.url, **login) for _ in range(3)]
    outcomes: list[str] = []
    refused = threading.Event()

    def wait_then_write(bolt: Bolt) -> None:
        try:
            with bolt.alone(wait=15):
                outcomes.append("wrote")
                refused.wait(600)  # until the other thread is refused
        except Locked:
            outcomes.append("gave up")
            refused.set()

    threads = [threading.Thread(target=wait_then_write, args=[b]) for b in bolts[1:]]
    with bolts[0].alone(wait=15):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["wrote", "gave up"]
    for bolt in bolts:
        bolt.close()


@pytest.mark.parametrize("name", ["features_by_token_start", "features_of_tokens"])
def test_queries_for_tokens_use_the_text_index(
    name: str, open_neo4j: Open, empty_neo4j: Server
) -> None:
    put(open_neo4j(), make_graph())
    query = queries.get(name)
    values = {p.name: p.example for p in query.parameters}
    login = (empty_neo4j.username, empty_neo4j.password)
    with neo4j.GraphDatabase.driver(empty_neo4j.url, auth=login) as driver:
        plans = [driver.execute_query(f"PROFILE {query.cypher}", values).summary.profile]
    used = []
    while plans:
        plan = plans.pop()
        plans.extend(plan.get("children", ()))
        used.append(str(plan.get("args", {}).get("Details", "")))
    assert any("TEXT INDEX t:Token(text)" in details for details in used), used


def test_a_token_of_any_length_can_be_pushed(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    """Neo4j refuses a text above 32 KiB that is in an index, so the index is dropped."""
    store, graph = open_neo4j(), make_graph(("a1",))
    put(store, graph)
    put(store, make_graph(()))
    rows = graph.tables["Token"].to_pylist()
    rows[0]["text"] = "long " * 20_000
    tokens = pa.Table.from_pylist(rows, schema=graph.tables["Token"].schema)
    put(store, replace(graph, tables={**graph.tables, "Token": tokens}))
    assert sorted(store.table("Token")["text"].to_pylist()) == sorted(r["text"] for r in rows)
    put(store, make_graph(()))
    put(store, graph)
    index = "SHOW INDEXES YIELD name, state WHERE name = 'atlas_Token_text' RETURN state"
    assert ask(index) == [["ONLINE"]]


# ---- all or nothing


@pytest.mark.slow
def test_readers_see_the_old_or_the_new(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    """The store never returns a mixture of two versions while SAEs are replaced.

    Another program can read both during a commit, because Neo4j isolates statements only by
    "read committed". Each of its rows is nevertheless a row of some version.
    """
    writer, reader = open_neo4j(), open_neo4j()
    graphs = [make_graph({"a1": f"v{i}", "a2": "v1"}, features=400) for i in range(4)]
    put(writer, graphs[0])
    cypher = (
        "MATCH (f:Feature)-[e:FIRES_ON]->(t:Token) WHERE f.sae = 'a1' RETURN f.id AS f, t.id AS t"
    )
    features = [rows_of(g, "Feature", "a1") for g in graphs]
    edges = [{(r["source"], r["target"]) for r in rows_of(g, "FIRES_ON", "a1")} for g in graphs]
    examples = [rows_of(g, "Example", "a1") for g in graphs]
    values = {(r["id"], r["top_token"]) for f in features for r in f}
    seen: list[int] = []
    mixed: list[list[Any]] = []
    began, swapped = threading.Event(), threading.Event()

    def read() -> None:
        last = False
        while not last:  # at least once before the first swap and once after the last
            last = swapped.is_set()
            seen.append(features.index(reader.table("Feature", "a1").to_pylist()))
            examples.index(reader.table("Example", "a1").to_pylist())
            found = reader.query(cypher, {}).to_pylist()
            edges.index({(r["f"], r["t"]) for r in found})
            raw = ask("MATCH (f:Feature) WHERE f.sae = 'a1' RETURN f.id, f.top_token")
            mixed.extend(row for row in raw if tuple(row) not in values)
            began.set()

    failed: list[BaseException] = []

    def watch() -> None:
        try:
            read()
        except ValueError as error:  # a row of no version
            failed.append(error)
        finally:
            began.set()

    thread = threading.Thread(target=watch)
    thread.start()
    began.wait()
    try:
        for graph in graphs[1:]:
            put(writer, graph)
    finally:
        swapped.set()
        thread.join()
    assert not failed
    assert not mixed
    assert seen == sorted(seen)  # never an older version after a newer one
    assert (seen[0], seen[-1]) == (0, len(graphs) - 1)
    assert_shows(writer, graphs[-1])


HALF_OLD = "MATCH (f:Feature {sae: 'a1'}) WHERE f.idx < 200 REMOVE f:Feature SET f:FeatureRetired"
HALF_NEW = (
    "MATCH (f:FeatureStaged {sae: 'a1'}) WHERE f.idx < 200 REMOVE f:FeatureStaged SET f:Feature"
)
UNDO = (
    "MATCH (f:Feature {sae: 'a1'}) WHERE f.idx < 200 REMOVE f:Feature SET f:FeatureStaged "
    "WITH count(f) AS n MATCH (r:FeatureRetired {sae: 'a1'}) REMOVE r:FeatureRetired SET r:Feature"
)
TOKENS = "MATCH (f:Feature) WHERE f.sae = 'a1' RETURN f.id AS id, f.top_token AS token ORDER BY id"


def test_a_reader_waits_for_a_commit_that_is_half_visible(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hold a swap in the state that a commit passes through: half of its features visible.

    The node of the SAE, which has the shown generation, is still the old one.
    """
    writer, reader = open_neo4j(), open_neo4j()
    old, new = (make_graph({"a1": v}, features=400) for v in ("v1", "v2"))
    put(writer, old)
    versions = [{r["id"]: r["top_token"] for r in rows_of(g, "Feature", "a1")} for g in (old, new)]
    assert versions[0] != versions[1]
    answers: list[dict[str, str]] = []

    def read() -> None:
        answers.append({r["id"]: r["token"] for r in reader.query(TOKENS, {}).to_pylist()})

    commit = writer._bolt.transact

    def held(work: Any, *, timeout: float = 0) -> Any:
        generation = ask("MATCH (s:SAE {name: 'a1'}) RETURN s._generation")
        ask(HALF_OLD)
        ask(HALF_NEW)
        raw = dict(map(tuple, ask(TOKENS)))
        assert raw not in versions  # another program reads a mixture
        assert ask("MATCH (s:SAE {name: 'a1'}) RETURN s._generation") == generation
        thread.start()
        thread.join(1)
        assert thread.is_alive()
        assert answers == []
        ask(UNDO)
        return commit(work, timeout=timeout)

    thread = threading.Thread(target=read)
    monkeypatch.setattr(writer._bolt, "transact", held)
    put(writer, new)
    thread.join()
    assert answers == versions[1:]
    assert leftovers(ask) == []


def test_the_mark_of_a_killed_swap_ends_with_its_limit_or_the_next_push(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_neo4j()
    put(store, make_graph({"a1": "v1"}))
    before = store.query(TOKENS, {})
    monkeypatch.setattr("atlas.stores.neo4j.connection.SWAP_WAIT", 0.2)
    mark = "MERGE (l:AtlasLock {name: 'swap'}) SET l.until = timestamp() + $ms"
    ask(mark, ms=600_000)
    with pytest.raises(Locked, match="run `atlas push` again"):
        store.query(TOKENS, {})
    with pytest.raises(Locked):
        store.table("Feature", "a1")
    ask(mark, ms=-1)
    assert store.query(TOKENS, {}) == before
    ask(mark, ms=600_000)
    put(store, make_graph({"a1": "v1"}))
    assert store.query(TOKENS, {}) == before
    assert leftovers(ask) == []


def test_a_failed_swap_leaves_no_mark(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_neo4j()
    put(store, make_graph({"a1": "v1"}))
    before = store.query(TOKENS, {})

    def fails(work: Any, *, timeout: float = 0) -> Any:
        raise StoreError("as on a full disk")

    with monkeypatch.context() as patched:
        patched.setattr(store._bolt, "transact", fails)
        with pytest.raises(StoreError, match="full disk"):
            put(store, make_graph({"a1": "v2"}))
    assert store.query(TOKENS, {}) == before
    assert ask("MATCH (l:AtlasLock) RETURN l.name") == []


OLD, NEW = {"a1": "v1", "a2": "v1", "b1": "v1"}, {"a1": "v2", "a2": "v2", "c1": "v1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["1", "2", "4", "5", "7", "9", "11", "13", "15", "18", "20", "25", "commit"]
)
def test_a_killed_push_is_finished_by_the_next(
    moment: str, empty_neo4j: Server, open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    store = open_neo4j()
    before, after = edge_graph(OLD), edge_graph(NEW)
    put(store, before)
    login = {"NEO4J_URI": empty_neo4j.url, "NEO4J_USERNAME": empty_neo4j.username}
    killed = subprocess.run(
        [
            sys.executable,
            Path(__file__).parents[1] / "support" / "killed_push.py",
            moment,
            json.dumps(NEW),
        ],
        env=os.environ | login | {"NEO4J_PASSWORD": empty_neo4j.password},
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    shown = store.contents()
    if moment == "commit":  # the mark of the swap remains; set it to expired
        assert ask("MATCH (l:AtlasLock) SET l.until = timestamp() - 1 RETURN l.name") == [["swap"]]
    assert_no_mixture(store, [before, after])
    if moment == "commit":
        assert "b1" in shown  # the first change is not visible
    put(store, after)
    assert_shows(store, after)
    assert leftovers(ask) == []


def test_unfinished_rows_of_another_atlas_are_removed(
    empty_neo4j: Server, open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    env = {"NEO4J_URI": empty_neo4j.url, "NEO4J_PASSWORD": empty_neo4j.password}
    subprocess.run(
        [
            sys.executable,
            Path(__file__).parents[1] / "support" / "killed_push.py",
            "5",
            json.dumps(OLD),
        ],
        env=os.environ | env | {"NEO4J_USERNAME": empty_neo4j.username},
        check=False,
    )
    assert ask("MATCH (n:FeatureStaged) RETURN count(n) > 0") == [[True]]
    store = open_neo4j()
    put(store, make_graph(("d1",), atlas=OTHER))
    assert ask("MATCH (n:FeatureStaged) RETURN count(n)") == [[0]]
    assert ask("MATCH (n:Feature) RETURN DISTINCT n.sae") == [["d1"]]


def test_a_swap_with_missing_staged_rows_is_refused(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_neo4j()
    before = make_graph({"a1": "v1"})
    put(store, before)
    work = Bolt.transact

    def delete_a_row(self: Bolt, statements: Any, *, timeout: float = 0) -> Any:
        ask("MATCH (f:FeatureStaged {idx: 3}) DETACH DELETE f")
        return work(self, statements, timeout=timeout)

    monkeypatch.setattr(Bolt, "transact", delete_a_row)
    with pytest.raises(StoreError, match="has 6 of 7 staged rows of Feature"):
        put(store, make_graph({"a1": "v2"}))
    monkeypatch.undo()
    assert_shows(store, before)
    put(store, after := make_graph({"a1": "v2"}))
    assert_shows(store, after)
    assert leftovers(ask) == []


# ---- edges between the features of two SAEs


@pytest.mark.parametrize(
    "then",
    [
        {"a1": "v2", "a2": "v1", "b1": "v1"},
        {"a1": "v2", "a2": "v2", "b1": "v2"},
        {"a1": "v1", "a2": "v1", "b1": "v1", "c1": "v1"},
        {"b1": "v1"},
    ],
    ids=["one", "all", "added", "removed"],
)
def test_edges_between_saes_appear_with_the_later_swap(
    open_neo4j: Open, then: dict[str, str], ask: Callable[..., list[list[Any]]]
) -> None:
    """Edges may be absent until both SAEs are shown, but are always edges of one of the graphs."""
    store = open_neo4j()
    graphs = [edge_graph({"a1": "v1", "a2": "v1", "b1": "v1"}), edge_graph(then)]
    put(store, graphs[0])

    class CheckEdges(Silent):
        checks = 0

        def stage(self, title: str, **known: Any) -> Any:
            assert_edges_belong(store, graphs)
            self.checks += 1
            return super().stage(title, **known)

    store.sync(store.plan(graphs[1]), checked := CheckEdges())
    assert checked.checks > 2
    assert_shows(store, graphs[1])
    assert leftovers(ask) == []


# ---- logging in


def test_an_unreachable_server_is_reported() -> None:
    url = f"bolt://127.0.0.1:{free_port()}"
    with pytest.raises(
        StoreUnreachable, match=r"No server answers at bolt://127\.0\.0\.1"
    ) as failure:
        open_server(url, password="s3cret-word")
    assert "docker compose up -d" in str(failure.value)
    assert "NEO4J_URI" in str(failure.value)


def test_a_wrong_password_is_refused_and_not_printed(
    empty_neo4j: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreDenied, match="refused the login") as failure:
        open_server(empty_neo4j.url, username="neo4j", password="s3cret-word")
    assert "NEO4J_PASSWORD" in str(failure.value)
    outputs = [str(failure.value), caplog.text, *capfd.readouterr()]
    assert not any("s3cret-word" in t for t in outputs)


def test_a_missing_password_is_reported(
    empty_neo4j: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    with pytest.raises(StoreDenied, match="NEO4J_PASSWORD"):
        open_server(empty_neo4j.url)


def test_the_environment_sets_the_url_and_the_login(
    empty_neo4j: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEO4J_URI", empty_neo4j.url.replace("bolt://", "neo4j://"))
    monkeypatch.setenv("NEO4J_USERNAME", empty_neo4j.username)
    monkeypatch.setenv("NEO4J_PASSWORD", empty_neo4j.password)
    store: Store = open_server()
    assert store.contents() == {}
    assert empty_neo4j.password not in store.url
    assert empty_neo4j.password not in repr(vars(store))
    store.close()


def test_an_unknown_database_is_reported(empty_neo4j: Server) -> None:
    with pytest.raises(BadInput, match=r"has no database 'nope'.*`database`"):
        open_server(
            empty_neo4j.url,
            username=empty_neo4j.username,
            password=empty_neo4j.password,
            database="nope",
        )


@pytest.mark.parametrize("url", ["http://localhost:7474", "postgres://x", "neo4jx://localhost"])
def test_other_addresses_are_refused(url: str) -> None:
    assert is_server(url)
    with pytest.raises(
        BadInput,
        match=r"is not the URL of a Neo4j server; expected one of the schemes neo4j, neo4j\+s",
    ):
        open_store(url, password="x")


def test_a_login_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput, match="contains a login") as failure:
        open_store("bolt://neo4j:s3cret-word@localhost:7687")
    assert "s3cret-word" not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "bolt://[x]",
        "bolt://[x",
        "bolt://a:b",
        "bolt://[::1]:x",
        "bolt://a:-1",
        "neo4j://a:65536",
        "bolt://neo4j:s3cret-word@[x]",
        "bolt://neo4j:s3cret-word",
    ],
)
def test_a_malformed_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match=r"URL of the server is malformed.*port.*IPv6") as failure:
        open_store(url)
    assert url not in str(failure.value)
    assert failure.value.__suppress_context__  # the error of urllib may contain the password


def test_a_missing_url_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_URI", raising=False)
    with pytest.raises(BadInput, match="NEO4J_URI"):
        open_server()


# ---- colours of communities


def test_communities_and_their_features_have_the_label_of_their_colour(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    graph, store = small_graph(), open_neo4j()
    put(store, graph)
    coloured = (
        "MATCH (n) WHERE n:Feature OR n:Community RETURN n:Feature, n.id, "
        "[l IN labels(n) WHERE l STARTS WITH 'CommunityColour']"
    )
    number = {(True, f["id"]): f["community"] for f in graph.tables["Feature"].to_pylist()}
    number |= {(False, c["id"]): c["number"] for c in graph.tables["Community"].to_pylist()}
    expected = sorted(
        [*node, [] if n is None else [f"CommunityColour{n % 12}"]] for node, n in number.items()
    )
    assert len({str(colour) for *_, colour in expected}) > 2
    assert sorted(ask(coloured)) == expected
    ask("MATCH (n) REMOVE n:CommunityColour1")  # as after a killed push
    put(store, graph)
    assert sorted(ask(coloured)) == expected


# ---- captions


def test_nodes_have_a_property_whose_name_ends_with_name(
    open_neo4j: Open, ask: Callable[..., list[list[Any]]]
) -> None:
    """Browsers without a style sheet write it on the node."""
    graph, store = small_graph(), open_neo4j()
    put(store, graph)
    rows = {n: t.to_pylist() for n, t in graph.tables.items()}
    expected = {
        "Feature": {
            f["id"]: f"{f['idx']} {(f['top_token'] or '').strip()}".strip() for f in rows["Feature"]
        },
        "Community": {
            c["id"]: " ".join([str(c["number"]), *(t.strip() for t in (c["tokens"] or [])[:3])])
            for c in rows["Community"]
        },
        "Token": {t["id"]: t["text"] for t in rows["Token"]},
        "Site": {s["id"]: s["hook"] for s in rows["Site"]},
    }

    def captions() -> dict[str, dict[str, str]]:
        return {label: dict(ask(f"MATCH (n:{label}) RETURN n.id, n._name")) for label in expected}

    assert captions() == expected
    for label in expected:
        ask(f"MATCH (n:{label}) REMOVE n._name")
    ask("MATCH (s:SAE) REMOVE s._named")  # as after an import or a push of an older version
    put(store, graph)
    assert captions() == expected


# ---- properties that do not exist


def test_a_property_that_its_node_does_not_have_is_refused_as_in_the_embedded_store(
    open_neo4j: Open,
) -> None:
    """Neo4j returns nulls; `name` and `weight` are properties of other nodes and edges."""
    store = open_neo4j()
    put(store, small_graph())
    for wrong in (
        "MATCH (f:Feature) RETURN f.id AS id, f.name AS name",
        "MATCH (f:Feature {name: 'x'}) RETURN f.id AS id",
        "MATCH (f:Feature) WHERE f.weight > 0 RETURN f.id AS id",
    ):
        with pytest.raises(QueryFailed, match=r"Feature has no property '(name|weight)'\. "):
            store.query(wrong, {})
    for right in (
        "MATCH (f:Feature) WHERE f.id = 'absent' RETURN f.id AS id",
        "MATCH (f:Feature) RETURN f.id AS id, null AS name",
        "MATCH (f:Feature) WITH {name: null} AS f RETURN f.name AS name",
        "MATCH (f:Feature) RETURN f.id AS id, f._name AS name",
    ):
        store.query(right, {})
