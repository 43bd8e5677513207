"""Order SAEs by the area under R over log k, with the interval of each difference."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from analysis.concepts.probing.splits import resampled_interval
from analysis.concepts.worth.localisation import SHARE
from atlas.amounts import counted, listed
from atlas.studies.floors import is_floor, role_shown
from atlas.studies.results import Result

__all__ = ["rank_saes", "rank_sentences"]

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
    means over them; k90 is null if a concept has none, or if all its features retain less than .9.
    ``random_area`` is the mean area of random directions that are active as often, null if a concept
    has none. ``loses`` is the number of these concepts that the features predict worse than the layer (the
    95% interval is below 0). ``difference`` is that of ``of`` from the first SAE, with the 95% interval ``low`` to
    ``high``. It is paired by split and concept, of AUROC above .5 in units of that of each SAE's own
    layer. SAEs without a shared concept are last.
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


def rank_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a ranking by area shows: the certain differences, and the controls.

    Parameters
    ----------
    rows
        Rows of ``rank_saes``.

    Examples
    --------
    >>> first = {"sae": "a", "area": 0.5, "random_area": 0.4}
    >>> second = {"sae": "b", "area": 0.4, "random_area": 0.6, "difference": -0.1}
    >>> for sentence in rank_sentences([first, second | {"low": -0.3, "high": 0.1}]):
    ...     print(sentence)
    The order of a and b is not certain (difference -0.10, 95% interval -0.30 to 0.10).
    Random directions that are active as often have a larger mean area than the features of b (0.60, 0.40).
    """
    known = [row for row in rows if row["area"] is not None]
    if not known:
        return ["No SAE has a defined area, so there is no order."]
    first, *others = known
    if first.get("loses") and others:
        return [*_among_lossless(known), *_random(known)]
    return [*_order(first, others), *_random(known), *_floors(known)]


def _among_lossless(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the first SAE whose features are not shown to predict worse than the layer, and why those above it are no better."""
    best = next((row for row in rows if not row.get("loses")), None)
    if best is None:
        yield (
            "All features of every SAE together predict worse than its layer, so the order by area is no order of worth."
        )
        return
    first, above = rows[0], list(itertools.takewhile(lambda row: row is not best, rows))
    interval = ""
    if best["low"] is not None:
        interval = (
            f", difference {best['difference']:.2f}, 95% interval {best['low']:.2f} to {best['high']:.2f}"
            if len(above) == 1
            else ""
        )
    yield (
        f"{best['sae']} has the largest mean area ({best['area']:.2f}) of the SAEs whose features together are not shown "
        "to predict worse than the layer."
    )
    names = listed([_named(row) for row in above], 3)
    yield (
        f"{names} {'has' if len(above) == 1 else 'have'} a larger area ({first['area']:.2f}{interval}), but all "
        "features together predict worse than the layer: this is no evidence of worth."
    )


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['sae']} ({role_shown(row)})" if is_floor(row) else str(row["sae"])


def _order(first: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which SAEs have a smaller area than the first one; intervals are not adjusted for their number."""
    if len(others) == 1:
        (other,) = others
        if other["low"] is None:
            yield f"The order of {first['sae']} and {other['sae']} has no interval."
            return
        interval = (
            f"(difference {other['difference']:.2f}, 95% interval {other['low']:.2f} to "
            f"{other['high']:.2f})"
        )
        if other["high"] < 0:
            yield f"{first['sae']} has a larger mean area than {other['sae']} {interval}."
        else:
            yield f"The order of {first['sae']} and {other['sae']} is not certain {interval}."
    elif others:
        lower = [row for row in others if row["high"] is not None and row["high"] < 0]
        certain = "" if len(lower) == len(others) else "; the order of the others is not certain"
        yield (
            f"{first['sae']} has the largest mean area under R over log k{_concepts(first)}. The 95% "
            f"intervals of {len(lower):,} of the {len(others):,} differences from it exclude 0, not "
            f"adjusted for their number{certain}."
        )


def _concepts(row: Mapping[str, Any]) -> str:
    """Return over how many concepts an area is the mean."""
    shared, concepts = row.get("shared"), row.get("concepts")
    return f", over {shared:,} of {counted(concepts, 'concept')}" if shared and concepts else ""


def _floors(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how many trained SAEs have a smaller area than each floor."""
    trained = [row for row in rows if not is_floor(row)]
    for floor in rows:
        if is_floor(floor) and trained:
            lower = sum(row["area"] < floor["area"] for row in trained)
            yield (
                f"The floor {floor['sae']} ({role_shown(floor)}) has a larger mean area than {lower:,} of "
                f"{counted(len(trained), 'trained SAE')}."
            )


def _random(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    larger = [
        row for row in rows if row["random_area"] is not None and row["random_area"] > row["area"]
    ]
    if not larger:
        return
    start = (
        "Random directions that are active as often have a larger mean area than the features of"
    )
    if len(larger) == 1:
        (row,) = larger
        yield f"{start} {row['sae']} ({row['random_area']:.2f}, {row['area']:.2f})."
    else:
        yield f"{start} {len(larger):,} of {len(rows):,} SAEs."


def _features(one: Result) -> list[Row]:
    return [row for row in one.table("arms").to_pylist() if row["arm"] == "features"]


def _defined(one: Result, of: str) -> set[str]:
    """Return the concepts whose ``of`` is defined."""
    return {row["concept"] for row in _features(one) if row[of] is not None}


def _row(one: Result, shared: Set[str]) -> Row:
    every = _features(one)
    random = {
        row["concept"]: row["area"]
        for row in one.table("arms").to_pylist()
        if row["arm"] == "random"
    }
    own = [row for row in every if row["concept"] in shared]
    # If all features retain less, k90 is a peak of a curve that is not monotone.
    k90 = [row["k90"] if (row["retained"] or 0.0) >= SHARE else None for row in own]
    areas = [random.get(row["concept"]) for row in own]
    return {
        "sae": one["sae"],
        "role": one.summary.get("role"),
        "concepts": len(every),
        "shared": len(own),
        "area": _mean([row["area"] for row in own]),
        "random_area": None if None in areas else _mean(areas),
        "loses": sum((row.get("difference_high") or 0.0) < 0 for row in own),
        "retained": _mean([row["retained"] for row in own]),
        "k90": None if None in k90 else _mean(k90),
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
