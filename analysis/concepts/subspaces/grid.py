"""Concept subspaces of many pairs of SAEs: excess over each null, and q over concepts and pairs."""

from collections.abc import Sequence
from typing import Any

from analysis.concepts.subspaces.study import NULLS
from atlas.studies.results import Result
from ingest.statistics.discoveries import q_values

__all__ = ["concept_grid"]


def concept_grid(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row for each concept, pair of SAEs, space and measure that is defined.

    Parameters
    ----------
    results
        Results of ``analysis.concepts.subspaces.study.compare_concepts``.

    Returns
    -------
    list of dict
        ``concept``, ``a``, ``b``, ``space``, ``measure``, ``pairs``, ``value``, and for each null
        ``null``, ``excess`` (value - null), ``p`` and ``q``, with the prefix of ``NULLS``. q is the
        Benjamini-Hochberg value over all concepts and pairs of SAEs of the same space, measure
        and null. ``special`` is whether all three q are at most .05; None if a null has no draws.
    """
    rows = []
    for result in results:
        for row in result.table("rows").to_pylist():
            if row["measure"] is None or row["value"] is None:
                continue
            found = {"concept": row["concept"], "a": result["a"], "b": result["b"]}
            found |= {key: row[key] for key in ("space", "measure", "pairs", "value")}
            for prefix in NULLS:
                null = row[f"{prefix}null"]
                found[f"{prefix}null"] = null
                found[f"{prefix}excess"] = None if null is None else row["value"] - null
                found[f"{prefix}p"], found[f"{prefix}q"] = row[f"{prefix}p"], None
            rows.append(found)
    for prefix in NULLS:
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["space"], row["measure"]), []).append(row)
        for own in groups.values():
            for row, q in zip(own, q_values([row[f"{prefix}p"] for row in own]), strict=True):
                row[f"{prefix}q"] = q
    for row in rows:
        every = [row[f"{prefix}q"] for prefix in NULLS]
        row["special"] = None if None in every else max(every) <= 0.05
    return rows
