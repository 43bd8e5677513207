"""Plots of co-activation graphs: degree, frequency, scatter plot, growth over tokens, and nulls."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph.distributions import correlate
from analysis.graph.growth import growth
from analysis.graph.null_comparison import SMALL
from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["KINDS", "draw", "draw_graphs", "draw_growth", "draw_histogram", "draw_scatter"]

KINDS = ("degree", "log-degree", "frequency", "scatter", "growth", "page")

_WIDTH, _HEIGHT, _BARS = 300, 200, 40

#: Graphs in a row, if one kind of plot is drawn.
_COLUMNS = 3

#: Statistics that are compared with nulls, with axis titles.
_STATISTICS = {
    "edges": "edges",
    "average_clustering": "average clustering",
    "modularity_unweighted": "modularity",
    "assortativity": "degree assortativity",
    "path_length": "mean path length (edges)",
    "degree_frequency_spearman": "Spearman, degree and frequency",
}
_OBSERVED, _NULL = "#e45756", "#4c78a8"


def draw_graphs(graphs: Sequence[CoactivationGraph], *, kind: str = "degree") -> Chart:
    """Plot the graphs of one or more SAEs, with a panel for each SAE.

    Parameters
    ----------
    graphs
        The graphs, over equal numbers of tokens.
    kind
        One of ``KINDS``; ``"page"`` has a row of all kinds for each SAE, and growth if codes are stored.

    Raises
    ------
    BadInput
        If there is no graph, the kind is unknown, a graph has no active feature, or growth is
        requested without stored codes.
    """
    if kind not in KINDS:
        raise BadInput(f"Unknown plot {kind!r}; expected one of {', '.join(KINDS)}.")
    if not graphs:
        raise BadInput("There is no graph to plot; select an SAE of the atlas.")
    for of in graphs:
        if not of.active.any():
            raise BadInput(
                f"No feature of {of.sae} is ever active, so it cannot be plotted; select other SAEs."
            )
    if kind == "growth":
        return draw_growth(graphs)
    if kind != "page" and len(graphs) == 1:
        return _one(graphs[0], kind).properties(width=2 * _HEIGHT, height=_HEIGHT)
    if kind != "page":
        return alt.concat(*(_one(of, kind) for of in graphs), columns=_COLUMNS)
    rows: list[Chart] = [alt.hconcat(*(_one(of, name) for name in KINDS[:4])) for of in graphs]
    if all(of.membership is not None for of in graphs):
        rows.append(draw_growth(graphs))
    return alt.vconcat(*rows)


def draw_histogram(of: CoactivationGraph, *, what: str) -> Chart:
    """Plot the distribution of degree, log degree or frequency over features.

    Parameters
    ----------
    of
        The graph.
    what
        ``"degree"``, ``"log-degree"`` or ``"frequency"``. On a logarithmic axis, features at 0
        are excluded and counted in the title.
    """
    degree = _degree(of)
    values, title = {
        "degree": (degree.astype(np.float64), "degree"),
        "log-degree": (degree[degree > 0].astype(np.float64), "degree, log scale"),
        "frequency": (
            of.active[of.active > 0] / of.tokens,
            "frequency (share of tokens), log scale",
        ),
    }[what]
    log = what != "degree"
    zeros = len(degree) - len(values)
    size = f"n = {len(values):,} features" + (f"; {zeros:,} at 0 excluded" if zeros else "")
    name = {"degree": "Degree", "log-degree": "Log degree", "frequency": "Frequency"}[what]
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale()
    chart: alt.Chart = (
        alt.Chart(
            _bars(values, log=log),
            width=_WIDTH,
            height=_HEIGHT,
            title=heading(f"{name}, {of.sae}", size, f"{of.tokens:,} tokens"),
        )
        .mark_rect(color="#4c78a8")
        .encode(
            x=alt.X("from:Q", title=title, scale=scale),
            x2="to:Q",
            y=alt.Y("features:Q", title="features"),
            y2=alt.value(_HEIGHT),
            tooltip=[
                alt.Tooltip("from:Q", format=".3~g"),
                alt.Tooltip("to:Q", format=".3~g"),
                "features:Q",
            ],
        )
    )
    return chart


def draw_scatter(of: CoactivationGraph) -> Chart:
    """Plot degree against frequency, with one point per active feature."""
    degree, live = _degree(of), of.active > 0
    r = correlate(degree, of.active)
    correlations = ", ".join(
        f"{name} {value:.2f}"
        for name, value in (("Pearson", r.pearson), ("Spearman", r.spearman))
        if value is not None
    )
    rows = pd.DataFrame(
        {
            "feature": [f"{of.sae}/{i}" for i in np.flatnonzero(live)],
            "frequency": of.active[live] / of.tokens,
            "degree": degree[live],
        }
    )
    chart: alt.Chart = (
        alt.Chart(
            rows,
            width=_WIDTH,
            height=_HEIGHT,
            title=heading(
                f"Degree against frequency, {of.sae}",
                f"n = {r.n:,} active features; {correlations or 'no correlation'}",
                f"{of.tokens:,} tokens",
            ),
        )
        .mark_circle(size=14, opacity=0.5, color="#4c78a8")
        .encode(
            x=alt.X(
                "frequency:Q",
                title="frequency (share of tokens), log scale",
                scale=alt.Scale(type="log", nice=False),
            ),
            y=alt.Y("degree:Q", title="degree"),
            tooltip=["feature:N", alt.Tooltip("frequency:Q", format=".3~g"), "degree:Q"],
        )
    )
    return chart


def draw_growth(graphs: Sequence[CoactivationGraph]) -> Chart:
    """Plot edges, features without an edge, and clustering over tokens, one line per SAE.

    Raises
    ------
    BadInput
        If no codes are stored.
    """
    rows = [
        {"sae": of.sae, **vars(point)}
        for of in graphs
        if of.membership is not None
        for point in growth(of.membership, min_count=of.min_count)
    ]
    if not rows:
        raise BadInput(
            "Growth over tokens needs codes, but none are stored. Ingest with `keep_codes=True` and "
            "`replace=True`, and open the atlas from its folder."
        )
    return _growth(rows)


def draw(result: Result) -> Chart:
    """Plot graph statistics of an SAE next to their values under nulls, and growth if computed.

    Parameters
    ----------
    result
        A result of ``analysis.graph.study.graph_statistics``.

    Raises
    ------
    BadInput
        If the result has neither null graphs nor growth.
    """
    nulls = pd.DataFrame(result.table("nulls").to_pylist()).reindex(
        columns=["null", "statistic", "observed", "mean", "low", "high", "draws"]
    )
    nulls = nulls[nulls["statistic"].isin(_STATISTICS)].dropna(subset=["observed", "mean"])
    curves = result.table("curves").to_pylist() if "curves" in result.tables else []
    rows = [_nulls(result, nulls)] if len(nulls) else []
    rows += [_growth(curves)] if curves else []
    if not rows:
        raise BadInput(
            f"No statistic of {result['sae']} has a value under a null, so there is nothing to compare. "
            f"`atlas graph-stats {result['sae']} --nulls all` draws nulls; `atlas plot graphs {result['sae']}` "
            "plots degrees."
        )
    return finished(alt.vconcat(*rows).resolve_scale(color="independent"))


def _nulls(result: Result, nulls: pd.DataFrame) -> Chart:
    """Return a panel for each statistic: its value, and its range under each null."""
    names = [name for name in _STATISTICS if name in set(nulls["statistic"])]
    panels = [_panel(nulls[nulls["statistic"] == name], title=_STATISTICS[name]) for name in names]
    missing = [title for name, title in _STATISTICS.items() if name not in names]
    chart: alt.ConcatChart = alt.concat(*panels, columns=3).properties(
        title=heading(
            f"Co-activation graph of {result['sae']} compared with null graphs",
            f"n = {result['nodes']:,} features over {result['tokens']:,} tokens; {int(nulls['draws'].max()):,} "
            "draws of each null",
            f"line: observed; point and bar: mean and {_limits(int(nulls['draws'].max()))}"
            + (f"; undefined: {', '.join(missing)}" if missing else ""),
        )
    )
    return chart


def _limits(draws: int) -> str:
    return "central 95% of draws" if draws >= SMALL else "range of all draws"


def _panel(of: pd.DataFrame, *, title: str) -> Chart:
    legend = alt.Scale(domain=["observed", "null graphs"], range=[_OBSERVED, _NULL])
    colour = alt.Color("what:N", title=None, scale=legend, legend=alt.Legend(orient="bottom"))
    base = alt.Chart(of.assign(what="null graphs"), width=220, height=alt.Step(24))
    observed = alt.Chart(of.head(1).assign(what="observed"))
    x = alt.Scale(zero=False, padding=12)
    y = alt.Y("null:N", title="null", sort=list(of["null"]))
    tip = [
        "null:N",
        *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("observed", "mean", "low", "high")),
    ]
    ticks = alt.Axis(format="~s" if of["observed"].abs().max() >= 1000 else "~g", tickCount=5)
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", scale=x, title=title, axis=ticks), x2="high:Q", y=y, color=colour
        ),
        base.mark_point(filled=True, size=50, opacity=1).encode(
            x=alt.X("mean:Q", scale=x), y=y, color=colour, tooltip=tip
        ),
        observed.mark_rule(strokeWidth=2).encode(x=alt.X("observed:Q", scale=x), color=colour),
    )


def _growth(rows: Sequence[Mapping[str, Any]]) -> Chart:
    shown = (
        ("edges", "Edges", "edges"),
        ("isolates", "Features without an edge", "features"),
        ("average_clustering", "Average clustering", "average clustering"),
    )
    panels = [
        alt.Chart(pd.DataFrame(rows), width=_WIDTH, height=_HEIGHT, title=f"{title} over tokens")
        .mark_line(point=True)
        .encode(
            x=alt.X("tokens:Q", title="tokens, log scale", scale=alt.Scale(type="log", nice=False)),
            y=alt.Y(f"{name}:Q", title=unit),
            color=alt.Color("sae:N", title="SAE", legend=alt.Legend(orient="bottom")),
            tooltip=["sae:N", alt.Tooltip("tokens:Q", format=","), f"{name}:Q"],
        )
        for name, title, unit in shown
    ]
    most = max(row["tokens"] for row in rows)
    text = f"point: the first tokens of the text, {most:,} at most"
    return alt.hconcat(*panels, title=heading("Growth of the co-activation graph", text))


def _one(of: CoactivationGraph, name: str) -> Chart:
    return draw_scatter(of) if name == "scatter" else draw_histogram(of, what=name)


def _degree(of: CoactivationGraph) -> NDArray[np.int64]:
    return np.array(of.graph.degree(), dtype=np.int64)


def _bars(values: NDArray[np.float64], *, log: bool) -> pd.DataFrame:
    """Return the nonempty bars of a histogram, with equal widths on the plotted axis."""
    shown = np.log10(values) if log else values
    counts, ends = np.histogram(shown, bins=_BARS)
    if log:
        ends = 10**ends
    rows = pd.DataFrame({"from": ends[:-1], "to": ends[1:], "features": counts})
    return rows[rows["features"] > 0]
