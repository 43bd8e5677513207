"""Tables of results: recall by method, gain over frequency, and agreement between methods."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.graph_matching.evaluate import Outcome
from analysis.graph_matching.ranks import MEASURES
from analysis.statistics.intervals import bootstrap_weights, quantile_interval

__all__ = [
    "BINS",
    "agreement",
    "by_anchors",
    "by_frequency",
    "by_method",
    "intervals",
    "mean_agreement",
]

_CHUNK = 1 << 23


def intervals(
    values: NDArray[np.float64],
    *,
    query: NDArray[np.int64],
    repeat: NDArray[np.int64],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute 95% bootstrap intervals of column means.

    Parameters
    ----------
    values
        float64, (rows, columns).
    query, repeat
        int64, (rows,). The query and the repeat of each row. A query is resampled with all its
        rows. Repeats are resampled too if there are several. The weight of a row is the
        product of the two multiplicities.
    draws, seed
        Number of bootstrap samples, and the seed.
    """
    of_query, of_repeat = (np.unique(x, return_inverse=True)[1] for x in (query, repeat))
    queries, repeats = (int(x.max(initial=-1)) + 1 for x in (of_query, of_repeat))
    if not len(values):
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    rng = np.random.default_rng(seed)
    means = []
    left = draws
    while left:
        some = min(left, max(1, _CHUNK // len(values)))
        weight = bootstrap_weights(queries, some, rng)[:, of_query]
        weight = weight * bootstrap_weights(repeats, some, rng)[:, of_repeat]
        total = weight.sum(axis=1, keepdims=True)
        means.append((weight @ values)[total[:, 0] > 0] / total[total[:, 0] > 0])
        left -= some
    return quantile_interval(np.concatenate(means))


Row: TypeAlias = dict[str, Any]
Floats: TypeAlias = NDArray[np.float64]

#: Number of equal-sized bins of queries by frequency.
BINS = 5

_TEN = MEASURES.index("recall@10")

# Columns of the agreement of two methods.
_AGREEMENT = ("same_first", "by_chance", "both_right", "both_right_if_independent")


def by_method(outcomes: Iterable[Outcome], *, seed: int = 0) -> list[Row]:
    """Compute recalls and reciprocal rank with intervals, for each method and share of anchors.

    ``coverage`` is the share of queries for which not all candidates have the same score.
    """
    rows = []
    for (method, share), several in _grouped(outcomes).items():
        scores = np.concatenate([one.ranks.scores for one in several])
        query, repeat = _ids(several)
        low, high = intervals(scores, query=query, repeat=repeat, seed=seed)
        row: Row = {
            "method": method,
            "share": share,
            "anchors": float(np.mean([one.anchors for one in several])),
            "queries": float(np.mean([len(one.query) for one in several])),
            "candidates": float(np.mean([one.ranks.candidates.mean() for one in several])),
            "repeats": len(several),
            "coverage": float(np.concatenate([one.ranks.informative for one in several]).mean()),
        }
        for column, name in enumerate(MEASURES):
            row |= {
                name: float(scores[:, column].mean()),
                f"{name} low": float(low[column]),
                f"{name} high": float(high[column]),
            }
        rows.append(row)
    return rows


def by_frequency(outcomes: Iterable[Outcome], *, seed: int = 0) -> list[Row]:
    """Compute the gain of each method without anchors over frequency, by quintile of frequency.

    The gain is recall@10 of the method minus that of frequency alone, on the same queries.
    """
    groups = {
        method: several for (method, share), several in _grouped(outcomes).items() if not share
    }
    base = groups.pop("frequency")
    query, repeat = _ids(base)
    active = np.concatenate([one.active for one in base])
    ends = np.quantile(active, np.linspace(0, 1, BINS + 1))
    bins = np.clip(np.searchsorted(ends, active, side="right") - 1, 0, BINS - 1)
    plain = np.concatenate([one.ranks.scores[:, _TEN] for one in base])
    rows = []
    for method, several in groups.items():
        if method == "chance":
            continue
        gain = np.concatenate([one.ranks.scores[:, _TEN] for one in several]) - plain
        for number in range(BINS):
            here = bins == number
            if not here.any():
                continue
            low, high = intervals(
                gain[here, None], query=query[here], repeat=repeat[here], seed=seed
            )
            rows.append(
                {
                    "method": method,
                    "bin": number + 1,
                    "active from": int(active[here].min()),
                    "to": int(active[here].max()),
                    "queries": int(here.sum()),
                    "frequency alone": float(plain[here].mean()),
                    "gain": float(gain[here].mean()),
                    "low": float(low[0]),
                    "high": float(high[0]),
                }
            )
    return rows


def by_anchors(outcomes: Iterable[Outcome], *, seed: int = 0) -> list[Row]:
    """Compute the gain of matching with anchors over matching without, for each share.

    The gain is the score of "anchors, matched" minus that of "structure, matched", which has no
    anchors, for the same queries and candidates. Intervals are those of the difference.
    """
    groups = _grouped(outcomes)
    rows = []
    for share in dict.fromkeys(share for _, share in groups if share):
        several, without = groups["anchors, matched", share], groups["structure, matched", share]
        gain = np.concatenate(
            [
                one.ranks.scores - other.ranks.scores
                for one, other in zip(several, without, strict=True)
            ]
        )
        query, repeat = _ids(several)
        low, high = intervals(gain, query=query, repeat=repeat, seed=seed)
        row: Row = {"share": share, "anchors": float(np.mean([one.anchors for one in several]))}
        for column, name in enumerate(MEASURES):
            row |= {
                name: float(gain[:, column].mean()),
                f"{name} low": float(low[column]),
                f"{name} high": float(high[column]),
            }
        rows.append(row)
    return rows


def agreement(outcomes: Iterable[Outcome]) -> list[Row]:
    """Compute the agreement of all pairs of methods with stored first ranks in one repeat.

    ``same_first`` is the share of queries for which both methods rank the same candidate first,
    in expectation over ties. ``by_chance`` is its expected value if the answers of one method
    are permuted among the queries. ``both_right`` is the share of queries for which both are
    right, and ``both_right_if_independent`` is its expected value for independent methods.
    """
    stored = [
        (one.method, one.first_ranks, one.true) for one in outcomes if one.first_ranks is not None
    ]
    return [
        {"one": one, "two": two} | dict(zip(_AGREEMENT, _agree(a, b, true), strict=True))
        for (one, a, true), (two, b, _) in combinations(stored, 2)
    ]


def mean_agreement(repeats: Iterable[Sequence[Row]]) -> list[Row]:
    """Average the tables of ``agreement`` over repeats."""
    pairs: dict[tuple[str, str], list[Row]] = {}
    for rows in repeats:
        for row in rows:
            pairs.setdefault((row["one"], row["two"]), []).append(row)
    return [
        {"one": one, "two": two}
        | {name: float(np.mean([row[name] for row in several])) for name in _AGREEMENT}
        for (one, two), several in pairs.items()
    ]


def _agree(
    a: csr_array, b: csr_array, true: NDArray[np.int64]
) -> tuple[float, float, float, float]:
    right_a, right_b = (np.asarray(x[np.arange(len(true)), true]).ravel() for x in (a, b))
    return (
        float(a.multiply(b).sum() / len(true)),
        float((a.mean(axis=0) * b.mean(axis=0)).sum()),
        float((right_a * right_b).mean()),
        float(right_a.mean() * right_b.mean()),
    )


def _grouped(outcomes: Iterable[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.method, one.share), []).append(one)
    return groups


def _ids(several: Sequence[Outcome]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the query and the repeat of each row."""
    query = np.concatenate([one.query for one in several])
    return query, np.repeat([one.repeat for one in several], [len(one.query) for one in several])
