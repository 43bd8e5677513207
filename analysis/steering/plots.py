"""The plot of steering: success on the test half against damage on neutral text, by arm."""

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.steering.evaluation import RANDOM, RANDOM_SET
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 360, 260
_COLOURS = {
    "nothing": "#000000",
    "reconstruction": "#b279a2",
    "feature": "#4c78a8",
    "set": "#54a24b",
    "difference of means": "#e08a3c",
    RANDOM: "#bab0ac",
    RANDOM_SET: "#d8d0c8",
}


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.steering.study.steer_task``."""
    curve: pd.DataFrame = result.table("curve").to_pandas()
    curve = curve.assign(
        share=curve["success"] / curve["prompts"],
        features=curve["features"].map(lambda names: ", ".join(names)),
    )
    shown = [name for name in _COLOURS if (curve["arm"] == name).any()]
    colour = alt.Color(
        "arm:N",
        scale=alt.Scale(domain=shown, range=[_COLOURS[name] for name in shown]),
        legend=alt.Legend(orient="bottom", title=None, columns=3),
    )
    controls = curve["arm"].isin([RANDOM, RANDOM_SET])
    panels = []
    for column, label in (
        ("share", "test prompts that succeed"),
        ("logprob", "log-probability of the targets (nats)"),
    ):
        base = alt.Chart(width=_WIDTH, height=_HEIGHT).encode(
            x=alt.X("kl:Q", title="KL on neutral text (nats per token)"),
            y=alt.Y(
                f"{column}:Q",
                title=label,
                scale=alt.Scale(domain=[0, 1]) if column == "share" else alt.Scale(zero=False),
                axis=alt.Axis(format="%") if column == "share" else alt.Axis(),
            ),
            color=colour,
            detail="number:N",
            tooltip=[
                "arm:N",
                "features:N",
                "strength:Q",
                alt.Tooltip("success:Q"),
                alt.Tooltip("logprob:Q", format=".3f"),
                alt.Tooltip("kl:Q", format=".3g"),
                alt.Tooltip("loss:Q", format=".3g"),
            ],
        )
        # The controls are many, and are drawn below the arms that they are controls of.
        panels.append(
            alt.layer(
                *(
                    layer
                    for which, size in ((controls, 20), (~controls, 50))
                    for layer in _arms(base, curve[which], size=size)
                )
            )
        )
    title = heading(
        f"Steering of {result['sae']}: {result['task']}",
        f"n = {result['prompts']} test prompts; each line is an arm, each point a strength of equal norm",
    )
    return finished(alt.hconcat(*panels).properties(title=title))


def _arms(base: alt.Chart, rows: pd.DataFrame, *, size: int) -> list[alt.Chart]:
    """Return the lines and points of some arms; none if there are no rows."""
    if rows.empty:
        return []
    own = base.properties(data=rows)
    return [
        own.mark_line(strokeWidth=1.2).encode(order="strength:Q"),
        own.mark_point(filled=True, size=size, opacity=1),
    ]
