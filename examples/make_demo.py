"""Make the demo: two language models, seven SAEs, a text, and the facts on them.

Run it with the folder of the training stories and a folder to write to::

    python examples/make_demo.py --texts TEXTS --out ingest/demo

Every step is seeded, and reads what the steps before it wrote, so a single
step can be repeated with ``--steps``, and for some models or SAEs only with
``--names``. An interrupted training of SAEs continues with the same command.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from demo_files import add_fact, load_model
from demo_models import (
    CONTEXT,
    MODELS,
    ModelSpec,
    baselines,
    model_loss,
    new_model,
    train_model,
    write_stories,
)
from demo_saes import SAES, make_sae, measure
from demo_text import (
    encode,
    make_tokenizer,
    packed_rows,
    padded_rows,
    read_stories,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

MODEL_TOKENS = {"tiny-a": 10_000_000, "tiny-b": 8_000_000}
TEXT_CHARACTERS = 1_200_000
TEXT_SEED = 100

log = logging.getLogger("demo")


@dataclass(frozen=True)
class Work:
    """What one run makes.

    Parameters
    ----------
    texts
        Folder of the story files.
    out
        Folder of the demo.
    names
        Names of the models and SAEs to make.
    """

    texts: Path
    out: Path
    names: frozenset[str]


def model_facts(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    train: NDArray[np.int64],
    held_out: dict[str, list[str]],
) -> dict[str, dict[str, float | int]]:
    """Measure a model and its two baselines on each held-out set.

    Parameters
    ----------
    model
        Model to measure.
    tokenizer
        Its tokenizer.
    train
        Training rows, for the baselines.
    held_out
        Held-out stories by the name of their set.

    Returns
    -------
    For each set: tokens, and the loss of model, unigram and bigram in nats
    per token.
    """
    facts: dict[str, dict[str, float | int]] = {}
    for name, texts in held_out.items():
        rows, real = padded_rows(encode(tokenizer, texts), tokenizer.bos_token_id, CONTEXT)
        unigram, bigram = baselines(train, rows, real, len(tokenizer))
        facts[name] = {
            "tokens": int(real.sum()),
            "loss": round(model_loss(model, rows, real), 4),
            "unigram": round(unigram, 4),
            "bigram": round(bigram, 4),
        }
    return facts


def make_model(
    spec: ModelSpec, stories: list[str], held_out: dict[str, list[str]], out: Path
) -> None:
    """Train one tokenizer and one language model; write both, and the facts.

    Parameters
    ----------
    spec
        Sizes and seed.
    stories
        Training stories.
    held_out
        Held-out stories by the name of their set.
    out
        Folder of the demo.
    """
    tokenizer = make_tokenizer(spec.tokenizer, stories, spec.vocab_size)
    rows = packed_rows(encode(tokenizer, stories), tokenizer.bos_token_id, CONTEXT)
    model = new_model(spec, tokenizer)
    began = time.monotonic()
    tokens = train_model(model, rows, seed=spec.seed, tokens=MODEL_TOKENS[spec.name])
    seconds = time.monotonic() - began
    folder = out / "models" / spec.name
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    fact = {
        "layers": model.config.num_hidden_layers,
        "d_model": spec.d_model,
        "vocab_size": spec.vocab_size,
        "tokenizer": spec.tokenizer,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": spec.seed,
        "tokens_trained": tokens,
        "seconds_trained": round(seconds),
        "held_out": model_facts(model, tokenizer, rows, held_out),
    }
    add_fact(out, "models", spec.name, fact)


def make_models(work: Work) -> None:
    """Make the named tokenizers and language models.

    Parameters
    ----------
    work
        What to make, from what, and where.
    """
    stories, held_out = read_stories(work.texts)
    for spec in MODELS:
        if spec.name in work.names:
            make_model(spec, stories, held_out, work.out)


def make_text(work: Work) -> None:
    """Let tiny-a write the demo text.

    Parameters
    ----------
    work
        What to make, from what, and where.
    """
    model, tokenizer = load_model(work.out, "tiny-a")
    stories = write_stories(model, tokenizer, characters=TEXT_CHARACTERS, seed=TEXT_SEED)
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in stories]
    path = work.out / "text.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    fact = {
        "written_by": "tiny-a",
        "seed": TEXT_SEED,
        "stories": len(stories),
        "bytes": path.stat().st_size,
        "tokens": sum(len(ids) - 1 for ids in encode(tokenizer, stories)),
    }
    add_fact(work.out, "text", path.name, fact)


def make_saes(work: Work) -> None:
    """Train, write and measure the named SAEs.

    Parameters
    ----------
    work
        What to make, from what, and where; the models are there already.
    """
    stories, held_out = read_stories(work.texts)
    wanted = [sae for sae in SAES if sae.name in work.names]
    training = work.out / "training"
    for sae in wanted:
        make_sae(sae, stories, work.out, training=training)
    for model in dict.fromkeys(sae.model for sae in wanted):
        same = [sae for sae in wanted if sae.model == model]
        for name, fact in measure(same, held_out["samples"], work.out).items():
            add_fact(work.out, "saes", name, fact)
    shutil.rmtree(training, ignore_errors=True)


STEPS: dict[str, Callable[[Work], None]] = {
    "models": make_models,
    "text": make_text,
    "saes": make_saes,
}


def main() -> None:
    """Read the command line and run the steps that it names."""
    names = [spec.name for spec in (*MODELS, *SAES)]
    parser = argparse.ArgumentParser(description="Make the demo models, text and SAEs.")
    parser.add_argument("--texts", type=Path, required=True, help="story folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--names", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = Work(arguments.texts, arguments.out, frozenset(arguments.names))
    for name, step in STEPS.items():
        if name in arguments.steps:
            log.info("step: %s", name)
            step(work)


if __name__ == "__main__":
    main()
