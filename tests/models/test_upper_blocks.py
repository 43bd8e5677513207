"""The upper blocks alone give the logits and activations of the complete edited model."""

import pytest
import torch
from random_models import FAMILIES, random_ids, random_model

from ingest.model.next_token import NextTokenModel
from ingest.model.upper_blocks import UpperBlocks

LATER = ["blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"]
SITES = [
    "hook_embed",
    "blocks.0.hook_mlp_out",
    "blocks.0.hook_resid_post",
    "blocks.1.hook_resid_pre",
    "blocks.1.attn.hook_z",
    "blocks.1.mlp.hook_post",
    "blocks.2.hook_resid_post",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_upper_blocks_equal_the_complete_model(family):
    model = NextTokenModel("small", random_model(family))
    ids, mask = random_ids()
    for site in SITES:
        later = [hook for hook in LATER if site != "blocks.2.hook_resid_post" or hook == LATER[1]]
        upper = UpperBlocks(model, site)
        stream, plain, read = upper.below(ids, mask, hooks=[*later, site])
        delta = torch.zeros(read[site].shape)
        delta[:, 3] = torch.linspace(-1, 1, delta.shape[-1])
        wanted, after = model.run(ids, mask, hooks=later, edits={site: lambda x, d=delta: x + d})
        logits, found = upper.run(stream, ids, mask, delta=delta, hooks=later, last=5)
        torch.testing.assert_close(logits, wanted[:, -5:], rtol=1e-5, atol=1e-5)
        for hook in later:
            torch.testing.assert_close(found[hook], after[hook], rtol=1e-5, atol=1e-5)
        assert (wanted - plain)[:, 3:].abs().max() > 1e-3
        same, _ = upper.run(stream, ids, mask, delta=delta * 0, hooks=later)
        torch.testing.assert_close(same, plain, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.logits(ids, mask), plain, rtol=0, atol=0)
