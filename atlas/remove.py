"""Removing SAEs from an atlas, and parts that touch none."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from atlas.atomic_files import discard
from atlas.errors import UnknownName
from atlas.folder import Folder, models_of
from atlas.parts import Part

__all__ = ["alone", "remove_saes", "touching"]


def touching(path: Path, saes: Sequence[str]) -> list[str]:
    """Return ``kind/name`` of every part that touches one of the SAEs, codes too.

    Parameters
    ----------
    path
        The folder of the atlas.
    saes
        SAEs by name; and parts that touch no SAE, by ``kind/name``, where ``*`` stands for
        anything (``transcoder/random@*``).

    Raises
    ------
    UnknownName
        If the atlas has no part that touches an SAE of this name, or none of that key.
    """
    return [_key(place) for place in _places(Folder.open(path), saes)]


def remove_saes(path: Path, saes: Sequence[str]) -> list[str]:
    """Remove every part that touches one of the SAEs, and return their keys.

    The part that says who the SAE is goes first: should the work be cut short,
    what is left is stale, and not half an SAE.
    """
    folder = Folder.open(path)
    with folder.writing():
        places = sorted(_places(folder, saes), key=lambda p: p.parent.name != "sae")
        for place in places:
            discard(place)
        for name in saes:
            folder.discard_runs(name)
    return [_key(place) for place in places]


def alone(path: Path) -> list[str]:
    """Return ``kind/name`` of the parts that stand in an atlas without any SAE; none if it has one."""
    parts = Folder.open(path).all_parts()[0]
    if any(part.manifest.saes for part in parts):
        return []
    return sorted(part.manifest.key for part in parts)


def _places(folder: Folder, saes: Sequence[str]) -> list[Path]:
    """Return the folders of the parts that touch the SAEs; a broken part goes by its folder's name.

    With the last SAE of a model go the parts about that model, which touch no SAE.
    """
    parts = folder.all_parts()[0]
    named = [place for key in saes if "/" in key for place in _alone(parts, key)]
    saes = [name for name in saes if "/" not in name]
    touched = {part.folder: set(part.manifest.saes) for part in parts}
    touches = {place: touched.get(place, {place.name}) for place in folder.part_folders()}
    known = set().union(*touches.values())
    for name in saes:
        if name not in known:
            raise UnknownName("SAE", name, known=known, hint="`atlas list` shows them.")
    alone = _models_left_alone(folder, parts, saes) if not all(touches.values()) else set()
    about = {
        p.folder
        for p in parts
        if not p.manifest.saes and p.manifest.sources.get("model", {}).get("name") in alone
    }
    about |= set(named)
    return [place for place, names in touches.items() if names & set(saes) or place in about]


def _alone(parts: Sequence[Part], key: str) -> Iterator[Path]:
    """Yield the folders of the parts that touch no SAE and have this key."""
    alone = {part.manifest.key: part.folder for part in parts if not part.manifest.saes}
    found = [folder for name, folder in alone.items() if fnmatchcase(name, key)]
    if not found:
        raise UnknownName(
            "part that touches no SAE", key, known=alone, hint="The other parts go with their SAEs."
        )
    yield from found


def _models_left_alone(folder: Folder, parts: Sequence[Part], saes: Sequence[str]) -> set[str]:
    """Return the models that the SAEs read and no other does; none if one of the others cannot be read."""
    sound = {p.manifest.name: p for p in parts if p.manifest.kind == "sae"}
    left = {f.name for f in folder.part_folders() if f.parent.name == "sae"} - set(saes)
    models = {name: {m for m, *_ in models_of([p])} for name, p in sound.items()}
    if not all(models.get(name) for name in left):
        return set()
    read = set().union(*(models[name] for name in saes if name in models))
    return read - set().union(*(models[name] for name in left))


def _key(place: Path) -> str:
    return f"{place.parent.name}/{place.name}"
