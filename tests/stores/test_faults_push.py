"""After a lost connection or server, readers see one version, and the same command completes the push."""

import json
from contextlib import contextmanager
from urllib.parse import urlsplit

import neo4j
import pytest
from conftest import needed
from edge_graphs import assert_no_mixture, edge_graph
from neo4j_server import leftovers
from small_parts import small_atlas
from store_graphs import assert_shows, put
from tcp_proxy import proxy

from atlas.cli.main import main
from atlas.progress import Silent
from atlas.stores import StoredSae
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.opening import open_server

pytestmark = [pytest.mark.neo4j, pytest.mark.slow]

OLD = edge_graph({"a1": "v1", "a2": "v1", "b1": "v1"}, features=20)
NEW = edge_graph({"a1": "v2", "a2": "v2", "c1": "v1"}, features=20)


@pytest.fixture
def push(tmp_path, monkeypatch, capsys):
    """Run `atlas push` with a graph as the atlas; return exit status, output and stderr."""
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
def direct_access(server):
    """Connect a store and a driver directly to the server."""
    login = {"username": server.username, "password": server.password}
    auth = (server.username, server.password)
    with neo4j.GraphDatabase.driver(server.url, auth=auth) as driver:
        store = open_server(server.url, **login)
        try:
            yield store, lambda cypher: [list(r) for r in driver.execute_query(cypher).records]
        finally:
            store.close()


def assert_lost(code, output):
    """Check that the one-line message states the failure and the remedy."""
    assert code == 1
    assert output["error"]["type"] == "StoreUnreachable"
    message = output["error"]["message"]
    assert "\n" not in message
    assert "was lost" in message
    assert "Run the same command again" in message


def test_a_lost_connection_shows_one_version_and_the_next_push_completes(empty_neo4j, push):
    """Cut the connection after a share of the bytes of a push, in either direction."""
    server, at = empty_neo4j, urlsplit(empty_neo4j.url)
    with direct_access(server) as (store, ask), proxy(at.hostname, at.port) as between:
        url = f"bolt://127.0.0.1:{between.port}"
        put(store, OLD)
        total = {}
        for graph in (NEW, OLD, NEW):  # the two pushes differ in their bytes
            between.mend()
            assert push(graph, url, server)[0] == 0
            total[id(graph)] = dict(between.passed)
        before, after, seen = NEW, OLD, []
        for way, share in (("sent", 0.02), ("sent", 0.6), ("sent", 0.95), ("answered", 0.6)):
            between.mend(**{way: int(share * total[id(after)][way])})
            code, output, _ = push(after, url, server)
            assert_lost(code, output)
            assert_no_mixture(store, [before, after])
            seen.append(store.contents() == shown(before))
            between.mend()
            assert push(after, url, server)[0] == 0
            assert_shows(store, after)
            assert leftovers(ask) == []
            before, after = after, before
        assert True in seen  # cut before the first change
        assert False in seen[:3]  # cut between two changes
        assert not seen[3]  # cut in an answer


def shown(graph):
    return {s: StoredSae(graph.atlas, f) for s, f in graph.fingerprints.items()}


class ActAt(Silent):
    """Progress that acts at one of its reports: it kills a server, or interrupts as Ctrl-C does."""

    def __init__(self, report, act):
        self.remaining, self.act = report, act

    @contextmanager
    def stage(self, title, **known):
        yield self

    def advance(self, by=1):
        self.remaining -= 1
        if self.remaining == 0:
            self.act()


def interrupt():
    raise KeyboardInterrupt


def interrupt_in_swap(self, work, *, timeout=0):
    """Interrupt `Bolt.transact` after its statements and before their commit."""
    with self._session("WRITE") as session, session.begin_transaction() as transaction:
        work(transaction)
        raise KeyboardInterrupt


def interrupt_after_swap(self, work, *, timeout=0):
    """Interrupt `Bolt.transact` after the commit, before its caller knows of it."""
    TRANSACT(self, work, timeout=timeout)
    raise KeyboardInterrupt


TRANSACT = Bolt.transact


@pytest.mark.parametrize("moment", [1, 9, interrupt_in_swap, interrupt_after_swap])
def test_after_ctrl_c_readers_see_one_version_at_once_and_the_next_push_completes(
    empty_neo4j, push, monkeypatch, moment
):
    server = empty_neo4j
    with direct_access(server) as (store, ask):
        put(store, OLD)
        with monkeypatch.context() as patch:
            if callable(moment):
                patch.setattr(Bolt, "transact", moment)
            else:
                patch.setattr(
                    "atlas.cli.commands.make_progress", lambda quiet: ActAt(moment, interrupt)
                )
            code, output, _ = push(NEW, server.url, server)
        assert code == 130
        assert output["error"]["type"] == "Interrupted"
        assert ask("MATCH (l:AtlasLock) WHERE l.until IS NOT NULL RETURN l.until") == []
        assert_no_mixture(store, [OLD, NEW])  # waits for a swap, if there is one
        assert push(NEW, server.url, server)[0] == 0
        assert_shows(store, NEW)
        assert leftovers(ask) == []


def test_a_killed_server_shows_complete_saes_and_the_next_push_completes(
    own_neo4j, push, monkeypatch
):
    with needed():
        own_neo4j.start()
    server = own_neo4j.server
    with direct_access(server) as (store, _):
        put(store, OLD)
    with monkeypatch.context() as patch:
        patch.setattr("atlas.cli.commands.make_progress", lambda quiet: ActAt(30, own_neo4j.kill))
        code, output, _ = push(NEW, server.url, server)
    assert_lost(code, output)
    with needed():
        own_neo4j.start()
    with direct_access(server) as (store, ask):
        assert {"a1", "a2"} <= set(store.contents())
        assert_no_mixture(store, [OLD, NEW])
        assert push(NEW, server.url, server)[0] == 0
        assert_shows(store, NEW)
        assert leftovers(ask) == []
