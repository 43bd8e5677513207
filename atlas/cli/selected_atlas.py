"""The atlas that a command uses: the one that is passed, $ATLAS, or the only one in the folder."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from atlas.errors import BadInput

__all__ = ["atlases_here", "folder_of", "is_url", "option_of", "which_atlas", "without_atlas"]


def atlases_here() -> list[str]:
    """Return the atlases in the current folder."""
    return sorted(str(p.parent) for p in Path().glob("*.atlas/atlas.json"))


def which_atlas(selected: str | None) -> str:
    """Return the selected atlas, $ATLAS, or the only atlas in the current folder.

    Raises
    ------
    BadInput
        If no atlas is selected and the current folder has none or several, or if the selected
        folder does not exist.
    """
    here = atlases_here()
    found = selected or _default_atlas(here)
    if found:
        if not is_url(found) and "\0" not in found and not Path(found).exists():
            named = "" if selected else ", which $ATLAS names"
            raise BadInput(f"There is no atlas at {found}{named}. {_how_to_select(here)}")
        return found
    if here:
        raise BadInput(
            f"There are several atlases here ({', '.join(here)}); select one with --atlas."
        )
    raise BadInput(f"There is no atlas in this folder. {_how_to_select(here)}")


def _how_to_select(here: Sequence[str]) -> str:
    """Return how to select or create an atlas."""
    if here:
        return f"Here are {', '.join(here)}; select an atlas with --atlas."
    return (
        "`atlas demo` creates a small example, and `atlas ingest` an atlas of your own SAEs. "
        "--atlas selects an atlas in another folder."
    )


def without_atlas(command: click.Command) -> str:
    """Return how to create an atlas, for a command that reads one if none is here; empty otherwise.

    Parameters
    ----------
    command
        A command that was run without its arguments.
    """
    reads = {parameter.name for parameter in command.params} >= {"where"}
    if not reads or os.environ.get("ATLAS") or atlases_here():
        return ""
    return f"There is no atlas in this folder. {_how_to_select([])}"


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
    if is_url(where):
        raise BadInput(
            f"{where} is a server, but this command needs the folder of the atlas; select it with --atlas. "
            "`atlas push` then updates the server."
        )
    return Path(where)


def is_url(where: str) -> bool:
    """Return whether an atlas is on a server."""
    return "://" in where or where.startswith(("neo4j:/", "bolt:/"))
