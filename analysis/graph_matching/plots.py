"""Plots of counterparts: recall against known counterparts, and recall of all methods."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from analysis.graph_matching.study import report_of
from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw", "draw_curve", "draw_kinds", "draw_recalls"]

_WIDTH, _HEIGHT = 460, 280
_LINES = {
    "anchors, matched": "#4c78a8",
    "structure, matched": "#54a24b",
    "anchors, walks alone": "#e08a3c",
    "anchors paired at random": "#b279a2",
    "frequency": "#777777",
    "chance": "#bbbbbb",
}


def draw_recalls(found: Mapping[str, Any]) -> Chart:
    """Plot a report of ``analysis.graph_matching.report``: the recall curve and all methods."""
    title = heading(f"Counterparts of {found['a']} in {found['b']}", _numbers(found))
    panels: alt.HConcatChart = alt.hconcat(draw_curve(found), draw_kinds(found), title=title)
    page: alt.HConcatChart = panels.resolve_scale(color="independent")
    return page


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.graph_matching.study.find_counterparts``.

    Raises
    ------
    BadInput
        If no method was evaluated.
    """
    found = report_of(result.table)
    if not found["methods"]:
        raise BadInput(
            f"No method was evaluated for {found['a']} and {found['b']}, so there is nothing to plot. "
            f"`atlas match-graphs {found['a']} {found['b']} --replace` evaluates them."
        )
    return finished(draw_recalls(found))


def draw_curve(found: Mapping[str, Any], *, measure: str = "recall@10") -> Chart:
    """Plot recall against the share of known counterparts.

    Parameters
    ----------
    found
        A report.
    measure
        One of ``analysis.graph_matching.ranks.MEASURES``.
    """
    rows = pd.DataFrame(
        [
            {
                "method": row["method"],
                "known": f"{row['share']:.0%} ({row['anchors']:.0f})",
                "share": row["share"],
                "anchors": row["anchors"],
                "value": row[measure],
                "low": row[f"{measure} low"],
                "high": row[f"{measure} high"],
            }
            for row in found["methods"]
            if row["method"] in _LINES
        ]
    )
    order = list(dict.fromkeys(rows.sort_values("share")["known"]))
    colour = alt.Color(
        "method:N",
        title=None,
        legend=alt.Legend(orient="bottom", columns=3),
        scale=alt.Scale(domain=list(_LINES), range=list(_LINES.values())),
    )
    tip = [
        "method:N",
        "known:N",
        *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("value", "low", "high")),
    ]
    x = alt.X(
        "known:O",
        title="known counterparts, share of the truth (mean number)",
        sort=order,
        axis=alt.Axis(labelAngle=0),
    )
    base = alt.Chart(
        rows,
        width=_WIDTH,
        height=_HEIGHT,
        title=heading(
            f"{measure} by known counterparts",
            "'structure, matched' uses none; line: 95% bootstrap over queries and repeats",
        ),
    )
    line = base.mark_line(point=True).encode(
        x=x,
        y=alt.Y("value:Q", title=measure, scale=alt.Scale(domain=[0, 1])),
        color=colour,
        tooltip=tip,
    )
    bars = base.mark_rule().encode(x=x, y=alt.Y("low:Q", title=measure), y2="high:Q", color=colour)
    chart: alt.LayerChart = line + bars
    return chart


def draw_kinds(found: Mapping[str, Any], *, measure: str = "recall@10") -> Chart:
    """Plot the recall of every method on the same queries, with intervals."""
    share = found["table_share"] or 0.0
    rows = pd.DataFrame(
        [
            {
                "method": row["method"],
                "value": row[measure],
                "low": row[f"{measure} low"],
                "high": row[f"{measure} high"],
            }
            for row in found["methods"]
            if row["share"] == share
        ]
    )
    base = alt.Chart(
        rows,
        width=_WIDTH * 0.6,
        height=_HEIGHT,
        title=heading(
            f"{measure} of all methods",
            f"{share:.0%} of the counterparts are known, and are no queries or candidates",
        ),
    )
    y = alt.Y("method:N", title=None, sort=list(rows["method"]))
    tip = ["method:N", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("value", "low", "high"))]
    points = base.mark_point(filled=True, size=50, opacity=1, color="#4c78a8").encode(
        x=alt.X("value:Q", title=measure, scale=alt.Scale(domain=[0, 1])), y=y, tooltip=tip
    )
    bars = base.mark_rule(color="#4c78a8").encode(x=alt.X("low:Q", title=measure), x2="high:Q", y=y)
    chart: alt.LayerChart = bars + points
    return chart


def _numbers(found: Mapping[str, Any]) -> str:
    at_none = next(row for row in found["methods"] if not row["share"])
    return (
        f"n = {at_none['queries']:.0f} true pairs among {at_none['candidates']:.0f} candidates; "
        f"{found['repeats']} splits of the documents"
    )
