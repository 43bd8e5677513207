"""Trained SAEs compared with floors of the same site and width: means, and AUC of the area."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.statistics.ranks import auc
from atlas.studies.results import Result

__all__ = ["compare_roles"]

Row = dict[str, Any]

_TRAINED = "trained"


def compare_roles(results: Sequence[Result]) -> list[Row]:
    """Compare the SAEs of each role, for each concept and site.

    Parameters
    ----------
    results
        Results of the study of concepts for one set of words.

    Returns
    -------
    A row for each concept, site and role that has an SAE whose area is defined; none unless a
    concept and site has trained SAEs and floors. ``saes`` is their number, ``area`` and
    ``retained`` are means over them, ``area_sd`` is the standard deviation of the area, ``with_k90``
    the number of SAEs that have a k90. ``random_area`` is the mean area of random directions that are
    active as often. Rows of floors have ``auc``: the probability that the area of a trained SAE
    exceeds that of a floor with as many features, ties count half; ``pairs`` is the number of
    such pairs.

    Examples
    --------
    >>> compare_roles([])
    []
    """
    found: list[Row] = []
    for (concept, site), rows in sorted(_by_site(results).items()):
        roles = sorted({row["role"] for row in rows}, key=lambda role: (role != _TRAINED, role))
        if len(roles) < 2 or _TRAINED not in roles:
            continue
        trained = [row for row in rows if row["role"] == _TRAINED]
        for role in roles:
            own = [row for row in rows if row["role"] == role]
            found.append({"concept": concept, "site": site, "role": role, **_means(own)})
            if role != _TRAINED:
                found[-1] |= _auc(trained, own)
    return found


def _by_site(results: Sequence[Result]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for one in results:
        rows = one.table("arms").to_pylist()
        random = {row["concept"]: row["area"] for row in rows if row["arm"] == "random"}
        for row in rows:
            if row["arm"] == "features" and row["area"] is not None:
                key = row["concept"], str(one.summary.get("site") or "")
                role = one.summary.get("role") or _TRAINED
                found.setdefault(key, []).append(
                    {**row, "role": role, "random_area": random.get(row["concept"])}
                )
    return found


def _means(rows: Sequence[Mapping[str, Any]]) -> Row:
    area = np.array([row["area"] for row in rows])
    random = [row["random_area"] for row in rows if row["random_area"] is not None]
    return {
        "saes": len(rows),
        "area": float(area.mean()),
        "area_sd": float(area.std(ddof=1)) if len(area) > 1 else None,
        "retained": float(np.mean([row["retained"] for row in rows])),
        "with_k90": sum(row["k90"] is not None for row in rows),
        "random_area": float(np.mean(random)) if random else None,
    }


def _auc(trained: Sequence[Mapping[str, Any]], floors: Sequence[Mapping[str, Any]]) -> Row:
    """Return the AUC within each width, averaged by the number of pairs."""
    known = list(_within_widths(trained, floors))
    pairs = sum(number for _, number in known)
    return {
        "auc": sum(value * number for value, number in known) / pairs if pairs else None,
        "pairs": pairs,
    }


def _within_widths(
    trained: Sequence[Mapping[str, Any]], floors: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[float, int]]:
    for width in {row["units"] for row in trained}:
        one, other = (
            np.array([row["area"] for row in rows if row["units"] == width])
            for rows in (trained, floors)
        )
        value = auc(one, other)
        if value is not None:
            yield value, len(one) * len(other)
