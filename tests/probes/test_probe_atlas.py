"""Probing an atlas: its model and text, its parts, other atlases, the command line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from recording_progress import RecordingProgress
from sklearn_probes import by_sklearn
from small_ingest import CONTEXT, HOOK, brute_force, model, named, run, texts, topk, two_sae_atlas

from atlas.api import Atlas
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.disk.parts import read_manifest
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest.probe.probe_data import ProbeData, training
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import probe_saes

SETTINGS = ProbeSettings(splits=("document",), controls=1, draws=20, scale=False, tolerance=1e-6)


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.fixture(scope="module")
def made(tmp_path_factory, lm):
    return two_sae_atlas(tmp_path_factory.mktemp("made") / "a.atlas", lm)


@pytest.fixture
def path(made, tmp_path):
    copied = tmp_path / "a.atlas"
    shutil.copytree(made, copied)
    return copied


def data_of(path, sae="top"):
    return ProbeData([sorted(Folder.open(path).codes(sae).glob("*.arrow"))], d_sae=40)


def edges(path, sae="top"):
    with Atlas.open(path) as atlas:
        return atlas.table("PREDICTED_FROM", sae=sae).to_pylist()


@pytest.mark.parametrize(
    ("hook", "state"), [("hook_embed", 0), ("blocks.0.hook_resid_post", 1), (HOOK, 2)]
)
def test_vectors_equal_the_hidden_states_of_the_model(path, lm, hook, state):
    """Compare with the model's hidden states, a document at a time, and with scikit-learn."""
    rows = probe_saes(path, ["top"], sites=[hook], settings=SETTINGS, model=lm)
    ids, codes, *_ = brute_force(texts(), lm, topk(), hook_layer=1)
    x = brute_force(texts(), lm, topk(), hook_layer=state - 1)[2]
    data = data_of(path)
    train = training(data, "document", share=0.8, seed=0)
    found = edges(path)
    assert len(found) == rows[0]["features"] > 10
    assert len(ids) == len(data) == len(x)
    for edge in found[:6]:
        y = codes[:, int(edge["source"].split("/")[1])] > 0
        z = by_sklearn(x, y, train, 1e-3).decision_function(x[~train])
        recorded, wanted = z > 0, y[~train]
        score = (recorded[wanted].mean() + (~recorded)[~wanted].mean()) / 2
        assert edge["balanced_accuracy"] == pytest.approx(score, abs=0.02)
        loss = np.logaddexp(0, np.where(wanted, -z, z))
        assert edge["loss"] == pytest.approx(
            (loss[wanted].mean() + loss[~wanted].mean()) / 2, abs=1e-3
        )
        assert edge["target"] == f"small/{hook}"


def test_the_bootstrap_draws_are_stored(path, lm):
    probe_saes(path, ["top", "other"], settings=SETTINGS, model=lm)
    parts = {p.manifest.saes[0]: p for p in Folder.open(path).sound().of("probe")}
    draws = {name: part.table("draws").to_pylist() for name, part in parts.items()}
    for name, rows in draws.items():
        found = {int(e["source"].split("/")[1]): e for e in edges(path, name)}
        assert {row["feature"] for row in rows} == set(found)
        for row in rows:
            drawn = np.array(row["balanced_accuracy"])
            assert len(drawn) == SETTINGS.draws
            for share, limit in ((0.025, "low"), (0.975, "high")):
                if (wanted := found[row["feature"]][limit]) is None:
                    assert np.isnan(drawn).all()
                else:
                    assert np.nanquantile(drawn, share) == pytest.approx(wanted, abs=1e-6)


def test_the_number_of_validation_documents_is_stored(path, lm):
    splits = ("document", "sample", "type")
    probe_saes(path, ["top"], settings=replace(SETTINGS, splits=splits, draws=0), model=lm)
    data = data_of(path)
    parts = {
        p.manifest.settings["split"]: p.manifest for p in Folder.open(path).sound().of("probe")
    }
    assert set(parts) == set(splits)
    for split, manifest in parts.items():
        train = training(data, split, share=0.8, seed=0)
        those = {int(d) for d, on in zip(data.document, train, strict=True) if not on}
        assert manifest.sources["validated"] == {"documents": len(those)}
        assert "validated" not in manifest.settings  # parts of older versions do not change


