"""Rows as a table on a terminal or in a pipe."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from atlas.amounts import cell_text
from atlas.cli.output.columns import distinguishing, fitting, narrowed, with_controls
from atlas.cli.output.drawn_text import new_console
from atlas.cli.output.text import echo, print_text, study_screen
from atlas.cli.shared_options import requested
from atlas.safe_text import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["print_table"]

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

#: Where a name may be broken: after a separator, and after a hyphen or a dot that precedes a letter.
_BREAKS = re.compile(r"(?<=[/=,:_])|(?<=[A-Za-z0-9][-.])(?=[A-Za-z])")


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
    folded: bool = False,
) -> None:
    """Print rows as a table on stdout; print nothing without rows.

    One row is printed as lines of name and value. On a terminal, columns that do not fit are
    omitted and named on stderr: a score never without its controls (``controls``, and see
    ``atlas.cli.output.columns.with_controls``), and neither ``keys``, whose texts have a third of the
    width, nor the texts that distinguish the rows. Words longer than a third of the width are broken, and at most 40 rows are printed; ``--wide`` and ``--rows`` print all. Words of the first column and of
    the columns ``unbroken`` are not broken, so that ids can be copied. With ``turned``, up to three
    rows whose columns do not fit are printed side by side instead, as lines of a name and the value of
    each row. With ``spaced``, headers on a terminal have spaces for underscores, at which they are broken.
    With ``folded``, headers keep their underscores and are broken after them if the columns do not fit.
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
    words = _least_widths(listed, texts, width=console.width, unbroken=unbroken, read=keys)
    if folded and not _fits(words, console.width):
        folds = {name: ["\n".join(_BREAKS.split(own[0])), *own[1:]] for name, own in texts.items()}
        words = _least_widths(listed, folds, width=console.width, unbroken=unbroken, read=keys)
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
        if (screen := study_screen()) is not None:
            screen.omitted.append(_name_of(title, names))
        return
    listed = listed[:number]
    click.echo(text, nl=False, color=True)
    if omitted := [name for name in names if name not in chosen]:
        remark = f"Columns omitted at this width: {', '.join(omitted)}. --wide prints all."
        print_text(remark, err=True)
    if len(rows) > len(listed):
        echo(f"{len(listed)} of {len(rows):,} rows; --rows prints all.", err=True)


def _on_screen(draw: Callable[[int], str], most: int) -> tuple[int, str]:
    """Return the number of rows for which the screen has space, with the text of the table."""
    number, text, screen = most, draw(most), study_screen()
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
        print_text(f"Not printed: {', '.join(names[number:])}. --rows prints all.", err=True)


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
    sizes = _widths(texts, least=least, width=width)
    for name, size in sizes.items():
        justify: Literal["right", "left"] = "right" if _is_numeric(rows, name) else "left"
        header = Text(_folded(texts[name][0], size))
        table.add_column(header, justify=justify, width=size, overflow="fold")
    for cells in list(zip(*texts.values(), strict=True))[1:]:
        table.add_row(*(Text(_folded(t, n)) for t, n in zip(cells, sizes.values(), strict=True)))
    return table


def _folded(text: str, width: int) -> str:
    """Return a text whose words wider than a column are broken between parts of a name, not in a number."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in re.split(r"(?<= )", text):
        parts = _BREAKS.split(word) if cell_len(word.strip()) > width else [word]
        for part in parts:
            if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _is_numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int | float | None) for row in rows)


def _least_widths(
    rows: Sequence[Mapping[str, Any]],
    texts: Mapping[str, Sequence[str]],
    *,
    width: int,
    unbroken: Sequence[str],
    read: Sequence[str] = (),
) -> dict[str, int]:
    """Return the least width of each column: its longest word.

    The texts ``read`` have up to a third of the width, so that few
    words are not spread over many lines.

    If the columns do not fit, words of texts, such as names of runs, may be broken at a third of the
    width; those of the columns ``unbroken``, only at 200 characters. Numbers and headers are never broken.
    """
    least = {name: _longest_word(own) for name, own in texts.items()}
    most = max(_MIN_TEXT, width // 3)
    for name in (one for one in read if one in least and not _is_numeric(rows, one)):
        least[name] = max(least[name], min(most, max(map(len, texts[name]))))
    if _fits(least, width):
        return least
    return {
        name: size
        if _is_numeric(rows, name)
        else min(size, max(_MAX_ID if name in unbroken else most, _longest_word(texts[name][:1])))
        for name, size in least.items()
    }


def _fits(sizes: Mapping[str, int], width: int) -> bool:
    return sum(sizes.values()) + 2 * (len(sizes) - 1) <= width


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
