"""Transcoders of an atlas: text and models, interrupted Adam, parts, graph, command line."""

import json
import shlex
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from small_ingest import CONTEXT, HOOK, model, named, run, texts, topk, two_sae_atlas
from small_parts import sae_tables, small_atlas

import queries
from analysis.residual.report.findings import find
from analysis.residual.report.reproduce_commands import commands
from analysis.residual.report.sweep import sweep_rows
from analysis.statistics.document_splits import document_groups
from analysis.transcoder import adam as adam_module
from analysis.transcoder import model_maps
from analysis.transcoder.adam import Data, train
from analysis.transcoder.affine import Affine
from analysis.transcoder.conclusion import conclusion
from analysis.transcoder.moments import Moments
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import fit, spectrum, squared_error
from analysis.transcoder.study import map_sites
from atlas.api import Atlas
from atlas.assemble import assemble, fingerprints, graph_fingerprint
from atlas.cli.main import command, main
from atlas.disk.atomic_files import sha256
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, read_manifest, write_manifest, write_part
from atlas.disk.remove import remove_saes, touching
from atlas.errors import (
    BadActivations,
    BadInput,
    BrokenPart,
    Mismatch,
    Missing,
    OutOfSpace,
    UnknownName,
)
from atlas.push import trimmed
from ingest.model.language_model import open_model
from ingest.sae.record import open_sae_record, reopen_model
from ingest.settings import Settings
from ingest.text.corpus import Corpus

EMBED, FIRST = "hook_embed", "blocks.0.hook_resid_post"
PLAIN = TranscoderSettings(penalties=(1e-3,), draws=0, folds=3)


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


def one(path, lm, **options):
    options = {"targets": [HOOK], "settings": PLAIN, "model": lm} | options
    (row,) = map_sites(path, **options)
    return row


def stored(row):
    """Return an edge as stored in the atlas, without the added source width."""
    return {k: v for k, v in row.items() if k != "source_width"}


def part_of(path, name=None):
    (folder,) = (Folder.open(path).path / "parts" / "transcoder").iterdir()
    return read_manifest(folder)


@pytest.fixture(scope="module")
def seen(lm):
    """Return every token and BOS with its states, computed one document and context at a time."""
    tokenizer, rows = lm.tokenizer, []
    for document, text in enumerate(t for t in texts() if t.strip()):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CONTEXT - 1):
            context = [tokenizer.bos_token_id, *tokens[at : at + CONTEXT - 1]]
            with torch.no_grad():
                states = lm.base(torch.tensor([context]), output_hidden_states=True).hidden_states
            for i, token in enumerate(context):
                if i == 0 or token not in tokenizer.all_special_ids:
                    rows.append((document, i == 0, token, *(s[0, i].numpy() for s in states)))
    document, bos, ids, *states = zip(*rows, strict=True)
    return {
        "document": np.array(document),
        "bos": np.array(bos),
        "ids": np.array(ids),
        **{h: np.array(s, dtype=float) for h, s in zip((EMBED, FIRST, HOOK), states, strict=False)},
    }


def ridge(x, y, penalty=1e-3):
    return Ridge(alpha=penalty * ((x - x.mean(0)) ** 2).sum() / x.shape[1]).fit(x, y)


# ---- against scikit-learn on the model's own hidden states


@pytest.mark.parametrize(("source", "target"), [(EMBED, HOOK), (EMBED, FIRST), (FIRST, HOOK)])
def test_a_map_equals_scikit_learn_on_the_states_of_the_model(path, lm, seen, source, target):
    row = one(
        path,
        lm,
        source=source,
        targets=[target],
        settings=TranscoderSettings(penalties=(1e-3,), draws=4000, folds=3),
    )
    fold = document_groups(np.arange(40), among=40, number=3, seed=0)[seen["document"]]
    x, y, text = seen[source], seen[target], ~seen["bos"]
    assert row["tokens"] == text.sum()

    def held_out(rows):
        recorded = np.full_like(y, np.nan)
        for f in range(3):
            train_rows, test = rows & (fold != f), rows & (fold == f)
            recorded[test] = ridge(x[train_rows], y[train_rows]).predict(x[test])
        return r2_score(y[rows], recorded[rows], multioutput="variance_weighted"), recorded

    score, recorded = held_out(text)
    assert row["r2_weighted"] == pytest.approx(score, abs=2e-5)
    assert row["r2_low"] < score < row["r2_high"]
    means = np.full_like(y, np.nan)
    for i in np.flatnonzero(text):
        others = text & (fold != fold[i])
        same = others & (seen["ids"] == seen["ids"][i])
        means[i] = y[same if same.any() else others].mean(0)
    by_document = [np.flatnonzero((seen["document"] == d) & text) for d in range(40)]
    draws = []
    rng = np.random.default_rng(0)
    for _ in range(1000):
        rows = np.concatenate([by_document[d] for d in rng.integers(0, 40, 40)])
        error = [((t[rows] - y[rows]) ** 2).sum() for t in (recorded, means)]
        total = ((y[rows] - y[rows].mean(0)) ** 2).sum()
        draws.append((*(1 - e / total for e in error), (error[1] - error[0]) / total))
    for name, wanted in zip(
        ("r2", "token_r2", "token_difference"),
        np.quantile(draws, [0.025, 0.975], axis=0).T,
        strict=True,
    ):
        found = row[f"{name}_low"], row[f"{name}_high"]
        assert found == pytest.approx(wanted, abs=0.15 * np.ptp(wanted)), name
    assert row["token_difference"] == row["r2_weighted"] - row["token_r2_weighted"]
    assert row["r2_with_bos_weighted"] == pytest.approx(held_out(np.ones_like(text))[0], abs=2e-5)
    every = ridge(x, y).predict(x)
    squared = (y - every) ** 2
    assert row["r2_published"] == pytest.approx(
        1 - squared.sum() / ((y - y.mean()) ** 2).sum(), abs=2e-5
    )
    assert row["bos_share"] == pytest.approx(squared[seen["bos"]].sum() / squared.sum(), abs=1e-4)
    affine = Affine.read(part_of(path))
    wanted = ridge(x[text], y[text])
    assert (affine.source, affine.target) == (f"small/{source}", f"small/{target}")
    np.testing.assert_allclose(affine.weight, wanted.coef_.T, atol=2e-3)
    np.testing.assert_allclose(affine.apply(torch.tensor(x)).numpy(), wanted.predict(x), atol=2e-4)


