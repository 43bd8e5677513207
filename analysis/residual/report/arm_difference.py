"""Differences of mean scores between arms of a residual study, with intervals and tests.

An *arm* is one way of training an SAE (baseline, residual, a control); it holds one SAE for
each training seed, and for each draw where something in it is drawn. The replicate is the
training seed: features of one SAE are no independent witnesses.

**The difference.** For a seed, the features of both SAEs are divided into strata of like
validation positives, since rare features score otherwise than common ones. The difference
is the mean over strata of the difference of both sides' mean scores, weighted by how many
features both sides have there together; strata that are empty on a side are left out, and
the share of features in them is told. The estimate is the mean over seeds.

**The interval.** Two things vary: seeds, and documents. Resampling seeds gives a mean the
variance s²/n, which is used as it is (s² among seeds, n - 1 below the fraction). It holds each
seed's own noise of documents too. What the seeds share of that noise, as all were scored on
the same documents, is the covariance between seeds over the bootstrap draws of documents,
draw b being of the same documents for every SAE and on both sides; it is added, times
n / (n - 1) for n validation documents, as a bootstrap's variance is short by that. So is the
variance of draws (of random components) where all seeds have the same ones. The limits lie
Student's t away, with the degrees of freedom of Welch and Satterthwaite: plain quantiles of
resampled seeds are far too narrow for five or six of them. With one seed the interval is
that of documents alone, and says nothing of another training run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from atlas.errors import BadInput

__all__ = ["Difference", "Mean", "Sample", "difference", "mean_over_seeds", "sign_flip", "spread"]

Floats: TypeAlias = NDArray[np.float64]

#: Seeds up to which all flips of signs are tried, and how many are drawn for more.
_MOST = 20
_FLIPS = 9_999


@dataclass(frozen=True, eq=False)
class Sample:
    """The scored features of one SAE.

    Parameters
    ----------
    seed
        Of its training.
    scores
        float64, (features,). The score of each feature that passed the filter; no NaN.
    positives
        int64, (features,). Validation tokens on which each is active.
    draws
        float, (draws, features). The scores over bootstrap draws of documents; NaN where a
        draw had no token of a class. None where documents were not drawn.
    draw
        Number of what was drawn to make the arm, such as its random components; None else.
    documents
        Validation documents that were drawn from, or clusters of them; None if not known.
    """

    seed: int
    scores: Floats
    positives: NDArray[np.int64]
    draws: NDArray[np.floating] | None = None
    draw: int | None = None
    documents: int | None = None


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and its 95% interval by Student's t; none below two seeds."""

    mean: float | None
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The difference of two arms' mean scores.

    Parameters
    ----------
    one, other
        The arms; the difference is ``one`` less ``other``.
    by_seed
        The stratified difference of each seed.
    mean
        Their mean; None if no seed has scored features in a common stratum.
    plain
        The same without strata.
    low, high
        The 95% interval; None where nothing can be resampled.
    standard_error, degrees
        What it is made of; degrees of freedom are None where they have no bound.
    seed_variance
        Variance of the difference among seeds; None for one seed.
    document_variance
        Variance over documents that seeds share (of one seed: all of it); None if documents
        were not drawn. It falls as documents are added, not as seeds are.
    draw_variance
        Variance of the mean over draws that seeds share; None where there are none.
    documents
        Validation documents that were drawn from, of the SAE that has fewest; None if not known
        of any.
    draws
        Draws that all seeds share, such as of random components; 0 where there are none.
    resampled
        What the interval speaks of: ``"seeds"``, ``"documents"`` or both.
    p
        Of the sign-flip test over seeds, two-sided.
    p_floor
        The least p possible with as many seeds: six are needed for p < .05.
    seeds_left_out
        Seeds of both arms without a difference: no feature passed, or no stratum is common.
    outside
        Share of features in strata that are empty on a side, mean over seeds.
    """

    one: str
    other: str
    by_seed: Mapping[int, float]
    mean: float | None = None
    plain: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    degrees: float | None = None
    seed_variance: float | None = None
    document_variance: float | None = None
    draw_variance: float | None = None
    documents: int | None = None
    draws: int = 0
    resampled: tuple[str, ...] = ()
    p: float | None = None
    p_floor: float | None = None
    seeds_left_out: tuple[int, ...] = ()
    outside: float | None = None

    @property
    def seeds(self) -> int:
        """How many seeds it rests on."""
        return len(self.by_seed)


@dataclass(frozen=True, eq=False)
class _Pair:
    """The difference of two SAEs of one seed: estimate, over draws of documents, and beside."""

    seed: int
    draw: int | None
    estimate: float
    plain: float
    over_documents: Floats | None
    outside: float


def difference(
    one: Sequence[Sample],
    other: Sequence[Sample],
    *,
    names: tuple[str, str] = ("one", "other"),
    strata: int = 5,
) -> Difference:
    """Return how much higher the scores of one arm are than those of another.

    Parameters
    ----------
    one, other
        The SAEs of both arms. Seeds that both have are compared; of several SAEs with one
        seed (draws), all pairs are, and their mean is the seed's difference.
    names
        Of the arms.
    strata
        Strata of validation positives, of as many features each as ties allow; their ends
        are quantiles over all features of both arms.

    Raises
    ------
    BadInput
        If there is less than one stratum, or draws of documents differ in number.
    """
    if strata < 1:
        raise BadInput(f"strata={strata} was asked for; 1 or more is possible.")
    seeds = sorted({s.seed for s in one} & {s.seed for s in other})
    ends = _ends([s.positives for s in (*one, *other) if s.seed in seeds], strata)
    pairs = [
        pair
        for a in one
        for b in other
        if a.seed == b.seed and (pair := _pair(a, b, ends)) is not None
    ]
    there = [seed for seed in seeds if any(p.seed == seed for p in pairs)]
    without = tuple(seed for seed in seeds if seed not in there)
    if not pairs:
        return Difference(*names, {}, seeds_left_out=without)
    of = {seed: [p for p in pairs if p.seed == seed] for seed in there}
    by_seed = {seed: float(np.mean([p.estimate for p in found])) for seed, found in of.items()}
    flips = sign_flip(list(by_seed.values()))
    return Difference(
        *names,
        by_seed,
        mean=float(np.mean(list(by_seed.values()))),
        plain=float(np.mean([np.mean([p.plain for p in found]) for found in of.values()])),
        **_interval(by_seed, of, documents=_documents([*one, *other], there)),
        p=flips,
        p_floor=_least_p(len(by_seed)),
        seeds_left_out=without,
        outside=float(np.mean([np.mean([p.outside for p in found]) for found in of.values()])),
    )


def sign_flip(differences: Sequence[float], *, shift: float = 0.0) -> float:
    """Return the two-sided p of the sign-flip test that the mean is ``-shift``.

    Under the null a seed's difference is as likely to have the other sign; p is the share of
    all flips whose mean is as far from 0. It is exact up to 20 seeds, and never below
    2 / 2^seeds. Of more, 9,999 flips are drawn, the same each time, and with the one
    that was seen p is (1 + as far) / 10,000.

    Parameters
    ----------
    differences
        One a seed.
    shift
        Added to each first.

    Raises
    ------
    BadInput
        If there is no difference.
    """
    values = np.asarray(differences, dtype=np.float64) + shift
    if not len(values):
        raise BadInput("No difference was given to the sign-flip test; give one for each seed.")
    # Sums of the same numbers in another order differ by rounding.
    enough = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if len(values) > _MOST:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (_FLIPS, len(values)))
        far = np.count_nonzero(np.abs(signs @ values) >= enough)
        return float((1 + far) / (1 + _FLIPS))
    sums = np.zeros(1)
    for value in np.abs(values):
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= enough))


def _least_p(seeds: int) -> float:
    return 2.0 ** (1 - seeds) if seeds <= _MOST else 1 / (1 + _FLIPS)


def _documents(samples: Sequence[Sample], seeds: Sequence[int]) -> int | None:
    """Return the fewest documents that any sample compared was validated on; None if one does not say."""
    said = [s.documents for s in samples if s.seed in seeds]
    known = [number for number in said if number is not None]
    return min(known) if known and len(known) == len(said) else None


def mean_over_seeds(
    values: Mapping[int, float], *, within: tuple[float, float] | None = None
) -> Mean:
    """Return the mean of one number a seed, with its interval, cut to what is possible."""
    there = np.array([v for v in values.values() if not np.isnan(v)], dtype=np.float64)
    if not len(there):
        return Mean(None, None, None, 0)
    mean = float(there.mean())
    if len(there) == 1:
        return Mean(mean, None, None, 1)
    half = float(student.ppf(0.975, len(there) - 1) * there.std(ddof=1) / np.sqrt(len(there)))
    least, most = within or (-np.inf, np.inf)
    return Mean(mean, max(least, mean - half), min(most, mean + half), len(there))


def _ends(positives: Sequence[NDArray[np.int64]], strata: int) -> Floats:
    """Return the last count of each stratum but the last; equal counts are in one stratum."""
    pooled = np.concatenate([*positives, np.zeros(0, dtype=np.int64)])
    if not len(pooled):
        return np.zeros(0)
    inner = np.linspace(0, 1, strata + 1)[1:-1]
    return np.unique(np.quantile(pooled, inner, method="lower")).astype(np.float64)


def _pair(a: Sample, b: Sample, ends: Floats) -> _Pair | None:
    """Return the difference of two SAEs; None if no stratum has features of both."""
    counts = [_counts(s, ends) for s in (a, b)]
    common = (counts[0] > 0) & (counts[1] > 0)
    if not common.any():
        return None
    both = counts[0] + counts[1]
    weights = np.where(common, both, 0).astype(np.float64)
    of = [_means(s.scores[None, :], s, ends) for s in (a, b)]
    estimate = _weighted(of[0] - of[1], weights)[0]
    documents = None
    if a.draws is not None and b.draws is not None:
        if len(a.draws) != len(b.draws):
            raise BadInput(
                f"One SAE has {len(a.draws)} draws of documents and another {len(b.draws)}, so they were "
                "probed with other settings; probe both with the same --draws, and --replace."
            )
        over = [_means(s.draws, s, ends) for s in (a, b) if s.draws is not None]
        documents = _weighted(over[0] - over[1], weights)
    return _Pair(
        a.seed,
        b.draw if a.draw is None else a.draw,
        float(estimate),
        float(a.scores.mean() - b.scores.mean()),
        documents,
        float(1 - weights.sum() / both.sum()),
    )


def _counts(of: Sample, ends: Floats) -> NDArray[np.int64]:
    return np.bincount(_stratum(of, ends), minlength=len(ends) + 1)


def _stratum(of: Sample, ends: Floats) -> NDArray[np.intp]:
    return np.searchsorted(ends, of.positives, side="left")


def _means(scores: NDArray[np.floating], of: Sample, ends: Floats) -> Floats:
    """Return the mean score of each stratum; (draws, strata), NaN where nothing is scored."""
    member = _stratum(of, ends)[:, None] == np.arange(len(ends) + 1)
    there = ~np.isnan(scores)
    sums = np.where(there, scores, 0).astype(np.float64) @ member
    counts = there.astype(np.float64) @ member
    result = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=result, where=counts > 0)
    return result


def _weighted(differences: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of each row, NaN left out; NaN where nothing is left."""
    use = np.where(np.isnan(differences), 0.0, weights)
    total = use.sum(axis=1)
    sums = (np.nan_to_num(differences) * use).sum(axis=1)
    result = np.full(len(sums), np.nan)
    np.divide(sums, total, out=result, where=total > 0)
    return result


