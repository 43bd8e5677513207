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
    base = alt.Chart(frame, width=_WIDTH, height=_HEIGHT)
    identity = alt.Chart(pd.DataFrame({"x": limits, "y": limits}))
    correlation = result["rank_correlation"]
    rank = "" if correlation is None else f", rank correlation {correlation:.2f}"
    title = heading(
        f"Attribution and ablation, {result['sae']}",
        f"{int(frame['pairs'].sum()):,} pairs with an attribution in {len(frame)} bins; bars: 10% to 90%{rank}",
    )
    return finished(
        alt.layer(
            identity.mark_line(strokeDash=[4, 4], color="#999999").encode(x="x:Q", y="y:Q"),
            base.mark_rule(color="#4c78a8", opacity=0.5).encode(
                x=x, y=alt.Y("low:Q", title="measured change (activation)"), y2="high:Q"
            ),
            base.mark_line(point=True, color="#4c78a8").encode(
                x=x,
                y="measured:Q",
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
