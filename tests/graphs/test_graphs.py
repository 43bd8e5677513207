"""Graphs of an SAE for igraph and networkx equal the tables, with isolates and properties."""

import pytest
from small_ingest import model, named, run, texts, topk

from atlas.api import Atlas
from atlas.errors import UnknownName


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("graphs") / "a.atlas"
    run(made, model(), [named(topk(k=2), "top")], texts(12))
    return made


@pytest.mark.parametrize("min_count", [1, 3])
def test_both_libraries_have_the_values_of_the_tables(path, min_count):
    with Atlas.open(path) as atlas:
        nodes = {n["idx"]: n for n in atlas.table("Feature").to_pylist()}
        edges = {
            tuple(int(e[end].split("/")[1]) for end in ("source", "target")): e
            for e in atlas.table("CO_ACTIVATES").to_pylist()
            if e["count"] >= min_count
        }
        one = atlas.graph("top", min_count=min_count)
        other = atlas.graph("top", kind="networkx", min_count=min_count)
    assert edges
    assert {i for i in nodes if not any(i in pair for pair in edges)}  # there are isolates
    assert one.vcount() == other.number_of_nodes() == len(nodes)
    assert {e.tuple for e in one.es} == set(edges)
    assert {tuple(sorted(e)) for e in other.edges} == set(edges)
    for i, node in nodes.items():
        assert one.vs[i].attributes() == other.nodes[i] == node
    for edge in one.es:
        row = edges[edge.tuple]
        wanted = {k: v for k, v in row.items() if k not in ("source", "target")}
        assert edge.attributes() == other.edges[edge.tuple] == wanted


def test_an_unknown_sae_gets_an_error(path):
    with Atlas.open(path) as atlas, pytest.raises(UnknownName, match="tops"):
        atlas.graph("tops")
