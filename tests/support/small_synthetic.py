"""Synthetic models that are saved and ingested within seconds: their settings, and an atlas."""

from pathlib import Path
from typing import Any

import ingest
from ingest import SyntheticSettings, TrainSettings
from ingest.model.synthetic_features import SUM_HOOK

__all__ = ["SMALL", "make_small_synthetic_atlas", "small_synthetic"]

SMALL = {
    "features": 24,
    "width": 16,
    "trees": 4,
    "children": 2,
    "depth": 2,
    "factors": 3,
    "context": 16,
    "vocabulary": 50,
    "tokens": 400,
    "training_tokens": 100,
}


def small_synthetic(**changed: Any) -> SyntheticSettings:
    """Return the settings of 24 features in 16 dimensions, in trees of depth 2, with changes."""
    return SyntheticSettings(**(SMALL | changed))


def make_small_synthetic_atlas(folder: Path) -> Path:
    """Write ``synth``, a model; ``trained``, an SAE of it; and ``synth.atlas``, with its true features."""
    synth = ingest.save_synthetic(
        folder / "synth", small_synthetic(tokens=3000, training_tokens=3000)
    )
    ingest.train_saes(
        folder / "trained",
        model=synth,
        text=synth / "training.jsonl",
        settings=TrainSettings(
            sites=(SUM_HOOK,), widths=(32,), k=(4,), steps=5, batch=64, device="cpu"
        ),
    )
    trained = next(path.parent for path in (folder / "trained").rglob("cfg.json"))
    ingest.ingest(
        folder / "synth.atlas",
        saes=[str(synth / "truth"), str(trained)],
        text=synth / "text.jsonl",
        model=synth,
        match=None,
    ).close()
    return folder / "synth.atlas"
