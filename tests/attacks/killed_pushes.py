"""Kill the process that pushes to Neo4j, while another process reads without a pause."""

import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_graphs import edge_graph
from store_graphs import put, rows_of

from atlas import schema
from atlas.errors import Locked
from atlas.stores import Graph
from attacks import Try
from attacks.servers import Attacked, serving

TITLE = "kill -9 of a push to Neo4j while a reader requests table after table"
CLAIM = "each answer has the old or the new version of each SAE, complete; the next push finishes"
TRIES = 10

VERSIONS = ({"a1": "v1", "a2": "v1", "b1": "v1"}, {"a1": "v2", "a2": "v2", "c1": "v1"})
READ = ("SAE", "Feature", "Example", "FIRES_ON", "SHOWN_BY", "CO_ACTIVATES")


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Replace each of two graphs by the other, in turn."""
    draw = random.Random(seed)
    with serving(folder) as server:
        put(server.store, edge_graph(VERSIONS[0]))
        for number in range(count):
            old, new = VERSIONS[number % 2], VERSIONS[1 - number % 2]
            before, after = edge_graph(old), edge_graph(new)
            moment = draw.choice(["commit", *map(str, range(1, 33))])
            with Reader(server, [before, after]) as reader:
                pusher = server.pusher(moment, new)
                _, errors = pusher.communicate()
            killed = pusher.returncode == -signal.SIGKILL
            wrong = reader.wrong or server.between(before, after)
            wrong = wrong or ("" if killed or not pusher.returncode else errors[-150:])
            wrong = wrong or server.finished(after)
            name = f"killed at {moment}" if killed else f"ended before {moment}"
            yield Try(name, not wrong, wrong or f"{reader.answers} answers")


class Reader(threading.Thread):
    """Reads in a loop until the block ends, and compares each answer with two graphs."""

    def __init__(self, server: Attacked, graphs: list[Graph]) -> None:
        super().__init__()
        self.answers, self.wrong = 0, ""
        self._store = server.open()
        self._graphs = graphs
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Read until the answers are wrong or the block ends."""
        while not self._stop_now.is_set() and not self.wrong:
            for name in READ:
                try:
                    rows = self._store.table(name).to_pylist()
                except Locked:  # it changed at each attempt to read
                    continue
                except Exception as error:  # noqa: BLE001 - the attack searches for any other
                    self.wrong = self.wrong or f"reader: {type(error).__name__}: {error}"
                    continue
                self.answers += 1
                self.wrong = self.wrong or mixture(name, rows, self._graphs)

    def __enter__(self) -> "Reader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()
        self._store.close()


def mixture(name: str, rows: list[dict[str, object]], graphs: list[Graph]) -> str:
    """Return the SAE whose rows are those of no graph; no rows are right if a graph does not have it."""
    of = schema.table(name)
    key = of.keys[0]
    saes = {sae for graph in graphs for sae in graph.fingerprints}
    for sae in sorted(saes):
        found = [row for row in rows if str(row[key]).split("/")[0] == sae]
        there = [rows_of(graph, name, sae) if sae in graph.fingerprints else [] for graph in graphs]
        if found not in there:
            return f"{name} of {sae} is a mixture: {len(found)} rows"
    return ""
