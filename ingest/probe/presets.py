"""Presets: ways of probing that others have published, under the name they are known by."""

from ingest.probe.settings import ProbeSettings

__all__ = ["PRESETS"]

PRESETS: dict[str, ProbeSettings] = {
    # The published dataset-geometry study: scikit-learn's LogisticRegression(C=10), 2,000
    # iterations, on as many inactive tokens as active ones, validated on whatever was left.
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
