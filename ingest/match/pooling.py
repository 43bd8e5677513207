"""Pooled p: a match against the draws of all features that are active about as often.

A feature's own draws give no p below 1 / (1 + draws). The draws of several features together
give a lower one. Correlations of different features are not comparable: under some nulls the
best correlation of one feature is high in every draw, and that of another is low. What is
compared is how far a value is above the feature's other draws, in standard deviations. A
feature may have a candidate in one draw only, and then no variance of its own: the mean
variance of the features that are active as often (within a factor of two) is added to each.

The pools begin as octaves of the activation count. An octave of a few features gives no p that
Benjamini and Hochberg's procedure could call significant. So the smallest pool is merged with
the smaller of its neighbours until each is large enough that ``TRUE_MATCHES`` matches at the
lowest p possible would be called significant, or until one pool remains. The pools depend
on counts and on the number of hypotheses only, so that p is as valid as for fixed pools.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

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

#: A match with a q of at most this is called significant.
SIGNIFICANT = 0.05

_ONE_IN = 20  # 1 / SIGNIFICANT, in whole numbers

#: So many matches at the lowest p possible are to be significant.
TRUE_MATCHES = 10

# A draw that changes nothing a pair can see (a feature that depends on the token alone, in
# the second null) adds the same products in another order: the last digits differ.
AS_GOOD = 1e-9

# Draws that differ by less than this have the same value: rounding.
_LEAST = 1e-12

#: Fewer draws have no standard deviation without one of them, and are not pooled.
FEWEST = 3


@dataclass(frozen=True, eq=False)
class End:
    """One end of the pairs: the features of one SAE, and their draws.

    Parameters
    ----------
    best
        float64, draws x features. Best correlation of each feature under each draw.
    feature
        int64, one a pair. Which feature it is.
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
        """How many eligible features are in no pair."""
        alone = self.eligible.copy()
        alone[self.feature] = False
        return int(alone.sum())


@dataclass(frozen=True, eq=False)
class Claims:
    """What can be claimed of the pairs.

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
    """Return p, pooled p and q of pairs, and what the number of draws allows.

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
        floors.append(_floors(end, pools))
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
    """Number features by the octave of their counts; -1 for those not eligible."""
    _, above = np.frexp(count.astype(np.float64))
    return np.where(eligible, above, -1).astype(np.int64)


def merged(octave: Ints, *, enough: int) -> Ints:
    """Merge octaves until each pool is large enough, or until one remains.

    Parameters
    ----------
    octave
        int64, one a feature; -1 for features in no pool.
    enough
        Features a pool needs.

    Returns
    -------
    int64, one a feature: its pool, from 0 in the order of octaves; -1 for features in none.

    Notes
    -----
    The smallest pool is merged first, with the smaller of the pools below and above; of equal
    ones, the lower.
    """
    there, member, size = np.unique(octave[octave >= 0], return_inverse=True, return_counts=True)
    sizes, pool = size.tolist(), np.arange(len(there))
    while len(sizes) > 1 and min(sizes) < enough:
        one = sizes.index(min(sizes))
        below = one == len(sizes) - 1 or (one > 0 and sizes[one - 1] <= sizes[one + 1])
        lower = one - below
        sizes[lower : lower + 2] = [sizes[lower] + sizes[lower + 1]]
        pool[pool > lower] -= 1
    found = np.full(len(octave), -1, dtype=np.int64)
    found[octave >= 0] = pool[member]
    return found


def own_p(best: Floats, feature: Ints, observed: Floats) -> Floats:
    """Return the share of draws of the pair's own feature that are as good."""
    as_good = best[:, feature] >= observed - AS_GOOD
    p: Floats = (1 + as_good.sum(axis=0)) / (1 + len(best))
    return p


