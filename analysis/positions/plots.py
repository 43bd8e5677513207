"""The plot of positions: L0 or mean activation by position, compared with shuffled tokens."""

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.positions.study import constant_l0
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 420, 240
_COLOURS = {"observed": "#4c78a8", "shuffled tokens, 95% range": "#cccccc"}


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.positions.study.activation_by_position``.

    It has the number of active features, or the mean activation where that number is constant.

    Raises
    ------
    BadInput
        If the stored codes have no tokens.
    """
    rows = result.table("positions").to_pylist()
    if not rows:
        raise BadInput(
            f"The stored codes of {result['sae']} have no tokens, so there is nothing to plot."
        )
    name, label, title = "l0", "active features per token", "Active features"
    if constant_l0(rows):
        name, label, title = "activation", "mean activation of active features", "Mean activation"
    observed, null = _COLOURS
    frame = pd.DataFrame(rows).assign(
        label=[
            str(r["first"]) if r["first"] == r["last"] else f"{r['first']}–{r['last']}"
            for r in rows
        ],
        observed=observed,
        null=null,
    )
    scale = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    legend = alt.Legend(orient="bottom", title=None)
    x = alt.X(
        "label:O",
        sort=list(frame["label"]),
        title="position in the context (tokens)",
        axis=alt.Axis(labelAngle=0),
    )
    y = alt.Scale(zero=False, nice=True, padding=8)
    base = alt.Chart(frame, width=_WIDTH, height=_HEIGHT)
    text = heading(
        f"{title} by position, {result['sae']}",
        f"n = {int(frame['tokens'].sum()):,} tokens",
    )
    return finished(
        alt.layer(
            base.mark_bar(size=18).encode(
                x=x,
                y=alt.Y(f"{name}_null_low:Q", scale=y, title=label),
                y2=f"{name}_null_high:Q",
                color=alt.Color("null:N", scale=scale, legend=legend),
            ),
            base.mark_line(point=True).encode(
                x=x,
                y=alt.Y(f"{name}:Q", scale=y),
                color=alt.Color("observed:N", scale=scale, legend=legend),
                tooltip=[
                    "label:O",
                    "tokens:Q",
                    alt.Tooltip(f"{name}:Q", format=".4~g"),
                    alt.Tooltip(f"{name}_null_low:Q", format=".4~g"),
                    alt.Tooltip(f"{name}_null_high:Q", format=".4~g"),
                    alt.Tooltip(f"{name}_p:Q", format=".3~g"),
                ],
            ),
        ).properties(title=text)
    )
