"""The newer Neo4j Browser imports the pictures and queries of an atlas, and draws the pictures."""

import csv
import io
from collections import Counter

import pytest
from crowded_graph import CROWDED_FEATURE, crowded_graph
from expected_answers import World
from expected_pictures import expected_edges, nodes_of

import queries
from atlas.stores.neo4j.browser.pages import SAVED_COLUMNS, pictures, saved_cypher, with_names

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, browser_on
from neo4j_preview import preview

GRAPH = crowded_graph()
WORLD = World(GRAPH)
NAMES = {"feature": CROWDED_FEATURE, "SAE": "crowd-0", "other": "crowd-1"}


@pytest.fixture(scope="module")
def shown(request, tmp_path_factory):
    """Open the newer Browser, which has imported the file."""
    file = tmp_path_factory.mktemp("saved") / "saved-cypher.csv"
    file.write_text(saved_cypher(atlas="crowd", names=NAMES), "utf-8")
    with browser_on(request, GRAPH, open=preview) as opened:
        opened.import_saved(file, folder="crowd: Pictures")
        yield opened


@at_browser
def test_the_drawer_has_every_folder_and_picture(shown):
    assert shown.saved() == [picture.title for picture in pictures()]
    text = shown.page.inner_text("body")
    assert all(f"crowd: {query.topic}" in text for query in queries.every())


@at_browser
@pytest.mark.parametrize("picture", pictures(), ids=lambda p: p.name)
def test_a_saved_picture_draws_its_nodes_and_edges(shown, picture):
    expected = expected_edges(WORLD, picture.name, CROWDED_FEATURE)
    nodes, edges = shown.run_saved(picture.title)
    assert edges == dict(Counter(kind for kind, _ in expected)) | {"*": len(expected)}
    by_label = dict(Counter(label for label, _ in nodes_of(expected)))
    shown_labels = {k: n for k, n in nodes.items() if not k.startswith("CommunityColour")}
    assert shown_labels == by_label | {"*": len(nodes_of(expected))}


def test_the_file_has_every_picture_and_query_in_a_folder():
    text = saved_cypher(atlas="=HYPERLINK(1)", names=NAMES)
    header, *rows = csv.reader(io.StringIO(text))
    assert tuple(header) == SAVED_COLUMNS
    rows = [dict(zip(header, row, strict=True)) for row in rows]
    folders = {row["id"]: row for row in rows if row["isFolder"] == "true"}
    saved = [row for row in rows if row["isFolder"] == "false"]
    assert len({row["id"] for row in rows}) == len(rows) == len(folders) + len(saved)
    assert all(row["name"].startswith("'=HYPERLINK(1): ") for row in folders.values())
    known = {query.title: query for query in (*pictures(), *queries.every())}
    assert sorted(row["name"] for row in saved) == sorted(known)
    for row in saved:
        query, folder = known[row["name"]], folders[row["parentId"]]["name"]
        assert row["description"] == query.question
        assert row["query"] == with_names(query, NAMES)
        assert folder.endswith(": Pictures" if query in pictures() else f": {query.topic}")
