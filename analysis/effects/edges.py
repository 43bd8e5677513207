"""The edges of an effects study in words: numbers by target, and the strongest."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from atlas.amounts import counted

__all__ = ["about_edges", "strongest_edges"]


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
            f"The strongest: ablating {first['source']} at a token {change} {first['target']} by "
            f"{abs(first['mean']):.3g} on average, summed over this token and later ones. Random directions change "
            f"this sum by {first['random']:.3g} (q {first['q']:.2g})."
        )
    return found
