"""Pooled p-values: a match compared with the draws of all features of similar frequency.

The draws of a single feature give no p below 1 / (1 + draws). The draws of several features
together give a lower one. Their correlations are not comparable directly: under some nulls the
best correlation of one feature is high in every draw, and that of another is low. Each value is
therefore standardised: its distance from the feature's other draws, in standard deviations. A
feature with a candidate in only one draw has no variance of its own. The mean variance of the
features of similar frequency (within a factor of two) is therefore added to each.

The pools begin as octaves of the activation count. In an octave of few features, no p can be
significant after the Benjamini-Hochberg correction. The smallest pool is therefore merged with
the smaller of its neighbours. Merging stops when in each pool ``TRUE_MATCHES`` matches at the
lowest possible p are significant, or when one pool remains. The pools depend only on counts and
on the number of hypotheses, so p is as valid as for fixed pools.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from ingest.statistics.permutation import exceedance_p

__all__ = [
    "AS_GOOD",
    "FEWEST",
    "SIGNIFICANT",
    "TRUE_MATCHES",
    "Claims",
    "End",
    "claims",
    "merged",
    "octaves",
    "own_p",
    "pooled_p",
    "too_few_draws",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

#: Largest q of a significant match.
SIGNIFICANT = 0.05

_ONE_IN = 20  # 1 / SIGNIFICANT, as an integer

#: Number of matches at the lowest possible p that must be significant.
TRUE_MATCHES = 10

# A draw may leave the correlation of a pair unchanged (a feature that depends on the token alone,
# in the second null), but adds the same products in another order, so the last digits differ.
AS_GOOD = 1e-9

# Draws that differ by less than this are equal up to rounding.
_LEAST = 1e-12

#: Smallest number of draws for pooling: fewer have no standard deviation without one of them.
FEWEST = 3


@dataclass(frozen=True, eq=False)
class End:
    """One end of the pairs: the features of one SAE, and their draws.

    Parameters
    ----------
    best
        float64, draws x features. Best correlation of each feature under each draw.
    feature
        int64, one a pair. The feature of the pair.
    count
        int64, one a feature. Units on which it is active.
    eligible
        bool, one a feature. Whether it can be in a pair.
    """

    best: Floats
    feature: Ints
    count: Ints
    eligible: Mask

    @property
    def unmatched(self) -> int:
        """Number of eligible features in no pair."""
        alone = self.eligible.copy()
        alone[self.feature] = False
        return int(alone.sum())


@dataclass(frozen=True, eq=False)
class Claims:
    """The p-values and q-values of the pairs.

    Parameters
    ----------
    p, p_pooled, q, floor_pooled
        float64, one a pair. See ``ingest.match.nulls.Null``.
    draws_needed, matches_needed
        See ``ingest.match.nulls.Null``.
    """

    p: Floats
    p_pooled: Floats
    q: Floats
    floor_pooled: Floats
    draws_needed: int | None
    matches_needed: int | None


def claims(a: End, b: End, observed: Floats) -> Claims:
    """Return p, pooled p and q of pairs, with their lowest possible values.

    Parameters
    ----------
    a, b
        Both ends of the pairs.
    observed
        float64, one a pair. Its correlation.
    """
    pairs, draws = len(observed), len(a.best)
    hypotheses = pairs + a.unmatched + b.unmatched
    possible = int(np.count_nonzero(a.eligible[a.feature] & b.eligible[b.feature]))
    enough = _entries_needed(possible, hypotheses)
    features = min(int(np.count_nonzero(end.eligible)) for end in (a, b))
    needed = max(FEWEST, -(-enough // features)) if possible else None
    if not draws:
        none = np.full(pairs, np.nan)
        return Claims(none, none, none, none, needed, None)
    own = [own_p(end.best, end.feature, observed) for end in (a, b)]
    pooled, floors = [], []
    for end in (a, b):
        octave = octaves(end.count, end.eligible)
        pools = merged(octave, enough=-(-enough // draws))
        floors.append(_smallest_p(end, pools))
        pooled.append(pooled_p(end, observed, octave=octave, pools=pools))
    p_pooled, floor = np.maximum(*pooled), np.maximum(*floors)
    return Claims(
        np.maximum(*own),
        p_pooled,
        _q(p_pooled, hypotheses - pairs),
        floor,
        needed,
        _matches_needed(floor, hypotheses),
    )


def octaves(count: Ints, eligible: Mask) -> Ints:
    """Return the octave of the count of each feature; -1 for those not eligible."""
    _, above = np.frexp(count.astype(np.float64))
    return np.where(eligible, above, -1).astype(np.int64)


def merged(octave: Ints, *, enough: int) -> Ints:
    """Merge octaves until each pool is large enough, or until one remains.

    Parameters
    ----------
    octave
        int64, one a feature; -1 for features in no pool.
    enough
        Smallest number of features in a pool.

    Returns
    -------
    int64, one a feature: its pool, from 0 in the order of octaves; -1 for features in none.

    Notes
    -----
    The smallest pool is merged first, with the smaller of its two neighbours. Ties go to the
    lower pool.
    """
    distinct, member, size = np.unique(octave[octave >= 0], return_inverse=True, return_counts=True)
    sizes, pool = size.tolist(), np.arange(len(distinct))
    while len(sizes) > 1 and min(sizes) < enough:
        one = sizes.index(min(sizes))
        below = one == len(sizes) - 1 or (one > 0 and sizes[one - 1] <= sizes[one + 1])
        lower = one - below
        sizes[lower : lower + 2] = [sizes[lower] + sizes[lower + 1]]
        pool[pool > lower] -= 1
    pools = np.full(len(octave), -1, dtype=np.int64)
    pools[octave >= 0] = pool[member]
    return pools


def own_p(best: Floats, feature: Ints, observed: Floats) -> Floats:
    """Return the share of the feature's own draws that are at least as high as observed."""
    as_good: Ints = (best[:, feature] >= observed - AS_GOOD).sum(axis=0)
    return exceedance_p(as_good, len(best))


