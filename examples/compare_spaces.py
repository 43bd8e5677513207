"""Compare the feature spaces of two small story models: layers, seeds, widths, floors and models.

It trains SAEs on some blocks of stories260K and stories3M (the folders of ``examples/README.md``),
ingests all of them into one atlas of the same stories, matches pairs of them, and measures the
similarity of their spaces. ``docs/results/similar-spaces.md`` has its tables. An interrupted run
continues with the same command::

    python examples/compare_spaces.py --models MODELS --texts TEXTS --out spaces
    python examples/compare_spaces.py --models MODELS --texts TEXTS --out spaces --tables-only
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from analysis import SimilaritySettings, compare_spaces, find_splits
from analysis.similarity.grid import grid
from atlas.cli.output.tables import print_table
from atlas.disk.folder import Folder
from atlas.progress import SILENT, Bars, Progress
from ingest import MatchSettings, Settings, Text, TrainSettings, ingest, match_saes, train_saes
from ingest.match.study import match_name

#: Models, and the blocks whose residual stream is read.
MODELS = {"stories260K": (0, 2, 4), "stories3M": (1, 3, 5)}
NARROW, WIDE, K = 512, 1024, 16
TRAINED, STUDIED = 800, 200
"""Stories of the text to train on, and stories after them in the atlas."""


#: 64 columns are the width of the residual stream of stories260K.
SIMILARITY = SimilaritySettings(draws=99, tokens=15_000, columns=64, frequency_draws=20)


@dataclass(frozen=True)
class Group:
    """Pairs of SAEs that differ in one respect.

    Parameters
    ----------
    name
        The respect.
    pairs
        Names of SAEs.
    raw
        Whether the activations of the models are compared too.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    raw: bool = False

    @property
    def settings(self) -> SimilaritySettings:
        """Settings of the comparison of its pairs."""
        return replace(SIMILARITY, raw="site" if self.raw else None)


def sae(model: str, block: int, *, width: int = NARROW, seed: int = 0, floor: bool = False) -> str:
    """Return the name of an SAE, as `atlas train` names it."""
    name = f"{model.lower()}-l{block}-resid_post-topk-{width}-k{K}-s{seed}"
    return f"{name}-frozen-decoder" if floor else name


def groups() -> Iterator[Group]:
    """Yield the groups of pairs: of trained SAEs, then of floors with a frozen random decoder."""
    one, other = ([(model, block) for block in blocks] for model, blocks in MODELS.items())
    sites = [*one, *other]
    layers = [pair for own in (one, other) for pair in combinations(own, 2)]
    yield Group("seeds", tuple((sae(*at), sae(*at, seed=1)) for at in sites))
    yield Group("widths", tuple((sae(*at), sae(*at, width=WIDE)) for at in sites))
    yield Group("models", tuple((sae(*a), sae(*b)) for a, b in product(one, other)), raw=True)
    yield Group("layers of one model", tuple((sae(*a), sae(*b)) for a, b in layers), raw=True)
    yield Group(
        "floors: seeds",
        tuple((sae(*at, floor=True), sae(*at, seed=1, floor=True)) for at in sites),
    )
    yield Group(
        "floors: models",
        tuple((sae(*a, floor=True), sae(*b, floor=True)) for a, b in zip(one, other, strict=True)),
    )


def train(models: Path, stories: Sequence[str], out: Path, *, tokens: int) -> None:
    """Train the SAEs of both models, and floors with a frozen random decoder."""
    text = Text(list(stories), name="stories to train on")
    for model, blocks in MODELS.items():
        sites = tuple(f"blocks.{block}.hook_resid_post" for block in blocks)
        for widths, seeds, baselines in (
            ((NARROW,), (0, 1), ("frozen-decoder",)),
            ((WIDE,), (0,), None),
        ):
            train_saes(
                out / "saes",
                model=models / model,
                text=text,
                settings=TrainSettings(
                    sites=sites,
                    widths=widths,
                    seeds=seeds,
                    k=(K,),
                    baselines=baselines,
                    tokens=tokens,
                    buffer=65_536,
                    quality_tokens=5_000,
                ),
                progress=Bars(),
            )


