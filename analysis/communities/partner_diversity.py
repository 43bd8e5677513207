"""Does the number of different partners go with frequency? Partners of each feature, beside chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.statistics.bipartite_null import swapped
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership, edges

__all__ = [
    "MEETINGS", "DiversityTest", "Partners", "by_chance", "diversity_test", "partner_diversity",
    "partners_among",
]  # fmt: skip

#: A feature meets another on a token where both are among the most active. Of so many meetings
#: of a feature, drawn from all it has, the different partners are counted.
MEETINGS = 100

_BINS = 5
_OUTER = 0.2  # share of features that lie farthest off the line, on either side
_RESAMPLES = 500
_ENOUGH = 10  # features; of fewer, nothing is told

Interval: TypeAlias = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, eq=False)
class Partners:
    """Partners of each feature in graphs drawn by chance.

    Parameters
    ----------
    degree
        int64, (draws, features). Partners.
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
    """How the number of different partners goes with frequency.

    Parameters
    ----------
    features
        Features compared by partners among ``MEETINGS`` meetings: those that have as many, in
        the graph and in every drawn one.
    left_out
        Features that are active and have fewer.
    rho, low, high
        Spearman correlation over features of frequency with partners among these meetings, and
        its 95% interval (bootstrap over features, as if these were independent). None below
        ten features.
    null_low, null_high, documents_low, documents_high
        The lowest and highest rho of the drawn graphs, and of those drawn within documents.
    ratio_features, ratio_rho, ratio_low, ratio_high, ratio_null_low, ratio_null_high
        The same of degree / expected degree, over features that the drawn graphs give a
        partner; each drawn graph is held against the mean of the others.
    bins
        A row for each of five bins of features by frequency, fewer where frequencies tie:
        medians over its features of the degree, of what chance gives, of partners among
        ``MEETINGS`` meetings, with the 95% interval of that median, and of the same by chance,
        over all documents and within them.
    off_line
        Such rows of the features whose degree lies farthest off what their frequency tells:
        the fifth of the largest and of the smallest residuals of the rank of degree, given
        that of frequency.
    conclusion
        What was measured, in one sentence.
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
    """Return how evenly each feature's meetings are spread over its partners.

    The entropy of its tokens with each partner, divided by the logarithm of the number of
    partners: 1 if it meets all of them equally often.

    Parameters
    ----------
    pairs, count
        Edges, and the tokens of each; (edges, 2) and (edges,).
    nodes
        Number of features.

    Returns
    -------
    array
        float64, (nodes,); NaN below two partners.
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
    """Return how many different partners each feature has among so many of its meetings.

    The mean over all ways to draw them, without putting back: rarefaction (Hurlbert 1971), by
    which ecologists compare numbers of species between samples of unlike sizes. Unlike the
    degree, it does not grow with frequency where partners are met alike.

    Parameters
    ----------
    pairs, count
        Edges, and the tokens of each; (edges, 2) and (edges,).
    nodes
        Number of features.
    meetings
        How many meetings are drawn.

    Returns
    -------
    array
        float64, (nodes,); NaN for features with fewer meetings.
    """
    ends, times = _both_ways(pairs, count)
    total = np.bincount(ends, weights=times, minlength=nodes)
    have = total[ends] >= meetings
    ends, times = ends[have], times[have]
    # A partner is missed where all are drawn from the meetings with others.
    others = total[ends] - times
    missed = np.zeros(len(ends))
    can = others >= meetings
    missed[can] = np.exp(_log_ways(others[can], meetings) - _log_ways(total[ends][can], meetings))
    found = np.bincount(ends, weights=1.0 - missed, minlength=nodes).astype(np.float64)
    found[total < meetings] = np.nan
    return found


