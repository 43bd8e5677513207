"""Answers to an option or a command that does not exist: which command has it, or what was meant."""

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence

import click

import queries
from atlas.cli.query_command import example_of, named_query, written_parameters

__all__ = ["about_wrong_word"]

# Commands that a message names.
_NAMED = 4


def about_wrong_word(error: click.ClickException, args: Sequence[str]) -> str | None:
    """Return the message for an option or a command that does not exist; None for another error.

    Parameters
    ----------
    error
        The error of click.
    args
        The words after ``atlas``.

    Examples
    --------
    >>> about_wrong_word(click.UsageError("No such command 'saes_of_model'."), ["saes_of_model"])
    'saes_of_model is a named query: `atlas query saes_of_model`.'
    """
    if isinstance(error, click.NoSuchOption):
        return None if error.ctx is None else _about_option(error.option_name, error.ctx)
    found = re.match(r"No such command '(.*?)'", error.format_message())
    if found is None or not args:
        return None
    name = found[1]
    if name in queries.names() and args[0] == name:
        return f"{name} is a named query: `{shlex.join(['atlas', 'query', *args])}`."
    group = error.ctx.command if isinstance(error, click.UsageError) and error.ctx else None
    if not isinstance(group, click.Group):
        return None
    near = difflib.get_close_matches(name, group.commands, n=1)
    return f"There is no command {name!r}; the nearest is {near[0]!r}." if near else None


def _about_option(option: str, context: click.Context) -> str:
    """State which commands have an option, or which options this command has."""
    path = context.command_path
    query = named_query(context)
    if query is not None:
        has = "; ".join(written_parameters(query)) or "none"
        return (
            f"{option} is no parameter of the query {query.name}. It has: {has}. "
            f"Example: `{example_of(query)}`."
        )
    root = context.find_root()
    others = list(dict.fromkeys(_commands_with(option, root.command, str(root.info_name))))
    if others:
        named = ", ".join(f"`{one}`" for one in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more commands" if len(others) > _NAMED else ""
        return f"{option} is no option of `{path}`. It is an option of {named}{more}."
    own = [name for one in context.command.params for name in one.opts if name.startswith("-")]
    near = difflib.get_close_matches(option, own, n=1, cutoff=0.75)
    nearest = f" The nearest is {near[0]}." if near else ""
    return f"{option} is no option of `{path}`.{nearest} `{path} --help` lists its options."


def _commands_with(option: str, command: click.Command, path: str) -> Iterator[str]:
    """Yield the paths of the commands with an option."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _commands_with(option, each, f"{path} {name}")
    elif any(option in one.opts for one in command.params):
        yield path
