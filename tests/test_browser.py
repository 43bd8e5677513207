"""What people paste into Neo4j Browser works there: every query file, the style sheet, the page's examples.

One headless Chromium is logged in once, for all of it, to the Browser that a real server serves.
"""

import re
from pathlib import Path

import pytest
from expected_answers import ANSWERS, World
from neo4j_server import wipe
from small_graph import small_graph

import queries
from atlas import schema
from atlas.progress import SILENT
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from neo4j_browser import NoBrowser, browser, find_chromium

DOCS = Path(__file__).parents[1] / "docs"
GRAPH = small_graph()
WORLD = World(GRAPH)
STYLE = (DOCS / "atlas.grass").read_text("utf-8")
EXAMPLES = re.findall(r"```cypher\n(.*?)```", (DOCS / "neo4j-browser.md").read_text("utf-8"), re.S)

TOO_LARGE = {"min_degree": 2}  # where the example in a file is more than the graph by hand holds

at_browser = pytest.mark.neo4j


@pytest.fixture(scope="module")
def shown(request):
    """Neo4j Browser at a server that holds the graph made by hand."""
    try:
        find_chromium()  # before a server is started for it
        server = request.getfixturevalue("neo4j_server")
        login = {"username": server.username, "password": server.password}
        wipe(server)
        store = Neo4jStore(Bolt(server.url, **login))
        store.sync(store.plan(GRAPH), SILENT)
        store.close()
        with browser(server.url, **login) as opened:
            yield opened
    except NoBrowser as error:
        pytest.skip(f"Neo4j Browser is not tested: {error}")


@at_browser
@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_every_query_file_gives_its_table(shown, query):
    values = {p.name: TOO_LARGE.get(p.name, p.example) for p in query.parameters}
    wanted = ANSWERS[query.name](WORLD, **values)
    assert wanted, "the examples in the file name nothing in the graph"
    text = query.text
    for name, value in TOO_LARGE.items():
        text = re.sub(rf"\S+ (/\* \${name} \*/)", rf"{value} \1", text)
    found = shown.run(text)
    assert not found.error
    assert found.columns == [c.name for c in query.columns]
    assert found.records == len(wanted)


@at_browser
def test_a_failure_and_an_empty_answer_are_seen_as_such(shown):
    assert "SyntaxError" in shown.run("MATCH (f:Feature RETURN f.id AS x").error
    empty = shown.run("MATCH (f:Feature {id: 'absent/0'}) RETURN f.id AS x")
    assert (empty.error, empty.records, empty.columns) == ("", 0, [])
    assert "no records" in empty.text


def rules(grass):
    """The rules of a style sheet: selector -> name -> value, without quotes."""
    return {
        selector.strip(): dict(re.findall(r"([\w-]+): [\"']?(.*?)[\"']?;", body))
        for selector, body in re.findall(r"([\w.]+) \{(.*?)\n\}", grass, re.DOTALL)
    }


@at_browser
def test_the_style_sheet_is_taken_as_it_is(shown):
    taken = shown.run(f":style {STYLE}")
    assert not taken.error
    assert rules(taken.text.partition("\n")[2]) == rules(STYLE)


def test_the_style_sheet_knows_every_label():
    styled = set(rules(STYLE))
    assert {f"node.{n.label}" for n in schema.NODES} <= styled
    between_features = {e.type for e in schema.EDGES if e.source == e.target == "Feature"}
    assert {f"relationship.{kind}" for kind in between_features} <= styled
    assert styled <= {"node", "relationship"} | {f"node.{n.label}" for n in schema.NODES} | {
        f"relationship.{e.type}" for e in schema.EDGES
    }
    for selector, style in rules(STYLE).items():
        table, names = (
            selector.partition(".")[2],
            re.findall(r"\{(\w+)\}", style.get("caption", "")),
        )
        assert not names or set(names) <= {p.name for p in schema.table(table).properties}, selector


@at_browser
@pytest.mark.parametrize("example", EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_the_examples_of_the_page_draw_a_graph(shown, example):
    shown.run(f":style {STYLE}")
    # Index and top token of the feature that the example is about.
    drawn = shown.run(example, caption="7 he tiny-a-l1-s0")
    assert not drawn.error
    captions = {" ".join(c.split()) for c in drawn.drawn}
    assert "7 he tiny-a-l1-s0" in captions
    assert len(captions) >= 3


def test_the_picture_of_the_page_is_small():
    assert (DOCS / "images" / "browser.png").stat().st_size < 200_000
