"""Ingest the SAEs of ``train_family.py`` into an atlas for each model, and match SAEs that differ in one thing.

The text is one that no SAE of the family was trained on. SAEs of one site, width and role are
matched between seeds; a second pass matches the trained SAEs of a seed between neighbouring widths.
An interrupted run continues with the same command, and SAEs that are trained later are added::

    python examples/ingest_family.py --models MODELS --texts TEXTS --family family
    python examples/ingest_family.py --models MODELS --texts TEXTS --family family --only stories260K --block 2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any

from atlas.disk.folder import Folder
from atlas.progress import Bars
from ingest import MatchSettings, Settings, Text, ingest, match_saes

TEXT = "tinystories-1000.jsonl"


def records(
    family: Path, *, blocks: Sequence[int], widths: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the training record of each finished SAE of a model, with its folder and name."""
    for path in sorted(family.glob("*/training.json")):
        record = json.loads(path.read_text("utf-8"))
        block = int(record["site"].split(".")[1])
        if (not blocks or block in blocks) and (not widths or record["width"] in widths):
            yield record | {"folder": path.parent, "name": path.parent.name}


def seed_groups(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return groups of SAEs that differ in their seed only, the trained ones first."""

    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        return record["role"] != "trained", record["site"], record["width"], record["role"]

    return [[r["name"] for r in group] for _, group in groupby(sorted(found, key=key), key)]


def width_pairs(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return pairs of trained SAEs of one site and seed with neighbouring widths."""

    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        return record["site"], record["seed"]

    trained = sorted(
        (r for r in found if r["role"] == "trained"), key=lambda r: (*key(r), r["width"])
    )
    return [
        [narrow["name"], wide["name"]]
        for _, group in groupby(trained, key)
        for narrow, wide in pairwise(group)
    ]


def make_atlas(atlas: Path, found: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Ingest the SAEs that the atlas has not, and match them."""
    stored = Folder.open(atlas).sound().saes if atlas.exists() else []
    new = [str(record["folder"]) for record in found if record["name"] not in stored]
    if new:
        ingest(
            atlas,
            saes=new,
            text=None if stored else Text(options.texts / TEXT),
            model=options.models / atlas.stem,
            settings=Settings(tokens=options.tokens, device="cpu"),
            match=None,
            progress=Bars(),
        ).close()
    if not options.match:
        return
    pairs = [list(pair) for group in seed_groups(found) for pair in combinations(group, 2)]
    pairs = width_pairs(found) + pairs
    with Bars().stage("Matches", total=len(pairs), unit="pairs") as stage:
        for pair in pairs:
            match_saes(atlas, pair, settings=MatchSettings(draws=options.draws))
            stage.advance()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--family", type=Path, required=True, help="Output of train_family.py.")
    parser.add_argument("--only", help="Name of one model.")
    for name in ("block", "width"):
        parser.add_argument(
            f"--{name}",
            type=int,
            action="append",
            default=[],
            help=f"Ingest SAEs of this {name} only; repeatable. Default: all.",
        )
    parser.add_argument("--tokens", type=int, default=40_000, help="Tokens of the text.")
    parser.add_argument("--draws", type=int, default=20, help="Draws of each null of a match.")
    parser.add_argument("--match", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    for folder in sorted(path for path in options.family.iterdir() if path.is_dir()):
        if options.only not in (None, folder.name):
            continue
        found = list(records(folder, blocks=options.block, widths=options.width))
        if not found:
            continue
        began = time.monotonic()
        make_atlas(options.family / f"{folder.name}.atlas", found, options)
        print(f"{folder.name}: {len(found)} SAEs in {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
