"""Three nulls for matches: does each of them find a best match as good?

**Shifted documents** asks whether two features are synchronous. Each document of B is
turned by one random offset, the same for all features, so that what each feature does
within a document, and what documents are about, stays, and only the timing is lost. An
offset of 0 is as likely as any other, so that the turns are a group and p is exact.
Documents of one unit cannot be turned: they are left out of the null and of the
correlation it is held against, so that both are of the same units.

**Shuffled occurrences** asks whether a match says more than that both features like the
same tokens. B's rows are shuffled among the units of one type, over the whole corpus. A
type seen once stays where it is: on it the shared token explains all there is.

**Shuffled within documents** asks whether a match says more than that both features like
the same tokens in the same documents. B's rows are shuffled among the units of one type in
one document. A unit that is the only one of its type in its document cannot move. A pair
whose activations lie mostly on such units has no power under this null: its draws equal
what is observed, and ``fixed`` reports the share.

A match was chosen as the best of many, so each draw gives the *best* correlation of each
feature: p is the share of draws, the observed one counted in, whose best is as good.

Few draws give no small p. ``p_pooled`` compares with the draws of all features that are active
about as often: see ``ingest.match.pooling``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.progress import Stage
from ingest.match import kernels
from ingest.match.aligned_codes import Rows, Units
from ingest.match.correlate import Correlation
from ingest.match.features import Features, codes, fixed
from ingest.match.pairs import Pairs
from ingest.match.pooling import End, claims
from ingest.reduce.arrays import changes

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
    """What a null says of the matches.

    Parameters
    ----------
    p
        float64, one a pair; NaN without draws. Share of draws whose best match, of either
        end, is as good: of both ends' shares the larger.
    p_pooled
        float64, likewise. Share of the draws of all eligible features of the same SAE and pool
        that stand as far above their feature's other draws: in standard deviations, the
        variance being that of these draws plus the mean of all features active as often within
        a factor of two. A pool has the features of one octave of activation counts, or of
        several. ``p`` if there are fewer than 3 draws.
    q
        float64, likewise. Benjamini-Hochberg q-value of ``p_pooled`` among all pairs and
        all eligible features, of either SAE, without a pair; the latter have p = 1.
    floor_pooled
        float64, likewise. Lowest ``p_pooled`` possible for the pair: 1 / (1 + draws x features
        of the pool), of both ends the larger; 1 if an end is not eligible.
    expected
        float64, likewise. Mean over draws of the best correlation, of the end where it is
        higher: what the null explains of the match.
    threshold
        Correlation that the best match of an eligible feature of either SAE exceeds in 5%
        of cases; NaN without draws or features.
    best_a, best_b
        Best correlation under the null, in the mean over draws and over allowed features
        that are ever active (0 where there is no candidate); NaN without draws or features.
    floor
        Lowest p possible.
    draws_needed
        Smallest number of draws with which 10 matches (all, if there are fewer) at the lowest
        ``p_pooled`` possible get q <= 0.05; None if all pairs have p = 1 whatever the draws.
    matches_needed
        Smallest number of matches at their lowest ``p_pooled`` possible that get q <= 0.05 with
        this number of draws; None if no number of them does, or without draws.
    left_out
        Documents of one unit, which this null says nothing about.
    fixed
        float64, one a pair; None but for the null that shuffles within documents. Share of
        activations on units that cannot move: of both ends the larger. There with or without
        draws.
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
    correlation: Correlation,
    units: Units,
    pairs: Pairs,
    *,
    draws: int,
    seed: int,
    stage: Stage | None = None,
) -> Null:
    """Hold matches against documents turned by random offsets.

    Parameters
    ----------
    correlation
        What the matches were found by, over all units.
    units
        The units.
    pairs
        The matches.
    draws, seed
        How many draws, and what they are made from; each has a seed of its own.
    stage
        Told of each draw.
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
    correlation: Correlation,
    units: Units,
    pairs: Pairs,
    *,
    draws: int,
    seed: int,
    stage: Stage | None = None,
) -> Null:
    """Hold matches against rows shuffled among units of one type.

    Parameters
    ----------
    correlation
        What the matches were found by, over all units.
    units
        The units.
    pairs
        The matches.
    draws, seed
        How many draws, and what they are made from; each has a seed of its own.
    stage
        Told of each draw.
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
    correlation: Correlation,
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
        The codes, over all units, as the matches were found.
    units
        The units.
    pairs
        The matches.
    draws, seed
        How many draws, and their seed; each draw has a seed of its own.
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
    """Return a number for each unit, equal for units of one type in one document; from 0, no gaps."""
    order = np.lexsort((units.type, units.document))
    first = changes(units.document[order]) | changes(units.type[order])
    group = np.empty(len(units), dtype=np.int32)
    group[order] = np.cumsum(first, dtype=np.int32) - 1
    return group


