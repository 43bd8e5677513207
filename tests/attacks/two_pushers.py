"""Push two states of one atlas to one Neo4j server at the same time."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

from edge_graphs import edge_graph

from attacks import Try
from attacks.servers import serving

TITLE = "two processes push different states of one atlas to one Neo4j server"
CLAIM = (
    "both finish, or one reports that another process is writing; "
    "the server holds one of the two states, complete"
)
TRIES = 5


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Start two pushes, the second up to two seconds after the first."""
    draw = random.Random(seed)
    with serving(folder) as server:
        for number in range(count):
            states = [{"a1": f"{number}-{i}", "a2": "v1", f"b{i}": "v1"} for i in (0, 1)]
            first = server.pusher("inf", states[0])
            time.sleep(delay := draw.random() * 2)
            pushers = [first, server.pusher("inf", states[1])]
            ends = [(p.communicate()[1].strip().splitlines() or [""])[-1] for p in pushers]
            wrong = "; ".join(
                end[:150]
                for end, p in zip(ends, pushers, strict=True)
                if p.returncode and not end.startswith("atlas.errors.Locked")
            )
            outcomes = [server.shows(edge_graph(state)) for state in states]
            wrong = wrong or ("" if "" in outcomes else outcomes[0])
            locked = sum(p.returncode != 0 for p in pushers)
            note = (
                f"{locked} found it locked; the {'first' if not outcomes[0] else 'second'} is there"
            )
            yield Try(f"{delay:.1f} s apart", not wrong, wrong or note)
