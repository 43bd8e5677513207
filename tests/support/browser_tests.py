"""What tests in Chromium share: a page, Neo4j Browser on a server with a graph, and the rules of a style."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from neo4j_browser import NoBrowser, browser, chromium_page, find_chromium
from neo4j_server import wipe

from atlas.progress import SILENT
from atlas.stores import Graph
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore

__all__ = ["at_browser", "browser_on", "find_or_skip", "page_or_skip", "rules"]

at_browser = pytest.mark.neo4j


@contextmanager
def browser_on(request, graph: Graph, *, open: Callable = browser) -> Iterator:
    """Open Neo4j Browser on the test server, which stores this graph and nothing else.

    Without Chromium, the tests skip, and fail under CI.
    """
    find_or_skip()  # before a server is started
    server = request.getfixturevalue("neo4j_server")
    login = {"username": server.username, "password": server.password}
    wipe(server)
    store = Neo4jStore(Bolt(server.url, **login))
    store.sync(store.plan(graph), SILENT)
    store.close()
    with _needed(), open(server.url, **login) as opened:
        yield opened


def find_or_skip() -> None:
    """Skip without Chromium, and fail under CI."""
    with _needed():
        find_chromium()


@contextmanager
def page_or_skip(width: int = 1300, height: int = 900) -> Iterator:
    """Yield a page of Chromium; skip without Chromium, and fail under CI."""
    with _needed(), chromium_page() as page:
        page.set_viewport_size({"width": width, "height": height})
        yield page


@contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except NoBrowser as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"tests in a browser must run under CI: {error}")
        pytest.skip(f"not tested in a browser: {error}")


def rules(grass: str) -> dict[str, dict[str, str]]:
    """Return the rules of a style sheet: selector -> name -> value, without quotes."""
    return {
        selector.strip(): dict(re.findall(r"([\w-]+): [\"']?(.*?)[\"']?;", body))
        for selector, body in re.findall(r"([\w.]+) \{(.*?)\n\}", grass, re.DOTALL)
    }
