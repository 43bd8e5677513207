"""Every store answers queries equally; these tests only read."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from attacks import queries
from conftest import ENGINES
from neo4j_server import Server, wipe
from store_graphs import assert_shows, make_graph, put, rows_of

from atlas import schema
from atlas.errors import AtlasError, BadInput, OutOfSpace, QueryFailed
from atlas.stores import Limits, Store
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.opening import open_server


@pytest.fixture(scope="module", params=ENGINES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Return a store that shows ``make_graph()``."""
    store: Store
    if request.param == "kuzu":
        store = KuzuStore.open(tmp_path_factory.mktemp("filled") / "g.kuzu", graph=make_graph)
    else:
        server: Server = request.getfixturevalue("neo4j_server")
        wipe(server)
        store = open_server(server.url, username=server.username, password=server.password)
        put(store, make_graph())
    yield store
    store.close()


FEATURES = "MATCH (f:Feature {sae: $sae}) RETURN f.idx AS idx, f.id AS id ORDER BY idx"


def test_a_query_takes_parameters(filled: Store) -> None:
    found = filled.query(FEATURES, {"sae": "a1"})
    assert found.schema.names == ["idx", "id"]
    assert found.to_pylist() == [{"idx": i, "id": f"a1/{i}"} for i in range(7)]


@pytest.mark.parametrize(
    "value",
    ['it\'s "quoted" \\ 日本 $x\n', 2**62, -1.5, True, ["a", "ü"], [1, 2], [0.5, 1.5], 1e300],
    ids=repr,
)
def test_parameters_are_returned_unchanged(filled: Store, value: object) -> None:
    assert filled.query("RETURN $x AS x", {"x": value}).to_pylist() == [{"x": value}]  # type: ignore[dict-item]


def test_null_and_empty_lists_as_parameters(filled: Store) -> None:
    cypher = "MATCH (f:Feature) WHERE f.sae = $x OR f.sae IN $l RETURN f.id AS id"
    assert filled.query(cypher, {"x": None, "l": []}).num_rows == 0


def test_types_of_an_answer(filled: Store) -> None:
    found = filled.query(
        "MATCH (f:Feature) RETURN count(*) AS n, sum(f.idx) AS s, avg(f.idx) AS a, max(f.idx) > 1 AS b,"
        " collect(f.sae) AS l, min(f.id) AS i, [1.5] AS d",
        {},
    )
    kinds = [pa.int64(), pa.int64(), pa.float64(), pa.bool_(), pa.list_(pa.string()), pa.string()]
    assert found.schema.types == [*kinds, pa.list_(pa.float64())]
    row = found.to_pylist()[0]
    assert (row["n"], row["s"], row["b"], row["i"]) == (21, 63, True, "a1/0")
    assert row["a"] == pytest.approx(3.0)  # stores differ in the order of summation
    assert Counter(row["l"]) == {"a1": 7, "a2": 7, "b1": 7}


def test_nulls_and_no_rows(filled: Store) -> None:
    found = filled.query(
        "OPTIONAL MATCH (f:Feature {id: 'none'}) RETURN f.idx AS i, f.label IS NULL AS n".replace(
            "label", "top_token"
        ),
        {},
    )
    assert found.to_pylist() == [{"i": None, "n": True}]
    none = filled.query("MATCH (f:Feature {id: 'none'}) RETURN f.idx AS i, f.id AS id", {})
    assert (none.num_rows, none.schema.names) == (0, ["i", "id"])


def test_lists_of_properties(filled: Store) -> None:
    graph = make_graph()
    expected = [r["tokens"] for r in rows_of(graph, "Example")]
    found = filled.query("MATCH (e:Example) RETURN e.id AS id, e.tokens AS t", {})
    assert found.sort_by("id")["t"].to_pylist() == expected


def test_a_returned_node_is_its_properties(filled: Store) -> None:
    expected = next(r for r in rows_of(make_graph(), "Feature") if r["id"] == "a1/0")
    found = filled.query("MATCH (f:Feature {id: 'a1/0'}) RETURN f", {})
    assert found.to_pylist() == [{"f": expected}]


def test_a_returned_edge_is_its_properties(filled: Store) -> None:
    expected = rows_of(make_graph(), "FIRES_ON")
    found = filled.query(
        "MATCH (f:Feature)-[e:FIRES_ON]->(t:Token) RETURN f.id AS f, t.id AS t, e", {}
    )
    got = found.sort_by([("f", "ascending"), ("t", "ascending")]).to_pylist()
    assert [{"source": r["f"], "target": r["t"], **r["e"]} for r in got] == expected


