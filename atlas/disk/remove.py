"""Remove SAEs, and parts that touch no SAE, from an atlas."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder, models_of
from atlas.disk.parts import Part
from atlas.errors import UnknownName

__all__ = ["alone", "remove_saes", "touching"]


def touching(path: Path, saes: Sequence[str]) -> list[str]:
    """Return ``kind/name`` of every part that touches one of the SAEs, including codes.

    Parameters
    ----------
    path
        The folder of the atlas.
    saes
        Names of SAEs, and ``kind/name`` of parts that touch no SAE, where ``*`` matches
        any text (``transcoder/random@*``).

    Raises
    ------
    UnknownName
        If the atlas has no part of an SAE of this name, or no part of this key.
    """
    return [_key(folder) for folder in _part_folders(Folder.open(path), saes)]


def remove_saes(path: Path, saes: Sequence[str]) -> list[str]:
    """Remove every part that touches one of the SAEs, and return their keys.

    The part of kind ``sae`` is removed first. If the process is interrupted, the
    remaining parts are stale, and the atlas never loads an incomplete SAE.
    """
    folder = Folder.open(path)
    with folder.writing():
        removed = sorted(_part_folders(folder, saes), key=lambda p: p.parent.name != "sae")
        for part_folder in removed:
            discard(part_folder)
        for name in saes:
            folder.discard_runs(name)
    return [_key(part_folder) for part_folder in removed]


def alone(path: Path) -> list[str]:
    """Return the keys of all parts of an atlas that has no SAE; empty if it has one."""
    parts = Folder.open(path).all_parts()[0]
    if any(part.manifest.saes for part in parts):
        return []
    return sorted(part.manifest.key for part in parts)


def _part_folders(folder: Folder, saes: Sequence[str]) -> list[Path]:
    """Return the folders of the parts that touch the SAEs.

    A broken part belongs to the SAE after which its folder is named. The parts about a
    model, which touch no SAE, are included with the last SAE of that model.
    """
    parts = folder.all_parts()[0]
    named = [path for key in saes if "/" in key for path in _without_sae(parts, key)]
    saes = [name for name in saes if "/" not in name]
    touched = {part.folder: set(part.manifest.saes) for part in parts}
    touches = {path: touched.get(path, {path.name}) for path in folder.part_folders()}
    known = set().union(*touches.values())
    for name in saes:
        if name not in known:
            raise UnknownName("SAE", name, known=known, hint="`atlas list` shows all SAEs.")
    unused = _models_without_sae(folder, parts, saes) if not all(touches.values()) else set()
    about = {
        p.folder
        for p in parts
        if not p.manifest.saes and p.manifest.sources.get("model", {}).get("name") in unused
    }
    about |= set(named)
    return [path for path, names in touches.items() if names & set(saes) or path in about]


def _without_sae(parts: Sequence[Part], key: str) -> Iterator[Path]:
    """Yield the folders of the parts that touch no SAE and match this key."""
    known = {part.manifest.key: part.folder for part in parts if not part.manifest.saes}
    found = [folder for name, folder in known.items() if fnmatchcase(name, key)]
    if not found:
        raise UnknownName(
            "part that touches no SAE",
            key,
            known=known,
            hint="Other parts are removed with their SAEs.",
        )
    yield from found


def _models_without_sae(folder: Folder, parts: Sequence[Part], saes: Sequence[str]) -> set[str]:
    """Return the models that only these SAEs read; empty if another SAE cannot be read."""
    sound = {p.manifest.name: p for p in parts if p.manifest.kind == "sae"}
    remaining = {f.name for f in folder.part_folders() if f.parent.name == "sae"} - set(saes)
    models = {name: {m for m, *_ in models_of([p])} for name, p in sound.items()}
    if not all(models.get(name) for name in remaining):
        return set()
    read = set().union(*(models[name] for name in saes if name in models))
    return read - set().union(*(models[name] for name in remaining))


def _key(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
