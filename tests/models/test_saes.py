"""SAEs: codes compared with dense arithmetic, use of the metadata, and refused input."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sae_lens
import torch
from random_models import random_ids, random_model, small_tokenizer
from random_saes import HOOK, KINDS, dense, metadata, random_sae, vectors
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file
from transformer_lens_models import hooked

from atlas.errors import BadActivations, BadInput, Mismatch, Missing, UnknownName
from ingest.model.language_model import open_model
from ingest.sae import autoencoder
from ingest.sae.autoencoder import Autoencoder, check_fit, neuronpedia_url, open_sae
from ingest.sae.info import slug
from ingest.sae.registry.names import PATTERNS, demo_names, short_names
from ingest.sae.sparse_codes import entries_by_numpy, entries_by_torch


def by_hand(sae: Any, x: torch.Tensor) -> np.ndarray:
    """Compute dense codes in float64 without sae-lens."""
    p = {name: values.detach().double() for name, values in sae.named_parameters()}
    x = x.double() - p["b_dec"] * sae.cfg.apply_b_dec_to_input
    kind = sae.cfg.architecture()
    before = x @ p["W_enc"]
    if kind == "gated":
        magnitude = x @ (p["W_enc"] * p["r_mag"].exp()) + p["b_mag"]
        codes = magnitude.clamp(min=0) * (before + p["b_gate"] > 0)
    else:
        before = before + p["b_enc"]
        codes = before.clamp(min=0)
        if kind == "jumprelu":
            codes = codes * (before > p["threshold"])
        if kind == "topk":
            kth = before.sort(dim=1, descending=True).values[:, sae.cfg.k - 1 : sae.cfg.k]
            codes = codes * (before >= kth)
    return codes.numpy()


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize(
    ("d_sae", "rows"),
    [
        (2048, 512),  # 16 MiB of working memory
        (16_384, 256),  # no fewer tokens, since each chunk reads all weights
        (131_072, 128),  # 256 MiB, the limit of working memory
    ],
)
def test_chunks_on_a_cpu_are_small(d_sae: int, rows: int) -> None:
    sae = open_sae(random_sae("topk"))
    sae.info = replace(sae.info, d_sae=d_sae)
    assert sae._chunk_rows() == rows


@pytest.mark.parametrize("tokens", [1025, 1026, 1027])
def test_no_chunk_has_few_tokens(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of one to three rows have other last bits than those of many rows."""
    theirs, x, sizes = random_sae("topk"), vectors(tokens), []
    sae = open_sae(theirs)
    encode = sae.sae.encode
    monkeypatch.setattr(sae.sae, "encode", lambda x: (sizes.append(len(x)), encode(x))[1])
    codes = []
    for rows in (1024, tokens):
        monkeypatch.setattr(sae, "_chunk_rows", lambda rows=rows: rows)
        codes.append(dense(sae.codes(x)))
    assert sizes == [tokens - tokens // 2, tokens // 2, tokens]
    np.testing.assert_allclose(*codes, rtol=1e-5)


@pytest.mark.parametrize("sparse", [0, 10**9], ids=["sparse", "dense"])
@pytest.mark.parametrize("chunk", [1, 7, 50, 10_000])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_equal_dense_arithmetic(
    kind: str, chunk: int, sparse: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "CHUNK_BYTES", 16 * 40 * chunk)
    monkeypatch.setattr(autoencoder, "SPARSE", sparse)
    theirs = random_sae(kind, seed=chunk)
    sae, x = open_sae(theirs), vectors()
    expected = by_hand(theirs, x)
    assert 0 < (expected > 0).mean() < 0.9
    np.testing.assert_allclose(dense(sae.codes(x)), expected, atol=1e-5)
    np.testing.assert_allclose(sae.encode(x), expected, atol=1e-5)
    *codes, again = sae.codes_and_reconstruction(x)
    np.testing.assert_array_equal(dense(codes), dense(sae.codes(x)))
    decoded = expected @ theirs.W_dec.detach().double().numpy() + theirs.b_dec.detach().numpy()
    np.testing.assert_allclose(again, decoded, atol=1e-4)
    np.testing.assert_allclose(sae.decode(sae.encode(x)), decoded, atol=1e-4)
    assert again.dtype == torch.float32


@pytest.mark.parametrize("sparse", [0, 10**9], ids=["sparse", "dense"])
@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_few_rows(kind: str, rows: int, sparse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "SPARSE", sparse)
    theirs = random_sae(kind)
    *codes, again = open_sae(theirs).codes_and_reconstruction(vectors(rows))
    np.testing.assert_allclose(dense(codes), by_hand(theirs, vectors(rows)), atol=1e-5)
    assert again.shape == (rows, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_active_features(kind: str) -> None:
    theirs = random_sae(kind)
    with torch.no_grad():
        for name in ("b_enc", "b_gate", "b_mag"):
            if getattr(theirs, name, None) is not None:
                getattr(theirs, name).fill_(-1.0)
    x = vectors()
    x[::2] = theirs.b_dec.detach()  # these rows are 0 after subtraction of the bias
    codes = dense(open_sae(theirs).codes(x))
    assert (codes[::2] == 0).all()
    assert (codes[1::2] > 0).any()
    x[:] = theirs.b_dec.detach()
    indptr, indices, _ = open_sae(theirs).codes(x)
    assert indptr.tolist() == [0] * 51
    assert len(indices) == 0


def test_jumprelu_threshold_is_applied() -> None:
    """The original study encoded Gemma Scope with a plain ReLU: L0 of 1,955 instead of 71."""
    theirs = random_sae("jumprelu")
    x = vectors()
    with torch.no_grad():
        before = (x - theirs.b_dec) @ theirs.W_enc + theirs.b_enc
        relu = before.clamp(min=0)
        expected = relu * (before > theirs.threshold)
    codes = dense(open_sae(theirs).codes(x))
    np.testing.assert_allclose(codes, expected.numpy(), atol=1e-6)
    assert (codes > 0).sum() < (relu > 0).sum()


def test_activation_at_its_threshold_is_not_active() -> None:
    theirs = random_sae("jumprelu", d_in=1, d_sae=3, apply_b_dec_to_input=False)
    with torch.no_grad():
        theirs.W_enc.fill_(1.0)
        theirs.b_enc.zero_()
        theirs.threshold.copy_(torch.tensor([0.5, 1.0, 0.0]))
    codes = dense(open_sae(theirs).codes(torch.tensor([[1.0], [0.0], [-1.0]])), 3)
    assert codes.tolist() == [[1.0, 0.0, 1.0], [0.0] * 3, [0.0] * 3]


def test_topk_holds_fewer_where_fewer_are_above_zero() -> None:
    theirs = random_sae("topk", k=30)
    counts = np.diff(open_sae(theirs).codes(vectors()).indptr)
    assert counts.max() < 30  # about half of 40 are above 0


def test_active_features_by_numpy_and_by_torch_are_equal() -> None:
    for share in (0.0, 0.1, 1.0):
        z = vectors() * (vectors(seed=4).sigmoid() < share)
        one, other = entries_by_numpy(z), entries_by_torch(z)
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_any_number_format_is_encoded_in_float32() -> None:
    sae, x = open_sae(random_sae("standard")), vectors()
    np.testing.assert_array_equal(
        dense(sae.codes(x.bfloat16())), dense(sae.codes(x.bfloat16().float()))
    )
    np.testing.assert_array_equal(dense(sae.codes(x.double())), dense(sae.codes(x)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_from_the_model_is_reported(bad: float) -> None:
    sae, x = open_sae(random_sae("topk"), name="mine"), vectors()
    x[30, 4] = bad
    with pytest.raises(BadActivations, match=rf"NaN or Inf came out of the model at {HOOK}.* mine"):
        sae.codes(x)
    with pytest.raises(BadActivations):
        sae.codes_and_reconstruction(x)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_the_weights_is_reported(kind: str) -> None:
    opened = open_sae(random_sae(kind))
    with torch.no_grad():
        opened.sae.W_enc[3] = float("nan")
    with pytest.raises(BadActivations, match="its weights are damaged"):
        opened.codes(vectors())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_sae_with_a_parameter_that_is_not_finite_is_refused(
    kind: str, bad: float, tmp_path: Path
) -> None:
    for name, tensor in random_sae(kind).named_parameters():
        at = tuple(
            size - 1 for size in tensor.shape
        )  # the last value, of a feature that may be dead
        theirs = random_sae(kind)
        with torch.no_grad():
            theirs.get_parameter(name)[at] = bad
        index = ", ".join(map(str, at))
        message = (
            re.escape(f"is damaged: {name}[{index}] is {bad}, ") + f".*; 1 of .* of {name} are"
        )
        with pytest.raises(BadInput, match=f"The SAE in memory {message}"):
            open_sae(theirs)
        folder = tmp_path / name
        theirs.save_model(folder)
        with pytest.raises(BadInput, match=f"The SAE '{name}' {message}"):
            open_sae(folder)


def test_finite_parameters_whose_sum_overflows_are_accepted() -> None:
    theirs = random_sae("standard")
    with torch.no_grad():
        theirs.W_dec[:2, 0] = 3e38
    assert open_sae(theirs).decoder is not None


def test_input_of_another_shape_is_refused() -> None:
    sae = open_sae(random_sae("standard"), name="mine")
    for x in (vectors(d_in=25), vectors()[0], vectors()[None]):
        with pytest.raises(Mismatch, match=r"mine was passed .* \(tokens, 24\) was expected"):
            sae.codes(x)


@pytest.mark.parametrize("how", ["layer_norm", "constant_norm_rescale"])
def test_normalisation_of_each_vector_is_undone(how: str) -> None:
    theirs = random_sae("standard", normalize_activations=how)
    x = vectors() * 7 + 2
    with torch.no_grad():
        expected = theirs(x)
    *_, again = open_sae(theirs).codes_and_reconstruction(x)
    torch.testing.assert_close(again, expected)


def test_centred_residuals_equal_transformer_lens() -> None:
    """gpt2-small-res-jb was trained on a stream without its mean over dimensions."""
    model = random_model("gpt2")
    lens, hook = hooked(model), "blocks.2.hook_resid_pre"
    lens.load_and_process_state_dict(
        lens.state_dict(), fold_ln=False, center_unembed=False, fold_value_biases=False
    )
    about = metadata(hook_name=hook, model_from_pretrained_kwargs={"center_writing_weights": True})
    with pytest.warns(UserWarning, match="model_from_pretrained_kwargs"):
        theirs = random_sae("standard", metadata=about)
    ids, _ = random_ids(length=16)
    with torch.no_grad():
        centred = lens.run_with_cache(ids)[1][hook].flatten(0, 1)
    ours = open_model(model, tokenizer=small_tokenizer())
    x = ours.run(ids, torch.ones_like(ids), hooks=[hook])[hook].flatten(0, 1)
    assert x.mean(1).abs().max() > 0.1
    sae = open_sae(theirs)
    *codes, again = sae.codes_and_reconstruction(x)
    np.testing.assert_allclose(dense(codes), by_hand(theirs, centred), atol=1e-3)
    with torch.no_grad():
        difference = centred - theirs(centred)
    torch.testing.assert_close(x - again, difference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("hook", ["blocks.0.mlp.hook_post", "blocks.0.attn.hook_z"])
def test_inside_of_attention_and_mlp_is_not_centred(hook: str) -> None:
    about = metadata(hook_name=hook, model_from_pretrained_kwargs={"center_writing_weights": True})
    with pytest.warns(UserWarning, match="model_from_pretrained_kwargs"):
        theirs = random_sae("standard", metadata=about)
    np.testing.assert_allclose(
        dense(open_sae(theirs).codes(vectors())), by_hand(theirs, vectors()), atol=1e-5
    )


def test_attention_heads_are_read_flat() -> None:
    about = metadata(hook_name="blocks.0.attn.hook_z")
    theirs = random_sae("standard", reshape_activations="hook_z", metadata=about)
    x = vectors()
    with torch.no_grad():
        expected = theirs.encode(x.unflatten(1, (4, 6)))
    *codes, again = open_sae(theirs).codes_and_reconstruction(x)
    np.testing.assert_allclose(dense(codes), expected.numpy(), atol=1e-6)
    assert again.shape == (50, 24)


# ---------------------------------------------------------------- objects and folders


def test_object_in_memory_is_copied_and_not_changed() -> None:
    theirs = random_sae("jumprelu")
    sae = open_sae(theirs)
    before = dense(sae.codes(vectors()))
    assert all(p.requires_grad for p in theirs.parameters())
    assert not any(p.requires_grad for p in sae.sae.parameters())
    with torch.no_grad():
        theirs.W_enc.zero_()
    np.testing.assert_array_equal(dense(sae.codes(vectors())), before)
    assert (sae.info.source, sae.info.release, sae.info.sae_id) == ("memory", None, None)
    assert sae.info.name == f"jumprelu-{sae.info.weights[:8]}"
    assert open_sae(theirs, name="mine.v2_0").info.name == "mine.v2_0"


@pytest.mark.parametrize("kind", KINDS)
def test_folder_and_object_give_the_same_codes(kind: str, tmp_path: Path) -> None:
    theirs = random_sae(kind, metadata=metadata(seed=7, context_size=32, prepend_bos=False))
    theirs.save_model(tmp_path / "My SAE")
    saved, held = open_sae(tmp_path / "My SAE"), open_sae(theirs)
    assert saved.info.weights == held.info.weights
    assert (saved.info.name, saved.info.source) == ("my-sae", str(tmp_path / "My SAE"))
    assert (saved.info.architecture, saved.info.d_in, saved.info.d_sae) == (kind, 24, 40)
    assert (saved.info.seed, saved.info.context_size, saved.info.prepend_bos) == (7, 32, False)
    assert (saved.info.model, saved.info.hook, saved.info.dtype) == ("small", HOOK, "float32")
    np.testing.assert_array_equal(
        dense(saved.codes(vectors())), dense(open_sae(str(tmp_path / "My SAE")).codes(vectors()))
    )
    np.testing.assert_array_equal(dense(saved.codes(vectors())), dense(held.codes(vectors())))


def test_weights_distinguish_parameters_and_settings() -> None:
    one = open_sae(random_sae("topk")).info.weights
    assert one == open_sae(random_sae("topk", metadata=metadata(seed=3))).info.weights
    others = [random_sae("topk", seed=1), random_sae("topk", k=6), random_sae("standard")]
    assert len({one, *(open_sae(other).info.weights for other in others)}) == 4


def test_training_sae_is_converted_to_its_inference_form() -> None:
    torch.manual_seed(0)
    config = sae_lens.BatchTopKTrainingSAEConfig(d_in=24, d_sae=40, k=5, metadata=metadata())
    training = sae_lens.BatchTopKTrainingSAE(config)
    training.topk_threshold.fill_(0.04)
    training.W_enc.data.mul_(10)
    sae = open_sae(training)
    assert sae.info.architecture == "jumprelu"
    codes = dense(sae.codes(vectors()))
    alone = dense(sae.codes(vectors()[:1]))  # batch top-k itself would depend on the batch
    np.testing.assert_allclose(codes[:1], alone, atol=1e-6)
    assert codes[codes > 0].min() > 0.04


def test_metadata_without_a_version_is_retained(tmp_path: Path) -> None:
    """sae-lens drops it silently."""
    random_sae("topk", metadata=metadata(context_size=64)).save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    del config["metadata"]["sae_lens_version"]
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    assert sae_lens.SAE.load_from_disk(tmp_path).cfg.metadata.hook_name is None
    info = open_sae(tmp_path).info
    assert (info.hook, info.model, info.context_size) == (HOOK, "small", 64)


def test_flat_configuration_of_old_releases_is_read(tmp_path: Path) -> None:
    theirs = random_sae("standard")
    theirs.save_model(tmp_path)
    old = {
        "d_in": 24,
        "d_sae": 40,
        "dtype": "float32",
        "device": "cpu",
        "model_name": "gpt2-small",
        "hook_point": "blocks.3.hook_resid_pre",
        "prepend_bos": False,
        "context_size": 128,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    sae = open_sae(tmp_path, name="old")
    assert (sae.info.hook, sae.info.model) == ("blocks.3.hook_resid_pre", "gpt2-small")
    assert (sae.info.architecture, sae.info.prepend_bos) == ("standard", False)
    np.testing.assert_allclose(dense(sae.codes(vectors())), by_hand(theirs, vectors()), atol=1e-5)


def test_scale_of_a_checkpoint_is_folded_in(tmp_path: Path) -> None:
    theirs = random_sae("jumprelu", normalize_activations="expected_average_only_in")
    theirs.save_model(tmp_path)
    with pytest.raises(BadInput, match=r"not in its files \(expected_average_only_in\)"):
        open_sae(tmp_path)
    with pytest.raises(BadInput, match="The SAE in memory expects its input normalised"):
        open_sae(theirs)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 2.5}')
    sae = open_sae(tmp_path, name="scaled")
    *codes, again = sae.codes_and_reconstruction(vectors())
    expected = by_hand(theirs, vectors() * 2.5)
    np.testing.assert_allclose(dense(codes), expected, atol=1e-5)
    decoded = expected @ theirs.W_dec.detach().double().numpy() + theirs.b_dec.detach().numpy()
    np.testing.assert_allclose(again, decoded / 2.5, atol=1e-5)


def test_missing_hook_name_is_refused_unless_passed(tmp_path: Path) -> None:
    random_sae("topk", metadata=SAEMetadata()).save_model(tmp_path / "bare")
    with pytest.raises(
        BadInput, match=r"'bare' does not name the site it reads\. Add hook_name.*hook="
    ):
        open_sae(tmp_path / "bare")
    info = open_sae(tmp_path / "bare", hook=HOOK, model="small").info
    assert (info.hook, info.model, info.prepend_bos, info.seed) == (HOOK, "small", True, None)


@pytest.mark.parametrize("name", ["My SAE", "a/b", "a:b", "-a", "é"])
def test_names_are_slugs(name: str) -> None:
    with pytest.raises(BadInput, match="is not a valid name of an SAE: use lower-case"):
        open_sae(random_sae("topk"), name=name)


def test_folders_that_hold_no_sae_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no folder"):
        open_sae(tmp_path / "absent")
    with pytest.raises(BadInput, match=r"There is no folder '\./absent'"):
        open_sae("./absent")
    with pytest.raises(BadInput, match=r"holds no cfg\.json"):
        open_sae(tmp_path)
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(BadInput, match="is not valid JSON"):
        open_sae(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(BadInput, match="expected a JSON object"):
        open_sae(tmp_path)
    (tmp_path / "cfg.json").write_text('{"architecture": "batchtopk"}')
    with pytest.raises(BadInput, match=r"'batchtopk'.* save_inference_model"):
        open_sae(tmp_path)
    random_sae("topk").save_model(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match="it is damaged, or not a safetensors file"):
        open_sae(tmp_path)
    (tmp_path / "sae_weights.safetensors").unlink()
    with pytest.raises(BadInput, match=r"holds no sae_weights\.safetensors"):
        open_sae(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    random_sae("topk").save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text()) | {"d_sae": 41}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"W_dec has shape \(40, 24\); expected \(41, 24\)"):
        open_sae(tmp_path)


def test_unsupported_architectures_are_refused() -> None:
    config = AbsTopKSAEConfig(d_in=24, d_sae=40, k=3, metadata=metadata())
    with pytest.raises(Mismatch, match="abstopk: its activations may be negative"):
        open_sae(AbsTopKSAE(config))
    with pytest.raises(BadInput, match="A dict was passed as an SAE"):
        open_sae({})


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_legacy_scaling_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    random_sae("topk").save_model(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    state = load_file(weights)
    factor = torch.ones_like(state["b_enc"])
    factor[1] = 1.5
    save_file(state | {name: factor}, weights)
    with pytest.raises(Mismatch, match=rf"{name} differs from 1 for 1 of .*legacy scaling.*W_dec"):
        open_sae(tmp_path)
    save_file(state | {name: factor[:1].contiguous()}, weights)
    with pytest.raises(BadInput, match=f"{name} has shape"):
        open_sae(tmp_path)


def test_an_error_of_a_state_dict_is_reported_with_its_reason(tmp_path: Path) -> None:
    random_sae("topk").save_model(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    save_file(load_file(weights) | {"surplus": torch.ones(2)}, weights)
    with pytest.raises(BadInput, match=r"(?i)unexpected key.*surplus"):
        open_sae(tmp_path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gemmascope-l26", "gemmascope-l2"),
        ("gemmascope-20", "gemmascope-l20"),
        ("gemma-scope-l20", "gemmascope-l20"),
        ("gpt2-res-8", "gpt2-res-l8"),
    ],
)
def test_unknown_name_is_reported_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"'{name}'.*RELEASE:SAE_ID") as error:
        open_sae(name)
    assert nearest in error.value.nearest


def test_unknown_release_and_id_are_reported_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="gpt2-small-res-jb"):
        open_sae("gpt2-small-resjb:blocks.8.hook_resid_pre")
    with pytest.raises(UnknownName, match=r"SAE of gpt2-small-res-jb.*blocks\.8\.hook_resid_pre"):
        open_sae("gpt2-small-res-jb:blocks.8.resid_pre")


def test_every_short_name_is_in_the_registry() -> None:
    registry = get_pretrained_saes_directory()
    for name, (release, sae_id) in short_names().items():
        assert sae_id in registry[release].saes_map, name
        assert slug(name) == name
    assert short_names()["gemmascope-l20"] == (
        "gemma-scope-2b-pt-res-canonical",
        "layer_20/width_16k/canonical",
    )
    assert {f"gemmascope-l{n}" for n in range(26)} <= short_names().keys()
    assert len(short_names()) == sum(len(list(pattern.layers)) for pattern in PATTERNS)


def test_sae_of_the_hub_is_missing_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in (
        "gpt2-res-l8",
        "gpt2-small-res-jb:blocks.8.hook_resid_pre",
        "somebody/saes:folder/of/one",
        "gemmascope-mlp-l3-65k",
    ):
        with pytest.raises(Missing, match="is not in this machine's hub cache"):
            open_sae(name)


def test_pages_at_neuronpedia() -> None:
    about = metadata(neuronpedia_id="gemma-2-2b/20-gemmascope-res-16k")
    info = open_sae(random_sae("topk", metadata=about)).info
    page = "https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/131"
    assert neuronpedia_url(info, 131) == page
    assert neuronpedia_url(open_sae(random_sae("topk")).info, 131) is None


@pytest.mark.parametrize("name", demo_names())
def test_demo_sae_reads_its_demo_model(name: str) -> None:
    sae = open_sae(name)
    assert (sae.info.name, sae.info.source) == (name, name)
    assert sae.info.model is not None
    model = open_model(sae.info.model, hooks=[sae.info.hook], device="cpu")
    assert (model.name, model.source) == (sae.info.model, sae.info.model)
    check_fit(sae.info, model)
    ids = torch.arange(3, 40)[None]
    x = model.run(ids, torch.ones_like(ids), hooks=[sae.info.hook])[sae.info.hook][0]
    np.testing.assert_allclose(
        dense(sae.codes(x), sae.info.d_sae), sae.sae.encode(x).numpy(), atol=1e-4
    )


# ---------------------------------------------------------------- fitting a model


def fits(d_in: int, hook: str) -> Autoencoder:
    return open_sae(random_sae("topk", d_in=d_in, metadata=metadata(hook_name=hook)), name="mine")


def test_width_is_checked_at_the_site_that_is_read() -> None:
    model = open_model(random_model("qwen3"), name="small", tokenizer=small_tokenizer())
    for d_in, hook in [(24, HOOK), (40, "blocks.0.mlp.hook_post"), (32, "blocks.2.attn.hook_z")]:
        check_fit(fits(d_in, hook).info, model)
    with pytest.raises(
        Mismatch, match=r"mine reads vectors of 40 .* of small has 24\. Its weights"
    ):
        check_fit(fits(40, HOOK).info, model)
    other = replace(fits(40, HOOK).info, model="owner/large")
    with pytest.raises(Mismatch, match=r"Pass the model it was trained on, owner/large\.$"):
        check_fit(other, model)
    for same in ("small", "owner/Small"):
        named = replace(other, model=same)
        remedy = rf"fit the model it names \({same}\); check its cfg\.json\.$"
        with pytest.raises(Mismatch, match=remedy):
            check_fit(named, model)
    with pytest.raises(Mismatch, match=r"Pass the model it was trained on\.$"):
        check_fit(replace(other, model=None), model)
    with pytest.raises(UnknownName, match="blocks 0 to 2"):
        check_fit(fits(24, "blocks.9.hook_resid_post").info, model)
