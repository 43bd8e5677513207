"""Order SAEs by the area under R over log k, with the interval of each difference."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from analysis.concepts.probing.splits import resampled_interval
from atlas.studies.results import Result

__all__ = ["rank_saes"]

Row = dict[str, Any]


def rank_saes(results: Sequence[Result], *, of: str = "area") -> list[Row]:
    """Order SAEs by their mean area over concepts.

    Parameters
    ----------
    results
        Results of the study of concepts for one set of words.
    of
        ``area`` (of R over log k), or ``retained`` (R of all features).

    Returns
    -------
    A row for each SAE, best first. ``shared`` is the number of concepts that are compared: those
    whose ``of`` is defined in each SAE that has one at all. ``area``, ``retained`` and ``k90`` are
    means over them; k90 is null if a concept has none. ``difference`` is that of ``of`` from the
    first SAE, with the 95% interval ``low`` to ``high``. It is paired by split and concept, of
    AUROC above .5 in units of that of each SAE's own layer. SAEs without a shared concept are last.
    """
    defined = {one.name: _defined(one, of) for one in results}
    some = [concepts for concepts in defined.values() if concepts]
    shared = set.intersection(*some) if some else set()
    values = {one.name: _by_split(one, of, shared & defined[one.name]) for one in results}
    rows = [_row(one, shared & defined[one.name]) for one in results]
    keyed = sorted(
        zip(rows, results, strict=True),
        key=lambda pair: (pair[0][of] is None, -(pair[0][of] or 0.0), pair[0]["sae"]),
    )
    if not keyed:
        return []
    first = values[keyed[0][1].name]
    found = []
    for number, (row, one) in enumerate(keyed, start=1):
        difference = _difference(values[one.name], first) if number > 1 else {}
        found.append({"rank": number, **row, **difference})
    return found


def _features(one: Result) -> list[Row]:
    return [row for row in one.table("arms").to_pylist() if row["arm"] == "features"]


def _defined(one: Result, of: str) -> set[str]:
    """Return the concepts whose ``of`` is defined."""
    return {row["concept"] for row in _features(one) if row[of] is not None}


def _row(one: Result, shared: Set[str]) -> Row:
    every = _features(one)
    own = [row for row in every if row["concept"] in shared]
    k90 = [row["k90"] for row in own]
    return {
        "sae": one["sae"],
        "role": one.summary.get("role"),
        "concepts": len(every),
        "shared": len(own),
        "area": _mean([row["area"] for row in own]),
        "retained": _mean([row["retained"] for row in own]),
        "k90": None if None in k90 or not k90 else float(np.mean(k90)),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _by_split(one: Result, of: str, shared: Set[str]) -> dict[tuple[str, int], tuple[float, float]]:
    """Return R on each split of each shared concept, linear in the AUROC, and the split's ratio."""
    k = -1 if of == "area" else 0
    rows = [
        row
        for row in one.table("splits").to_pylist()
        if row["arm"] == "features" and row["k"] == k and row["auc"] is not None
        if row["concept"] in shared
    ]
    layer: dict[str, list[float]] = {}
    for row in rows:
        layer.setdefault(row["concept"], []).append(row["layer_auc"] - 0.5)
    mean = {concept: float(np.mean(values)) for concept, values in layer.items()}
    # AUROC above .5 in units of the layer's mean, so that the mean over splits is R.
    return {
        (row["concept"], row["split"]): ((row["auc"] - 0.5) / mean[row["concept"]], row["ratio"])
        for row in rows
    }


def _difference(
    own: Mapping[tuple[str, int], tuple[float, float]],
    first: Mapping[tuple[str, int], tuple[float, float]],
) -> Row:
    """Return the mean difference over concepts, with the interval over splits."""
    shared = sorted(set(own) & set(first))
    by_split: dict[int, list[float]] = {}
    for key in shared:
        by_split.setdefault(key[1], []).append(own[key][0] - first[key][0])
    if not by_split:
        return {"difference": None, "low": None, "high": None}
    values = np.array([np.mean(of) for of in by_split.values()])
    ratio = float(np.mean([own[key][1] for key in shared]))
    interval = resampled_interval(values, ratio)
    return {
        name: None if not np.isfinite(value) else float(value)
        for name, value in (
            ("difference", interval.value),
            ("low", interval.low),
            ("high", interval.high),
        )
    }
