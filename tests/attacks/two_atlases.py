"""Push, replace and remove two atlases that share one Neo4j server, in random order."""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from edge_graphs import edge_graph
from store_graphs import ATLAS, OTHER, put

from atlas import schema
from atlas.stores import Graph, StoredSae
from attacks import Try
from attacks.servers import Attacked, serving

TITLE = "two atlases on one Neo4j server, pushed, replaced and removed in random order"
CLAIM = "after each push the server holds the rows of both atlases and nothing else"
TRIES = 5

SAES = {ATLAS: ("a1", "a2", "b1"), OTHER: ("a8", "a9", "c1")}
"""Those of the same letter share a model and tokens."""

PUSHES = 4  # in one try


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Change one of the two atlases at each push; compare all tables after each."""
    draw = random.Random(seed)
    shown = {atlas: edge_graph({}, atlas=atlas) for atlas in SAES}
    with serving(folder) as server:
        for _ in range(count):
            done, wrong = [], ""
            for _ in range(PUSHES):
                atlas = draw.choice(list(SAES))
                saes = draw.sample(SAES[atlas], draw.randint(0, 3))
                shown[atlas] = edge_graph(
                    {name: draw.choice(("v1", "v2")) for name in sorted(saes)}, atlas=atlas
                )
                put(server.store, shown[atlas])
                done.append(f"{'first' if atlas == ATLAS else 'second'}: {' '.join(sorted(saes))}")
                wrong = wrong or difference(server, list(shown.values()))
            yield Try("; ".join(done), not wrong, wrong)


def difference(server: Attacked, graphs: list[Graph]) -> str:
    """Return the first table that does not have the rows of both graphs, each once."""
    for of in (*schema.NODES, *schema.EDGES):
        table = pa.concat_tables([graph.tables[of.name] for graph in graphs])
        rows = {tuple(row[k] for k in of.keys): row for row in table.to_pylist()}
        if server.store.table(of.name).to_pylist() != [rows[key] for key in sorted(rows)]:
            return f"{of.name} differs"
    wanted = {s: StoredSae(g.atlas, f) for g in graphs for s, f in g.fingerprints.items()}
    if server.store.contents() != wanted:
        return "other SAEs are shown"
    return server.remaining()