def by_chance(
    membership: Membership,
    *,
    min_count: int = 1,
    within_documents: bool = False,
    draws: int = 5,
    seed: int = 0,
    progress: Progress = SILENT,
    title: str = "Partners by chance",
) -> Partners:
    """Draw graphs by the bipartite null and count each feature's partners in them.

    Features are swapped between tokens, so that each token keeps its number of features and
    each feature its number of tokens; see ``analysis.statistics.bipartite_null.swapped``.

    Parameters
    ----------
    membership
        Which features are among the most active of each token.
    min_count
        As the graph was made with. Meetings are counted of all pairs whatever it is: pairs met
        seldom are what rarefaction lives on.
    within_documents
        Swap within documents only.
    draws, seed
        How many graphs, and the seed.
    progress, title
        Told how far it is.
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
    return Partners(degrees, among)


def diversity_test(
    active: NDArray[np.int64],
    degree: NDArray[np.int64],
    among: NDArray[np.float64],
    *,
    null: Partners,
    within: Partners,
    seed: int = 0,
) -> DiversityTest:
    """Test whether features meet more different features, or fewer, the more frequent they are.

    The source guessed that of the features off the line of degree and frequency, rare ones of
    high degree meet a diverse set and frequent ones of low degree a narrow one. The test is over
    all features; ``off_line`` shows these. A frequent feature has more partners whatever it does, so features are
    compared by their partners among equally many meetings. Beside it stands their degree as a
    share of what the bipartite null gives; where the null links nearly all features to each
    other, as on many tokens it does, that share is hardly more than the degree.

    A feature that comes in bursts, a few documents each, meets few others whatever it does, and
    only the null within documents knows of bursts: something is said where rho clears both.

    Parameters
    ----------
    active
        int64, (features,). On how many tokens each is active.
    degree, among
        (features,) each, of the graph; see ``partners_among``. The meetings are those of all
        pairs, also of those that the graph leaves out.
    null, within
        The same by chance, over all documents and within them, of two draws or more.
    seed
        Of the bootstrap.
    """
    drawn_among = np.concatenate([null.among, within.among])
    met = ~np.isnan(among) & ~np.isnan(drawn_among).any(axis=0)
    rho = _interval(active[met], among[met], seed=seed)
    chance, documents = (
        _range([_spearman(active[met], one) for one in drawn.among[:, met]])
        for drawn in (null, within)
    )
    # A feature that a single draw gives a partner has no expectation without that draw.
    linked = (null.degree > 0).sum(axis=0) >= 2
    ratio = _interval(active[linked], degree[linked] / null.expected[linked], seed=seed)
    drawn = null.degree[:, linked]
    without = (drawn.sum(axis=0) - drawn) / (len(drawn) - 1)
    ratio_chance = _range(
        [_spearman(active[linked], one) for one in drawn / np.maximum(without, 1e-300)]
    )

    def row(name: str, at: NDArray[np.bool_]) -> dict[str, Any]:
        return _row(name, at, active, degree, among, null=null, within=within, seed=seed)

    bins = [row(name, at) for name, at in _bins(active, met)]
    return DiversityTest(
        int(met.sum()), int(np.sum((active > 0) & ~met)), *rho, *chance, *documents,
        int(linked.sum()), *ratio, *ratio_chance, bins=bins,
        off_line=[row(name, at) for name, at in _off_line(active, degree, met)],
        conclusion=_conclusion(rho, chance, documents, bins),
    )  # fmt: skip


def _both_ways(
    pairs: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each end of each edge, and its tokens."""
    return pairs.T.ravel(), np.concatenate([count, count]).astype(np.float64)


def _log_ways(of: NDArray[Any], drawn: int) -> NDArray[np.float64]:
    """Return the logarithm of the number of ways to draw some of so many, in a given order."""
    ways: NDArray[np.float64] = special.gammaln(of + 1) - special.gammaln(of - drawn + 1)
    return ways


