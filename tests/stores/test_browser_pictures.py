"""Each picture draws the nodes and edges of its question, on a small graph and at its limits.

All tests share one headless Chromium, whose Browser has the style sheet and the setting.
"""

import re

import pytest
from crowded_graph import CROWDED_FEATURE, crowded_graph
from expected_answers import World
from expected_pictures import expected_edges, nodes_of

from atlas.stores.neo4j.browser.pages import REQUESTED_EDGES, pictures, style_sheet, with_names

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, browser_on, rules
from neo4j_browser import HAS_CAPTION, PATIENCE

GRAPH = crowded_graph()
WORLD = World(GRAPH)
STYLE = style_sheet()
SMALL_FEATURE = "tiny-a-l1-s0/7"
FEATURES = (SMALL_FEATURE, CROWDED_FEATURE)

# Elements of the limits of each picture: edges at the crowded feature.
AT_LIMIT = {
    "1_neighbours": lambda edges: len(nodes_of(edges)) == 1 + 20,
    "2_counterparts": lambda edges: sum(kind == "MATCHES" for kind, _ in edges) == 25,
    "3_conserved_edges": lambda edges: len(edges) == 3 * 25 + 1,
    "4_tokens": lambda edges: len(edges) == 15,
    "5_community": lambda edges: len(edges) == 25 + 1,  # the feature is not among the 25
    "6_saes": lambda edges: sum(label == "SAE" for label, _ in nodes_of(edges)) == 50,
}

# Edges and nodes as Browser bound them to what it drew.
DRAWN = """() => {
  const node = ({labels, propertyMap}) =>
    [labels.filter(label => !label.startsWith('CommunityColour'))[0], propertyMap.id ?? propertyMap.name]
  const all = kind => [...document.querySelectorAll(`[data-testid=frame] g.${kind}`)].map(g => g.__data__)
  return [all('node').map(node), all('relationship').map(r => [r.type, node(r.source), node(r.target)])]
}"""

FILLS = """() => [...document.querySelectorAll('g.node')].map(node => [
  node.textContent.replace(/\\s+/g, ' ').trim(),
  node.querySelector('circle.b-outline, circle.outline').getAttribute('fill')])"""


@pytest.fixture(scope="module")
def shown(request):
    """Open Neo4j Browser with the style sheet; it draws the edges of a query only."""
    with browser_on(request, GRAPH) as opened:
        opened.run(f":style {STYLE}")
        opened.set(REQUESTED_EDGES)
        yield opened


def caption(key):
    """Return the caption of a feature in the style sheet."""
    feature = WORLD.feature[key]
    return " ".join(f"{feature['idx']} {feature['top_token']} {feature['sae']}".split())


def draw(shown, picture, feature):
    """Draw a picture of a feature, and wait for the captions."""
    text = with_names(picture, {"feature": feature})
    first = caption(feature) if picture.parameters else "tiny-crowd"
    shown.run(text, keep=True, caption=first)


def close(shown):
    shown.page.locator("[data-testid=frame] [title=Close]").first.click()


@at_browser
def test_without_a_style_sheet_a_feature_has_its_index_and_top_token(shown):
    """Before the style sheet is loaded, which the server does not need."""
    shown.run(":style reset")
    try:
        shown.run(
            "MATCH (f:Feature {id: $id}) RETURN f".replace("$id", repr(SMALL_FEATURE)), keep=True
        )
        feature = WORLD.feature[SMALL_FEATURE]
        expected = f"{feature['idx']} {feature['top_token'].strip()}"
        shown.page.wait_for_function(HAS_CAPTION, arg=expected, timeout=PATIENCE)
        close(shown)
    finally:
        shown.run(f":style {STYLE}")


@at_browser
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("picture", pictures(), ids=lambda p: p.name)
def test_a_picture_draws_its_nodes_and_edges_and_no_others(shown, picture, feature):
    expected = expected_edges(WORLD, picture.name, feature)
    draw(shown, picture, feature)
    nodes, edges = shown.page.evaluate(DRAWN)
    close(shown)
    assert sorted(map(tuple, nodes)) == sorted(nodes_of(expected))
    drawn = [(kind, frozenset((tuple(one), tuple(two)))) for kind, one, two in edges]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == expected


@at_browser
def test_captions_of_features_and_sites_are_complete(shown):
    by_name = {p.name: p for p in pictures()}
    for name, label in (("1_neighbours", "Feature"), ("6_saes", "Site")):
        found = nodes_of(expected_edges(WORLD, name, SMALL_FEATURE))
        keys = [key for kind, key in found if kind == label]
        expected = (
            {caption(key) for key in keys}
            if label == "Feature"
            else {WORLD.site[key]["hook"] for key in keys}
        )
        draw(shown, by_name[name], SMALL_FEATURE)
        captions = {" ".join(text.split()) for text, _ in shown.page.evaluate(FILLS)}
        close(shown)
        assert expected <= captions


@at_browser
def test_features_are_drawn_in_the_colour_of_their_community(shown):
    draw(shown, pictures()[0], SMALL_FEATURE)
    drawn = shown.page.evaluate(FILLS)
    close(shown)
    expected = {}
    for _, key in nodes_of(expected_edges(WORLD, "1_neighbours", SMALL_FEATURE)):
        number = WORLD.feature[key]["community"]
        rule = "Feature" if number is None else f"CommunityColour{number % 12}"
        expected[caption(key)] = rules(STYLE)[f"node.{rule}"]["color"]
    assert dict(drawn) == expected
    assert len(set(expected.values())) > 1


@pytest.mark.parametrize("picture", pictures(), ids=lambda p: p.name)
def test_every_picture_is_limited_and_the_crowded_graph_reaches_the_limit(picture):
    assert int(re.search(r"LIMIT (\d+)", picture.text)[1]) <= 50
    assert AT_LIMIT[picture.name](expected_edges(WORLD, picture.name, CROWDED_FEATURE))
