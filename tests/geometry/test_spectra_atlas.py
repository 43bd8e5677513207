"""Spectra of the SAEs of an atlas: tables, the model's own matrix, floors, messages, plot."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn_charts import check_chart, marks
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress
from scipy.stats import wasserstein_distance
from small_ingest import HOOK, texts, topk

from analysis import (
    DirectionSettings,
    SpectrumSettings,
    TopologySettings,
    measure_spectra,
    measure_topology,
    nearest_directions,
)
from analysis.spectra.distances import compare_spectra
from analysis.spectra.verdict import verdict_of
from analysis.statistics.directions import unit_rows
from analysis.statistics.live_directions import live_directions
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from ingest import Settings, ingest
from ingest.model.language_model import open_model
from ingest.model.own_matrix import own_matrix
from ingest.sae.autoencoder import open_sae

SETTINGS = SpectrumSettings(draws=20)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An atlas of two SAEs, a floor and an SAE with two live features; and the folders."""
    folder = tmp_path_factory.mktemp("spectra")
    random_model("llama").save_pretrained(folder / "small")
    small_tokenizer().save_pretrained(folder / "small")
    for seed, name in enumerate(("one", "two", "floor")):
        topk(seed=seed).save_model(folder / name)
    path = folder / "a.atlas"
    ingest(
        path,
        saes=[str(folder / n) for n in ("one", "two")],
        text=texts(30),
        model=str(folder / "small"),
        match=None,
    ).close()
    ingest(
        path,
        saes=[str(folder / "floor")],
        model=str(folder / "small"),
        match=None,
        settings=Settings(role="untrained", floor_of="one"),
    ).close()
    return folder


@pytest.fixture(scope="module")
def results(world):
    return {r.name: r for r in measure_spectra(world / "a.atlas", "all", settings=SETTINGS)}


def test_tables_equal_numpy_on_the_weights_of_the_files(world, results):
    one = results["one"]
    sound = Folder.open(world / "a.atlas").sound()
    active = sound.parts["statistics/one"].table("Feature")["active_tokens"].to_numpy()
    assert 0 < (active > 0).sum() < len(active)  # dead features are excluded
    weights = topk(seed=0)
    model = random_model("llama")
    own = {
        "decoder": weights.W_dec[active > 0],
        "encoder": weights.W_enc[:, active > 0].T,
        "model": model.model.layers[1].mlp.down_proj.weight.T,
    }
    spectra = one.table("spectra").to_pylist()
    for name, matrix in own.items():
        x = matrix.detach().double().numpy()
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        expected = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
        found = [row["singular_value"] for row in spectra if row["matrix"] == name]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert one["directions"] == (active > 0).sum()
    tests = one.table("nulls").to_pylist()
    assert len(tests) == 3 * (3 * 4 + 1)
    assert all((row["p"] is None) == (row["null"] == "covariance") for row in tests)
    assert all(row["q"] >= row["p"] for row in tests if row["p"] is not None)
    assert any("model's own matrix" in sentence for sentence in one.verdict)


def test_numbers_are_in_the_graph(world, results):
    with Atlas.open(str(world / "a.atlas")) as atlas:
        rows = {row["name"]: row for row in atlas.table("SAE").to_pylist()}
    assert rows["one"]["decoder_participation_ratio"] == results["one"]["participation_ratio"]
    assert 0 < rows["two"]["decoder_participation_p"] <= 1


def test_pairs_of_saes_have_distances_and_relations(world, results):
    pairs = {(p["one"], p["other"]): p for p in compare_spectra(world / "a.atlas")}
    assert {key: p["relation"] for key, p in pairs.items()} == {
        ("one", "two"): "seed",
        ("floor", "one"): "floor",
        ("floor", "two"): "floor of another seed",
    }

    def normalised(name):
        rows = results[name].table("spectra").to_pylist()
        return [r["normalised"] for r in rows if r["matrix"] == "decoder"]

    expected = wasserstein_distance(normalised("one"), normalised("two"))
    assert pairs["one", "two"]["distance"] == pytest.approx(expected)
    assert pairs["one", "two"]["sampling"] > 0
    assert len(compare_spectra(world / "a.atlas", ["two"])) == 2


def test_the_command_prints_sentences_tables_and_json(world, results):
    arguments = ["spectra", "one", "--draws", "20", "-q", "-a", str(world / "a.atlas")]
    shown = CliRunner().invoke(command(), arguments)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("one: ")
    assert "floor is a floor (untrained)." in shown.stdout
    assert "Distances between spectra of decoders" in shown.stdout
    done = json.loads(CliRunner().invoke(command(), [*arguments, "--json"]).stdout)["result"]
    assert [row["sae"] for row in done["spectra"]] == ["one", "floor"]
    assert len(done["pairs"]) == 2


def test_plot_has_the_values_of_the_table(results):
    decoder, *others = marks(check_chart(results["one"].plot()))
    assert len(others) == 2
    own = [row["value"] for row in decoder.rows if row["line"] == "observed"]
    table = [
        r["normalised"]
        for r in results["one"].table("spectra").to_pylist()
        if r["matrix"] == "decoder" and r["normalised"] > 0
    ]
    assert own == pytest.approx(table)


def test_two_live_features_and_a_missing_model_give_sentences(tmp_path):
    lm = open_model(random_model("llama"), name="small", tokenizer=small_tokenizer())
    few = open_sae(topk(d_sae=2, k=1), name="few")
    path = tmp_path / "few.atlas"
    ingest(path, saes=[few], text=texts(5), model=lm, match=None).close()
    progress = RecordingProgress()
    (result,) = measure_spectra(path, "all", settings=SETTINGS, opened=[few], progress=progress)
    assert "A spectrum needs 3 directions or more." in result.verdict[0]
    assert any("was in memory" in message for message in progress.messages)
    with pytest.raises(BadInput, match="nothing to plot"):
        result.plot()
    with pytest.raises(BadInput, match="in memory when it was ingested"):
        measure_spectra(path, "all", settings=SpectrumSettings(draws=21))


