"""Intervals from draws; ``ingest`` uses the same ones."""

from ingest.statistics.intervals import (
    bootstrap_samples,
    bootstrap_weights,
    jackknife_interval,
    quantile_interval,
)

__all__ = ["bootstrap_samples", "bootstrap_weights", "jackknife_interval", "quantile_interval"]