def pooled_p(end: End, observed: Floats, *, octave: Ints, pools: Ints) -> Floats:
    """Return the share of draws of the pool that are at least as extreme as observed.

    Parameters
    ----------
    end
        One end of the pairs.
    observed
        float64, one a pair. Its correlation.
    octave
        int64, one a feature. The mean variance of the octave is added to that of the feature.
    pools
        int64, one a feature. Draws are compared within a pool; p is 1 in pool -1.
    """
    best, feature = end.best, end.feature
    draws = len(best)
    if draws < FEWEST:
        return own_p(best, feature, observed)
    common = _common(best, octave)
    null_scores = _null_scores(best, common)
    own = best[:, feature]
    score = _standardised(
        observed - AS_GOOD,
        own.mean(axis=0),
        own.var(axis=0, ddof=1),
        draws=draws,
        common=common[feature],
    )
    p = np.ones(len(feature))
    for one in range(int(pools.max(initial=-1)) + 1):
        pool, here = np.sort(null_scores[:, pools == one], axis=None), pools[feature] == one
        p[here] = exceedance_p(len(pool) - np.searchsorted(pool, score[here]), len(pool))
    return p


def too_few_draws(draws: int, draws_needed: int | None, matches_needed: int | None) -> str | None:
    """Return a warning if there are too few draws for 10 matches to reach q <= 0.05, else None."""
    if not draws or draws_needed is None or draws >= draws_needed:
        return None
    unless = f" unless at least {matches_needed:,} features match" if matches_needed else ""
    return (
        f"With {draws} draws no match can reach q ≤ {SIGNIFICANT}{unless}; "
        f"use `draws={draws_needed}`."
    )


def _entries_needed(possible: int, hypotheses: int) -> int:
    """Return the number of draws, over all features of a pool, that make its lowest p significant.

    ``possible`` is the number of pairs that can have a p below 1.
    """
    k = min(TRUE_MATCHES, possible)
    # 1 / (1 + n) < 0.05 k / hypotheses; where both are equal, q may exceed 0.05 by rounding.
    return _ONE_IN * hypotheses // k if k else 0


def _smallest_p(end: End, pools: Ints) -> Floats:
    """Return the lowest possible pooled p of each pair at one end; 1 if it is in no pool."""
    draws = len(end.best)
    features = np.bincount(pools[pools >= 0], minlength=1) if draws >= FEWEST else np.array([1])
    pool = np.where(pools >= 0, pools if draws >= FEWEST else 0, 0)
    floor: Floats = np.where(pools >= 0, exceedance_p(0, draws * features[pool]), 1.0)
    return floor[end.feature]


def _matches_needed(floor: Floats, hypotheses: int) -> int | None:
    """Return the smallest number of significant matches at their lowest p; None if no number is."""
    number, inverse = np.arange(1, len(floor) + 1), np.rint(1 / np.sort(floor))
    enough = inverse * number > _ONE_IN * hypotheses
    return int(number[enough][0]) if enough.any() else None


def _common(best: Floats, octave: Ints) -> Floats:
    """Return, for each feature, the mean variance of draws in its octave."""
    variance = best.var(axis=0, ddof=1)
    _, member = np.unique(octave, return_inverse=True)
    total = np.bincount(member, variance)
    common: Floats = (total / np.maximum(np.bincount(member), 1))[member]
    return common


def _null_scores(best: Floats, common: Floats) -> Floats:
    """Return each draw of each feature, standardised by the feature's other draws."""
    draws = len(best)
    mean = best.mean(axis=0)
    # Mean and sum of squares of the other draws, by Welford's update:
    others = mean - (best - mean) / (draws - 1)
    squares = best.var(axis=0) * draws - (best - mean) * (best - others)
    variance = np.maximum(squares, 0) / (draws - 2)
    return _standardised(best, others, variance, draws=draws - 1, common=common)


def _standardised(
    value: Floats, mean: Floats, variance: Floats, *, draws: int, common: Floats
) -> Floats:
    """Return the distance of a value from the mean of draws, in predictive standard deviations."""
    spread = np.sqrt((variance + common) * (1 + 1 / draws))
    score: Floats = (value - mean) / np.maximum(spread, np.sqrt(_LEAST))
    return score


def _q(p: Floats, unmatched: int) -> Floats:
    if not len(p):
        return p
    q: Floats = false_discovery_control(np.concatenate([p, np.ones(unmatched)]))
    return q[: len(p)]
