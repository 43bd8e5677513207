"""Direct logits against autograd, TransformerLens and a formula by hand; models that have none."""

import numpy as np
import pytest
import torch
from random_models import FAMILIES, random_model, small_tokenizer
from transformer_lens_models import hooked

from atlas.errors import Mismatch
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel
from ingest.model.unembedding import Unembedding, stream_rows, unembedding


def final_norm(causal):
    base = causal.base_model
    return next(
        getattr(base, n)
        for n in ("norm", "ln_f", "final_layer_norm", "final_layernorm")
        if hasattr(base, n)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_direct_logits_are_the_derivative_of_the_head_at_a_stream_of_scale_1(family):
    causal = random_model(family)
    norm, head = final_norm(causal), causal.get_output_embeddings()
    torch.manual_seed(1)
    centres = isinstance(norm, torch.nn.LayerNorm)
    x, d = torch.randn(2, 24, dtype=torch.float64)
    if centres:
        x = x - x.mean()
    # Orthogonal to the direction, so that the scale does not change along it.
    along = d - d.mean() if centres else d
    x = x - along * (x @ along) / (along @ along)
    x = x * 1000.0  # so that the norm's epsilon is nothing
    scale = x.square().mean().sqrt()

    def logits(x):
        return head(norm(x.float())).double()

    _, derivative = torch.func.jvp(logits, (x,), (d * scale,))
    wanted = derivative - derivative.mean()
    found = unembedding(NextTokenModel("m", causal)).direct_logits(d.numpy()[None])
    np.testing.assert_allclose(found[0], wanted.detach().numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "phi"])
def test_direct_logits_equal_those_of_transformer_lens_with_folded_weights(family):
    causal = random_model(family)
    lens = hooked(causal)
    lens.process_weights_(fold_ln=True, center_writing_weights=False, center_unembed=True)
    rows = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    wanted = torch.from_numpy(rows) @ lens.W_U
    found = unembedding(NextTokenModel("m", causal)).direct_logits(rows)
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_gemma_gain_is_one_plus_its_weight_and_the_cap_is_reported():
    causal = random_model("gemma2")
    found = unembedding(NextTokenModel("m", causal))
    folded = causal.lm_head.weight * (1.0 + causal.model.norm.weight)
    torch.testing.assert_close(found.matrix, (folded - folded.mean(0)).detach())
    assert found.softcap == causal.config.final_logit_softcapping == 30.0


def test_llama_gain_is_its_weight_and_dimensions_are_not_centred():
    causal = random_model("llama")
    folded = causal.lm_head.weight * causal.model.norm.weight
    found = unembedding(NextTokenModel("m", causal))
    torch.testing.assert_close(found.matrix, (folded - folded.mean(0)).detach())


def test_a_constant_vector_has_no_direct_logits_behind_a_layer_norm():
    found = unembedding(NextTokenModel("m", random_model("gpt2")))
    np.testing.assert_allclose(found.direct_logits(np.ones((1, 24))), 0.0, atol=1e-5)


def test_no_rows_give_no_logits():
    one = Unembedding(torch.eye(3), None)
    assert one.direct_logits(np.zeros((0, 3))).shape == (0, 3)


def test_a_model_whose_head_has_another_form_is_refused(monkeypatch):
    causal = random_model("llama")
    head = causal.lm_head.forward
    monkeypatch.setattr(causal.lm_head, "forward", lambda x: head(x.square()))
    with pytest.raises(Mismatch, match=r"not those of a final norm and a linear head.*differ by"):
        unembedding(NextTokenModel("m", causal))
    causal = random_model("llama")
    del causal.model.norm
    with pytest.raises(Mismatch, match="its final norm or its head was not found"):
        unembedding(NextTokenModel("m", causal))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi"])
@pytest.mark.parametrize("rest", ["mlp.hook_post", "attn.hook_z"])
def test_rows_inside_a_block_go_through_its_output_matrix(family, rest):
    causal = random_model(family)
    model = open_model(causal, name="m", tokenizer=small_tokenizer())
    width = model.site(f"blocks.1.{rest}").width
    row = np.random.default_rng(0).normal(size=(1, width))
    lens = hooked(causal)
    matrix = lens.W_out[1] if rest == "mlp.hook_post" else lens.W_O[1].flatten(0, 1)
    wanted = torch.from_numpy(row).float() @ matrix
    found = stream_rows(model, f"blocks.1.{rest}", row)
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
    same = stream_rows(model, "blocks.1.hook_resid_post", np.ones((2, 24)))
    np.testing.assert_array_equal(same, np.ones((2, 24)))


def test_a_site_before_a_norm_has_no_direct_logits():
    model = open_model(random_model("gemma2"), name="m", tokenizer=small_tokenizer())
    with pytest.raises(
        Mismatch, match=r"normalises the output.*Use an SAE at blocks.1.hook_mlp_out"
    ):
        stream_rows(model, "blocks.1.mlp.hook_post", np.ones((1, 40)))
