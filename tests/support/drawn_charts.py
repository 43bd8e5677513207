"""The marks that a chart draws, each with its rows and axes."""

import re
from dataclasses import dataclass

import vl_convert


@dataclass
class Mark:
    """A mark: its type, its encoding, and the rows that it draws."""

    type: str
    encoding: dict
    rows: list

    def field(self, channel):
        return self.encoding[channel].get("field")


def marks(chart):
    """Return the marks of a chart, in the order in which they are drawn."""
    spec = chart.to_dict()
    return list(_marks(spec, spec.get("datasets", {}), []))


def _marks(spec, datasets, rows):
    if "name" in spec.get("data", {}):
        rows = datasets[spec["data"]["name"]]
    for name in ("layer", "hconcat", "vconcat", "concat"):
        for inner in spec.get(name, []):
            yield from _marks(inner, datasets, rows)
    if "spec" in spec:
        yield from _marks(spec["spec"], datasets, rows)
    if "mark" in spec:
        kind = spec["mark"]["type"] if isinstance(spec["mark"], dict) else spec["mark"]
        yield Mark(kind, spec.get("encoding", {}), rows)


def titles(chart):
    """Return the title and the subtitle lines of a chart."""
    title = chart.to_dict()["title"]
    return [title["text"], *title.get("subtitle", [])]


def axis_titles(chart):
    """Return the titles of the axes with a scale, over all marks."""
    found = set()
    for mark in marks(chart):
        for channel in ("x", "y"):
            encoding = mark.encoding.get(channel, {})
            axis = encoding.get("axis") or {}
            found.add(encoding.get("title") or axis.get("title"))
    return found - {None}


def row_values(mark, *columns):
    """Return some columns of the rows of a mark, sorted."""
    return sorted(tuple(row[name] for name in columns) for row in mark.rows)


PAGE = 1300
"""Pixels of CSS of the widest page that a plot must fit."""


def check_chart(chart):
    """Assert that a chart has a title, n, axis titles, fits a page, and cuts no text; return it."""
    spec = chart.to_dict()
    heads = list(_titles(spec))
    assert heads, "no title"
    first = spec.get("title") or {"text": heads[0]}
    first = first if isinstance(first, dict) else {"text": first}
    lines = first["text"]
    assert isinstance(lines, str) or len(lines) == 1, f"a title of several lines: {lines}"
    assert any(re.search(r"\d", head) for head in heads), f"no n in {heads}"
    for mark in marks(chart):
        for channel in ("x", "y"):
            _check_axis(mark, channel)
    svg = vl_convert.vegalite_to_svg(spec)
    # Exactly the characters of the texts, without tooltips and names of marks.
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert not [text for text in shown if "…" in text], "a text is cut"
    width = float(re.search(r'width="([\d.]+)"', svg)[1])
    assert width <= PAGE, f"too wide: {width} pixels"
    return chart


def _titles(spec):
    """Yield the text of all titles of a specification, lines and subtitles apart."""
    title = spec.get("title")
    if title is not None:
        parts = [title["text"], title.get("subtitle", [])] if isinstance(title, dict) else [title]
        for part in parts:
            yield from [part] if isinstance(part, str) else part
    for name in ("layer", "hconcat", "vconcat", "concat"):
        for inner in spec.get(name, []):
            yield from _titles(inner)
    if "spec" in spec:
        yield from _titles(spec["spec"])


def _check_axis(mark, channel):
    """Assert that an axis of numbers has a title; names of categories explain themselves."""
    encoding = mark.encoding.get(channel, {})
    axis = encoding.get("axis", {})
    if encoding.get("type") != "quantitative" or axis is None or not axis.get("labels", True):
        return
    title = encoding.get("title", axis.get("title"))
    assert title != "", f"no title of axis {channel}: {encoding}"
