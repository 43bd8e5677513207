"""Intervals of balanced accuracy: documents are drawn anew, and what was told stays as it is.

Tokens of one document are not independent, so whole documents are drawn, or groups of
them. All features, and whatever is told of them, meet the same draws, so that a probe and
its table are compared on the same tokens.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.probe.scores import balanced_accuracy

__all__ = ["CLUSTERS", "Limits", "clusters", "limits"]

Floats: TypeAlias = NDArray[np.float64]

CLUSTERS = 512
"""Clusters of documents that are drawn from, at most."""

_LOW, _HIGH = 0.025, 0.975


@dataclass(frozen=True, eq=False)
class Limits:
    """The 95% interval of each feature.

    Parameters
    ----------
    low
        float64, (features,). The lower limit; NaN where there is nothing to draw from.
    high
        float64, (features,). The upper limit, likewise.
    draws
        float32, (draws, features). The score in each draw, NaN where that draw had no token
        of a class. A draw is of the same clusters for everything that is told of the same
        tokens with the same seed.
    """

    low: Floats
    high: Floats
    draws: NDArray[np.float32]

    @classmethod
    def none(cls, features: int, *, draws: int = 0) -> "Limits":
        """Return the limits where there is nothing to draw from."""
        nan = np.full(features, np.nan)
        return cls(nan, nan, np.full((draws, features), np.nan, np.float32))


def clusters(documents: NDArray[Any], *, at_most: int = CLUSTERS, seed: int) -> NDArray[np.int64]:
    """Deal documents at random into clusters of as many documents each, give or take one.

    Parameters
    ----------
    documents
        Integers, one a token. Which document it is of.
    at_most
        How many clusters there may be; with fewer documents, each is one.
    seed
        Seed of the deal.

    Returns
    -------
    int64, one a token: its cluster, counted from 0.
    """
    distinct, document = np.unique(documents, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % at_most
    return dealt.astype(np.int64)[document]


def limits(
    *,
    true_positives: Floats,
    positives: Floats,
    false_positives: Floats,
    negatives: Floats,
    draws: int,
    seed: int,
) -> Limits:
    """Return the interval between the 2.5% and 97.5% quantiles over draws of clusters.

    Parameters
    ----------
    true_positives
        float64, (clusters, features). Active tokens told active.
    positives
        float64, likewise. Active tokens.
    false_positives
        float64, likewise. Inactive tokens told active.
    negatives
        float64, likewise. Inactive tokens.
    draws
        How often clusters are drawn, as many as there are, with replacement. For a
        feature, a draw without active or without inactive tokens is left out.
    seed
        Seed of the draws: the same for as many clusters.

    Returns
    -------
    NaN without draws, and where all tokens of a class are in one cluster: what is in one
    document only says nothing of others.
    """
    number, features = positives.shape
    alone = ((positives > 0).sum(axis=0) < 2) | ((negatives > 0).sum(axis=0) < 2)
    if draws == 0 or alone.all():
        return Limits.none(features, draws=draws)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)
    scores = balanced_accuracy(
        true_positives=weights @ true_positives,
        positives=weights @ positives,
        false_positives=weights @ false_positives,
        negatives=weights @ negatives,
    )
    scores[:, alone] = np.nan
    drawn = scores.astype(np.float32)
    scores.sort(axis=0)  # NaN last
    return Limits(_quantile(scores, _LOW), _quantile(scores, _HIGH), drawn)


def _quantile(ordered: Floats, share: float) -> Floats:
    """Return the quantile of each column, NaN left out, as ``np.nanquantile`` has it.

    That function goes through columns one by one.
    """
    there = np.count_nonzero(~np.isnan(ordered), axis=0)
    place = share * np.maximum(there - 1, 0)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(there - 1, 0))
    features = np.arange(ordered.shape[1])
    lower: Floats = ordered[below, features]
    upper: Floats = ordered[above, features]
    return np.asarray(lower + (upper - lower) * (place - below))
