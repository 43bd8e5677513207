"""The plot of interpretability: detection scores of descriptions, with those of other features."""

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_WIDTH, _HEIGHT = 420, 240
_COLOURS = {"its own description": "#4c78a8", "that of another feature": "#bab0ac"}
_BINS = np.linspace(0, 1, 41)


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.interpretability.study.measure_interpretability``.

    Raises
    ------
    BadInput
        If no feature has a detection score.
    """
    if not result["features"]:
        raise BadInput(
            f"No feature of {result['sae']} has a detection score, so there is nothing to plot. "
            "Ingest a longer text, or pass a smaller `min_active`."
        )
    table = result.table("marks").to_pandas()
    names = dict(zip(_COLOURS, ("detection", "detection_control"), strict=True))
    rows = []
    for label, name in names.items():
        counts, _ = np.histogram(table[name].dropna(), _BINS)
        rows += [
            {"label": label, "low": low, "high": high, "features": int(count)}
            for low, high, count in zip(_BINS[:-1], _BINS[1:], counts, strict=True)
            if count
        ]
    scale = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    chart = (
        alt.Chart(pd.DataFrame(rows), width=_WIDTH, height=_HEIGHT)
        .mark_bar(opacity=0.7)
        .encode(
            x=alt.X("low:Q", title="balanced accuracy on other documents", bin="binned"),
            x2="high:Q",
            y=alt.Y("features:Q", title="features", stack=None),
            color=alt.Color(
                "label:N", scale=scale, legend=alt.Legend(orient="bottom", title="detected by")
            ),
            tooltip=["label:N", "low:Q", "high:Q", "features:Q"],
        )
    )
    title = heading(
        f"Detection by top token ids, {result['sae']}", f"n = {result['features']:,} features"
    )
    return finished(chart.properties(title=title))
