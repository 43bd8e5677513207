"""Convert settings classes to command-line options, and settings to the words of a command.

>>> from atlas.cli.options import flags_for
>>> from ingest.match.settings import MatchSettings
>>> flags_for(MatchSettings, {"draws": 100, "align": "words"})
['--draws', '100', '--align', 'words']
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import click

from atlas.cli.shared_options import requested
from atlas.errors import BadInput
from atlas.plugins import ALL
from atlas.studies.settings import Setting, settings_of

__all__ = [
    "all_option",
    "chosen_settings",
    "flags_for",
    "selected_names",
    "settings_options",
    "worker_options",
]

F = TypeVar("F", bound=Callable[..., Any])

_METAVARS: dict[type, str] = {int: "N", float: "X", str: "TEXT"}


def settings_options(cls: type, *, only: Collection[str] = ()) -> Callable[[F], F]:
    """Return a decorator that adds an option to a command for each setting with a flag.

    The command receives the values under the names of the fields. None or an empty tuple
    means that the option was not used.

    Parameters
    ----------
    cls
        The settings class.
    only
        Names of the fields that get an option; all fields with a flag, if empty.
    """

    def decorate(function: F) -> F:
        for one in reversed(settings_of(cls)):
            if one.flag is not None and (not only or one.name in only):
                function = _option(one)(function)
        return function

    return decorate


def all_option(function: F) -> F:
    """Add ``--all`` to a command that uses one SAE, or one pair, if none is named."""
    return click.option(
        "--all",
        "every",
        is_flag=True,
        help="Run on all SAEs or pairs. [default: the first, if none is named]",
    )(function)


def selected_names(saes: Sequence[str], *, every: bool) -> Sequence[str] | None:
    """Return what a study receives for the names of a command and its option ``--all``.

    Raises
    ------
    BadInput
        If names and ``--all`` are passed.
    """
    if every and saes:
        raise BadInput(f"{' '.join(saes)} and --all were passed; name SAEs, or pass --all.")
    return ALL if every else saes or None


def worker_options(function: F) -> F:
    """Add ``--workers`` and ``--ray`` to a command whose tasks other processes can share."""
    function = click.option(
        "--ray", metavar="ADDRESS", help="Address of a Ray cluster that shares the tasks."
    )(function)
    return click.option(
        "--workers",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Processes that share the tasks. [default: none]",
    )(function)


def chosen_settings(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the options that were used, by field name.

    With ``--full``, numbers of draws without an option are those that a paper needs.

    Parameters
    ----------
    cls
        The settings class.
    options
        The keyword arguments of a command.
    """
    found = {}
    for one in settings_of(cls):
        value = options.get(one.name)
        if value is not None and value != ():
            found[one.name] = _from_word(one, value)
        elif one.paper is not None and requested("full"):
            found[one.name] = one.paper
    return found


def flags_for(cls: type, stored: Mapping[str, Any], *, every: bool = False) -> list[str]:
    """Return the command-line words for stored settings.

    Parameters
    ----------
    cls
        The settings class.
    stored
        Values by name, as in a manifest.
    every
        Whether to include options at their defaults.
    """
    words = []
    for one in settings_of(cls):
        if one.flag is None or one.name not in stored:
            continue
        value = stored[one.name]
        value = tuple(value) if one.multiple and value is not None else value
        if value is None or (value == one.default and not every):
            continue
        if one.type is bool:
            words.append(f"--{one.flag}" if value else f"--no-{one.flag}")
            continue
        for each in value if one.multiple else (value,):
            words += [f"--{one.flag}", _word(one, each)]
    return words


def _option(one: Setting) -> Callable[[F], F]:
    names = [f"--{one.flag}/--no-{one.flag}" if one.type is bool else f"--{one.flag}"]
    return click.option(
        *names,
        *(f"--{alias}" for alias in one.aliases),
        one.name,
        default=None,
        multiple=one.multiple,
        type=_type(one),
        metavar=one.metavar or (None if one.choices or one.type is bool else _METAVARS[one.type]),
        help=f"{one.help}{' May be repeated.' if one.multiple else ''} [default: {_default(one)}{_full(one)}]",
    )


def _full(one: Setting) -> str:
    return "" if one.paper is None else f"; {one.paper} with --full"


def _type(one: Setting) -> Any:
    if one.choices:
        return click.Choice([_word(one, c) for c in one.choices])
    if one.type is bool:
        return click.BOOL
    if one.type is str:
        return click.STRING
    low, high = (
        a if a is not None else b for a, b in ((one.least, one.above), (one.most, one.below))
    )
    if low is None and high is None:
        return click.INT if one.type is int else click.FLOAT
    open_ = {
        "min_open": one.least is None and low is not None,
        "max_open": one.most is None and high is not None,
    }
    if one.type is int:
        return click.IntRange(_integer(low), _integer(high), **open_)
    return click.FloatRange(low, high, **open_)


def _integer(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _default(one: Setting) -> str:
    if one.shown is not None:
        return one.shown
    if one.type is bool:
        return one.flag if one.default else f"no-{one.flag}"  # type: ignore[return-value]
    values = one.default if one.multiple else (one.default,)
    return " and ".join("none" if v is None else _word(one, v) for v in values)


def _word(one: Setting, value: Any) -> str:
    """Return a value as a command-line word; spaces in choices become dashes."""
    if one.choices:
        return str(value).replace(" ", "-")
    return f"{value:g}" if one.type is float and value == float(f"{value:g}") else str(value)


def _from_word(one: Setting, value: Any) -> Any:
    if not one.choices:
        return value
    by_word = {_word(one, c): c for c in one.choices}
    if one.multiple:
        return tuple(by_word[v] for v in value)
    return by_word[value]
