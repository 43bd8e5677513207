"""The style of plots, and writers for PNG, SVG and self-contained HTML."""

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import altair as alt
import pandas as pd

from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadInput
from atlas.safe_text import shown
from atlas.studies.results import Results

__all__ = [
    "FORMATS",
    "Chart",
    "check_path",
    "drawable",
    "finished",
    "heading",
    "plot_writer",
    "save",
]

Chart: TypeAlias = (
    alt.Chart
    | alt.LayerChart
    | alt.FacetChart
    | alt.HConcatChart
    | alt.VConcatChart
    | alt.ConcatChart
)

FORMATS: dict[str, Literal["png", "svg", "html"]] = {
    ".png": "png",
    ".svg": "svg",
    ".html": "html",
}

_INK = "#333333"

#: The configuration that all plots share.
_CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "sans-serif",
    "padding": 12,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "titleFontWeight": "normal",
        "gridColor": "#eeeeee",
        "domainColor": "#999999",
        "tickColor": "#999999",
        "labelLimit": 320,
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": _INK,
        "titleColor": _INK,
        "titleFontWeight": "normal",
        "labelLimit": 320,
    },
    "title": {
        "anchor": "start",
        "color": _INK,
        "fontSize": 13,
        "subtitleColor": "#666666",
        "subtitleFontSize": 11,
        "offset": 10,
    },
    "bar": {"color": "#4c78a8"},
    "concat": {"spacing": 36},
}


def finished(chart: Chart) -> Chart:
    """Return a plot with the common style and with all its rows.

    The plot does not depend on settings of Altair, whose default refuses to show more than 5,000
    rows, and does not change them.
    """
    styled: Chart = _with_rows(chart).configure(**_CONFIG)
    return styled


def _with_rows(chart: Any) -> Any:
    """Return a chart that contains its tables as rows."""
    found = chart.copy(deep=False)
    if isinstance(found.data, pd.DataFrame):
        found.data = alt.to_values(found.data)
    for name in ("layer", "hconcat", "vconcat", "concat"):
        charts = getattr(found, name, alt.Undefined)
        if isinstance(charts, list):
            setattr(found, name, [_with_rows(one) for one in charts])
    if isinstance(found, alt.FacetChart):
        found.spec = _with_rows(found.spec)
    return found


def heading(text: str, *more: str) -> alt.TitleParams:
    """Return a title with subtitle lines."""
    return alt.TitleParams(text, subtitle=list(more)) if more else alt.TitleParams(text)


def save(chart: Chart, path: str | Path) -> Path:
    """Write a plot to a file.

    Parameters
    ----------
    chart
        The plot.
    path
        The file. Its suffix selects the format: ``.png`` (at double resolution), ``.svg``, or
        ``.html``, which is interactive and works offline.

    Raises
    ------
    BadInput
        If the suffix is not supported, or the directory does not exist.
    """
    path = check_path(path)
    form = FORMATS[path.suffix.lower()]
    chart = finished(chart)
    with atomic_file(path) as temporary:
        if form == "html":
            temporary.write_text(_page(chart), "utf-8")
        else:
            drawable(chart).save(temporary, format=form, scale_factor=2)
    return path


def drawable(chart: Chart) -> Chart:
    """Return a chart for PNG or SVG, with control characters in its texts replaced.

    XML cannot hold them, and vl-convert aborts the process.
    """
    spec = chart.to_dict()
    safe = _shown(spec)
    return chart if safe == spec else type(chart).from_dict(safe, validate=False)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {_shown(key): _shown(each) for key, each in value.items()}
    return value


class ScriptSafe(json.JSONEncoder):
    """Encode JSON for a script element, so that no string in it can end the element."""

    def encode(self, o: Any) -> str:
        """Return the JSON with ``<``, ``>``, ``&`` and Unicode line separators escaped."""
        return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", super().encode(o))


# The page loads nothing and sends nothing; Vega compiles its expressions at run time.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)


def _page(chart: Chart) -> str:
    """Return a chart as a complete HTML page that embeds Vega."""
    text = io.StringIO()
    chart.save(text, format="html", inline=True, json_kwds={"cls": ScriptSafe})
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    return text.getvalue().replace("<head>", f"<head>\n  {policy}", 1)


def check_path(path: str | Path) -> Path:
    """Check that a plot can be written to a path, before the plot is computed.

    Raises
    ------
    BadInput
        If the suffix is not supported, or the directory does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise BadInput(
            f"Cannot write a plot to {path.name!r}: the name must end in {', '.join(FORMATS)}."
        )
    if not path.parent.is_dir():
        raise BadInput(
            f"Cannot write {path.name}: the directory {path.parent} does not exist. Create it first."
        )
    return path


def plot_writer(
    paths: Sequence[Path], *, draw: Callable[[Results], Chart] | None = None
) -> Callable[[Results], list[str]]:
    """Check the paths of a plot, and return a function that draws results and saves the plot.

    Parameters
    ----------
    paths
        The files.
    draw
        Function from results to a chart. The plot of the first result, if None.

    Raises
    ------
    BadInput
        If a suffix is not supported, or a directory does not exist.
    """
    for path in paths:
        check_path(path)

    def write(results: Results) -> list[str]:
        picture = results[0].plot() if draw is None else draw(results)
        return [str(save(picture, path)) for path in paths]

    return write
