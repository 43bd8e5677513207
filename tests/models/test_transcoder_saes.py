"""Transcoders of sae-lens: codes, ingest, fidelity at the output site, and decoder space."""

import json

import numpy as np
import pytest
import sae_lens
import torch
from random_models import random_ids, random_model, small_tokenizer
from random_saes import READS, TRANSCODERS, WRITES, dense, metadata, random_sae, vectors
from random_saes import random_transcoder as transcoder
from recording_progress import RecordingProgress
from small_ingest import texts

from analysis.concepts.settings import ConceptSettings
from analysis.concepts.study import ConceptStudy
from analysis.concepts.words.files import read_words
from analysis.effects.intervene import intervene
from analysis.effects.settings import EffectSettings
from analysis.effects.study import EffectStudy
from analysis.logits.settings import LogitSettings
from analysis.logits.study import LogitStudy, measure_logits
from analysis.spectra.distances import compare_spectra
from analysis.spectra.settings import SpectrumSettings
from analysis.spectra.study import measure_spectra
from analysis.splitting.study import find_splits
from atlas import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch
from atlas.studies.study import TaskContext
from ingest.forward.run import ingest
from ingest.match.cosines import one_space
from ingest.model.language_model import open_model
from ingest.sae import autoencoder
from ingest.sae.autoencoder import check_fit, open_sae
from ingest.settings import Settings

HIDDEN = "blocks.1.mlp.hook_post"


def by_hand(one, x):
    """Compute codes and output in float64 without sae-lens."""
    p = {name: values.detach().double().numpy() for name, values in one.named_parameters()}
    x = x.double().numpy()
    before = x @ p["W_enc"] + p["b_enc"]
    codes = np.maximum(before, 0) * (before > p.get("threshold", 0))
    output = codes @ p["W_dec"] + p["b_dec"]
    return codes, output + (x @ p["W_skip"].T if "W_skip" in p else 0)


@pytest.mark.parametrize("sparse", [0, 10**9], ids=["sparse", "dense"])
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize("kind", TRANSCODERS)
def test_codes_and_output_equal_those_of_sae_lens(kind, chunk, sparse, monkeypatch):
    monkeypatch.setattr(autoencoder, "CHUNK_BYTES", 16 * 40 * chunk)
    monkeypatch.setattr(autoencoder, "SPARSE", sparse)
    theirs, x = transcoder(kind, d_out=32, writes=HIDDEN, seed=chunk), vectors()
    mine = open_sae(theirs, name="t")
    *codes, output = mine.codes_and_reconstruction(x)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(dense(codes)).float(), theirs.encode(x))
        torch.testing.assert_close(output, theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.encode(x), theirs.encode(x))
        torch.testing.assert_close(mine.decode(mine.encode(x)), theirs.decode(theirs.encode(x)))
    hand_codes, hand_output = by_hand(theirs, x)
    assert 0 < (hand_codes > 0).mean() < 0.9
    np.testing.assert_allclose(dense(codes), hand_codes, atol=1e-5)
    np.testing.assert_allclose(output, hand_output, atol=1e-4)
    np.testing.assert_array_equal(mine.decoder, theirs.W_dec.detach())
    assert mine.decoder.shape == (40, 32)
    assert (mine.info.hook, mine.info.output.hook) == (READS, HIDDEN)
    assert (mine.info.d_in, mine.info.d_out) == (24, 32)
    assert mine.info.hooks == [READS]
    assert mine.info.ingested_hooks == [READS, HIDDEN]


@pytest.mark.parametrize("kind", TRANSCODERS)
def test_a_folder_is_read_as_the_object_in_memory(kind, tmp_path):
    theirs = transcoder(kind, d_out=32, writes=HIDDEN)
    theirs.save_model(tmp_path / "t")
    stored, memory = open_sae(tmp_path / "t"), open_sae(theirs, name="t")
    assert (stored.info.weights, stored.info.output) == (memory.info.weights, memory.info.output)
    x = vectors()
    torch.testing.assert_close(
        stored.codes_and_reconstruction(x)[3], memory.codes_and_reconstruction(x)[3]
    )


