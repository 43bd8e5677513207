"""Matching with anchors: nodes are similar if walks lead from them to the same known counterparts.

A node's profile has an entry for each anchor and each length of walk: the logarithm of how
much likelier a walk from the node ends at the anchor than one from anywhere. Known pairs give
both graphs the same columns, so that profiles can be compared. In each round, the pairs that
stand out most are taken in as anchors that count less, and profiles are made anew; nodes'
propagated vectors count beside them, as long as pairs are being found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.graph_matching.graphs import NodeGraph
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.vectors import unit

__all__ = ["TOLERANCE", "Nodes", "match"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = NDArray[np.float32]

#: Scores are sums in single precision; those that differ by no more are the same.
TOLERANCE = 2e-5

# A score is compared with the mean of N best scores of its row and of its column.
_NEAREST = 10

_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Nodes:
    """One graph of two.

    Parameters
    ----------
    graph
        The graph.
    free
        int64, ascending. The nodes to be matched: live, and no anchors.
    anchors
        int64. The known ones, in the same order on both sides.
    vectors
        float64, (free nodes, columns). Rows of length 1, comparable between the graphs; None if
        only walks are used.
    """

    graph: NodeGraph
    free: Ints
    anchors: Ints
    vectors: Floats | None = None


def match(
    a: Nodes, b: Nodes, settings: GraphMatchingSettings, *, rounds: int | None = None
) -> Scores:
    """Score every free node of A against every free node of B.

    Parameters
    ----------
    a, b
        The graphs; as many anchors on either side.
    settings
        How.
    rounds
        Instead of the settings' own.

    Returns
    -------
    float32, (free nodes of A, free nodes of B). Twice their cosine less the mean cosine of
    each with its ten nearest: what is near to everything is nobody's counterpart.
    """
    rounds = settings.rounds if rounds is None else rounds
    found = (np.zeros(0, dtype=np.int64),) * 2
    for number in range(rounds + 1):
        last = number == rounds
        scores = _relative(*(
            _embedding(side, pairs, settings, walks_alone=last and rounds > 0)
            for side, pairs in ((a, found[0]), (b, found[1]))
        ))  # fmt: skip
        if not last:
            i, j = _standing_out(scores, share=(number + 1) / rounds, most=settings.most)
            found = a.free[i], b.free[j]
    return scores


def _embedding(
    side: Nodes, found: Ints, settings: GraphMatchingSettings, *, walks_alone: bool
) -> Scores:
    """Return a vector for each free node; their dot products add up cosines of each kind."""
    parts = []
    if len(side.anchors) + len(found):
        known = [len(side.anchors), len(found)]
        weight = np.repeat(np.array([1, settings.doubt**0.5], dtype=np.float32), known)
        for profile in _profiles(side, np.concatenate([side.anchors, found]), settings.walks):
            parts.append(unit((profile - profile.mean(axis=0)) * weight) / settings.walks**0.5)
    if side.vectors is not None and not (parts and walks_alone):
        parts.append(side.vectors * (settings.prior**0.5 if parts else 1.0))
    if not parts:
        return np.zeros((len(side.free), 1), dtype=np.float32)
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")


def _profiles(side: Nodes, anchors: Ints, walks: int) -> Iterator[Scores]:
    """Yield, for each length of walk, the profile of each free node over the anchors."""
    graph = side.graph
    steps = graph.steps.astype(np.float32)
    reached = np.zeros((len(graph), len(anchors)), dtype=np.float32)
    reached[anchors, np.arange(len(anchors))] = 1
    share = graph.strength[anchors] / max(graph.strength.sum(), 1.0)
    anywhere = np.where(share > 0, share, 1).astype(np.float32)
    for _ in range(walks):
        reached = steps @ reached
        yield np.log1p(reached[side.free] / anywhere)


def _relative(a: Scores, b: Scores) -> Scores:
    scores: Scores = a @ b.T
    of_a = np.concatenate([_mean_nearest(part) for part in _strips(scores)])
    of_b = np.concatenate([_mean_nearest(part) for part in _strips(scores.T)])
    scores *= 2
    scores -= of_a[:, None]
    scores -= of_b[None]
    return scores


def _strips(scores: Scores) -> list[Scores]:
    step = max(1, _AT_ONCE // max(1, scores.shape[1]))
    return [scores[i : i + step] for i in range(0, max(len(scores), 1), step)]


def _mean_nearest(scores: Scores) -> Scores:
    size = scores.shape[1]
    if not size:
        return np.zeros(len(scores), dtype=np.float32)
    nearest = min(_NEAREST, size)
    best = np.partition(scores, size - nearest, axis=1)[:, size - nearest :]
    # Sorted, as the order of a partition, and so the last digits of a sum, depend on labels.
    mean: Scores = np.sort(best, axis=1).mean(axis=1)
    return mean


def _standing_out(scores: Scores, *, share: float, most: int) -> tuple[Ints, Ints]:
    """Return pairs that are each other's best, a share of them, those that stand out most.

    A best that stands out from the second by nothing is none: no pair is taken in by its index.
    """
    if min(scores.shape) < 2:
        return (np.zeros(0, dtype=np.int64),) * 2
    best = scores.argmax(axis=1)
    mutual = np.flatnonzero(scores.argmax(axis=0)[best] == np.arange(len(scores)))
    second = np.partition(scores[mutual], scores.shape[1] - 2, axis=1)[:, -2]
    margin = scores[mutual, best[mutual]] - second
    # Best of its row and of its column, and in both by more than nothing.
    columns = np.partition(scores[:, best[mutual]], len(scores) - 2, axis=0)[-2]
    clear = scores[mutual, best[mutual]] - columns >= TOLERANCE
    mutual, margin = mutual[clear], margin[clear]
    number = min(most, int(np.ceil(share * len(mutual))))
    if number < 1:
        return (np.zeros(0, dtype=np.int64),) * 2
    enough = max(float(np.sort(margin)[::-1][number - 1]), TOLERANCE)
    rows = mutual[margin >= enough]
    return rows, best[rows]
