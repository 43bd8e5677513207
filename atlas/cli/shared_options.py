"""Options that most commands share: the atlas, JSON, and the layout of tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "PLOT_FILES",
    "atlas_option",
    "finite",
    "out_option",
    "plain_options",
    "requested",
    "shared_options",
    "table_options",
]

F = TypeVar("F", bound=Callable[..., Any])


def shared_options(function: F) -> F:
    """Add the options of ``table_options`` and ``--full`` to the command of a study."""
    function = _layout_option(
        "full", "Draw as many samples as a paper needs, which takes longer; also prints all rows."
    )(function)
    return table_options(function)


def table_options(function: F) -> F:
    """Add ``--json``, ``--quiet``, ``--wide`` and ``--rows`` to a command that prints a table."""
    function = _layout_option("rows", "Print all rows and sentences; the numbers are the same.")(
        function
    )
    function = _layout_option("wide", "Print all columns of a table on a terminal.")(function)
    return plain_options(function)


def plain_options(function: F) -> F:
    """Add ``--json`` and ``--quiet`` to a command that prints no table."""
    function = click.option(
        "--quiet", "-q", is_flag=True, help="Print no progress and no remarks."
    )(function)
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result as JSON: {ok, result} or {ok, error}.",
    )(function)


def _layout_option(name: str, help: str) -> Callable[[F], F]:
    def store(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[f"atlas.{name}"] = value

    return click.option(f"--{name}", is_flag=True, expose_value=False, callback=store, help=help)


def atlas_option(function: F) -> F:
    """Add ``--atlas`` to a command."""
    return click.option(
        "--atlas",
        "-a",
        "where",
        metavar="PATH|URL",
        help="Folder or URL (neo4j://…) of the atlas, which can also be the first argument. "
        "[default: $ATLAS, or the only *.atlas folder here]",
    )(function)


#: Files that a plot can be written to, for the help of its option.
PLOT_FILES = ".html (works offline), .png or .svg; repeat for several files."


def out_option(help: str, *, default: str | None = None) -> Callable[[F], F]:
    """Add ``--out`` to a command, whose parameter ``outs`` has the paths of several files.

    Parameters
    ----------
    help
        Help of the option.
    default
        The file that is written if none is passed; none by default.
    """
    return click.option(
        "--out",
        "-o",
        "outs",
        multiple=True,
        default=() if default is None else (default,),
        show_default=default is not None,
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=help,
    )


def finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Reject NaN, which click accepts as a number, values of 0 or less, and more than a billion."""
    if not 0 < value <= 1e9:
        raise click.BadParameter(f"got {value}; expected a number above 0, at most 1,000,000,000.")
    return value


def requested(flag: str) -> bool:
    """Whether the running command has ``--wide``, ``--rows`` or ``--full``, which includes ``--rows``."""
    context = click.get_current_context(silent=True)
    flags = ("rows", "full") if flag == "rows" else (flag,)
    return context is not None and any(context.meta.get(f"atlas.{each}") for each in flags)
