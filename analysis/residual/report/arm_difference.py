"""Differences of mean scores between arms of a residual study, with intervals and tests.

An *arm* is one way of training an SAE: baseline, residual, or a control. It has one SAE for
each training seed, and for each random draw if its input is drawn. The replicate is the
training seed, because the features of one SAE are not independent.

**The difference.** Rare features score differently from common ones. For each seed, the
features of both SAEs are therefore divided into strata by validation positives. The difference
is the mean over strata of the difference of mean scores, weighted by the number of features
of both arms. Strata that are empty in one arm are excluded, and the share of features in them
is reported. The estimate is the mean over seeds.

**The interval.** The variance has three parts.

- Seeds: s²/n, where s² is the variance among n seeds (divisor n - 1). It includes the
  document noise that each seed has on its own.
- Documents: all SAEs are scored on the same documents, so seeds also share document noise. It
  is the covariance between seeds over bootstrap draws, where draw b has the same documents for
  every SAE. A factor n / (n - 1) for n validation documents corrects the bootstrap's bias.
- Draws of random components: their variance, if all seeds share the same draws.

The limits use Student's t with the degrees of freedom of Welch and Satterthwaite, because
quantiles of five or six resampled seeds are far too narrow. With one seed the interval covers
documents only, and not the variance among training runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.statistics.intervals import Mean
from analysis.statistics.permutation import exceedance_p
from atlas.errors import BadInput

__all__ = ["Difference", "Sample", "difference", "mean_over_seeds", "sign_flip", "spread"]

Floats: TypeAlias = NDArray[np.float64]

#: Largest number of seeds with an exact sign-flip test, and the number of random flips above it.
_MOST = 20
_FLIPS = 9_999


@dataclass(frozen=True, eq=False)
class Sample:
    """The scored features of one SAE.

    Parameters
    ----------
    seed
        Training seed.
    scores
        float64, (features,). The score of each feature that passed the filter; no NaN.
    positives
        int64, (features,). Validation tokens on which each is active.
    draws
        float, (draws, features). The scores over bootstrap draws of documents; NaN if a draw
        has no token of one class. None without a bootstrap.
    draw
        Number of the arm's random draw, such as of components; None if nothing is drawn.
    documents
        Validation documents, or clusters of them, in the bootstrap; None if unknown.
    """

    seed: int
    scores: Floats
    positives: NDArray[np.int64]
    draws: NDArray[np.floating] | None = None
    draw: int | None = None
    documents: int | None = None


@dataclass(frozen=True)
class Difference:
    """The difference between the mean scores of two arms.

    Parameters
    ----------
    one, other
        The arms; the difference is ``one`` minus ``other``.
    by_seed
        The stratified difference of each seed.
    mean
        Mean over seeds; None if no seed has scored features in a common stratum.
    plain
        Mean difference without strata.
    low, high
        The 95% interval; None if there is neither a second seed nor a bootstrap.
    standard_error, degrees
        Standard error and degrees of freedom of the interval; the latter None if infinite.
    seed_variance
        Variance of the difference among seeds; None for one seed.
    document_variance
        Variance over documents that seeds share (for one seed, all of it); None without a
        bootstrap. It decreases with more documents, not with more seeds.
    draw_variance
        Variance of the mean over draws that seeds share; None without such draws.
    documents
        Validation documents in the bootstrap, of the SAE with fewest; None if unknown for any.
    draws
        Draws that all seeds share, such as of random components; 0 if there are none.
    resampled
        What the interval covers: ``"seeds"``, ``"documents"`` or both.
    p
        Two-sided p of the sign-flip test over seeds.
    p_floor
        The smallest possible p for this number of seeds; p < .05 needs six seeds.
    seeds_left_out
        Seeds of both arms without a difference: no feature passed, or no common stratum.
    outside
        Share of features in strata that are empty in one arm, mean over seeds.
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
        """Number of seeds with a difference."""
        return len(self.by_seed)


