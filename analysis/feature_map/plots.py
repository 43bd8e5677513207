"""Pictures of maps as Altair charts, for PNG and SVG."""

from collections.abc import Sequence

import altair as alt

from analysis.feature_map.panels import Panel, panels_of
from analysis.plot_style import Chart, finished, heading
from atlas.studies.results import Result

__all__ = ["draw", "draw_panels"]

_SIDE = 420


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.feature_map.study.map_features``.

    Raises
    ------
    BadInput
        If no feature has coordinates.
    """
    return draw_panels(panels_of([result]))


def draw_panels(panels: Sequence[Panel]) -> Chart:
    """Plot panels next to each other, with common colours.

    Parameters
    ----------
    panels
        See ``analysis.feature_map.panels.panels_of``.
    """
    charts = [_chart(panel) for panel in panels]
    if len(charts) == 1:
        return finished(charts[0])
    return finished(alt.hconcat(*charts))


def _chart(panel: Panel) -> alt.Chart:
    frame = panel.frame()
    present = [name for name in panel.names if name in set(frame["class"])]
    colour = {name: panel.colours[panel.names.index(name)] for name in present}
    scale = alt.Scale(domain=present, range=list(colour.values()))
    # More points are drawn smaller, so that dense regions remain visible.
    size = max(3.0, min(30.0, 30_000 / max(len(frame), 1)))
    axis = [
        alt.Axis(labels=False, ticks=False, grid=False, domain=False, title=title or None)
        for title in panel.axes
    ]
    chart: alt.Chart = (
        alt.Chart(frame, width=_SIDE, height=_SIDE)
        .mark_circle(size=size, opacity=0.75)
        .encode(
            x=alt.X("x:Q", axis=axis[0], scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=axis[1], scale=alt.Scale(zero=False)),
            color=alt.Color(
                "class:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", columns=3)
            ),
            tooltip=["id:N", "top_token:N", "class:N"],
        )
        .properties(title=heading(panel.title, *panel.subtitle))
    )
    return chart
