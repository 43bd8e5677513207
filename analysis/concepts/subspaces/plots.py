"""Heatmaps of concept subspaces: concepts by pairs of SAEs, with the excess over each null."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from analysis.concepts.subspaces.grid import concept_grid
from analysis.concepts.subspaces.study import NULLS
from analysis.plot_style import Chart, finished, heading
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw", "draw_heatmaps"]

_CELL = 34
_SIGNIFICANT = 0.05


def draw(result: Result) -> Chart:
    """Plot one pair of SAEs; see ``draw_heatmaps``."""
    return draw_heatmaps([result])


def draw_heatmaps(results: Sequence[Result], *, measure: str = "rsa") -> Chart:
    """Plot a measure of each concept and pair of SAEs: its value, and its excess over each null.

    A dot marks a q of at most .05 over all concepts and pairs.

    Parameters
    ----------
    results
        Results of ``analysis.concepts.subspaces.study.compare_concepts``.
    measure
        The measure.

    Raises
    ------
    BadInput
        If no concept has the measure.
    """
    rows = [row for row in concept_grid(results) if row["measure"] == measure]
    if not rows:
        raise BadInput(
            "No concept has enough matched pairs for this measure, so there is nothing to plot. Pass "
            "more words, or SAEs with more features."
        )
    frame = pd.DataFrame(rows)
    frame["pair"] = frame["a"] + " / " + frame["b"]
    shown = []
    for space in dict.fromkeys(frame["space"]):
        own = frame[frame["space"] == space]
        panels = [_panel(own, "value", f"{measure}, {space}", q=None)]
        panels += [
            _panel(own, f"{prefix}excess", f"minus {name}", q=f"{prefix}q")
            for prefix, name in NULLS.items()
            if own[f"{prefix}excess"].notna().any()
        ]
        shown.append(alt.hconcat(*panels).resolve_scale(color="independent"))
    title = heading(
        "Similarity of concept subspaces",
        f"{frame['pair'].nunique()} pairs of SAEs; a dot marks q <= {_SIGNIFICANT} over concepts and pairs",
    )
    return finished(alt.vconcat(*shown, title=title))


def _panel(frame: pd.DataFrame, column: str, title: str, *, q: str | None) -> Chart:
    width, height = (_CELL * frame[name].nunique() for name in ("pair", "concept"))
    known = frame[frame[column].notna()]
    base = alt.Chart(known, width=width, height=height).encode(
        x=alt.X("pair:N", title=None, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("concept:N", title=None),
    )
    tips = ["concept:N", "pair:N", "pairs:Q", alt.Tooltip(f"{column}:Q", format=".3~g")]
    tips += [] if q is None else [alt.Tooltip(f"{q}:Q", format=".3~g")]
    layers: list[alt.Chart] = [
        base.mark_rect().encode(
            color=alt.Color(f"{column}:Q", scale=alt.Scale(scheme="viridis"), title=None),
            tooltip=tips,
        )
    ]
    if q is not None:
        marked = base.transform_filter(alt.datum[q] <= _SIGNIFICANT)
        layers.append(marked.mark_point(filled=True, size=26, color="white", opacity=1))
    return alt.layer(*layers).properties(title=title)
