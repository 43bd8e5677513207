"""GraphML and GEXF files have the values of the tables: networkx reads both, igraph reads GraphML."""

import igraph
import networkx
import pytest
from small_ingest import model, named, run, texts, topk

from atlas import export
from atlas.api import Atlas
from atlas.cli.main import main
from atlas.errors import BadInput, UnknownName

READ = {
    "graphml": lambda path: networkx.read_graphml(path, node_type=int),
    "gexf": lambda path: networkx.read_gexf(path, node_type=int),
}
EMPTY = (None, "")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("files") / "a.atlas"
    run(made, model(), [named(topk(k=2), "top"), named(topk(k=3, seed=1), "other")], texts(12))
    return made


def values_of(row, *, without=()):
    """Return the properties that have a value, except those of ``without``."""
    return {k: v for k, v in row.items() if v not in EMPTY and k not in without}


@pytest.mark.parametrize("form", export.FORMS)
@pytest.mark.parametrize("min_count", [1, 3])
def test_a_file_has_the_values_of_the_tables(path, tmp_path, form, min_count):
    written = export.export_graphs(
        str(path), tmp_path, form=form, saes=["top"], min_count=min_count
    )
    with Atlas.open(path) as atlas:
        wanted = atlas.graph("top", kind="networkx", min_count=min_count)
    found = READ[form](tmp_path / f"top.{form}")
    assert [f.name for f in tmp_path.iterdir()] == [f"top.{form}"]
    assert written == {"top": {"nodes": len(wanted), "edges": wanted.number_of_edges()}}
    assert written["top"]["edges"]
    assert not found.is_directed()
    for node, row in wanted.nodes(data=True):
        assert found.nodes[node]["label"] == row["id"]
        assert values_of(found.nodes[node], without=["label"]) == values_of(row, without=["id"])
    assert {frozenset(e) for e in found.edges} == {frozenset(e) for e in wanted.edges}
    for *ends, row in wanted.edges(data=True):
        assert values_of(found.edges[*ends], without=["id"]) == values_of(row)


def test_igraph_reads_the_graphml(path, tmp_path):
    written = export.export_graphs(str(path), tmp_path)
    assert set(written) == {"top", "other"}
    for name, sizes in written.items():
        graph = igraph.Graph.Read_GraphML(str(tmp_path / f"{name}.graphml"))
        assert (graph.vcount(), graph.ecount()) == (sizes["nodes"], sizes["edges"])
        with Atlas.open(path) as atlas:
            rows = atlas.features(name).to_pylist()
        for column in ("frequency", "active_tokens", "top_token", "dead"):
            assert [v for v in graph.vs[column] if v == v and v != ""] == [
                r[column] for r in rows if r[column] is not None
            ]


@pytest.mark.parametrize("form", export.FORMS)
def test_control_characters_and_nulls_are_written_as_valid_xml(tmp_path, monkeypatch, form):
    graph = networkx.Graph()
    graph.add_node(
        0, id="a/0", top_token="\x00\x1b<&>\t☃\r\n\ufffe\uffff\ud800", dead=False, frequency=None
    )
    graph.add_node(1, id="a/1", top_token="", dead=True, frequency=0.5)
    export._make_writable(graph)
    export._write_graph(graph, tmp_path / "g", form=form)
    found = READ[form](tmp_path / "g")
    assert found.nodes[0]["top_token"] == "\u2400\u241b<&>\t☃␍\n\ufffd\ufffd\ufffd"
    assert found.nodes[0]["dead"] is False
    assert "frequency" not in found.nodes[0]
    assert found.nodes[1]["frequency"] == 0.5


def test_wrong_requests_get_an_error(path, tmp_path, capsys):
    with pytest.raises(UnknownName, match="tops"):
        export.export_graphs(str(path), tmp_path / "x", saes=["tops"])
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        export.export_graphs(str(path), tmp_path / "file")
    for words in (
        ["--sae", "top"],
        ["--min-count", "2"],
        ["--format", "gexf", "--for", "neo4j-admin"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(tmp_path / "y"), *words, "--atlas", str(path)])
        assert stopped.value.code == 2
    assert not (tmp_path / "y").exists()
