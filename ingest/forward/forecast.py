"""The forecast of a run: its expected seconds, by kind of work."""

import time
from dataclasses import dataclass, field

from atlas.progress import Clock, Pace, Progress

__all__ = ["Forecast"]


@dataclass(frozen=True)
class Forecast:
    """The expected seconds of a run.

    Parameters
    ----------
    run
        The pass: tokenizer, model, encoders, fidelity and files of codes. If codes are not
        stored, it includes the reductions; if a core is idle, their first pass.
    reduce, parts
        For each SAE: its other reductions over stored codes, and its tables.
    """

    run: float = 0.0
    reduce: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The total."""
        return self.run + sum(self.reduce.values()) + sum(self.parts.values())

    def pace(self, *, progress: Progress, clock: Clock = time.monotonic) -> Pace:
        """Return a ``Pace``, which compares the forecast with the finished work."""
        kinds = {
            "run": self.run,
            "reduce": sum(self.reduce.values()),
            "parts": sum(self.parts.values()),
        }
        return Pace(kinds, progress=progress, clock=clock)
