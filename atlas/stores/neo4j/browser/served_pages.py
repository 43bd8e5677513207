"""A web server of the files that Neo4j Browser needs for an atlas: a style, a guide, links.

``docker compose up`` runs it next to Neo4j, in an image that has only Python. It therefore
imports the standard library and modules of this program that need nothing else. Neo4j Browser
5.24 loads the style and the guide when it connects, by the setting
``browser.post_connect_cmd``; other versions use the links of the first page.

The names in the queries are those of the atlas on the server, which is queried once per page.
Without an answer, they are the examples in the files.
"""

import base64
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from atlas.stores.neo4j.browser.pages import (
    guide,
    links_page,
    saved_cypher,
    style_sheet,
    usable_names,
)

__all__ = ["PAGES", "PORT", "Neo4jHttp", "main", "served_names", "server_of_pages"]

PORT = 7475
"""The port of the pages."""

ATLAS = "Feature atlas"
"""Title of the pages, because a server can have several atlases."""

PAGES: Mapping[str, tuple[str, Callable[[str, Mapping[str, str]], str]]] = {
    "/": ("text/html", lambda address, names: links_page(address, atlas=ATLAS, names=names)),
    "/guide.html": ("text/html", lambda _, names: guide(names)),
    "/atlas.grass": ("text/plain", lambda _address, _names: style_sheet()),
    "/saved-cypher.csv": ("text/csv", lambda _, names: saved_cypher(atlas=ATLAS, names=names)),
}
"""Path -> type of content, and a function of Browser's address and the names of an atlas."""

# A proxy of the environment would receive the password, and cannot reach this server.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_NEEDS_NAMES = ("/", "/guide.html", "/saved-cypher.csv")
_HERE = ("localhost", "127.0.0.1", "[::1]")

_PAIR = "MATCH (a:SAE)-[:COMPARED_WITH]->(b:SAE) RETURN a.name, min(b.name) ORDER BY a.name LIMIT 1"
_TRAINED = (
    "MATCH (s:SAE) RETURN coalesce("
    "min(CASE WHEN coalesce(s.role, 'trained') = 'trained' THEN s.name END), min(s.name)), null"
)
_MODEL = "MATCH (s:SAE {name: $sae}) RETURN s.model, s.model + '/' + s.hook"
# The rule of `pages.example_names`: the median by active tokens, of the features with most to draw.
_FEATURE = """
MATCH (f:Feature {sae: $sae})
WITH f, CASE WHEN f.active_tokens <> 0 THEN
  CASE WHEN f.community IS NULL THEN 0 ELSE 1 END
  + CASE WHEN EXISTS { (f)-[:CO_ACTIVATES]-() } THEN 1 ELSE 0 END
  + CASE WHEN EXISTS { (f)-[:MATCHES]-() } THEN 1 ELSE 0 END
  ELSE -1 END AS drawn
ORDER BY coalesce(f.active_tokens, 0), f.idx
WITH drawn, collect(f.id) AS found ORDER BY drawn DESC LIMIT 1
RETURN found[size(found) / 2], null
"""
_CONCEPT = "MATCH (c:Concept) RETURN min(c.id), null"


@dataclass(frozen=True)
class Neo4jHttp:
    """How to ask a Neo4j server over HTTP.

    Parameters
    ----------
    address
        Address of its HTTP port.
    username, password
        Its login.
    """

    address: str
    username: str
    password: str

    def ask(self, cypher: str, params: Mapping[str, Any] | None = None) -> list[Any] | None:
        """Return the first row of a query; None if there is none.

        Parameters
        ----------
        cypher
            A query that reads.
        params
            Its parameters.

        Raises
        ------
        OSError
            If the server does not answer, or refuses the login or the query.
        """
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.address.rstrip('/')}/db/neo4j/query/v2",
            data=json.dumps(
                {"statement": cypher, "parameters": dict(params or {}), "accessMode": "READ"}
            ).encode(),
            headers={
                "Authorization": f"Basic {login}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )
        with _DIRECT.open(request, timeout=30) as answer:
            rows: list[list[Any]] = json.load(answer)["data"]["values"]
        return rows[0] if rows else None


def served_names(neo4j: Neo4jHttp) -> dict[str, str]:
    """Return the names of an atlas on a server, as ``pages.example_names`` chooses them.

    Parameters
    ----------
    neo4j
        The server.

    Returns
    -------
    dict
        Kind -> name; empty if the server does not answer.
    """
    try:
        sae, other = neo4j.ask(_PAIR) or neo4j.ask(_TRAINED) or (None, None)
        found = {"SAE": sae, "other": other}
        if sae is not None:
            found["model"], found["site"] = neo4j.ask(_MODEL, {"sae": sae}) or (None, None)
            found["feature"] = (neo4j.ask(_FEATURE, {"sae": sae}) or [None])[0]
        found["concept"] = (neo4j.ask(_CONCEPT) or [None])[0]
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"The pages have the names of the demo: {neo4j.address}: {error}\n")
        return {}
    return usable_names(found)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests for the pages from this machine, and nothing else."""

    timeout = 30  # of a slow client, in seconds
    server_version, sys_version = "feature-atlas", ""

    def __init__(self, *request: Any, neo4j: Neo4jHttp, browser: str) -> None:
        self._neo4j, self._browser = neo4j, browser
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answer with a page."""
        path = urlsplit(self.path).path
        if not self._from_here() or path not in PAGES:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind, write = PAGES[path]
        names = served_names(self._neo4j) if path in _NEEDS_NAMES else {}
        body = write(self._browser, names).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self._allow()
        self.end_headers()
        self.wfile.write(body)

    def do_OPTIONS(self) -> None:
        """Permit the request of Browser, which asks first because it sends headers of its own."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self._allow()
        self.send_header("Access-Control-Allow-Headers", "pragma, cache-control")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _from_here(self) -> bool:
        """Return whether the address has a name of this machine, as no other web site has."""
        return (self.headers["Host"] or "").rpartition(":")[0] in _HERE

    def _allow(self) -> None:
        """Permit Browser to read the answer, and no other web site."""
        port = urlsplit(self._browser).port
        origin = self.headers["Origin"]
        self.send_header("Vary", "Origin")
        if origin in (f"http://{name}:{port}" for name in _HERE):
            self.send_header("Access-Control-Allow-Origin", origin)


def server_of_pages(neo4j: Neo4jHttp, browser: str, *, host: str, port: int) -> ThreadingHTTPServer:
    """Return a web server of the pages, not started yet.

    Parameters
    ----------
    neo4j
        The server whose names are in the queries.
    browser
        Address of Neo4j Browser, without a path, in links.
    host, port
        Address to listen on.
    """
    return ThreadingHTTPServer((host, port), partial(_Handler, neo4j=neo4j, browser=browser))


def main() -> None:
    """Serve the pages until the process is ended; settings are in the environment."""
    neo4j = Neo4jHttp(
        os.environ.get("NEO4J_HTTP", "http://localhost:7474"),
        os.environ.get("NEO4J_USERNAME", "neo4j"),
        os.environ.get("NEO4J_PASSWORD", ""),
    )
    browser = os.environ.get("NEO4J_BROWSER", "http://localhost:7474")
    host, port = os.environ.get("PAGES_HOST", "127.0.0.1"), int(os.environ.get("PAGES_PORT", PORT))
    server_of_pages(neo4j, browser, host=host, port=port).serve_forever()


if __name__ == "__main__":
    main()