@pytest.mark.parametrize(
    "name", ["llama", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "gpt_neox_serial", "phi"]
)
def test_mlp_hook_in_is_what_the_mlp_reads(name):
    model = random_model(name)
    ours = open_model(model, tokenizer=small_tokenizer())
    ids, mask = random_ids()
    read = ours.run(ids, mask, hooks=[READS, WRITES])
    block = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))[1]
    with torch.inference_mode():
        written = block.mlp(read[READS])
        if name == "gemma2":
            written = block.post_feedforward_layernorm(written)
    torch.testing.assert_close(written, read[WRITES], rtol=1e-4, atol=1e-5)
    assert ours.site(READS).width == 24


@pytest.fixture(scope="module")
def atlas_path(tmp_path_factory):
    """Return an atlas of two transcoders, an exact skip transcoder, and SAEs at both sites."""
    folder = tmp_path_factory.mktemp("transcoders")
    model = random_model("llama")
    model.save_pretrained(folder / "model")
    small_tokenizer(vocabulary=80).save_pretrained(folder / "model")
    exact = transcoder("skip_transcoder", d_in=40, reads=HIDDEN, d_sae=8)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.zero_()
        exact.W_enc.normal_()
        exact.W_skip.copy_(model.model.layers[1].mlp.down_proj.weight)
    made = {
        "t": transcoder("skip_transcoder"),
        "hidden": transcoder("jumprelu_transcoder", d_out=40, writes=HIDDEN, seed=1),
        "exact": exact,
        "in": random_sae("topk", metadata=metadata(hook_name=READS)),
        "out": random_sae("topk", seed=5, metadata=metadata(hook_name=WRITES)),
    }
    for name, one in made.items():
        one.save_model(folder / name)
    saes = [open_sae(folder / name, name=name) for name in made]
    ingest(
        folder / "a.atlas",
        saes=saes,
        text=texts(20),
        model=str(folder / "model"),
        settings=Settings(context=16),
    )
    return folder / "a.atlas"


def read_sites(path, hooks):
    """Return the activations of the ingested text at some sites, float64, in the order of the codes."""
    from atlas.disk.folder import Folder
    from ingest.sae.record import open_sae_record
    from ingest.text.corpus import Corpus
    from ingest.text.tokenization import tokenize

    folder = Folder.open(path)
    record = open_sae_record(folder.sound(), "t")
    model = open_model(str(path.parent / "model"), hooks=hooks)
    corpus = Corpus.open(folder.corpus_file)
    found = {hook: [] for hook in hooks}
    for number in range(len(corpus)):
        text = tokenize(
            corpus.block(number),
            model.tokenizer,
            settings=record.contexts,
            batch_tokens=record.batch_tokens,
        )
        rows = np.concatenate([batch.rows for batch in text.batches])
        for hook in hooks:
            parts = []
            for batch in text.batches:
                ids, mask, counted = map(
                    torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep)
                )
                parts.append(model.run(ids, mask, hooks=[hook])[hook][counted].double().numpy())
            found[hook].append(np.concatenate(parts)[np.argsort(rows)])
    return {hook: np.concatenate(parts) for hook, parts in found.items()}


@pytest.mark.parametrize(
    ("name", "reads", "writes"), [("t", READS, WRITES), ("hidden", READS, HIDDEN)]
)
def test_an_ingest_stores_its_features_and_the_fidelity_at_its_output(
    name, reads, writes, atlas_path
):
    with Atlas.open(atlas_path) as atlas:
        view = atlas[name]
        row, codes, decoder = view.properties, view.codes.toarray(), view.decoder
        frequency = atlas.features(name)["frequency"].to_numpy()
    assert (row["hook"], row["output_hook"]) == (reads, writes)
    activations = read_sites(atlas_path, [reads, writes])
    theirs = sae_lens.SAE.load_from_disk(atlas_path.parent / name)
    expected, output = by_hand(theirs, torch.tensor(activations[reads]))
    assert row["d_out"] == activations[writes].shape[1] == decoder.shape[1]
    near = np.abs(expected) < 1e-5  # rounding may decide whether a feature is active
    np.testing.assert_allclose(np.where(near, 0, codes), np.where(near, 0, expected), atol=1e-4)
    np.testing.assert_allclose(frequency, (codes > 0).mean(0))
    target = activations[writes]
    fvu = ((target - output) ** 2).sum() / ((target - target.mean(0)) ** 2).sum()
    assert row["fvu"] == pytest.approx(fvu, rel=1e-4)
    assert fvu > 0.5  # of random weights


def test_a_transcoder_equal_to_the_layer_has_fvu_0(atlas_path):
    with Atlas.open(atlas_path) as atlas:
        assert atlas["exact"].properties["fvu"] < 1e-9


