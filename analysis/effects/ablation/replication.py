"""Replication: edges that are found in one half of the documents, tested in the other half."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.effects.ablation.arms import Arm
from analysis.effects.ablation.selection import selected_edges, tested
from analysis.effects.ablation.source import Source
from analysis.effects.settings import EffectSettings

__all__ = ["Replication", "half_arm", "replicated"]

Ints = NDArray[np.int64]

#: Largest p of a replicated edge.
_LEVEL = 0.05


@dataclass(frozen=True)
class Replication:
    """Edges that are found in one half of the documents alone, of both halves.

    Parameters
    ----------
    edges
        Edges by all conditions, with the tokens of one half. An edge of both halves counts twice.
    replicated
        Those with the same sign and p ≤ .05 in the other half. Without an effect, p is adjusted for all
        targets, so at most 5% of the edges replicate.
    """

    edges: int
    replicated: int


def replicated(
    source: Source,
    document: Ints,
    arms: Sequence[Arm],
    *,
    candidates: Sequence[Ints],
    first: NDArray[np.bool_],
    sham: float,
    settings: EffectSettings,
) -> Replication:
    """Count the edges of each half of the documents, and those that replicate in the other half.

    Only features with a token in both halves are used.

    Parameters
    ----------
    source, document, arms, candidates, sham, settings
        As for ``analysis.effects.ablation.selection.selected_edges``.
    first
        Whether each token is in a document of the first half.
    """
    counts = [
        np.bincount(source.row[half], minlength=len(source.features)) for half in (first, ~first)
    ]
    both = np.flatnonzero((counts[0] > 0) & (counts[1] > 0))
    if not arms[0].total or not len(both):
        return Replication(0, 0)
    inside = np.isin(source.row, both)
    halves = []
    for half in (first, ~first):
        rows = np.flatnonzero(half & inside)
        part = replace(
            source,
            features=source.features[both],
            chosen=source.chosen.take(rows),
            other=source.other.take(rows),
        )
        some = [half_arm(arm, source, rows, sources=both, first=first) for arm in arms]
        p, q = tested(some[0], some[2:], sham)
        found = selected_edges(
            part,
            document[rows],
            some,
            candidates=[one[both] for one in candidates],
            p=p,
            q=q,
            sham=sham,
            settings=settings,
        )
        halves.append((found, p, some[0].total))
    number = {int(feature): i for i, feature in enumerate(source.features[both])}
    again = 0
    for (found, _, _), (_, p, total) in (halves, halves[::-1]):
        for edge in found:
            at = number[edge["source"]], edge["target"]
            value = float(total[edge["sae"]][at])
            again += bool(p[edge["sae"]][at] <= _LEVEL and value * edge["mean"] > 0)
    return Replication(sum(len(found) for found, *_ in halves), again)


def half_arm(
    arm: Arm, source: Source, rows: Ints, *, sources: Ints, first: NDArray[np.bool_]
) -> Arm:
    """Return an arm over the tokens of one half of the documents.

    Parameters
    ----------
    arm, source
        The arm over all tokens, and its features and tokens.
    rows
        The tokens of the half, of features with tokens in both halves; all are in the first half, or none.
    sources
        Rows of these features.
    first
        Whether each token is in the first half.
    """
    counts = [
        np.bincount(source.row[half], minlength=len(source.features))[sources, None]
        for half in (first, ~first)
    ]
    total: list[NDArray[np.floating[Any]]] = [one[sources] for one in arm.first]
    if not first[rows].any():  # the rest of the mean over all tokens
        total = [
            (((counts[0] + counts[1]) * one[sources] - counts[0] * half) / counts[1]).astype(
                np.float32
            )
            for one, half in zip(arm.total, total, strict=True)
        ]
    return Arm(
        arm.loss[rows],
        total,
        [],
        [one[sources] for one in arm.here],
        [one[rows] for one in arm.values],
    )
