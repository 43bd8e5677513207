"""A push that kills its own process: ``killed_push.py MOMENT VERSIONS``, the login in the environment.

MOMENT is a number (die at that many reports of progress) or ``commit`` (die when
everything of the first swap is done but the commit). VERSIONS are the SAEs as JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge_graphs import edge_graph

from atlas.stores.neo4j.connection import Bolt
from atlas.stores.opening import open_server


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """Counts reports of progress, and dies at one of them."""

    def __init__(self, reports: float) -> None:
        self._reports = reports

    @contextmanager
    def stage(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> Iterator["Deadly"]:
        yield self

    def advance(self, by: float = 1) -> None:
        self._reports -= 1
        if self._reports <= 0:
            die()

    def report(self, sentence: str) -> None:
        pass


def together(self: Bolt, work: Callable[[Any], Any], *, timeout: float = 0) -> Any:
    with self._session("WRITE") as session, session.begin_transaction() as transaction:
        work(transaction)
        die()


def main() -> None:
    moment, versions = sys.argv[1], json.loads(sys.argv[2])
    if moment == "commit":
        Bolt.transact = together  # type: ignore[method-assign]
    store = open_server()
    store.sync(
        store.plan(edge_graph(versions)), Deadly(float("inf" if moment == "commit" else moment))
    )


if __name__ == "__main__":
    main()
