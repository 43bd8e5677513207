"""The atlas that a command uses: the one that is passed, $ATLAS, or the only one in the folder."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from atlas.errors import BadInput

__all__ = ["atlases_here", "folder_of", "option_of", "which_atlas"]


def atlases_here() -> list[str]:
    """Return the atlases in the current folder."""
    return sorted(str(p.parent) for p in Path().glob("*.atlas/atlas.json"))


def which_atlas(selected: str | None) -> str:
    """Return the selected atlas, $ATLAS, or the only atlas in the current folder.

    Raises
    ------
    BadInput
        If no atlas is selected and the current folder has none or several.
    """
    if selected:
        return selected
    here = atlases_here()
    if found := _default_atlas(here):
        return found
    if here:
        raise BadInput(
            f"There are several atlases here ({', '.join(here)}); select one with --atlas."
        )
    raise BadInput(
        "There is no *.atlas folder here; select one with --atlas, or create one with `atlas demo` or "
        "`atlas ingest`."
    )


def _default_atlas(here: Sequence[str]) -> str | None:
    """Return $ATLAS, or the only one of the atlases in the current folder; None without either."""
    return os.environ.get("ATLAS") or (here[0] if len(here) == 1 else None)


def option_of(url: str) -> str:
    """Return the option that a command needs for an atlas, after a space; empty for the default one.

    Parameters
    ----------
    url
        Folder or URL of the atlas.

    Examples
    --------
    >>> option_of("my atlases/a.atlas")
    " -a 'my atlases/a.atlas'"
    """
    default = _default_atlas(atlases_here())
    same = default is not None and (
        url == default
        or ("://" not in url + default and Path(url).resolve() == Path(default).resolve())
    )
    return "" if same else f" -a {shlex.quote(url)}"


def folder_of(where: str) -> Path:
    """Return the folder of an atlas, for commands that need one.

    Raises
    ------
    BadInput
        If the atlas is on a server.
    """
    if "://" in where or where.startswith(("neo4j:/", "bolt:/")):
        raise BadInput(
            f"{where} is a server, but this command needs the folder of the atlas; select it with --atlas. "
            "`atlas push` then updates the server."
        )
    return Path(where)
