"""Similarity of many pairs of SAEs: values, nulls, excess and q for each measure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.similarity.comparison import FULL
from analysis.similarity.measures import MEASURES
from atlas.errors import BadInput
from atlas.studies.results import Result
from ingest.statistics.discoveries import q_values

__all__ = ["grid", "sites_of"]

_BLOCK = re.compile(r"blocks\.(\d+)\.")


def grid(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row for each pair, space and measure that is defined, with its excess and q.

    Parameters
    ----------
    results
        Results of ``analysis.similarity.study.compare_spaces``.

    Returns
    -------
    list of dict
        ``a``, ``b``, ``space``, ``points``, ``measure``, ``pairs``, ``value``, ``null`` (mean
        over shuffled pairings), ``excess`` (value - null), ``p``, and ``q``, the
        Benjamini-Hochberg q-value over all pairs of the same space and measure.
    """
    rows = []
    for result in results:
        for row in result.table("rows").to_pylist():
            if row["subset"] == FULL and row["p"] is not None:
                named = {key: row[key] for key in ("space", "points", "measure", "pairs", "value")}
                rows.append(
                    {
                        "a": result["a"],
                        "b": result["b"],
                        **named,
                        "null": row["null"],
                        "excess": row["value"] - row["null"],
                        "p": row["p"],
                    }
                )
    for space in {row["space"] for row in rows}:
        for measure in MEASURES:
            own = [row for row in rows if (row["space"], row["measure"]) == (space, measure)]
            for row, q in zip(own, q_values([row["p"] for row in own]), strict=True):
                row["q"] = q
    return rows


def sites_of(saes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, int, str]]:
    """Return the model, layer and name of each SAE, which sort SAEs from the first layer on.

    Parameters
    ----------
    saes
        Rows of the table SAE, with ``name``, ``model`` and ``hook``.

    Raises
    ------
    BadInput
        If there is none.
    """
    if not saes:
        raise BadInput("There is no SAE to compare.")
    found = {}
    for row in saes:
        block = _BLOCK.match(row["hook"])
        found[row["name"]] = (row["model"], int(block[1]) if block else -1, row["name"])
    return found
