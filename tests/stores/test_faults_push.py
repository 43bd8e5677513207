"""Pushes that lose their connection or their server: nothing half is seen, and the same command finishes."""

import json
from contextlib import contextmanager
from urllib.parse import urlsplit

import neo4j
import pytest
from conftest import needed
from edge_graphs import assert_whole, edge_graph
from neo4j_server import leftovers
from small_parts import small_atlas
from store_graphs import assert_shows, put
from tcp_proxy import proxy

from atlas.cli.main import main
from atlas.progress import Silent
from atlas.stores import StoredSae
from atlas.stores.opening import open_server

pytestmark = [pytest.mark.neo4j, pytest.mark.slow]

OLD = edge_graph({"a1": "v1", "a2": "v1", "b1": "v1"}, features=20)
NEW = edge_graph({"a1": "v2", "a2": "v2", "c1": "v1"}, features=20)


@pytest.fixture
def push(tmp_path, monkeypatch, capsys):
    """Run `atlas push` of a graph in place of an atlas; return exit status, result and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("atlas.stores.neo4j.staged_swap.BATCH_ROWS", 50)
    small_atlas(tmp_path / "a.atlas")

    def run(graph, url, server):
        monkeypatch.setenv("NEO4J_USERNAME", server.username)
        monkeypatch.setenv("NEO4J_PASSWORD", server.password)
        monkeypatch.setattr("atlas.push.assemble", lambda folder, sound: graph)
        with pytest.raises(SystemExit) as done:
            main(["push", url, "--json", "-a", "a.atlas"])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return done.value.code, json.loads(out), err

    return run


@contextmanager
def looking(server):
    """Give a store and a driver that reach the server directly."""
    login = {"username": server.username, "password": server.password}
    auth = (server.username, server.password)
    with neo4j.GraphDatabase.driver(server.url, auth=auth) as driver:
        store = open_server(server.url, **login)
        try:
            yield store, lambda cypher: [list(r) for r in driver.execute_query(cypher).records]
        finally:
            store.close()


def assert_lost(code, said):
    """It failed with one sentence that says what happened and what to do."""
    assert code == 1
    assert said["error"]["type"] == "StoreUnreachable"
    message = said["error"]["message"]
    assert "\n" not in message
    assert "was lost" in message
    assert "Run the same command again" in message


def test_a_lost_connection(empty_neo4j, push):
    """Cut when a share of the bytes has gone that a push takes, or of those of its answers."""
    server, at = empty_neo4j, urlsplit(empty_neo4j.url)
    with looking(server) as (store, ask), proxy(at.hostname, at.port) as between:
        url = f"bolt://127.0.0.1:{between.port}"
        put(store, OLD)
        whole = {}
        for graph in (NEW, OLD, NEW):  # either way takes other bytes
            between.mend()
            assert push(graph, url, server)[0] == 0
            whole[id(graph)] = dict(between.passed)
        before, after, seen = NEW, OLD, []
        for way, share in (("sent", 0.02), ("sent", 0.6), ("sent", 0.95), ("answered", 0.6)):
            between.mend(**{way: int(share * whole[id(after)][way])})
            code, said, _ = push(after, url, server)
            assert_lost(code, said)
            assert_whole(store, [before, after])
            seen.append(store.contents() == shown(before))
            between.mend()
            assert push(after, url, server)[0] == 0
            assert_shows(store, after)
            assert leftovers(ask) == []
            before, after = after, before
        assert True in seen  # cut before the first change,
        assert False in seen[:3]  # and between two,
        assert not seen[3]  # also where an answer was cut


def shown(graph):
    return {s: StoredSae(graph.atlas, f) for s, f in graph.fingerprints.items()}


class Deadly(Silent):
    """Kills a server at some report of progress."""

    def __init__(self, own, left):
        self.own, self.left = own, left

    @contextmanager
    def stage(self, title, **known):
        yield self

    def advance(self, by=1):
        self.left -= 1
        if self.left == 0:
            self.own.kill()


def test_a_killed_server(own_neo4j, push, monkeypatch):
    with needed():
        own_neo4j.start()
    server = own_neo4j.server
    with looking(server) as (store, _):
        put(store, OLD)
    with monkeypatch.context() as patch:
        patch.setattr("atlas.cli.commands.make_progress", lambda quiet: Deadly(own_neo4j, 30))
        code, said, _ = push(NEW, server.url, server)
    assert_lost(code, said)
    with needed():
        own_neo4j.start()
    with looking(server) as (store, ask):
        assert {"a1", "a2"} <= set(store.contents())
        assert_whole(store, [OLD, NEW])
        assert push(NEW, server.url, server)[0] == 0
        assert_shows(store, NEW)
        assert leftovers(ask) == []
