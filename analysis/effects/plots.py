"""The plot of effects: measured effects against their attribution."""

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 420, 300


def draw(result: Result) -> Chart:
    """Plot the calibration curve of a result of ``analysis.effects.study.measure_effects``.

    Raises
    ------
    BadInput
        If no pair of features has an attribution.
    """
    rows = result.table("calibration").to_pylist() if "calibration" in result.tables else []
    if not rows:
        raise BadInput(
            f"No feature of a later SAE has an attribution from {result['sae']}, so there is nothing to plot. "
            "Ingest an SAE at a later site."
        )
    frame = pd.DataFrame(rows)
    limits = [float(frame["attributed"].min()), float(frame["attributed"].max())]
    x = alt.X("attributed:Q", title="attributed change of the target (activation)")
    y = alt.Y("measured:Q", title="measured change (activation)")
    measured, equal = "measured: mean of a bin, 10% to 90%", "equal to the attribution"
    colour = alt.Color(
        "line:N",
        scale=alt.Scale(domain=[measured, equal], range=["#4c78a8", "#8a8a8a"]),
        legend=alt.Legend(orient="bottom", title=None, symbolType="stroke"),
    )
    base = alt.Chart(frame.assign(line=measured), width=_WIDTH, height=_HEIGHT)
    identity = alt.Chart(pd.DataFrame({"attributed": limits, "measured": limits, "line": equal}))
    correlation = result["rank_correlation"]
    rank = "" if correlation is None else f"; rank correlation {correlation:.2f}"
    title = heading(
        f"Attribution and ablation, {result['sae']}",
        f"n = {int(frame['pairs'].sum()):,} pairs with an attribution in {len(frame)} bins{rank}",
    )
    return finished(
        alt.layer(
            identity.mark_line(strokeDash=[4, 4]).encode(x=x, y=y, color=colour),
            base.mark_rule(opacity=0.5).encode(
                x=x,
                y=alt.Y("low:Q", title="measured change (activation)"),
                y2="high:Q",
                color=colour,
            ),
            base.mark_line(point=True).encode(
                x=x,
                y=y,
                color=colour,
                tooltip=[
                    alt.Tooltip("attributed:Q", format=".3~g"),
                    alt.Tooltip("measured:Q", format=".3~g"),
                    alt.Tooltip("low:Q", format=".3~g"),
                    alt.Tooltip("high:Q", format=".3~g"),
                    "pairs:Q",
                ],
            ),
        ).properties(title=title)
    )
