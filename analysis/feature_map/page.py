"""Interactive maps as one HTML page that works offline, drawn on a canvas."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.feature_map.panels import Panel
from analysis.plot_page import in_dark
from analysis.plot_style import ScriptSafe, check_path
from atlas.disk.atomic_files import atomic_file

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["page", "save_page"]

#: Decimals of the coordinates, relative to the size of a map.
_STEPS = 1 << 16


def page(panels: Sequence[Panel]) -> str:
    """Return panels as a complete HTML page.

    Vega redraws all its marks at each movement of the pointer, which takes too long for tens of
    thousands of points. This page draws points on a canvas and finds them by a grid.

    Parameters
    ----------
    panels
        See ``analysis.feature_map.panels.panels_of``.
    """
    data = json.dumps([_data(panel) for panel in panels], cls=ScriptSafe)
    return _template().render(title=" and ".join(panel.title for panel in panels), data=data)


def save_page(panels: Sequence[Panel], path: str | Path) -> Path:
    """Write panels to an HTML file.

    Raises
    ------
    BadInput
        If the suffix is not supported, or the directory does not exist.
    """
    path = check_path(path)
    with atomic_file(path) as temporary:
        temporary.write_text(page(panels), "utf-8")
    return path


def _data(panel: Panel) -> dict[str, Any]:
    low, high = panel.points.min(axis=0), panel.points.max(axis=0)
    side = float((high - low).max()) or 1.0
    steps = np.rint((panel.points - (low + high) / 2) / side * _STEPS).astype(np.int64)
    return {
        "title": panel.title,
        "subtitle": panel.subtitle,
        "axes": panel.axes,
        "steps": _STEPS,
        "x": steps[:, 0].tolist(),
        "y": steps[:, 1].tolist(),
        "ids": panel.ids,
        "labels": panel.labels,
        "classes": panel.classes.tolist(),
        "names": panel.names,
        "colours": panel.colours,
        "dark": [in_dark(colour) for colour in panel.colours],
        "link": panel.link.tolist(),
    }


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("analysis.feature_map")
    return Environment(loader=loader, autoescape=True).get_template("map.html")
