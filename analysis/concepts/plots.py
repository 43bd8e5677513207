"""Plots of concepts: retained information over k, selectivity of splits, p of units, and the front of SAEs."""

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import altair as alt
import pandas as pd

from analysis.concepts.worth.localisation import KS
from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["Kind", "draw", "draw_front"]

Kind: TypeAlias = Literal["retained", "selectivity", "p-values"]

_WIDTH, _HEIGHT = 420, 240
_FRONT_WIDTH, _FRONT_HEIGHT = 290, 200
_SHOWN = 4
_COLOURS = {
    "features": "#4c78a8",
    "layer": "#333333",
    "neurons": "#e08a3c",
    "stream": "#54a24b",
    "mlp": "#b279a2",
    "embedding": "#eeca3b",
    "reconstruction": "#72b7b2",
    "error": "#e45756",
    "random": "#b0b0b0",
    "subset 1": "#d4a6c8",
}
"""Arms that are drawn, and their colours."""

_ARMS = tuple(_COLOURS)
_HISTOGRAMS = ("features", "layer", "random")
"""Arms whose p-values are drawn."""
_RANDOM = "random directions"
_ROLES = ("#4c78a8", "#e08a3c", "#54a24b", "#b279a2", "#e45756")
"""Colours of roles on the front."""
_PANELS = 3
"""More panels of the front are smaller, two in a row."""
_NAMED = 8
"""With more SAEs, the front shows their roles by colour, instead of their names."""


_TITLES: dict[Kind, tuple[str, str]] = {
    "retained": (
        "Retained information",
        "R on held-out words; band: 95% interval of the features",
    ),
    "selectivity": (
        "Selectivity of probes",
        "tick: a split; point: mean over splits; probe of all units",
    ),
    "p-values": (
        "p of single units",
        "features that are active on few words have few values of p",
    ),
}
"""By kind of plot, the beginning of its title, and what its marks are."""


def draw(result: Result, *, kind: Kind | None = None) -> Chart:
    """Plot the result of one SAE: a panel for each of the first four concepts.

    Parameters
    ----------
    result
        The result.
    kind
        ``"retained"``: R over the number of units. ``"selectivity"``: AUROC of each split minus that
        of permuted labels. ``"p-values"``: histogram of the p of single units. Default: retained
        information, or selectivity if the layer separates no concept.

    Raises
    ------
    BadInput
        If no concept could be tested, or the layer separates none and ``kind`` is ``"retained"``.
    """
    concepts = list(dict.fromkeys(result["concepts"]))
    if not concepts:
        raise BadInput(
            f"No concept of {result['words']} could be tested for {result['sae']}; there is nothing to plot."
        )
    curve = result.to_pandas("curve")
    # Nothing is retained of a layer that does not separate the classes.
    separated = [
        one for one in concepts if curve[curve["concept"] == one]["retained"].notna().any()
    ]
    kind = kind or ("retained" if separated else "selectivity")
    if kind == "retained" and not separated:
        raise BadInput(
            f"The layer of {result['sae']} separates no concept of {result['words']}, so nothing is retained; "
            "use `kind='selectivity'`."
        )
    possible = separated if kind == "retained" else concepts
    shown = possible[:_SHOWN]
    arms = curve["arm"].unique().tolist()
    colour = _colour([a for a in arms if kind != "p-values" or a in _HISTOGRAMS])
    table = {"retained": "curve", "selectivity": "splits", "p-values": "p_values"}[kind]
    frame = result.to_pandas(table)
    panels = []
    for concept in shown:
        own = frame[frame["concept"] == concept]
        if kind == "selectivity":
            panel = _splits(own)
        else:
            panel = _curve(own, colour) if kind == "retained" else _p_values(own, colour)
        panels.append(panel.properties(title=concept) if len(concepts) > 1 else panel)
    begin, marks = _TITLES[kind]
    of = result["words"] if len(concepts) > 1 else concepts[0]
    rest = len(concepts) - len(shown)
    more = [f"{len(shown)} of {len(concepts)} concepts; the tables have all"] if rest else []
    title = heading(f"{begin}, {result['sae']}", of, *_counted([result]), marks, *more)
    chart = panels[0] if len(panels) == 1 else alt.concat(*panels, columns=2)
    return finished(chart.properties(title=title))


