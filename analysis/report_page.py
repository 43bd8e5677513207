"""A report as one HTML page of text, tables and SVG figures, for screens, phones and print.

The page needs no network and no other file.
"""

import io
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.plot_style import Chart, drawable, finished
from analysis.statistics.intervals import Mean

__all__ = [
    "between",
    "cell",
    "code",
    "comparisons",
    "figure",
    "figures",
    "folded",
    "heading",
    "missing",
    "notes",
    "page",
    "paragraphs",
    "table",
]


def page(title: str, sections: Sequence[Markup]) -> str:
    """Return the page, with the title as its heading; sections of plain text are escaped."""
    return _environment().get_template("report.html").render(title=title, sections=sections)


def heading(text: str) -> Markup:
    """Return the heading of a section."""
    return _part("heading", text)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, caption: str) -> Markup:
    """Return rows as a table that scrolls horizontally if it is wider than the page.

    Parameters
    ----------
    rows
        Values by name; numbers, text, None or ``Mean``.
    columns
        Names of the values, with their headings; columns without any value are excluded.
    caption
        Caption of the table.
    """
    shown = [n for n in columns if any(_present(row.get(n)) for row in rows)] or list(columns)
    cells = [[_cell(row.get(n)) for n in shown] for row in rows]
    return _part("table", [columns[n] for n in shown], cells, caption)


def figure(chart: Chart, *, name: str, caption: str) -> Markup:
    """Return a chart as inline SVG; ``name`` must be unique among the figures of the page."""
    buffer = io.StringIO()
    drawable(finished(chart)).save(buffer, format="svg")
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") + len("<svg") :]
    # Clip paths need ids that are unique in the page; inline SVG needs no namespaces.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    # Vega escapes the text of a chart.
    return _part("figure", Markup(svg), name, caption)


def figures(charts: Mapping[str, tuple[Chart, str]], *names: str) -> list[Markup]:
    """Return the figures of these names that exist."""
    present = [name for name in names if name in charts]
    return [figure(charts[name][0], name=name, caption=charts[name][1]) for name in present]


def folded(summary: str, section: Markup) -> Markup:
    """Return a section that a click on its summary opens; print shows the summary only."""
    return _part("folded", summary, section)


def paragraphs(*texts: str, kind: str = "") -> Markup:
    """Return texts as paragraphs; text between backticks is shown as code."""
    return _part("paragraphs", texts, kind)


def missing(what: str, command: str, where: str) -> Markup:
    """Return a paragraph that names missing data, and the command that computes them."""
    return paragraphs(
        f"This atlas has no {what}; run `{command} --atlas {shlex.quote(where)}` to compute it.",
        kind="missing",
    )


def comparisons(headline: str, of: Sequence[tuple[str, str, str]]) -> Markup:
    """Return the verdict: a headline, and the comparisons in order.

    Parameters
    ----------
    headline
        The headline.
    of
        Name, question and verdict of each comparison.
    """
    return _part("comparisons", headline, of)


def notes(texts: Sequence[str]) -> Markup:
    """Return texts as a list."""
    return _part("notes", texts)


def code(lines: Sequence[str]) -> Markup:
    """Return lines of commands as a code block."""
    return _part("code", lines)


def cell(value: Any) -> str:
    """Return a value as text; a mean is followed by its interval."""
    if isinstance(value, Mean):
        if value.low is None or value.high is None:
            return cell(value.mean)
        return f"{cell(value.mean)} ({cell(value.low)} to {cell(value.high)})"
    if not _present(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        is_count = value.is_integer() and abs(value) >= 10  # such as k90
        if abs(value) >= 1000 or is_count:
            return f"{value:,.0f}"
        return f"{value:.3f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def between(low: float | None, high: float | None) -> str | None:
    """Return an interval as text."""
    return None if low is None or high is None else f"{low:.4f} to {high:.4f}"


class _Cell(NamedTuple):
    """The text of a cell, its interval, and whether it is left-aligned words."""

    text: str
    interval: str = ""
    words: bool = False


def _cell(value: Any) -> _Cell:
    if isinstance(value, Mean) and value.low is not None:
        return _Cell(cell(value.mean), f"{cell(value.low)} to {cell(value.high)}")
    return _Cell(cell(value), words=isinstance(value, str))


def _present(value: Any) -> bool:
    if isinstance(value, Mean):
        return value.mean is not None
    return value is not None and not (isinstance(value, float) and math.isnan(value))


@cache
def _environment() -> Environment:
    """Return the templates of this room; values are escaped unless they are ``Markup``."""
    return Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
    )


def _part(name: str, *values: Any) -> Markup:
    """Render one macro of the templates."""
    macros = _environment().get_template("report_parts.html").module
    rendered: Markup = getattr(macros, name)(*values)
    return rendered
