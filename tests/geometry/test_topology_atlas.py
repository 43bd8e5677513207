"""Topology of the SAEs of an atlas: tables, verdicts, plot, GraphML, and the missing extra."""

import json
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn_charts import check_chart, marks
from small_ingest import model, texts, topk

pytest.importorskip("ripser", reason="needs the extra [topology]")
pytest.importorskip("persim", reason="needs the extra [topology]")
pytest.importorskip("kmapper", reason="needs the extra [topology]")

from analysis import TopologySettings, measure_topology
from analysis.topology.graphml import write_mapper_graph
from analysis.topology.persistence import persistence_of
from analysis.topology.verdict import verdict_of
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Missing
from ingest import ingest
from ingest.sae.autoencoder import open_sae

SETTINGS = TopologySettings(
    landmarks=20,
    void_landmarks=8,
    repeats=2,
    draws=19,
    points=40,
    cubes=(3,),
    overlap=(0.4,),
    eps=(2.0,),
    mapper_draws=19,
    subsamples=2,
)
OPTIONS = [
    "--landmarks",
    "20",
    "--void-landmarks",
    "8",
    "--repeats",
    "2",
    "--draws",
    "19",
    "--points",
    "40",
    "--cubes",
    "3",
    "--overlap",
    "0.4",
    "--eps",
    "2.0",
    "--mapper-draws",
    "19",
    "--subsamples",
    "2",
]


def with_circle(seed=0):
    """An SAE whose decoder directions are a small circle of the sphere."""
    sae = topk(seed=seed, d_sae=80)
    turn = torch.arange(80) * 2 * np.pi / 80
    with torch.no_grad():
        sae.W_dec *= 0.05
        sae.W_dec[:, 0] += torch.cos(turn)
        sae.W_dec[:, 1] += torch.sin(turn)
        sae.W_dec[:, 2] += 1
    return sae


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topology")
    with_circle().save_model(folder / "circle")
    topk(seed=1, d_sae=80).save_model(folder / "noise")
    ingest(
        folder / "a.atlas",
        saes=[str(folder / n) for n in ("circle", "noise")],
        text=texts(60),
        model=model(),
        match=None,
    ).close()
    return folder


@pytest.fixture(scope="module")
def results(world):
    return {r.name: r for r in measure_topology(world / "a.atlas", "all", settings=SETTINGS)}


def test_the_circle_is_found_and_noise_is_not(results):
    circle, noise = results["circle"], results["noise"]
    assert circle["homology_p"] == 0.05
    assert "Homology exceeds all three nulls (p ≤ 0.05): H1" in circle.verdict[1]
    assert noise["homology_p"] > 0.05
    assert any("exceeds no null" in sentence or "not " in sentence for sentence in noise.verdict)


def test_tables_are_of_the_live_directions(world, results):
    sound = Folder.open(world / "a.atlas").sound()
    active = sound.parts["statistics/circle"].table("Feature")["active_tokens"].to_numpy()
    weights = with_circle().W_dec.detach().double().numpy()[active > 0]
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    result = results["circle"]
    assert result["directions"] == (active > 0).sum()
    expected = persistence_of(unit, SETTINGS)
    assert result["h1"] == pytest.approx(np.exp(expected.log_ratio[1]), rel=1e-4)
    rows = result.table("diagrams").to_pylist()
    assert sum(r["death"] is None for r in rows) == 2  # one connected component of each repeat
    nodes = result.table("mapper_nodes").to_pylist()
    assert {f for row in nodes for f in row["features"]} <= set(np.flatnonzero(active > 0).tolist())
    members = [set(row["features"]) for row in nodes]
    for edge in result.table("mapper_edges").to_pylist():
        assert edge["shared"] == len(members[edge["source"]] & members[edge["target"]]) > 0
    with Atlas.open(str(world / "a.atlas")) as atlas:
        (row,) = [r for r in atlas.table("SAE").to_pylist() if r["name"] == "circle"]
    assert row["homology_h1"] == result["h1"]
    assert row["mapper_p"] == result["mapper_p"]


