"""What attacks on a Neo4j server share: a server of their own, and checks of its content."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j
from edge_graphs import assert_no_mixture
from neo4j_server import CannotStart, Own, leftovers
from store_graphs import assert_shows, put

from atlas.stores import Graph
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore
from attacks import Unavailable

__all__ = ["Attacked", "serving"]

PUSHER = Path(__file__).parents[1] / "support" / "killed_push.py"


class Attacked:
    """A server, and a store on it."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.login = {"username": own.server.username, "password": own.server.password}
        self.store = self.open()

    def open(self) -> Neo4jStore:
        """Return a store with a new connection."""
        return Neo4jStore(Bolt(self.own.server.url, **self.login), wait=60)

    def pusher(self, moment: str, versions: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Start a process that pushes, and kills itself at a moment; with ``inf`` never."""
        server = self.own.server
        env = {
            "NEO4J_URI": server.url,
            "NEO4J_USERNAME": server.username,
            "NEO4J_PASSWORD": server.password,
        }
        return subprocess.Popen(
            [sys.executable, str(PUSHER), moment, json.dumps(versions)],
            env=os.environ | env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self, cypher: str) -> list[list[Any]]:
        """Return the rows of a query on a new connection."""
        server = self.own.server
        auth = (server.username, server.password)
        with neo4j.GraphDatabase.driver(server.url, auth=auth) as driver:
            return [list(r) for r in driver.execute_query(cypher).records]

    def between(self, before: Graph, after: Graph) -> str:
        """Return what is wrong if each SAE must be that of one of two graphs."""
        return _wrong(lambda: assert_no_mixture(self.store, [before, after]))

    def finished(self, graph: Graph) -> str:
        """Push a graph; return what is wrong if the server must show it and nothing else."""
        put(self.store, graph)
        return self.shows(graph)

    def shows(self, graph: Graph) -> str:
        """Return what is wrong if the server must show a graph and nothing else."""
        return _wrong(lambda: assert_shows(self.store, graph)) or self.remaining()

    def remaining(self) -> str:
        """Describe what pushes have not removed; an empty text if there is none."""
        found = leftovers(self.rows)
        return f"{len(found)} nodes that belong to nothing" if found else ""


@contextmanager
def serving(folder: Path) -> Iterator[Attacked]:
    """Yield a server with an empty database."""
    try:
        own = Own(folder / "home")
        own.start()
    except CannotStart as error:
        raise Unavailable(str(error)) from error
    with own:
        attacked = Attacked(own)
        yield attacked
        attacked.store.close()


def _wrong(check: Callable[[], None]) -> str:
    try:
        check()
    except AssertionError as error:
        return (str(error).splitlines() or ["an assertion failed"])[0][:150]
    return ""
