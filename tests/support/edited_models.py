"""Models with changed parameters."""

import copy

import torch
from small_ingest import HOOK

from ingest.model.language_model import open_model

FIRST, LAST = "blocks.0.hook_resid_post", HOOK


def edited(lm, change):
    """Return a copy of a model with some parameters changed, under the same name."""
    base = copy.deepcopy(lm.base)
    with torch.no_grad():
        change(base)
    return open_model(base, name=lm.name, tokenizer=lm.tokenizer)


def negate(path):
    return lambda base: base.get_parameter(path).neg_()