def test_saes_without_weights_are_skipped_if_none_was_named(tmp_path):
    """One SAE was in memory at ingest, and the folder of another was removed."""
    lm = open_model(random_model("llama"), name="small", tokenizer=small_tokenizer())
    for seed, name in enumerate(("stored", "removed")):
        topk(seed=seed).save_model(tmp_path / name)
    path, saes = tmp_path / "a.atlas", [str(tmp_path / name) for name in ("stored", "removed")]
    memory = open_sae(topk(seed=2), name="memory")
    ingest(path, saes=[*saes, memory], text=texts(10), model=lm, match=None).close()
    shutil.rmtree(tmp_path / "removed")
    for measure, settings in (
        (measure_spectra, SETTINGS),
        (measure_topology, TopologySettings(draws=19, mapper_draws=19, landmarks=10)),
        (nearest_directions, DirectionSettings(draws=2)),
    ):
        progress = RecordingProgress()
        results = measure(path, settings=settings, progress=progress)
        assert [result.name for result in results] == ["stored"]
        skipped = [m for m in progress.messages if m.startswith("Skipped")]
        assert any("memory" in m and "opened=" in m for m in skipped)
        assert any("removed" in m for m in skipped)
        with pytest.raises(BadInput, match="in memory when it was ingested"):
            measure(path, ["memory", "stored"], settings=settings)
    both = nearest_directions(path, "all", settings=DirectionSettings(draws=2), opened=[memory])
    assert [result.name for result in both] == ["memory", "stored", "memory+stored"]


def test_damaged_weights_are_a_message(world, tmp_path):
    opened = open_sae(topk(seed=0), name="one")
    opened.info.__dict__["weights"] = opened.info.weights
    with torch.no_grad():
        opened.sae.W_dec[:] = float("nan")
    with pytest.raises(BadInput, match="NaN or Inf"):
        live_directions(Folder.open(world / "a.atlas").sound(), "one", opened=[opened])
    with pytest.raises(UnknownName):
        measure_spectra(world / "a.atlas", ["none"])


@pytest.mark.parametrize(
    "wrong", [{"draws": 19}, {"fit_from": 0.5, "fit_to": 0.5}, {"fit_to": 2.0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(BadInput):
        SpectrumSettings(**wrong)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "phi"])
def test_the_own_matrix_writes_to_the_site(family):
    """The output of the module is its input times the matrix, plus a bias."""
    base = random_model(family)
    lm = open_model(base, name="small", tokenizer=small_tokenizer())
    matrix = own_matrix(lm, "blocks.1.hook_mlp_out")
    assert matrix.rows.shape == (40, 24)
    _, _, path = matrix.name.split(".", 2)
    block = lm.base.get_submodule(lm.layout.blocks)[1]
    module = block.get_submodule(path)
    x = torch.randn(5, 40)
    bias = module.bias if getattr(module, "bias", None) is not None else torch.zeros(24)
    expected = x.double().numpy() @ matrix.rows + bias.detach().double().numpy()
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-4)
    assert np.array_equal(own_matrix(lm, "blocks.2.hook_resid_pre").rows, matrix.rows)
    assert np.array_equal(own_matrix(lm, HOOK).rows, matrix.rows)
    first = own_matrix(lm, "blocks.0.hook_resid_pre")
    assert first.name == "embedding"
    assert np.array_equal(first.rows, own_matrix(lm, "hook_embed").rows)
    assert own_matrix(lm, "blocks.0.hook_attn_out").rows.shape[1] == 24
    # The columns of the matrix that reads the neurons are its rows at the output.
    read = own_matrix(lm, "blocks.1.mlp.hook_post")
    assert "reads" in read.name
    np.testing.assert_array_equal(read.rows, matrix.rows.T)
    assert own_matrix(lm, "blocks.0.attn.hook_z").rows.shape[0] == 24
    with pytest.raises(UnknownName):
        own_matrix(lm, "blocks.0.attn.hook_q")


def test_unit_rows_of_the_decoder_do_not_depend_on_norms(world):
    live = live_directions(Folder.open(world / "a.atlas").sound(), "one")
    np.testing.assert_allclose(unit_rows(live.decoder), unit_rows(live.decoder * 7))


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(3.0, "fewer of them than"), (5.0, "as many of them as"), (7.0, "more of them than")],
)
def test_a_verdict_begins_with_the_comparison_with_isotropic_directions(ratio, expected):
    own = {"rows": 20, "columns": 8, "participation_ratio": ratio, "mean_share": 0.1}
    matrices = {
        "decoder": own | {"missing": None},
        "model": {"participation_ratio": None},
    }
    test = {"matrix": "decoder", "null_low": 4.0, "null_high": 6.0, "null_mean": 0.05, "q": 0.5}
    nulls = [
        test | {"null": null, "statistic": statistic}
        for null in ("isotropic", "permuted")
        for statistic in ("participation_ratio", "distance", "mean_share")
    ]
    first, second, _ = verdict_of("s", matrices, nulls)
    assert first == (
        f"s: 20 live decoder directions in 8 dimensions use {expected} isotropic "
        f"directions: their participation ratio is {ratio:.1f} "
        "(95% ranges: isotropic directions 4.0 to 6.0; permuted columns 4.0 to 6.0)."
    )
    assert second == (
        "In the shape of the spectrum, no difference from isotropic directions or permuted columns was "
        "found (q > 0.05)."
    )
