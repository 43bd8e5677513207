"""Show the strongest tokens and places of some features of a demo SAE.

Run it with the folder of the demo and the name of an SAE::

    python examples/show_features.py --out ingest/demo --sae tiny-a-l1-s0
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from demo_files import load_model
from demo_models import CONTEXT
from demo_saes import SAES, collect
from demo_text import encode, padded_rows, read_jsonl
from sae_lens import SAE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

STRONGEST = 40
AROUND = 12


def feature_lines(
    codes: torch.Tensor, ids: torch.Tensor, tokenizer: PreTrainedTokenizerFast
) -> list[str]:
    """Describe one feature by its strongest places.

    Parameters
    ----------
    codes
        Activations of the feature, shape (tokens,).
    ids
        Token ids at the same places, shape (tokens,).
    tokenizer
        Tokenizer that made the ids.

    Returns
    -------
    One line with how often it is active and its strongest tokens, and two with
    places, the token between double brackets.
    """
    values, positions = codes.topk(STRONGEST)
    tokens = Counter(tokenizer.decode([int(ids[position])]) for position in positions[values > 0])
    common = ", ".join(f"{token!r} x{count}" for token, count in tokens.most_common(6))
    lines = [f"active at {float((codes > 0).float().mean()):.3%}: {common}"]
    for position in positions[:12:6].tolist():
        before = tokenizer.decode(ids[max(0, position - AROUND) : position].tolist())
        after = tokenizer.decode(ids[position + 1 : position + 5].tolist())
        here = tokenizer.decode([int(ids[position])])
        lines.append(f"    {before}[[{here}]]{after}".replace("\n", "\\n"))
    return lines


@torch.inference_mode()
def show(out: Path, name: str, number: int) -> None:
    """Print features spread evenly over those that are active in the demo text.

    Parameters
    ----------
    out
        Folder of the demo.
    name
        Name of the SAE.
    number
        How many features to print.
    """
    spec = next(spec for spec in SAES if spec.name == name)
    model, tokenizer = load_model(out, spec.model)
    sae: SAE[Any] = SAE.load_from_disk(out / "saes" / name)
    stories = encode(tokenizer, read_jsonl(out / "text.jsonl")[:600])
    rows = padded_rows(stories, tokenizer.bos_token_id, CONTEXT)
    ids = torch.from_numpy(rows[0][rows[1]])
    codes = sae.encode(collect(model, rows, [spec.layer])[0])
    alive = torch.nonzero((codes > 0).sum(0) >= STRONGEST).flatten()
    chosen = alive[torch.linspace(0, len(alive) - 1, number).long()]
    for feature in chosen.tolist():
        first, *positions = feature_lines(codes[:, feature], ids, tokenizer)
        print(f"{feature} {first}", *positions, sep="\n")


def main() -> None:
    """Read the command line and print the features."""
    parser = argparse.ArgumentParser(description="Show features of a demo SAE.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the demo")
    parser.add_argument("--sae", required=True, choices=[spec.name for spec in SAES])
    parser.add_argument("--number", type=int, default=10, help="features to show")
    arguments = parser.parse_args()
    show(arguments.out, arguments.sae, arguments.number)


if __name__ == "__main__":
    main()