def measure(models: Path, stories: Sequence[str], out: Path) -> None:
    """Ingest, match and compare; what is stored is not computed again."""
    path = out / "spaces.atlas"
    known = Folder.open(path).sound().saes if path.exists() else ()
    for model in MODELS:
        prefix = f"{model.lower()}-"
        saes = [
            str(folder)
            for folder in sorted((out / "saes").glob(f"{prefix}*"))
            if folder.name not in known
        ]
        if saes:
            ingest(
                path,
                saes=saes,
                text=None if path.exists() else Text(list(stories), name="stories"),
                model=models / model,
                settings=Settings(keep_codes=True),
                match=None,
                progress=Bars(),
            ).close()
    for group in groups():
        print(group.name, flush=True)
        for pair in group.pairs:
            match_saes(path, pair, settings=MatchSettings(draws=5))
            compare_spaces(path, pair, settings=group.settings)
    for model, blocks in MODELS.items():
        for block in blocks:
            find_splits(path, (sae(model, block), sae(model, block, width=WIDE)))


def tables(out: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Return the tables of the page, from the stored results."""
    path = out / "spaces.atlas"
    found = {
        group.name: [
            row
            for pair in _stored(path, group)
            for row in grid(
                compare_spaces(path, pair, settings=group.settings, progress=progress)[:1]
            )
        ]
        for group in groups()
    }
    summary = [{"pairs": name, **row} for name, rows in found.items() for row in _summary(rows)]
    return {
        "summary": summary,
        "partners": _partners(path),
        "models": _models(path),
        "subsets": _subsets(path),
        "splits": _splits(path),
        "pairs": found,
    }


def _stored(path: Path, group: Group) -> list[tuple[str, str]]:
    """Return the pairs whose comparison is stored, so that tables can be printed at any time."""
    parts = Folder.open(path).sound().parts
    return [pair for pair in group.pairs if f"similarity/{match_name(*pair)}" in parts]


def _summary(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the mean over pairs of each space and measure, and how many exceed the null."""
    keys = dict.fromkeys((_kind(row["space"]), row["points"], row["measure"]) for row in rows)
    for space, points, measure in keys:
        own = [
            row
            for row in rows
            if (_kind(row["space"]), row["points"], row["measure"]) == (space, points, measure)
        ]
        values = np.array([[row["value"], row["null"], row["excess"]] for row in own])
        yield {
            "space": space,
            "points": points,
            "measure": measure,
            "number": len(own),
            **dict(zip(("value", "null", "excess"), values.mean(axis=0).tolist(), strict=True)),
            "lowest excess": float(values[:, 2].min()),
            "highest excess": float(values[:, 2].max()),
            "p <= .05": sum(row["p"] <= 0.05 for row in own),
        }


def _kind(space: str) -> str:
    return space.partition(" (")[0]


def _partners(path: Path) -> list[dict[str, Any]]:
    """Return the number of one-to-one pairs, and the share of best partners that are different."""
    rows = []
    for group in groups():
        results = [
            compare_spaces(path, pair, settings=group.settings)[0] for pair in _stored(path, group)
        ]
        if results:
            shares = [one[f"unique_{way}"] for one in results for way in ("ab", "ba")]
            rows.append(
                {
                    "pairs": group.name,
                    "number": len(results),
                    "one-to-one pairs": float(np.mean([one["pairs"] for one in results])),
                    "different partners": float(np.mean(shares)),
                    "lowest": float(np.min(shares)),
                }
            )
    return rows


def _models(path: Path) -> list[dict[str, Any]]:
    """Return the values of models and of SAEs at equal numbers of columns, with their nulls."""
    found = []
    for group in groups():
        results = [
            compare_spaces(path, pair, settings=group.settings)[0]
            for pair in _stored(path, group)
            if group.raw
        ]
        rows = [
            [row for row in one.table("rows").to_pylist() if "random pairs" in row["subset"]]
            for one in results
        ]
        for points, measure in dict.fromkeys(
            (row["points"], row["measure"]) for own in rows for row in own
        ):
            excess: dict[str, list[float]] = {"model": [], "activations": []}
            values: dict[str, list[float]] = {"model": [], "activations": []}
            for own in rows:
                both = {
                    _kind(row["space"]): row
                    for row in own
                    if (row["points"], row["measure"]) == (points, measure) and row["p"] is not None
                }
                if len(both) == 2:
                    for space, row in both.items():
                        values[space].append(row["value"])
                        excess[space].append(row["value"] - row["null"])
            if values["model"]:
                above = np.array(excess["activations"]) > np.array(excess["model"])
                found.append(
                    {
                        "pairs": group.name,
                        "points": points,
                        "measure": measure,
                        "number": len(above),
                        "models": float(np.mean(values["model"])),
                        "SAEs": float(np.mean(values["activations"])),
                        "models, excess": float(np.mean(excess["model"])),
                        "SAEs, excess": float(np.mean(excess["activations"])),
                        "SAEs have more excess": int(above.sum()),
                    }
                )
    return found


def _subsets(path: Path) -> list[dict[str, Any]]:
    """Return the values of pairs of highest correlation, with random matched pairs of equal size."""
    rows = []
    for group in groups():
        if group.name.startswith("floors") or group.name == "widths":
            continue
        results = [
            compare_spaces(path, pair, settings=group.settings)[0] for pair in _stored(path, group)
        ]
        for space, measure, subset in product(
            ("decoder", "activations"), ("rsa", "knn_jaccard"), ("top half by r", "top tenth by r")
        ):
            own = [
                row
                for result in results
                for row in result.table("rows").to_pylist()
                if (row["space"], row["measure"], row["subset"]) == (space, measure, subset)
                and row["points"] == "features"
                and row["matched_p"] is not None
            ]
            if own:
                mean = {
                    key: float(np.mean([row[key] for row in own]))
                    for key in ("value", "null", "matched_null")
                }
                rows.append(
                    {
                        "pairs": group.name,
                        "space": space,
                        "measure": measure,
                        "subset": subset,
                        "number": len(own),
                        **mean,
                        "above random matched pairs": sum(row["matched_p"] <= 0.05 for row in own),
                    }
                )
    return rows


def _splits(path: Path) -> list[dict[str, Any]]:
    """Return the classes of narrow features, and those of the baseline of equal width."""
    parts = Folder.open(path).sound().parts
    rows = []
    for model, block in ((model, block) for model, blocks in MODELS.items() for block in blocks):
        pair = (sae(model, block), sae(model, block, width=WIDE))
        if f"splitting/{pair[0]}+{pair[1]}" not in parts:
            continue
        for one in find_splits(path, pair):
            if one.floor:
                continue
            tested = one["narrow_features"] - one["narrow_untested"]
            names = ("same", "split", "absorbed", "partial", "lost")
            shares = {name: one[f"narrow_{name}"] / max(tested, 1) for name in names}
            equal = one["equal_width"]
            rows.append(
                {"model": model, "block": block, "equal width": equal, "tested": tested, **shares}
            )
    return rows


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=100_000, help="Training tokens of each SAE.")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--measure-only", action="store_true")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    lines = (options.texts / "tinystories-1000.jsonl").read_text("utf-8").splitlines()
    stories = [json.loads(line)["text"] for line in lines]
    if not options.tables_only:
        if not options.measure_only:
            train(options.models, stories[:TRAINED], options.out, tokens=options.tokens)
        if options.train_only:
            return
        measure(options.models, stories[TRAINED : TRAINED + STUDIED], options.out)
    found = tables(options.out)
    (options.out / "spaces.json").write_text(json.dumps(found, indent=1), "utf-8")
    for name in ("summary", "partners", "models", "subsets", "splits"):
        print_table(found[name], title=f"\n{name}")


if __name__ == "__main__":
    main()