def test_fault_of_the_original_study_bos_in_the_mean_and_in_sample(path, lm):
    """One massive coordinate of BOS raises the published R², although BOS is not text."""
    embedding = lm.base.get_input_embeddings().weight
    bos = lm.tokenizer.bos_token_id
    before = embedding[bos].clone()
    try:
        with torch.no_grad():
            embedding[bos, 0] += 300.0
        opened = model()
        opened.base.get_input_embeddings().weight.data.copy_(embedding)
        run(path.parent / "b.atlas", opened, [named(topk(), "top")], texts(), match=None)
        row = one(path.parent / "b.atlas", opened, source=EMBED, targets=[FIRST])
    finally:
        with torch.no_grad():
            embedding[bos] = before
    plain = one(path, lm, targets=[FIRST])
    assert row["r2_weighted"] == pytest.approx(plain["r2_weighted"], abs=0.02)  # attention sees BOS
    assert row["r2_published"] > 0.99 > plain["r2_published"]


# ---- results do not depend on passes, files or memory


def test_all_targets_in_one_pass_one_by_one_or_in_files_are_equal(path, lm, monkeypatch):
    together = map_sites(path, targets=["all"], settings=PLAIN, model=lm)
    assert [row["target"] for row in together][:2] == [f"small/{FIRST}", f"small/{HOOK}"]
    monkeypatch.setattr(
        model_maps, "bytes_needed", lambda source, targets, **_: len(targets) * 10**7
    )
    recorded = RecordingProgress()
    apart = map_sites(
        path,
        targets=["all"],
        settings=PLAIN,
        model=lm,
        memory=15 * 10**6,
        replace=True,
        progress=recorded,
    )
    assert "the model runs over the text 3 times" in " ".join(recorded.messages)
    assert apart == together
    monkeypatch.setattr(model_maps, "bytes_needed", lambda *_, **__: 0)
    monkeypatch.setattr(model_maps, "bytes_to_solve", lambda *_: 0)
    monkeypatch.setattr(model_maps, "_held", lambda *_: 0)
    recorded = RecordingProgress()
    on_disk = map_sites(
        path, targets=["all"], settings=PLAIN, model=lm, memory=1, replace=True, progress=recorded
    )
    assert "they are stored in a file" in recorded.messages[0]
    assert on_disk == together
    assert not list(Folder.open(path).cache.glob("study-*"))


def test_too_little_memory_is_reported(path, lm):
    with pytest.raises(OutOfSpace, match=r"Moments of hook_embed and .* Increase `memory`"):
        one(path, lm, memory=1000)


def test_some_documents_only(path, lm, seen):
    documents = np.arange(0, 40, 2)
    row = one(path, lm, documents=documents)
    rows = ~seen["bos"] & np.isin(seen["document"], documents)
    assert row["tokens"] == rows.sum()
    assert row["run"].startswith(f"closed form/{row['corpus']}/documents=20-")
    x, y = seen[EMBED][rows], seen[HOOK][rows]
    wanted = r2_score(y, ridge(x, y).predict(x), multioutput="variance_weighted")
    assert row["r2_in_sample_weighted"] == pytest.approx(wanted, abs=2e-4)
    one(path, lm)  # next to the map of all documents
    with Atlas.open(path) as atlas:
        assert atlas.table("MAPS_TO").num_rows == 2
    with pytest.raises(BadInput, match="Document 40 was input; expected numbers from 0 to 39"):
        one(path, lm, documents=np.array([1, 2, 40]))
    with pytest.raises(BadInput, match="2 document"):
        one(path, lm, documents=np.array([1, 2]))


# ---- stored maps


def test_a_stored_map_is_not_computed_again(path, lm):
    first = one(path, lm)
    hash = part_of(path).manifest.hash
    recorded = RecordingProgress()
    assert one(path, None, progress=recorded) == first  # nothing is opened
    assert len(recorded.messages) == 1
    assert recorded.messages[0].endswith("is already stored with the same settings.")
    again = one(path, lm, settings=TranscoderSettings(penalties=(1.0,), draws=0, folds=3))
    assert again["penalty"] > first["penalty"]
    assert part_of(path).manifest.hash != hash


def test_unknown_names_are_refused(path, lm):
    with pytest.raises(UnknownName, match=r"No model is named 'smal'\. Nearest: small"):
        one(path, lm, models=["smal"])
    with pytest.raises(UnknownName, match=r"blocks\.9\.hook_resid_post"):
        one(path, lm, targets=["blocks.9.hook_resid_post"])
    with pytest.raises(UnknownName, match="No SAE is named"):
        one(path, lm, like="tip")
    with pytest.raises(UnknownName, match="No model is named 'large'"):
        one(path, lm, like="top", models=["large"])
    with pytest.raises(BadInput, match="No target was input"):
        one(path, lm, targets=[])
    with pytest.raises(Mismatch, match="is not the model that"):
        one(path, model(seed=1))
    with pytest.raises(BadInput, match="was in memory when other was ingested"):
        one(path, None)
    with pytest.raises(BadInput, match="41 folds"):
        one(path, lm, settings=TranscoderSettings(folds=41))


def test_an_atlas_without_text_or_model_is_refused(tmp_path, lm):
    folder = Folder.create(tmp_path / "e.atlas")
    with pytest.raises(BadInput, match="has no text yet"):
        one(folder.path, lm)
    folder.set_corpus(asdict(Corpus.gather(texts(), folder.corpus_file).info))
    with pytest.raises(BadInput, match="has no SAE, and so no model"):
        one(folder.path, None)


