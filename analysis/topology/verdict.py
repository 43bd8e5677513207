"""Sentences that interpret the topology of an SAE, computed from its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.statistics.direction_nulls import NULLS
from analysis.topology.persistence import ALL
from atlas.amounts import counted

__all__ = ["SIGNIFICANT", "verdict_of"]

SIGNIFICANT = 0.05
"""Largest p of a statistic that exceeds a null."""

_NOUNS = {
    "isotropic": "isotropic directions",
    "covariance": "Gaussian directions of equal covariance",
    "permuted": "permuted columns",
}


def verdict_of(
    summary: Mapping[str, Any],
    tests: Sequence[Mapping[str, Any]],
    grid: Sequence[Mapping[str, Any]],
    *,
    settings: Mapping[str, Any],
) -> list[str]:
    """Return the sentences about one SAE.

    Parameters
    ----------
    summary
        Its row of the table ``summary``.
    tests, grid
        Rows of the tables ``tests`` and ``mapper_grid``.
    settings
        The settings that the part stores.
    """
    sae = summary["sae"]
    if summary["h0"] is None:
        return [
            f"{sae} has {summary['directions']:,} live decoder directions; topology needs 10 or more."
        ]
    return list(_sentences(summary, tests, grid, settings))


def _sentences(
    summary: Mapping[str, Any],
    tests: Sequence[Mapping[str, Any]],
    grid: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> Iterator[str]:
    landmarks = min(settings["landmarks"], summary["directions"])
    yield (
        f"{summary['sae']}: {summary['directions']:,} live decoder directions ({landmarks} landmarks, "
        f"{settings['repeats']} repeats) have a longest death / birth of {summary['h1']:.2f} in H1 "
        f"({_highest('H1', tests)}) and {summary['h2']:.2f} in H2 ({_highest('H2', tests)}), and a longest "
        f"death / median death of {summary['h0']:.2f} in H0 ({_highest('H0', tests)})."
    )
    yield _compared("homology", "Homology", tests)
    yield _compared("mapper", "The Mapper graph", tests)
    shown = next(row for row in grid if row["shown"])
    stable = (
        "its stability is not defined, because it has one component"
        if shown["stability"] is None
        else f"stability {shown['stability']:.2f} (adjusted Rand index)"
    )
    yield (
        f"The shown Mapper graph retains {shown['retained']:.0%} of the sampled directions in "
        f"{counted(shown['components'], 'component')}; {stable}."
    )


def _highest(statistic: str, tests: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean and the upper end of the 95% range of the null with the highest values."""
    own = [r for r in tests if r["statistic"] == statistic and r["null_high"] is not None]
    if not own:
        return "no null"
    row = max(own, key=lambda row: row["null_high"])
    return f"{_NOUNS[row['null']]}: {row['null_mean']:.2f}, up to {row['null_high']:.2f}"


def _compared(method: str, subject: str, tests: Sequence[Mapping[str, Any]]) -> str:
    own = [row for row in tests if row["method"] == method]
    p = {row["null"]: row["p"] for row in own if row["statistic"] == ALL}
    beyond = [null for null in NULLS if p[null] <= SIGNIFICANT]
    least = min(p.values())
    if not beyond:
        return (
            f"{subject} exceeds no null (smallest p = {least:.2g}): there is no evidence of clusters, loops "
            "or voids."
        )
    names = " and ".join(_NOUNS[null] for null in beyond)
    if len(beyond) < len(NULLS):
        rest = " and ".join(_NOUNS[null] for null in NULLS if null not in beyond)
        why = (
            "mean and covariance can explain it"
            if "covariance" not in beyond
            else f"evidence needs all {len(NULLS)} nulls"
        )
        return (
            f"{subject} exceeds {names} (p ≤ {SIGNIFICANT:g}), and not {rest}; {why} "
            f"(largest p = {max(p.values()):.2g})."
        )
    return f"{subject} exceeds all three nulls (p ≤ {SIGNIFICANT:g}){_due(own)}."


def _due(tests: Sequence[Mapping[str, Any]]) -> str:
    """Return which statistics exceed every null, and by how much or in how many settings."""
    key = ("statistic", "cubes", "overlap", "eps")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in tests:
        if row["statistic"] != ALL:
            groups.setdefault(tuple(row[k] for k in key), []).append(row)
    beyond = {name: all(r["p"] <= SIGNIFICANT for r in rows) for name, rows in groups.items()}
    texts = []
    for statistic in dict.fromkeys(name[0] for name in groups):
        own = [name for name in groups if name[0] == statistic]
        number = sum(beyond[name] for name in own)
        if not number:
            continue
        rows = groups[own[0]]
        if rows[0]["null_high"] is None:
            texts.append(f"{statistic.replace('_', ' ')} in {number} of {len(own)} settings")
        else:
            high = max(row["null_high"] for row in rows)
            texts.append(f"{statistic} {rows[0]['observed']:.3f} (nulls up to {high:.3f})")
    return f": {', '.join(texts)}" if texts else ""