def test_site_that_no_sae_reads_is_in_the_graph(path, lm):
    probe_saes(path, ["top"], sites=["all"], settings=SETTINGS, model=lm)
    with Atlas.open(path) as atlas:
        sites = {s["hook"]: s for s in atlas.table("Site").to_pylist()}
        assert set(sites) == {
            "hook_embed",
            *(f"blocks.{i}.hook_resid_post" for i in range(lm.layers)),
        }
        assert sites["hook_embed"]["layer"] is None
        assert {s["width"] for s in sites.values()} == {24}
        found = atlas.query(
            "MATCH (f:Feature)-[p:PREDICTED_FROM]->(s:Site) WHERE p.split = 'document' "
            "RETURN s.hook AS hook, count(f) AS n ORDER BY hook"
        ).to_pylist()
    assert {r["hook"] for r in found} == set(sites)
    assert len({r["n"] for r in found}) == 1


def test_a_second_run_does_nothing_and_other_settings_replace(path, lm):
    probe_saes(path, ["top"], settings=SETTINGS, model=lm)
    (part,) = (Folder.open(path).path / "parts" / "probe").iterdir()
    before = read_manifest(part).manifest
    recorded = RecordingProgress()
    probe_saes(path, ["top"], settings=SETTINGS, progress=recorded)  # the model is not needed
    assert read_manifest(part).manifest.created == before.created
    assert any("is already stored with the same settings" in s for s in recorded.messages)
    probe_saes(path, ["top"], settings=replace(SETTINGS, controls=2), model=lm)
    assert read_manifest(part).manifest.settings["controls"] == 2


def test_probes_of_a_reingested_sae_are_reported_as_stale(path, lm):
    probe_saes(path, "all", settings=SETTINGS, model=lm)
    assert len(edges(path)) > 10 < len(edges(path, "other"))
    recorded = RecordingProgress()
    run(
        path, lm, [named(topk(seed=7), "top")], texts(), match=None, replace=True, progress=recorded
    )
    assert edges(path) == []
    assert len(edges(path, "other")) > 10
    assert any("probes of top" in s and "atlas probe" in s for s in recorded.messages)
    probe_saes(path, ["top"], settings=SETTINGS, model=lm)
    assert len(edges(path)) > 10


def test_scratch_of_a_killed_probe_is_removed(path, lm):
    scratch = path / "cache" / "study-probe-left"
    scratch.mkdir(parents=True)
    (scratch / "x.npy").write_bytes(b"x")
    probe_saes(path, ["top"], settings=SETTINGS, model=lm)
    assert not list((path / "cache").glob("study-*"))


def test_probes_are_validated_on_another_atlas(path, lm, tmp_path):
    run(tmp_path / "b.atlas", lm, [named(topk(), "top")], texts(30, seed=9), match=None)
    (row,) = probe_saes(path, ["top"], settings=SETTINGS, validate=tmp_path / "b.atlas", model=lm)
    assert row["run"].startswith("corpus/active/")
    here, there = len(data_of(path)), len(data_of(tmp_path / "b.atlas"))
    for edge in edges(path):
        assert (edge["train_tokens"], edge["tokens"]) == (here, there)
    later = probe_saes(
        path, ["top"], sites=[HOOK], settings=SETTINGS, validate=tmp_path / "b.atlas", model=lm
    )
    assert later[0]["balanced_accuracy"] > row["balanced_accuracy"]


def test_another_sae_cannot_validate(path, lm, tmp_path):
    run(tmp_path / "b.atlas", lm, [named(topk(seed=5), "top")], texts(20, seed=9), match=None)
    with pytest.raises(Mismatch, match=r"top is another SAE in .*its weights differ"):
        probe_saes(path, ["top"], settings=SETTINGS, validate=tmp_path / "b.atlas", model=lm)
    with pytest.raises(UnknownName):
        probe_saes(path, ["other"], settings=SETTINGS, validate=tmp_path / "b.atlas", model=lm)
    with pytest.raises(BadInput, match=r"the same text .* validates nothing"):
        probe_saes(path, ["top"], settings=SETTINGS, validate=path, model=lm)


def test_a_wrong_site_is_reported_before_an_ingest_begins(lm, tmp_path):
    with pytest.raises(UnknownName, match=r"blocks\.99"):
        run(
            tmp_path / "g.atlas",
            lm,
            [named(topk(), "top")],
            texts(),
            probe=["blocks.99.hook_resid_post"],
        )
    assert not (tmp_path / "g.atlas").exists()


