"""Plots of graph comparisons: degree, clustering, conserved edges and communities."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from analysis.graph_comparison.comparison import Comparison, Row
from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw", "draw_communities", "draw_comparisons", "draw_conserved", "draw_distribution"]

_WIDTH, _HEIGHT = 300, 210
_A, _B, _NULL, _OWN, _CHANCE = "#4c78a8", "#e45756", "#bbbbbb", "#54a24b", "#888888"


def draw_comparisons(found: Sequence[Comparison]) -> Chart:
    """Plot comparisons, with one row of plots per pair.

    Parameters
    ----------
    found
        The comparisons.

    Raises
    ------
    BadInput
        If there is no comparison.
    """
    if not found:
        raise BadInput("No comparison to plot; run `atlas compare-graphs` first.")
    rows: list[Chart] = []
    for one in found:
        charts = [draw_distribution(one, what="degree"), draw_distribution(one, what="clustering")]
        if any(row.kind == "conserved" for row in one.rows):
            charts.append(draw_conserved(one))
        if any(row.kind == "communities" and row.value is not None for row in one.rows):
            charts.append(draw_communities(one))
        title = heading(f"Co-activation graphs of {one.a} and {one.b}", f"{one.tokens:,} tokens")
        rows.append(_concatenated(alt.hconcat(*charts).properties(title=title)))
    if len(rows) == 1:
        return rows[0]
    return _concatenated(alt.vconcat(*rows))


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.graph_comparison.study.compare_graphs``.

    Raises
    ------
    BadInput
        If the result has no distribution.
    """
    one = Comparison.read(result["a"], result["b"], result.table)
    if not one.curves.num_rows:
        raise BadInput(
            f"The comparison of {one.a} and {one.b} has no distribution, so there is nothing to plot. "
            f"`atlas compare-graphs {one.a} {one.b} --replace` computes it."
        )
    return finished(draw_comparisons([one]))


