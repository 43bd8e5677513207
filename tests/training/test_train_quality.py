"""The quality table against a brute force with transformers' own outputs and TransformerLens."""

import numpy as np
import pytest
import small_ingest
import torch
from random_models import random_ids, random_model, small_tokenizer
from recording_progress import RecordingProgress
from sae_lens import StandardSAE, StandardSAEConfig
from small_synthetic import small_synthetic
from small_training import texts
from transformer_lens_models import hooked

from atlas.errors import Mismatch
from ingest import TrainSettings, save_synthetic, train_saes
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel, check_head, open_next_token_model
from ingest.model.synthetic_features import SUM_HOOK
from ingest.sae.autoencoder import open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings
from ingest.train.quality import COLUMNS, quality

SITES = (
    "hook_embed",
    "blocks.0.hook_resid_pre",
    "blocks.1.attn.hook_z",
    "blocks.1.hook_attn_out",
    "blocks.1.hook_resid_mid",
    "blocks.1.mlp.hook_post",
    "blocks.1.hook_mlp_out",
    "blocks.2.hook_resid_post",
)


def read_and_replaced(lens, ids, hook, edit):
    """Return the logits of TransformerLens with the activations of a site edited."""

    def replace(x, hook):
        return edit(x.flatten(2) if hook.name.endswith("hook_z") else x).reshape(x.shape)

    with torch.no_grad():
        return lens.run_with_hooks(ids, fwd_hooks=[(hook, replace)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo", "gpt_neox_serial", "gemma2"])
@pytest.mark.parametrize("hook", SITES)
def test_an_edit_equals_that_of_transformer_lens(family, hook):
    causal = random_model(family)
    ids, mask = random_ids()
    mask[:] = 1  # TransformerLens pads otherwise
    mine = NextTokenModel("small", causal)
    lens = hooked(causal)

    def edit(x):
        return x * 0.5 + torch.linspace(-1, 1, x.shape[-1])

    edited = mine.logits(ids, mask, edits={hook: edit})
    plain = mine.logits(ids, mask)
    assert (edited - plain).abs().max() > 1e-3
    wanted = read_and_replaced(lens, ids, hook, edit)
    if cap := getattr(causal.config, "final_logit_softcapping", None):
        wanted = cap * (wanted / cap).tanh()  # `hooked` leaves this to the caller
    wanted = wanted.log_softmax(-1)
    torch.testing.assert_close(edited.log_softmax(-1), wanted, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("hook", SITES)
def test_an_edit_that_changes_nothing_changes_no_bit(hook):
    causal = random_model("llama")
    ids, mask = random_ids()
    mine = NextTokenModel("small", causal)
    same = mine.logits(ids, mask, edits={hook: lambda x: x.clone()})
    torch.testing.assert_close(same, mine.logits(ids, mask), rtol=0, atol=0)


def a_sae(hook, d_in, *, seed=0):
    torch.manual_seed(seed)
    sae = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=40, metadata=small_ingest.metadata(hook)))
    return small_ingest.fill(sae)


def brute_force(causal, tokenizer, documents, sae, hook_module, *, context):
    """Compute the row of one SAE, a context at a time, with hooks of a few lines."""
    special = set(tokenizer.all_special_ids)
    contexts = []
    for text in documents:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), context - 1):
            contexts.append([tokenizer.bos_token_id, *tokens[at : at + context - 1]])

    def logits(ids, edit=None):
        seen = []

        def hook(module, args, output):
            x = output[0] if isinstance(output, tuple) else output
            seen.append(x)
            if edit is None:
                return output
            new = x.clone()
            counted = torch.tensor([t not in special for t in ids])
            new[0, counted] = edit(x[0, counted])
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = hook_module.register_forward_hook(hook)
        with torch.no_grad():
            out = causal(torch.tensor([ids])).logits[0]
        handle.remove()
        return out, seen[0][0]

    counted_x = []
    for ids in contexts:
        x = logits(ids)[1]
        counted_x += [v for v, t in zip(x, ids, strict=True) if t not in special]
    x = torch.stack(counted_x)
    mean = x.mean(0)
    with torch.no_grad():
        z = sae.encode(x)
        error = sae.decode(z) - x

    def recon(v):
        with torch.no_grad():
            return sae.decode(sae.encode(v))

    edits = {
        "spliced": recon,
        "error_term": lambda v: recon(v) + (v - recon(v)),
        "zero": torch.zeros_like,
        "mean": lambda v: mean.expand_as(v),
    }
    ce, kl = {name: [] for name in edits}, {name: [] for name in edits}
    own = []
    for ids in contexts:
        at = [t for t in range(len(ids) - 1) if ids[t + 1] not in special]
        target = torch.tensor([ids[t + 1] for t in at])
        p = logits(ids)[0].log_softmax(-1)[at].double()
        own += (-p[range(len(at)), target]).tolist()
        for name, edit in edits.items():
            q = logits(ids, edit)[0].log_softmax(-1)[at].double()
            ce[name] += (-q[range(len(at)), target]).tolist()
            kl[name] += (p.exp() * (p - q)).sum(-1).tolist()
    m = {name: float(np.mean(v)) for name, v in ce.items()}
    base = float(np.mean(own))
    return {
        "tokens": len(x),
        "fvu": float(error.double().square().sum() / (x - x.double().mean(0)).square().sum()),
        "l0": float((z > 0).sum() / len(z)),
        "dead_share": float(1 - (z > 0).any(0).double().mean()),
        "ce_model": base,
        **{f"ce_{name}": v for name, v in m.items()},
        "recovered_zero": (m["zero"] - m["spliced"]) / (m["zero"] - base)
        if m["zero"] > base
        else None,
        "recovered_mean": (m["mean"] - m["spliced"]) / (m["mean"] - base)
        if m["mean"] > base
        else None,
        **{f"kl_{name}": float(np.mean(v)) for name, v in kl.items()},
    }


