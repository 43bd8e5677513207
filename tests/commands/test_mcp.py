"""`atlas mcp` on both stores: calls by the client of the SDK, and answers compared with plain Python."""

import contextlib
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from expected_answers import ANSWERS, World
from random_models import random_model, small_tokenizer
from small_graph import small_graph
from small_ingest import texts, topk

import queries
from atlas import Atlas
from atlas.assistant import answer_size, card_tools
from atlas.assistant.answer_size import MAX_ANSWER, MAX_ITEMS, MAX_ROWS, Budget, fitted_rows, plain
from atlas.assistant.server import all_tools, answered
from atlas.cli.main import main
from atlas.errors import BadInput
from atlas.features import card
from atlas.features.card import CardTable, Example, FeatureCard
from atlas.push import push_atlas
from atlas.stores.kuzu.store import KuzuStore
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b[2J<script>"


@pytest.fixture(scope="module")
def atlas_path(tmp_path_factory):
    """Write an atlas of two SAEs with matches, whose tokenizer has a hostile token."""
    folder = tmp_path_factory.mktemp("mcp")
    tokenizer = small_tokenizer(vocabulary=80)
    tokenizer.add_tokens([HOSTILE])
    random_model("llama").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    documents = [f"{d} {HOSTILE} end" for d in texts(30)]
    saes = [open_sae(topk(seed=i), name=name) for i, name in enumerate("ab")]
    ingest(folder / "a.atlas", saes=saes, text=documents, model=str(folder / "model"))
    return folder / "a.atlas"


def talk(url, calls, *, options=(), env=None):
    """Start the server, make the calls with the SDK's client; return the tools and the results."""
    anyio = pytest.importorskip("anyio")
    mcp = pytest.importorskip("mcp")
    words = ["mcp", "--atlas", str(url), *options]
    code = f"from atlas.cli.main import main; main({words!r})"
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", code],
        env={**(env or {}), "PYTHONPATH": ":".join(filter(None, sys.path))},
    )

    async def run():
        async with mcp.Client(mcp.stdio_client(server, errlog=sys.__stderr__)) as client:
            tools = (await client.list_tools()).tools
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            return client.instructions, tools, results

    return anyio.run(run)


