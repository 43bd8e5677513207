"""Output of commands as JSON or tables, and the options that commands share."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.safe_text import json_line, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "atlas_option",
    "echo",
    "emit",
    "folder_of",
    "make_progress",
    "print_table",
    "shared_options",
    "which_atlas",
]

F = TypeVar("F", bound=Callable[..., Any])


def shared_options(function: F) -> F:
    """Add ``--json`` and ``--quiet`` to a command."""
    function = click.option(
        "--quiet", "-q", is_flag=True, help="Print no progress and no remarks."
    )(function)
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result as JSON: {ok, result} or {ok, error}.",
    )(function)


def atlas_option(function: F) -> F:
    """Add ``--atlas`` to a command."""
    return click.option(
        "--atlas",
        "-a",
        "where",
        metavar="PATH|URL",
        help="Folder or URL (neo4j://…) of the atlas. "
        "[default: $ATLAS, or the only *.atlas folder here]",
    )(function)


def atlases_here() -> list[str]:
    """Return the atlases in the current folder."""
    return sorted(str(p.parent) for p in Path().glob("*.atlas/atlas.json"))


def finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Reject NaN and infinities, which click accepts as numbers, and values of 0 or less."""
    if not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"got {value}; expected a finite number above 0.")
    return value


def which_atlas(selected: str | None) -> str:
    """Return the selected atlas, $ATLAS, or the only atlas in the current folder.

    Raises
    ------
    BadInput
        If no atlas is selected and the current folder has none or several.
    """
    if selected:
        return selected
    if named := os.environ.get("ATLAS"):
        return named
    here = atlases_here()
    if len(here) == 1:
        return here[0]
    if here:
        raise BadInput(
            f"There are several atlases here ({', '.join(here)}); select one with --atlas."
        )
    raise BadInput(
        "There is no *.atlas folder here; select one with --atlas, or create one with `atlas demo` or "
        "`atlas ingest`."
    )


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


def make_progress(*, quiet: bool) -> Progress:
    """Return progress bars on stderr, or silent progress."""
    if quiet:
        return SILENT
    from atlas.progress import Bars

    return Bars()


def emit(result: Any, *, as_json: bool, show: Callable[[], None], ok: bool = True) -> None:
    """Print a result as JSON, or call ``show``."""
    if as_json:
        click.echo(json_line({"ok": ok, "result": _plain(result)}))
    else:
        show()


def print_table(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", columns: Sequence[str] | None = None
) -> None:
    """Print rows as a table on stdout; print nothing without rows.

    A terminal folds columns between words. Where it is too narrow even for that, each row is
    printed as a line with its first column, and the others below it as pairs of name and value.
    """
    if not rows:
        return
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    names = list(columns or rows[0])
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000, no_color=True)
    heading = Text(shown(title)) if title else None  # a Text, since a string may hold markup
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    for name in names:
        numeric = all(isinstance(r.get(name), int | float | None) for r in rows)
        table.add_column(Text(_cell(name)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    unlimited = console.options.update(width=10_000)
    if Measurement.get(console, unlimited, table).minimum > console.width:
        _print_records(console, rows, names, heading)
    else:
        console.print(table)


def _print_records(
    console: "Console",
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    heading: "Text | None",
) -> None:
    """Print each row as its first value, and pairs of name and value below it."""
    from rich.text import Text

    if heading is not None:
        console.print(heading)
    for row in rows:
        console.print(Text(_cell(row.get(names[0])), style="bold"), soft_wrap=True)
        line = ""
        for pair in (f"{_cell(name)}: {_cell(row.get(name))}" for name in names[1:]):
            if line and len(line) + len(pair) + 4 > console.width:
                console.print(Text(f"  {line}"), soft_wrap=True)
                line = ""
            line += f"  {pair}" if line else pair
        console.print(Text(f"  {line}"), soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return " ".join(_cell(v) for v in value)
    # Line breaks and tabs would break the layout of the table.
    return shown(str(value).replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥"))


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line that may contain untrusted names or tokens."""
    click.echo(shown(text), err=err)


def _plain(value: Any) -> Any:
    """Convert NaN and infinities, which JSON does not allow, to null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