def pooled_p(end: End, observed: Floats, *, octave: Ints, pools: Ints) -> Floats:
    """Return the share of draws of a pool's features that stand as far above their other draws.

    Parameters
    ----------
    end
        One end of the pairs.
    observed
        float64, one a pair. Its correlation.
    octave
        int64, one a feature. Features of one octave have their mean variance added.
    pools
        int64, one a feature. Features whose draws are compared; p is 1 for those of pool -1.
    """
    best, feature = end.best, end.feature
    draws = len(best)
    if draws < FEWEST:
        return own_p(best, feature, observed)
    common = _common(best, octave)
    drawn = _drawn(best, common)
    own = best[:, feature]
    above = _standing(
        observed - AS_GOOD,
        own.mean(axis=0),
        own.var(axis=0, ddof=1),
        draws=draws,
        common=common[feature],
    )
    p = np.ones(len(feature))
    for one in range(int(pools.max(initial=-1)) + 1):
        pool, here = np.sort(drawn[:, pools == one], axis=None), pools[feature] == one
        p[here] = (1 + len(pool) - np.searchsorted(pool, above[here])) / (1 + len(pool))
    return p


def too_few_draws(draws: int, draws_needed: int | None, matches_needed: int | None) -> str | None:
    """Return a sentence if there are draws, but too few for 10 matches to get q <= 0.05."""
    if not draws or draws_needed is None or draws >= draws_needed:
        return None
    unless = f" unless at least {matches_needed:,} features match" if matches_needed else ""
    return (
        f"With {draws} draws no match can reach q <= {SIGNIFICANT}{unless}; "
        f"use --draws {draws_needed}."
    )


def _entries_needed(possible: int, hypotheses: int) -> int:
    """Return the draws that a pool needs, over all its features, for its lowest p to be significant.

    ``possible`` are the pairs that can have a p below 1.
    """
    k = min(TRUE_MATCHES, possible)
    # 1 / (1 + n) < 0.05 k / hypotheses; where both are equal, q may exceed 0.05 by rounding.
    return _ONE_IN * hypotheses // k if k else 0


def _floors(end: End, pools: Ints) -> Floats:
    """Return the lowest pooled p possible of each pair, of one end; 1 where it is in no pool."""
    draws = len(end.best)
    features = np.bincount(pools[pools >= 0], minlength=1) if draws >= FEWEST else np.array([1])
    pool = np.where(pools >= 0, pools if draws >= FEWEST else 0, 0)
    floor: Floats = np.where(pools >= 0, 1 / (1 + draws * features[pool]), 1.0)
    return floor[end.feature]


def _matches_needed(floor: Floats, hypotheses: int) -> int | None:
    """Return how many matches at their lowest p possible are significant; None if all are not."""
    number, inverse = np.arange(1, len(floor) + 1), np.rint(1 / np.sort(floor))
    enough = inverse * number > _ONE_IN * hypotheses
    return int(number[enough][0]) if enough.any() else None


def _common(best: Floats, octave: Ints) -> Floats:
    """Return the mean variance of the draws of the features of each feature's octave."""
    variance = best.var(axis=0, ddof=1)
    _, member = np.unique(octave, return_inverse=True)
    total = np.bincount(member, variance)
    common: Floats = (total / np.maximum(np.bincount(member), 1))[member]
    return common


def _drawn(best: Floats, common: Floats) -> Floats:
    """Return how far each draw of each feature stands above the feature's other draws."""
    draws = len(best)
    mean = best.mean(axis=0)
    # Without a draw, the mean and the sum of squares of the others are (Welford):
    others = mean - (best - mean) / (draws - 1)
    squares = best.var(axis=0) * draws - (best - mean) * (best - others)
    variance = np.maximum(squares, 0) / (draws - 2)
    return _standing(best, others, variance, draws=draws - 1, common=common)


def _standing(
    value: Floats, mean: Floats, variance: Floats, *, draws: int, common: Floats
) -> Floats:
    """Return how far a value lies above so many draws, in standard deviations of one more."""
    spread = np.sqrt((variance + common) * (1 + 1 / draws))
    above: Floats = (value - mean) / np.maximum(spread, np.sqrt(_LEAST))
    return above


def _q(p: Floats, unmatched: int) -> Floats:
    if not len(p):
        return p
    q: Floats = false_discovery_control(np.concatenate([p, np.ones(unmatched)]))
    return q[: len(p)]
