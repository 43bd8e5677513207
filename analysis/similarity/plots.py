"""Plots of similarity: the measures of one pair with their nulls, and heatmaps of many pairs."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from analysis.plot_style import Chart, finished, heading, significant
from analysis.similarity.comparison import FULL
from analysis.similarity.grid import grid, sites_of
from analysis.similarity.measures import MEASURES
from atlas.api import Atlas
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw", "draw_heatmaps"]

_CELL = 24
#: What a heatmap shows, by column of the grid.
_PARTS = {"value": "value", "null": "null", "excess": "value minus null"}
_COLOURS = {"value": "#4c78a8", "null, mean and 95% range": "#aaaaaa"}
_LABELS = {
    "svcca": "SVCCA",
    "cca": "CCA",
    "cka": "linear CKA",
    "procrustes": "Procrustes",
    "rsa": "RSA",
    "knn_jaccard": "kNN-Jaccard",
    "mutual_nearest": "mutual nearest",
}
_SIGNIFICANT = 0.05


def draw(result: Result) -> Chart:
    """Plot the measures of one pair with their nulls, a panel for each space.

    Parameters
    ----------
    result
        A result of ``analysis.similarity.study.compare_spaces``.

    Raises
    ------
    BadInput
        If no measure is defined.
    """
    rows = [r for r in result.table("rows").to_pylist() if r["value"] is not None and r["p"]]
    full = [r for r in rows if r["subset"] == FULL or r["space"].startswith("model")]
    if not full:
        raise BadInput(
            f"{result['a']} and {result['b']} have too few pairs for any measure, so there is nothing to plot."
        )
    value, null = _COLOURS
    frame = pd.DataFrame(full).assign(
        label=[_LABELS[r["measure"]] for r in full], value_colour=value, null_colour=null
    )
    scale = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    legend = alt.Legend(orient="bottom", title=None)
    y = alt.Y("label:N", sort=[_LABELS[m] for m in MEASURES], title=None)
    panels = []
    for space in dict.fromkeys(frame["space"]):
        own = frame[frame["space"] == space]
        base = alt.Chart(own, width=260, height=22 * own["label"].nunique())
        x = alt.X("value:Q", title="similarity")
        tips = [
            "measure:N",
            "points:N",
            "pairs:Q",
            *(
                alt.Tooltip(f"{n}:Q", format=".3~g")
                for n in ("value", "null", "p", "frequency_null", "frequency_p")
            ),
        ]
        panels.append(
            alt.layer(
                base.mark_bar(size=8).encode(
                    y=y,
                    x=alt.X("null_low:Q", title="similarity"),
                    x2="null_high:Q",
                    color=alt.Color("null_colour:N", scale=scale, legend=legend),
                ),
                base.mark_tick(size=16, thickness=2).encode(
                    y=y, x="null:Q", color=alt.Color("null_colour:N", scale=scale, legend=legend)
                ),
                base.mark_point(filled=True, size=70, opacity=1).encode(
                    y=y,
                    x=x,
                    color=alt.Color("value_colour:N", scale=scale, legend=legend),
                    tooltip=tips,
                ),
            ).properties(title=heading(space, f"{int(own['pairs'].max()):,} pairs"))
        )
    title = heading(
        f"Similarity of {result['a']} and {result['b']}",
        f"one-to-one matches, {result['tokens']:,} tokens",
        "null: pairings are shuffled; of activations, SVCCA to Procrustes: documents are shifted",
    )
    return finished(alt.hconcat(*panels, title=title))


def draw_heatmaps(results: Sequence[Result], *, measures: Sequence[str] = MEASURES) -> Chart:
    """Plot how far each measure exceeds its null, SAEs by SAEs, in the order of layers.

    Rows are the SAEs of the model whose name sorts first. Within one model, both halves of
    the heatmap are drawn. For one measure, its value and the null are drawn too.

    Parameters
    ----------
    results
        Results of one atlas.
    measures
        Measures to plot; undefined ones are dropped.

    Raises
    ------
    BadInput
        If no measure is defined.
    """
    rows = [row for row in grid(results) if row["measure"] in measures]
    if not rows:
        raise BadInput("No pair has enough matches for any measure, so there is nothing to plot.")
    with Atlas.open(str(results[0].atlas)) as atlas:
        names = {name for row in rows for name in (row["a"], row["b"])}
        saes = [row for row in atlas.table("SAE").to_pylist() if row["name"] in names]
    order = sites_of(saes)
    ordered = sorted(order, key=lambda name: order[name])
    cells = []
    for row in rows:
        a, b = sorted((row["a"], row["b"]), key=lambda name: order[name])
        cells.append({**row, "a": a, "b": b})
        if order[a][0] == order[b][0]:
            cells.append({**row, "a": b, "b": a})
    frame = pd.DataFrame(cells)
    columns = list(_PARTS) if frame["measure"].nunique() == 1 else ["excess"]
    values = frame[columns]
    scale = alt.Scale(
        scheme="viridis", domain=[float(min(0, values.min().min())), float(values.max().max())]
    )
    spaces = []
    for space in dict.fromkeys(frame["space"]):
        own = frame[frame["space"] == space]
        shown = [name for name in measures if name in set(own["measure"])]
        panels = [
            _heatmap(own[own["measure"] == name], column, ordered, scale)
            for name in shown
            for column in columns
        ]
        spaces.append(alt.concat(*panels, columns=3).properties(title=space))
    what = "Similarity of SAEs" if len(columns) > 1 else "Similarity of SAEs above the null"
    pairs = frame["pairs"]
    title = heading(
        what,
        f"{len(results):,} pairs of SAEs with {pairs.min():,} to {pairs.max():,} matches; "
        f"a dot marks q ≤ {_SIGNIFICANT} over all pairs; cells without colour were not compared",
    )
    return finished(alt.vconcat(*spaces, title=title))


def _heatmap(own: pd.DataFrame, column: str, ordered: Sequence[str], scale: alt.Scale) -> Chart:
    """Return the heatmap of one measure; all heatmaps share a scale and its legend."""
    rows = [name for name in ordered if name in set(own["a"])]
    columns = [name for name in ordered if name in set(own["b"])]
    base = alt.Chart(own, width=_CELL * len(columns), height=_CELL * len(rows)).encode(
        x=alt.X("b:N", sort=columns, title=None, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("a:N", sort=rows, title=None),
    )
    tips = [
        "a:N",
        "b:N",
        "pairs:Q",
        *(alt.Tooltip(f"{n}:Q", format=".3~g") for n in ("value", "null", "excess", "p", "q")),
    ]
    legend = alt.Legend(orient="top", gradientLength=200, titleLimit=420)
    name = _PARTS["excess"] if column == "excess" else "similarity"
    layers: list[alt.Chart] = [
        base.mark_rect().encode(
            color=alt.Color(f"{column}:Q", scale=scale, title=name, legend=legend), tooltip=tips
        )
    ]
    if column == "excess":
        layers.append(significant(base, "q"))
    label = _LABELS[own["measure"].iloc[0]]
    return alt.layer(*layers).properties(
        title=label if column == "excess" else f"{label}, {_PARTS[column]}"
    )
