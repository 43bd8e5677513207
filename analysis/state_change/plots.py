"""The plot of state changes: change of each feature against the control, and both states on one map."""

from typing import Any

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 300, 260

#: Features of an SAE that are drawn, at most: those of the largest change.
_MOST = 1500


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.state_change.study.compare_states``.

    Raises
    ------
    BadInput
        If no feature is active on the compared tokens.
    """
    changes: pd.DataFrame = result.table("changes").to_pandas()
    if not len(changes):
        raise BadInput("No feature is active on the compared tokens, so there is nothing to plot.")
    where: pd.DataFrame = result.table("map").to_pandas()
    rows = []
    for sae in dict.fromkeys(changes["sae"]):
        own = changes[changes["sae"] == sae].head(_MOST)
        panels: list[Any] = [_against_control(own, sae)]
        points = where[where["sae"] == sae].merge(
            own[["feature", "change", "moved", "edited"]], on="feature"
        )
        if len(points):
            panels.append(_on_map(points, sae))
        rows.append(alt.hconcat(*panels))
    title = heading(
        f"Features before and after: {', '.join(result['features'])}, {result['edit']}",
        f"{result['reached']:,} of {result['tokens']:,} tokens are reached by the edit",
    )
    return finished(alt.vconcat(*rows).properties(title=title))


def _against_control(own: pd.DataFrame, sae: str) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(own, width=_WIDTH, height=_HEIGHT)
        .mark_point(filled=True, size=25, opacity=0.6)
        .encode(
            x=alt.X("control_largest:Q", title="largest change under random directions"),
            y=alt.Y("change:Q", title="change of the mean activation"),
            color=_colour(),
            shape=alt.Shape("edited:N", legend=None),
            tooltip=[
                "feature:N",
                *(
                    alt.Tooltip(f"{name}:Q", format=".3g")
                    for name in ("change", "rate_before", "rate_after", "q", "control_largest")
                ),
            ],
        )
        .properties(title=sae)
    )
    return chart


def _on_map(points: pd.DataFrame, sae: str) -> Any:
    base = alt.Chart(points, width=_WIDTH, height=_HEIGHT)
    bare = alt.Axis(labels=False, ticks=False)
    x, y = alt.X("x_before:Q", title=None, axis=bare), alt.Y("y_before:Q", title=None, axis=bare)
    lines = base.mark_rule(opacity=0.7).encode(
        x=x, y=y, x2="x_after:Q", y2="y_after:Q", color=_colour()
    )
    dots = base.mark_point(filled=True, size=20, opacity=0.5).encode(
        x=x, y=y, color=_colour(), tooltip=["feature:N", alt.Tooltip("change:Q", format=".3g")]
    )
    return alt.layer(lines, dots).properties(title=f"{sae}: one map, lines to the state after")


def _colour() -> alt.Color:
    return alt.Color(
        "moved:N",
        scale=alt.Scale(domain=[False, True], range=["#bab0ac", "#e08a3c"]),
        legend=alt.Legend(orient="bottom", title="changes more than under random directions"),
    )
