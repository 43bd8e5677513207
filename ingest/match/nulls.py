"""Three permutation nulls for matches.

**Shifted documents** tests whether two features are synchronous. Each document of B is
shifted circularly by one random offset, the same for all features. This preserves the
activation pattern of each feature within a document and the topics of documents; only the
timing is lost. All offsets, 0 included, are equally likely, so the shifts are a group and p is
exact. Documents of one unit cannot be shifted. They are excluded from the null and from the
correlation that is compared with it, so both are computed on the same units.

**Shuffled occurrences** tests whether a match is more than a preference of both features for
the same tokens. B's rows are shuffled among the units of one type, over the complete corpus.
A unit whose type occurs once cannot move: there the shared token explains everything.

**Shuffled within documents** tests whether a match is more than a preference for the same
tokens in the same documents. B's rows are shuffled among the units of one type in one
document. A unit that is the only one of its type in its document cannot move. If the
activations of a pair are mostly on such units, the null has no power for it: its draws equal
the observed correlation. ``fixed`` reports the share of such activations.

A match is the best of many candidates, so each draw gives the *best* correlation of each
feature. The p-value is the share of draws, including the observed data, whose best correlation
is at least as high.

Few draws cannot give a small p. ``p_pooled`` compares with the draws of all features of
similar frequency: see ``ingest.match.pooling``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.progress import Stage
from ingest.match import kernels
from ingest.match.aligned_codes import CodeRows, Units
from ingest.match.correlate import Correlator
from ingest.match.pairs import Features, Pairs, codes, fixed
from ingest.match.pooling import End, claims
from ingest.reduce.arrays import changes
from ingest.statistics.permutation import exceedance_p

__all__ = [
    "Null",
    "shifted",
    "shifted_documents",
    "shuffled",
    "shuffled_occurrences",
    "shuffled_within_documents",
    "types_in_documents",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Order: TypeAlias = Callable[[np.random.Generator], Ints]


@dataclass(frozen=True, eq=False)
class Null:
    """Statistics of the matches under one null.

    Parameters
    ----------
    p
        float64, one a pair; NaN without draws. Share of draws whose best correlation is at
        least as high; the larger of the shares at both ends.
    p_pooled
        float64, likewise. The p-value among the draws of all eligible features of the same SAE
        and pool; the larger of both ends. Draws and observed values are standardised by the
        feature's other draws. To their variance, the mean variance of the features with the
        same octave of activation counts is added. A pool has the features of one or several
        octaves. Equal to ``p`` if there are fewer than 3 draws.
    q
        float64, likewise. Benjamini-Hochberg q-value of ``p_pooled``. The hypotheses are all
        pairs, and all eligible features of either SAE without a pair, which have p = 1.
    floor_pooled
        float64, likewise. Lowest possible ``p_pooled`` of the pair: 1 / (1 + draws x features
        of the pool), the larger of both ends; 1 if an end is not eligible.
    expected
        float64, likewise. Mean best correlation over draws, at the end where it is higher. It belongs to
        the two features and not to the pair, so it may exceed the correlation of the pair.
    threshold
        Correlation that the best match of an eligible feature of either SAE exceeds in 5%
        of draws; NaN without draws or features.
    best_a, best_b
        Mean best correlation under the null, over draws and over allowed active features (0
        without a candidate); NaN without draws or features.
    floor
        Lowest possible p.
    draws_needed
        Smallest number of draws with which 10 matches (all, if there are fewer) at the lowest
        possible ``p_pooled`` reach q <= 0.05; None if all pairs have p = 1 with any number.
    matches_needed
        Smallest number of matches at their lowest possible ``p_pooled`` that reach q <= 0.05
        with these draws; None if no number does, or without draws.
    left_out
        Number of documents of one unit, which this null excludes.
    fixed
        float64, one a pair. Share of activations on units that cannot move; the larger of
        both ends. Present even without draws; None for the other two nulls.
    """

    p: Floats
    p_pooled: Floats
    q: Floats
    floor_pooled: Floats
    expected: Floats
    threshold: float
    best_a: float
    best_b: float
    floor: float
    draws_needed: int | None
    matches_needed: int | None
    left_out: int = 0
    fixed: Floats | None = None


def shifted_documents(
    correlation: Correlator,
    units: Units,
    pairs: Pairs,
    *,
    draws: int,
    seed: int,
    stage: Stage | None = None,
) -> Null:
    """Compare matches with documents shifted circularly by random offsets.

    Parameters
    ----------
    correlation
        The correlation of all units that found the matches.
    units
        The units.
    pairs
        The matches.
    draws, seed
        Number of draws, and their seed; each draw has a seed of its own.
    stage
        Notified of each draw.
    """
    starts = np.flatnonzero(changes(units.document))
    lengths = np.diff(starts, append=len(units))
    alone = np.repeat(lengths == 1, lengths)
    observed = pairs.pearson
    if alone.any() and draws:
        correlation = correlation.over(np.flatnonzero(~alone))
        observed = correlation.pearson(pairs.a, pairs.b)
    return _null(
        correlation,
        pairs,
        observed,
        draws=_Draws(1, draws, seed, lambda rng: shifted(lengths[lengths > 1], rng)),
        left_out=int(alone.sum()),
        stage=stage,
    )


def shuffled_occurrences(
    correlation: Correlator,
    units: Units,
    pairs: Pairs,
    *,
    draws: int,
    seed: int,
    stage: Stage | None = None,
) -> Null:
    """Compare matches with rows shuffled among units of one type.

    Parameters
    ----------
    correlation
        The correlation of all units that found the matches.
    units
        The units.
    pairs
        The matches.
    draws, seed
        Number of draws, and their seed; each draw has a seed of its own.
    stage
        Notified of each draw.
    """
    by_type = np.argsort(units.type, kind="stable")
    return _null(
        correlation,
        pairs,
        pairs.pearson,
        draws=_Draws(2, draws, seed, lambda rng: shuffled(units.type, rng, by_type=by_type)),
        stage=stage,
    )


def shuffled_within_documents(
    correlation: Correlator,
    units: Units,
    pairs: Pairs,
    *,
    draws: int,
    seed: int,
    stage: Stage | None = None,
) -> Null:
    """Compare matches with rows shuffled among units of one type in one document.

    Parameters
    ----------
    correlation
        The correlation of all units that found the matches.
    units
        The units.
    pairs
        The matches.
    draws, seed
        Number of draws, and their seed; each draw has a seed of its own.
    stage
        Notified of each draw.
    """
    group = types_in_documents(units)
    by_group = np.argsort(group, kind="stable")
    null = _null(
        correlation,
        pairs,
        pairs.pearson,
        draws=_Draws(3, draws, seed, lambda rng: shuffled(group, rng, by_type=by_group)),
        stage=stage,
    )
    alone = np.flatnonzero(np.bincount(group)[group] == 1)
    of_a = _share_on(alone, correlation.a, correlation.of_a)
    of_b = _share_on(alone, correlation.b, correlation.of_b)
    return replace(null, fixed=np.maximum(of_a[pairs.a], of_b[pairs.b]))


def types_in_documents(units: Units) -> NDArray[np.int32]:
    """Number the pairs of type and document of all units, from 0 without gaps."""
    order = np.lexsort((units.type, units.document))
    first = changes(units.document[order]) | changes(units.type[order])
    group = np.empty(len(units), dtype=np.int32)
    group[order] = np.cumsum(first, dtype=np.int32) - 1
    return group


def shifted(lengths: Ints, rng: np.random.Generator) -> Ints:
    """Return the units of documents of these lengths, each document shifted by a random offset."""
    start = np.repeat(np.cumsum(lengths) - lengths, lengths)
    offset = np.repeat(rng.integers(0, lengths), lengths)
    length = np.repeat(lengths, lengths)
    order: Ints = start + (np.arange(len(start)) - start + offset) % length
    return order


def shuffled(
    type: NDArray[np.int32], rng: np.random.Generator, *, by_type: Ints | None = None
) -> Ints:
    """Return the units after a random permutation within each type.

    Parameters
    ----------
    type
        int32, one a unit.
    rng
        Random generator of the permutation.
    by_type
        The units sorted by type, if known.
    """
    order = np.empty(len(type), dtype=np.int64)
    mixed = rng.permutation(len(type))
    by_type = np.argsort(type, kind="stable") if by_type is None else by_type
    order[by_type] = mixed[np.argsort(type[mixed], kind="stable")]
    return order


@dataclass(frozen=True)
class _Draws:
    """The draws of a null: its id, the number of draws, the seed, and the function of a draw."""

    null: int
    number: int
    seed: int
    order: Order

    def __getitem__(self, draw: int) -> Ints:
        """Return one draw, independently of all others."""
        return self.order(np.random.default_rng((self.seed, self.null, draw)))


def _null(
    correlation: Correlator,
    pairs: Pairs,
    observed: Floats,
    *,
    draws: _Draws,
    left_out: int = 0,
    stage: Stage | None = None,
) -> Null:
    best_a, best_b = _maxima(correlation, draws, stage)
    a, b = correlation.of_a, correlation.of_b
    tested = claims(
        End(best_a, pairs.a, a.count, a.eligible),
        End(best_b, pairs.b, b.count, b.eligible),
        observed,
    )
    drawn = draws.number > 0
    return Null(
        **vars(tested),
        expected=np.maximum(best_a.mean(0)[pairs.a], best_b.mean(0)[pairs.b])
        if drawn
        else tested.p,
        threshold=_threshold(
            np.concatenate([best_a[:, a.eligible], best_b[:, b.eligible]], axis=1)
        ),
        best_a=_mean(best_a, a.count, correlation.allowed_a),
        best_b=_mean(best_b, b.count, correlation.allowed_b),
        floor=exceedance_p(0, draws.number),
        left_out=left_out,
    )


def _maxima(correlation: Correlator, draws: _Draws, stage: Stage | None) -> tuple[Floats, Floats]:
    """Return the best correlation of each feature under each draw, draws x features."""
    best_a = np.empty((draws.number, correlation.a.d_sae))
    best_b = np.empty((draws.number, correlation.b.d_sae))
    for draw in range(draws.number):
        best_a[draw], best_b[draw] = correlation.maxima(draws[draw])
        if stage is not None:
            stage.advance()
    return best_a, best_b


def _share_on(units: Ints, rows: CodeRows, every: Features) -> Floats:
    """Return the share of each feature's activations on these units; 0 if it is never active."""
    count, *_ = kernels.totals(codes(rows), fixed(units), rows.d_sae)
    return np.divide(count, every.count, out=np.zeros(len(count)), where=every.count > 0)


def _threshold(best: Floats) -> float:
    return float(np.quantile(best, 0.95, method="higher")) if best.size else math.nan


def _mean(best: Floats, count: Ints, allowed: Mask | None) -> float:
    best = best[:, count > 0 if allowed is None else (count > 0) & allowed]
    return float(best.mean()) if best.size else math.nan
