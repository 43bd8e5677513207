"""The plot of chains over three widths: families of features, with lines from parents to children."""

from typing import Any

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.splitting.chains import chains, results_of_three
from analysis.splitting.plots import COLOURS
from analysis.splitting.study import edges_of
from atlas.errors import BadInput
from atlas.studies.results import Result, Results

__all__ = ["draw_chains"]

_WIDTH, _STEP = 780, 10

# More families make the page too long to read.
_MOST_FAMILIES = 25

_EDGE = ["source", "target", "decoder_cosine", "parent_given_child", "child_given_parent"]


def draw_chains(results: Results) -> Chart:
    """Plot the families of features over three widths.

    The SAEs are columns. A family is a feature of the narrowest SAE with its children and their
    children, next to each other; those with the most grandchildren come first. A feature with parents
    in several families is drawn in the first. Hovering over a feature or a line shows its family only.

    Parameters
    ----------
    results
        Results of ``analysis.splitting.study.find_splits`` for three SAEs.

    Raises
    ------
    BadInput
        If the results are not of three SAEs, or no feature is in a chain.
    """
    three, table = results_of_three(results), chains(results)
    if three is None:
        raise BadInput("A plot of chains needs the results of three SAEs; name three.")
    names = [three[0]["narrow"], three[0]["wide"], three[1]["wide"]]
    if table.empty:
        raise BadInput(
            f"No chain joins {', '.join(names)}, so there is nothing to plot; more text may find edges."
        )
    number = table.groupby("narrow")["wide"].nunique().sort_values(ascending=False, kind="stable")
    shown = table[table["narrow"].isin(number.index[:_MOST_FAMILIES])]
    points = _points(shown, number, names, three)
    lines = _lines(shown, points, three)
    several = int((number > 1).sum())
    title = heading(
        "Families of features over three SAEs",
        f"n = {len(table):,} chains from {len(number):,} features, of which {several:,} have two or more "
        "grandchildren",
        f"shown: {min(len(number), _MOST_FAMILIES)} with the most; the position in a column has no other meaning",
    )
    return finished(_chart(points, lines, names).properties(title=title))


def _points(
    table: pd.DataFrame, number: pd.Series, names: list[str], three: tuple[Result, Result, Result]
) -> pd.DataFrame:
    """Return a row for each feature, with its column, its row and the first family that it is in."""
    order = table.assign(rank=table["narrow"].map({n: i for i, n in enumerate(number.index)}))
    order = order.sort_values(["rank", "middle", "wide"], kind="stable")
    wide = order.drop_duplicates("wide").assign(row=lambda t: range(len(t)))
    rows = dict(zip(wide["wide"], wide["row"].astype(float), strict=True))
    parts = [wide[["narrow", "wide", "row"]].set_axis(["family", "feature", "row"], axis=1)]
    placed = order.assign(row=order["wide"].map(rows))
    for name in ("middle", "narrow"):
        first = order.drop_duplicates(name).set_index(name, drop=False)["narrow"].rename("family")
        own = placed[placed["narrow"] == placed[name].map(first)]
        mean = own.groupby(name)["row"].mean().to_frame().join(first)
        parts.append(mean.rename_axis("feature").reset_index())
    sides = [
        three[0].to_pandas("narrow").assign(sae=names[0]),
        three[1].to_pandas("narrow").assign(sae=names[1]),
        three[1].to_pandas("wide").assign(sae=names[2]),
    ]
    known = pd.concat(sides)[["feature", "class", "active_tokens", "sae"]].set_index("feature")
    return pd.concat(parts, ignore_index=True).join(known, on="feature")


def _lines(
    table: pd.DataFrame, points: pd.DataFrame, three: tuple[Result, Result, Result]
) -> pd.DataFrame:
    """Return a row for each family and edge, with the columns and rows of its ends."""
    steps = []
    for ends, result in ((("narrow", "middle"), three[0]), (("middle", "wide"), three[1])):
        own = pd.DataFrame(
            {"family": table["narrow"], "source": table[ends[0]], "target": table[ends[1]]}
        )
        edges = edges_of(result).select(_EDGE).to_pandas()
        steps.append(own.drop_duplicates().merge(edges, on=["source", "target"]))
    rows = points.set_index("feature")[["sae", "row"]]
    lines = pd.concat(steps, ignore_index=True).join(rows, on="source")
    return lines.join(rows.add_suffix("2"), on="target")


def _chart(points: pd.DataFrame, lines: pd.DataFrame, names: list[str]) -> Any:
    hover = alt.selection_point(
        name="family", fields=["family"], on="pointerover", clear="pointerout", empty=True
    )
    column = alt.Scale(type="point", domain=names, padding=0.2)
    x = alt.X(
        "sae:N",
        title=None,
        scale=column,
        axis=alt.Axis(orient="top", labelAngle=0, labelLimit=255, grid=False),
    )
    y = alt.Y("row:Q", axis=None, scale=alt.Scale(reverse=True, zero=False))
    present = [name for name in COLOURS if name in set(points["class"])]
    scale = alt.Scale(domain=present, range=[COLOURS[name] for name in present])
    rules = (
        alt.Chart(lines)
        .mark_rule(strokeWidth=1.4, color="#555555")
        .encode(
            x=x,
            y=y,
            x2="sae2:N",
            y2="row2:Q",
            opacity=alt.condition(hover, alt.value(0.55), alt.value(0.05)),
            tooltip=[
                "source:N",
                "target:N",
                *(alt.Tooltip(f"{name}:Q", format=".3f") for name in _EDGE[2:]),
            ],
        )
        .add_params(hover)
    )
    marks = (
        alt.Chart(points)
        .mark_circle(size=70, stroke="white", strokeWidth=0.7)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "class:N", title="class, compared with the next SAE", scale=scale,
                legend=alt.Legend(orient="bottom", titleLimit=400),
            ),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.1)),
            tooltip=["feature:N", "family:N", "class:N", "active_tokens:Q"],
        )
    )  # fmt: skip
    height = max(120, _STEP * int((points["sae"] == names[2]).sum()))
    return alt.layer(rules, marks).properties(width=_WIDTH, height=height)
