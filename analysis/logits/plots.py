"""The plot of logits: agreement with measured changes, of the feature's own logits and of others'."""

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 420, 240
_COLOURS = {"its own direct logits": "#4c78a8", "those of other features (mean)": "#bab0ac"}


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.logits.study.measure_logits``.

    Raises
    ------
    BadInput
        If no feature was ablated.
    """
    frame: pd.DataFrame = result.table("features").to_pandas()
    frame = frame[frame["agreement"].notna()]
    if not len(frame):
        raise BadInput(
            f"No feature of {result['sae']} was ablated, so there is nothing to plot. Run `atlas logits "
            f"{result['sae']} --features 256`."
        )
    own, others = _COLOURS
    points = pd.concat(
        [
            pd.DataFrame({"correlation": frame[column], "logits": label})
            for column, label in (("agreement", own), ("control", others))
        ]
    ).dropna()
    chart = (
        alt.Chart(points, width=_WIDTH, height=_HEIGHT)
        .mark_bar(opacity=0.7)
        .encode(
            x=alt.X(
                "correlation:Q",
                bin=alt.Bin(step=0.05),
                title="rank correlation of direct logits and measured changes",
            ),
            y=alt.Y("count():Q", stack=None, title="features"),
            color=alt.Color(
                "logits:N",
                scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
                legend=alt.Legend(orient="bottom", title=None),
            ),
            tooltip=["logits:N", "count():Q"],
        )
    )
    title = heading(
        f"Direct logits and measured changes, {result['sae']}",
        f"n = {len(frame):,} features, ablated where they are active",
    )
    return finished(chart.properties(title=title))