def draw_distribution(one: Comparison, *, what: str) -> Chart:
    """Plot the distribution functions of both graphs and of bipartite null graphs.

    A distribution function needs no bins, and its height at 0 is the share of features at 0. The
    largest gap between two functions is the Kolmogorov-Smirnov statistic.

    Parameters
    ----------
    one
        The comparison.
    what
        ``"degree"``, on a symmetric log axis that is linear up to 1, or ``"clustering"``.
    """
    curves = one.curves.to_pandas()
    frames, names, colours, dashes, zeros = [], [], [], [], []
    for side, sae, live, colour in (("A", one.a, one.live[0], _A), ("B", one.b, one.live[1], _B)):
        for null, dash in ((False, [1, 0]), (True, [4, 3])):
            of = (curves["what"] == what) & (curves["side"] == side) & (curves["null"] == null)
            frame = curves.loc[of, ["value", "share"]]
            if frame.empty:
                continue
            name = f"{sae}, null" if null else sae
            frames.append(frame.assign(graph=name))
            names.append(name)
            colours.append(colour)
            dashes.append(dash)
            if not null:
                zeros.append(round(live * float(frame["share"][frame["value"] == 0].iloc[0])))
    scale = alt.Scale(type="symlog", constant=1) if what == "degree" else alt.Scale(domain=[0, 1])
    title = {"degree": "degree (features), symmetric log scale", "clustering": "clustering"}[what]
    ticks = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000]
    top = max((float(f["value"].max()) for f in frames if len(f)), default=1.0)
    axis = alt.Axis(values=[t for t in ticks if t <= top]) if what == "degree" else alt.Axis()
    # Colour and dash have the same domain, so they share one legend.
    legend = alt.Legend(orient="bottom", columns=1, symbolType="stroke")
    chart: alt.Chart = (
        alt.Chart(
            pd.concat(frames),
            width=_WIDTH,
            height=_HEIGHT,
            title=heading(
                f"{what.capitalize()} of features",
                _distance_text(one, what),
                f"n = {one.live[0]:,} and {one.live[1]:,} live features, {zeros[0]:,} and {zeros[1]:,} of them at 0",
            ),
        )
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X("value:Q", title=title, scale=scale, axis=axis),
            y=alt.Y(
                "share:Q", title="share of features at or below", scale=alt.Scale(domain=[0, 1])
            ),
            color=alt.Color(
                "graph:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend
            ),
            strokeDash=alt.StrokeDash(
                "graph:N", title=None, scale=alt.Scale(domain=names, range=dashes), legend=legend
            ),
            tooltip=[
                "graph:N",
                alt.Tooltip("value:Q", format=".3~g"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    return chart


#: Numbers of a row that the plot of conserved edges shows.
_SHARES = ("value", "low", "high", "null_mean", "null_low", "null_high", "itself_mean")


def draw_conserved(one: Comparison) -> Chart:
    """Plot the share of conserved edges, in total and by r, with both controls.

    Parameters
    ----------
    one
        The comparison. Values are over halves of the documents if codes are stored.
    """
    kinds = ("conserved", "conserved by r")
    rows = [r for r in one.rows if r.kind in kinds and r.measure.startswith("share of ")]
    text = "halves" if any(r.text == "halves" for r in rows) else "all"
    rows = [r for r in rows if r.text == text]
    total = [next((r.n for r in rows if r.measure == f"share of {s}'s edges"), 0) for s in "AB"]
    tokens = {
        "halves": f"from disjoint halves of the documents, at least {one.half_tokens:,} tokens each",
        "all": f"from the same {one.tokens:,} tokens",
    }[text]
    title = heading(
        "Conserved edges under the matches",
        tokens,
        f"n = {one.matches:,} matches, {total[0]:,} and {total[1]:,} edges between matched features",
        "line: 95% interval of the point; bar: 95% of draws",
    )
    data = _conserved_shares(one, rows)
    base = alt.Chart(data, width=_WIDTH + 60, height=_HEIGHT, title=title)
    order = list(dict.fromkeys(map(_lower_r, rows)))
    return _conserved_chart(base, order=order, sides=(f"edges of {one.a}", f"edges of {one.b}"))


def _lower_r(row: Row) -> str:
    """Return the range of the lower Pearson r of a row, or ``all``."""
    return row.measure.partition(", r ")[2] or "all"


def _conserved_shares(one: Comparison, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the data of the plot of conserved edges: a row for each known share."""
    data = [
        {
            "of": f"edges of {one.a if 'A' in r.measure else one.b}",
            "r": _lower_r(r),
            **{name: getattr(r, name) for name in (*_SHARES, "n")},
        }
        for r in rows
        if r.value is not None
    ]
    return pd.DataFrame(data, columns=["of", "r", *_SHARES, "n"])


def _conserved_chart(base: alt.Chart, *, order: Sequence[str], sides: Sequence[str]) -> Chart:
    """Return the layers of the plot of conserved edges: both controls, intervals and points."""
    x = alt.X(
        "r:N", sort=order, title="lower Pearson r of the two ends", axis=alt.Axis(labelAngle=-30)
    )
    shift = alt.XOffset("of:N", sort=list(sides))
    share = alt.Scale(domain=[0, 1])
    null, own = "permuted matches", "halves of one SAE"
    scale = alt.Scale(domain=[*sides, null, own], range=[_A, _B, _NULL, _OWN])
    legend = alt.Legend(orient="bottom", columns=2, symbolType="square")
    colour = alt.Color("of:N", title=None, scale=scale, legend=legend)
    controls = [alt.ColorDatum(name) for name in (null, own)]
    shares = (alt.Tooltip(f"{name}:Q", format=".1%") for name in _SHARES)
    tooltip = ["of:N", "r:N", "n:Q", *shares]
    y = alt.Y(
        "null_low:Q", scale=share, title="share of conserved edges", axis=alt.Axis(format="%")
    )
    layers = [
        base.mark_bar(size=16).encode(x=x, xOffset=shift, y=y, y2="null_high:Q", color=controls[0]),
        base.mark_tick(thickness=2, size=16).encode(
            x=x, xOffset=shift, y=alt.Y("itself_mean:Q", scale=share), color=controls[1]
        ),
        base.mark_rule(strokeWidth=1.5).encode(
            x=x, xOffset=shift, y=alt.Y("low:Q", scale=share), y2="high:Q", color=colour
        ),
        base.mark_circle(size=50, opacity=1).encode(
            x=x, xOffset=shift, y=alt.Y("value:Q", scale=share), color=colour, tooltip=tooltip
        ),
    ]
    return alt.layer(*layers)


def draw_communities(one: Comparison) -> Chart:
    """Plot the overlap of communities under the matches, with both controls.

    Parameters
    ----------
    one
        The comparison.
    """
    rows = [r for r in one.rows if r.kind == "communities" and r.value is not None]
    points = []
    for row in rows:
        runs = row.measure.endswith("on one graph")
        where = "all tokens" if row.text == "all" else "halves"
        name = "Leiden runs on one graph" if runs else f"matches, {where}"
        points.append(_point(name, row.value, row.low, row.high, _A if not runs else _OWN))
        if row.itself_mean is not None:
            points.append(
                _point("halves of one SAE", row.itself_mean, row.itself_low, row.itself_high, _OWN)
            )
        if row.null_mean is not None:
            points.append(
                _point(
                    f"permuted matches, {where}",
                    row.null_mean,
                    row.null_low,
                    row.null_high,
                    _CHANCE,
                )
            )
    order = [p["of"] for p in points]
    sizes = one.communities
    base = alt.Chart(
        pd.DataFrame(points),
        width=_WIDTH,
        height=_HEIGHT,
        title=heading(
            "Overlap of communities",
            f"n = {rows[0].n:,} matched features with an edge on both sides",
            f"{sizes[0]:,} and {sizes[1]:,} communities (Leiden)",
            "0: expected for random labels; 1: equal",
            "lines: 95%; for halves of the documents, the range of halvings",
        ),
    )
    y = alt.Y("of:N", sort=order, title=None)
    scale = alt.Scale(domain=[min(0.0, *(p["low"] for p in points)), 1])
    colour = alt.Color("colour:N", scale=None, legend=None)
    return alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(
            y=y,
            x=alt.X("low:Q", scale=scale, title="adjusted mutual information"),
            x2="high:Q",
            color=colour,
        ),
        base.mark_circle(size=60, opacity=1).encode(
            y=y,
            x=alt.X("value:Q", scale=scale),
            color=colour,
            tooltip=[
                "of:N",
                *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("value", "low", "high")),
            ],
        ),
    )


def _concatenated(charts: alt.HConcatChart | alt.VConcatChart) -> Chart:
    """Give every plot its own legend."""
    apart: Chart = charts.resolve_scale(color="independent", strokeDash="independent")
    return apart


def _point(
    of: str, value: float | None, low: float | None, high: float | None, colour: str
) -> dict[str, Any]:
    assert value is not None
    return {
        "of": of,
        "value": value,
        "low": value if low is None else low,
        "high": value if high is None else high,
        "colour": colour,
    }


def _distance_text(one: Comparison, statistic: str) -> str:
    row = _find(one.rows, f"{statistic}: Kolmogorov-Smirnov", "halves")
    complete = _find(one.rows, f"{statistic}: Kolmogorov-Smirnov", "all")
    if complete is None or complete.value is None:
        return "no distance"
    text = f"KS {complete.value:.3f}"
    if row is not None and row.value is not None and row.itself_mean is not None:
        text += f"; over halves {row.value:.3f}, within one SAE {row.itself_mean:.3f}"
    return text


def _find(rows: Sequence[Row], measure: str, text: str) -> Row | None:
    return next((r for r in rows if (r.measure, r.text) == (measure, text)), None)
