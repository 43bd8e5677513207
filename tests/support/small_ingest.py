"""A small random-weight model, SAEs and texts for complete ingests, and their codes by brute force."""

import random

import numpy as np
import pytest
import sae_lens
import torch
from random_models import TEXT, random_model, small_tokenizer
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata

from ingest.codes.store import read_shard
from ingest.forward.run import ingest
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae

HOOK = "blocks.1.hook_resid_post"
CONTEXT = 16


def texts(documents=40, *, seed=0, words=(0, 30)):
    """Return documents of random words, some empty of words, all different."""
    draw = random.Random(seed)
    return [
        f"{i} " + " ".join(draw.choices(TEXT.split(), k=draw.randint(*words)))
        for i in range(documents)
    ]


def model(family="llama", *, seed=0):
    return open_model(random_model(family, seed=seed), name="small", tokenizer=small_tokenizer())


def metadata(hook=HOOK, **more):
    return SAEMetadata(
        model_name="small", hook_name=hook, context_size=CONTEXT, prepend_bos=True, **more
    )


def topk(name="top", *, d_sae=40, k=5, seed=0, hook=HOOK, d_in=24):
    torch.manual_seed(seed)
    config = sae_lens.TopKSAEConfig(d_in=d_in, d_sae=d_sae, k=k, metadata=metadata(hook))
    sae = sae_lens.TopKSAE(config)
    return fill(sae)


def jumprelu(*, d_sae=40, seed=0, hook=HOOK, d_in=24):
    torch.manual_seed(seed)
    config = sae_lens.JumpReLUSAEConfig(d_in=d_in, d_sae=d_sae, metadata=metadata(hook))
    return fill(sae_lens.JumpReLUSAE(config))


def fill(sae):
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
            if name == "threshold":
                parameter.abs_()
    return sae.eval()


def brute_force(documents, lm, sae, *, hook_layer=1):
    """Return (token ids, dense codes, inputs, reconstructions), a document and a context at a time.

    The complete model with its head is run, and hidden states are those that transformers
    returns; special tokens are excluded.
    """
    tokenizer = lm.tokenizer
    special = set(tokenizer.all_special_ids)
    ids, codes, inputs, outputs = [], [], [], []
    for text in documents:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CONTEXT - 1):
            context = [tokenizer.bos_token_id, *tokens[at : at + CONTEXT - 1]]
            with torch.no_grad():
                states = lm.base(torch.tensor([context]), output_hidden_states=True).hidden_states
                for token, x in zip(context, states[hook_layer + 1][0], strict=True):
                    if token not in special:
                        z = sae.encode(x[None])[0]
                        ids.append(token)
                        codes.append(z.numpy())
                        inputs.append(x.numpy())
                        outputs.append(sae.decode(z[None])[0].numpy())
    return np.array(ids), *(np.array(a, dtype=np.float64) for a in (codes, inputs, outputs))


def run(path, lm, saes, documents, **options):
    return ingest(path, saes=saes, text=documents, model=lm, **options)


def named(sae, name):
    return open_sae(sae, name=name)


def dense(folder, name):
    blocks = [b for path in sorted(folder.codes(name).glob("*.arrow")) for b in read_shard(path)]
    codes = np.zeros((sum(len(b) for b in blocks), blocks[0].d_sae))
    row = 0
    for block in blocks:
        codes[row + block.rows, block.indices] = block.values
        row += len(block)
    return np.concatenate([b.tokens.token_id for b in blocks]), codes


def tables(atlas):
    names = ["SAE", "Feature", "FIRES_ON", "Token", "Example", "SHOWN_BY"]
    return {name: atlas.table(name).to_pylist() for name in names}


def assert_close(found, wanted):
    """Check that integers and texts are equal, and floats to 1e-12."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for key in wanted:
            if key != "atlas":  # the uuid
                assert_close(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            assert_close(f, w)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-12)
    else:
        assert found == wanted


def a_sae(hook, d_in, *, seed=0, **settings):
    torch.manual_seed(seed)
    known = {"d_in": d_in, "d_sae": 40, "metadata": metadata(hook)} | settings
    return fill(StandardSAE(StandardSAEConfig(**known)))


def saes_at(early, late):
    """Return SAEs "a" and "c" of two sites."""
    sites = ((early, "a", 0), (late, "c", 2))
    return [named(topk(seed=seed, hook=hook), name) for hook, name, seed in sites]


def two_sae_atlas(path, lm):
    """Ingest SAEs "top" and "other" of one site into a new atlas, and return its path."""
    run(path, lm, [named(topk(), "top"), named(topk(seed=1), "other")], texts(), match=None)
    return path
