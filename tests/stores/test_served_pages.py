"""The web server of ``docker compose up``: its pages, who may read them, and the names in the queries."""

import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
from crowded_graph import crowded_graph
from neo4j_server import free_port
from small_graph import small_graph
from store_graphs import make_graph as plain_graph

import queries
from atlas.progress import SILENT
from atlas.stores.neo4j.browser.pages import (
    example_names,
    guide,
    links_page,
    pictures,
    saved_cypher,
    style_sheet,
    with_names,
)
from atlas.stores.neo4j.browser.served_pages import (
    ATLAS,
    Neo4jHttp,
    served_names,
    server_of_pages,
)

pytest.importorskip("playwright", reason="playwright is not installed; it is of the extra [test]")
from neo4j_browser import address

NAMES = {"SAE": "mine", "other": "yours", "model": "m", "site": "m/h", "feature": "mine/3"}
BROWSER = "http://localhost:7474"
NOBODY = Neo4jHttp("http://127.0.0.1:1", "neo4j", "wrong")


@contextmanager
def serving(neo4j):
    """Serve the pages on a free port, and yield their address."""
    server = server_of_pages(neo4j, BROWSER, host="127.0.0.1", port=free_port())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url, *, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request) as answer:
        return answer.read().decode(), answer.headers


def status(url, **headers):
    try:
        get(url, **headers)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


class Answers(BaseHTTPRequestHandler):
    """A server with the address of Neo4j's query API, which answers each question by its words."""

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["statement"]
        rows = {
            "COMPARED_WITH]->": [["mine", "yours"]],
            "s.hook": [["m", "m/h"]],
            "Feature": [["mine/3", None]],
            "Concept": [[None, None]],
        }
        found = next(values for words, values in rows.items() if words in question)
        body = json.dumps({"data": {"fields": ["a", "b"], "values": found}}).encode()
        self.send_response(202)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_pages_have_the_names_of_the_atlas(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # the password is sent to Neo4j only
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as neo4j:
        thread = threading.Thread(target=neo4j.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with serving(Neo4jHttp(f"http://127.0.0.1:{neo4j.server_port}", "neo4j", "x")) as url:
            pages = {path: get(url + path)[0] for path in ("/", "/guide.html", "/saved-cypher.csv")}
        neo4j.shutdown()
        thread.join()
    assert pages["/"] == links_page(BROWSER, atlas=ATLAS, names=NAMES)
    assert pages["/guide.html"] == guide(NAMES)
    assert pages["/saved-cypher.csv"] == saved_cypher(atlas=ATLAS, names=NAMES)
    assert "mine/3" in pages["/guide.html"]


def test_without_an_answer_the_names_are_those_of_the_files(capfd):
    with serving(NOBODY) as url:
        assert get(f"{url}/guide.html")[0] == guide({})
        assert get(f"{url}/atlas.grass")[0] == style_sheet()
    assert "names of the demo: http://127.0.0.1:1" in capfd.readouterr().err


def test_only_browser_on_this_machine_may_read_the_pages():
    with serving(NOBODY) as url:
        page = f"{url}/atlas.grass"
        for origin, permitted in (
            ("http://localhost:7474", "http://localhost:7474"),
            ("http://127.0.0.1:7474", "http://127.0.0.1:7474"),
            ("http://localhost:8000", None),
            ("https://example.com", None),
            ("null", None),
        ):
            for method in ("GET", "OPTIONS"):
                headers = get(page, method=method, Origin=origin)[1]
                assert headers["Access-Control-Allow-Origin"] == permitted
        asked = get(page, method="OPTIONS", Origin="http://localhost:7474")[1]
        # What Browser 5.24 sends when it loads a guide.
        assert {"pragma", "cache-control"} <= set(
            asked["Access-Control-Allow-Headers"].replace(" ", "").split(",")
        )
        port = url.rpartition(":")[2]
        assert status(page, Host=f"localhost:{port}") == 200
        assert status(page, Host=f"example.com:{port}") == 404  # a name that was pointed here
        assert status(page, Host="") == 404


@pytest.mark.parametrize("path", ["/pages.py", "/../pages.py", "/%2e%2e/pages.py"])
def test_no_other_file_is_served(path):
    with serving(NOBODY) as url:
        assert status(url + path) == 404


class Guide(HTMLParser):
    """Titles and queries of a guide, by slide."""

    def __init__(self, text):
        super().__init__()
        self.slides, self._in, self.tags = [], None, set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._in = tag
        if tag == "slide":
            self.slides.append(["", []])
        if tag == "a":
            self.slides[-1][1].append([dict(attributes)["data-populate"], ""])

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "h3":
            self.slides[-1][0] += data
        if self._in == "a":
            self.slides[-1][1][-1][1] += data


def test_the_guide_has_every_picture_and_every_query():
    hostile = NAMES | {"SAE": '<script>"&amp;', "feature": "<script>/3"}
    found = Guide(guide(hostile))
    assert found.tags == {"article", "carousel", "slide", "div", "h3", "p", "a", "br"}
    (title, drawn), *others = found.slides
    assert title == "Pictures"
    assert drawn == [[with_names(p, hostile), p.title] for p in pictures()]
    assert len(others) > 1
    listed = [[topic, *entry] for topic, entries in others for entry in entries]
    assert sorted(listed) == sorted(
        [q.topic, with_names(q, hostile), q.title] for q in queries.every()
    )


def without_pairs():
    """Return a graph without comparisons, whose first SAE is a floor."""
    graph = small_graph()
    saes = graph.tables["SAE"].to_pylist()
    first = min(row["name"] for row in saes)
    saes = [row | {"role": "random"} if row["name"] == first else row for row in saes]
    tables = {
        **graph.tables,
        "SAE": pa.Table.from_pylist(saes, schema=graph.tables["SAE"].schema),
        "COMPARED_WITH": graph.tables["COMPARED_WITH"].slice(0, 0),
    }
    return replace(graph, tables=tables)


@pytest.mark.neo4j
@pytest.mark.parametrize(
    "graph",
    [
        small_graph,
        crowded_graph,
        without_pairs,
        lambda: plain_graph({"a": "v1"}),
        lambda: plain_graph(()),
    ],
    ids=["small", "crowded", "no pairs", "plain", "empty"],
)
def test_names_asked_from_a_server_equal_those_of_the_graph(graph, open_neo4j, neo4j_server):
    graph = graph()
    store = open_neo4j()
    store.sync(store.plan(graph), SILENT)
    login = {"username": neo4j_server.username, "password": neo4j_server.password}
    http = address(neo4j_server.url, **login).removesuffix("/browser/")
    assert served_names(Neo4jHttp(http, **login)) == example_names(graph)
    assert served_names(Neo4jHttp(http, "neo4j", "wrong")) == {}