@dataclass(frozen=True, eq=False)
class _Pair:
    """The difference between two SAEs of one seed: estimate, bootstrap draws, and auxiliary numbers."""

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
    """Compute the difference between the mean scores of two arms.

    Parameters
    ----------
    one, other
        The SAEs of both arms. Only seeds of both arms are compared. If a seed has several SAEs
        (draws), its difference is the mean over all pairs.
    names
        Names of the arms.
    strata
        Number of strata by validation positives. Their limits are quantiles over all features
        of both arms, so that strata are of equal size up to ties.

    Raises
    ------
    BadInput
        If there is less than one stratum, or the numbers of bootstrap draws differ.
    """
    if strata < 1:
        raise BadInput(f"strata={strata} was input; expected 1 or more.")
    seeds = sorted({s.seed for s in one} & {s.seed for s in other})
    ends = _ends([s.positives for s in (*one, *other) if s.seed in seeds], strata)
    pairs = [
        pair
        for a in one
        for b in other
        if a.seed == b.seed and (pair := _pair(a, b, ends)) is not None
    ]
    present = [seed for seed in seeds if any(p.seed == seed for p in pairs)]
    without = tuple(seed for seed in seeds if seed not in present)
    if not pairs:
        return Difference(*names, {}, seeds_left_out=without)
    pairs_of = {seed: [p for p in pairs if p.seed == seed] for seed in present}
    by_seed = {seed: float(np.mean([p.estimate for p in own])) for seed, own in pairs_of.items()}
    flips = sign_flip(list(by_seed.values()))
    return Difference(
        *names,
        by_seed,
        mean=float(np.mean(list(by_seed.values()))),
        plain=float(np.mean([np.mean([p.plain for p in own]) for own in pairs_of.values()])),
        **_interval(by_seed, pairs_of, documents=_documents([*one, *other], present)),
        p=flips,
        p_floor=_least_p(len(by_seed)),
        seeds_left_out=without,
        outside=float(np.mean([np.mean([p.outside for p in own]) for own in pairs_of.values()])),
    )


def sign_flip(differences: Sequence[float], *, shift: float = 0.0) -> float:
    """Return the two-sided p of the sign-flip test that the mean is ``-shift``.

    Under the null, both signs of a seed's difference are equally likely. The p-value is the share
    of all sign flips whose mean is at least as far from 0. It is exact up to 20 seeds, and
    never below 2 / 2^seeds. With more seeds, 9,999 flips are drawn from a fixed seed, and
    p = (1 + number of flips at least as far) / 10,000.

    Parameters
    ----------
    differences
        The difference of each seed.
    shift
        Number that is added to each difference.

    Raises
    ------
    BadInput
        If there is no difference.
    """
    values = np.asarray(differences, dtype=np.float64) + shift
    if not len(values):
        raise BadInput("No difference was input to the sign-flip test; pass one for each seed.")
    # Tolerance, since sums of the same numbers in another order differ by rounding.
    enough = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if len(values) > _MOST:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (_FLIPS, len(values)))
        far = np.count_nonzero(np.abs(signs @ values) >= enough)
        return exceedance_p(int(far), _FLIPS)
    sums = np.zeros(1)
    for value in np.abs(values):
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= enough))


def _least_p(seeds: int) -> float:
    return 2.0 ** (1 - seeds) if seeds <= _MOST else exceedance_p(0, _FLIPS)


def _documents(samples: Sequence[Sample], seeds: Sequence[int]) -> int | None:
    """Return the smallest number of validation documents of the samples; None if one is unknown."""
    numbers = [s.documents for s in samples if s.seed in seeds]
    known = [number for number in numbers if number is not None]
    return min(known) if known and len(known) == len(numbers) else None


def mean_over_seeds(
    values: Mapping[int, float], *, within: tuple[float, float] | None = None
) -> Mean:
    """Return the mean over seeds with its 95% interval by Student's t, clipped to the range ``within``.

    There is no interval below two seeds.
    """
    finite = np.array([v for v in values.values() if not np.isnan(v)], dtype=np.float64)
    if not len(finite):
        return Mean(None)
    mean = float(finite.mean())
    if len(finite) == 1:
        return Mean(mean)
    half = float(student.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite)))
    least, most = within or (-np.inf, np.inf)
    return Mean(mean, max(least, mean - half), min(most, mean + half))


def _ends(positives: Sequence[NDArray[np.int64]], strata: int) -> Floats:
    """Return the upper limit of each stratum except the last; equal counts share a stratum."""
    pooled = np.concatenate([*positives, np.zeros(0, dtype=np.int64)])
    if not len(pooled):
        return np.zeros(0)
    inner = np.linspace(0, 1, strata + 1)[1:-1]
    return np.unique(np.quantile(pooled, inner, method="lower")).astype(np.float64)


