"""Options instead of the names of settings, in messages of the library.

A message names a setting as Python does, in backticks: "Increase `memory`" or "use `draws=20`". The
command line writes the option of the running command instead: "Increase --memory", "use --draws 20".
Names of SAEs are arguments of most commands, so "`saes='all'`" is written as "--all".
"""

import ast
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from atlas.errors import AtlasError
from atlas.plugins import ALL

__all__ = ["as_options", "name_options"]

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]+))?`")
_MARK = "names_options"


def as_options(text: str) -> str:
    """Return a message with the options of the running command for the settings that it names.

    A setting that the running command does not have is unchanged. Only ``name=True`` and
    ``name=False`` are also sought in the other commands: these are advice for another command.

    Parameters
    ----------
    text
        A message of the library. Outside a command, it is returned unchanged.
    """
    context = click.get_current_context(silent=True)
    if context is None or "`" not in text:
        return text
    own, root = context.command, context.find_root().command

    def option(found: re.Match[str]) -> str:
        name, written = found.groups()
        value = None if written is None else _value(written)
        if name == "saes" and value == ALL:
            return _option(own, ALL, True) or found[0]
        switch = {"True": True, "False": False}.get(value or "")
        words = _option(own, name, switch)
        if words is None and switch is not None:
            words = next(filter(None, (_option(c, name, switch) for c in _commands(root))), None)
        if words is None:
            return found[0]
        if value is None or switch is not None:
            return words
        return f"{words} {value}"

    return _SETTING.sub(option, text)


def _value(written: str) -> str:
    """Return a value of Python as on the command line: without quotes, or a tuple of one value."""
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written
    if isinstance(value, tuple) and len(value) == 1:  # of an option that can be repeated
        value = value[0]
    return str(value)


def name_options(command: click.Command) -> None:
    """Let a command, and its subcommands, name options in the errors of the library."""
    for each in _commands(command):
        if each.callback is not None and not hasattr(each.callback, _MARK):
            each.callback = _translated(each.callback)


def _translated(callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def translated(*args: Any, **options: Any) -> Any:
        try:
            return callback(*args, **options)
        except AtlasError as error:
            error.args = (as_options(str(error)), *error.args[1:])
            raise

    setattr(translated, _MARK, True)
    return translated


def _commands(command: click.Command) -> list[click.Command]:
    """Return a command and its subcommands, without groups."""
    if not isinstance(command, click.Group):
        return [command]
    return [one for each in command.commands.values() for one in _commands(each)]


def _option(command: click.Command, name: str, switch: bool | None) -> str | None:
    """Return the option of a command for a setting; None if it has none."""
    context = click.get_current_context()
    # The running command may have more options than it declares, such as those of a named query.
    own = command is context.command
    for parameter in command.get_params(context) if own else command.params:
        if not isinstance(parameter, click.Option):
            continue
        long = [each for each in parameter.opts if each.startswith("--")]
        if long and name in (parameter.name, long[0].removeprefix("--").replace("-", "_")):
            off = [each for each in parameter.secondary_opts if each.startswith("--")]
            return off[0] if switch is False and off else long[0]
    return None
