"""One time limit covers the wait for a swap and all tries of a query on a server."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from atlas.errors import Locked
from atlas.stores.neo4j import connection
from atlas.stores.neo4j.connection import MIN_TIMEOUT, TRIES, Bolt

STEADY = "RETURN 1, false"


class Result(list):
    def values(self):
        return list(self)

    def keys(self):
        return ["a"]

    def consume(self):
        return None


class Session:
    """A session whose steady query returns a different answer each time."""

    def __init__(self):
        self.limits, self.count = [], 0

    @contextmanager
    def begin_transaction(self, *, timeout):
        self.limits.append(timeout)
        yield self

    def run(self, cypher, params=None):
        self.count += 1
        return Result([[self.count, False]]) if cypher == STEADY else Result()


@pytest.fixture
def server(monkeypatch):
    """Return a connection without a server, its session, the waits, and the clock."""
    bolt, session, waits = Bolt.__new__(Bolt), Session(), []
    bolt.url = "neo4j://nowhere"
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def await_swap(session, steady, *, wait):
        waits.append(wait)
        clock.now += 3.0

    monkeypatch.setattr(bolt, "_await_swap", await_swap, raising=False)
    monkeypatch.setattr(bolt, "_session", contextmanager(lambda *_: iter([session])))
    return bolt, session, waits


def test_waits_and_tries_share_one_time_limit(server):
    bolt, session, waits = server
    with pytest.raises(Locked, match="changed during each"):
        bolt.ask("MATCH (n) RETURN n", timeout=10.0, steady=STEADY)
    assert waits == [10.0, 7.0, 4.0, 1.0, MIN_TIMEOUT]
    assert session.limits == [7.0, 4.0, 1.0, MIN_TIMEOUT, MIN_TIMEOUT]


def test_without_a_time_limit_each_wait_has_its_own(server):
    bolt, session, waits = server
    with pytest.raises(Locked):
        bolt.ask("MATCH (n) RETURN n", steady=STEADY)
    assert waits == [connection.SWAP_WAIT] * TRIES
    assert session.limits == [None] * TRIES
