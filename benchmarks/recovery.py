"""Recovery of known features by trained SAEs and floors, and how often a match is a shared feature.

Four synthetic models differ in the correlation and the trees of their features. SAEs of several widths, k,
numbers of tokens and seeds are trained on them, with floors, and ingested with the true features.
The first table has their scores (`atlas truth`). The second one has the shares of children, of
sums of parent and child, and of other features that are the direction of a feature. The third
counts MATCHES edges with q <= .05 between two SAEs, and how many of them join features of the
same true feature. The fourth one has these shares for trained SAEs of each setting.

    python -m benchmarks.recovery
    python -m benchmarks.recovery --tokens 100000 --keep FOLDER
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sae_lens import LoggingConfig, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata

from analysis import compare_with_truth
from atlas.api import Atlas
from atlas.studies.floors import Role
from ingest import MatchSettings, SyntheticSettings, ingest, match_saes, save_synthetic
from ingest.model.language_model import open_model
from ingest.model.synthetic_features import SUM_HOOK
from ingest.sae.autoencoder import open_sae
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings, tokenize

BATCH = 256
RATE = 3e-3

#: Cosine with a true feature above which two matched features stand for it.
STANDS_FOR = 0.9


@dataclass(frozen=True)
class Spec:
    """One SAE: what differs between the rows of the table."""

    correlation: float = 0.2
    trees: int = 16
    width: int = 256
    k: int = 6
    tokens: int = 300_000
    role: Role = "trained"
    seed: int = 0

    @property
    def world(self) -> tuple[float, int]:
        """Correlation and trees of its features."""
        return self.correlation, self.trees

    @property
    def name(self) -> str:
        """Its name in the atlas."""
        return f"w{self.width}-k{self.k}-t{self.tokens // 1000}k-{self.role}-s{self.seed}"


def specs(tokens: int) -> list[Spec]:
    """Return the SAEs: one setting differs from the base at a time, each with two seeds."""
    base = Spec(tokens=tokens)
    roles: tuple[Role, ...] = ("frozen-decoder", "untrained")
    varied = [
        base,
        *(replace(base, width=width) for width in (64, 128, 512)),
        *(replace(base, k=k) for k in (3, 12)),
        *(replace(base, correlation=correlation) for correlation in (0.0, 0.6)),
        replace(base, trees=0),
        *(replace(base, tokens=tokens // part) for part in (16, 4)),
        *(replace(base, role=role) for role in roles),
    ]
    return [replace(one, seed=seed) for one in varied for seed in (0, 1)]


def activations(folder: Path, tokens: int) -> torch.Tensor:
    """Return the activations of the training text at the site of the sums, (tokens, width)."""
    model = open_model(folder, device="cpu")
    lines = (folder / "training.jsonl").read_text("utf-8").splitlines()
    documents = [Document(i, json.loads(line)["text"]) for i, line in enumerate(lines)]
    contexts = ContextSettings(model.base.config.max_position_embeddings, prepend_bos=True)
    found = []
    for batch in tokenize(documents, model.tokenizer, settings=contexts).batches:
        ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
        found.append(model.run(ids, mask, hooks=[SUM_HOOK])[SUM_HOOK][keep])
    return torch.cat(found)[:tokens]


def batches(x: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Yield batches for ever, in a seeded order."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=rng)
        for i in range(0, len(x) - BATCH + 1, BATCH):
            yield x[order[i : i + BATCH]]


def trained(spec: Spec, x: torch.Tensor, out: Path, *, context: int) -> Path:
    """Train an SAE, or a floor, with the trainer of sae-lens; return its folder."""
    torch.manual_seed(spec.seed)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=x.shape[1],
            d_sae=spec.width,
            k=spec.k,
            metadata=SAEMetadata(
                model_name="synthetic",
                hook_name=SUM_HOOK,
                context_size=context,
                prepend_bos=True,
                seed=spec.seed,
            ),
        )
    )
    if spec.role == "frozen-decoder":
        sae.W_dec.requires_grad_(False)
    if spec.role != "untrained":
        steps = spec.tokens // BATCH
        config = SAETrainerConfig(
            total_training_samples=steps * BATCH,
            train_batch_size_samples=BATCH,
            lr=RATE,
            lr_end=RATE / 20,
            lr_warm_up_steps=min(100, steps // 4),
            lr_decay_steps=steps // 2,
            dead_feature_window=200,
            logger=LoggingConfig(log_to_wandb=False),
        )
        trainer: SAETrainer[Any, Any] = SAETrainer(
            cfg=config, sae=sae, data_provider=batches(x[: spec.tokens], spec.seed)
        )
        trainer.fit()
    folder = out / spec.name
    sae.save_inference_model(folder)
    floor_of = None if spec.role == "trained" else replace(spec, role="trained").name
    record = {"role": spec.role, "floor_of": floor_of, "seed": spec.seed, "settings": asdict(spec)}
    (folder / "training.json").write_text(json.dumps(record), "utf-8")
    return folder


def world(room: Path, wanted: Sequence[Spec], tokens: int) -> Path:
    """Save a synthetic model, train SAEs on it and ingest them; return the atlas."""
    correlation, trees = wanted[0].world
    room = room / f"correlation-{correlation:g}-trees-{trees}"
    room.mkdir()
    settings = SyntheticSettings(
        correlation=correlation, trees=trees, tokens=60_000, training_tokens=tokens, seed=1
    )
    folder = save_synthetic(room / "synthetic", settings)
    x = activations(folder, tokens)
    saes = [trained(spec, x, room / "saes", context=settings.context) for spec in wanted]
    path = room / "features.atlas"
    ingest(
        path,
        saes=[str(folder / "truth"), *map(str, saes)],
        text=folder / "text.jsonl",
        model=folder,
        match=None,
    ).close()
    return path


def scores(path: Path, wanted: Sequence[Spec]) -> list[dict[str, Any]]:
    """Return the scores of the SAEs, with their settings."""
    rows = compare_with_truth(path, [spec.name for spec in wanted]).rows
    with Atlas.open(path) as atlas:
        fvu = {row["name"]: row["fvu"] for row in atlas.table("SAE").to_pylist()}
    by_name = {row["sae"]: {**row, "fvu": fvu[row["sae"]]} for row in rows}
    return [asdict(spec) | by_name[spec.name] for spec in wanted]


def calibration(path: Path, one: Spec, other: Spec) -> list[dict[str, Any]]:
    """Count matches of two SAEs with q <= .05, and those of the same true feature."""
    match_saes(path, [one.name, other.name], settings=MatchSettings(draws=50))
    results = {r["sae"]: r for r in compare_with_truth(path, [one.name, other.name])}
    pair = sorted([one.name, other.name])
    with Atlas.open(path) as atlas:
        edges = atlas.table("MATCHES").to_pandas()
    ends = [edges[end].str.rpartition("/")[[0, 2]] for end in ("source", "target")]
    edges = edges[(ends[0][0] == pair[0]) & (ends[1][0] == pair[1])]
    for end, name, column in zip(("source", "target"), pair, ("a", "b"), strict=True):
        live = results[name].to_pandas("features").set_index("idx")
        index = edges[end].str.rpartition("/")[2].astype(int)
        edges[column] = live["nearest"].reindex(index).to_numpy()
        edges[f"{column}_cosine"] = live["cosine"].reindex(index).to_numpy()
    edges["same"] = edges["a"] == edges["b"]
    edges["stands"] = edges["same"] & (edges[["a_cosine", "b_cosine"]].min(axis=1) > STANDS_FOR)
    significant = edges[edges["q"] <= 0.05]
    selections = {
        "all": significant,
        "mutual": significant[significant["mutual"]],
        "one-to-one": significant[significant["one_to_one"]],
        "mutual, r > .5": significant[significant["mutual"] & (significant["pearson"] > 0.5)],
        "mutual, r > .9": significant[significant["mutual"] & (significant["pearson"] > 0.9)],
    }
    label = one.role if one.role == other.role else f"{one.role}, {other.role}"
    return [
        {
            "SAEs": label,
            "edges with q <= .05": name,
            "number": len(chosen),
            "same true feature": _share(chosen["same"]),
            f"both above {STANDS_FOR:g}": _share(chosen["stands"]),
        }
        for name, chosen in selections.items()
    ]


def calibration_by_setting(
    paths: Mapping[Any, Path], wanted: Sequence[Spec]
) -> list[dict[str, Any]]:
    """Return for each setting of trained SAEs how often a match between its two seeds is a shared feature."""
    rows = []
    for one in (spec for spec in wanted if spec.role == "trained" and spec.seed == 0):
        found = calibration(paths[one.world], one, replace(one, seed=1))
        by_name = {row["edges with q <= .05"]: row for row in found}
        row: dict[str, Any] = {
            name: getattr(one, name) for name in ("width", "k", "correlation", "trees", "tokens")
        }
        for name in ("all", "mutual", "mutual, r > .9"):
            row[f"{name}: edges"] = by_name[name]["number"]
            row[f"{name}: same true feature"] = by_name[name]["same true feature"]
        rows.append(row)
    return rows


def absorbed(path: Path, wanted: Sequence[Spec]) -> list[dict[str, Any]]:
    """Count children whose own direction, or whose sum with the parent, is that of a feature."""
    sums = open_model(path.parent / "synthetic", device="cpu").base.sums
    true, parent = sums.down_proj.weight.T, sums.parent
    child = (parent >= 0).nonzero().squeeze(1)
    free = torch.ones(len(parent), dtype=torch.bool)
    free[child] = free[parent[child]] = False
    directions = {
        "children": true[child],
        "sums of parent and child": true[child] + true[parent[child]],
        "parents": true[parent[child].unique()],
        "features of no tree": true[free],
    }
    rows = []
    for spec in wanted:
        decoder = open_sae(path.parent / "saes" / spec.name).sae.W_dec
        learned = torch.nn.functional.normalize(decoder, dim=1)
        row: dict[str, Any] = {"seed": spec.seed}
        for name, rows_of in directions.items():
            best = (torch.nn.functional.normalize(rows_of, dim=1) @ learned.T).amax(1)
            row[name] = float((best > STANDS_FOR).float().mean())
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(map(_shown, row.values())) + " |" for row in rows]
    return "\n".join(lines)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each setting: means over its seeds."""
    by = ["role", "width", "k", "correlation", "trees", "tokens"]
    shown = {
        "fvu": "FVU",
        "f1": "F1",
        "mean_cosine": "mean cosine",
        "chance_mean_cosine": "mean cosine, random directions",
        "recall": "recall",
        "edge_precision": "edge precision",
        "edge_chance": "edge precision, exchanged",
        "edge_recall": "edge recall",
        "parent_precision": "parent precision",
        "parent_chance": "parent precision, exchanged",
        "parent_recall": "parent recall",
    }
    frame = pd.DataFrame(rows)
    means = frame.groupby(by, sort=False)[list(shown)].mean().reset_index()
    return [
        {**{name: row[name] for name in by}, **{new: row[old] for old, new in shown.items()}}
        for row in means.to_dict("records")
    ]


