"""Evaluation of all methods by the rank of the true counterpart, with and without anchors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.graph_matching.methods import Scored, anchored, mispaired, without_anchors
from analysis.graph_matching.ranks import Ranks, first, rank
from analysis.graph_matching.seeded_matching import TOLERANCE
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.subject import Subject

__all__ = ["Outcome", "drawn_anchors", "evaluate"]

Ints: TypeAlias = NDArray[np.int64]

# The first ranks of these methods are random, so agreement with them has no meaning.
_RANDOM_FIRST = ("chance", "anchors paired at random")


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one method in one repeat, with a share of the truth known.

    Parameters
    ----------
    method, share, repeat
        The method, the share of the truth that is known, and the repeat.
    anchors
        Number of known pairs.
    query
        int64, (queries,). The node of A.
    active
        int64, (queries,). Number of tokens on which the node is active.
    ranks
        Ranks of the true counterparts.
    places
        float64, (queries, candidates). Shares of the first rank. None if they were not requested,
        or if agreement with the method has no meaning.
    true
        int64, (queries,). The column of the true counterpart.
    """

    method: str
    share: float
    repeat: int
    anchors: int
    query: Ints
    active: Ints
    ranks: Ranks
    true: Ints
    places: csr_array | None = field(default=None, repr=False)


def drawn_anchors(truth: Ints, share: float, *, seed: int, repeat: int = 0) -> NDArray[np.bool_]:
    """Draw the known pairs of the truth; a larger share includes those of a smaller one."""
    known = np.zeros(len(truth), dtype=np.bool_)
    number = min(len(truth) - 1, max(1, round(share * len(truth)))) if share else 0
    order = np.random.default_rng([seed, repeat, 2]).permutation(len(truth))
    known[order[:number]] = True
    return known


def evaluate(
    subject: Subject,
    settings: GraphMatchingSettings,
    *,
    shares: Sequence[float],
    places_at: float | None = None,
    seed: int = 0,
    repeat: int = 0,
) -> Iterator[Outcome]:
    """Rank the true counterparts by every method, without and with anchors.

    All methods have the same queries and candidates. Anchors are excluded from both, even for
    methods that do not use them.

    Parameters
    ----------
    subject
        Graphs and truth.
    settings
        Settings of the methods.
    shares
        Shares of the truth that are known; 0 is always included.
    places_at
        The share at which first ranks are stored, for the agreement of methods.
    seed, repeat
        Seed of the anchors, and the number of the repeat.
    """
    knowns = {
        share: drawn_anchors(subject.truth, share, seed=seed, repeat=repeat)
        for share in dict.fromkeys([0.0, *shares])
    }
    live = subject.b.live
    for scored in without_anchors(subject, settings):
        for share, known in knowns.items():
            columns = ~np.isin(live, subject.truth[known, 1])
            part = Scored(scored.method, scored.scores[~known][:, columns], scored.tolerance)
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, store=share == places_at
            )
    rng = np.random.default_rng([seed, repeat, 3])
    for share, known in knowns.items():
        if not share:
            continue
        for part in _with_anchors(subject, settings, subject.truth[known], rng):
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, store=share == places_at
            )


def _with_anchors(
    subject: Subject, settings: GraphMatchingSettings, anchors: Ints, rng: np.random.Generator
) -> Iterator[Scored]:
    yield Scored(
        "anchors, walks alone", anchored(subject, settings, anchors=anchors, alone=True), TOLERANCE
    )
    yield Scored("anchors, matched", anchored(subject, settings, anchors=anchors), TOLERANCE)
    if len(anchors) > 1:  # a single known pair cannot be paired wrongly
        scores = mispaired(subject, settings, anchors=anchors, rng=rng)
        yield Scored("anchors paired at random", scores, TOLERANCE)


def _outcome(
    subject: Subject,
    scored: Scored,
    known: NDArray[np.bool_],
    *,
    share: float,
    repeat: int,
    store: bool,
) -> Outcome:
    candidates = np.setdiff1d(subject.b.live, subject.truth[known, 1])
    store = store and scored.method not in _RANDOM_FIRST
    query, partner = subject.truth[~known].T
    true = np.searchsorted(candidates, partner)
    return Outcome(
        scored.method, share, repeat, int(known.sum()), query, subject.a.active[query],
        rank(scored.scores, true, tolerance=scored.tolerance), true,
        csr_array(first(scored.scores, tolerance=scored.tolerance)) if store else None,
    )  # fmt: skip
