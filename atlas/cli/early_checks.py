"""Check the names of SAEs before a command imports heavy libraries.

A study checks them as well, but some import torch or scipy first, which takes seconds.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from atlas.cli.output import which_atlas

__all__ = ["check_names_early"]

# Commands whose arguments are no names of SAEs of the atlas alone.
_OTHERS = frozenset({"rm"})
_MARK = "checks_names_early"


def check_names_early(command: click.Command) -> None:
    """Let a command with SAEs as arguments, and its subcommands, refuse unknown names first."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            check_names_early(each)
        return
    arguments = {p.name for p in command.params if isinstance(p, click.Argument)}
    options = {p.name for p in command.params}
    named = "saes" in arguments and "where" in options and command.name not in _OTHERS
    if named and not hasattr(command.callback, _MARK):  # the same command may be added twice
        command.callback = _checked(command.callback)


def _checked(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    assert callback is not None

    @wraps(callback)
    def checked(*args: Any, **options: Any) -> Any:
        _check(options["saes"], options["where"])
        return callback(*args, **options)

    setattr(checked, _MARK, True)
    return checked


def _check(saes: tuple[str, ...], where: "str | Path | None") -> None:
    """Raise UnknownName if the folder of the atlas has no SAE of a name."""
    from atlas.disk.folder import Folder
    from atlas.studies.study import check_saes

    path = str(where or which_atlas(None)) if saes else ""
    if saes and Path(path, "atlas.json").is_file():
        check_saes(Folder.open(Path(path)).sound(), saes)
