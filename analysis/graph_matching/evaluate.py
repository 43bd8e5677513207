"""Rank the true counterparts by each method, with shares of them known as anchors."""

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

# Agreement with these methods has no meaning.
_NO_PLACES = ("chance", "anchors paired at random")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method did in one repeat, with a share of the truth known.

    Parameters
    ----------
    method, share, repeat
        Which.
    anchors
        How many pairs were known.
    query
        int64, one a query. The node of A.
    active
        int64, likewise. How often it is active.
    ranks
        Rank of its counterpart.
    places
        float64, (queries, candidates). Shares of the first rank; None if they were not requested,
        and for methods whose agreement with others has no meaning.
    true
        int64, one a query. The column of the counterpart.
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
    """Return which pairs of the truth are known; more shares hold those of fewer."""
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
    """Rank the counterparts by every method, without anchors and with shares of the truth known.

    All methods have the same queries and the same candidates: anchors are excluded from both,
    whether a method uses them or not.

    Parameters
    ----------
    subject
        Graphs and truth.
    settings
        How counterparts are searched.
    shares
        Shares of the truth that are known; none known (0) is always there.
    places_at
        The share at which first ranks are stored.
    seed, repeat
        What the anchors are drawn from.
    """
    knowns = {
        share: drawn_anchors(subject.truth, share, seed=seed, repeat=repeat)
        for share in dict.fromkeys([0.0, *shares])
    }
    every = subject.b.live
    for scored in without_anchors(subject, settings):
        for share, known in knowns.items():
            columns = ~np.isin(every, subject.truth[known, 1])
            part = Scored(scored.method, scored.scores[~known][:, columns], scored.tolerance)
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, keep=share == places_at
            )
    rng = np.random.default_rng([seed, repeat, 3])
    for share, known in knowns.items():
        if not share:
            continue
        for part in _with_anchors(subject, settings, subject.truth[known], rng):
            yield _outcome(
                subject, part, known, share=share, repeat=repeat, keep=share == places_at
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
    keep: bool,
) -> Outcome:
    candidates = np.setdiff1d(subject.b.live, subject.truth[known, 1])
    keep = keep and scored.method not in _NO_PLACES
    query, partner = subject.truth[~known].T
    true = np.searchsorted(candidates, partner)
    return Outcome(
        scored.method, share, repeat, int(known.sum()), query, subject.a.active[query],
        rank(scored.scores, true, tolerance=scored.tolerance), true,
        csr_array(first(scored.scores, tolerance=scored.tolerance)) if keep else None,
    )  # fmt: skip
