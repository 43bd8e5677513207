"""Check the arguments of a command before it imports heavy libraries: names of SAEs, and no atlas.

A study checks them as well, but some import torch or scipy first, which takes seconds.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from atlas.cli.selected_atlas import which_atlas
from atlas.errors import BadInput

__all__ = ["atlas_among", "check_names_early", "refuse_atlas_as_argument"]

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


def refuse_atlas_as_argument(command: click.Command) -> None:
    """Let a command with ``--atlas``, and its subcommands, refuse an atlas as another argument."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            refuse_atlas_as_argument(each)
        return
    if all(parameter.name != "where" for parameter in command.params):
        return
    for parameter in command.params:
        takes_atlas = any(word in (parameter.metavar or "") for word in ("ATLAS", "PATH"))
        if isinstance(parameter, click.Argument) and not takes_atlas and parameter.callback is None:
            parameter.callback = _without_atlas


def atlas_among(error: click.ClickException) -> str | None:
    """Return the message for an atlas among the arguments that a command does not expect; None without one."""
    found = re.search(r"unexpected extra arguments? \((.*)\)", error.format_message())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if found is None or context is None or "where" not in {p.name for p in context.command.params}:
        return None
    try:
        _refuse_atlas(found[1].split())
    except BadInput as refused:
        return str(refused)
    return None


def _without_atlas(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    _refuse_atlas(value if isinstance(value, tuple) else [value])
    return value


def _refuse_atlas(words: Iterable[Any]) -> None:
    """Raise BadInput if a word is the folder of an atlas."""
    for word in words:
        if word and "\0" not in str(word) and Path(word, "atlas.json").is_file():
            raise BadInput(f"{word} is an atlas; pass it with --atlas {shlex.quote(str(word))}.")


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
