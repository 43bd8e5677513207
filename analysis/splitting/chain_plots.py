"""The plot of chains over three widths: one map of the three SAEs, with lines from parents to children."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.splitting.chains import chains, results_of_three
from analysis.splitting.study import edges_of
from atlas.errors import BadInput
from atlas.studies.results import Result, Results

__all__ = ["draw_chains", "one_map"]

_WIDTH, _HEIGHT = 720, 560
_COLOURS = ("#1b6ca8", "#e07b00", "#3a9a5b")
_SHAPES = ("square", "diamond", "circle")
_SIZES = (90, 60, 26)

# More families hide each other.
_MOST_FAMILIES = 60


def draw_chains(results: Results) -> Chart:
    """Plot the chains of a result over three SAEs.

    The features of all three SAEs are points. Lines join parents and children of the families with
    the most grandchildren. Hovering over a feature or a line shows its family only.

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
    if table.empty:
        names = ", ".join((three[0]["narrow"], three[0]["wide"], three[1]["wide"]))
        raise BadInput(
            f"No chain joins {names}, so there is nothing to plot; more text may find edges."
        )
    points, fit = one_map(three)
    grandchildren = table.groupby("narrow")["wide"].nunique()
    least = min(2, int(grandchildren.max()))
    several = grandchildren[grandchildren >= least].sort_values(ascending=False, kind="stable")
    families = list(several.index[:_MOST_FAMILIES])
    lines = _lines(table[table["narrow"].isin(families)], points, three)
    points["family"] = _families(points, lines)
    title = heading(
        f"Families over three widths: {', '.join(_names(three))}",
        f"{len(families):,} of {len(several):,} features with {least} or more grandchildren, and "
        f"{len(lines):,} lines to children; {len(table):,} chains in all",
        "principal components of the narrowest and the widest SAE "
        f"({three[2]['map_variance']:.1%} of the variance: distances are rough);",
        f"the middle SAE is fitted to them by the widest SAE's features (R² {fit:.3f})",
    )
    return finished(_chart(points, lines, _names(three)).properties(title=title))


def one_map(three: tuple[Result, Result, Result]) -> tuple[pd.DataFrame, float]:
    """Return the tested features of three SAEs in one plane, and the fit of the middle SAE.

    Narrow and wide features have the coordinates of their own pair. Coordinates of the middle and the
    wide SAE are those of other principal components; the affine map that moves the wide features to
    their coordinates of the first pair also moves the middle ones.

    Parameters
    ----------
    three
        Results of (narrow, middle), (middle, wide) and (narrow, wide).

    Returns
    -------
    points
        ``feature``, ``class``, ``active_tokens``, ``x``, ``y`` and ``sae``.
    fit
        R² of the wide features' coordinates.
    """
    first, second, direct = three
    target = direct.to_pandas("wide")[["x", "y"]].to_numpy()
    source = second.to_pandas("wide")[["x", "y"]].to_numpy()
    design = np.column_stack([source, np.ones(len(source))])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    spread = float(((target - target.mean(axis=0)) ** 2).sum())
    fit = 1 - float(((target - design @ weights) ** 2).sum()) / spread if spread else 1.0
    middle = second.to_pandas("narrow")
    moved = np.column_stack([middle[["x", "y"]].to_numpy(), np.ones(len(middle))]) @ weights
    parts = [
        direct.to_pandas("narrow").assign(sae=first["narrow"]),
        middle.assign(sae=first["wide"], x=moved[:, 0], y=moved[:, 1]),
        direct.to_pandas("wide").assign(sae=second["wide"]),
    ]
    points = pd.concat(parts, ignore_index=True)
    columns = ["feature", "class", "active_tokens", "x", "y", "sae"]
    return points.loc[points["class"] != "untested", columns].reset_index(drop=True), fit


def _names(three: tuple[Result, Result, Result]) -> list[str]:
    return [three[0]["narrow"], three[0]["wide"], three[1]["wide"]]


def _lines(
    table: pd.DataFrame, points: pd.DataFrame, three: tuple[Result, Result, Result]
) -> pd.DataFrame:
    """Return a row for each family and edge, with the ends' coordinates."""
    columns = ["source", "target", "decoder_cosine", "parent_given_child"]
    steps = []
    for ends, result in ((("narrow", "middle"), three[0]), (("middle", "wide"), three[1])):
        own = table[["narrow", *ends]].loc[:, lambda t: ~t.columns.duplicated()]
        own = own.assign(source=own[ends[0]], target=own[ends[1]])[["narrow", "source", "target"]]
        edges = edges_of(result).select(columns).to_pandas()
        steps.append(own.drop_duplicates().merge(edges, on=["source", "target"]))
    lines = pd.concat(steps, ignore_index=True).rename(columns={"narrow": "family"})
    places = points.set_index("feature")[["x", "y"]]
    lines = lines.join(places, on="source").join(places.add_suffix("2"), on="target")
    return lines.dropna(subset=["x", "x2"]).reset_index(drop=True)


def _families(points: pd.DataFrame, lines: pd.DataFrame) -> pd.Series:
    """Return the family of each point: its first, if it is in several, and none if it is in none."""
    ends = pd.concat(
        [lines[["family", "source"]].set_axis(["family", "feature"], axis=1),
         lines[["family", "target"]].set_axis(["family", "feature"], axis=1)]
    )  # fmt: skip
    own = ends.drop_duplicates("feature").set_index("feature")["family"]
    return points["feature"].map(own).fillna("none")


def _chart(points: pd.DataFrame, lines: pd.DataFrame, names: list[str]) -> Any:
    hover = alt.selection_point(
        name="family", fields=["family"], on="pointerover", clear="pointerout", empty=True
    )
    axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    x = alt.X("x:Q", title="first component", axis=axis, scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="second component", axis=axis, scale=alt.Scale(zero=False))
    base = alt.Chart(points)
    others = (
        base.transform_filter("datum.family == 'none'")
        .mark_point(filled=True, size=9, color="#bbbbbb", opacity=0.5)
        .encode(x=x, y=y, tooltip=["feature:N", "class:N", "active_tokens:Q"])
    )
    marks = (
        base.transform_filter("datum.family != 'none'")
        .mark_point(filled=True, stroke="white", strokeWidth=0.5)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "sae:N", title="SAE", sort=names, scale=alt.Scale(domain=names, range=_COLOURS)
            ),
            shape=alt.Shape("sae:N", sort=names, scale=alt.Scale(domain=names, range=_SHAPES)),
            size=alt.Size(
                "sae:N", sort=names, legend=None, scale=alt.Scale(domain=names, range=_SIZES)
            ),
            opacity=alt.condition(hover, alt.value(0.95), alt.value(0.06)),
            tooltip=["feature:N", "family:N", "class:N", "active_tokens:Q"],
        )
    )
    rules = (
        alt.Chart(lines)
        .mark_rule(strokeWidth=1.2, color="#555555")
        .encode(
            x=x,
            y=y,
            x2="x2:Q",
            y2="y2:Q",
            opacity=alt.condition(hover, alt.value(0.5), alt.value(0.03)),
            tooltip=[
                "source:N",
                "target:N",
                alt.Tooltip("decoder_cosine:Q", format=".3f"),
                alt.Tooltip("parent_given_child:Q", format=".3f"),
            ],
        )
        .add_params(hover)
    )
    layers = [others, rules, marks] if len(lines) else [others]
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)
