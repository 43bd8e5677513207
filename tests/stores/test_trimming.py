"""``--edges-per-feature`` and ``--fit`` retain the edges that a brute force selects."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest
from edge_graphs import edge_graph
from fit_by_brute_force import chosen, part_of, parts, size

from atlas import schema
from atlas.errors import BadInput
from atlas.stores.neo4j.edge_selection import TIERS, Capacity, fit_graph, trimmed


def tied_graph(seed, features=12):
    """Return a graph of two SAEs whose edges have many ties, and nulls."""
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
    """Return the edges that are among the best of one of their ends, by a loop over features."""
    edges = graph.tables["CO_ACTIVATES"].to_pylist()
    retained = set()
    for feature in graph.tables["Feature"]["id"].to_pylist():
        mine = [e for e in edges if feature in (e["source"], e["target"])]

        def order(e, feature=feature):
            other = e["target"] if e["source"] == feature else e["source"]
            weight = float("-inf") if e["weight"] is None else e["weight"]
            return -weight, -e["count"], int(other.split("/")[1])

        retained |= {(e["source"], e["target"]) for e in sorted(mine, key=order)[:most]}
    return [e for e in edges if (e["source"], e["target"]) in retained]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5, 11])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_heaviest_edges_of_every_feature_are_retained(seed, most):
    graph = tied_graph(seed)
    after = trimmed(graph, most)
    assert after.tables["CO_ACTIVATES"].to_pylist() == best_of(graph, most)
    for name, table in graph.tables.items():
        assert name == "CO_ACTIVATES" or after.tables[name] is table


def test_a_graph_without_edges_is_unchanged():
    graph = edge_graph({"a1": "v1"}, features=1)
    assert trimmed(graph, 3).tables["CO_ACTIVATES"].num_rows == 0
    assert trimmed(graph, 3).fingerprints == graph.fingerprints
    assert trimmed(edge_graph({}), 3).fingerprints == {}


def test_only_trimmed_saes_have_a_new_fingerprint():
    graph = tied_graph(1)
    prints = {n: trimmed(graph, n).fingerprints for n in (1, 2, 11)}
    assert prints[11] == graph.fingerprints  # no edge is excluded
    assert prints[1] == trimmed(graph, 1).fingerprints
    for sae in ("a1", "b1"):
        assert len({prints[1][sae], prints[2][sae], graph.fingerprints[sae]}) == 3
    edges = graph.tables["CO_ACTIVATES"]
    one = [not s.startswith("b1/") for s in edges["source"].to_pylist()]
    graph = replace(graph, tables={**graph.tables, "CO_ACTIVATES": edges.filter(pa.array(one))})
    assert trimmed(graph, 1).fingerprints["b1"] == graph.fingerprints["b1"]


def test_a_negative_number_is_refused():
    with pytest.raises(BadInput, match="`edges_per_feature` is -1; expected 0 or more"):
        trimmed(edge_graph({"a1": "v1"}), -1)


# ---- --fit: the largest part of a graph that fits, compared with an enumeration of all parts


def rows(table):
    return [tuple(map(str, row.values())) for row in table]


@pytest.mark.parametrize("seed", range(12))
def test_fit_selects_the_largest_part_by_brute_force(seed, monkeypatch):
    rng = random.Random(seed)
    enough = rng.choice([0, 1, 3, 10])
    monkeypatch.setattr("atlas.stores.neo4j.edge_selection.ENOUGH", enough)
    graph = tied_graph(seed, features=rng.choice([1, 4, 8]))
    levels = parts(graph)
    least, most = size(part_of(graph, levels, 0, 0)), size(part_of(graph, levels, None, None))
    outcomes = set()
    for share in (-0.1, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0):
        for loose in (False, True):  # with True, only the edges can exceed the capacity
            capacity = Capacity(
                "A server",
                nodes=10**6 if loose else int(least[0] + share * (most[0] - least[0])),
                edges=int(least[1] + share * (most[1] - least[1])),
            )
            expected = chosen(graph, levels, capacity, enough)
            if expected is None:
                with pytest.raises(BadInput, match="A server takes"):
                    fit_graph(graph, capacity)
                outcomes.add("none")
                continue
            found = fit_graph(graph, capacity)
            tables = part_of(graph, levels, *expected)
            for name, table in found.graph.tables.items():
                assert rows(table.to_pylist()) == rows(tables[name]), name
            assert (found.nodes, found.edges) == size(tables)
            assert found.nodes <= capacity.nodes
            assert found.edges <= capacity.edges
            excluded = {
                n: len(t) - len(tables[n]) for n, t in part_of(graph, levels, None, None).items()
            }
            assert found.excluded == {n: count for n, count in excluded.items() if count}
            owners = {
                e[end].split("/")[0]
                for spec in schema.EDGES
                for e in graph.tables[spec.type].to_pylist()
                if e not in tables[spec.type]
                for end, label in (("source", spec.source), ("target", spec.target))
                if label == "Feature"
            }
            changed = {n for n, h in found.graph.fingerprints.items() if h != graph.fingerprints[n]}
            assert changed == owners
            outcomes.add("all" if expected == (None, None) else "some")
    assert {"all", "some"} <= outcomes or seed == 0 or len(levels["CO_ACTIVATES"]) == 0


def test_every_edge_of_a_selection_has_both_ends():
    graph = tied_graph(3, features=8)
    most = size(part_of(graph, parts(graph), None, None))
    found = fit_graph(graph, Capacity("A server", most[0] - 5, most[1] // 2)).graph
    for spec in schema.EDGES:
        edges = found.tables[spec.type]
        for end, label in (("source", spec.source), ("target", spec.target)):
            keys = set(found.tables[label][schema.node(label).key].to_pylist())
            assert set(edges[end].to_pylist()) <= keys


def test_aura_free_is_as_documented():
    assert {"aura-free": Capacity("Aura Free", 200_000, 400_000)} == TIERS


def test_an_empty_graph_fits():
    found = fit_graph(edge_graph({}), TIERS["aura-free"])
    assert (found.nodes, found.edges) == size(part_of(edge_graph({}), {}, None, None))
    with pytest.raises(BadInput, match="takes 0 nodes"):
        fit_graph(edge_graph({"a1": "v1"}), Capacity("A server", 0, 0))
