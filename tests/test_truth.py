"""Tests of truth: cheap facts, each of which has caught such a system lying."""

import sae_lens
import torch
from small_ingest import CONTEXT, metadata, model, texts, topk
from test_ingest import assert_close, named, run, tables

from ingest.saes import open_sae


def one_token_sae(lm):
    """Return an SAE whose feature 0 reads one token's direction at the embedding, and that token."""
    vectors = lm.base.get_input_embeddings().weight.detach()
    in_text = set(lm.tokenizer(" ".join(texts()), add_special_tokens=False)["input_ids"])
    candidates = sorted(in_text - set(lm.tokenizer.all_special_ids))
    token = max(candidates, key=lambda t: float(vectors[t].norm()))
    direction = vectors[token] / vectors[token].norm()
    config = sae_lens.StandardSAEConfig(d_in=24, d_sae=2, metadata=metadata("hook_embed"))
    sae = sae_lens.StandardSAE(config)
    own = float(vectors[token] @ direction)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
        # Halfway between the token and whatever else of the text comes nearest to it.
        nearest = max(float(vectors[t] @ direction) for t in candidates if t != token)
        sae.W_enc[:, 0] = direction
        sae.b_enc[0] = -(own + nearest) / 2
        sae.b_enc[1] = -1
    return sae, token


def test_1_an_sae_that_reads_one_token_fires_on_it_alone(tmp_path):
    lm, documents = model(), texts()
    sae, token = one_token_sae(lm)
    atlas = run(tmp_path / "a.atlas", lm, [named(sae, "one")], documents)
    (edge,) = [e for e in atlas.table("FIRES_ON").to_pylist() if e["source"] == "one/0"]
    assert edge["target"] == f"{lm.tokenizer_key}/{token}"
    assert (edge["share"], edge["rate"]) == (1.0, 1.0)
    text = lm.tokenizer.decode([token])
    shown = [e for e in atlas.table("Example").to_pylist() if e["idx"] == 0]
    assert shown
    for example in shown:  # offsets are exact: the document has the token's text there
        at = documents[example["document"]][example["start"] :]
        assert at.startswith(text)
        assert example["tokens"][example["peak"]] == text


def test_3_bos_activations_times_1000_change_nothing(tmp_path):
    documents = texts()
    quiet = run(tmp_path / "quiet.atlas", model(), [named(topk(), "top")], documents)
    lm = model()

    def shout(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = torch.cat([hidden[:, :1] * 1000, hidden[:, 1:]], dim=1)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    seen = []
    block = lm.base.get_submodule(lm.layout.blocks)[1]
    block.register_forward_hook(shout)
    block.register_forward_hook(lambda m, i, o: seen.append(o))
    loud = run(tmp_path / "loud.atlas", lm, [named(topk(), "top")], documents)
    hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert hidden[:, 0].abs().mean() > 100 * hidden[:, 1:].abs().mean()  # it did shout
    assert_close(tables(loud), tables(quiet))


def test_4_fvu_is_lowest_at_the_saes_own_site(tmp_path):
    """With a trained SAE of the demo, read at the places around its own."""
    from importlib.resources import files

    text = (files("ingest.demo") / "text.jsonl").read_text("utf-8")
    import json

    documents = [json.loads(line)["text"] for line in text.splitlines()[:60]]
    found = {}
    for hook in ("blocks.1.hook_resid_post", "blocks.1.hook_resid_mid", "blocks.0.hook_resid_post",
                 "hook_embed"):  # fmt: skip
        sae = open_sae("tiny-a-l1-s0", hook=hook)
        name = hook.replace(".", "-")
        atlas = run(tmp_path / f"{name}.atlas", "tiny-a", [sae], documents)
        found[hook] = atlas.table("SAE")["fvu"].to_pylist()[0]
    own = found.pop("blocks.1.hook_resid_post")
    assert own < 0.15
    assert all(own < other for other in found.values()), found


def test_contexts_are_as_long_as_the_metadata_says():
    assert open_sae(topk(), name="x").info.context_size == CONTEXT
