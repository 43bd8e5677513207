"""Tests whether the number of different partners of a feature depends on its frequency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.statistics.intervals import bootstrap_samples, quantile_interval
from analysis.statistics.nulls import swapped
from analysis.statistics.ranks import rank_correlation
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership, edges

__all__ = [
    "MEETINGS",
    "DiversityTest",
    "PartnerCounts",
    "conclusion_of",
    "diversity_test",
    "null_diversity",
    "partner_diversity",
    "partners_among",
]

#: A feature meets another on a token where both are among the most active. Different partners
#: are counted in samples of this number of meetings per feature.
MEETINGS = 100

_BINS = 5
_OUTER = 0.2  # share of features with the largest residuals, on either side
_RESAMPLES = 500
_ENOUGH = 10  # fewest features for a correlation

Interval: TypeAlias = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, eq=False)
class PartnerCounts:
    """Partners of each feature in null graphs.

    Parameters
    ----------
    degree
        int64, (draws, features). Number of partners.
    among
        float64, (draws, features). See ``partners_among``.
    """

    degree: NDArray[np.int64]
    among: NDArray[np.float64]

    @property
    def expected(self) -> NDArray[np.float64]:
        """Mean number of partners; (features,)."""
        mean: NDArray[np.float64] = self.degree.mean(axis=0)
        return mean


@dataclass(frozen=True)
class DiversityTest:
    """A test of whether the number of different partners depends on frequency.

    Parameters
    ----------
    features
        Number of features compared. They have at least ``MEETINGS`` meetings in the graph and in
        every null graph.
    left_out
        Number of active features with fewer meetings.
    rho, low, high
        Spearman correlation over features between frequency and the number of partners among
        ``MEETINGS`` meetings, with its 95% interval. The bootstrap treats features as
        independent. None for fewer than ten features.
    null_low, null_high, documents_low, documents_high
        The lowest and highest rho of null graphs, and of null graphs within documents.
    ratio_features, ratio_rho, ratio_low, ratio_high, ratio_null_low, ratio_null_high
        The same for degree / expected degree, over features that have a partner in the null
        graphs. The expected degree of a null graph is the mean of the other null graphs.
    bins
        A row for each of five frequency bins of features, or fewer with tied frequencies. It
        has the medians of the degree, of the expected degree, and of the partners among
        ``MEETINGS`` meetings, with a 95% interval and the values under both nulls.
    off_line
        The same rows for the features whose degree deviates most from its value predicted by
        frequency: the top and bottom fifth of residuals in a regression on ranks.
    conclusion
        The result, in sentences.
    """

    features: int
    left_out: int
    rho: float | None
    low: float | None
    high: float | None
    null_low: float | None
    null_high: float | None
    documents_low: float | None
    documents_high: float | None
    ratio_features: int
    ratio_rho: float | None
    ratio_low: float | None
    ratio_high: float | None
    ratio_null_low: float | None
    ratio_null_high: float | None
    bins: Sequence[Mapping[str, Any]]
    off_line: Sequence[Mapping[str, Any]]
    conclusion: str


def partner_diversity(
    pairs: NDArray[np.int64], count: NDArray[np.int64], *, nodes: int
) -> NDArray[np.float64]:
    """Return the evenness of each feature's meetings over its partners.

    Evenness is the entropy of the meetings over partners, divided by the logarithm of the
    number of partners. It is 1 if a feature meets all partners equally often.

    Parameters
    ----------
    pairs, count
        Edges, and the number of tokens of each; (edges, 2) and (edges,).
    nodes
        Number of features.

    Returns
    -------
    array
        float64, (nodes,); NaN for fewer than two partners.
    """
    ends, times = _both_ways(pairs, count)
    degree = np.bincount(ends, minlength=nodes)
    total = np.bincount(ends, weights=times, minlength=nodes)
    logs = np.bincount(ends, weights=times * np.log(times), minlength=nodes)
    found = np.full(nodes, np.nan)
    some = degree >= 2
    entropy = np.log(total[some]) - logs[some] / total[some]
    found[some] = np.clip(entropy / np.log(degree[some]), 0.0, 1.0)
    return found


def partners_among(
    pairs: NDArray[np.int64],
    count: NDArray[np.int64],
    *,
    nodes: int,
    meetings: int = MEETINGS,
) -> NDArray[np.float64]:
    """Return the expected number of different partners in a sample of each feature's meetings.

    The expectation is over samples without replacement. This is rarefaction (Hurlbert 1971),
    which ecologists use to compare numbers of species between samples of different sizes.
    Unlike the degree, it does not grow with frequency if features meet partners at equal rates.

    Parameters
    ----------
    pairs, count
        Edges, and the number of tokens of each; (edges, 2) and (edges,).
    nodes
        Number of features.
    meetings
        Number of meetings in the sample.

    Returns
    -------
    array
        float64, (nodes,); NaN for features with fewer meetings.
    """
    ends, times = _both_ways(pairs, count)
    total = np.bincount(ends, weights=times, minlength=nodes)
    have = total[ends] >= meetings
    ends, times = ends[have], times[have]
    # A partner is missed if all drawn meetings are with others.
    others = total[ends] - times
    missed = np.zeros(len(ends))
    can = others >= meetings
    missed[can] = np.exp(_log_ways(others[can], meetings) - _log_ways(total[ends][can], meetings))
    found = np.bincount(ends, weights=1.0 - missed, minlength=nodes).astype(np.float64)
    found[total < meetings] = np.nan
    return found


def null_diversity(
    membership: Membership,
    *,
    min_count: int = 1,
    within_documents: bool = False,
    draws: int = 5,
    seed: int = 0,
    progress: Progress = SILENT,
    title: str = "PartnerCounts in null graphs",
) -> PartnerCounts:
    """Count the partners of each feature in graphs drawn from the bipartite null.

    Features are swapped between tokens, which preserves the number of features of each token
    and the number of tokens of each feature; see ``analysis.statistics.nulls.swapped``.

    Parameters
    ----------
    membership
        The most active features of each token.
    min_count
        Smallest count of an edge, as in the graph. It does not apply to meetings, since
        rarefaction needs the rare pairs.
    within_documents
        Swap only within documents.
    draws, seed
        Number of null graphs, and the seed.
    progress, title
        Progress reporter, and the title of the stage.
    """
    n = membership.d_sae
    degrees, among = np.zeros((draws, n), dtype=np.int64), np.zeros((draws, n))
    with progress.stage(title, total=draws, unit="draws") as stage:
        for i, one in enumerate(np.random.SeedSequence(seed).generate_state(draws).tolist()):
            drawn = swapped(membership, one, within_documents=within_documents)
            pairs, count = edges(drawn)
            degrees[i] = np.bincount(pairs[count >= min_count].ravel(), minlength=n)
            among[i] = partners_among(pairs, count, nodes=n)
            stage.advance()
    return PartnerCounts(degrees, among)


def diversity_test(
    active: NDArray[np.int64],
    degree: NDArray[np.int64],
    among: NDArray[np.float64],
    *,
    null: PartnerCounts,
    within: PartnerCounts,
    seed: int = 0,
) -> DiversityTest:
    """Test whether the number of different partners of a feature depends on its frequency.

    The original study conjectured that, among features off the regression line of degree on
    frequency, rare ones of high degree meet a diverse set and frequent ones of low degree a
    narrow one. The test is over all features; ``off_line`` reports these groups. More meetings
    alone give a feature more partners, so features are compared at equal numbers of meetings.
    The result also has the ratio of degree to expected degree under the bipartite null. On
    many tokens the null links nearly all features, and the ratio adds little to the degree.

    A feature that is active in bursts in few documents meets few others. Only the null within
    documents preserves bursts, so the conclusion requires rho outside the range of both nulls.

    Parameters
    ----------
    active
        int64, (features,). Number of active tokens of each feature.
    degree, among
        (features,) each. Degree in the graph, and the result of ``partners_among`` over all
        pairs, including those below the smallest count of an edge.
    null, within
        The same under the null over all documents and within documents; at least two draws.
    seed
        Seed of the bootstrap.
    """
    drawn_among = np.concatenate([null.among, within.among])
    compared = ~np.isnan(among) & ~np.isnan(drawn_among).any(axis=0)
    rho = _interval(active[compared], among[compared], seed=seed)
    chance, documents = (
        _range(
            [
                rank_correlation(active[compared], one, least=_ENOUGH)
                for one in drawn.among[:, compared]
            ]
        )
        for drawn in (null, within)
    )
    # With a partner in only one draw, a feature has expectation 0 without that draw.
    linked = (null.degree > 0).sum(axis=0) >= 2
    ratio = _interval(active[linked], degree[linked] / null.expected[linked], seed=seed)
    drawn = null.degree[:, linked]
    without = (drawn.sum(axis=0) - drawn) / (len(drawn) - 1)
    ratio_chance = _range(
        [
            rank_correlation(active[linked], one, least=_ENOUGH)
            for one in drawn / np.maximum(without, 1e-300)
        ]
    )

    def row(name: str, at: NDArray[np.bool_]) -> dict[str, Any]:
        return _row(name, at, active, degree, among, null=null, within=within, seed=seed)

    bins = [row(name, at) for name, at in _bins(active, compared)]
    return DiversityTest(
        int(compared.sum()),
        int(np.sum((active > 0) & ~compared)),
        *rho,
        *chance,
        *documents,
        int(linked.sum()),
        *ratio,
        *ratio_chance,
        bins=bins,
        off_line=[row(name, at) for name, at in _off_line(active, degree, compared)],
        conclusion=conclusion_of(rho, chance, documents, bins=bins),
    )


def _both_ways(
    pairs: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return both ends of every edge, and the number of tokens per end."""
    return pairs.T.ravel(), np.concatenate([count, count]).astype(np.float64)