def test_unlabelled_patterns_match_only_nodes_of_the_graph(filled: Store) -> None:
    total = sum(make_graph().tables[n.label].num_rows for n in schema.NODES)
    assert filled.query("MATCH (n) RETURN count(*) AS n", {}).to_pylist() == [{"n": total}]


COMMENTED = """// $not one
MATCH (f:Feature) /* nor $this; nor CREATE */
WHERE f.sae = $sae AND f.id <> '$neither; \\' $x' AND f.id <> "$y" // $z
RETURN count(*) AS `$n`;
"""


def test_parameters_are_found_outside_of_texts_and_comments(filled: Store) -> None:
    assert filled.query(COMMENTED, {"sae": "a1"}).to_pylist() == [{"$n": 7}]


@pytest.mark.parametrize(
    ("cypher", "params", "message"),
    [
        (FEATURES, {}, r"The query needs a value for \$sae;"),
        ("RETURN $a + $b AS x", {"b": 1}, r"needs a value for \$a;"),
        (
            FEATURES,
            {"sae": "a", "idx": 1, "k": 2},
            r"no parameter \$idx, \$k; its parameters are \$sae",
        ),
        ("RETURN 1 AS x", {"k": 2}, r"no parameter \$k; it has none"),
        ("RETURN $x AS x", {"x": 2**63}, r"\$x is 9223372036854775808; expected a 64-bit integer"),
        ("RETURN $x AS x", {"x": {"a": 1}}, r"\$x is \{'a': 1\}; expected a text"),
        ("RETURN $x AS x", {"x": [["a"]]}, r"\$x is \['a'\]; expected a text"),
        ("RETURN $x AS x", {"x": float("nan")}, r"\$x is nan; expected a text"),
        ("", {}, "The query is empty"),
        (" // nothing\n;", {}, "The query is empty"),
        ("RETURN 1 AS x; RETURN 2 AS x", {}, "has 2 statements"),
        ("MTCH (n) RETURN n", {}, "begins with 'MTCH'; expected one of CALL, MATCH"),
        ("MATCH (n:Feature RETURN n", {}, "at line 1, column 18: .*RETURN"),
        ("MATCH (n:Feature) RETRUN n.id", {}, "at line 1, column 19: .*RETRUN.*"),
        ("MATCH (n:Feature)\nRETURN n.id n.idx", {}, "at line 2, column 13: "),
        ("MATCH (n:Feature) RETURN m.id", {}, "The query failed: .*m"),
        ("MATCH (n:Featur) RETURN n.id", {}, "Featur.*Nearest: Feature"),
        (
            "MATCH (f:Feature) WHERE f.freqency > 0.1 RETURN f.id",
            {},
            "freqency.*Nearest: frequency",
        ),
        ("MATCH (n:Feature)-[:FIRESON]->(t) RETURN n.id", {}, "FIRESON.*Nearest: FIRES_ON"),
        ("MATCH (f:Feature) RETURN 1 / (f.idx - f.idx) AS x", {}, "The query failed: .*(?i:zero)"),
        ("MATCH (a:Feature {id: 'a1/0'}) RETURN a.id AS x, a.idx AS x", {}, "name"),
        ("MATCH p = (:Feature)-[:IN_SAE]->(:SAE) RETURN p", {}, "A path cannot be a column"),
    ],
)
def test_a_bad_query_is_reported_in_one_sentence(
    filled: Store, cypher: str, params: dict[str, object], message: str
) -> None:
    with pytest.raises(QueryFailed, match=message) as failure:
        filled.query(cypher, params)  # type: ignore[arg-type]
    sentence, *mark = str(failure.value).split("\n")
    assert len(mark) in (0, 2)
    if mark:
        line, column = map(int, re.search(r"line (\d+), column (\d+)", sentence).groups())  # type: ignore[union-attr]
        assert mark[0] == f"  {cypher.splitlines()[line - 1]}"
        assert mark[1] == " " * (column + 1) + "^"
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    "cypher",
    [
        "CREATE (f:Feature {id: 'x'})",
        "MERGE (f:Feature {id: 'x'})",
        "MATCH (f:Feature) SET f.idx = 1",
        "MATCH (f:Feature) DETACH DELETE f",
        "MATCH (a:Feature {id: 'a1/0'}) MATCH (b:SAE {name: 'b1'}) CREATE (a)-[:IN_SAE]->(b)",
        "DROP TABLE Feature",
    ],
)
def test_a_query_that_writes_is_refused(filled: Store, cypher: str) -> None:
    with pytest.raises(QueryFailed, match="The query writes"):
        filled.query(cypher, {})
    assert_shows(filled, make_graph())


