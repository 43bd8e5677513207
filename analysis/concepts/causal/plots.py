"""Plot of the causal check: what probes of a concept lose without its best features, over their number."""

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_COLOURS = {
    "best features of the concept": "#4c78a8",
    "random features": "#b0b0b0",
    "random directions of equal norm": "#54a24b",
    "best features: other concepts": "#e08a3c",
    "best features: most affected other concept": "#ba9a00",
}


def draw(result: Result) -> Chart:
    """Plot the fall of the AUROC over the number of ablated features, a panel for each concept.

    Raises
    ------
    BadInput
        If no feature was ablated.
    """
    rows = result.table("summary").to_pylist()
    frame = pd.DataFrame([point for row in rows for point in _points(row)])
    if frame.empty:
        raise BadInput(
            f"No feature of {result['sae']} was ablated for {result['words']}; there is nothing to plot."
        )
    names = list(_COLOURS)
    colour = alt.Color(
        "of:N",
        scale=alt.Scale(domain=names, range=list(_COLOURS.values())),
        legend=alt.Legend(orient="bottom", title="ablated", columns=1, labelLimit=300),
    )
    base = alt.Chart(frame, width=260, height=200)
    x = alt.X("k:O", title="ablated features", axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("of:N", sort=names)
    title = "fall of the held-out AUROC"
    rules = base.mark_rule(opacity=0.6, strokeWidth=2).encode(
        x=x,
        xOffset=offset,
        y=alt.Y("low:Q", title=title),
        y2="high:Q",
        color=colour,
    )
    points = base.mark_point(size=60, filled=True, opacity=1).encode(
        x=x,
        xOffset=offset,
        y=alt.Y("fall:Q", title=title),
        color=colour,
        tooltip=["concept:N", "k:O", "of:N", "name:N", alt.Tooltip("fall:Q", format=".3f")],
    )
    zero = base.mark_rule(color="#999999", strokeDash=[4, 3]).encode(y=alt.datum(0))
    facets = alt.layer(zero, rules, points).facet(
        facet=alt.Facet("concept:N", title=None), columns=3
    )
    return finished(
        facets.properties(
            title=heading(
                f"Ablation of concepts in {result['sae']}",
                f"n = {rows[0]['words_tokens']:,} tokens of labelled words; {rows[0]['sets']:,} sets of random features, "
                f"{rows[0]['direction_sets']:,} of random directions",
                f"probes at {result['site']}; line: 95% interval",
            )
        )
    )


def _points(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for of, name, limits in (
        ("best features of the concept", "fall", True),
        ("random features", "random_fall", False),
        ("random directions of equal norm", "direction_fall", False),
        ("best features: other concepts", "others_fall", False),
        ("best features: most affected other concept", "most_affected_fall", False),
    ):
        if row[name] is not None:
            yield {
                "concept": row["concept"],
                "k": row["k"],
                "of": of,
                "name": row["most_affected"] if name == "most_affected_fall" else None,
                "fall": row[name],
                "low": row["fall_low"] if limits else None,
                "high": row["fall_high"] if limits else None,
            }
