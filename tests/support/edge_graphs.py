"""Small graphs whose edges lie as in an atlas: co-activation within an SAE, matches between two.

``store_graphs`` makes the rest, and the values. The edges of a pair of SAEs depend on
the versions of both, and so do the fingerprints of both, as a match part touches both.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pyarrow as pa
from store_graphs import ATLAS, _values, make_graph, rows_of

from atlas import schema
from atlas.stores import Graph, Store


def edge_graph(
    versions: Mapping[str, str], *, atlas: str = ATLAS, features: int = 7, nulls: float = 0.2
) -> Graph:
    """Return a graph of these versions of SAEs, every two of them matched."""
    graph = make_graph(versions, atlas=atlas, features=features, nulls=nulls)
    rows: dict[str, list[dict[str, Any]]] = {n: [] for n in FEATURE_EDGES}

    def add(kind: str, source: str, target: str, rng: random.Random) -> None:
        known = {"source": source, "target": target}
        rows[kind].append(known | _values(schema.edge(kind).properties, rng, nulls))

    for sae, version in versions.items():
        rng = random.Random(f"{sae}@{version}")
        for a, b in combinations(range(features), 2):
            if rng.random() < 0.5:
                add("CO_ACTIVATES", f"{sae}/{a}", f"{sae}/{b}", rng)
    for a, b in combinations(sorted(versions), 2):
        rng = random.Random(f"{a}@{versions[a]} {b}@{versions[b]}")
        add("COMPARED_WITH", a, b, rng)
        for i in range(features):
            for j in rng.sample(range(features), min(2, features)):
                add("MATCHES", f"{a}/{i}", f"{b}/{j}", rng)
    tables = {n: pa.Table.from_pylist(r, schema=schema.arrow_schema(n)) for n, r in rows.items()}
    versions_text = " ".join(f"{s}@{v}" for s, v in sorted(versions.items()))
    prints = {s: f"{s}@{v} among {versions_text}" for s, v in versions.items()}
    return replace(graph, tables={**graph.tables, **tables}, fingerprints=prints)


FEATURE_EDGES = ("CO_ACTIVATES", "MATCHES", "COMPARED_WITH")
WITHIN = (
    "SAE",
    "Feature",
    "Example",
    "IN_SAE",
    "READS",
    "FIRES_ON",
    "SHOWN_BY",
    "CO_ACTIVATES",
    "PREDICTED_FROM",
)


def shown_edges(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return edges as plain values, in order; fail if there is a repeated edge."""
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert all(a != b for a, b in pairwise(rows)), "an edge is there twice"
    return rows


def assert_no_mixture(store: Store, graphs: Sequence[Graph]) -> None:
    """Each shown SAE equals that of one graph completely; edges to others may be absent."""
    for sae, loaded in store.contents().items():
        (graph,) = [g for g in graphs if g.fingerprints.get(sae) == loaded.fingerprint]
        for name in WITHIN:
            assert store.table(name, sae).to_pylist() == rows_of(graph, name, sae), (sae, name)
    assert_edges_belong(store, graphs)


def assert_edges_belong(store: Store, graphs: Sequence[Graph]) -> None:
    """Edges between two SAEs are all those of a graph of which both are shown, or none."""
    shown = {name: loaded.fingerprint for name, loaded in store.contents().items()}
    for kind in ("MATCHES", "COMPARED_WITH"):
        rows = shown_edges(store.table(kind))
        for pair in combinations(sorted(shown), 2):
            found = [row for row in rows if _saes(row) == pair]
            held = [g for g in graphs if all(g.fingerprints.get(s) == shown[s] for s in pair)]
            wanted = [
                [row for r in rows_of(g, kind) if _saes(row := tuple(r.values())) == pair]
                for g in held
            ]
            assert found in [[], *map(in_order, wanted)], (kind, pair)
            rows = [row for row in rows if row not in found]
        assert not rows


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: row[:2])


def _saes(row: tuple[Any, ...]) -> tuple[str, str]:
    return row[0].split("/")[0], row[1].split("/")[0]
