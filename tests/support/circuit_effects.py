"""Effects measured on the circuit model."""

import numpy as np
import torch

from analysis.effects.ablation.sample import Contexts
from analysis.effects.ablation.source import source_of
from analysis.effects.measure import measure
from analysis.effects.settings import EffectSettings
from ingest.model.next_token import NextTokenModel
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.autoencoder import open_sae


def contexts_of(number=30, length=8, *, vocabulary=40, seed=0):
    ids = torch.randint(vocabulary, (number, length), generator=torch.Generator().manual_seed(seed))
    return Contexts(ids, torch.ones_like(ids), torch.ones_like(ids).bool(), np.arange(number))


def effects_of(model, saes, *, contexts, changed=lambda source: source, **settings):
    known = {"directions": 400, "occurrences": 12, "candidates": 6, "joint": 16}
    settings = EffectSettings(**(known | settings))
    first, *later = (open_sae(sae) for sae in saes)
    upper = UpperBlocks(NextTokenModel("circuit", model), first.info.hook)
    _, _, read = upper.below(contexts.ids, contexts.mask, hooks=[first.info.hook])
    x = read[first.info.hook][contexts.read]
    source = changed(source_of(first, x, contexts, settings=settings))
    return measure(upper, contexts, source, targets=later, settings=settings)