def test_nan_is_refused(path, lm, monkeypatch):
    real = type(lm).run

    def broken(self, *args, **options):
        read = real(self, *args, **options)
        return {hook: torch.where(x > x.quantile(0.9), torch.nan, x) for hook, x in read.items()}

    monkeypatch.setattr(type(lm), "run", broken)
    with pytest.raises(BadActivations, match=f"activations of small at {HOOK} have NaN or Inf"):
        one(path, lm)
    assert not Folder.open(path).sound().of("transcoder")


def test_a_site_maps_to_itself(path, lm):
    row = one(path, lm, source=HOOK, targets=[HOOK], settings=TranscoderSettings(draws=5))
    assert (row["r2"], row["mse"], row["r2_low"]) == (1.0, 0.0, 1.0)
    assert "the map is the identity and the residual is 0" in conclusion(row)
    with pytest.raises(BadInput, match="nothing to train"):
        one(path, lm, source=HOOK, targets=[HOOK], settings=TranscoderSettings(method="adam"))


# ---- Adam

ADAM = TranscoderSettings(
    method="adam", rates=(1e-2, 3e-2), epochs=4, patience=4, draws=0, batch=32
)


def test_adam_does_not_beat_least_squares_on_what_it_was_trained_on(path, lm, seen):
    row = one(path, lm, settings=ADAM)
    fold = document_groups(np.arange(40), among=40, number=5, seed=0)[seen["document"]]
    fitted = ~seen["bos"] & (fold >= 2)
    affine = Affine.read(part_of(path))
    x, y = seen[EMBED], seen[HOOK]
    recorded = affine.apply(torch.tensor(x)).numpy()
    held = ~seen["bos"] & (fold == 0)
    assert row["r2_in_sample"] == pytest.approx(r2_score(y[fitted], recorded[fitted]), abs=1e-4)
    assert row["r2"] == pytest.approx(r2_score(y[held], recorded[held]), abs=1e-4)
    assert (row["method"], row["penalty"], row["folds"]) == ("adam", None, 1)
    assert row["steps"] % np.ceil(fitted.sum() / 32) == 0
    moments = Moments.of(torch.tensor(x[fitted]), torch.tensor(y[fitted]))
    least = squared_error(fit(moments, spectrum(moments.xx), 0.0), moments)
    assert row["mse_in_sample"] >= float(least.sum()) / y[fitted].size
    assert row["rate"] in ADAM.rates
    assert not list(Folder.open(path).cache.glob("adam-*"))


def test_disk_space_is_checked_before_the_model_runs(path, lm, monkeypatch):
    requested = []

    def full(into, size, **recorded):
        requested.append(size)
        raise OutOfSpace(recorded["what"])

    monkeypatch.setattr(model_maps, "check_space", full)
    monkeypatch.setattr(type(lm), "run", None)
    with pytest.raises(OutOfSpace, match="The activations"):
        one(path, lm, settings=ADAM)
    monkeypatch.undo()
    row = one(path, lm, settings=ADAM)
    bos = 40 * 4  # at most: each context has one
    assert 4 * 48 * row["tokens"] < requested[0] < 4 * 48 * (row["tokens"] + bos)


