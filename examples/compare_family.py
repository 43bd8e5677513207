"""Similarity of the SAEs of a family over all blocks, with the range over seeds.

It reads an atlas of ``examples/ingest_family.py``, matches the pairs that are missing, compares
them, and prints the tables of ``docs/results/similar-spaces.md``. Stored results are used again::

    python examples/compare_family.py family/stories260K.atlas --width 512
    python examples/compare_family.py family/stories260K.atlas --width 512 --tables-only
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis import SimilaritySettings, compare_spaces
from analysis.similarity.grid import grid
from analysis.similarity.study import SimilarityStudy
from atlas.cli.output.tables import print_table
from atlas.disk.folder import Folder
from ingest import MatchSettings, match_saes
from ingest.match.study import match_name

SETTINGS = SimilaritySettings(draws=99, tokens=10_000, columns=64, frequency_draws=0)

GROUPS = (
    "seeds",
    "floors: seeds",
    "widths",
    "adjacent blocks",
    "floors: adjacent blocks",
    "other blocks",
    "floors: other blocks",
)

_NAME = re.compile(r".*-l(\d+)-(\w+)-topk-(\d+)-k\d+-s(\d+)(?:-(.+))?")


class Member(NamedTuple):
    """What distinguishes an SAE from the others of its family."""

    block: int
    site: str
    width: int
    seed: int
    role: str


class Pair(NamedTuple):
    """Two SAEs that differ in one respect, and the replicate of which they are one pair."""

    group: str
    replicate: str
    saes: tuple[str, str]


def members(names: list[str], site: str) -> dict[str, Member]:
    """Return the SAEs of a site by name."""
    found = {}
    for name in names:
        if (parts := _NAME.fullmatch(name)) and parts[2] == site:
            own = int(parts[1]), parts[2], int(parts[3]), int(parts[4]), parts[5] or "trained"
            found[name] = Member(*own)
    return found


def pairs(family: Mapping[str, Member], width: int) -> Iterator[Pair]:
    """Yield pairs of seeds, of a width and half of it, and of blocks; and of floors like them.

    Each pair of seeds, or each seed, is a replicate.
    """
    for (a, x), (b, y) in combinations(family.items(), 2):
        if x.role != y.role or x.role == "untrained":
            continue
        seeds = f"s{x.seed}-s{y.seed}"
        floor = "" if x.role == "trained" else "floors: "
        if x.block == y.block and x.width == y.width == width and x.seed != y.seed:
            yield Pair(f"{floor}seeds", seeds, (a, b))
        elif x.seed != y.seed:
            continue
        elif x.block == y.block and {x.width, y.width} == {width // 2, width} and not floor:
            yield Pair("widths", f"s{x.seed}", (a, b))
        elif x.width == y.width == width and x.block != y.block:
            far = "adjacent blocks" if abs(x.block - y.block) == 1 else "other blocks"
            yield Pair(f"{floor}{far}", f"s{x.seed}", (a, b))


def sets(family: Mapping[str, Member], width: int) -> Iterator[tuple[str, list[str]]]:
    """Yield names of SAEs of which all pairs are compared: seeds, widths, then blocks."""
    kinds = sorted({(m.role, m.block, m.seed) for m in family.values() if m.role != "untrained"})
    for role, block in dict.fromkeys((role, block) for role, block, _ in kinds):
        yield (
            f"seeds of block {block}, {role}",
            [n for n, m in family.items() if (m.role, m.block, m.width) == (role, block, width)],
        )
    for role, block, seed in kinds:
        own = [n for n, m in family.items() if (m.role, m.block, m.seed) == (role, block, seed)]
        if role == "trained":
            yield (
                f"widths of block {block}, seed {seed}",
                [n for n in own if family[n].width in (width // 2, width)],
            )
    for role, seed in dict.fromkeys((role, seed) for role, _, seed in kinds):
        yield (
            f"blocks of seed {seed}, {role}",
            [n for n, m in family.items() if (m.role, m.seed, m.width) == (role, seed, width)],
        )


def stored(path: Path, chosen: list[Pair]) -> dict[Pair, list[dict[str, Any]]]:
    """Return the values of the pairs whose comparison is stored."""
    parts, study = Folder.open(path).sound().parts, SimilarityStudy(SETTINGS)
    found = ((pair, parts.get(f"similarity/{match_name(*pair.saes)}")) for pair in chosen)
    return {pair: grid([study.result(part)]) for pair, part in found if part is not None}


def table(found: Mapping[Pair, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row for each group, space and measure: the mean, and its range over replicates."""
    values: dict[tuple[str, str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for pair, own in found.items():
        for row in own:
            key = (pair.group, row["space"], row["points"], row["measure"])
            values.setdefault(key, {}).setdefault(pair.replicate, []).append(row)
    rows = []
    for (group, space, points, measure), replicates in values.items():
        means = [np.mean([row["value"] for row in own]) for own in replicates.values()]
        every = [row for own in replicates.values() for row in own]
        rows.append(
            {
                "pairs": group,
                "space": space,
                "points": points,
                "measure": measure,
                "number": len(every),
                "replicates": len(means),
                "mean": float(np.mean(means)),
                "lowest": float(min(means)),
                "highest": float(max(means)),
                "null": float(np.mean([row["null"] for row in every])),
                "p <= .05": sum(row["p"] <= 0.05 for row in every),
            }
        )
    return rows


def main() -> None:
    """Match and compare the pairs, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--site", default="resid_post")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--tables-only", action="store_true")
    args = parser.parse_args()
    family = members(list(Folder.open(args.atlas).sound().saes), args.site)
    chosen = sorted(pairs(family, args.width), key=lambda pair: GROUPS.index(pair.group))
    if not args.tables_only:
        for what, names in sets(family, args.width):
            if len(names) > 1:
                print(what, flush=True)
                match_saes(args.atlas, names, settings=MatchSettings(draws=5), reuse=True)
                compare_spaces(args.atlas, names, settings=SETTINGS)
    done = stored(args.atlas, chosen)
    print(f"{len(done)} of {len(chosen)} pairs are stored.")
    print_table(table(done))
    for block in sorted({one.block for one in family.values()}):
        own = {p: v for p, v in done.items() if {family[n].block for n in p.saes} == {block}}
        rows = [r for r in table(own) if (r["space"], r["measure"]) == ("decoder", "rsa")]
        print_table(rows, title=f"Block {block}")


if __name__ == "__main__":
    main()
