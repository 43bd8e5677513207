"""A study of effects that a test may kill: ``killed_effects.py ATLAS STEPS``.

It kills its own process after it has stored some steps; with -1 it runs to its end.
"""

import os
import signal
import sys

import small_ingest
from random_models import random_model, small_tokenizer

from analysis.effects.ablation import arms
from analysis.effects.settings import EffectSettings
from analysis.effects.study import measure_effects
from atlas.progress import Silent
from atlas.studies import steps
from ingest import ingest
from ingest.sae.autoencoder import open_sae

SITES = ("blocks.0.hook_resid_post", "blocks.2.hook_resid_post")
SETTINGS = EffectSettings(contexts=24, occurrences=4, min_occurrences=3, directions=60, joint=4)


def opened():
    return [
        open_sae(small_ingest.topk(seed=seed, hook=hook), name=name)
        for seed, (name, hook) in enumerate(zip("ac", SITES, strict=True))
    ]


def ingested(path):
    ingest(
        path,
        saes=opened(),
        model=random_model("llama"),
        tokenizer=small_tokenizer(),
        text=small_ingest.texts(),
        match=None,
    )
    return path


def measured(path, *, progress=None, settings=SETTINGS):
    (result,) = measure_effects(
        path,
        ["a"],
        settings=settings,
        model=random_model("llama"),
        tokenizer=small_tokenizer(),
        opened=opened(),
        progress=progress or Silent(),
    )
    return result


def in_small_steps():
    """Measure 4 features in a step instead of 64."""
    arms._FEATURES = 4


def main(words):
    path, most = words[0], int(words[1])
    in_small_steps()
    save, stored = steps.save_arrays, []

    def counted(*args, **more):
        if len(stored) == most:
            os.kill(os.getpid(), signal.SIGKILL)
        save(*args, **more)
        stored.append(args[0].name)

    steps.save_arrays = counted
    measured(path)


if __name__ == "__main__":
    main(sys.argv[1:])
