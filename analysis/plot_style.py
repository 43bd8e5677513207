"""The style of plots, and writers for PNG, SVG and self-contained HTML."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import altair as alt
import pandas as pd

from analysis.plot_page import ScriptSafe, plot_page
from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadInput
from atlas.safe_text import shown
from atlas.studies.results import Results

__all__ = [
    "FORMATS",
    "HUES",
    "Chart",
    "ScriptSafe",
    "check_path",
    "drawable",
    "finished",
    "heading",
    "plot_writer",
    "save",
    "significant",
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

#: Resolution of PNG, and of the pixels of CSS in which the sizes of charts are stated.
_DPI, _CSS_DPI = 300, 96

#: Twenty hues that differ from each other, from white and from the dark background of a page: the
#: smallest distance in OKLab is 0.12 (that of the scheme tableau20 is 0.05).
HUES = (
    "#4c78a8", "#e08a3c", "#54a24b", "#b279a2", "#e45756", "#45c4eb", "#804500", "#8962ff", "#baba0a",
    "#890ab1", "#1d6262", "#ff93ce", "#1dce1d", "#b10058", "#a79dff", "#937645", "#273bd8", "#ff4eff",
    "#006c00", "#ce31b1",
)  # fmt: skip

#: Pixels of a title and of a line below it by character, and least pixels of such a line.
_BOLD, _PLAIN, _LINE = 7.4, 5.7, 420

#: Width of a page, and of the axes and the space next to a panel, in pixels.
_PAGE, _AXES = 1300, 100

#: Size of the title of a panel, in pixels.
_PANEL = 11.5

_INNER = ("layer", "hconcat", "vconcat", "concat")

#: The configuration that all plots share.
_CONFIG: dict[str, Any] = {
    "background": "white",
    # Widths of texts are those of Arial in PNG and SVG; a wider font would make labels overlap.
    "font": "Arial, Liberation Sans, Helvetica, sans-serif",
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
        "labelSeparation": 6,
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": _INK,
        "titleColor": _INK,
        "titleFontWeight": "normal",
        "labelLimit": 320,
        "titleLimit": 420,
        "symbolBaseFillColor": "#888888",
        "symbolBaseStrokeColor": "#888888",
        "symbolOpacity": 1,
        "columnPadding": 24,
        "padding": 6,
    },
    "title": {
        "anchor": "start",
        "color": _INK,
        "fontSize": 14,
        "subtitleColor": "#666666",
        "subtitleFontSize": 11,
        "offset": 10,
    },
    "range": {"category": list(HUES)},
    # Bars of a histogram touch: a gap would be read as an empty bin.
    "bar": {"color": HUES[0], "binSpacing": 0},
    "rule": {"color": _INK},
    "text": {"color": _INK},
    "header": {"labelColor": _INK, "titleColor": _INK},
    "concat": {"spacing": 36},
}


def finished(chart: Chart) -> Chart:
    """Return a plot with the common style, with all its rows, and with titles that fit it.

    The plot does not depend on settings of Altair, whose default refuses to show more than 5,000
    rows, and does not change them.
    """
    styled: Chart = _panels(_completed(_wrapped(chart))).configure(**_CONFIG)
    return styled


def _completed(chart: Any) -> Any:
    """Return a chart that contains its tables as rows, with titles broken into lines that fit."""
    found = chart.copy(deep=False)
    if isinstance(found.data, pd.DataFrame):
        found.data = alt.to_values(found.data)
    for name in _INNER:
        charts = getattr(found, name, alt.Undefined)
        if isinstance(charts, list):
            setattr(found, name, [_completed(one) for one in charts])
    if isinstance(found, alt.FacetChart):
        found.spec = _completed(found.spec)
    elif isinstance(found.title, alt.TitleParams):
        found.title = _broken(found.title, max(_width(found), _LINE))
    return found


def _wrapped(chart: Any) -> Any:
    """Return a chart whose rows of panels are not wider than a page: longer rows continue below."""
    found = chart.copy(deep=False)
    for name in _INNER:
        charts = getattr(found, name, alt.Undefined)
        if isinstance(charts, list):
            setattr(found, name, [_wrapped(one) for one in charts])
    if not isinstance(found, alt.HConcatChart):
        return found
    rows = math.ceil(sum(_width(one) + _AXES for one in found.hconcat) / _PAGE)
    if rows < 2:
        return found
    spec = {name: value for name, value in found._kwds.items() if name != "hconcat"}
    columns = math.ceil(len(found.hconcat) / rows)
    return alt.ConcatChart(concat=found.hconcat, columns=columns, **spec)


def _panels(chart: Any, *, inner: bool = False) -> Any:
    """Return a chart whose titles of panels are smaller than its own title."""
    found = chart.copy(deep=False)
    titled = found.title is not alt.Undefined
    if titled and inner:
        title = found.title if isinstance(found.title, alt.TitleParams) else heading(found.title)
        found.title = title.copy(deep=False)
        found.title.fontSize = _PANEL
    for name in _INNER:
        charts = getattr(found, name, alt.Undefined)
        if isinstance(charts, list):
            setattr(found, name, [_panels(one, inner=inner or titled) for one in charts])
    return found


def _width(chart: Any) -> float:
    """Return the pixels of the columns of a chart; 0 for those whose width follows their data."""
    if isinstance(getattr(chart, "width", None), int | float):
        return float(chart.width)
    inner = {name: getattr(chart, name, alt.Undefined) for name in _INNER}
    widths = {n: [_width(one) for one in of] for n, of in inner.items() if isinstance(of, list)}
    in_row = widths.get("hconcat", [])
    if "concat" in widths:
        columns = chart.columns if isinstance(chart.columns, int) else len(widths["concat"])
        in_row = widths["concat"][:columns]
    return max(sum(in_row), *widths.get("layer", []), *widths.get("vconcat", []), 0.0)


def _broken(title: alt.TitleParams, width: float) -> alt.TitleParams:
    """Return a title whose lines are not longer than a width in pixels."""
    found = title.copy(deep=False)
    if isinstance(found.subtitle, list):
        found.subtitle = [
            part for line in found.subtitle for part in _lines(str(line), width / _PLAIN)
        ]
    if isinstance(found.text, str) and len(found.text) * _BOLD > width:
        found.text = _lines(found.text, width / _BOLD)
    return found


def _lines(text: str, length: float) -> list[str]:
    """Break a text into lines of similar length; a line that is continued ends in a space.

    The page of a plot joins such lines again if it is narrow.
    """

    def broken(width: int) -> list[str]:
        # Names of SAEs and sites stay whole, so that they can be searched.
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [text]

    fewest = len(broken(int(length)))
    widths = range(len(text) // fewest + 1, int(length))
    lines = broken(next((w for w in widths if len(broken(w)) == fewest), int(length)))
    last = (
        f"{lines[-1]} " if text.endswith(" ") else lines[-1]
    )  # of a chart that was finished before
    return [*(f"{line} " for line in lines[:-1]), last]


def heading(text: str, *more: str) -> alt.TitleParams:
    """Return a title with subtitle lines."""
    return alt.TitleParams(text, subtitle=list(more)) if more else alt.TitleParams(text)


def significant(base: alt.Chart, q: str, *, level: float = 0.05) -> alt.Chart:
    """Return dots on the cells of a heatmap whose q-value is at most a level.

    Parameters
    ----------
    base
        Chart with the axes of the heatmap.
    q
        Column of the q-values; missing ones have no dot.
    level
        Largest q-value with a dot.
    """
    known = base.transform_filter((alt.datum[q] <= level) & (alt.datum[q] != None))  # noqa: E711
    dots: alt.Chart = known.mark_point(
        filled=True, size=26, color="white", stroke="black", strokeWidth=0.6, opacity=1
    )
    return dots


def save(chart: Chart, path: str | Path) -> Path:
    """Write a plot to a file.

    Parameters
    ----------
    chart
        The plot.
    path
        The file. Its suffix selects the format: ``.png`` (300 dots per inch), ``.svg``, or
        ``.html``, which is interactive, works offline, and fits a phone.

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
            temporary.write_text(plot_page(chart.to_dict()), "utf-8")
        else:
            picture = drawable(chart)
            if form == "png":
                picture.save(temporary, format=form, ppi=_DPI, scale_factor=72 / _CSS_DPI)
            else:
                picture.save(temporary, format=form)
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
