"""Train a family of SAEs on two small story models: seeds, widths, blocks, two sites, and floors.

The models and texts are the folders of ``examples/README.md``. Each model has three seeds,
three widths, the residual stream and the MLP output of all blocks, and for each SAE a
frozen-decoder and an untrained floor. An interrupted run continues with the same command.
``--part``, ``--site``, ``--block``, ``--width`` and ``--seed`` make a smaller family of the same shape::

    python examples/train_family.py --models MODELS --texts TEXTS --out family
    python examples/train_family.py --models MODELS --texts TEXTS --out family --part 0.02
    python examples/train_family.py --models MODELS --texts TEXTS --out family --only stories3M --block 0 --block 5

``examples/ingest_family.py`` makes atlases of them.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

from atlas.progress import Bars
from ingest import TrainSettings, train_saes

SITES = ("hook_resid_post", "hook_mlp_out")
SEEDS = (0, 1, 2)
FLOORS = ("frozen-decoder", "untrained")


@dataclass(frozen=True)
class Member:
    """The SAEs of one model.

    Parameters
    ----------
    model
        Name of its folder.
    blocks
        Number of its blocks.
    widths
        Numbers of features.
    k
        Active features per token.
    tokens
        Training tokens of each SAE.
    """

    model: str
    blocks: int
    widths: tuple[int, ...]
    k: int
    tokens: int


#: Both need about 7,600 s of one thread, by the times of four steps of each shape on a busy machine.
FAMILY = (
    Member("stories260K", 5, (256, 512, 1024), 16, tokens=400_000),
    Member("stories3M", 6, (768, 1536, 3072), 32, tokens=200_000),
)


def settings_of(member: Member, options: argparse.Namespace) -> TrainSettings:
    """Return the settings of the selected SAEs of a model, trained on a part of their tokens."""
    blocks = options.block or range(member.blocks)
    return TrainSettings(
        sites=tuple(f"blocks.{block}.{site}" for site in options.site or SITES for block in blocks),
        widths=tuple(options.width or member.widths),
        seeds=tuple(options.seed or SEEDS),
        k=(member.k,),
        baselines=FLOORS,
        tokens=max(1024, int(options.part * member.tokens)),
        buffer=65_536,
        quality_tokens=5_000,
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=[member.model for member in FAMILY])
    parser.add_argument("--part", type=float, default=1.0, help="Share of the tokens to train on.")
    parser.add_argument(
        "--site", choices=SITES, action="append", help="Train at this site only; repeatable."
    )
    for name, of in (("block", "block"), ("width", "number of features"), ("seed", "seed")):
        parser.add_argument(
            f"--{name}",
            type=int,
            action="append",
            help=f"Train SAEs of this {of} only; repeatable. Default: all.",
        )
    options = parser.parse_args()
    for member in FAMILY:
        if options.only not in (None, member.model):
            continue
        began, worked = time.monotonic(), time.process_time()
        rows = train_saes(
            options.out / member.model,
            model=options.models / member.model,
            text=options.texts / "stories3M-samples.jsonl.gz",
            settings=settings_of(member, options),
            progress=Bars(),
        )
        with (options.out / f"{member.model}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        minutes, used = (time.monotonic() - began) / 60, (time.process_time() - worked) / 60
        print(
            f"{member.model}: {len(rows)} SAEs in {minutes:.1f} minutes, {used:.1f} of processor time"
        )


if __name__ == "__main__":
    main()