def spread(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the standard error of a sum of variances, and its degrees of freedom.

    Parameters
    ----------
    parts
        Each variance with its degrees of freedom, which may be infinite.

    Returns
    -------
    The root of their sum, and the degrees of Welch and Satterthwaite.
    """
    variance = sum(v for v, _ in parts)
    loss = sum(v**2 / df for v, df in parts if v > 0)
    return float(np.sqrt(variance)), variance**2 / loss if loss > 0 else np.inf


def _interval(
    by_seed: Mapping[int, float], of: Mapping[int, Sequence[_Pair]], *, documents: int | None
) -> dict[str, Any]:
    """Return the limits and what they are made of, as fields of ``Difference``."""
    number = len(by_seed)
    among = float(np.var(list(by_seed.values()), ddof=1)) if number > 1 else None
    shared = _document_variance(list(of.values()))
    many = max(2, documents) if documents is not None else None  # one document has no spread
    if shared is not None and many is not None:
        shared *= many / (many - 1)
    drawn, draws = _draw_variance(list(of.values()))
    parts = [
        (among / number if among is not None else 0.0, number - 1),
        (shared or 0.0, np.inf if many is None else many - 1),
        (drawn or 0.0, draws - 1),
    ]
    names = (("seeds", among), ("documents", shared))
    said: dict[str, Any] = {
        "seed_variance": among,
        "document_variance": shared,
        "draw_variance": drawn,
        "documents": documents,
        "draws": draws,
        "resampled": tuple(name for name, value in names if value is not None),
    }
    if among is None and shared is None:
        return said
    error, degrees = spread(parts)
    half = float(student.ppf(0.975, degrees)) * error
    mean = float(np.mean(list(by_seed.values())))
    return said | {
        "standard_error": error, "degrees": degrees if np.isfinite(degrees) else None, "low": mean - half, "high": mean + half,
    }  # fmt: skip


def _document_variance(of: Sequence[Sequence[_Pair]]) -> float | None:
    """Return the covariance between seeds over draws of documents; of one seed, its variance."""
    over = [[p.over_documents for p in found if p.over_documents is not None] for found in of]
    if any(len(kept) < len(found) for kept, found in zip(over, of, strict=True)):
        return None
    rows = np.array([np.mean(kept, axis=0) for kept in over])
    rows = rows[:, ~np.isnan(rows).any(axis=0)]
    if rows.shape[1] < 2:
        return None
    if len(rows) == 1:
        return float(rows[0].var(ddof=1))
    covariance = np.cov(rows)
    apart = [covariance[i, j] for i, j in combinations(range(len(rows)), 2)]
    return max(0.0, float(np.mean(apart)))


def _draw_variance(of: Sequence[Sequence[_Pair]]) -> tuple[float | None, int]:
    """Return the variance of the mean over draws that all seeds share, and how many they are."""
    common = set.intersection(*({p.draw for p in found} for found in of)) - {None}
    if len(common) < 2:
        return None, 0
    means = [
        np.mean([np.mean([p.estimate for p in found if p.draw == draw]) for found in of])
        for draw in common
    ]
    return float(np.var(means, ddof=1) / len(means)), len(means)
