"""Roles of SAEs: which SAEs of an atlas are floors, and of which trained SAE.

A floor is an SAE that learned nothing, or only half of its weights, or whose model has random
weights. Its value of a statistic shows which part of the value of a trained SAE needs no
training.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

__all__ = ["ROLES", "Role", "floors_of", "is_floor", "role_shown"]

Role: TypeAlias = Literal["trained", "frozen-decoder", "frozen-encoder", "untrained"]

ROLES: tuple[Role, ...] = get_args(Role)
"""Values of ``SAE.role``; all except the first are floors."""


def is_floor(row: Mapping[str, Any]) -> bool:
    """Return whether a row of the table SAE describes a floor.

    Examples
    --------
    >>> is_floor({"role": "frozen-decoder", "random_model": None})
    True
    >>> is_floor({"role": None, "random_model": None})  # an SAE without a record counts as trained
    False
    """
    return row.get("role") not in (None, "trained") or bool(row.get("random_model"))


def role_shown(row: Mapping[str, Any]) -> str | None:
    """Return the role of an SAE for people, including a model with random weights.

    Examples
    --------
    >>> role_shown({"role": "trained", "random_model": True})
    'trained, random model'
    """
    words = [row.get("role"), "random model" if row.get("random_model") else None]
    return ", ".join(word for word in words if word) or None


def floors_of(rows: Iterable[Mapping[str, Any]], sae: str) -> list[str]:
    """Return the names of the floors of an SAE, sorted.

    These are the floors that name the SAE in ``floor_of``. If there are none, they are the
    floors that name no SAE and read the same model at the same site, with the same width.

    Parameters
    ----------
    rows
        Rows of the table SAE.
    sae
        Name of an SAE.

    Examples
    --------
    >>> rows = [{"name": "a", "role": "trained"},
    ...         {"name": "b", "role": "untrained", "floor_of": "a"}]
    >>> floors_of(rows, "a"), floors_of(rows, "b")
    (['b'], [])
    """
    by_name = {str(row["name"]): row for row in rows}
    if sae not in by_name or is_floor(by_name[sae]):
        return []
    floors = {name: row for name, row in by_name.items() if is_floor(row) and name != sae}
    own = [name for name, row in floors.items() if row.get("floor_of") == sae]
    similar = [
        name
        for name, row in floors.items()
        if row.get("floor_of") is None
        and all(row.get(key) == by_name[sae].get(key) for key in ("model", "hook", "d_sae"))
    ]
    return sorted(own or similar)