@pytest.mark.parametrize("cut", ["in the first map", "in a later one"])
def test_an_interrupted_training_resumes_with_the_same_map(path, lm, monkeypatch, tmp_path, cut):
    other = tmp_path / "b.atlas"
    shutil.copytree(path, other)
    wanted = one(other, lm, settings=ADAM)
    real, calls = adam_module._error, []
    stop = (
        3 if cut == "in the first map" else 15
    )  # six epochs a rate, two rates, with and without BOS

    def interrupted(*args):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(adam_module, "_error", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one(path, lm, settings=ADAM)
    assert not Folder.open(path).sound().of("transcoder")
    assert one(path, lm, settings=ADAM) == wanted
    assert len(calls) == 16 + 1  # only the interrupted epoch is repeated
    mine, theirs = part_of(path).table("map"), part_of(other).table("map")
    assert mine.equals(theirs)


def rows_of(rng, n=400):
    x = rng.normal(size=(n, 5)).astype(np.float32)
    return Data(x, (x @ rng.normal(size=(5, 3)) + rng.normal(size=(n, 3))).astype(np.float32))


def trained(data, tmp_path, *, rate=1e-2, name="c.pt", **options):
    settings = TranscoderSettings(method="adam", **{"epochs": 40, "batch": 16} | options)
    stage = RecordingProgress().stage("")
    with stage as under_way:
        return train(
            data,
            fit_rows=np.arange(300),
            stop_rows=np.arange(300, 400),
            rate=rate,
            settings=settings,
            device=torch.device("cpu"),
            checkpoint=tmp_path / name,
            stage=under_way,
        )


def test_adam_converges_to_least_squares_and_stops(tmp_path):
    data = rows_of(np.random.default_rng(0))
    found = trained(data, tmp_path, patience=4, epochs=200)
    assert found.steps < 200 * 19
    x = np.c_[data.x[:300], np.ones(300)]
    least = np.linalg.lstsq(x, data.y[:300], rcond=None)[0]
    np.testing.assert_allclose(found.line.weight.numpy(), least[:-1], atol=0.2)
    recorded = data.x[300:] @ found.line.weight.numpy() + found.line.bias.numpy()
    assert found.error == pytest.approx(((recorded - data.y[300:]) ** 2).mean(), rel=1e-5)


def test_too_high_a_rate_is_refused(tmp_path):
    with pytest.raises(BadActivations, match="Pass lower `rates`"):
        trained(rows_of(np.random.default_rng(0)), tmp_path, rate=1e30)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(BrokenPart, match="remove that file"):
        trained(rows_of(np.random.default_rng(0)), tmp_path)


# ---- parts, graph


def test_the_graph_has_the_map_between_the_sites(path, lm):
    before = graph_fingerprint(Folder.open(path).sound())
    prints = fingerprints(Folder.open(path).sound())
    row = one(path, lm)
    sound = Folder.open(path).sound()
    assert graph_fingerprint(sound) != before
    assert fingerprints(sound) == prints  # no SAE is restaged on a server
    with Atlas.open(path) as atlas:
        assert atlas.table("MAPS_TO").to_pylist() == [stored(row)]
        sites = atlas.table("Site")["id"].to_pylist()
        assert sites == [f"small/{HOOK}", f"small/{EMBED}"]
        assert {e["source"] for e in atlas.table("OF_MODEL").to_pylist()} == set(sites)
        found = atlas.query(
            "MATCH (a:Site)-[e:MAPS_TO]->(b:Site) RETURN a.id AS a, b.id AS b, e.r2 AS r2"
        )
        assert found.to_pylist() == [{"a": row["source"], "b": row["target"], "r2": row["r2"]}]
    graph = assemble(Folder.open(path))
    assert trimmed(graph, 1).tables["MAPS_TO"].to_pylist() == [stored(row)]


def test_a_map_of_an_older_version_has_no_newer_columns(path, lm):
    row = one(path, lm, settings=TranscoderSettings(penalties=(1e-3,), draws=20, folds=3))
    part = part_of(path)
    newer = [n for n in row if n in ("rate", "token_r2_low", "token_r2_high") or "difference" in n]
    assert len(newer) == 6
    assert row["token_difference_low"] < row["token_difference"] < row["token_difference_high"]
    older = dict(part.manifest.tables)
    data = part.table("MAPS_TO").drop_columns(newer)
    pq.write_table(data, part.folder / "MAPS_TO.parquet")
    older["MAPS_TO"] = replace(older["MAPS_TO"], sha256=sha256(part.folder / "MAPS_TO.parquet"))
    for name in ("model", "point"):
        del older[name]
    write_manifest(part.folder, replace(part.manifest, version=1, tables=older))
    with Atlas.open(path) as atlas:
        (found,) = atlas.table("MAPS_TO").to_pylist()
        assert found | {"source_width": 24} == dict(row) | dict.fromkeys(newer)
        assert "map again" in conclusion(found)
        (quality,) = atlas.query(
            queries.get("transcoder_quality").cypher, {"model": "small"}
        ).to_pylist()
    assert quality["token_difference"] == pytest.approx(row["token_difference"])
    assert quality["token_difference_low"] is None
    x = torch.randn(3, 24)
    before = Affine.read(part_of(path)).apply(x)
    assert one(path, lm, settings=TranscoderSettings(penalties=(1e-3,), draws=20, folds=3)) == row
    torch.testing.assert_close(Affine.read(part_of(path)).apply(x), before, atol=1e-5, rtol=1e-5)


def test_a_map_does_not_depend_on_the_sae_that_set_the_contexts(path, lm):
    one(path, lm)
    folder = Folder.open(path)
    run(path, lm, [named(topk(seed=5), "other")], None, match=None, replace=True)
    assert folder.sound().of("transcoder")
    remove_saes(path, ["other"])
    assert not folder.sound().stale
    assert folder.sound().of("transcoder")


def test_a_map_is_removed_with_the_last_sae_of_its_model(path, lm):
    one(path, lm)
    assert not any(key.startswith("transcoder/") for key in touching(path, ["top"]))
    keys = touching(path, ["top", "other"])
    assert sum(key.startswith("transcoder/") for key in keys) == 1
    assert sorted(remove_saes(path, ["top", "other"])) == sorted(keys)
    sound = Folder.open(path).sound()
    assert not sound.parts
    assert not sound.stale


def test_a_map_remains_when_its_saes_are_removed(path, lm):
    row = one(path, lm)
    for name in ("top", "other"):
        shutil.rmtree(Folder.open(path).part("sae", name))  # as if removed by hand
    assert not any(key.startswith("transcoder/") for key in Folder.open(path).sound().stale)
    with Atlas.open(path) as atlas:
        assert atlas.table("MAPS_TO").to_pylist() == [stored(row)]
        (model_row,) = atlas.table("Model").to_pylist()
    assert (model_row["name"], model_row["weights"], model_row["layers"]) == (
        "small",
        lm.weights,
        3,
    )


def manifest_of(weights):
    return Manifest(
        "transcoder",
        "small@x",
        sources={"model": {"name": "small", "weights": weights, "tokenizer": "t"}},
    )


def test_a_map_of_another_model_of_its_name_is_stale(path, lm):
    one(path, lm)
    folder = Folder.open(path)
    write_part(folder.part("transcoder", "small@x"), manifest_of("w"), [])
    key = "transcoder/small@x"
    assert folder.sound().stale == {
        key: "SAEs here read another model named small (other weights, or another tokenizer)"
    }
    for name in ("top", "other"):
        shutil.rmtree(folder.part("sae", name))
    assert "another part here is about another model named small" in folder.sound().stale[key]
    shutil.rmtree(part_of_target(path).folder)
    assert (
        folder.sound().stale[key]
        == "no SAE here reads the model small, and the part does not describe it"
    )


def part_of_target(path):
    return next(p for p in Folder.open(path).all_parts()[0] if f"@{HOOK}@" in p.manifest.name)


def test_a_map_reads_only_parts_of_its_kind(path, lm):
    with pytest.raises(BadInput, match="sae/top has no map"):
        Affine.read(read_manifest(Folder.open(path).part("sae", "top")))


def test_a_model_is_reopened_with_its_ingest_settings(path, lm):
    ingested = open_sae_record(Folder.open(path).sound(), "top")
    assert (ingested.contexts.context_size, ingested.contexts.prepend_bos) == (CONTEXT, True)
    assert reopen_model(ingested, lm, hooks=[HOOK]) is lm
    with pytest.raises(UnknownName):
        reopen_model(ingested, lm, hooks=["blocks.7.hook_resid_post"])


# ---- the command line


@pytest.fixture
def on_disk(tmp_path, lm):
    """Return an atlas whose model is a folder, so that the command finds it."""
    folder = tmp_path / "model"
    lm.base.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    run(tmp_path / "c.atlas", str(folder), [named(topk(), "top")], texts(), match=None)
    return tmp_path / "c.atlas"


def test_the_command_prints_scores_and_conclusions(on_disk, capsys):
    words = [
        "transcoder",
        "--atlas",
        str(on_disk),
        "--to",
        "all",
        "--folds",
        "3",
        "--penalty",
        "0.001",
        "--draws",
        "20",
    ]
    with pytest.raises(SystemExit) as done:
        main([*words, "--quiet"])
    assert not done.value.code
    out = capsys.readouterr().out
    assert "r2_weighted" in out
    assert "token_r2_weighted" in out
    assert out.count("an affine map explains") == 3
    with pytest.raises(SystemExit):
        main([*words, "--json", "--quiet"])
    rows = json.loads(capsys.readouterr().out)["result"]
    assert [row["method"] for row in rows] == ["closed form"] * 3
    assert all("conclusion" in row for row in rows)


def test_the_command_refuses_invalid_options(on_disk):
    group = command()
    for words in (["--method", "sgd"], ["--folds", "x"], ["--memory", "0"]):
        done = CliRunner().invoke(group, ["transcoder", "--atlas", str(on_disk), *words])
        assert done.exit_code == 2


EDGE = {
    "source": "m/hook_embed",
    "target": "m/blocks.1.hook_resid_post",
    "r2_weighted": 0.4,
    "r2_low": 0.39,
    "r2_high": 0.41,
    "token_r2_weighted": 0.5,
    "penalty": 0.1,
    "fit_tokens": 1000,
    "rank": 10,
    "r2_in_sample_weighted": 0.405,
    "bos_share": 0.01,
    "r2_published": 0.41,
    "method": "closed form",
    "token_eta2_weighted": 0.6,
    "token_difference": -0.1,
    "token_difference_low": -0.11,
    "token_difference_high": -0.09,
}


def differs(low, high, **more):
    """Return properties of an edge whose difference from the token means has this interval."""
    return {
        "token_difference": (low + high) / 2,
        "token_difference_low": low,
        "token_difference_high": high,
        **more,
    }


#: Fewer tokens than dimensions; the rank is that of all tokens and does not show this.
FEW = {"fit_tokens": 64, "rank": 63, "source_width": 96}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "predicts less than the token id alone"),
        ({}, "Map minus token means: -10.0% (95% interval -11.0% to -9.0%, paired over documents"),
        ({"method": "adam"}, "This trained map predicts less than the token id"),
        # Here the interval of the map contains the token's score, but that of the difference excludes 0.
        ({"token_r2_weighted": 0.4}, "predicts less than the token id alone"),
        (differs(-0.01, 0.01), "the two are not distinguishable"),
        (
            dict.fromkeys(differs(0, 0)) | {"r2_low": None, "r2_high": None},
            "No interval was computed, so",
        ),
        (dict.fromkeys(differs(0, 0)), "No interval of the difference is stored, so"),
        (differs(0.01, 0.02), "means of rare ids are poor"),
        # The source is a function of the id, and ids are rare, so R² does not exceed eta2.
        (
            differs(0.01, 0.02, source="m/blocks.0.hook_resid_pre"),
            "does not show information beyond the token id",
        ),
        (
            differs(0.09, 0.11, token_eta2_weighted=0.35, source="m/blocks.0.hook_resid_post"),
            "contains linear information beyond the token id",
        ),
        ({"source": "m/blocks.0.hook_resid_post"}, "predicts less than the token id alone"),
        ({"fit_tokens": 60}, "60 tokens are few for 10 directions"),
        (FEW, "64 tokens, fewer than the 96 dimensions of the source, so only ridge penalties can"),
        (FEW, "predicts less than the token id alone"),  # with a penalty
        (FEW | {"fit_tokens": 96}, "96 tokens, no more than the 96 dimensions"),
        (FEW | {"fit_tokens": 97}, "97 tokens are few for 63 directions"),
        (FEW | {"penalty": 0.0}, "The two are not compared: without a penalty, so few tokens"),
        # Enough tokens, but fewer ids than dimensions.
        (
            {"penalty": 0.0, "fit_tokens": 5000, "rank": 40, "source_width": 96},
            "without a penalty, 40 directions in 96 dimensions of the source may not determine the map",
        ),
        (FEW | {"penalty": 0.0}, "so only ridge penalties can be tried"),
        (
            FEW | {"penalty": 0.0, "fit_tokens": 97, "rank": 96},
            "predicts less than the token id alone",
        ),
        (
            FEW | {"penalty": None, "method": "adam"},
            "This trained map predicts less than the token id",
        ),
        ({"r2_in_sample_weighted": 0.6}, "In sample, the map explains 60.0%"),
        ({"r2_published": 0.9, "bos_share": None}, "original study (one mean, in sample)"),
        ({"bos_share": 0.5, "r2_published": 0.9}, "BOS has 50% of the error of a map with BOS"),
        ({"r2_published": 0.9}, "original study (with BOS, one mean, in sample), R² is 90.0%"),
        ({"r2_weighted": None}, "no dimension of the target varies"),
    ],
)
def test_conclusions_follow_from_the_numbers(changed, expected):
    assert expected in conclusion(EDGE | changed)


