"""``--edges-per-feature``: which co-activation edges stay, against the definition word for word."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest
from edge_graphs import edge_graph

from atlas import schema
from atlas.errors import BadInput
from atlas.push import trimmed


def tied_graph(seed, features=12):
    """A graph of two SAEs whose edges have few different weights and counts, and nulls."""
    rng = random.Random(seed)
    graph = edge_graph({"a1": "v1", "b1": "v1"}, features=features, nulls=0.0)
    rows = graph.tables["CO_ACTIVATES"].to_pylist()
    rng.shuffle(rows)
    for row in rows:
        row["weight"] = rng.choice([0.25, 0.5, 0.75, None])
        row["count"] = rng.choice([1, 2, 3])
    edges = pa.Table.from_pylist(rows, schema=schema.arrow_schema("CO_ACTIVATES"))
    return replace(graph, tables={**graph.tables, "CO_ACTIVATES": edges})


def best_of(graph, most):
    """The edges that are among the best of one of their ends, sorted out feature by feature."""
    edges = graph.tables["CO_ACTIVATES"].to_pylist()
    kept = set()
    for feature in graph.tables["Feature"]["id"].to_pylist():
        mine = [e for e in edges if feature in (e["source"], e["target"])]

        def order(e, feature=feature):
            other = e["target"] if e["source"] == feature else e["source"]
            weight = float("-inf") if e["weight"] is None else e["weight"]
            return -weight, -e["count"], int(other.split("/")[1])

        kept |= {(e["source"], e["target"]) for e in sorted(mine, key=order)[:most]}
    return [e for e in edges if (e["source"], e["target"]) in kept]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5, 11])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_heaviest_edges_of_every_feature_stay(seed, most):
    graph = tied_graph(seed)
    after = trimmed(graph, most)
    assert after.tables["CO_ACTIVATES"].to_pylist() == best_of(graph, most)
    for name, table in graph.tables.items():
        assert name == "CO_ACTIVATES" or after.tables[name] is table


def test_a_graph_without_edges():
    graph = edge_graph({"a1": "v1"}, features=1)
    assert trimmed(graph, 3).tables["CO_ACTIVATES"].num_rows == 0
    assert trimmed(graph, 3).fingerprints == graph.fingerprints
    assert trimmed(edge_graph({}), 3).fingerprints == {}


def test_only_what_is_shown_otherwise_has_another_fingerprint():
    graph = tied_graph(1)
    prints = {n: trimmed(graph, n).fingerprints for n in (1, 2, 11)}
    assert prints[11] == graph.fingerprints  # nothing is left out
    assert prints[1] == trimmed(graph, 1).fingerprints
    for sae in ("a1", "b1"):
        assert len({prints[1][sae], prints[2][sae], graph.fingerprints[sae]}) == 3
    edges = graph.tables["CO_ACTIVATES"]
    one = [not s.startswith("b1/") for s in edges["source"].to_pylist()]
    graph = replace(graph, tables={**graph.tables, "CO_ACTIVATES": edges.filter(pa.array(one))})
    assert trimmed(graph, 1).fingerprints["b1"] == graph.fingerprints["b1"]


def test_a_negative_number_is_refused():
    with pytest.raises(BadInput, match="--edges-per-feature is -1; give 0 or more"):
        trimmed(edge_graph({"a1": "v1"}), -1)
