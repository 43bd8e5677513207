"""The stored codes of an SAE of an atlas: their files, after the checks that every study needs."""

from pathlib import Path

from atlas.folder import Folder, Sound
from atlas.study import check_inputs, check_saes

__all__ = ["stored_shards"]


def stored_shards(folder: Folder, sound: Sound, sae: str, *, what: str) -> list[Path]:
    """Return the files of the codes of an SAE in order, after a check of their checksums.

    Parameters
    ----------
    folder, sound
        The atlas, and its sound parts.
    sae
        The name of the SAE.
    what
        The result that needs the codes, for the message.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of this name.
    Missing
        If its codes are not stored.
    BrokenPart
        If its codes have changed since they were written.
    """
    check_saes(sound, [sae])
    check_inputs([f"codes/{sae}"], sound, what=what)
    sound.parts[f"codes/{sae}"].check()
    return sorted(folder.codes(sae).glob("*.arrow"))