def _pair(a: Sample, b: Sample, ends: Floats) -> _Pair | None:
    """Return the difference between two SAEs; None if no stratum has features of both."""
    counts = [_counts(s, ends) for s in (a, b)]
    common = (counts[0] > 0) & (counts[1] > 0)
    if not common.any():
        return None
    both = counts[0] + counts[1]
    weights = np.where(common, both, 0).astype(np.float64)
    means = [_means(s.scores[None, :], s, ends) for s in (a, b)]
    estimate = _weighted(means[0] - means[1], weights)[0]
    documents = None
    if a.draws is not None and b.draws is not None:
        if len(a.draws) != len(b.draws):
            raise BadInput(
                f"One SAE has {len(a.draws)} draws of documents and another {len(b.draws)}; expected equal "
                "numbers. Probe both with the same `draws` and `replace=True`."
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


def _counts(sample: Sample, ends: Floats) -> NDArray[np.int64]:
    return np.bincount(_stratum(sample, ends), minlength=len(ends) + 1)


def _stratum(sample: Sample, ends: Floats) -> NDArray[np.intp]:
    return np.searchsorted(ends, sample.positives, side="left")


def _means(scores: NDArray[np.floating], sample: Sample, ends: Floats) -> Floats:
    """Return the mean score of each stratum; (draws, strata), NaN without a score."""
    member = _stratum(sample, ends)[:, None] == np.arange(len(ends) + 1)
    finite = ~np.isnan(scores)
    sums = np.where(finite, scores, 0).astype(np.float64) @ member
    counts = finite.astype(np.float64) @ member
    result = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=result, where=counts > 0)
    return result


def _weighted(differences: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of each row without NaN; NaN if all values are NaN."""
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
    The root of their sum, and the degrees of freedom of Welch and Satterthwaite.
    """
    variance = sum(v for v, _ in parts)
    loss = sum(v**2 / df for v, df in parts if v > 0)
    return float(np.sqrt(variance)), variance**2 / loss if loss > 0 else np.inf


def _interval(
    by_seed: Mapping[int, float], pairs: Mapping[int, Sequence[_Pair]], *, documents: int | None
) -> dict[str, Any]:
    """Return the interval and its variances, as fields of ``Difference``."""
    number = len(by_seed)
    among = float(np.var(list(by_seed.values()), ddof=1)) if number > 1 else None
    shared = _document_variance(list(pairs.values()))
    many = max(2, documents) if documents is not None else None  # one document has no spread
    if shared is not None and many is not None:
        shared *= many / (many - 1)
    drawn, draws = _draw_variance(list(pairs.values()))
    parts = [
        (among / number if among is not None else 0.0, number - 1),
        (shared or 0.0, np.inf if many is None else many - 1),
        (drawn or 0.0, draws - 1),
    ]
    names = (("seeds", among), ("documents", shared))
    fields: dict[str, Any] = {
        "seed_variance": among,
        "document_variance": shared,
        "draw_variance": drawn,
        "documents": documents,
        "draws": draws,
        "resampled": tuple(name for name, value in names if value is not None),
    }
    if among is None and shared is None:
        return fields
    error, degrees = spread(parts)
    half = float(student.ppf(0.975, degrees)) * error
    mean = float(np.mean(list(by_seed.values())))
    return fields | {
        "standard_error": error,
        "degrees": degrees if np.isfinite(degrees) else None,
        "low": mean - half,
        "high": mean + half,
    }


def _document_variance(seeds: Sequence[Sequence[_Pair]]) -> float | None:
    """Return the covariance between seeds over draws of documents; for one seed, its variance."""
    over = [[p.over_documents for p in pairs if p.over_documents is not None] for pairs in seeds]
    if any(len(drawn) < len(pairs) for drawn, pairs in zip(over, seeds, strict=True)):
        return None
    rows = np.array([np.mean(drawn, axis=0) for drawn in over])
    rows = rows[:, ~np.isnan(rows).any(axis=0)]
    if rows.shape[1] < 2:
        return None
    if len(rows) == 1:
        return float(rows[0].var(ddof=1))
    covariance = np.cov(rows)
    apart = [covariance[i, j] for i, j in combinations(range(len(rows)), 2)]
    return max(0.0, float(np.mean(apart)))


def _draw_variance(seeds: Sequence[Sequence[_Pair]]) -> tuple[float | None, int]:
    """Return the variance of the mean over draws that all seeds share, and the number of draws."""
    common = set.intersection(*({p.draw for p in pairs} for pairs in seeds)) - {None}
    if len(common) < 2:
        return None, 0
    means = [
        np.mean([np.mean([p.estimate for p in pairs if p.draw == draw]) for pairs in seeds])
        for draw in common
    ]
    return float(np.var(means, ddof=1) / len(means)), len(means)