def draw_front(results: Sequence[Result]) -> Chart:
    """Plot R of all features against k90, a point for each SAE and concept, with intervals.

    SAEs of several sites have a panel for each concept and site.

    Raises
    ------
    BadInput
        If no SAE has a retained share.
    """
    frame, none = _front(results)
    x = alt.X(
        "at:Q",
        scale=alt.Scale(type="log", domain=[0.9, none * 1.1], nice=False),
        axis=alt.Axis(
            values=[k for k in (*KS, 100, 200, 500, 1000, 2000) if k < none / 2] + [none],
            labelExpr=f"datum.value == {none} ? 'none' : format(datum.value, 'd')",
        ),
        title="k90: features that retain 90% of the layer",
    )
    title_y = "R of all features"
    y = alt.Y("retained:Q", scale=alt.Scale(zero=False, padding=8), title=title_y)
    many = frame["sae"].nunique() > _NAMED
    legend = alt.Legend(
        title=None,
        orient="bottom",
        direction="vertical",
        symbolOpacity=1,
        labelLimit=600,
        padding=12,
    )
    by = _kinds(frame, legend) if many else alt.Color("sae:N", legend=legend)
    # Two of many panels in a row: the sites of a block are often two.
    panels = sorted(frame["panel"].unique(), key=_natural)
    small = len(panels) > _PANELS
    base = alt.Chart(frame, width=_FRONT_WIDTH, height=_FRONT_HEIGHT * (2 / 3 if small else 1))
    rules = base.mark_rule(opacity=0.15 if many else 0.35)
    low = alt.Y("retained_low:Q", title=title_y)
    layers = alt.layer(
        rules.encode(x=x, y=low, y2="retained_high:Q", color=by),
        rules.encode(x=alt.X("at_low:Q"), x2="at_high:Q", y=y, color=by),
        base.mark_point(size=35 if small else 60, filled=True, opacity=0.9).encode(
            x=x,
            y=y,
            color=by,
            shape=alt.Shape("kind:N", legend=None if many else legend),
            tooltip=["sae:N", "concept:N", "kind:N", "k90:Q", *_numbers("retained", "area")],
        ),
    )
    facet = alt.Facet("panel:N", title=None, sort=panels)
    facets = layers.facet(facet=facet, columns=2 if small else 3)
    title = heading(
        "Front of SAEs: R of all features against k90",
        *_counted(results),
        "upper left is better; line: 95% interval; random: directions that are active as often",
    )
    return finished(facets.properties(title=title))


def _counted(results: Sequence[Result]) -> list[str]:
    """Return a line with the number of labelled words, as a range if concepts have several."""
    rows = [row for one in results for row in one.table("arms").to_pylist()]
    n = sorted(
        {row["positives"] + row["negatives"] for row in rows if row["positives"] is not None}
    )
    if not n:
        return []
    return [f"n = {n[0]:,}" + (f" to {n[-1]:,}" if len(n) > 1 else "") + " labelled words"]


def _front(results: Sequence[Result]) -> tuple[pd.DataFrame, int]:
    """Return a row for each SAE and concept, and the position on the axis without a k90."""
    rows = [_front_row(one, row) for one in results for row in _features(one)]
    frame = pd.DataFrame([row for row in rows if row is not None])
    if frame.empty:
        raise BadInput(
            "No layer separates the classes, so no SAE has a retained share; there is nothing to plot."
        )
    sites, concepts = (frame[name].nunique() > 1 for name in ("site", "concept"))
    frame["panel"] = [
        (f"{concept}, {site}" if concepts else site) if sites else concept
        for concept, site in zip(frame["concept"], frame["site"], strict=True)
    ]
    names = ["k90", "k90_low", "k90_high"]
    frame[names] = frame[names].astype(float)
    largest = frame["k90"].max()
    none = 2 * max(KS[-1], 0 if pd.isna(largest) else int(largest))
    for name in names:
        frame[f"at{name.removeprefix('k90')}"] = frame[name].fillna(none).clip(upper=none)
    return frame, none


def _kinds(frame: pd.DataFrame, legend: alt.Legend) -> alt.Color:
    """Return a colour for each role: trained SAEs first, and random directions in grey."""
    kinds = sorted(frame["kind"].unique(), key=lambda k: (k == _RANDOM, k != "trained", k))
    colours = dict(zip(kinds, _ROLES, strict=False)) | {_RANDOM: _COLOURS["random"]}
    scale = alt.Scale(domain=kinds, range=[colours.get(kind, _ROLES[-1]) for kind in kinds])
    return alt.Color("kind:N", scale=scale, legend=legend)