def test_decoder_vectors_are_compared_in_the_space_of_the_output_site_only(atlas_path):
    weights = {
        name: {
            key: value.detach().double().numpy()
            for key, value in sae_lens.SAE.load_from_disk(atlas_path.parent / name)
            .state_dict()
            .items()
        }
        for name in ("t", "hidden", "in", "out")
    }

    def cosine(one, other, names, key):
        a, b = (
            weights[name][key][i] if key == "W_dec" else weights[name][key][:, i]
            for name, i in zip((one, other), names, strict=True)
        )
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    with Atlas.open(atlas_path) as atlas:
        edges = atlas.table("MATCHES").to_pylist()
    seen = set()
    for edge in edges:
        (a, i), (b, j) = (edge[end].split("/") for end in ("source", "target"))
        pair = frozenset((a, b))
        if "exact" in pair:
            continue
        seen.add(pair)
        same_output, same_input = pair == {"t", "out"}, pair <= {"t", "hidden", "in"}
        for column, key, comparable in (
            ("decoder_cosine", "W_dec", same_output),
            ("encoder_cosine", "W_enc", same_input),
        ):
            if comparable:
                expected = cosine(a, b, (int(i), int(j)), key)
                assert edge[column] == pytest.approx(expected, abs=1e-6), (pair, column)
            else:
                assert edge[column] is None, (pair, column)
    assert {frozenset(p) for p in (("t", "out"), ("t", "in"), ("t", "hidden"))} <= seen


def test_one_space_is_that_of_the_decoder():
    def row(hook, output=None, model="m"):
        return {"model": model, "hook": hook, "output_hook": output}

    assert one_space(row(READS, WRITES), row(WRITES))
    assert one_space(row(READS, WRITES), row("blocks.0.hook_resid_post"))  # one residual stream
    assert not one_space(row(READS, WRITES), row(READS))
    assert not one_space(row(READS, HIDDEN), row(READS, WRITES))
    assert not one_space(row(READS, WRITES), row(WRITES, model="other"))
    assert one_space({"model": "m", "hook": WRITES}, row(WRITES))  # of an older atlas


def test_edits_and_comparisons_with_its_input_are_refused(atlas_path):
    one = open_sae(atlas_path.parent / "t", name="t")
    with pytest.raises(
        Mismatch, match=f"t is a transcoder: it reads {READS} and predicts {WRITES}"
    ):
        one.rows(torch.arange(2))
    with (
        pytest.raises(Mismatch, match="transcoder"),
        intervene(str(atlas_path.parent / "model"), {"t/1": 0}, saes=[one]),
    ):
        pass
    with pytest.raises(Mismatch, match="An edit of its features needs an SAE"):
        measure_logits(atlas_path, ["t"])
    with pytest.raises(Mismatch, match="decoder vectors of in are at"):
        find_splits(atlas_path, ["in", "t"])


@pytest.mark.parametrize("kind", ["effects", "logits", "concepts"])
def test_studies_of_sites_skip_transcoders_unless_they_are_named(kind, atlas_path, tmp_path):
    study = {
        "effects": EffectStudy(EffectSettings()),
        "logits": LogitStudy(LogitSettings(features=0)),
        "concepts": ConceptStudy(ConceptSettings(), read_words("gender")),
    }[kind]
    folder, progress = Folder.open(atlas_path), RecordingProgress()
    at = TaskContext(folder, folder.sound(), tmp_path, progress)
    assert {task.saes[0] for task in study.tasks(at, None)} == {"in", "out"}
    skipped = [f"Skipped {name}: it is a transcoder." for name in ("exact", "hidden", "t")]
    assert [message for message in progress.messages if "transcoder" in message] == skipped
    assert [task.saes[0] for task in study.tasks(at, ["t"])] == ["t"]


def test_logits_of_an_atlas_with_transcoders_are_computed_for_its_saes_only(atlas_path):
    found = measure_logits(atlas_path, "all", settings=LogitSettings(features=0))
    assert sorted(one.summary["sae"] for one in found) == ["in", "out"]


def test_an_atlas_of_transcoders_alone_is_one_message(atlas_path, tmp_path):
    sae = open_sae(atlas_path.parent / "t", name="t")
    model = str(atlas_path.parent / "model")
    path = tmp_path / "a.atlas"
    ingest(path, saes=[sae], text=texts(3), model=model, settings=Settings(context=16))
    with pytest.raises(BadInput, match="logits needs an SAE that reconstructs"):
        measure_logits(path, "all", settings=LogitSettings(features=0))


