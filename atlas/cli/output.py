"""Output of commands as JSON or tables, and the options that commands share."""

import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from atlas.amounts import cell_text
from atlas.cli.columns import distinguishing, fitting, narrowed, with_controls
from atlas.cli.drawn_text import is_drawing, new_console, screen_width
from atlas.cli.screen import LINES, Screen, current_screen, on_terminal, split_verdict
from atlas.cli.setting_names import as_options
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.safe_text import json_line, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from atlas.studies.results import Results

__all__ = [
    "atlas_option",
    "echo",
    "emit",
    "fold",
    "folder_of",
    "make_progress",
    "on_terminal",
    "option_of",
    "plain_options",
    "print_heading",
    "print_table",
    "print_verdict",
    "requested",
    "shared_options",
    "which_atlas",
    "wrap",
]

F = TypeVar("F", bound=Callable[..., Any])

# Rows of a table on a terminal without --rows.
_SCREEN = 40

# Rows of a table that is not complete; with fewer, the table is not printed.
_FEWEST = 3

# Rows that are printed side by side, if their columns do not fit.
_SIDE_BY_SIDE = 3

# Characters of a text that are never broken in a table.
_MIN_TEXT = 24

# Characters of an id that are never broken in a table.
_MAX_ID = 200


def shared_options(function: F) -> F:
    """Add ``--json``, ``--quiet``, ``--wide``, ``--rows`` and ``--full`` to a command."""
    function = _layout_option(
        "full", "Draw as many samples as a paper needs, if this is a study; print all rows."
    )(function)
    function = _layout_option("rows", "Print all rows and sentences; computes nothing more.")(
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
        help="Folder or URL (neo4j://…) of the atlas. "
        "[default: $ATLAS, or the only *.atlas folder here]",
    )(function)


def atlases_here() -> list[str]:
    """Return the atlases in the current folder."""
    return sorted(str(p.parent) for p in Path().glob("*.atlas/atlas.json"))


def finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Reject NaN, which click accepts as a number, values of 0 or less, and more than a billion."""
    if not 0 < value <= 1e9:
        raise click.BadParameter(f"got {value}; expected a number above 0, at most 1,000,000,000.")
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


def make_progress(*, quiet: bool) -> Progress:
    """Return progress bars on stderr, or silent progress.

    Remarks on the result follow it: they are printed when the command ends.
    """
    if quiet:
        return SILENT
    from atlas.progress import Bars

    context = click.get_current_context(silent=True)
    bars = Bars(remarks_last=context is not None, translate=as_options)
    if context is not None:
        context.call_on_close(bars.print_remarks)
    return bars


def emit(result: Any, *, as_json: bool, show: Callable[[], None], ok: bool = True) -> None:
    """Print a result as JSON, or call ``show``."""
    if as_json:
        click.echo(json_line({"ok": ok, "result": _plain(result)}))
    else:
        show()


def print_verdict(found: "Sequence[str] | Results") -> None:
    """Print the sentences of a verdict, each in lines of the width of the terminal.

    On a terminal without ``--rows``, a study prints the first three sentences, or the first of each
    of several results. The others follow its tables as far as they fit on the screen. The lines of a
    second verdict, or of one below a table, count as those of a table.
    """
    from atlas.studies.results import Results

    groups: list[Sequence[str]] = (
        [one.verdict for one in found] if isinstance(found, Results) else [found]
    )
    screen = _screen()
    first = [sentence for group in groups for sentence in group]
    if screen is None:
        for sentence in first:
            click.echo(shown(wrap(sentence)))
        return
    first, rest = split_verdict(groups)
    counts = screen.has_verdict or screen.free < LINES
    screen.has_verdict = True
    for number, sentence in enumerate(first):
        text = shown(wrap(sentence))
        lines = text.count("\n") + 1
        if counts and lines > screen.free:
            rest = first[number:] + rest
            break
        click.echo(text)
        screen.use(lines if counts else 0)
    screen.rest += rest


def _screen() -> Screen | None:
    """Return the screen of the running command, which states what it omits when the command ends."""
    screen = current_screen()
    if screen is not None and not screen.closes:
        screen.closes = True
        click.get_current_context().call_on_close(lambda: _print_rest(screen))
    return screen


def _print_rest(screen: Screen) -> None:
    """Print the sentences that fit below the tables, and state what is not printed."""
    rest, screen.rest = screen.rest, []
    if rest and screen.free > 1:
        echo()
    while rest and wrap(rest[0]).count("\n") < screen.free:
        echo(wrap(rest.pop(0)))
    missing = list(screen.omitted)
    if rest:
        missing.append("more sentences of the verdict")
    if missing:
        echo(wrap(f"Not printed: {'; '.join(missing)}. --rows prints all."), err=True)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
    keys: Sequence[str] = (),
    unbroken: Sequence[str] = (),
    controls: Mapping[str, Sequence[str]] | None = None,
    turned: bool = False,
    spaced: bool = False,
) -> None:
    """Print rows as a table on stdout; print nothing without rows.

    One row is printed as lines of name and value. On a terminal, columns that do not fit are
    omitted and named on stderr: a score never without its controls (``controls``, and see
    ``atlas.cli.columns.with_controls``), and neither ``keys`` nor the texts that distinguish the
    rows. Words longer than a third of the width are broken, and at most 40 rows are printed; ``--wide`` and ``--rows`` print all. Words of the first column and of
    the columns ``unbroken`` are not broken, so that ids can be copied. With ``turned``, up to three
    rows whose columns do not fit are printed side by side instead, as lines of a name and the value of
    each row. With ``spaced``, headers on a terminal have spaces for underscores, at which they are broken.
    Output to a pipe has all columns and rows, and no colour.
    """
    if not rows:
        return
    from rich.console import Console
    from rich.text import Text

    names = list(columns or rows[0])
    console = new_console()
    complete = not console.is_terminal
    if complete or requested("wide"):
        console = Console(width=10_000, no_color=complete, highlight=False, soft_wrap=True)
    heading = Text(shown(title)) if title else None  # a Text, since a string may hold markup
    if len(rows) == 1 and len(names) > 2:
        _print_side_by_side(console, heading, names, rows)
        return
    listed = rows if complete or requested("rows") else rows[:_SCREEN]
    # Each cell is formatted once: a pipe may have many rows.
    texts = {
        name: [
            cell_text(name).replace("_", " ") if spaced and not complete else cell_text(name),
            *(cell_text(row.get(name), name) for row in listed),
        ]
        for name in names
    }
    unbroken = (names[0], *unbroken)
    words = _least_widths(listed, texts, width=console.width, unbroken=unbroken)
    keys = [name for name in names if name in {*keys, *distinguishing(listed, names)}]
    broken = [n for n in keys if n not in unbroken and not _is_numeric(listed, n)]
    headers = {name: _longest_word(texts[name][:1]) for name in broken}
    groups = with_controls(names, controls or {})
    words = narrowed(groups, words, width=console.width, keys=keys, least=headers)
    chosen = fitting(groups, words, width=console.width, keys=keys)
    few = turned and len(chosen) < len(names) and len(rows) <= _SIDE_BY_SIDE
    if few and _width_side_by_side(names, rows) <= console.width:
        _print_side_by_side(console, heading, names, rows)
        return
    console.width = max(sum(words[n] for n in chosen) + 2 * (len(chosen) - 1), console.width)
    least = {name: words[name] for name in chosen}

    def draw(number: int) -> str:
        some = {name: texts[name][: number + 1] for name in chosen}
        table = _table(listed[:number], some, least=least, width=console.width)
        table.title = heading
        with console.capture() as captured:
            console.print(table)
        return captured.get()

    number, text = _on_screen(draw, len(listed))
    if not number:
        if (screen := _screen()) is not None:
            screen.omitted.append(_name_of(title, names))
        return
    listed = listed[:number]
    click.echo(text, nl=False, color=True)
    if omitted := [name for name in names if name not in chosen]:
        remark = f"Columns omitted at this width: {', '.join(omitted)}. --wide prints all."
        echo(wrap(remark), err=True)
    if len(rows) > len(listed):
        echo(f"{len(listed)} of {len(rows):,} rows; --rows prints all.", err=True)


def _on_screen(draw: Callable[[int], str], most: int) -> tuple[int, str]:
    """Return the number of rows for which the screen has space, with the text of the table."""
    number, text, screen = most, draw(most), _screen()
    if screen is None:
        return number, text
    while text.count("\n") > screen.free and number:
        excess = text.count("\n") - screen.free
        number -= max(1, min(excess, number) * number // max(text.count("\n"), 1))
        text = draw(number)
    number = number if number == most or number >= _FEWEST else 0
    screen.use(text.count("\n") if number else 0)
    return number, text


def _name_of(title: str, names: Sequence[str]) -> str:
    return title.strip() or f"a table of {', '.join(names[:_FEWEST])}"


def _print_side_by_side(
    console: "Console",
    heading: "Text | None",
    names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Print lines of a name and the value of each row, as many as the screen has space for."""

    def draw(number: int) -> str:
        with console.capture() as captured:
            if heading is not None:
                console.print(heading)
            console.print(_side_by_side(names[:number], rows))
        return captured.get()

    number, text = _on_screen(draw, len(names))
    if number:
        click.echo(text, nl=False, color=True)
    if number < len(names):
        echo(wrap(f"Not printed: {', '.join(names[number:])}. --rows prints all."), err=True)