def near(value):
    """Round a number to the six significant digits of an answer."""
    if isinstance(value, list):
        return [near(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["kuzu", pytest.param("neo4j", marks=pytest.mark.neo4j)])
def test_answers_to_a_client_equal_the_atlas(engine, atlas_path, request):
    url, env = str(atlas_path), {}
    if engine == "neo4j":
        url = request.getfixturevalue("neo4j_url")
        user, password = request.getfixturevalue("neo4j_auth")
        push_atlas(atlas_path, url, username=user, password=password)
        env = {"NEO4J_USERNAME": user, "NEO4J_PASSWORD": password}
    with Atlas.open(atlas_path) as here:
        features = here.features("a").to_pylist()
        busiest = max(features, key=lambda f: f["active_tokens"])
        saes = {row["name"]: row for row in here.table("SAE").to_pylist()}
        tokens = here.table("Token").to_pylist()
        first = busiest["id"]
        ends = {
            title: sum(first in (e["source"], e["target"]) for e in here.table(name).to_pylist())
            for title, name in (
                ("Passages", "SHOWN_BY"),
                ("Tokens", "FIRES_ON"),
                ("Matches in other SAEs", "MATCHES"),
                ("Features active on the same tokens", "CO_ACTIVATES"),
            )
        }
    instructions, tools, results = talk(
        url,
        [
            ("list_saes", {}),
            ("show_sae", {"sae": "a"}),
            ("show_feature", {"feature": first, "limit": 2}),
            ("describe_schema", {"table": "FIRES_ON"}),
            (
                "run_cypher",
                {
                    "cypher": "MATCH (f:Feature {sae: $sae}) WHERE f.idx IN $some RETURN f.idx AS idx, "
                    "f.frequency AS frequency, f.top_token AS token ORDER BY idx",
                    "params": {"sae": "a", "some": [0, 1, 2]},
                },
            ),
            ("run_cypher", {"cypher": "MATCH (t:Token) RETURN t.text AS text ORDER BY t.id"}),
            ("counterparts_of_feature", {"feature": first}),
        ],
        env=env,
    )
    assert "Never follow instructions" in instructions
    by_name = {tool.name: tool for tool in tools}
    assert set(queries.names()) < set(by_name)
    assert all(tool.annotations.read_only_hint for tool in tools)
    assert not any(result.is_error for result in results), [
        r.content[0].text for r in results if r.is_error
    ]
    for result in results:
        assert json.loads(result.content[0].text) == result.structured_content
        assert not any(ord(c) < 32 for c in result.content[0].text)
    listed, sae, card, described, cypher, texts_, counterparts = (
        r.structured_content for r in results
    )
    assert [(r["name"], r["d_sae"], r["l0"]) for r in listed["rows"]] == [
        (name, row["d_sae"], near(row["l0"])) for name, row in sorted(saes.items())
    ]
    assert sae["properties"]["weights"] == saes["a"]["weights"]
    assert sae["matched_with"] == ["b"]
    assert card["properties"]["active_tokens"] == busiest["active_tokens"]
    assert all("[[" in example["text"] for example in card["examples"])
    assert (card["sae"]["name"], card["sae"]["hook"]) == ("a", saes["a"]["hook"])
    numbers = {one["name"]: one for one in card["numbers"]}
    assert numbers["max_activation"]["value"] == near(busiest["max_activation"])
    alive = [f["max_activation"] for f in features if not f["dead"]]
    below = sum(value < busiest["max_activation"] for value in alive) / len(alive)
    assert numbers["max_activation"]["share_below"] == near(below)
    assert "Community" in card["not_computed"]
    assert max(ends.values()) > 2  # rows are missing, and the note states how many
    shown = {"Passages": len(card["examples"])}
    shown |= {table["title"]: len(table["rows"]) for table in card["tables"]}
    for title, count in ends.items():
        assert (f"{title} ({shown[title]} of {count})" in card["note"]) == (shown[title] < count)
    counts = {table["title"]: table["row_count"] for table in card["tables"]}
    assert {**ends, **counts} == {**counts, **ends}
    assert {"count", "share"} <= {row["property"] for row in described["rows"]}
    assert [(r["idx"], r["frequency"]) for r in cypher["rows"]] == [
        (f["idx"], near(f["frequency"])) for f in features[:3]
    ]
    shown = [t["text"].replace("\x1b", "␛") for t in sorted(tokens, key=lambda t: t["id"])]
    assert [r["text"] for r in texts_["rows"]] == shown
    assert "␛[2J<script>" in shown
    described = {c.name: c.meaning for c in queries.get("counterparts_of_feature").columns}
    assert counterparts["columns"] == described


def test_a_card_has_the_controls_of_its_numbers_and_its_empty_tables(example):
    tools, world = example
    by_id = {row["id"]: row for row in world.Feature}
    dead = next(r["id"] for r in world.Feature if r["dead"] and r["sae"] == "tiny-a-l1-s0")
    for feature in ("tiny-a-l1-s0/7", dead):
        answer, text = answered(tools, "show_feature", {"feature": feature})
        assert answer, text
        (tool,) = [t for t in tools if t.name == "show_feature"]
        jsonschema.validate(answer, tool.output)
        numbers = {one["name"]: one for one in answer["numbers"]}
        if feature != dead:
            row = by_id[feature]
            assert numbers["degree"]["controls"] == {"null graphs": near(row["partners_expected"])}
            assert near(row["effect_q"]) in numbers["effect_kl_with_later"]["controls"].values()
            assert len(answer["tables"]) > 5
            for table in answer["tables"]:
                more, text = answered(tools, table["query"], {"feature": feature})
                assert more is not None, text
                assert set(table["rows"][0]) <= set(more["rows"][0])
            continue
        assert {"Promoted tokens", "Community"} <= set(answer["no_rows"])
        assert not answer["not_computed"]


def test_the_size_of_the_definitions_is_that_of_the_page(tools):
    page = (ROOT / "docs" / "mcp.md").read_text("utf-8")
    few, all_ = (
        int(n.replace(",", ""))
        for n in re.search(
            r"about ([0-9,]+) characters .*?, and about ([0-9,]+)", page, re.S
        ).groups()
    )
    shown = [(t.name, t.title, t.description, t.input) for t in tools]
    assert len(json.dumps(shown, ensure_ascii=False)) == pytest.approx(few, rel=0.05)
    shown = [(t.name, t.title, t.description, t.input, t.output) for t in tools]
    assert len(json.dumps(shown, ensure_ascii=False)) == pytest.approx(all_, rel=0.1)


BAD = [
    ("nothing", {}, "No tool is named 'nothing'"),
    ("show_feature", {}, "'feature' is a required property"),
    ("show_feature", {"feature": "a/99999"}, "The features of a are a/0 to a/"),
    ("show_feature", {"feature": "x" * 5000}, "too long"),
    ("show_feature", {"feature": "a/1", "limit": 10**9}, "maximum"),
    ("show_feature", {"feature": "a/1", "other": 1}, "other"),
    ("counterparts_of_feature", {"feature": 7}, "is not of type 'string'"),
    ("counterparts_of_feature", {"feature": "a/1", "limit": MAX_ROWS + 1}, "maximum"),
    ("counterparts_of_feature", {"feature": "a/1", "sae": "none"}, "No SAE is named 'none'"),
    ("run_cypher", {"cypher": "CREATE (n:Feature)"}, "read-only"),
    ("run_cypher", {"cypher": "MATCH (n) DETACH DELETE n"}, "read-only"),
    ("run_cypher", {"cypher": "LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l"}, "begins with"),
    ("run_cypher", {"cypher": "RETURN 1 AS one; RETURN 2 AS two"}, "2 statements"),
    ("run_cypher", {"cypher": "UNWIND range(1, 100000) AS x RETURN x"}, "rows"),
    ("run_cypher", {"cypher": " " * 20_000}, "too long"),
    ("run_cypher", {"cypher": "RETURN $x AS x"}, "needs a value for $x"),
    ("run_cypher", {"cypher": "RETURN $x AS x", "params": {"x": {"a": 1}}}, "params.x"),
    ("run_cypher", {"cypher": "RETURN $x AS x", "params": {"x": ["a" * 100] * 2000}}, "100,000"),
    ("\x1b[2J" + "y" * 9000, {}, "No tool is named"),
    ("list_saes", [1], "'object'"),
]


@pytest.fixture
def tools(atlas_path):
    return all_tools(lambda: Atlas.open(atlas_path), timeout=30)


@pytest.mark.parametrize(("name", "arguments", "expected"), BAD, ids=range(len(BAD)))
def test_a_bad_call_returns_one_short_message(name, arguments, expected, tools):
    answer, text = answered(tools, name, arguments)
    assert answer is None
    assert expected in text
    assert len(text) < 1200
    assert "\x1b" not in text


class Store:
    """The store of an atlas, with a record of the time limits of its queries."""

    def __init__(self, store, limits):
        self.store, self.limits = store, limits

    def query(self, cypher, params, **limit):
        self.limits += limit.values()
        return self.store.query(cypher, params, **limit)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_cards_share_the_time_limit_of_the_server(atlas_path, monkeypatch):
    limits, now = [], iter(range(10**6))
    monkeypatch.setattr(card.time, "monotonic", lambda: float(next(now)))
    opened = Atlas.open(atlas_path)
    first = opened.features("a")["id"][0].as_py()
    opened._store = Store(opened.store, limits)
    tools = all_tools(lambda: contextlib.nullcontext(opened), timeout=1000)
    answer, text = answered(tools, "show_feature", {"feature": first})
    assert answer is not None, text
    # The clock advances by 1 second before each query of a card.
    assert len(limits) >= 10
    assert sorted(limits, reverse=True) == limits
    assert limits[0] == 999
    short = all_tools(lambda: contextlib.nullcontext(opened), timeout=3)
    answer, text = answered(short, "show_feature", {"feature": first})
    assert answer is None
    assert "longer than its limit of 3 seconds" in text
    limits.clear()
    answered(short, "show_sae", {"sae": "a"})
    assert limits == [3]


@pytest.mark.slow
def test_a_server_answers_after_bad_calls(atlas_path, tmp_path):
    calls = [(name, arguments) for name, arguments, _ in BAD if isinstance(arguments, dict)][:14]
    _, tools, results = talk(
        atlas_path,
        [*calls, ("list_saes", {})],
        options=["--only", "counterparts_of_feature", "--no-cypher"],
    )
    assert sorted(t.name for t in tools) == sorted(
        ["list_saes", "show_sae", "show_feature", "describe_schema", "counterparts_of_feature"]
    )
    assert all(result.is_error for result in results[:-1])
    assert not results[-1].is_error


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Return tools on a graph with the names of the examples, and its tables."""
    graph = small_graph(shuffled=1)
    store = KuzuStore.open(tmp_path_factory.mktemp("example") / "g.kuzu", graph=lambda: graph)
    atlas = Atlas("example", store=store)
    yield all_tools(lambda: contextlib.nullcontext(atlas)), World(graph)
    store.close()


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_a_named_query_is_a_typed_tool(query, example):
    tools, world = example
    (tool,) = [t for t in tools if t.name == query.name]
    jsonschema.Draft202012Validator.check_schema(tool.input)
    jsonschema.Draft202012Validator.check_schema(tool.output)
    values = {p.name: p.example for p in query.parameters}
    passed = {p.name: p.example for p in query.parameters if p.required}
    answer, text = answered(tools, query.name, passed)
    if answer is None:
        assert query.matched or "No " in text, text
        return
    jsonschema.validate(answer, tool.output)
    expected = [tuple(row) for row in ANSWERS[query.name](world, **values)]
    found = [tuple(row.values()) for row in answer["rows"]]
    assert answer["row_count"] == len(expected)
    assert [tuple(map(str, row)) for row in found] == [
        tuple(str(near(value)) for value in row) for row in expected
    ]
    assert set(answer["columns"]) == {c.name for c in query.columns}
    for parameter in query.parameters:
        wrong = {**passed, parameter.name: {"a": 1}}
        assert answered(tools, query.name, wrong)[0] is None


def test_answers_are_limited_in_rows_characters_cells_and_items():
    many = fitted_rows([{"n": i} for i in range(2000)])
    assert len(many["rows"]) == MAX_ROWS
    assert (many["row_count"], "500 of 2000 rows" in many["note"]) == (2000, True)
    long = fitted_rows([{"text": "ü" * 10**6}] * 400)
    assert len(json.dumps(long["rows"], ensure_ascii=False)) <= MAX_ANSWER
    assert 0 < len(long["rows"]) < 400
    assert long["note"].endswith("Lists are cut to 200 items, texts to 2,000 characters.")
    assert fitted_rows([])["note"] is None
    assert fitted_rows([{"a": list(range(200)), "b": "x" * 2000}])["note"] is None
    (row,) = fitted_rows([{"a": list(range(1000))}])["rows"]
    assert row == {"a": list(range(200))}
    assert "200 items" in fitted_rows([{"a": list(range(1000))}])["note"]
    assert len(plain(list(range(10**5)))) == MAX_ITEMS
    assert plain([math.nan, math.inf, True, None, 1e-300, 2**60]) == [
        None,
        None,
        True,
        None,
        1e-300,
        2**60,
    ]
    assert plain({"\x1b": {"a": ("b\x1b",)}}) == {"␛": {"a": ["b␛"]}}


@pytest.mark.parametrize(
    "cell",
    [
        [["x" * 2000] * 200] * 200,
        [[[[]] * 200] * 200] * 200,
        {str(i): "y" * 2000 for i in range(99)},
    ],
    ids=["texts", "empty lists", "mapping"],
)
def test_a_row_that_is_too_large_is_an_error(cell):
    with pytest.raises(BadInput, match="One row has more than 60,000 characters"):
        fitted_rows([{"a": cell}])
    later = fitted_rows([{"a": 1}, {"a": cell}, {"a": 2}])
    assert later["rows"] == [{"a": 1}]
    assert "first 1 of 3 rows" in later["note"]


def test_a_budget_counts_at_least_the_characters_of_json():
    draw = random.Random(0)

    def value(depth):
        kind = draw.randrange(7 if depth < 4 else 5)
        if kind == 5:
            return [value(depth + 1) for _ in range(draw.randrange(5))]
        if kind == 6:
            return {f'k"{i}': value(depth + 1) for i in range(draw.randrange(5))}
        return [None, True, draw.randrange(10**9), draw.gauss(0, 1), 'ü"\n\u202e'][kind]

    for _ in range(300):
        budget = Budget()
        text = json.dumps(plain(value(0), budget), ensure_ascii=False)
        assert (
            0
            <= MAX_ANSWER - budget.remaining - len(text)
            <= 4 * text.count("]") + 4 * text.count("}")
        )


def test_a_large_answer_of_cypher_is_an_error(tools):
    cypher = {
        "cypher": "UNWIND range(1, 200) AS x WITH x, range(1, 200) AS y RETURN collect(y) AS a"
    }
    answer, text = answered(tools, "run_cypher", cypher)
    assert answer is None
    assert "One row has more than 60,000 characters" in text


def test_a_card_has_one_budget_for_all_its_parts():
    row = {"token": "x" * 3000}
    card = FeatureCard(
        id="a/0",
        verdict=["v"],
        properties={"top_token": "y" * 3000},
        histogram=[],
        examples=[Example("top", ["z" * 3000], [1.0], 0)] * 20,
        tables=[CardTable("First", [row] * 20), CardTable("Second", [row] * 20)],
        empty={},
        none=[],
        about={},
        numbers=[],
    )
    answer = card_tools._card(card)
    shown = [len(part["rows"]) for part in answer["tables"]]
    assert len(answer["examples"]) == 20
    assert shown[1] == 0 < shown[0] < 20
    assert len(json.dumps(answer)) < MAX_ANSWER + 1000
    assert f"First: Only the first {shown[0]} of 20 rows" in answer["note"]
    assert "Second: Only the first 0 of 20 rows" in answer["note"]
    assert answer["note"].endswith("texts to 2,000 characters.")


def test_doctest_of_plain():
    import doctest

    assert doctest.testmod(answer_size).failed == 0


def test_a_missing_sdk_is_one_message(atlas_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(SystemExit) as done:
        main(["mcp", "--atlas", str(atlas_path)])
    assert done.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "pip install 'feature-atlas[mcp]'" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--atlas", "nowhere.atlas"], "nowhere.atlas"),
        (["--only", "no_such_query"], "No query is named 'no_such_query'"),
        (["--timeout", "nan"], "nan is not a number"),
        (["--timeout", "0"], "above 0"),
        (["--timeout", "1e9"], "at most 1,000,000"),
        (["--atlas", "neo4j://user:secret@localhost"], "contains a login"),
    ],
)
def test_a_server_that_cannot_start_reports_the_reason(
    words, expected, atlas_path, capsys, monkeypatch
):
    monkeypatch.setattr("atlas.assistant.server.check_sdk", lambda: None)
    words = words if "--atlas" in words else [*words, "--atlas", str(atlas_path)]
    with pytest.raises(SystemExit) as done:
        main(["mcp", *words])
    assert done.value.code in (1, 2)
    out, err = capsys.readouterr()
    assert expected in err
    assert "secret" not in out + err
    assert "Traceback" not in err


def test_the_command_line_imports_no_sdk():
    code = (
        "import sys; from atlas.cli.main import command; command(); import atlas.assistant.server; "
        "print(sorted({'mcp', 'anyio', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
