"""Plots of concept subspaces: one pair of SAEs with its nulls, and heatmaps of several pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from analysis.concepts.subspaces.grid import concept_grid
from analysis.concepts.subspaces.study import NULLS
from analysis.plot_style import Chart, finished, heading, significant
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw", "draw_heatmaps"]

_CELL = 24
_SIGNIFICANT = 0.05
_VALUE = "this concept"
_COLOURS = dict(
    zip((_VALUE, *NULLS.values()), ("#4c78a8", "#8a8a8a", "#e08a3c", "#54a24b"), strict=True)
)
_LABELS = {"rsa": "RSA"}


def draw(result: Result, *, measure: str = "rsa") -> Chart:
    """Plot a measure of each concept of one pair of SAEs, with the mean and range of each null.

    Parameters
    ----------
    result
        Result of ``analysis.concepts.subspaces.study.compare_concepts``.
    measure
        The measure.

    Raises
    ------
    BadInput
        If no concept has the measure.
    """
    own = [
        row
        for row in result.table("rows").to_pylist()
        if row["measure"] == measure and row["value"] is not None
    ]
    if not own:
        raise _nothing()
    label = _LABELS.get(measure, measure)
    spaces = list(dict.fromkeys(row["space"] for row in own))
    panels = [
        _pair([row for row in own if row["space"] == space], space, label) for space in spaces
    ]
    title = heading(
        f"Concept subspaces of {result['a']} and {result['b']}",
        "point: the value of a concept, or the mean of a null; line: 95% range of the null",
    )
    return finished(alt.hconcat(*panels, title=title))


def _pair(rows: Sequence[dict[str, Any]], space: str, label: str) -> Chart:
    """Return the values of the concepts of a space, above each other, with their nulls."""
    points = [
        {"concept": f"{row['concept']} ({row['pairs']:,})", "what": what, **ends}
        for row in rows
        for what, ends in (
            (_VALUE, {"value": row["value"], "low": None, "high": None}),
            *(
                (
                    name,
                    {
                        "value": row[f"{prefix}null"],
                        "low": row[f"{prefix}null_low"],
                        "high": row[f"{prefix}null_high"],
                    },
                )
                for prefix, name in NULLS.items()
            ),
        )
        if ends["value"] is not None
    ]
    frame = pd.DataFrame(points)
    base = alt.Chart(frame, width=360, height=alt.Step(9)).encode(
        y=alt.Y("concept:N", title="concept (matched pairs)"),
        yOffset=alt.YOffset("what:N", sort=list(_COLOURS)),
        color=alt.Color(
            "what:N",
            title=None,
            sort=list(_COLOURS),
            scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
            legend=alt.Legend(orient="bottom", columns=2),
        ),
    )
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=label), x2="high:Q"),
        base.mark_point(filled=True, size=40, opacity=1).encode(
            x=alt.X("value:Q", title=label),
            tooltip=[
                "concept:N",
                "what:N",
                *(alt.Tooltip(f"{n}:Q", format=".3~g") for n in ("value", "low", "high")),
            ],
        ),
    ).properties(title=space)


def draw_heatmaps(results: Sequence[Result], *, measure: str = "rsa") -> Chart:
    """Plot a measure of each concept and pair of SAEs: its value, and its excess over each null.

    A dot marks a q of at most .05 over all concepts and pairs. One pair, without floors, is drawn by ``draw``.

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
    own = [one for one in results if not one.floor]
    if len(own) == 1:
        return draw(own[0], measure=measure)
    rows = [row for row in concept_grid(results) if row["measure"] == measure]
    if not rows:
        raise _nothing()
    frame = pd.DataFrame(rows)
    frame["pair"] = frame["a"] + " / " + frame["b"]
    columns = {"value": "value"} | {
        f"{prefix}excess": f"minus {name}"
        for prefix, name in NULLS.items()
        if frame[f"{prefix}excess"].notna().any()
    }
    label = _LABELS.get(measure, measure)
    names = list(columns)
    # The value is as far from the shuffled pairing as from 0, and much nearer to the other nulls.
    rows_of = [
        _row(own, {name: columns[name] for name in two}, label=label)
        for _, own in frame.groupby("space", sort=False)
        for two in (names[:2], names[2:])
        if two
    ]
    pairs = frame["pairs"]
    title = heading(
        f"{label} of concept subspaces",
        f"{frame['pair'].nunique():,} pairs of SAEs with {pairs.min():,} to {pairs.max():,} matches for each "
        f"concept; a dot marks q ≤ {_SIGNIFICANT} over concepts and pairs",
    )
    return finished(alt.vconcat(*rows_of, title=title).resolve_scale(color="independent"))


def _row(frame: pd.DataFrame, columns: Mapping[str, str], *, label: str) -> Chart:
    """Return heatmaps that share a scale."""
    numbers = frame[list(columns)]
    ends = [float(min(0, numbers.min().min())), float(numbers.max().max())]
    panels = [_panel(frame, name, columns[name], label=label, ends=ends) for name in columns]
    return alt.hconcat(*panels)


def _panel(
    frame: pd.DataFrame, column: str, title: str, *, label: str, ends: Sequence[float]
) -> Chart:
    width, height = (_CELL * frame[name].nunique() for name in ("pair", "concept"))
    base = alt.Chart(frame[frame[column].notna()], width=width, height=height).encode(
        x=alt.X("pair:N", title=None, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("concept:N", title=None),
    )
    space = frame["space"].iloc[0]
    q = None if column == "value" else column.removesuffix("excess") + "q"
    tips = ["concept:N", "pair:N", "pairs:Q", alt.Tooltip(f"{column}:Q", format=".3~g")]
    tips += [] if q is None else [alt.Tooltip(f"{q}:Q", format=".3~g")]
    colour = alt.Color(
        f"{column}:Q",
        scale=alt.Scale(scheme="viridis", domain=list(ends)),
        title=label,
        legend=alt.Legend(gradientLength=100),
    )
    layers: list[alt.Chart] = [base.mark_rect().encode(color=colour, tooltip=tips)]
    if q is not None:
        layers.append(significant(base, q, level=_SIGNIFICANT))
    return alt.layer(*layers).properties(title=f"{space}: {title}")


def _nothing() -> BadInput:
    return BadInput(
        "No concept has enough matched pairs for this measure, so there is nothing to plot. Pass "
        "more words, or SAEs with more features."
    )