def _share(values: "pd.Series[bool]") -> float | None:
    return float(values.mean()) if len(values) else None


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Print all tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=300_000, help="training tokens of the base")
    parser.add_argument("--keep", type=Path, help="a new folder for models, SAEs and atlases")
    options = parser.parse_args()
    logging.getLogger("sae_lens").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        room = options.keep or Path(temporary)
        room.mkdir(exist_ok=True)
        rows, wanted = [], specs(options.tokens)
        paths = {}
        for which in dict.fromkeys(spec.world for spec in wanted):
            own = [spec for spec in wanted if spec.world == which]
            paths[which] = world(room, own, options.tokens)
            rows += scores(paths[which], own)
        order = {spec: i for i, spec in enumerate(wanted)}
        rows.sort(key=lambda row: order[Spec(**{f: row[f] for f in asdict(Spec())})])
        print(table(summary(rows)))
        base = Spec(tokens=options.tokens)
        pairs = [
            (replace(base, role=a), replace(base, role=b, seed=1))
            for a, b in (
                ("trained",) * 2,
                ("trained", "frozen-decoder"),
                ("frozen-decoder",) * 2,
                ("untrained",) * 2,
            )
        ]
        print()
        print(table(absorbed(paths[base.world], [replace(base, seed=seed) for seed in (0, 1)])))
        print()
        print(table([row for pair in pairs for row in calibration(paths[base.world], *pair)]))
        print()
        print(table(calibration_by_setting(paths, wanted)))


if __name__ == "__main__":
    main()
