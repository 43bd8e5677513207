"""Check the arguments of a command before it imports heavy libraries: names of SAEs, and the atlas.

A study checks the names as well, but some import torch or scipy first, which takes seconds. The atlas
may be the first argument of every command that has ``--atlas``.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from atlas.cli.selected_atlas import is_url, which_atlas
from atlas.errors import BadInput

__all__ = ["atlas_among", "atlas_as_first_argument", "check_names_early"]

# Commands whose arguments are no names of SAEs of the atlas alone.
_OTHERS = frozenset({"rm"})
_MARK = "checks_names_early"
_FIRST = "takes_atlas_first"
_TYPED = "atlas.typed"


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


def atlas_as_first_argument(command: click.Command) -> None:
    """Let a command with ``--atlas``, and its subcommands, take the atlas as the first argument instead.

    Elsewhere among the arguments, the folder of an atlas is refused with the command to type.
    """
    if isinstance(command, click.Group):
        for each in command.commands.values():
            atlas_as_first_argument(each)
        return
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    if all(one.name != "where" for one in command.params) or _has_atlas_argument(command):
        return
    if not hasattr(command.parse_args, _FIRST):  # the same command may be added twice
        urls = not any("URL" in _shown(one) for one in arguments)
        command.parse_args = _with_atlas_first(command, urls=urls)  # type: ignore[method-assign]
    for one in arguments:
        if one.callback is None:
            one.callback = _without_atlas


def atlas_among(error: click.ClickException, args: Sequence[str]) -> str | None:
    """Return the message for an atlas among arguments where click expects none; None without one.

    Parameters
    ----------
    error
        The error of click.
    args
        The words after ``atlas``.
    """
    found = re.search(
        r"unexpected extra arguments? \((.*)\)|No such command '(.*?)'", error.format_message()
    )
    context = error.ctx if isinstance(error, click.UsageError) else None
    if found is None or context is None:
        return None
    extra, name = found.groups()
    if name is not None:
        if not _is_atlas(name):
            return None
        following = list(args[args.index(name) + 1 :]) if name in args else []
        first, *rest = following or ["COMMAND"]
        path = f"{context.command_path} {shlex.join([first, name, *rest])}"
        return f"{name} is an atlas, which follows the name of a command: `{path}`."
    if "where" not in {p.name for p in context.command.params}:
        return None
    try:
        _refuse_atlas(context, extra.split())
    except BadInput as refused:
        return str(refused)
    return None


def _has_atlas_argument(command: click.Command) -> bool:
    """Return whether an argument of a command is an atlas, as in ``atlas list demo.atlas``."""
    return any(
        word in _shown(one)
        for one in command.params
        if isinstance(one, click.Argument)
        for word in ("ATLAS", "PATH")
    )


def _shown(argument: click.Argument) -> str:
    return argument.metavar or str(argument.name).upper()


def _with_atlas_first(command: click.Command, *, urls: bool) -> Callable[..., list[str]]:
    """Return a method ``parse_args`` for which an atlas as the first argument is ``--atlas``.

    A folder is an atlas if it has the file of one, or ends in ``.atlas``. With ``urls``, the URL of
    a server is one too.
    """
    parse = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_TYPED] = list(args)
        at = first_argument(command, args)
        first = None if at is None else args[at]
        if first is None or not (
            _is_atlas(first) or _ends_as_atlas(first) or (urls and is_url(first))
        ):
            return parse(ctx, args)
        rest = parse(ctx, ["--atlas", first, *(one for i, one in enumerate(args) if i != at)])
        where = str(ctx.params.get("where"))
        if where not in (first, "None"):  # which is the case if the option is passed, too
            raise BadInput(f"Two atlases are named, {first} and {where}; name one.")
        return rest

    setattr(parse_args, _FIRST, True)
    return parse_args


def first_argument(command: click.Command, args: Sequence[str]) -> int | None:
    """Return the number of the first word that is neither an option nor its value; None without one."""
    options = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    takes_value = {name for one in options for name in one.opts}
    before = ""
    for number, word in enumerate(args):
        if word == "--":
            return None
        if before not in takes_value and not (word.startswith("-") and len(word) > 1):
            return number
        before = word if before not in takes_value else ""
    return None


def _is_atlas(word: str) -> bool:
    return bool(word) and "\0" not in word and Path(word, "atlas.json").is_file()


def _ends_as_atlas(word: str) -> bool:
    return word.endswith(".atlas") and not any(letter.isspace() for letter in word)


def _without_atlas(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    _refuse_atlas(ctx, value if isinstance(value, tuple) else [value])
    return value


def _refuse_atlas(ctx: click.Context, words: Iterable[Any]) -> None:
    """Raise BadInput with the command to type, if a word is the folder of an atlas."""
    for word in (str(one) for one in words if one):
        if _is_atlas(word):
            rest = list(ctx.meta.get(_TYPED, []))
            if word in rest:
                rest.remove(word)
            command = f"{ctx.command_path} {shlex.join([word, *rest])}"
            raise BadInput(f"{word} is an atlas, which is the first argument: `{command}`.")


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