@pytest.mark.parametrize("difference", [(-0.5, -0.3), (-0.01, 0.01), (0.01, 0.02), (0.3, 0.5)])
def test_an_undetermined_map_is_not_compared_with_the_means(difference):
    """Without a penalty, many maps fit few tokens, or tokens of few ids, equally well."""
    few_ids = {"penalty": 0.0, "fit_tokens": 5000, "rank": 40, "source_width": 96}
    text = conclusion(EDGE | FEW | {"penalty": 0.0} | differs(*difference))
    text += conclusion(EDGE | few_ids | differs(*difference))
    assert text.count("The two are not compared") == 2
    for other in (
        "predicts less",
        "not distinguishable",
        "beyond the token id",
        "Map minus",
        "few for",
    ):
        assert other not in text


def test_few_tokens_are_reported_for_an_atlas(path, lm):
    """Each fold has one document, with fewer tokens than the source's 40 dimensions."""
    for penalty, open_ in ((0.0, True), (1e-3, False)):
        row = one(
            path,
            lm,
            source="blocks.0.mlp.hook_post",
            documents=np.arange(2),
            settings=TranscoderSettings(penalties=(penalty,), folds=2, draws=20),
        )
        assert row["fit_tokens"] < row["source_width"] == 40
        assert ("The two are not compared: without" in conclusion(row)) == open_
        assert "fewer than the 40 dimensions of the source, so only ridge penalties" in conclusion(
            row
        )


