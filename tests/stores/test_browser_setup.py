"""After ``docker compose up``, Neo4j Browser has colours, captions and pictures without a further step."""

import threading
from pathlib import Path

import pytest
import yaml
from conftest import needed
from crowded_graph import crowded_graph
from expected_answers import World
from expected_pictures import expected_edges, nodes_of
from neo4j_server import Own, free_port

from atlas.progress import SILENT
from atlas.stores.neo4j.browser.pages import example_names, style_sheet
from atlas.stores.neo4j.browser.served_pages import PORT, Neo4jHttp, server_of_pages
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, find_or_skip, rules
from neo4j_browser import PATIENCE, address, browser

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
TITLE = "A feature and its neighbours"

# Caption and colour of each node that is drawn.
DRAWN = """() => [...document.querySelectorAll('[data-testid=frame] g.node')].map(node => [
  node.textContent.replace(/\\s+/g, ' ').trim(),
  node.querySelector('circle.b-outline, circle.outline').getAttribute('fill')])"""


@at_browser
@pytest.mark.deep
def test_a_click_in_the_guide_draws_a_picture_with_colours_and_captions(tmp_path):
    """Nothing is set in Browser: its server has the setting of the compose file."""
    find_or_skip()
    graph, port = crowded_graph(), free_port()
    command = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["neo4j"]["environment"][
        "NEO4J_browser_post__connect__cmd"
    ].replace(f"localhost:{PORT}", f"localhost:{port}")
    with needed():
        own = Own(tmp_path / "home", settings=f"browser.post_connect_cmd={command}\n")
    with own:
        own.start()
        login = {"username": own.server.username, "password": own.server.password}
        store = Neo4jStore(Bolt(own.server.url, **login))
        store.sync(store.plan(graph), SILENT)
        store.close()
        http = address(own.server.url, **login).removesuffix("/browser/")
        pages = server_of_pages(Neo4jHttp(http, **login), http, host="127.0.0.1", port=port)
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        try:
            with browser(own.server.url, **login) as shown:
                check(shown.page, graph)
        finally:
            pages.shutdown()
            thread.join()
            pages.server_close()


def check(page, graph):
    world, feature = World(graph), example_names(graph)["feature"]
    page.wait_for_function(
        "() => document.body.innerText.includes('\"autoComplete\": false')", timeout=PATIENCE
    )
    page.get_by_text(TITLE, exact=True).click(timeout=PATIENCE)
    expected = {}
    for _, key in nodes_of(expected_edges(world, "1_neighbours", feature)):
        row = world.feature[key]
        number = row["community"]
        rule = "Feature" if number is None else f"CommunityColour{number % 12}"
        caption = " ".join(f"{row['idx']} {row['top_token']} {row['sae']}".split())
        expected[caption] = rules(style_sheet())[f"node.{rule}"]["color"]
    assert len(expected) > 10
    page.wait_for_function(
        "n => document.querySelectorAll('[data-testid=frame] g.node').length === n",
        arg=len(expected),
        timeout=PATIENCE,
    )
    page.wait_for_function(
        "([drawn, caption]) => eval(drawn)().some(node => node[0] === caption)",
        arg=[DRAWN, next(iter(expected))],
        timeout=PATIENCE,
    )
    assert dict(page.evaluate(DRAWN)) == expected
