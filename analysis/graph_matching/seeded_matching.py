"""Seeded graph matching: nodes are similar if walks lead from them to the same anchors.

The profile of a node has an entry for each anchor and each walk length. The entry is the
logarithm of 1 + the ratio of two probabilities that a walk ends at the anchor: from the node,
and from a random start. Anchors are known pairs, so both graphs have the same columns and their
profiles are comparable. In each round, the pairs with the largest margins become anchors with a
smaller weight, and profiles are recomputed. Until the last round, propagated vectors of nodes
are used in addition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_matching.node_vectors import unit
from analysis.graph_matching.settings import GraphMatchingSettings

__all__ = ["TOLERANCE", "Nodes", "match"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = NDArray[np.float32]

#: Scores are sums in single precision; smaller differences count as ties.
TOLERANCE = 2e-5

# Number of best scores of the row and of the column whose mean is subtracted from a score.
_NEAREST = 10

_CHUNK = 1 << 24


@dataclass(frozen=True, eq=False)
class Nodes:
    """One of the two graphs.

    Parameters
    ----------
    graph
        The graph.
    free
        int64, ascending. The nodes to be matched: live nodes except anchors.
    anchors
        int64. The anchors, in the same order on both sides.
    vectors
        float64, (free nodes, columns). Unit vectors, comparable between the graphs; None to
        use only walks.
    """

    graph: CoactivationGraph
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
        The graphs, with equally many anchors.
    settings
        Settings of the matching.
    rounds
        Number of rounds; None for that of the settings.

    Returns
    -------
    float32, (free nodes of A, free nodes of B). Twice the cosine minus the mean cosines
    of both nodes with their ten nearest, which penalizes nodes that are near to many.
    """
    rounds = settings.rounds if rounds is None else rounds
    found = (np.zeros(0, dtype=np.int64),) * 2
    for number in range(rounds + 1):
        last = number == rounds
        scores = _relative(
            *(
                _embedding(side, pairs, settings, walks_alone=last and rounds > 0)
                for side, pairs in ((a, found[0]), (b, found[1]))
            )
        )
        if not last:
            i, j = _distinct_best(scores, share=(number + 1) / rounds, most=settings.most)
            found = a.free[i], b.free[j]
    return scores


def _embedding(
    side: Nodes, found: Ints, settings: GraphMatchingSettings, *, walks_alone: bool
) -> Scores:
    """Return a vector for each free node, whose dot products are weighted sums of cosines."""
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
    """Yield the profiles of the free nodes over the anchors, for each walk length."""
    graph = side.graph
    steps = graph.steps.astype(np.float32)
    reached = np.zeros((graph.features, len(anchors)), dtype=np.float32)
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
    step = max(1, _CHUNK // max(1, scores.shape[1]))
    return [scores[i : i + step] for i in range(0, max(len(scores), 1), step)]


def _mean_nearest(scores: Scores) -> Scores:
    size = scores.shape[1]
    if not size:
        return np.zeros(len(scores), dtype=np.float32)
    nearest = min(_NEAREST, size)
    best = np.partition(scores, size - nearest, axis=1)[:, size - nearest :]
    # np.partition orders by label, which changes the last digits of a sum, so sort first.
    mean: Scores = np.sort(best, axis=1).mean(axis=1)
    return mean


def _distinct_best(scores: Scores, *, share: float, most: int) -> tuple[Ints, Ints]:
    """Return the share of mutual best pairs with the largest margins.

    A best score that ties with the second best is excluded, so no pair depends on its index.
    """
    if min(scores.shape) < 2:
        return (np.zeros(0, dtype=np.int64),) * 2
    best = scores.argmax(axis=1)
    mutual = np.flatnonzero(scores.argmax(axis=0)[best] == np.arange(len(scores)))
    second = np.partition(scores[mutual], scores.shape[1] - 2, axis=1)[:, -2]
    margin = scores[mutual, best[mutual]] - second
    # The best score of the row must also be the unique best score of the column.
    columns = np.partition(scores[:, best[mutual]], len(scores) - 2, axis=0)[-2]
    clear = scores[mutual, best[mutual]] - columns >= TOLERANCE
    mutual, margin = mutual[clear], margin[clear]
    number = min(most, int(np.ceil(share * len(mutual))))
    if number < 1:
        return (np.zeros(0, dtype=np.int64),) * 2
    enough = max(float(np.sort(margin)[::-1][number - 1]), TOLERANCE)
    rows = mutual[margin >= enough]
    return rows, best[rows]
