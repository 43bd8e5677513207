"""Roles of SAEs: which SAEs of an atlas are floors, and of which trained SAE.

A floor is an SAE that learned nothing, or only half of its weights, or whose model has random
weights. Its value of a statistic shows which part of the value of a trained SAE needs no
training.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from atlas.disk.folder import Sound
from atlas.disk.parts import Part

__all__ = [
    "ROLES",
    "Role",
    "floor_parts",
    "floors_of",
    "is_floor",
    "of_replaced",
    "replaced_by_floors",
    "role_shown",
    "stored_floors",
]

Role: TypeAlias = Literal["trained", "frozen-decoder", "frozen-encoder", "untrained"]

T = TypeVar("T")

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
    floors that name no SAE and read the same model at the same site, with the same width and k.

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
        and all(row.get(key) == by_name[sae].get(key) for key in ("model", "hook", "d_sae", "k"))
    ]
    return sorted(own or similar)


def stored_floors(sound: Sound) -> list[dict[str, Any]]:
    """Return the rows of the table SAE of an atlas that has floors; none if it has no floor.

    Only the manifests are read if no SAE is a floor.
    """
    if not any(_marked(part) for part in sound.of("sae")):
        return []
    return list(sound.sae_rows.values())


def replaced_by_floors(
    rows: Iterable[Mapping[str, Any]], saes: Sequence[str], *, first_only: bool = False
) -> Iterator[tuple[str, ...]]:
    """Yield the SAEs with at least one of them replaced by one of its floors.

    Parameters
    ----------
    rows
        Rows of the table SAE.
    saes
        Names of SAEs. More than two are about a family, floors included, and yield nothing.
    first_only
        Replace only the first SAE.

    Examples
    --------
    >>> rows = [{"name": "a"}, {"name": "c"},
    ...         {"name": "b", "role": "untrained", "floor_of": "a"}]
    >>> list(replaced_by_floors(rows, ["a", "c"]))
    [('b', 'c')]
    """
    if len(saes) > 2:
        return
    rows = list(rows)
    choices = [
        (sae, *(floors_of(rows, sae) if i == 0 or not first_only else ()))
        for i, sae in enumerate(saes)
    ]
    own = frozenset(saes)
    yield from (names for names in product(*choices) if frozenset(names) != own)


def of_replaced(
    wanted: Iterable[tuple[str, ...]],
    found: Mapping[tuple[str, ...], T],
    *,
    any_order: bool,
) -> Iterator[tuple[tuple[str, ...], T]]:
    """Yield the SAEs for which something is found, with what is found.

    Parameters
    ----------
    wanted
        Names of SAEs, from ``replaced_by_floors``.
    found
        What is stored, by the names of its SAEs.
    any_order
        Whether what is found for the same SAEs in another order is used if there is none in this
        order; see ``Study.sorted_pairs``.

    Examples
    --------
    >>> found = {("a", "b"): 1, ("d", "c"): 2}
    >>> list(of_replaced([("b", "a"), ("d", "c")], found, any_order=False))
    [(('d', 'c'), 2)]
    >>> list(of_replaced([("b", "a"), ("d", "c")], found, any_order=True))
    [(('b', 'a'), 1), (('d', 'c'), 2)]
    """
    by_set = {frozenset(names): one for names, one in found.items()} if any_order else {}
    for names in wanted:
        one = found.get(names, by_set.get(frozenset(names)))
        if one is not None:
            yield names, one


def floor_parts(
    sound: Sound,
    parts: Sequence[Part],
    rows: Sequence[Mapping[str, Any]],
    *,
    first_only: bool = False,
    any_order: bool = False,
) -> tuple[dict[str, Part], list[str]]:
    """Find the parts that are the same results for the floors of their SAEs.

    Parameters
    ----------
    sound
        The sound parts of the atlas.
    parts
        Parts of one kind. Parts about more than two SAEs have no counterparts.
    rows
        Rows of the table SAE.
    first_only
        Replace only the first SAE of a part by its floors.
    any_order
        See ``of_replaced``.

    Returns
    -------
    parts
        By name, the stored parts of this kind of which at least one SAE is replaced by a floor
        of it, without those in ``parts`` and those of other versions.
    missing
        Names of floors of which no such part is stored, sorted.
    """
    own = {part.manifest.name for part in parts}
    found: dict[str, Part] = {}
    floors: set[str] = set()
    for part in parts:
        saes = part.manifest.saes
        replaced = list(replaced_by_floors(rows, saes, first_only=first_only))
        floors |= {name for names in replaced for name in names} - set(saes)
        stored = {
            tuple(other.manifest.saes): other
            for other in (sound.of(part.manifest.kind) if replaced else ())
            if other.manifest.version == part.manifest.version and _rest(other) == _rest(part)
        }
        for _, other in of_replaced(replaced, stored, any_order=any_order):
            found[other.manifest.name] = other
    seen = {sae for part in (*parts, *found.values()) for sae in part.manifest.saes}
    return {n: p for n, p in found.items() if n not in own}, sorted(floors - seen)


def _marked(part: Part) -> bool:
    """Return whether the manifest of an SAE marks it as a floor."""
    sources = part.manifest.sources
    sae, model = sources.get("sae", {}), sources.get("model", {})
    return is_floor({"role": sae.get("role"), "random_model": model.get("random")})


def _rest(part: Part) -> str:
    """Return the name of a part without the names of its SAEs, such as the site of a probe."""
    rest = part.manifest.name
    for sae in sorted(part.manifest.saes, key=len, reverse=True):
        rest = rest.replace(sae, "", 1)
    return rest