@pytest.mark.parametrize(
    ("hook", "module"),
    [("blocks.1.hook_resid_post", "layers.1"), ("blocks.1.hook_mlp_out", "layers.1.mlp")],
)
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_quality_equals_brute_force(family, hook, module):
    causal, tokenizer = random_model(family), small_tokenizer()
    model = open_model(causal, tokenizer=tokenizer, name="small")
    sae = a_sae(hook, 24)
    # A special token within a document, and one document that fills several contexts.
    documents = [*texts(12), "the cat<eos> sat " * 12, "dog"]
    (row,) = quality(
        [open_sae(sae, name="one")],
        [Document(i, t) for i, t in enumerate(documents)],
        model=model,
        head=open_next_token_model(model, causal),
        contexts=ContextSettings(16, prepend_bos=True),
        batch_tokens=64,
        most=10**6,
    )
    assert tuple(row) == ("sae", *COLUMNS)
    wanted = brute_force(
        causal, tokenizer, documents, sae, causal.model.get_submodule(module), context=16
    )
    for name, value in wanted.items():
        if value is None:
            assert row[name] is None
        else:
            assert row[name] == pytest.approx(value, rel=1e-3, abs=2e-6), name
    assert row["ce_error_term"] == pytest.approx(row["ce_model"], abs=1e-6)
    assert row["kl_error_term"] == pytest.approx(0, abs=1e-6)


def test_a_model_without_head_has_no_losses():
    causal, tokenizer = random_model("llama"), small_tokenizer()
    model = open_model(causal, tokenizer=tokenizer, name="small")
    (row,) = quality(
        [open_sae(a_sae(SITES[-1], 24), name="one")],
        [Document(0, "the cat sat")],
        model=model,
        head=None,
        contexts=ContextSettings(16, prepend_bos=True),
        batch_tokens=64,
        most=100,
    )
    assert row["fvu"] > 0
    assert row["ce_model"] is None
    assert row["kl_spliced"] is None


def test_the_head_of_files_equals_that_in_memory(tmp_path):
    causal, tokenizer = random_model("llama"), small_tokenizer()
    causal.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = open_model(str(tmp_path), hooks=["blocks.0.hook_resid_post"])
    ids, mask = random_ids()
    loaded = open_next_token_model(model, str(tmp_path))
    wanted = open_next_token_model(model, causal).logits(ids, mask)
    torch.testing.assert_close(loaded.logits(ids, mask), wanted)


def test_a_missing_head_is_reported_before_the_training(tmp_path):
    save_synthetic(
        tmp_path / "synth",
        small_synthetic(trees=0, tokens=100, training_tokens=3000),
    )
    progress = RecordingProgress()
    rows = train_saes(
        tmp_path / "saes",
        model=tmp_path / "synth",
        text=tmp_path / "synth" / "training.jsonl",
        settings=TrainSettings(
            sites=(SUM_HOOK,), widths=(24,), k=(3,), steps=4, batch=64, buffer=256, device="cpu"
        ),
        progress=progress,
    )
    reports = [i for i, line in enumerate(progress.messages) if "has no head" in line]
    assert reports == [0]
    assert rows[0]["fvu"] > 0
    assert rows[0]["l0"] == 3
    assert rows[0]["ce_model"] is None


def test_a_model_in_memory_without_head_is_reported(tmp_path):
    causal, tokenizer = random_model("llama"), small_tokenizer()
    model = open_model(causal, tokenizer=tokenizer, name="small")
    check_head(model, causal)
    with pytest.raises(Mismatch, match="has no head"):
        check_head(model, causal.base_model)
    causal.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    check_head(open_model(str(tmp_path)), str(tmp_path))