def shifted(lengths: Ints, rng: np.random.Generator) -> Ints:
    """Return the units of documents of these lengths, each document turned by a random offset."""
    start = np.repeat(np.cumsum(lengths) - lengths, lengths)
    offset = np.repeat(rng.integers(0, lengths), lengths)
    length = np.repeat(lengths, lengths)
    turned: Ints = start + (np.arange(len(start)) - start + offset) % length
    return turned


def shuffled(
    type: NDArray[np.int32], rng: np.random.Generator, *, by_type: Ints | None = None
) -> Ints:
    """Return the units in an order that is random among units of one type.

    Parameters
    ----------
    type
        int32, one a unit.
    rng
        Source of the order.
    by_type
        The units in order of their types, if known.
    """
    order = np.empty(len(type), dtype=np.int64)
    mixed = rng.permutation(len(type))
    by_type = np.argsort(type, kind="stable") if by_type is None else by_type
    order[by_type] = mixed[np.argsort(type[mixed], kind="stable")]
    return order


@dataclass(frozen=True)
class _Draws:
    """The draws of a null: its number, how many, the seed, and how one is made."""

    null: int
    number: int
    seed: int
    order: Order

    def __getitem__(self, draw: int) -> Ints:
        """Return one draw, whichever were made before it."""
        return self.order(np.random.default_rng((self.seed, self.null, draw)))


def _null(
    correlation: Correlation,
    pairs: Pairs,
    observed: Floats,
    *,
    draws: _Draws,
    left_out: int = 0,
    stage: Stage | None = None,
) -> Null:
    best_a, best_b = _maxima(correlation, draws, stage)
    a, b = correlation.of_a, correlation.of_b
    claimed = claims(
        End(best_a, pairs.a, a.count, a.eligible),
        End(best_b, pairs.b, b.count, b.eligible),
        observed,
    )
    drawn = draws.number > 0
    return Null(
        **vars(claimed),
        expected=np.maximum(best_a.mean(0)[pairs.a], best_b.mean(0)[pairs.b])
        if drawn
        else claimed.p,
        threshold=_threshold(
            np.concatenate([best_a[:, a.eligible], best_b[:, b.eligible]], axis=1)
        ),
        best_a=_mean(best_a, a.count, correlation.allowed_a),
        best_b=_mean(best_b, b.count, correlation.allowed_b),
        floor=1 / (1 + draws.number),
        left_out=left_out,
    )


def _maxima(correlation: Correlation, draws: _Draws, stage: Stage | None) -> tuple[Floats, Floats]:
    """Return the best correlation of each feature under each draw, draws x features."""
    best_a = np.empty((draws.number, correlation.a.d_sae))
    best_b = np.empty((draws.number, correlation.b.d_sae))
    for draw in range(draws.number):
        best_a[draw], best_b[draw] = correlation.maxima(draws[draw])
        if stage is not None:
            stage.advance()
    return best_a, best_b


def _share_on(units: Ints, rows: Rows, of: Features) -> Floats:
    """Return for each feature the share of its activations that lie on these units; 0 if it has none."""
    there, *_ = kernels.totals(codes(rows), fixed(units), rows.d_sae)
    return np.divide(there, of.count, out=np.zeros(len(there)), where=of.count > 0)


def _threshold(best: Floats) -> float:
    return float(np.quantile(best, 0.95, method="higher")) if best.size else math.nan


def _mean(best: Floats, count: Ints, allowed: Mask | None) -> float:
    best = best[:, count > 0 if allowed is None else (count > 0) & allowed]
    return float(best.mean()) if best.size else math.nan
