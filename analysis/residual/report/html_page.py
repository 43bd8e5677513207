"""Self-contained HTML page of tables and SVG figures, for screens, phones and print."""

import io
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from analysis.plot_style import Chart, drawable, finished
from analysis.residual.report.arm_difference import Mean

__all__ = [
    "between",
    "cell",
    "code",
    "comparisons",
    "figure",
    "figures",
    "folded",
    "missing",
    "notes",
    "page",
    "paragraphs",
    "table",
]

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { margin: 0; background: #fff; color: #222; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 48rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
.verdict { border-left: .3rem solid #e08a3c; background: #fdf6ee; padding: .6rem 1rem; }
.verdict ol { margin: .6rem 0 0; padding-left: 1.2rem; } .verdict li { margin-bottom: .6rem; }
.verdict > p { font-weight: 600; margin: .2rem 0; } .verdict b { white-space: nowrap; } .asks { color: #555; }
.missing { border-left: .3rem solid #999; background: #f5f5f5; padding: .6rem 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding: .3rem 0; }
caption div { max-width: min(46rem, calc(100vw - 2rem)); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e5e5e5; text-align: right; vertical-align: top; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.words { text-align: left; white-space: nowrap; }
.interval { color: #666; display: block; white-space: nowrap; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption, .small { color: #555; font-size: .88rem; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .84rem; }
details { margin: .6rem 0; } summary { cursor: pointer; color: #555; font-size: .88rem; }
code { overflow-wrap: anywhere; }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  caption div { max-width: none; } .scroll { overflow: visible; } table { font-size: 7.5pt; } td.words { white-space: normal; } th, td { padding: .15rem .3rem; }
  figure, tr, .verdict li { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  pre { white-space: pre-wrap; }
}
</style>
</head>
<body><main>
$body
</main></body>
</html>
""")


def page(title: str, sections: Sequence[str]) -> str:
    """Return the page; sections are HTML, the title is plain text."""
    return _PAGE.substitute(title=escape(title), body="\n".join(sections))


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, caption: str) -> str:
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
    head = "".join(f'<th scope="col">{escape(columns[n])}</th>' for n in shown)
    body = "\n".join("<tr>" + "".join(_td(row.get(n)) for n in shown) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption><div>{escape(caption)}</div></caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def figure(chart: Chart, *, name: str, caption: str) -> str:
    """Return a chart as inline SVG; ``name`` must be unique among the figures of the page."""
    buffer = io.StringIO()
    drawable(finished(chart)).save(buffer, format="svg")
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # Clip paths need ids that are unique in the page; inline SVG needs no namespaces.
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", drawn)
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    drawn = drawn.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return f"<figure>\n{drawn}\n<figcaption>{escape(caption)}</figcaption></figure>"


def figures(charts: Mapping[str, tuple[Chart, str]], *names: str) -> list[str]:
    """Return the figures of these names that exist."""
    present = [name for name in names if name in charts]
    return [figure(charts[name][0], name=name, caption=charts[name][1]) for name in present]


def folded(summary: str, section: str) -> str:
    """Return a section that a click on its summary opens; print shows the summary only."""
    return f"<details><summary>{escape(summary)}</summary>\n{section}\n</details>"


def paragraphs(*texts: str, kind: str = "") -> str:
    """Return texts as paragraphs; text between backticks is shown as code."""
    opened = f'<p class="{kind}">' if kind else "<p>"
    return "\n".join(f"{opened}{_ticked(text)}</p>" for text in texts)


def missing(what: str, command: str, where: str) -> str:
    """Return a paragraph that names missing data, and the command that computes them."""
    return paragraphs(
        f"This atlas has no {what}; run `{command} --atlas {shlex.quote(where)}` to compute it.",
        kind="missing",
    )


def comparisons(headline: str, of: Sequence[tuple[str, str, str]]) -> str:
    """Return the verdict: a headline, and the comparisons in order.

    Parameters
    ----------
    headline
        The headline.
    of
        Name, question and verdict of each comparison.
    """
    items = "\n".join(
        f'<li><b>{escape(name)}</b> <span class="asks">({escape(asks)})</span><br>{_ticked(sentence)}</li>'
        for name, asks, sentence in of
    )
    return f'<div class="verdict">\n<p>{_ticked(headline)}</p>\n<ol>\n{items}\n</ol></div>'


def notes(texts: Sequence[str]) -> str:
    """Return texts as a list."""
    return "<ul>\n" + "\n".join(f"<li>{_ticked(text)}</li>" for text in texts) + "\n</ul>"


def code(lines: Sequence[str]) -> str:
    """Return lines of commands as a code block."""
    return "<pre><code>" + escape("\n".join(lines)) + "</code></pre>"


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
        if value.is_integer() and abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.3f}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def between(low: float | None, high: float | None) -> str | None:
    """Return an interval as text."""
    return None if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _td(value: Any) -> str:
    if isinstance(value, Mean) and value.low is not None:
        text = f'{cell(value.mean)} <span class="interval">({cell(value.low)} to {cell(value.high)})</span>'
        return f"<td>{text}</td>"
    words = ' class="words"' if isinstance(value, str) else ""
    return f"<td{words}>{escape(cell(value))}</td>"


def _present(value: Any) -> bool:
    if isinstance(value, Mean):
        return value.mean is not None
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _ticked(text: str) -> str:
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
