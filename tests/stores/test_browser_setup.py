"""The setting of docker-compose.yml is applied by Neo4j Browser when it connects."""

from pathlib import Path

import pytest
import yaml
from conftest import needed
from neo4j_server import Own

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from browser_tests import at_browser, find_or_skip
from neo4j_browser import PATIENCE, browser

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@at_browser
@pytest.mark.deep
def test_browser_draws_only_requested_edges_after_docker_compose_up(tmp_path):
    find_or_skip()
    service = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["neo4j"]
    command = service["environment"]["NEO4J_browser_post__connect__cmd"]
    with needed():
        own = Own(tmp_path / "home", settings=f"browser.post_connect_cmd={command}\n")
    with own:
        own.start()
        server = own.server
        with browser(server.url, username=server.username, password=server.password) as shown:
            shown.page.wait_for_function(
                "() => document.body.innerText.includes('\"autoComplete\": false')",
                timeout=PATIENCE,
            )