def test_maps_remain_while_another_sae_may_read_the_model(tmp_path):
    """This includes a broken SAE; removing SAEs of another model removes no map."""
    folder = small_atlas(tmp_path / "a.atlas")
    sources = {"model": {"name": "m", "weights": None, "tokenizer": None}}
    write_part(folder.part("transcoder", "m@x"), Manifest("transcoder", "m@x", sources=sources), [])
    assert "transcoder/m@x" not in touching(folder.path, ["one"])
    assert "transcoder/m@x" in touching(folder.path, ["one", "two"])
    (folder.part("sae", "two") / "Model.parquet").write_bytes(b"broken")
    assert "transcoder/m@x" not in touching(folder.path, ["one"])
    write_part(
        folder.part("sae", "far"), Manifest("sae", "far", saes=("far",)), sae_tables("far", 2, "n")
    )
    assert "transcoder/m@x" not in touching(folder.path, ["far"])


def test_contexts_without_bos_have_no_scores_of_it(tmp_path, lm):
    sae = topk()
    sae.cfg.metadata.prepend_bos = False
    path = tmp_path / "a.atlas"
    run(path, lm, [named(sae, "top")], texts(), match=None)
    for source in (EMBED, FIRST):
        row = one(path, lm, source=source, settings=replace(PLAIN, draws=20))
        assert row["r2_with_bos"] is row["r2_with_bos_weighted"] is row["bos_share"] is None
        assert row["r2_low"] < row["r2_weighted"] < row["r2_high"]


# ---- models that no SAE reads


def saved(folder, lm):
    lm.base.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_that_no_sae_reads_is_mapped_too(path, lm, tmp_path):
    """Report, query and stores find its map, and it becomes a model of the atlas."""
    trained = one(path, lm)
    random = saved(tmp_path / "random", model(seed=1))
    recorded = RecordingProgress()
    row = one(path, str(random), progress=recorded)
    assert (
        "No SAE of this atlas reads random; its contexts have 16 tokens with BOS"
        in recorded.messages[0]
    )
    assert (row["source"], row["tokens"]) == (f"random/{EMBED}", trained["tokens"])
    other = run(tmp_path / "r.atlas", model(seed=1), [named(topk(), "top")], texts(), match=None)
    assert not other.folder.sound().stale
    there = one(tmp_path / "r.atlas", model(seed=1))
    assert {k: v for k, v in row.items() if k not in ("source", "target")} == {
        k: v for k, v in there.items() if k not in ("source", "target")
    }
    again = one(path, None, models=["random"])  # from the path that the atlas recorded
    assert again == row
    both = map_sites(path, ["random"], targets=[FIRST], settings=PLAIN, model=lm)
    assert [r["target"] for r in both] == [f"random/{FIRST}", f"small/{FIRST}"]
    every = map_sites(path, targets=[FIRST], settings=PLAIN)
    assert [r["target"] for r in every] == [f"small/{FIRST}", f"random/{FIRST}"]
    with Atlas.open(path) as atlas:
        rows = {r["name"]: r for r in atlas.table("Model").to_pylist()}
        assert set(rows) == {"small", "random"}
        assert rows["random"]["source"] == str(random)
        assert rows["random"]["weights"] != rows["small"]["weights"]
        found = atlas.query(queries.get("transcoder_quality").cypher, {"model": "random"})
        assert found["target"].to_pylist() == [f"random/{FIRST}", f"random/{HOOK}"]
        swept = {r["target"]: r for r in sweep_rows(atlas, floors={"small": "random"})}
        assert swept[HOOK]["floor_r2_weighted"] == row["r2_weighted"]
    remove_saes(path, ["other"])
    assert not Folder.open(path).sound().stale


def test_models_of_one_name_and_different_weights_are_distinguished(path, lm, tmp_path):
    tuned = saved(
        tmp_path / "small", model(seed=1)
    )  # for example a finetuned model in a folder of the same name
    with pytest.raises(
        Mismatch, match=r"weights, .* differ\). Pass another name, as in `model='other="
    ):
        one(path, str(tuned))
    row = one(path, f"tuned={tuned}")
    assert row["target"] == f"tuned/{HOOK}"
    with pytest.raises(Mismatch, match="is not the model that its maps were computed with"):
        one(path, f"tuned={saved(tmp_path / 'third', model(seed=2))}")
    copied = saved(tmp_path / "copy", lm)
    assert one(path, str(copied))["target"] == f"small/{HOOK}"  # the same model in another folder
    assert one(path, f"copy={copied}")["target"] == f"copy/{HOOK}"  # unless renamed
    with pytest.raises(BadInput, match="Two of `model` have the name tuned"):
        map_sites(path, targets=[HOOK], settings=PLAIN, model=[f"tuned={tuned}", str(tuned)])
    with pytest.raises(BadInput, match="has the name 'a b'; expected NAME=FOLDER"):
        one(path, f"a b={tuned}")


def test_a_map_without_saes_is_stale_if_an_sae_reads_another_model_of_its_name(path, lm, tmp_path):
    one(path, f"new={saved(tmp_path / 'random', model(seed=1))}")
    assert not Folder.open(path).sound().stale
    opened = open_model(str(saved(tmp_path / "third", model(seed=2))), name="new")
    recorded = RecordingProgress()
    run(path, opened, [named(topk(), "late")], None, match=None, progress=recorded)
    ((key, reason),) = Folder.open(path).sound().stale.items()
    assert f"{key}, since {reason}" in recorded.messages[-1]
    assert reason.startswith("SAEs here read another model named new")
    with Atlas.open(path) as atlas:
        assert atlas.table("MAPS_TO").num_rows == 0
        assert {r["name"] for r in atlas.table("Model").to_pylist()} == {"small", "new"}