def test_only_missing_sites_are_probed(path, lm):
    probe_saes(path, ["top"], sites=["hook_embed"], settings=SETTINGS, model=lm)
    first = {
        p: (p / "manifest.json").stat().st_mtime_ns for p in (path / "parts" / "probe").iterdir()
    }
    rows = probe_saes(path, ["top"], sites=["hook_embed", HOOK], settings=SETTINGS, model=lm)
    assert [r["site"] for r in rows] == ["hook_embed", HOOK]
    for part, written in first.items():
        assert (part / "manifest.json").stat().st_mtime_ns == written


def test_missing_or_wrong_inputs_are_reported(path, lm, tmp_path):
    with pytest.raises(UnknownName, match="tops"):
        probe_saes(path, ["tops"], settings=SETTINGS, model=lm)
    with pytest.raises(UnknownName, match=r"blocks\.99\.hook_resid_post"):
        probe_saes(path, ["top"], sites=["blocks.99.hook_resid_post"], settings=SETTINGS, model=lm)
    with pytest.raises(BadInput, match=r"was in memory when .* `model`"):
        probe_saes(path, ["top"], settings=SETTINGS)
    with pytest.raises(Mismatch, match="not the model with which top was ingested"):
        probe_saes(path, ["top"], settings=SETTINGS, model=model(seed=3))
    run(
        tmp_path / "c.atlas",
        lm,
        [named(topk(), "top")],
        texts(),
        settings=replace_settings(keep_codes=False),
    )
    with pytest.raises(Missing, match=r"needs the codes of top, .* --keep-codes --replace"):
        probe_saes(tmp_path / "c.atlas", ["top"], settings=SETTINGS, model=lm)
    with pytest.raises(BadInput, match="needs an SAE with codes; this atlas has none"):
        probe_saes(tmp_path / "c.atlas", "all", settings=SETTINGS, model=lm)
    assert edges(path) == []


def replace_settings(**more):
    from ingest.settings import Settings

    return Settings(**more)


def test_a_text_of_one_document_is_reported(lm, tmp_path):
    run(tmp_path / "d.atlas", lm, [named(topk(), "top")], [" ".join(texts())], match=None)
    with pytest.raises(BadInput, match=r"has 1 document, .* `splits=\('sample',\)`"):
        probe_saes(tmp_path / "d.atlas", "all", settings=SETTINGS, model=lm)
    (row,) = probe_saes(
        tmp_path / "d.atlas", "all", settings=replace(SETTINGS, splits=("sample",)), model=lm
    )
    assert row["features"] > 10
    assert {e["low"] for e in edges(tmp_path / "d.atlas")} == {None}  # nothing to draw from


def test_ingest_probes_at_the_end(lm, tmp_path):
    atlas = run(
        tmp_path / "e.atlas", lm, [named(topk(), "top")], texts(), probe=["hook_embed"], match=None
    )
    runs = set(atlas.table("PREDICTED_FROM")["run"].to_pylist())
    assert runs == {"document/active/l2=0.001", "type/active/l2=0.001"}
    assert CONTEXT == 16


@pytest.fixture
def invoke(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        out = capsys.readouterr()
        assert "Traceback" not in out.out + out.err
        return done.value.code, out.out + out.err

    return run


@pytest.mark.slow
def test_command_on_the_demos_sae(tmp_path, invoke):
    text = tmp_path / "t.jsonl"
    from importlib.resources import files

    lines = (files("ingest.demo") / "text.jsonl").read_text("utf-8").splitlines()[:25]
    text.write_text("\n".join(lines), "utf-8")
    where = str(tmp_path / "f.atlas")
    code, out = invoke(
        "ingest",
        "--sae",
        "tiny-a-l1-s0",
        "--text",
        str(text),
        "--probe",
        "hook_embed",
        "-a",
        where,
        "-q",
    )
    assert code == 0, out
    code, out = invoke(
        "probe", "tiny-a-l1-s0", "--preset", "mats", "--controls", "1", "-a", where, "-q"
    )
    assert code == 0, out
    assert "≥95%" in out  # the thresholds of the original study
    code, out = invoke("probe", "--split", "sample", "--controls", "0", "--json", "-a", where, "-q")
    assert code == 0, out
    (row,) = json.loads(out)["result"]
    assert row["site"] == "hook_embed"
    assert row["features"] > 100
    assert 0.5 < row["balanced_accuracy"] <= row["token_ceiling"]
    for words in (["--penalty", "0"], ["--features", "-1"], ["--above", "-2"], ["--tau", "3"]):
        code, out = invoke("probe", *words, "-a", where)
        assert code == 2, out
        assert "is not in the range" in out