def _natural(text: str) -> list[int | str]:
    """Return a key that sorts numbers in a text by value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".3~f") for name in names]


def _features(one: Result) -> list[dict[str, Any]]:
    rows = one.table("arms").to_pylist()
    return [row for row in rows if row["arm"] in ("features", "random")]


def _front_row(one: Result, row: dict[str, Any]) -> dict[str, Any] | None:
    if row["retained"] is None:
        return None
    control = row["arm"] == "random"
    role = one.summary.get("role")
    kind = _RANDOM if control else (role or "SAE")
    names = ("concept", "k90", "k90_low", "k90_high", "area")
    retained = ("retained", "retained_low", "retained_high")
    return {
        "sae": one["sae"],
        "site": str(one.summary.get("site") or "a residual"),
        "kind": kind,
        **{name: row[name] for name in (*names, *retained)},
    }


def _colour(arms: Sequence[str]) -> alt.Color:
    """Return the colours of arms; all panels of a plot share them."""
    known = [arm for arm in _ARMS if arm in arms]
    return alt.Color(
        "arm:N",
        scale=alt.Scale(domain=known, range=[_COLOURS[arm] for arm in known]),
        legend=alt.Legend(orient="bottom", title=None, columns=4, symbolOpacity=1),
    )


def _p_values(frame: pd.DataFrame, colour: alt.Color) -> alt.Chart:
    """Return the histogram of uncorrected p of live units, as shares of each arm."""
    frame = frame[frame["arm"].isin(_HISTOGRAMS)]
    frame = frame.assign(share=frame["units"] / frame.groupby("arm")["units"].transform("sum"))
    # A step ends at the next point, so the last bin needs a point at its end.
    frame = pd.concat([frame, frame[frame["high"] == 1].assign(low=1.0)], ignore_index=True)
    chart: alt.Chart = (
        alt.Chart(frame, width=_WIDTH, height=_HEIGHT)
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=alt.X("low:Q", title="p of Welch's t, uncorrected", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("share:Q", title="share of live units"),
            color=colour,
            tooltip=["arm:N", "low:Q", "high:Q", "units:Q"],
        )
    )
    return chart


def _curve(frame: pd.DataFrame, colour: alt.Color) -> Chart:
    """Return R over the number of units, with intervals."""
    frame = frame[frame["arm"].isin(_ARMS) & frame["retained"].notna()]
    x = alt.X(
        "k:Q",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=[*KS, 200, 1000, 5000, 20_000], format="d", labelOverlap=True),
        title="units, selected on training words",
    )
    base = alt.Chart(frame, width=_WIDTH, height=_HEIGHT)
    band = (
        base.transform_filter(alt.datum.arm == "features")
        .mark_area(opacity=0.15)
        .encode(
            x=x,
            y=alt.Y("retained_low:Q", title="R, share of the layer's AUROC above .5"),
            y2="retained_high:Q",
            color=colour,
        )
    )
    line = base.mark_line(point=True, strokeWidth=1.6).encode(
        x=x,
        y=alt.Y("retained:Q", title="R, share of the layer's AUROC above .5"),
        color=colour,
        tooltip=["arm:N", "k:Q", *_numbers("retained", "retained_low", "retained_high", "auc")],
    )
    return alt.layer(band, line)


def _splits(frame: pd.DataFrame) -> Chart:
    """Return the selectivity of each split: AUROC less that of permuted labels."""
    frame = frame[(frame["k"] == 0) & frame["arm"].isin(_ARMS) & frame["auc"].notna()]
    frame = frame.assign(selectivity=frame["auc"] - frame["permuted_auc"].fillna(0.5))
    arms = [arm for arm in _ARMS if (frame["arm"] == arm).any()]
    base = alt.Chart(frame, width=_WIDTH, height=_HEIGHT)
    y = alt.Y("arm:N", sort=arms, title=None)
    points = base.mark_tick(opacity=0.35).encode(
        x=alt.X(
            "selectivity:Q",
            axis=alt.Axis(tickCount=6),
            title="AUROC of a split - mean with permuted labels",
        ),
        y=y,
    )
    mean = base.mark_point(filled=True, size=60, color="#d62728").encode(
        x=alt.X("mean(selectivity):Q"), y=y, tooltip=["arm:N", *_numbers("mean(selectivity)")]
    )
    return alt.layer(points, mean)