def test_a_model_read_from_two_folders_is_one_model(path, lm, tmp_path):
    """The model is mapped from one folder, then read by an SAE from another folder."""
    one(path, f"new={saved(tmp_path / 'here', model(seed=1))}")
    opened = open_model(str(saved(tmp_path / "there", model(seed=1))), name="new")
    run(path, opened, [named(topk(), "late")], None, match=None)
    with Atlas.open(path) as atlas:
        rows = {r["name"]: r["source"] for r in atlas.table("Model").to_pylist()}
        assert rows == {"small": "memory", "new": str(tmp_path / "there")}
        assert atlas.table("MAPS_TO").num_rows == 1
    assert sum("@" in key for key in touching(path, ["late"])) == 1  # removed with its last SAE


def test_contexts_have_at_most_the_length_of_the_model(path, lm, tmp_path):
    short = random_model("llama", seed=1, max_position_embeddings=8)
    tokenizer = small_tokenizer()
    tokenizer.bos_token = None
    recorded = RecordingProgress()
    row = one(path, open_model(short, name="short", tokenizer=tokenizer), progress=recorded)
    assert "contexts have 8 tokens without BOS, as for other" in recorded.messages[0]
    assert row["r2_with_bos"] is None
    part = next(p for p in Folder.open(path).sound().of("transcoder"))
    assert (part.manifest.settings["context_size"], part.manifest.settings["prepend_bos"]) == (
        8,
        False,
    )
    with pytest.raises(BadInput, match="in memory when its maps were computed"):
        one(path, None, models=["short"], settings=replace(PLAIN, seed=1))


def test_an_atlas_with_a_text_and_no_sae_is_mapped(tmp_path, lm):
    folder = Folder.create(tmp_path / "e.atlas")
    folder.set_corpus(asdict(Corpus.gather(texts(), folder.corpus_file).info))
    recorded = RecordingProgress()
    row = one(folder.path, str(saved(tmp_path / "m", lm)), progress=recorded)
    assert "contexts have 64 tokens with BOS." in recorded.messages[0]  # the default is 256
    with Atlas.open(folder.path) as atlas:
        assert atlas.saes == []
        assert atlas.table("Model")["name"].to_pylist() == ["m"]
        found = atlas.query(queries.get("transcoder_quality").cypher, {"model": "m"})
        assert found["r2_weighted"].to_pylist() == [row["r2_weighted"]]
    assert trimmed(assemble(folder), 1).tables["MAPS_TO"].num_rows == 1


def invoke(*words):
    done = CliRunner().invoke(command(), words)
    assert done.exit_code == 0, done.output
    return done


ASK = ("query", "transcoder_quality", "--param", "model=floor", "--json")


def answer(*words):
    return json.loads(invoke(*ASK, *words).stdout)["result"]


@pytest.fixture
def with_floor(on_disk, tmp_path):
    """Return an atlas of one model with an SAE and one without, both mapped by the command."""
    random = saved(tmp_path / "random", model(seed=1))
    done = invoke(
        "transcoder",
        "--atlas",
        str(on_disk),
        "--model",
        str(on_disk.parent / "model"),
        "--model",
        f"floor={random}",
        "--to",
        "all",
        "--folds",
        "3",
        "--penalty",
        "0.001",
        "--draws",
        "20",
        "--json",
        "--quiet",
    )
    return on_disk, json.loads(done.stdout)["result"]


@pytest.mark.slow
def test_the_commands_from_two_random_models_to_the_report(with_floor, tmp_path):
    """The map is computed, queried, reported and removed."""
    path, result = with_floor
    where = ["--atlas", str(path)]
    assert [row["source"] for row in result] == [f"model/{EMBED}"] * 3 + [f"floor/{EMBED}"] * 3
    here = answer(*where)
    wanted = {row["target"]: row["token_difference_low"] for row in result[3:]}
    assert {row["target"]: row["token_difference_low"] for row in here} == wanted
    page = tmp_path / "page.html"
    words = ["report", "geometry", str(path), "--floor", "floor", "--out", str(page), "--json"]
    maps = json.loads(invoke(*words).stdout)["result"]["maps"]
    assert {row["floor"] for row in maps} == {"floor"}
    assert all(row["floor_r2_weighted"] is not None for row in maps)
    done = invoke("rm", "top", "--yes", *where)
    assert f"transcoder/model@{EMBED}@" in done.stdout
    assert "No SAE remains. The atlas still has 3 parts about models" in done.stderr
    assert answer(*where) == here
    wrong = CliRunner().invoke(command(), ["rm", "transcoder/flor@*", "--yes", *where])
    assert isinstance(wrong.exception, UnknownName)
    done = invoke("rm", f"transcoder/floor@{EMBED}@blocks.0*", "--yes", *where, "--json")
    removed = json.loads(done.stdout)["result"]
    assert [len(removed[name]) for name in ("removed", "remaining")] == [1, 2]
    assert answer(*where) == here[1:]


@pytest.mark.neo4j
def test_a_model_that_no_sae_reads_is_pushed(with_floor, neo4j_url, neo4j_auth, monkeypatch):
    path, _ = with_floor
    for name, value in zip(("USERNAME", "PASSWORD"), neo4j_auth, strict=True):
        monkeypatch.setenv(f"NEO4J_{name}", value)
    where, server = ["--atlas", str(path)], ["--atlas", neo4j_url]
    invoke("push", neo4j_url, *where, "--quiet")
    assert answer(*server) == answer(*where)
    assert len(answer(*server)) == 3
    models = ["query", "--cypher", "MATCH (m:Model) RETURN m.name AS name ORDER BY name", "--json"]
    found = json.loads(invoke(*models, *server).stdout)["result"]
    assert [row["name"] for row in found] == ["floor", "model"]
    # The SAE with the maps of its model, and one map of a model without an SAE.
    invoke("rm", "top", f"transcoder/floor@{EMBED}@blocks.0*", "--yes", *where)
    invoke("push", neo4j_url, *where, "--quiet")
    assert answer(*server) == answer(*where)
    assert len(answer(*server)) == 2
    invoke("rm", "transcoder/floor@*", "--yes", *where)
    invoke("push", neo4j_url, *where, "--quiet")
    assert json.loads(invoke(*models, *server).stdout)["result"] == []


# ---- a text of its own, and no SAE