def _interval(active: NDArray[np.int64], value: NDArray[np.float64], *, seed: int) -> Interval:
    """Return the correlation with frequency and its interval."""
    rho = _spearman(active, value)
    if rho is None:
        return None, None, None
    n = len(value)
    drawn = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    again = [r for at in drawn if (r := _spearman(active[at], value[at])) is not None]
    low, high = np.quantile(again, [0.025, 0.975]).tolist()
    return rho, low, high


def _range(found: Sequence[float | None]) -> tuple[float | None, float | None]:
    some = [r for r in found if r is not None]
    return min(some, default=None), max(some, default=None)


def _spearman(x: NDArray[Any], y: NDArray[Any]) -> float | None:
    if len(x) < _ENOUGH or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def _bins(active: NDArray[np.int64], met: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the features of each bin by frequency, equal frequencies kept together."""
    if met.sum() < _ENOUGH:
        return []
    ends = np.unique(np.quantile(active[met], np.linspace(0, 1, _BINS + 1)[1:-1]))
    which = np.searchsorted(ends, active)
    found = [met & (which == number) for number in np.unique(which[met])]
    return [(f"bin {number} of {len(found)}", at) for number, at in enumerate(found, start=1)]


def _off_line(
    active: NDArray[np.int64], degree: NDArray[np.int64], met: NDArray[np.bool_]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the features of more, and those of less, degree than their frequency tells."""
    at = np.flatnonzero(met)
    if len(at) < _ENOUGH or np.ptp(active[at]) == 0:
        return []
    rank, by = stats.rankdata(degree[at]), stats.rankdata(active[at])
    slope, base = np.polyfit(by, rank, 1)
    order = at[np.argsort(rank - (slope * by + base), kind="stable")]
    outer = int(_OUTER * len(order))
    groups = []
    for name, some in (("high degree", order[-outer:]), ("low degree", order[:outer])):
        chosen = np.zeros(len(met), dtype=np.bool_)
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
    null: Partners,
    within: Partners,
    seed: int,
) -> dict[str, Any]:
    """Return the row of some features."""
    here = among[at]
    again = np.random.default_rng(seed).integers(0, len(here), (_RESAMPLES, len(here)))
    low, high = np.quantile(np.median(here[again], axis=1), [0.025, 0.975]).tolist()
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


def _conclusion(
    rho: Interval,
    chance: tuple[float | None, float | None],
    documents: tuple[float | None, float | None],
    bins: Sequence[Mapping[str, Any]],
) -> str:
    value, low, high = rho
    ends = [end for end in (*chance, *documents) if end is not None]
    if value is None or low is None or high is None or len(ends) < 4:
        return (
            f"Too few features have {MEETINGS} meetings, or all have the same partners or as many "
            "tokens, so nothing can be said."
        )
    least, most = min(ends), max(ends)
    told = (
        f"Spearman {value:+.2f}, 95% interval {low:+.2f} to {high:+.2f}; by chance {ends[0]:+.2f} to "
        f"{ends[1]:+.2f}, within documents {ends[2]:+.2f} to {ends[3]:+.2f}; median of partners "
        f"among {MEETINGS} meetings: {_partners(bins[0])}; {_partners(bins[-1])}"
    )
    over = f"Over all features with {MEETINGS} meetings or more, the number of different partners"
    if high < min(0.0, least):
        return f"{over} goes down with frequency, more than by chance ({told})."
    if low > max(0.0, most):
        return f"{over} goes up with frequency, more than by chance ({told})."
    if high < least:
        return f"Undecided: the interval lies below chance but not below 0 ({told})."
    if low > most:
        return f"Undecided: the interval lies above chance but not above 0 ({told})."
    return f"Undecided: the interval does not clear chance ({told})."


def _partners(row: Mapping[str, Any]) -> str:
    return (
        f"{row['among']:.0f} of features active on {row['active_from']:,} to {row['active_to']:,} tokens "
        f"(by chance {row['among_by_chance']:.0f}, within documents {row['among_within_documents']:.0f})"
    )
