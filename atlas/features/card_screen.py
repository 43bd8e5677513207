"""The card of a feature on a terminal: one screen, or complete tables."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from atlas.amounts import cell_text
from atlas.cli.output.drawn_text import is_drawing, screen_width
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, print_paragraph, print_verdict, wrap
from atlas.features.card import CardTable, Example, FeatureCard
from atlas.features.numbers import FeatureNumber
from atlas.safe_text import shown

__all__ = ["print_card"]

# Characters of an example before its sampled token; half as many follow it.
_AROUND = 32
# Numbers that the first sentence of the verdict states.
_IN_VERDICT = ("active_tokens", "frequency")
# Names of numbers that are unclear without their definition.
_LABELS = {"effect_kl_with_later": "KL of its ablation at the token and later ones"}
_BLOCKS = "▁▂▃▄▅▆▇█"
# Backgrounds of active tokens, from the lowest to the highest activation, of the 256 colours, and
# black for the text.
_SHADES, _INK = (230, 223, 216, 209, 208), 16

# On one screen: rows of each table, top examples, and the tables that are not a line.
_ROWS, _TOP = 3, 2
_TABLES = frozenset({"Matches in other SAEs"})
# Numbers on one screen, in addition to those that have controls.
_NUMBERS = frozenset({"mean_activation", "max_activation"})
# Widths of the label and of the count of a line, and the largest number of rows on it.
_LABEL, _COUNT, _ON_LINE = 10, 3, 5


def print_card(card: FeatureCard, *, rows: int | None = None) -> None:
    """Print a card.

    Parameters
    ----------
    card
        The card.
    rows
        Rows of each table and top examples; by default one screen: most tables are a line with
        their first rows.
    """
    print_verdict(card.verdict)
    if card.neuronpedia:
        echo(card.neuronpedia)
    _print_numbers(card.numbers, complete=rows is not None)
    if card.histogram:
        first, last = card.histogram[0], card.histogram[-1]
        most = max(row["count"] for row in card.histogram)
        bars = "".join(_BLOCKS[(len(_BLOCKS) - 1) * row["count"] // most] for row in card.histogram)
        echo(f"\nActivations, in bins from {first['lower']:.3g} to {last['upper']:.3g}:  {bars}")
    elif card.from_server and card.numbers:
        echo("\nActivations: only the folder of an atlas has their histogram, not a server.")
    _print_examples(card.examples, top=rows or _TOP, of_a_kind=rows or 1)
    lines = []
    for table in card.tables:
        if rows is None and table.title not in _TABLES:
            lines.append(_line(table))
            continue
        few = table.shown_rows()[: rows or _ROWS]
        more = f" ({len(few):,} of {table.row_count:,})" if table.row_count > len(few) else ""
        echo()
        columns = _few_columns(table, few[0]) if rows is None else None
        print_table(few, title=f"{table.title}{more}", columns=columns, spaced=True)
    if lines:
        number = (
            "#N: the community N" if any("#" in line[: _LABEL + _COUNT] for line in lines) else ""
        )
        echo(f"\nOther tables: number of rows{f' ({number})' if number else ''}, and the first:")
        for line in lines:
            echo(line)
    if card.none:
        print_paragraph(f"Stored, without a row of this feature: {'; '.join(card.none)}.")
    _print_missing(card, complete=rows is not None)
    if rows is not None and card.origin:
        print_paragraph(card.origin_line)


def _few_columns(table: CardTable, row: Mapping[str, Any]) -> list[str]:
    """Return the columns of names, of scores, of their controls, and of yes or no."""
    scores = {name for score in table.scores for name in (score.column, *score.controls)}
    return [name for name, value in row.items() if name in scores or isinstance(value, str | bool)]


def _print_missing(card: FeatureCard, *, complete: bool) -> None:
    """Print the tables that are not stored; if complete, with the commands that compute them."""
    if card.empty and complete:
        echo("\nNot stored:")
        for title, command in card.empty.items():
            echo(f"  {title} ({command})")
    elif card.empty:
        where = "`card.empty` has" if is_drawing() else "--rows lists"
        print_paragraph(f"Not stored ({where} the commands): {'; '.join(card.empty)}.")


def _print_numbers(numbers: Sequence[FeatureNumber], *, complete: bool) -> None:
    """Print the numbers on a few lines, each with its controls and its rank."""
    parts = []
    for one in numbers:
        if one.name in _IN_VERDICT or not (complete or one.controls or one.name in _NUMBERS):
            continue
        controls = [f"{what} {cell_text(value)}" for what, value in one.controls.items()]
        if one.share_below is not None:
            controls.append(f"above {one.share_below:.0%}")
        notes = f" ({'; '.join(controls)})" if controls else ""
        label = _LABELS.get(one.name, one.name.replace("_", " "))
        parts.append(f"{label} {cell_text(one.value, one.name)}{notes}")
    if parts:
        print_paragraph(f"Numbers (above N%: of the live features of the SAE): {', '.join(parts)}")


def _line(table: CardTable) -> str:
    """Return the first rows of a table as one line: how many it has, names, scores with controls."""
    count = f"{table.row_count:,}"
    if "community" in table.rows[0]:  # a feature has one community
        count = f"#{cell_text(table.rows[0]['community'])}"
    start = f"{table.label:{_LABEL}} {count:>{_COUNT}}  "
    text = _entry(table, 0, named=True)
    for index in range(1, min(len(table.rows), _ON_LINE)):
        longer = f"{text}; {_entry(table, index, named=False)}"
        if len(start) + len(longer) > screen_width():
            break
        text = longer
    return start + wrap(text, indent=" " * len(start))[len(start) :]


#: Tokens of a row that are printed, such as those that name a community.
_TOKENS = 5

#: Names of a row that are printed after their column.
_LABELLED = ("run", "verdict")


def _entry(table: CardTable, index: int, *, named: bool) -> str:
    """Return the names of a row, then its first score that is not null, with its controls.

    Unless ``named``, the score and the controls are values without their names.
    """
    row, short = table.rows[index], table.shown_rows()[index]
    score = next((one for one in table.scores if row[one.column] is not None), None)
    columns = list(row)
    names = columns[: columns.index(table.scores[0].column)] if table.scores else columns
    # Tokens begin with a space, so they are quoted.
    words = {n: _word(n, short[n]) for n in names if isinstance(short.get(n), str | list)}
    labelled = [word for name, word in words.items() if name in _LABELLED]
    own = " ".join(word for name, word in words.items() if name not in _LABELLED)
    if score is None:
        return ", ".join([own, *labelled])
    value = cell_text(row[score.column], score.column)
    value = f"{score.column.replace('_', ' ')} {value}" if named else value
    text = ", ".join([own, *labelled, value]) if labelled else f"{own} {value}"
    controls = [
        f"{name.replace('_', ' ')} {cell_text(row[name], name)}"
        if named
        else cell_text(row[name], name)
        for name in score.controls
        if row[name] is not None
    ]
    return f"{text} ({', '.join(controls)})" if controls else text


def _word(name: str, value: Any) -> str:
    """Return a name of a row; tokens in quotes, and the verdict of a probe with what it is."""
    if isinstance(value, list):
        return " ".join(repr(cell_text(one)) for one in value[:_TOKENS])
    text = cell_text(value)
    if name in ("token", "top_token"):
        return repr(text)
    return f"{name} {text}" if name in _LABELLED else text


def _print_examples(examples: Sequence[Example], *, top: int, of_a_kind: int) -> None:
    """Print the first examples of each kind, with the activation of the sampled token."""
    if not examples:
        return
    colours = _colours()
    active = {None: "", "256": "; shade: activation", "16": "; bold: active"}[colours]
    highest = max(max(one.activations) for one in examples)
    passages = [(one, _passage(one, highest)) for one in examples]
    different = dict[str, tuple[Example, list[tuple[str, int]]]]()
    for one, passage in passages:
        different.setdefault("".join(text for text, _ in passage), (one, passage))
    once = "; equal passages once" if len(different) < len(passages) else ""
    print_paragraph(f"Examples (in brackets: sampled token, with its activation{active}{once}):")
    numbers: dict[str, int] = {}
    for one, passage in different.values():
        numbers[one.kind] = numbers.get(one.kind, 0) + 1
        if numbers[one.kind] <= (top if one.kind == "top" else of_a_kind):
            start = f"  {one.kind:8} {one.activation:8.3g}  "
            # Styled text has escape codes, so each piece is made safe instead of the line.
            pieces = [_styled(*piece, colours) for piece in passage]
            click.echo(shown(start) + "".join(pieces), color=colours is not None)


def _passage(example: Example, highest: float) -> list[tuple[str, int]]:
    """Return the text around the sampled token in pieces: a text, and its shade (0: not active)."""
    characters: list[tuple[str, int]] = []
    for i, (text, value) in enumerate(zip(example.tokens, example.activations, strict=True)):
        level = min(len(_SHADES), 1 + int(len(_SHADES) * value / highest)) if value > 0 else 0
        if i == example.peak:
            first, text = len(characters), f"[{text}]"
        characters += [(c, level) for c in text.replace("\n", "⏎")]
        if i == example.peak:
            last = len(characters)
    before = _cut(characters[:first][::-1], _AROUND)[::-1]
    near = characters[first:last] + _cut(characters[last:], _AROUND // 2)
    return [
        ("".join(c for c, _ in group), level)
        for level, group in itertools.groupby(
            [(" ", 0)] * (_AROUND - len(before)) + before + near, key=lambda pair: pair[1]
        )
    ]


def _cut(characters: Sequence[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Return the first characters up to the end of a word, and "…" if others follow."""
    if len(characters) <= most:
        return list(characters)
    near = list(characters[: most - 1])
    while near and near[-1][0] not in " ⏎" and characters[len(near)][0] not in " ⏎":
        near.pop()
    while near and near[-1][0] == " ":
        near.pop()
    return [*(near or characters[: most - 1]), ("…", 0)]


def _styled(text: str, level: int, colours: str | None) -> str:
    if not level or colours is None:
        return shown(text)
    if colours == "256":
        return click.style(shown(text), fg=_INK, bg=_SHADES[level - 1])
    return click.style(shown(text), bold=True)


def _colours() -> str | None:
    """Return "256" or "16" for a terminal of this number of colours; None in a pipe or with NO_COLOR."""
    from rich.console import Console

    if is_drawing() or not on_terminal() or os.environ.get("NO_COLOR"):
        return None
    system = Console().color_system
    return {"256": "256", "truecolor": "256", "standard": "16"}.get(system or "")
