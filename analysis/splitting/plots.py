"""The plots of splitting: the share of each class, or a joint map of both SAEs with lines for edges."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.splitting.hierarchy import CHILD_CLASSES, PARENT_CLASSES
from analysis.splitting.study import edges_of
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["COLOURS", "Kind", "draw", "draw_pair"]

Kind: TypeAlias = Literal["classes", "map"]

_MAP, _BARS = 560, 420
COLOURS = {
    "same": "#4c78a8",
    "split": "#e08a3c",
    "absorbed": "#e45756",
    "absorbing": "#e45756",
    "partial": "#b279a2",
    "lost": "#bbbbbb",
    "new": "#54a24b",
    "untested": "#eeeeee",
}

#: Classes of features without a relative: they are drawn faint, below the others.
_ALONE = ("lost", "new")

# More lines hide the points.
_MOST_LINES = 2000


def draw_pair(results: Sequence[Result], *, kind: Kind = "classes") -> Chart:
    """Plot the first pair, with the shares of its baseline if it was computed.

    Parameters
    ----------
    results
        The results of ``analysis.splitting.study.find_splits``.
    kind
        See ``draw``.
    """
    first = next((one for one in results if not one["equal_width"]), results[0])
    same = (one for one in results if one is not first and one["narrow"] == first["narrow"])
    return draw(first, kind=kind, baseline=next((one for one in same if one["equal_width"]), None))


def draw(result: Result, *, kind: Kind = "classes", baseline: Result | None = None) -> Chart:
    """Plot a result of ``analysis.splitting.study.find_splits``.

    Parameters
    ----------
    result
        The result.
    kind
        ``"classes"``: the share of each class among the features of either SAE. ``"map"``: the
        decoder directions of both on two principal components, with lines from parents to
        children.
    baseline
        The result of the narrow SAE and an SAE of equal width, whose shares are drawn as ticks next
        to the bars of the classes.

    Raises
    ------
    BadInput
        If no feature is active on enough tokens to be tested.
    """
    points = pd.concat(
        [result.to_pandas(side).assign(side=result[side]) for side in ("narrow", "wide")]
    )
    points = points[points["class"] != "untested"]
    if points.empty:
        raise BadInput(
            f"No feature of {result['narrow']} and {result['wide']} is active on enough tokens, so there is "
            "nothing to plot. Ingest more text, or lower `min_joint`."
        )
    what = "equal width" if result["equal_width"] else "narrow and wide"
    counted = (
        f"{result['narrow']} and {result['wide']}, {what}; n = {len(points):,} tested features"
    )
    chart = (
        _joint_map(result, points, counted)
        if kind == "map"
        else _classes(result, baseline, counted)
    )
    return finished(chart)


def _joint_map(result: Result, points: pd.DataFrame, counted: str) -> Any:
    edges = edges_of(result).to_pandas()
    shown = edges[edges["parent_class"] != "same"].nsmallest(_MOST_LINES, "q")
    positions = points.set_index("feature")[["x", "y"]]
    lines = shown.join(positions, on="source").join(positions.add_suffix("2"), on="target")
    present = [name for name in COLOURS if name in set(points["class"])]
    scale = alt.Scale(domain=present, range=[COLOURS[name] for name in present])
    sides = [result["narrow"], result["wide"]]
    axis = alt.Axis(labels=False, ticks=False, grid=False)
    marks = (
        alt.Chart(points.sort_values("class", key=lambda name: ~name.isin(_ALONE)))
        .mark_point(filled=True)
        .encode(
            opacity=alt.condition(
                f"indexof({list(_ALONE)}, datum.class) >= 0", alt.value(0.3), alt.value(0.85)
            ),
            x=alt.X("x:Q", title="first principal component", axis=axis),
            y=alt.Y("y:Q", title="second principal component", axis=axis),
            color=alt.Color(
                "class:N", scale=scale, title="class", legend=alt.Legend(orient="bottom")
            ),
            shape=alt.Shape(
                "side:N",
                title="SAE",
                sort=sides,
                legend=alt.Legend(orient="bottom"),
                scale=alt.Scale(domain=sides, range=["square", "circle"]),
            ),
            size=alt.Size(
                "side:N", legend=None, sort=sides, scale=alt.Scale(domain=sides, range=[70, 28])
            ),
            tooltip=["feature:N", "class:N", "active_tokens:Q"],
        )
    )
    rules = (
        alt.Chart(lines)
        .mark_rule(opacity=0.45, strokeWidth=1)
        .encode(
            x="x:Q",
            y="y:Q",
            x2="x2:Q",
            y2="y2:Q",
            color=alt.Color(
                "parent_class:N", scale=scale, title="class", legend=alt.Legend(orient="bottom")
            ),
            tooltip=[
                "source:N",
                "target:N",
                alt.Tooltip("decoder_cosine:Q", format=".3f"),
                alt.Tooltip("parent_given_child:Q", format=".3f"),
                alt.Tooltip("child_given_parent:Q", format=".3f"),
                alt.Tooltip("q:Q", format=".2g"),
            ],
        )
    )
    total = int((edges["parent_class"] != "same").sum())
    # Vega warns of a layer without rows.
    layers = [rules, marks] if len(lines) else [marks]
    return alt.layer(*layers).properties(
        width=_MAP,
        height=_MAP,
        title=heading(
            "Splitting: map of decoder directions",
            counted,
            f"line: a parent and its child; {len(lines):,} of {total:,} edges of parents that are not the same",
            f"the two components have {result['map_variance']:.1%} of the variance: distances are rough",
        ),
    )


def _classes(result: Result, baseline: Result | None, counted: str) -> Any:
    table = _shares(result)
    order = list(dict.fromkeys([*PARENT_CLASSES, *CHILD_CLASSES]))
    name = "Splitting: classes of features"
    title = heading(name, counted)
    if baseline is not None:
        own = _shares(baseline).set_index(["side", "class"])["share"]
        keys = pd.MultiIndex.from_frame(table[["side", "class"]])
        table = table.assign(baseline=own.reindex(keys).to_numpy())
        title = heading(
            name,
            counted,
            f"tick: the share for {baseline['narrow']} and {baseline['wide']}, two SAEs of equal width",
        )
    table["sae"] = table["side"].map({s: result[s] for s in ("narrow", "wide")})
    base = alt.Chart(table)
    bars = base.mark_bar().encode(
        x=alt.X("share:Q", title="share of tested features", axis=alt.Axis(format="%")),
        y=alt.Y("class:N", sort=order, title=None),
        color=alt.Color(
            "class:N",
            legend=None,
            scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        ),
        tooltip=["sae:N", "class:N", "features:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    layers = [bars]
    if baseline is not None:
        layers.append(
            base.mark_tick(color="black", thickness=2, size=16).encode(
                x="baseline:Q",
                y=alt.Y("class:N", sort=order, title=None),
                tooltip=["class:N", alt.Tooltip("baseline:Q", format=".1%")],
            )
        )
    panels = alt.layer(*layers).properties(width=_BARS, height=alt.Step(20))
    row = alt.Row("sae:N", title=None, sort=[result["narrow"], result["wide"]])
    return panels.facet(row=row, title=title).resolve_scale(y="independent")


def _shares(result: Result) -> pd.DataFrame:
    """Return the share of each class among the tested features of each side."""
    table = result.to_pandas("classes")
    return table[(table["class"] != "untested") & table["share"].notna()].copy()