@pytest.mark.parametrize(
    "cypher",
    [
        "COPY (MATCH (f:Feature) RETURN f.id) TO '{0}'",
        "EXPORT DATABASE '{0}'",
        "ATTACH '{0}' AS other (dbtype kuzu)",
        "LOAD FROM '/etc/passwd' (file_format='csv', delim='~') RETURN *",
        "MATCH (f:SAE) LOAD FROM '/etc/passwd' (file_format='csv', delim='~') RETURN *",
        "MATCH (f:SAE) LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "MATCH (f:SAE) LO\\u0041D CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "CALL threads = 1",
        "CALL dbms.listConnections()",
        "CALL `dbms`.listConnections()",
        "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
        "BEGIN TRANSACTION",
        "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
        "PROFILE MATCH (f:Feature) SET f.idx = 1",
        # One engine decodes escapes before it finds the strings, the other one after.
        "RETURN '\\u0027' AS q; COPY (MATCH (n:SAE) RETURN n.name) TO \"{0}\" //'",
        "RETURN '\\u0027' AS q; LOAD EXTENSION \"{0}\" //'",
        "RETURN 1 AS x // \\u000aLOAD CSV FROM 'file:///etc/passwd' AS l RETURN l",
        # One engine ends a comment at a carriage return.
        "MATCH (s:SAE) // x\rLOAD CSV FROM 'http://127.0.0.1:9/x' AS l RETURN l",
        "MATCH (s:SAE) // x\u2028LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "MATCH (s:SAE) /***/ LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l /* */",
        "MATCH (s:SAE) LOAD/**/CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "MATCH (s:SAE) LO\u0410D CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "CALL db.clearQueryCaches()",
        "CALL dbms.listConfig() YIELD name RETURN name",
        "CALL `db`.`clearQueryCaches`()",
        "CALL read_csv_serial('/etc/passwd') RETURN *",
        "CALL project_graph('g', ['SAE'], ['IN_SAE'])",
        "MATCH (s:SAE) RETURN apoc.load.json('file:///etc/passwd') AS x",
        "MATCH (s:SAE) RETURN `apoc`.`load`.`json`('x') AS x",
        "RETURN copy_json('{0}') AS x",
        "RETURN nextval('s') AS x",
        "MATCH (s:SAE) CALL { CREATE (:SAE {name: 'x'}) } RETURN 1 AS x",
        "MATCH (s:SAE) CALL (s) { RETURN 1 AS y } IN TRANSACTIONS RETURN y",
        "USE system SHOW USERS",
        "INSTALL httpfs",
        "RETURN '" + "x" * 10 + "\x00' AS q",
        "RETURN 'not closed",
    ],
)
def test_effects_outside_the_graph_are_refused(filled: Store, cypher: str, tmp_path: Path) -> None:
    with pytest.raises(QueryFailed):
        filled.query(cypher.replace("{0}", f"{tmp_path}/out.csv"), {})
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "cypher",
    [
        "RETURN " + "(" * 3000 + "1" + ")" * 3000 + " AS x",
        "RETURN " + "[" * 3000 + "]" * 3000 + " AS x",
        "RETURN " + "NOT " * 3000 + "true AS x",
        "RETURN " + "- " * 3000 + "1 AS x",
        "RETURN " + "CASE WHEN true THEN " * 3000 + "1 " + "END " * 3000 + "AS x",
        "RETURN 1" + " + 1" * 30_000 + " AS x",
    ],
)
def test_a_query_nested_too_deeply_is_refused_before_an_engine_reads_it(
    filled: Store, cypher: str
) -> None:
    with pytest.raises(QueryFailed, match="are allowed"):
        filled.query(cypher, {})
    assert filled.query("RETURN 1 AS x", {}).to_pylist() == [{"x": 1}]


@pytest.mark.parametrize(
    ("cypher", "message"),
    [
        # Each level or XOR doubles the planning time of Neo4j, beyond the time limit.
        (
            "MATCH (s:SAE) WHERE "
            + "EXISTS { MATCH (s) WHERE " * 30
            + "true"
            + " }" * 30
            + " RETURN 1 AS x",
            "nests",
        ),
        ("RETURN true" + " XOR true" * 40 + " AS x", "has 40 XOR"),
        # One engine reads two words, the other one three.
        ("MATCH (s:SAE) RETURN 1AS x", "split differently"),
        ("RETURN $1a AS x", "split differently"),
    ],
)
def test_queries_that_engines_plan_too_long_or_split_differently_are_refused(
    filled: Store, cypher: str, message: str
) -> None:
    with pytest.raises(QueryFailed, match=message):
        filled.query(cypher, {})


@pytest.mark.parametrize("value", [["a", 1], [True, 1], ["\ud800"], "\ud800"])
def test_a_parameter_that_engines_read_differently_is_refused(filled: Store, value: Any) -> None:
    with pytest.raises(QueryFailed, match=r"The parameter \$x is"):
        filled.query("RETURN $x AS x", {"x": value})