def test_a_text_and_models_make_an_atlas_without_any_sae(tmp_path, lm):
    """The maps equal those of an ingested atlas with the same text layout."""
    began = run(
        tmp_path / "i.atlas",
        lm,
        [named(topk(), "top")],
        texts(),
        match=None,
        settings=Settings(context=64),
    )
    wanted = one(began.folder.path, lm)
    path = tmp_path / "t.atlas"
    row = one(path, lm, text=texts())
    assert row == wanted
    assert Folder.open(path).corpus["id"] == began.folder.corpus["id"]
    with Atlas.open(path) as atlas:
        assert atlas.table("SAE").num_rows == 0
        assert atlas.table("Model")["name"].to_pylist() == ["small"]
    recorded = RecordingProgress()
    assert one(path, lm, progress=recorded) == row
    assert "is already stored" in recorded.messages[-1]
    assert one(path, lm, text=texts()) == row
    with pytest.raises(Mismatch, match="the input text is another one"):
        one(path, lm, text=texts(seed=5))
    assert one(path, lm) == row


def test_the_tokenizer_of_the_first_model_counts_the_tokens(tmp_path, lm):
    documents = texts()
    ids = [lm.tokenizer(each, add_special_tokens=False)["input_ids"] for each in documents]
    special = lm.tokenizer.all_special_ids  # <unk> stands for digits
    counted = np.cumsum([sum(i not in special for i in each) for each in ids])
    last = int(np.searchsorted(counted, 210))
    assert 220 < counted[last] <= 231  # more than a tenth beyond 200, less than that beyond 210
    row = one(tmp_path / "a.atlas", lm, text=documents, tokens=210)
    assert Folder.open(tmp_path / "a.atlas").corpus["documents"] == last + 1
    assert row["tokens"] == counted[last]
    assert one(tmp_path / "cut.atlas", lm, text=documents, tokens=200)["tokens"] == 200
    assert Folder.open(tmp_path / "cut.atlas").corpus["documents"] == last + 1
    with pytest.raises(Mismatch, match="`tokens` applies to a new text"):
        one(tmp_path / "a.atlas", lm, tokens=100)


def test_an_error_creates_no_atlas(tmp_path, lm):
    path = tmp_path / "a.atlas"
    with pytest.raises(BadInput):
        one(path, lm)
    for options, error in (
        ({"text": "absent.txt"}, "absent"),
        ({"text": ["  "]}, "blank|empty|no document|nothing"),
        ({"text": texts(), "model": None}, "pass one with `model`"),
        ({"text": texts(), "targets": ["blocks.7.hook_resid_post"]}, "blocks.7"),
        ({"text": texts(), "source": "nonsense"}, "nonsense"),
        ({"text": texts(), "like": "absent"}, "absent"),
        ({"text": texts(), "models": ["absent"]}, "absent"),
        ({"text": texts(), "model": lm.base}, "without its tokenizer"),
        ({"text": texts(), "tokens": 10**6}, "tokens"),
    ):
        with pytest.raises((BadInput, Missing, UnknownName), match=error):
            one(path, lm, **options)
        assert not path.exists(), options


def test_the_reproduced_command_starts_with_the_model_that_counted_tokens(tmp_path):
    """The tokenizers count differently, so another order would select other text."""
    for name, vocabulary in (("b", 96), ("a", 40)):
        lm = random_model("llama", seed=1)
        lm.save_pretrained(tmp_path / name)
        small_tokenizer(vocabulary=vocabulary).save_pretrained(tmp_path / name)
    path, fresh = tmp_path / "x.atlas", tmp_path / "y.atlas"
    Path(tmp_path / "t.txt").write_text("\n\n".join(texts()), "utf-8")
    invoke(
        "transcoder",
        "--text",
        str(tmp_path / "t.txt"),
        "--tokens",
        "300",
        "--model",
        str(tmp_path / "b"),
        "--model",
        str(tmp_path / "a"),
        "--folds",
        "3",
        "--draws",
        "0",
        "--quiet",
        "--atlas",
        str(path),
    )
    with Atlas.open(path) as atlas:
        lines = commands(find(atlas), str(fresh))
    (line,) = [line for line in lines if line.startswith("atlas transcoder")]
    assert not any(line.startswith("atlas probe") for line in lines)
    invoke(*shlex.split(line)[1:], "--quiet")
    assert Folder.open(fresh).corpus["id"] == Folder.open(path).corpus["id"]
    invoke(
        "transcoder",
        "b",
        "--text",
        str(tmp_path / "t.txt"),
        "--tokens",
        "300",
        "--folds",
        "3",
        "--draws",
        "0",
        "--quiet",
        "--atlas",
        str(path),
    )
    for words, recorded in (
        (["--field", "story"], "--field requires --text"),
        (["--text", ""], "--text is empty"),
    ):
        done = CliRunner().invoke(command(), ["transcoder", *words, "--atlas", str(path)])
        assert done.exit_code == 2
        assert recorded in done.output + done.stderr


def test_the_command_creates_an_atlas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "trained", model())
    Path("t.txt").write_text("\n\n".join(texts()), "utf-8")
    invoke("random-weights", "./trained")
    words = [
        "transcoder",
        "--text",
        "t.txt",
        "--model",
        "./trained",
        "--model",
        "./trained-random",
        "--folds",
        "3",
        "--draws",
        "0",
        "--quiet",
        "--json",
    ]
    rows = json.loads(invoke(*words).stdout)["result"]
    assert [r["source"] for r in rows] == [f"trained/{EMBED}"] * 3 + [f"trained-random/{EMBED}"] * 3
    assert Folder.open(tmp_path / "features.atlas").corpus["name"] == "t"
    report = invoke("report", "geometry", "features.atlas", "--floor", "trained-random", "--json")
    found = json.loads(report.stdout)["result"]["maps"]
    assert {row["floor"] for row in found} == {"trained-random"}
    listed = invoke("list")
    assert "This atlas has no SAE" in listed.stderr
    assert "Models that no SAE of this atlas reads: trained, trained-random." in listed.stderr
    page = Path("geometry.html").read_text("utf-8")
    assert "--text t.txt" in page