def test_the_command_writes_pictures_and_graphml(world, results, tmp_path):
    picture, graph = tmp_path / "a.svg", tmp_path / "a.graphml"
    arguments = ["topology", "circle", *OPTIONS, "-q", "-a", str(world / "a.atlas")]
    done = CliRunner().invoke(
        command(), [*arguments, "--out", str(picture), "--graphml", str(graph), "--json"]
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)["result"]
    assert answer["topology"] == [dict(results["circle"].summary)]
    assert answer["written"] == [str(picture), str(graph)]
    assert "<svg" in picture.read_text("utf-8")
    read = nx.read_graphml(graph)
    nodes = results["circle"].table("mapper_nodes").to_pylist()
    assert [read.nodes[str(r["node"])]["size"] for r in nodes] == [r["size"] for r in nodes]
    assert read.number_of_edges() == results["circle"].table("mapper_edges").num_rows
    both = CliRunner().invoke(
        command(), ["topology", "--out", str(picture), "-a", str(world / "a.atlas")]
    )
    assert both.exit_code != 0


def test_plot_has_the_classes_that_die(results):
    drawn = marks(check_chart(results["circle"].plot()))
    (points,) = [m for m in drawn if m.type == "circle" and "birth" in m.rows[0]]
    rows = results["circle"].table("diagrams").to_pylist()
    deaths = sorted(r["death"] for r in rows if r["death"] is not None)
    assert sorted(r["death"] for r in points.rows) == pytest.approx(deaths)
    with pytest.raises(BadInput, match="does not exist"):
        write_mapper_graph(results["circle"], "/no/such/folder/a.graphml")


def test_few_live_features_give_a_sentence(tmp_path):
    few = open_sae(topk(d_sae=5, k=1), name="few")
    path = tmp_path / "few.atlas"
    ingest(path, saes=[few], text=texts(5), model=model(), match=None).close()
    (result,) = measure_topology(path, "all", settings=SETTINGS, opened=[few])
    assert "topology needs 10 or more" in result.verdict[0]
    with pytest.raises(BadInput, match="nothing to plot"):
        result.plot()
    with pytest.raises(BadInput, match="no Mapper graph"):
        write_mapper_graph(result, tmp_path / "a.graphml")


def test_a_missing_extra_is_one_line_and_stored_results_are_read(world, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "kmapper", None)
    stored = measure_topology(world / "a.atlas", "all", settings=SETTINGS)
    assert stored[0].verdict == results["circle"].verdict
    with pytest.raises(Missing, match=r"kmapper, which is not installed\. Run `pip install"):
        measure_topology(world / "a.atlas", "all", settings=TopologySettings())
    assert "topology/circle" in Folder.open(world / "a.atlas").sound().parts


def test_verdict_reports_what_mean_and_covariance_explain(results):
    summary = dict(results["circle"].summary)
    part = results["circle"]
    tests, grid = part.table("tests").to_pylist(), part.table("mapper_grid").to_pylist()
    for row in tests:
        if row["method"] == "homology" and row["null"] == "covariance":
            row["p"] = 0.4
    settings = {"landmarks": 20, "repeats": 2}
    sentence = verdict_of(summary, tests, grid, settings=settings)[1]
    assert (
        "not Gaussian directions of equal covariance; mean and covariance can explain it (largest p = 0.4)"
        in sentence
    )
    for row in tests:
        row["p"] = 0.03 if row["null"] == "covariance" else 0.4
    sentence = verdict_of(summary, tests, grid, settings=settings)[1]
    assert sentence.endswith("evidence needs all 3 nulls (largest p = 0.4).")
    for row in tests:
        row["p"] = 0.4
    sentence = verdict_of(summary, tests, grid, settings=settings)[1]
    assert sentence.startswith("Homology exceeds no null (smallest p = 0.4)")
