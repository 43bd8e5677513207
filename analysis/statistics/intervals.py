"""Intervals from draws, which ``ingest`` uses too, and a mean with its interval."""

from dataclasses import dataclass

from ingest.statistics.intervals import (
    bootstrap_samples,
    bootstrap_weights,
    jackknife_interval,
    quantile_interval,
)

__all__ = [
    "Mean",
    "bootstrap_samples",
    "bootstrap_weights",
    "jackknife_interval",
    "quantile_interval",
]


@dataclass(frozen=True)
class Mean:
    """A mean and its 95% interval; the limits are None without an interval."""

    mean: float | None
    low: float | None = None
    high: float | None = None
