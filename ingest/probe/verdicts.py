"""Verdicts: whether a feature depends on the token, on its context, or on more than the token."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.probe.bootstrap import Intervals

__all__ = ["Judged", "judge"]

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on each feature.

    Parameters
    ----------
    verdict
        str, (features,). ``"token"``, ``"beyond token"``, ``"context"`` or ``"undecided"``.
    how
        str or None, likewise. For ``"token"``: ``"linear"`` or ``"lookup"``.
    context_by
        str or None, likewise. For ``"context"``: ``"position"``, ``"bigram"`` or None.
    """

    verdict: Words
    how: Words
    context_by: Words


def judge(
    *,
    probe: Floats,
    probe_limits: Intervals,
    table: Floats,
    table_limits: Intervals,
    ceiling: Floats,
    ceiling_limits: Intervals,
    position: Floats,
    bigram: Floats,
    tau: float,
    delta: float,
    at_embedding: bool,
) -> Judged:
    """Return the verdict on each feature: the first one whose condition holds.

    A comparison with NaN is false, so without intervals the verdict is ``"undecided"``.

    Parameters
    ----------
    probe
        float64, (features,). Balanced accuracy of the probe.
    probe_limits
        Its interval. The verdict is ``"beyond token"`` if the lower limit exceeds the ceiling.
    table
        float64, likewise. Balanced accuracy of the token table. A token feature is
        ``"linear"`` if the probe is at most ``delta`` below it.
    table_limits
        Its interval. The verdict is ``"token"`` if the lower limit reaches ``tau``.
    ceiling
        float64, likewise. Balanced accuracy of the best function of the token on validation.
    ceiling_limits
        Its interval. The verdict is ``"context"`` if the upper limit is below ``tau``.
    position
        float64, likewise. Balanced accuracy of the position table. A context feature is
        predicted by ``"position"`` if it reaches ``tau``.
    bigram
        float64, likewise. Balanced accuracy of the bigram table, used where the position
        table does not reach ``tau``.
    tau
        Balanced accuracy that a verdict requires.
    delta
        Largest difference from the token table for ``"linear"``.
    at_embedding
        Whether the probe reads the embedding, where ``"beyond token"`` is impossible.
    """
    beyond = (probe_limits.low > ceiling) & (not at_embedding)
    verdict = _first(
        ("token", table_limits.low >= tau),
        ("beyond token", beyond),
        ("context", ceiling_limits.high < tau),
        otherwise="undecided",
    )
    how = _first(("linear", probe >= table - delta), ("lookup", probe < table - delta))
    context_by = _first(("position", position >= tau), ("bigram", bigram >= tau))
    how[verdict != "token"] = None
    context_by[verdict != "context"] = None
    return Judged(verdict, how, context_by)


def _first(*cases: tuple[str, NDArray[Any]], otherwise: str | None = None) -> Words:
    """Return the word of the first case that holds for each feature."""
    result = np.full(len(cases[0][1]), otherwise, dtype=object)
    for word, holds in reversed(cases):
        result[holds] = word
    return result
