"""The plot of a map between sites: explained variance, next to that of the means of token ids."""

from typing import Any

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_COLOURS = {"held out by document": "#4c78a8", "in sample": "#bab0ac"}


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.transcoder.study.map_sites``.

    Raises
    ------
    BadInput
        If no dimension of the target varies, or source and target are the same site.
    """
    data = pd.DataFrame([row for row in _rows(result) if row["r2"] is not None])
    target = result["target"].rpartition("/")[2]
    pair = f"{result['source']} → {target}"
    if not len(data) or result["source"] == result["target"]:
        reason = (
            "source and target are the same site"
            if result["source"] == result["target"]
            else "no dimension of the target varies"
        )
        raise BadInput(f"{pair} cannot be plotted: {reason}. Select another target.")
    low = min(0.0, float(data[["r2", "low"]].astype(float).min().min()))
    scale = alt.Scale(domain=[low, 1], nice=False)
    held_out, in_sample = _COLOURS
    y = alt.Y("predictor:N", sort=list(dict.fromkeys(data["predictor"])), title=None)
    shift = alt.YOffset("text:N", sort=[held_out, in_sample])
    colour = alt.Color(
        "text:N",
        title=None,
        sort=[held_out, in_sample],
        legend=alt.Legend(orient="bottom"),
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
    )
    tip = [
        "predictor:N",
        "text:N",
        *(alt.Tooltip(f"{n}:Q", format=".4f") for n in ("r2", "low", "high")),
    ]
    base = alt.Chart(data, width=420, height=alt.Step(20))
    title = heading(
        f"Explained variance of {target}",
        f"predicted from {result['source']}",
        f"n = {result['tokens']:,} tokens, {result['folds']} folds of documents; {result['method']}",
        "line: 95% interval over documents, with the map and the means fixed",
    )
    return finished(
        alt.layer(
            base.mark_rule(strokeWidth=2).encode(
                x=alt.X(
                    "low:Q", scale=scale, title="share of variance explained (R², all dimensions)"
                ),
                x2="high:Q",
                y=y,
                yOffset=shift,
                color=colour,
            ),
            base.mark_point(filled=True, size=60, opacity=1).encode(
                x=alt.X("r2:Q", scale=scale), y=y, yOffset=shift, color=colour, tooltip=tip
            ),
        ).properties(title=title)
    )


def _rows(edge: Result) -> list[dict[str, Any]]:
    """Return a row for each predictor, held out and in sample."""
    held_out, in_sample = _COLOURS
    rows = []
    for predictor, prefix, inside in (
        ("affine map", "", "r2_in_sample_weighted"),
        ("means of token ids", "token_", "token_eta2_weighted"),
    ):
        row = {"predictor": predictor, "text": held_out, "r2": edge[f"{prefix}r2_weighted"]}
        row |= {end: edge[f"{prefix}r2_{end}"] for end in ("low", "high")}
        rows += [
            row,
            {
                "predictor": predictor,
                "text": in_sample,
                "r2": edge[inside],
                "low": None,
                "high": None,
            },
        ]
    return rows
