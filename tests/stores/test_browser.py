"""Neo4j Browser accepts the query files, the style sheet, the pictures and the links.

All tests share one headless Chromium, logged in to the Browser of a real server.
"""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow as pa
import pytest
from expected_answers import ANSWERS, World
from small_graph import small_graph
from small_parts import small_atlas

import queries
from atlas import schema
from atlas.errors import BadInput
from atlas.export import export_for_browser
from atlas.stores.neo4j.browser.pages import (
    REQUESTED_EDGES,
    browser_link,
    example_names,
    links_page,
    pictures,
    style_sheet,
    with_names,
)
from atlas.stores.neo4j.community_colours import COLOURS, colour_label

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, browser_on, rules

DOCS = Path(__file__).parents[2] / "docs"
GRAPH = small_graph()
WORLD = World(GRAPH)
STYLE = style_sheet()
TOO_LARGE = {"min_degree": 2}  # the example in a file exceeds the values of the small graph


@pytest.fixture(scope="module")
def shown(request):
    """Open Neo4j Browser on a server that stores the small graph."""
    with browser_on(request, GRAPH) as opened:
        yield opened


@at_browser
@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_every_query_file_returns_its_table(shown, query):
    values = {p.name: TOO_LARGE.get(p.name, p.example) for p in query.parameters}
    expected = ANSWERS[query.name](WORLD, **values)
    assert expected, "the examples in the file name nothing in the graph"
    text = query.text
    for name, value in TOO_LARGE.items():
        text = re.sub(rf"\S+ (/\* \${name} \*/)", rf"{value} \1", text)
    found = shown.run(text)
    assert not found.error
    assert found.columns == [c.name for c in query.columns]
    assert found.records == len(expected)


@at_browser
def test_errors_and_empty_answers_are_distinguished(shown):
    assert "SyntaxError" in shown.run("MATCH (f:Feature RETURN f.id AS x").error
    empty = shown.run("MATCH (f:Feature {id: 'absent/0'}) RETURN f.id AS x")
    assert (empty.error, empty.records, empty.columns) == ("", 0, [])
    assert "no records" in empty.text


@at_browser
def test_browser_accepts_the_style_sheet_unchanged(shown):
    accepted = shown.run(f":style {STYLE}")
    assert not accepted.error
    assert rules(accepted.text.partition("\n")[2]) == rules(STYLE)


def test_the_style_sheet_has_a_rule_for_every_label():
    styled = set(rules(STYLE))
    colours = {f"node.{colour_label(i)}" for i in range(COLOURS)}
    assert colours <= styled
    styled -= colours
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
def test_a_link_opens_its_query_in_the_editor(shown):
    address = shown.page.url.partition("/browser")[0]
    query = pictures()[3].text  # short: the editor shows all its lines
    with shown.page.context.new_page() as page:
        page.goto(browser_link(address, query))
        editor = page.locator("[data-testid=activeEditor] .view-lines")
        page.wait_for_function(
            "() => document.querySelector('[data-testid=activeEditor] .view-lines')"
            "?.textContent.includes('FIRES_ON')"
        )
        assert " ".join(query.split()) == " ".join(editor.inner_text().replace("\xa0", " ").split())


class Links(HTMLParser):
    """Addresses of the links of a page, and the names of its tags."""

    def __init__(self, page):
        super().__init__()
        self.found, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "a":
            self.found.append(dict(attributes)["href"])


