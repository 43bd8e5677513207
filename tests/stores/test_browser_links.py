"""Every link into Neo4j Browser: parsed by Neo4j itself, and some followed to what Browser shows."""

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import neo4j
import pytest
from crowded_graph import CROWDED_FEATURE, crowded_graph
from expected_answers import ANSWERS, World
from expected_pictures import expected_edges, nodes_of

import queries
from atlas.stores.neo4j.browser.pages import (
    REQUESTED_EDGES,
    browser_link,
    example_names,
    guide,
    links_page,
    pictures,
    style_sheet,
    with_names,
)

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, browser_on

GRAPH = crowded_graph()
WORLD = World(GRAPH)
ADDRESS = "http://localhost:7474"
TABLES = (
    "neighbours_of_feature",
    "counterparts_of_feature",
    "features_of_tokens",
    "strongest_edges",
    "saes",
)

DRAWN = """() => {
  const node = ({labels, propertyMap}) =>
    [labels.filter(label => !label.startsWith('CommunityColour'))[0], propertyMap.id ?? propertyMap.name]
  const all = kind => [...document.querySelectorAll(`[data-testid=frame] g.${kind}`)].map(g => g.__data__)
  return [all('node').map(node), all('relationship').map(r => [r.type, node(r.source), node(r.target)])]
}"""


class Commands(HTMLParser):
    """The commands of the links of a page, and of the titles of a guide."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "data-populate" in values:
            self.found.append(values["data-populate"])
        elif tag == "a" and "?" in values["href"]:
            (command,) = parse_qs(urlsplit(values["href"]).query, strict_parsing=True)["arg"]
            self.found.append(command)


@pytest.mark.neo4j
@pytest.mark.parametrize("names", [{}, example_names(GRAPH)], ids=["of the files", "of an atlas"])
def test_neo4j_parses_the_query_of_every_link(names, neo4j_server):
    linked = Commands(links_page(ADDRESS, atlas="a", names=names)).found
    assert linked[:2] == [f":style {style_sheet()}", REQUESTED_EDGES]
    guided = Commands(guide(names)).found
    count = len(pictures()) + len(queries.every())
    assert len(set(linked[2:])) == count
    assert sorted(guided) == sorted(linked[2:])
    auth = (neo4j_server.username, neo4j_server.password)
    with neo4j.GraphDatabase.driver(
        neo4j_server.url, auth=auth, notifications_min_severity="OFF"
    ) as driver:
        for command in linked[2:]:
            summary = driver.execute_query(f"EXPLAIN {command}").summary
            assert summary.query_type == "r"  # it only reads


@pytest.fixture(scope="module")
def shown(request):
    """Open Neo4j Browser on a server that stores the graph."""
    with browser_on(request, GRAPH) as opened:
        opened.set(REQUESTED_EDGES)
        opened.address = opened.page.url.partition("/browser")[0]
        yield opened


@at_browser
@pytest.mark.parametrize("picture", pictures(), ids=lambda p: p.name)
def test_a_followed_link_draws_its_picture(shown, picture):
    text = with_names(picture, {"feature": CROWDED_FEATURE})
    expected = expected_edges(WORLD, picture.name, CROWDED_FEATURE)
    found = shown.follow(browser_link(shown.address, text), text)
    assert not found.error
    shown.page.wait_for_function(
        "n => document.querySelectorAll('[data-testid=frame] g.relationship').length === n",
        arg=len(expected),
    )
    nodes, edges = shown.page.evaluate(DRAWN)
    assert sorted(map(tuple, nodes)) == sorted(nodes_of(expected))
    assert {(kind, frozenset((tuple(a), tuple(b)))) for kind, a, b in edges} == expected


@at_browser
@pytest.mark.parametrize("name", TABLES)
def test_a_followed_link_shows_its_table(shown, name):
    query = queries.get(name)
    expected = ANSWERS[name](WORLD, **{p.name: p.example for p in query.parameters})
    assert expected
    found = shown.follow(browser_link(shown.address, query.text), query.text)
    assert not found.error
    assert found.columns == [c.name for c in query.columns]
    assert found.records == len(expected)
