"""Plots of co-activation graphs: degree, frequency, scatter plot, and growth over tokens."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph.distributions import correlate
from analysis.graph.growth import growth
from analysis.plot_style import Chart, heading
from atlas.errors import BadInput

__all__ = ["KINDS", "draw", "draw_growth", "draw_histogram", "draw_scatter"]

KINDS = ("page", "degree", "log-degree", "frequency", "scatter", "growth")

_WIDTH, _HEIGHT, _BARS = 300, 200, 40


def draw(graphs: Sequence[CoactivationGraph], *, kind: str = "page") -> Chart:
    """Plot the graphs of one or more SAEs, one row per SAE.

    Parameters
    ----------
    graphs
        The graphs, over equal numbers of tokens.
    kind
        One of ``KINDS``; ``"page"`` combines all of them, with growth if codes are stored.

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
    names = KINDS[1:5] if kind == "page" else (kind,)
    rows: list[Chart] = [
        alt.hconcat(*(_one(of, name) for name in names)).resolve_scale(color="independent")
        for of in graphs
    ]
    if kind == "page" and all(of.membership is not None for of in graphs):
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
        "frequency": (of.active[of.active > 0] / of.tokens, "frequency (share of tokens), log scale"),
    }[what]  # fmt: skip
    log = what != "degree"
    zeros = len(degree) - len(values)
    size = f"n = {len(values):,} features" + (f"; {zeros:,} at 0 excluded" if zeros else "")
    name = {"degree": "Degree", "log-degree": "Log degree", "frequency": "Frequency"}[what]
    scale = alt.Scale(type="log") if log else alt.Scale()
    chart: alt.Chart = (
        alt.Chart(_bars(values, log=log), width=_WIDTH, height=_HEIGHT,
                  title=heading(f"{name}, {of.sae}", size, f"{of.tokens:,} tokens"))
        .mark_rect(stroke="white", strokeWidth=0.5, color="#4c78a8")
        .encode(
            x=alt.X("from:Q", title=title, scale=scale),
            x2="to:Q",
            y=alt.Y("features:Q", title="features"),
            y2=alt.value(_HEIGHT),
            tooltip=[alt.Tooltip("from:Q", format=".3~g"), alt.Tooltip("to:Q", format=".3~g"), "features:Q"],
        )
    )  # fmt: skip
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
    rows = pd.DataFrame({
        "feature": [f"{of.sae}/{i}" for i in np.flatnonzero(live)],
        "frequency": of.active[live] / of.tokens,
        "degree": degree[live],
    })  # fmt: skip
    chart: alt.Chart = (
        alt.Chart(rows, width=_WIDTH, height=_HEIGHT,
                  title=heading(f"Degree against frequency, {of.sae}",
                                f"n = {r.n:,} active features; {correlations or 'no correlation'}",
                                f"{of.tokens:,} tokens"))
        .mark_circle(size=14, opacity=0.5, color="#4c78a8")
        .encode(
            x=alt.X("frequency:Q", title="frequency (share of tokens), log scale",
                    scale=alt.Scale(type="log")),
            y=alt.Y("degree:Q", title="degree"),
            tooltip=["feature:N", alt.Tooltip("frequency:Q", format=".3~g"), "degree:Q"],
        )
    )  # fmt: skip
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
            "Growth over tokens needs codes, but none are stored. Ingest with --keep-codes "
            "--replace, and open the atlas from its folder."
        )
    shown = (
        ("edges", "Edges", "edges"),
        ("isolates", "Features without an edge", "features"),
        ("average_clustering", "Average clustering", "average clustering"),
    )
    return alt.hconcat(*(
        alt.Chart(pd.DataFrame(rows), width=_WIDTH, height=_HEIGHT,
                  title=heading(f"{title} over tokens", "the first tokens of the corpus"))
        .mark_line(point=True)
        .encode(
            x=alt.X("tokens:Q", title="tokens, log scale", scale=alt.Scale(type="log")),
            y=alt.Y(f"{name}:Q", title=unit),
            color=alt.Color("sae:N", title="SAE", legend=alt.Legend(orient="bottom")),
            tooltip=["sae:N", alt.Tooltip("tokens:Q", format=","), f"{name}:Q"],
        )
        for name, title, unit in shown
    ))  # fmt: skip


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
