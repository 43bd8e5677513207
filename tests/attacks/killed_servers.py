"""Kill a Neo4j server during a push, start it again on the same data, and push again."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_graphs import edge_graph
from store_graphs import put

from atlas.errors import StoreUnreachable
from attacks import Try
from attacks.servers import serving

TITLE = "kill -9 of the Neo4j server during a push, then a start and the same push"
CLAIM = (
    "the push ends with one message; the server holds the old or the new version of each SAE; "
    "the next push finishes"
)
TRIES = 5

VERSIONS = ({"a1": "v1", "a2": "v1", "b1": "v1"}, {"a1": "v2", "a2": "v2", "c1": "v1"})


class EndingProgress:
    """Progress that ends something at one of its reports."""

    def __init__(self, end: object, reports: int) -> None:
        self._end, self._reports = end, reports

    @contextmanager
    def stage(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> Iterator["EndingProgress"]:
        """Count the reports of every stage together."""
        yield self

    def advance(self, by: float = 1) -> None:
        """Count a report."""
        self._reports -= 1
        if self._reports == 0:
            self._end()  # type: ignore[operator]

    def report(self, sentence: str) -> None:
        """Ignore a sentence."""


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Replace each of two graphs by the other, in turn."""
    draw = random.Random(seed)
    with serving(folder) as server:
        put(server.store, edge_graph(VERSIONS[0]))
        for number in range(count):
            before, after = (edge_graph(VERSIONS[(number + i) % 2]) for i in (0, 1))
            moment = draw.randint(1, 30)
            name = f"killed at {moment}"
            try:
                server.store.sync(server.store.plan(after), EndingProgress(server.own.kill, moment))
                name, wrong = f"ended before {moment}", ""
            except StoreUnreachable as error:
                wrong = "" if "Run the same command again" in str(error) else str(error)
            except Exception as error:  # noqa: BLE001 - the attack searches for any other
                wrong = f"{type(error).__name__}: {error}"
            server.own.stop()
            server.own.start()
            wrong = wrong or server.between(before, after)
            yield Try(name, not (wrong := wrong or server.finished(after)), wrong)
