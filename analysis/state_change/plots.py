"""The plot of state changes: the change of each feature against its control, and one map of both states."""

from typing import Any

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 230, 200

#: Features of an SAE that are drawn, at most: those of the largest change.
_MOST = 1500

_EDITED, _MOVED, _OTHER = "edited", "changes more than under every random direction", "other"
_COLOURS = {_EDITED: "#b10058", _MOVED: "#e08a3c", _OTHER: "#a8a29e"}


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.state_change.study.compare_states``.

    Each SAE has a panel with the change of each feature. For one SAE, a second panel has a map of
    the features before and after.

    Raises
    ------
    BadInput
        If no feature is active on the compared tokens.
    """
    changes: pd.DataFrame = result.table("changes").to_pandas()
    if not len(changes):
        raise BadInput("No feature is active on the compared tokens, so there is nothing to plot.")
    kind = pd.Series(_OTHER, changes.index).mask(changes["moved"].astype(bool), _MOVED)
    changes = changes.assign(kind=kind.mask(changes["edited"].astype(bool), _EDITED))
    where: pd.DataFrame = result.table("map").to_pandas()
    saes = list(dict.fromkeys(changes["sae"]))
    panels: list[Any] = []
    for sae in saes:
        own = changes[changes["sae"] == sae].head(_MOST)
        panels.append(_against_control(own, sae))
        points = where[where["sae"] == sae].merge(own[["feature", "change", "kind"]], on="feature")
        if len(points) and len(saes) == 1:
            panels.append(_on_map(points))
    title = heading(
        f"Features before and after: {', '.join(result['features'])}, {result['edit']}",
        f"n = {result['reached']:,} tokens that the edit reaches, of {result['tokens']:,}; "
        "dashed: equal to the largest change under a random direction",
    )
    return finished(alt.concat(*panels, columns=3).properties(title=title))


def _against_control(own: pd.DataFrame, sae: str) -> Any:
    most = float(own["control_largest"].max())
    limit = pd.DataFrame(
        {
            "control_largest": [0.0, most] * 2,
            "change": [0.0, most, 0.0, -most],
            "sign": [1, 1, -1, -1],
        }
    )
    x = alt.X(
        "control_largest:Q", title="largest change, random directions", axis=alt.Axis(tickCount=4)
    )
    y = alt.Y("change:Q", title="change of mean activation")
    points = (
        alt.Chart(own)
        .mark_point(filled=True, size=22, opacity=0.7)
        .encode(
            x=x,
            y=y,
            color=_colour(),
            order=alt.Order("rank:Q"),
            tooltip=[
                "feature:N",
                *(
                    alt.Tooltip(f"{name}:Q", format=".3g")
                    for name in ("change", "rate_before", "rate_after", "q", "control_largest")
                ),
            ],
        )
        .transform_calculate(
            rank=f"datum.kind == '{_OTHER}' ? 0 : datum.kind == '{_MOVED}' ? 1 : 2"
        )
    )
    lines = (
        alt.Chart(limit)
        .mark_line(strokeDash=[4, 3], strokeWidth=1, color="#666666")
        .encode(x=x, y=y, detail="sign:N")
    )
    return alt.layer(lines, points).properties(
        width=_WIDTH, height=_HEIGHT, title=heading(sae, f"{len(own):,} features")
    )


def _on_map(points: pd.DataFrame) -> Any:
    base = alt.Chart(points)
    bare = alt.Axis(labels=False, ticks=False, grid=False)
    x = alt.X("x_before:Q", title="first coordinate of the map", axis=bare)
    y = alt.Y("y_before:Q", title="second coordinate of the map", axis=bare)
    lines = base.mark_rule(opacity=0.7).encode(
        x=x, y=y, x2="x_after:Q", y2="y_after:Q", color=_colour()
    )
    dots = base.mark_point(filled=True, size=20, opacity=0.6).encode(
        x=x, y=y, color=_colour(), tooltip=["feature:N", alt.Tooltip("change:Q", format=".3g")]
    )
    return alt.layer(lines, dots).properties(
        width=_WIDTH,
        height=_HEIGHT,
        title=heading("both states on one map", "point: before; line: to the state after"),
    )


def _colour() -> alt.Color:
    return alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=alt.Legend(orient="bottom", title=None),
    )