def test_the_page_has_a_link_for_the_style_each_picture_and_each_query():
    names = {"feature": "mine/3", "SAE": "mine", "other": "yours", "model": "m"}
    text = links_page("http://host:7474/", atlas="<script>a</script>", names=names)
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    page = Links(text)
    assert "script" not in page.tags
    opened = [parse_qs(urlsplit(link).query) for link in page.found]
    page.found.remove("saved-cypher.csv")  # next to the page
    assert all(link.startswith("http://host:7474/browser/") for link in page.found)
    commands = [each["arg"][0] for each in opened if each]
    assert all(each["cmd"] == ["edit"] for each in opened if each)
    assert commands[0] == f":style {STYLE}"
    assert commands[1] == REQUESTED_EDGES
    assert len(commands) == 2 + len(pictures()) + len(queries.every())
    assert "{id: 'mine/3' /* $feature */}" in commands[2]
    assert max(map(len, page.found)) < 8000  # a length that every browser and server accepts
    for query, command in zip([*pictures(), *queries.every()], commands[2:], strict=True):
        assert (command == query.text) == (with_names(query, {}) == with_names(query, names))
        for parameter in query.parameters:
            if parameter.required and parameter.names == "feature":
                assert re.search(rf"'(mine/3|yours)' /\* \${parameter.name} \*/", command)


def test_names_that_cannot_be_quoted_are_not_written():
    rows = GRAPH.tables["SAE"].to_pylist()
    names = example_names(GRAPH)
    assert names["SAE"] in {row["name"] for row in rows}
    pairs = {frozenset((e["source"], e["target"])) for e in WORLD.COMPARED_WITH}
    assert frozenset((names["SAE"], names["other"])) in pairs
    hostile = GRAPH.tables["Concept"].slice(0, 1).to_pylist()[0] | {"id": "x' DETACH DELETE n //"}
    concepts = pa.Table.from_pylist([hostile], schema=GRAPH.tables["Concept"].schema)
    graph = replace(GRAPH, tables={**GRAPH.tables, "Concept": concepts})
    assert "concept" not in example_names(graph)
    assert example_names(graph)["SAE"] == names["SAE"]


def test_the_example_has_a_community_a_match_and_neighbours():
    names = example_names(GRAPH)
    shown = {f["id"]: f for f in WORLD.Feature if f["sae"] == names["SAE"] and f["active_tokens"]}
    matched = {key for e in WORLD.MATCHES for key in (e["source"], e["target"])}
    paired = {key for e in WORLD.CO_ACTIVATES for key in (e["source"], e["target"])}
    usable = [
        f
        for key, f in shown.items()
        if f["community"] is not None and key in matched and key in paired
    ]
    tokens = sorted(f["active_tokens"] for f in usable)
    assert len(tokens) > 2
    assert tokens[0] < shown[names["feature"]]["active_tokens"] < tokens[-1]
    assert shown[names["feature"]] in usable
    empty = {n: t.slice(0, 0) for n, t in GRAPH.tables.items() if n in ("MATCHES", "CO_ACTIVATES")}
    features = [f | {"community": None} for f in GRAPH.tables["Feature"].to_pylist()]
    table = pa.Table.from_pylist(features, schema=GRAPH.tables["Feature"].schema)
    bare = replace(GRAPH, tables={**GRAPH.tables, **empty, "Feature": table})
    assert example_names(bare)["feature"] in shown  # a live feature, although nothing was computed


def test_the_export_writes_the_page_and_refuses_another_address(tmp_path):
    small_atlas(tmp_path / "a.atlas")
    written = export_for_browser(tmp_path / "a.atlas", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert quote("'one/0' /* $feature */", safe="") in page
    assert (tmp_path / "out" / "atlas.grass").read_text("utf-8") == STYLE
    saved = (tmp_path / "out" / "saved-cypher.csv").read_text("utf-8")
    assert "'one/0' /* $feature */" in saved
    links = [link for link in Links(page).found if "cmd=edit" in link]
    assert written["index.html"] == len(links)
    assert written["saved-cypher.csv"] == len(list(csv.reader(io.StringIO(saved)))) - 1 - len(
        {query.topic for query in queries.every()} | {"Pictures"}
    )
    for address in ("javascript:alert(1)", "localhost:7474", "http://a b", 'http://a"onclick="x'):
        with pytest.raises(BadInput, match="address of Neo4j Browser"):
            export_for_browser(tmp_path / "a.atlas", tmp_path / "out", address=address)


def test_the_picture_of_the_page_is_small():
    assert (DOCS / "images" / "browser.png").stat().st_size < 200_000
