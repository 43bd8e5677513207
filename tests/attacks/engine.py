"""Random queries on random graphs, against a brute force: the admission test of an embedded engine.

``ATLAS_ENGINE=ladybug python -m attacks engine`` tests another module with kuzu's interface.
"""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from query_fuzz import RandomGraph, embedded_answers, queries, wrong

from attacks import Try

TITLE = "random multi-hop, optional, ordered and aggregating queries"
CLAIM = "every answer equals the answer of a brute force"
TRIES = 2000
EACH = 20


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Run ``count`` queries, twenty on each graph."""
    engine = os.environ.get("ATLAS_ENGINE", "kuzu")
    for number in range(-(-count // EACH)):
        rng = random.Random(f"{seed}/{number}")
        graph = RandomGraph.draw(rng)
        drawn = list(queries(rng, min(EACH, count - number * EACH)))
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            found = embedded_answers(graph, drawn, Path(scratch, "fuzz.db"), engine=engine)
        failed = {w[0]: w for w in wrong(graph, drawn, found)}
        for query in drawn:
            bad = failed.get(query.cypher)
            yield Try(f"graph {number}", bad is None, "" if bad is None else repr(bad)[:300])
