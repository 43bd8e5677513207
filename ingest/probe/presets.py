"""Presets: the probe settings of published studies, by name."""

from ingest.probe.settings import ProbeSettings

__all__ = ["PRESETS"]

PRESETS: dict[str, ProbeSettings] = {
    # The dataset-geometry study: scikit-learn's LogisticRegression(C=10) with 2,000 iterations,
    # trained on equal numbers of active and inactive tokens, validated on the remaining tokens.
    "mats": ProbeSettings(
        splits=("sample",),
        c=10.0,
        scale=False,
        threshold=0.1,
        balance="subsample",
        features=100,
        tokens=10_240,
        iterations=2000,
    ),
}
"""Settings by name."""
