"""Removing SAEs from an atlas."""

from collections.abc import Sequence
from pathlib import Path

from atlas.errors import UnknownName
from atlas.folder import Folder
from atlas.parts import Part

__all__ = ["remove_saes", "touching"]


def touching(path: Path, saes: Sequence[str]) -> list[str]:
    """Return ``kind/name`` of every part that touches one of the SAEs, codes too.

    Raises
    ------
    UnknownName
        If the atlas has no part that touches an SAE of this name.
    """
    return [p.manifest.key for p in _parts(Folder.open(path), saes)]


def remove_saes(path: Path, saes: Sequence[str]) -> list[str]:
    """Remove every part that touches one of the SAEs, and return their keys.

    The part that says who the SAE is goes first: should the work be cut short,
    what is left is stale, and not half an SAE.
    """
    folder = Folder.open(path)
    with folder.writing():
        parts = sorted(_parts(folder, saes), key=lambda p: p.manifest.kind != "sae")
        for part in parts:
            folder.remove(part)
    return [p.manifest.key for p in parts]


def _parts(folder: Folder, saes: Sequence[str]) -> list[Part]:
    parts = folder.all_parts()
    for name in saes:
        if not any(name in p.manifest.saes for p in parts):
            known = {s for p in parts for s in p.manifest.saes}
            raise UnknownName("SAE", name, known=known, hint="`atlas list` shows them.")
    return [p for p in parts if set(saes) & set(p.manifest.saes)]