def _table(
    rows: Sequence[Mapping[str, Any]],
    texts: Mapping[str, Sequence[str]],
    *,
    least: Mapping[str, int],
    width: int,
) -> "Table":
    """Return the table of the texts of each column, its header first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, size in _widths(texts, least=least, width=width).items():
        justify: Literal["right", "left"] = "right" if _is_numeric(rows, name) else "left"
        table.add_column(Text(texts[name][0]), justify=justify, width=size, overflow="fold")
    for cells in list(zip(*texts.values(), strict=True))[1:]:
        table.add_row(*map(Text, cells))
    return table


def _is_numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int | float | None) for row in rows)


def _least_widths(
    rows: Sequence[Mapping[str, Any]],
    texts: Mapping[str, Sequence[str]],
    *,
    width: int,
    unbroken: Sequence[str],
) -> dict[str, int]:
    """Return the least width of each column: its longest word.

    If the columns do not fit, words of texts, such as names of runs, may be broken at a third of the
    width; those of the columns ``unbroken``, only at 200 characters. Numbers and headers are never broken.
    """
    least = {name: _longest_word(own) for name, own in texts.items()}
    if sum(least.values()) + 2 * (len(least) - 1) <= width:
        return least
    most = max(_MIN_TEXT, width // 3)
    return {
        name: size
        if _is_numeric(rows, name)
        else min(size, max(_MAX_ID if name in unbroken else most, _longest_word(texts[name][:1])))
        for name, size in least.items()
    }


def _widths(
    texts: Mapping[str, Sequence[str]], *, least: Mapping[str, int], width: int
) -> dict[str, int]:
    """Return the width of each column: its least width, and more as far as the width suffices."""
    from rich.cells import cell_len

    sizes = dict(least)
    free = width - sum(sizes.values()) - 2 * (len(sizes) - 1)
    missing = {name: max(map(cell_len, own)) - sizes[name] for name, own in texts.items()}
    # Columns that need the least come first.
    for name in sorted(missing, key=lambda name: missing[name]):
        more = max(0, min(free, missing[name]))
        sizes[name] += more
        free -= more
    return sizes


def _longest_word(texts: Sequence[str]) -> int:
    """Return the width of a column at which no word and no number is broken."""
    from rich.cells import cell_len

    return max(cell_len(word) for text in texts for word in (text.split() or [""]))


def _side_by_side(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Return a line for each name, with the values of all rows."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold")
    for _ in rows:
        table.add_column(overflow="fold")
    for name in names:
        cells = [Text(cell_text(row.get(name), name)) for row in rows]
        table.add_row(Text(cell_text(name)), *cells)
    return table


def _width_side_by_side(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the width at which ``_side_by_side`` breaks no value."""
    from rich.cells import cell_len

    values = [[cell_len(cell_text(row.get(name), name)) for name in names] for row in rows]
    return max(cell_len(cell_text(name)) for name in names) + sum(2 + max(one) for one in values)


def requested(flag: str) -> bool:
    """Whether the running command has ``--wide``, ``--rows`` or ``--full``, which includes ``--rows``."""
    context = click.get_current_context(silent=True)
    flags = ("rows", "full") if flag == "rows" else (flag,)
    return context is not None and any(context.meta.get(f"atlas.{each}") for each in flags)


def print_heading(text: str) -> None:
    """Print a heading on stdout: bold on a terminal, plain in a pipe or with NO_COLOR."""
    is_bold = on_terminal() and not os.environ.get("NO_COLOR")
    click.echo(click.style(shown(text), bold=True) if is_bold else shown(text))


def wrap(text: str, *, indent: str = "") -> str:
    """Return text in lines of the width of the terminal, or on one line in a pipe.

    Settings that it names become options; see ``atlas.cli.setting_names``.
    """
    return fold(text if is_drawing() else as_options(text), indent=indent)


def fold(text: str, *, indent: str = "") -> str:
    """Return the text of a model or a corpus in lines as ``wrap`` does, with its words unchanged."""
    import textwrap

    if not on_terminal():
        return indent + shown(text)
    width = screen_width()
    if "\n" in text:
        return "\n".join(fold(line, indent=indent) for line in text.split("\n"))
    return textwrap.fill(
        shown(text),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,  # names of SAEs have hyphens
        break_long_words=False,
    )


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line that may contain untrusted names or tokens."""
    if err and is_drawing():
        return
    click.echo(shown(text), err=err)
    screen = None if err else _screen()
    if screen is not None:
        screen.use(text.count("\n") + 1)


def _plain(value: Any) -> Any:
    """Convert NaN and infinities, which JSON does not allow, to null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