def _log_ways(total: NDArray[Any], drawn: int) -> NDArray[np.float64]:
    """Return the logarithm of the number of ordered samples of size ``drawn``."""
    ways: NDArray[np.float64] = special.gammaln(total + 1) - special.gammaln(total - drawn + 1)
    return ways


def _interval(active: NDArray[np.int64], value: NDArray[np.float64], *, seed: int) -> Interval:
    """Return the correlation with frequency and its 95% interval."""
    rho = rank_correlation(active, value, least=_ENOUGH)
    if rho is None:
        return None, None, None
    drawn = bootstrap_samples(len(value), _RESAMPLES, seed=seed)
    again = [
        r
        for at in drawn
        if (r := rank_correlation(active[at], value[at], least=_ENOUGH)) is not None
    ]
    low, high = quantile_interval(np.array(again))
    return rho, float(low), float(high)


def _range(found: Sequence[float | None]) -> tuple[float | None, float | None]:
    some = [r for r in found if r is not None]
    return min(some, default=None), max(some, default=None)


def _bins(
    active: NDArray[np.int64], compared: NDArray[np.bool_]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Divide features into bins by frequency; equal frequencies are in one bin."""
    if compared.sum() < _ENOUGH:
        return []
    ends = np.unique(np.quantile(active[compared], np.linspace(0, 1, _BINS + 1)[1:-1]))
    which = np.searchsorted(ends, active)
    bins = [compared & (which == number) for number in np.unique(which[compared])]
    return [(f"bin {number} of {len(bins)}", at) for number, at in enumerate(bins, start=1)]


def _off_line(
    active: NDArray[np.int64], degree: NDArray[np.int64], compared: NDArray[np.bool_]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the features with the largest and the smallest residual degree given frequency."""
    at = np.flatnonzero(compared)
    if len(at) < _ENOUGH or np.ptp(active[at]) == 0:
        return []
    rank, by = stats.rankdata(degree[at]), stats.rankdata(active[at])
    slope, base = np.polyfit(by, rank, 1)
    order = at[np.argsort(rank - (slope * by + base), kind="stable")]
    outer = int(_OUTER * len(order))
    groups = []
    for name, some in (("high degree", order[-outer:]), ("low degree", order[:outer])):
        chosen = np.zeros(len(compared), dtype=np.bool_)
        chosen[some] = True
        groups.append((f"{name} for its frequency", chosen))
    return groups


def _row(
    name: str,
    at: NDArray[np.bool_],
    active: NDArray[np.int64],
    degree: NDArray[np.int64],
    among: NDArray[np.float64],
    *,
    null: PartnerCounts,
    within: PartnerCounts,
    seed: int,
) -> dict[str, Any]:
    """Return the table row of a group of features."""
    here = among[at]
    again = bootstrap_samples(len(here), _RESAMPLES, seed=seed)
    low, high = (float(x) for x in quantile_interval(np.median(here[again], axis=1)))
    return {
        "group": name,
        "features": int(at.sum()),
        "active_from": int(active[at].min()),
        "active_median": float(np.median(active[at])),
        "active_to": int(active[at].max()),
        "degree": float(np.median(degree[at])),
        "degree_by_chance": float(np.median(null.expected[at])),
        "among": float(np.median(here)),
        "among_low": low,
        "among_high": high,
        "among_by_chance": float(np.median(null.among[:, at].mean(axis=0))),
        "among_within_documents": float(np.median(within.among[:, at].mean(axis=0))),
    }


def conclusion_of(
    rho: Interval,
    chance: tuple[float | None, float | None],
    documents: tuple[float | None, float | None],
    *,
    bins: Sequence[Mapping[str, Any]],
) -> str:
    """Return whether the number of different partners depends on frequency, in sentences.

    Parameters
    ----------
    rho
        Spearman correlation between frequency and partners, with its 95% interval.
    chance, documents
        The lowest and highest correlation under the bipartite null and the null within documents.
    bins
        See ``DiversityTest``.
    """
    value, low, high = rho
    ends = [end for end in (*chance, *documents) if end is not None]
    if value is None or low is None or high is None or len(ends) < 4:
        return (
            f"Too few features have {MEETINGS} meetings, or all have the same frequency or number of "
            "partners. The dependence on frequency is not tested."
        )
    least, most = min(ends), max(ends)
    details = (
        f"The Spearman correlation is {value:+.2f} (95% interval {low:+.2f} to {high:+.2f}), {ends[0]:+.2f} to "
        f"{ends[1]:+.2f} under the bipartite null and {ends[2]:+.2f} to {ends[3]:+.2f} under the null within "
        f"documents.{_binned(bins)}"
    )
    question = f"whether frequent features have more different partners in {MEETINGS} meetings than rare ones"
    answer = f"features have more different partners in {MEETINGS} meetings than"
    if high < min(0.0, least):
        medians = _medians(bins[0], bins[-1])
        return f"Rare {answer} frequent ones, by more than under both nulls: {medians}. {details}"
    if low > max(0.0, most):
        medians = _medians(bins[-1], bins[0])
        return f"Frequent {answer} rare ones, by more than under both nulls: {medians}. {details}"
    if high < least:
        why = "the interval lies below both nulls but not below 0"
    elif low > most:
        why = "the interval lies above both nulls but not above 0"
    else:
        why = "the interval overlaps the range of the nulls"
    medians = _medians(bins[-1], bins[0])
    return f"It is undecided {question}: {why}. The {medians}. {details}"


def _medians(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the median numbers of partners in two bins, and those under both nulls."""
    own, chance, documents = (
        f"{first[name]:.0f} and {second[name]:.0f}"
        for name in ("among", "among_by_chance", "among_within_documents")
    )
    return f"medians are {own} (bipartite null {chance}, within documents {documents})"


def _binned(bins: Sequence[Mapping[str, Any]]) -> str:
    """State which features the medians are of."""
    rare, frequent = (
        f"{one['active_from']:,} to {one['active_to']:,}" for one in (bins[0], bins[-1])
    )
    return f" Medians are of features active on {rare} tokens (rare) and on {frequent} (frequent)."
