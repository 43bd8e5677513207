"""The edges of an effects study in words: numbers by target, the strongest, and the power of the test."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from atlas.amounts import counted

__all__ = ["about_edges", "about_power", "strongest_edges"]


def strongest_edges(edges: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of edges AFFECTS, with the largest size of ``mean`` first.

    Parameters
    ----------
    edges
        Rows with at least ``source``, ``target`` and ``mean``.

    Examples
    --------
    >>> edges = {"source": ["a/1", "a/2"], "target": ["b/1", "b/1"], "mean": [0.5, -2.0]}
    >>> strongest_edges(pa.table(edges))[0]["source"]
    'a/2'
    """
    rows: list[dict[str, Any]] = edges.to_pylist()
    return sorted(rows, key=lambda row: (-abs(row["mean"]), row["source"], row["target"]))


def about_edges(edges: pa.Table, on: Sequence[str], *, q: float) -> list[str]:
    """State the number of edges by target SAE, and the strongest edge with its control.

    Parameters
    ----------
    edges
        Rows of AFFECTS: ``source``, ``target``, ``mean``, ``random`` and ``q``.
    on
        Names of the targets' SAEs.
    q
        Largest q of an edge.

    """
    rows = strongest_edges(edges)
    number = Counter(row["target"].rpartition("/")[0] for row in rows)
    by_target = ", ".join(
        f"{name} ({number[name]:,})" for name in sorted(on, key=lambda name: (-number[name], name))
    )
    sources = len({row["source"] for row in rows})
    exceed = "exceeds" if len(rows) == 1 else "exceed"
    found = [
        f"{counted(len(rows), 'edge')} {exceed} both controls (q ≤ {q:g}), from "
        f"{counted(sources, 'feature')}; by target: {by_target}."
    ]
    if rows:
        first = rows[0]
        change = "lowers" if first["mean"] < 0 else "raises"
        found.append(
            f"The strongest: ablating {first['source']} {change} {first['target']} by {abs(first['mean']):.3g} "
            f"on average, random directions change it by {first['random']:.3g} "
            f"(q {first['q']:.2g})."
        )
    return found


def about_power(lowest_q: float, *, directions: int, level: float = 0.05) -> str:
    """State the lowest q, and how many features must exceed their random directions for a low q.

    A q of n features that exceed d random directions each is at least 1 / (d n); see
    ``analysis.effects.inference.decoy_q``.

    Parameters
    ----------
    lowest_q
        Lowest q of the features.
    directions
        Random directions of each feature, at least 1.
    level
        The level of q.

    Examples
    --------
    >>> about_power(0.25, directions=3)
    'The lowest q is 0.25. With 3 random directions per feature, q ≤ 0.05 needs at least 7 features that exceed theirs.'
    """
    needed = math.ceil(round(1 / (level * directions), 9))
    features = "feature that exceeds its own" if needed == 1 else "features that exceed theirs"
    return (
        f"The lowest q is {lowest_q:.2g}. With {counted(directions, 'random direction')} per feature, q ≤ {level:g} needs "
        f"at least {needed} {features}."
    )
