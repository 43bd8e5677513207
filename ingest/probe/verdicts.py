"""Verdicts: what the scores of a probe and of its tables say a feature depends on."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.probe.bootstrap import Limits

__all__ = ["Judged", "judge"]

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Judged:
    """What is said of each feature.

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
    probe_limits: Limits,
    table: Floats,
    table_limits: Limits,
    ceiling: Floats,
    ceiling_limits: Limits,
    position: Floats,
    bigram: Floats,
    tau: float,
    delta: float,
    at_embedding: bool,
) -> Judged:
    """Return the verdict on each feature; the first that holds.

    A comparison with NaN does not hold, so that without intervals nothing is decided.

    Parameters
    ----------
    probe
        float64, (features,). Balanced accuracy of the probe.
    probe_limits
        Its interval: ``"beyond token"`` if all of it is above the ceiling.
    table
        float64, likewise. That of the token table; ``"linear"`` if the probe is no more
        than ``delta`` below.
    table_limits
        Its interval: ``"token"`` if all of it reaches ``tau``.
    ceiling
        float64, likewise. That of the best function of the token on validation.
    ceiling_limits
        Its interval: ``"context"`` if all of it is below ``tau``.
    position
        float64, likewise. That of the position table: it tells the context if it reaches ``tau``.
    bigram
        float64, likewise. That of the bigram table, asked where the position does not tell.
    tau
        Balanced accuracy that a verdict asks for.
    delta
        How near the token table is near enough.
    at_embedding
        Whether the probe reads the embedding, where nothing is beyond the token.
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
    """Return, for each feature, the word of the first case that holds."""
    result = np.full(len(cases[0][1]), otherwise, dtype=object)
    for word, holds in reversed(cases):
        result[holds] = word
    return result