def test_spectra_compare_the_decoder_with_the_matrix_that_writes_to_its_output(atlas_path):
    (found,) = measure_spectra(atlas_path, ["t"])
    matrices = {row["matrix"]: row for row in found.table("matrices").to_pylist()}
    assert matrices["decoder"]["columns"] == 24
    assert "down_proj" in matrices["model"]["source"]


def test_spectra_of_a_transcoder_are_compared_at_the_site_of_the_matrix(atlas_path):
    measure_spectra(atlas_path, ["t", "in", "out"], settings=SpectrumSettings(draws=20))
    relations = {
        matrix: {
            (row["one"], row["other"]): row["relation"]
            for row in compare_spectra(atlas_path, matrix=matrix)
        }
        for matrix in ("decoder", "encoder")
    }
    assert relations["decoder"][("out", "t")] == "site"
    assert relations["decoder"][("in", "t")] == "model"
    assert relations["encoder"][("out", "t")] == "model"
    assert relations["encoder"][("in", "t")] == "site"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, _: c["metadata"].pop("hook_name_out"), "hook_name_out"),
        (lambda c, _: c.update(d_out=7), "W_dec has shape"),
        (lambda c, w: w.update(W_skip=torch.zeros(3, 24)), "W_skip has shape"),
        (lambda c, _: c.update(d_out="wide"), "d_out"),
        (lambda c, _: c["metadata"].update(hook_name_out=3), "hook_name_out"),
    ],
)
def test_a_damaged_folder_is_one_message(change, message, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "t"
    transcoder("skip_transcoder").save_model(folder)
    config = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae_weights.safetensors")
    change(config, weights)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(BadInput, match=message):
        open_sae(folder)


def test_a_transcoder_of_another_model_or_of_centred_weights_is_refused():
    model = open_model(random_model("llama"), tokenizer=small_tokenizer())
    wide = open_sae(transcoder("transcoder", d_out=48), name="t")
    with pytest.raises(Mismatch, match="predicts vectors of 48 dimensions"):
        check_fit(wide.info, model)
    centred = transcoder("transcoder")
    centred.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    with pytest.raises(Mismatch, match="center_writing_weights"):
        open_sae(centred, name="t")


@pytest.mark.parametrize(
    ("hook", "module", "expected"),
    [
        ("blocks.1.hook_mlp_in", "model.layers.1.pre_feedforward_layernorm.output", READS),
        ("blocks.1.hook_mlp_in", None, "blocks.1.hook_mlp_in"),
        (WRITES, "model.layers.1.post_feedforward_layernorm.output", WRITES),
    ],
)
def test_hook_mlp_in_depends_on_the_module_named_in_transformers(hook, module, expected):
    one = transcoder("transcoder", reads=hook, hf_hook_name=module)
    assert open_sae(one, name="t").info.hook == expected


@pytest.mark.parametrize(
    ("norm", "advice"),
    [
        ("blocks.1.ln2", r"pass hook='blocks\.1\.mlp\.hook_in' to ingest\.open_sae"),
        ("blocks.1.ln1", r"on another site, pass hook= to ingest\.open_sae"),
        ("ln_final", r"on another site, pass hook= to ingest\.open_sae"),
    ],
)
def test_a_norm_before_its_gain_is_refused_with_the_reason(norm, advice):
    one = transcoder("jumprelu_transcoder", reads=f"{norm}.hook_normalized")
    with pytest.raises(Mismatch, match=rf"SAE 't' cannot be used .*before its gain.*{advice}"):
        open_sae(one, name="t")
    assert open_sae(one, name="t", hook=READS).info.hook == READS


def test_transcoders_are_ingested_in_equal_shards(tmp_path, atlas_path):
    """The fidelity does not depend on the division of the text."""
    saes = [open_sae(atlas_path.parent / "t", name="t")]
    ingest(
        tmp_path / "b.atlas",
        saes=saes,
        text=texts(20),
        model=str(atlas_path.parent / "model"),
        settings=Settings(context=16, shard_blocks=1, batch_tokens=64),
        match=None,
    )
    with Atlas.open(tmp_path / "b.atlas") as one, Atlas.open(atlas_path) as other:
        assert one["t"].properties["fvu"] == pytest.approx(other["t"].properties["fvu"], rel=1e-5)
