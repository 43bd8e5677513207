"""The pooled p by hand: a reference for ``ingest.match.pooling``, one draw and pair at a time."""

import math
from fractions import Fraction
from itertools import count as counting

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from ingest.match.pooling import End

MOST = Fraction(1, 20)


def stands(value: float, others: NDArray[np.float64], common: float) -> float:
    """The distance of a value above others, in standard deviations of the prediction of a further one."""
    spread = math.sqrt((others.var(ddof=1) + common) * (1 + 1 / len(others)))
    return (value - others.mean()) / max(spread, 1e-6)


def significant(p: Fraction, matches: int, hypotheses: int) -> bool:
    """Whether this number of matches of one p has q < 0.05; at 0.05, rounding decides."""
    return p < MOST * matches / hypotheses


def octaves(end: End) -> dict[int, list[int]]:
    """The eligible features of each octave of the count."""
    found: dict[int, list[int]] = {}
    for feature in np.flatnonzero(end.eligible).tolist():
        found.setdefault(math.floor(math.log2(end.count[feature])), []).append(feature)
    return dict(sorted(found.items()))


def pools(end: End, *, draws: int, matches: int, hypotheses: int) -> list[list[int]]:
    """The features of each pool: octaves, the smallest merged with its smaller neighbour."""
    found = list(octaves(end).values())

    def small(pool: list[int]) -> bool:
        return not significant(Fraction(1, 1 + draws * len(pool)), matches, hypotheses)

    while len(found) > 1:
        at = min(range(len(found)), key=lambda i: len(found[i]))
        if not small(found[at]):
            break
        adjacent = [i for i in (at - 1, at + 1) if 0 <= i < len(found)]
        other = min(adjacent, key=lambda i: len(found[i]))
        low, high = sorted((at, other))
        found[low : high + 1] = [found[low] + found[high]]
    return found


def claims_by_hand(a: End, b: End, observed: NDArray[np.float64]) -> dict:
    """All that ``ingest.match.pooling.claims`` returns."""
    draws, hypotheses = len(a.best), len(observed)
    for end in (a, b):
        matched = {int(f) for f in end.feature}
        hypotheses += sum(f not in matched for f in np.flatnonzero(end.eligible).tolist())
    ends = list(zip(a.feature.tolist(), b.feature.tolist(), strict=True))
    possible = sum(bool(a.eligible[i] and b.eligible[j]) for i, j in ends)
    matches = min(10, possible)

    def allowed(draws: int) -> bool:
        if draws < 3:
            return significant(Fraction(1, 1 + draws), matches, hypotheses)
        made = [
            pool
            for end in (a, b)
            for pool in pools(end, draws=draws, matches=matches, hypotheses=hypotheses)
        ]
        return all(
            significant(Fraction(1, 1 + draws * len(pool)), matches, hypotheses) for pool in made
        )

    needed = next(d for d in counting(1) if allowed(d)) if matches else None
    none = [math.nan] * len(observed)
    if not draws:
        return {
            "p": none,
            "p_pooled": none,
            "q": none,
            "floor_pooled": none,
            "draws_needed": needed,
            "matches_needed": None,
        }
    p, pooled, floors = [], [], []
    for pair, r in enumerate(observed.tolist()):
        both = []
        for end in (a, b):
            f, best = int(end.feature[pair]), end.best
            own = Fraction(1 + sum(m >= r - 1e-9 for m in best[:, f].tolist()), 1 + draws)
            if not end.eligible[f]:
                both.append((own, Fraction(1) if draws >= 3 else own, Fraction(1)))
                continue
            if draws < 3:
                both.append((own, own, Fraction(1, 1 + draws)))
                continue
            made = pools(end, draws=draws, matches=matches, hypotheses=hypotheses)
            (like,) = [pool for pool in made if f in pool]
            common = {
                g: float(np.mean([best[:, h].var(ddof=1) for h in octave]))
                for octave in octaves(end).values()
                for g in octave
            }
            standing = [
                stands(m, np.delete(best[:, g], d), common[g])
                for g in like
                for d, m in enumerate(best[:, g].tolist())
            ]
            mine = stands(r - 1e-9, best[:, f], common[f])
            good = sum(s >= mine for s in standing)
            both.append(
                (own, Fraction(1 + good, 1 + len(standing)), Fraction(1, 1 + len(standing)))
            )
        for values, value in zip((p, pooled, floors), zip(*both, strict=True), strict=True):
            values.append(max(value))
    in_order = sorted(floors)
    enough = [k for k in range(1, len(in_order) + 1) if significant(in_order[k - 1], k, hypotheses)]
    every = [*map(float, pooled), *[1.0] * (hypotheses - len(observed))]
    return {
        "p": [*map(float, p)],
        "p_pooled": [*map(float, pooled)],
        "q": false_discovery_control(every)[: len(observed)] if len(observed) else [],
        "floor_pooled": [*map(float, floors)],
        "draws_needed": needed,
        "matches_needed": enough[0] if enough else None,
    }
