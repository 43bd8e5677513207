"""Files of the demo that more than one step reads or writes."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("demo")


def load_model(out: Path, name: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Load a finished demo model and its tokenizer.

    Parameters
    ----------
    out
        Folder of the demo.
    name
        Name of the model.

    Returns
    -------
    The model, ready to be measured, and its tokenizer.
    """
    folder = out / "models" / name
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def add_fact(out: Path, kind: str, name: str, fact: dict[str, Any]) -> None:
    """Put one entry into ``facts.json``, and keep the others.

    Parameters
    ----------
    out
        Folder of the demo.
    kind
        Section: ``models``, ``text`` or ``saes``.
    name
        Name of the entry.
    fact
        What is known of it.
    """
    path = out / "facts.json"
    facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    facts[kind] = dict(sorted({**facts.get(kind, {}), name: fact}.items()))
    path.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    log.info("%s: %s", name, fact)
