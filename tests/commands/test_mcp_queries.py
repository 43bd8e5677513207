"""Every named query over MCP: the official client over stdio, compared with ``atlas query NAME --json``."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from command_results import result as printed
from small_demo import make_small_demo

import queries
from atlas.assistant.answer_size import MAX_ROWS
from atlas.cli.main import main
from atlas.push import push_atlas

anyio = pytest.importorskip("anyio")
mcp = pytest.importorskip("mcp")

pytestmark = pytest.mark.slow

#: On Neo4j: tables of one feature, two SAEs, tokens, texts, and lists.
HANDFUL = (
    "neighbours_of_feature",
    "counterparts_of_sae",
    "features_of_tokens",
    "examples_with_text",
    "examples_of_feature",
    "saes",
)

#: Calls that would write, if they were not refused.
WRITES = [
    ("run_cypher", {"cypher": "MATCH (f:Feature) SET f.top_token = 'x' RETURN f.id AS id"}),
    ("run_cypher", {"cypher": "MATCH (f:Feature) DETACH DELETE f"}),
    ("run_cypher", {"cypher": "CREATE (n:Note) RETURN n.id AS id"}),
    ("run_cypher", {"cypher": "MERGE (n:SAE {name: 'x'}) RETURN n.name AS name"}),
    ("run_cypher", {"cypher": "DROP TABLE Feature"}),
    ("run_cypher", {"cypher": "CALL db.createLabel('x')"}),
    ("run_cypher", {"cypher": "COPY (MATCH (f:Feature) RETURN f.id) TO 'stolen.csv'"}),
    ("run_cypher", {"cypher": "CREATE INDEX mine FOR (f:Feature) ON (f.idx)"}),
]

#: A mistake of a caller, and words that help to correct it.
MISTAKES = [
    ("neighbours_of_feature", {"feature": "tiny-a-l1-s0/99999"}, "tiny-a-l1-s0/0 to tiny-a-l1-s0/"),
    ("neighbours_of_feature", {"feature": "tiny-a-l1-s9/1"}, "tiny-a-l1-s0"),
    ("neighbours_of_feature", {"feature": "tiny-a-l1-s0/7", "by": "size"}, "weight"),
    ("neighbours_of_feature", {"fetaure": "tiny-a-l1-s0/7"}, "feature"),
    ("neighbors_of_feature", {"feature": "tiny-a-l1-s0/7"}, "neighbours_of_feature"),
    (
        "run_cypher",
        {"cypher": "MATCH (f:Feature) RETURN f.name AS name LIMIT 5"},
        "has no property 'name'",
    ),
    ("run_cypher", {"cypher": "MATCH (f:Feature RETURN f"}, "yntax"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.atlas"
    make_small_demo(path)
    return path


@pytest.fixture(params=["kuzu", pytest.param("neo4j", marks=pytest.mark.neo4j)])
def url(request, demo, monkeypatch):
    """The atlas as a folder and on a server, with the login in the environment."""
    if request.param == "kuzu":
        return str(demo)
    server = request.getfixturevalue("empty_neo4j")
    push_atlas(demo, server.url, username=server.username, password=server.password)
    monkeypatch.setenv("NEO4J_USERNAME", server.username)
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    return server.url


def talk(url, calls):
    """Make calls of a server that the client of the SDK starts; return the results."""
    login = {k: v for k, v in os.environ.items() if k.startswith("NEO4J_")}
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", f"from atlas.cli.main import main; main({['mcp', '--atlas', url]!r})"],
        env={**login, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )

    async def run():
        async with mcp.Client(mcp.stdio_client(server, errlog=sys.__stderr__)) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(run)


def command(capsys, *words):
    """Run a command; return the rows it prints, or its message."""
    with pytest.raises(SystemExit) as done:
        main([*words, "--json", "--quiet"])
    out, err = capsys.readouterr()
    return done.value.code, printed((done.value.code, out, err))


def as_options(arguments):
    """Return the options of ``atlas query`` for the arguments of a tool."""
    for name, value in arguments.items():
        yield "--param"
        yield f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def rounded(value):
    """Round to six significant digits, as an answer of the server does."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def test_every_named_query_answers_as_the_command(url, demo, capsys):
    here = url == str(demo)
    names = [q.name for q in queries.every()] if here else HANDFUL
    arguments = {
        name: {p.name: p.example for p in queries.get(name).parameters if p.required}
        for name in names
    }
    results = talk(url, list(arguments.items()))
    filled = 0
    for (name, passed), got in zip(arguments.items(), results, strict=True):
        code, expected = command(capsys, "query", name, *as_options(passed), "-a", url)
        text = got.content[0].text
        assert got.is_error == (code != 0), (name, text, expected)
        if got.is_error:
            assert text.split(". ")[0].rstrip(".") in expected["message"], name
            continue
        answer = got.structured_content
        assert answer["row_count"] == len(expected), name
        rows = [[rounded(v) for v in row.values()] for row in expected]
        shown = [list(row.values()) for row in answer["rows"]]
        assert shown == rows[: len(shown)], name
        assert (
            len(shown) == len(rows) or f"first {len(shown)} of {len(rows)} rows" in answer["note"]
        )
        filled += bool(rows)
    assert filled > (40 if here else 4)


def test_large_answers_are_cut_with_a_remark(url, capsys):
    name = "features_in_frequency_range"
    passed = {p.name: p.example for p in queries.get(name).parameters if p.required}
    passed |= {"limit": MAX_ROWS}
    long = "MATCH (t:Token) RETURN t.text AS text, range(1, 900) AS many ORDER BY t.id LIMIT 90"
    cut, refused, listed = talk(
        url,
        [
            (name, passed),
            ("run_cypher", {"cypher": "MATCH (f:Feature) RETURN f.id AS id"}),
            ("run_cypher", {"cypher": long}),
        ],
    )
    assert cut.structured_content["note"] is None
    assert refused.is_error
    assert "add LIMIT to the query." in refused.content[0].text  # no advice for other programs
    assert "`" not in refused.content[0].text
    answer = listed.structured_content
    assert answer["row_count"] == 90
    assert all(len(row["many"]) == 200 for row in answer["rows"])
    assert f"first {len(answer['rows'])} of 90 rows" in answer["note"]
    assert "Lists are cut to 200 items" in answer["note"]


def test_nothing_is_written_and_mistakes_get_help(url, demo):
    def contents():
        return {
            str(p.relative_to(demo)): p.read_bytes()
            for p in Path(demo).rglob("*")
            if p.is_file() and "cache" not in p.relative_to(demo).parts[0]
        }

    count = (
        "run_cypher",
        {"cypher": "MATCH (n:Feature) RETURN count(n) AS n, min(n.top_token) AS t"},
    )
    before = contents()
    calls = [count, *WRITES, *[(name, passed) for name, passed, _ in MISTAKES], count]
    first, *results, last = talk(url, calls)
    for (_, passed), got in zip(WRITES, results, strict=False):
        assert got.is_error, passed
        assert "Traceback" not in got.content[0].text
    for (name, passed, help), got in zip(MISTAKES, results[len(WRITES) :], strict=True):
        assert got.is_error, (name, passed)
        text = got.content[0].text
        assert help in text, (name, passed, text)
        assert len(text) < 1200
    assert first.structured_content == last.structured_content
    assert contents() == before
    assert not Path("stolen.csv").exists()