@pytest.mark.parametrize(
    "limits",
    [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"rows": 0}, {"memory": 0}],
)
def test_limits_that_an_engine_ignores_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="limit"):
        Limits(**limits)


def test_procedures_that_read_the_schema_may_be_called(filled: Store) -> None:
    call = "CALL db.labels() YIELD label" if "://" in filled.url else "CALL show_tables()"
    assert filled.query(f"{call} RETURN count(*) AS n", {}).to_pylist()[0]["n"] >= len(schema.NODES)


def test_no_module_of_the_current_folder_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KuzuStore.open(tmp_path / "graph.kuzu", graph=make_graph)
    (tmp_path / "json.py").write_text("open('imported', 'w').close()\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert store.query("RETURN 1 AS x", {}, limits=Limits()).num_rows == 1
    assert not (tmp_path / "imported").exists()
    store.close()


def test_limits_do_not_change_an_answer(filled: Store) -> None:
    for cypher, params in [
        (FEATURES, {"sae": "a1"}),
        ("MATCH (s:SAE) RETURN s ORDER BY s.name", {}),
        ("RETURN $x AS x, $y AS y", {"x": "it's \u2028 \x00", "y": [1.5, 2.0]}),
    ]:
        there = filled.query(cypher, params, limits=Limits())  # type: ignore[arg-type]
        here = filled.query(cypher, params)  # type: ignore[arg-type]
        assert there.schema == here.schema
        assert there.to_pylist() == here.to_pylist()


def test_an_answer_with_too_many_rows_is_an_error(filled: Store) -> None:
    cypher = "UNWIND range(1, 100) AS x RETURN x"
    assert filled.query(cypher, {}, limits=Limits(rows=100)).num_rows == 100
    with pytest.raises(QueryFailed, match="more rows than the limit of 99"):
        filled.query(cypher, {}, limits=Limits(rows=99))


def test_an_error_is_the_same_with_limits(filled: Store) -> None:
    for cypher in ("MATCH (n:Featur) RETURN n.id", "MATCH (n:Feature RETURN n"):
        with pytest.raises(QueryFailed) as here:
            filled.query(cypher, {})
        with pytest.raises(QueryFailed) as there:
            filled.query(cypher, {}, limits=Limits())
        assert str(here.value) == str(there.value)


def test_a_query_that_builds_a_huge_list_ends_within_its_limits(tmp_path: Path) -> None:
    """Only the embedded store; a server limits its own memory."""
    store = KuzuStore.open(tmp_path / "graph.kuzu", graph=make_graph)
    try:
        with pytest.raises((QueryFailed, OutOfSpace), match=r"limit|longer than"):
            store.query(
                "UNWIND range(1, 1000000000) AS x RETURN count(x) AS n",
                {},
                limits=Limits(timeout=20, memory=256 << 20),
            )
        assert store.query("RETURN 1 AS x", {}).to_pylist() == [{"x": 1}]
    finally:
        store.close()


def test_a_child_that_crashes_is_reported_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KuzuStore.open(tmp_path / "graph.kuzu", graph=make_graph)
    try:
        monkeypatch.setattr("atlas.stores.child_process.sys.executable", "/bin/false")
        with pytest.raises(
            QueryFailed, match=r"The engine crashed while it ran the query \(exit 1"
        ):
            store.query("RETURN 1 AS x", {}, limits=Limits())
    finally:
        store.close()


def test_a_long_query_is_stopped(filled: Store) -> None:
    cypher = (
        "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a % 7 + b % 11) AS n"
    )
    with pytest.raises(QueryFailed, match=r"longer than its limit of 0\.3 seconds and was stopped"):
        filled.query(cypher, {}, timeout=0.3)
    assert filled.query("RETURN 1 AS x", {}).to_pylist() == [{"x": 1}]


def test_the_guard_refuses_harmful_queries(tmp_path: Path) -> None:
    """A sample; ``make attack ATTACKS=queries`` tries thousands."""
    tries = list(queries.tries(tmp_path, seed=1, count=300))
    assert [t for t in tries if not t.survived] == []
    assert any(t.note == "ran" for t in tries)  # harmful words in a text are data


@pytest.mark.neo4j
def test_harmful_queries_do_not_change_a_server(open_neo4j) -> None:  # type: ignore[no-untyped-def]
    store, rng = open_neo4j(), random.Random(2)
    put(store, make_graph())
    ran = 0
    for _ in range(300):
        text = queries.drawn(rng, Path("/nowhere/out"), Path("/nowhere/secret"))
        try:
            store.query(text, {})
            ran += 1
        except AtlasError:
            continue
    assert ran > 0
    assert_shows(store, make_graph())
