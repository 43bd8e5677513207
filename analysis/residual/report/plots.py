"""Figures of a residual study and of the layer sweep: distributions, boxes, differences, R² by layer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, heading
from analysis.probe.tables import VERDICTS
from analysis.residual.report.arm_difference import Difference
from analysis.residual.report.study import EMBEDDING, ResidualStudy

__all__ = [
    "draw_boxes",
    "draw_differences",
    "draw_distributions",
    "draw_sweep",
    "draw_verdicts",
    "sweep_table",
    "verdict_table",
]

COLOURS = {
    "baseline": "#4c78a8",
    "residual": "#e08a3c",
    "components": "#8a8a8a",
    "token-means": "#54a24b",
}
_VERDICTS = {
    "token": "#4c78a8",
    "beyond token": "#9c5fb5",
    "context": "#e08a3c",
    "undecided": "#c4c4c4",
}
_LINES = {
    "affine map, held out": ("r2_weighted", [1, 0]),
    "token means, held out": ("token_r2_weighted", [5, 3]),
    "affine map in sample": ("r2_in_sample_weighted", [1, 3]),
    "floor: random weights": ("floor_r2_weighted", [8, 3, 2, 3]),
}
_WIDTH = 400


def draw_distributions(study: ResidualStudy) -> Chart:
    """Draw histograms of balanced accuracy over the features of each arm, for all seeds together.

    The histograms show shares, because the number of features that pass the filter differs
    between arms.
    """
    scores = {
        arm: values
        for arm in study.arms_there
        if len(values := np.concatenate([p.sample().scores for p in study.of(arm)]))
    }
    low = _floor(np.concatenate(list(scores.values())))
    edges = np.round(np.linspace(low, 1, round((1 - low) / 0.02) + 1), 6)
    rows = pd.concat([_bins(study, arm, scores[arm], edges) for arm in scores])
    base = alt.Chart().encode(
        x=alt.X(
            "low:Q",
            bin="binned",
            axis=alt.Axis(title="balanced accuracy on validation", tickCount=6),
            scale=alt.Scale(domain=[low, 1.0], nice=False),
        ),
    )
    bars = base.mark_bar().encode(
        x2="high:Q",
        y=alt.Y("share:Q", axis=alt.Axis(title="share", tickCount=2, format=".0%")),
        color=_colour(list(scores), legend=None),
    )
    means = alt.Chart().mark_rule(color="black", strokeWidth=1.5).encode(x="mean(mean):Q")
    panels = alt.layer(bars, means, data=rows).properties(width=_WIDTH, height=60)
    header = alt.Header(title=None, labelAnchor="start", labelFontSize=10.5, labelPadding=2)
    titles = list(dict.fromkeys(rows["panel"]))
    drawn: Chart = panels.facet(
        alt.Facet("panel:N", sort=titles, header=header), columns=1, spacing=5
    )
    return drawn.properties(
        title=heading("Distribution of scores by arm", *_where(study), "line: mean; bins of 0.02")
    )


def draw_boxes(study: ResidualStudy) -> Chart:
    """Draw box plots of the probe scores of each arm, with the scores of the token id."""
    shown = {
        "balanced_accuracy": "probe",
        "token_table": "token table",
        "token_ceiling": "token ceiling" if study.site == EMBEDDING else "best by token id",
    }
    rows = [
        _box(arm, title, values)
        for arm in study.arms_there
        for name, title in shown.items()
        if len(values := np.concatenate([p.sample(name).scores for p in study.of(arm)]))
    ]
    low = _floor(np.array([row["p5"] for row in rows]))
    scale = alt.Scale(domain=[low, 1.01], nice=False, zero=False)
    order = list(shown.values())
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("arm:N", title=None, sort=study.arms_there),
        yOffset=alt.YOffset("score:N", sort=order),
    )
    colour = alt.Color("score:N", sort=order, title=None).scale(
        domain=order, range=["#4c78a8", "#d0a354", "#e08a3c"]
    )
    whiskers = base.mark_rule(color="#888888").encode(
        x=alt.X(
            "p5:Q", scale=scale, axis=alt.Axis(title="balanced accuracy on validation", tickCount=6)
        ),
        x2="p95:Q",
    )
    boxes = base.mark_bar(size=12).encode(
        x="q1:Q", x2="q3:Q", color=colour.legend(orient="bottom", columns=3)
    )
    middles = base.mark_tick(color="black", thickness=2, size=12).encode(x="median:Q")
    return alt.layer(whiskers, boxes, middles).properties(
        width=_WIDTH,
        height=alt.Step(18),
        title=heading(
            "Scores by arm: probes and token id",
            *_where(study),
            "box: quartiles and median; line: 5th to 95th percentile",
        ),
    )


def draw_differences(found: Sequence[Difference]) -> Chart:
    """Draw the differences between arms with their intervals, and the difference of each seed."""
    known = [d for d in found if d.mean is not None]
    order = [_named(d) for d in known]
    rows = pd.DataFrame(
        [{"pair": _named(d), "mean": d.mean, "low": d.low, "high": d.high} for d in known]
    )
    seeds = pd.DataFrame(
        [
            {"pair": _named(d), "seed": seed, "difference": value}
            for d in known
            for seed, value in d.by_seed.items()
        ]
    )
    y = alt.Y("pair:N", title=None, sort=order)
    axis = alt.Axis(title="difference of mean balanced accuracy", tickCount=6)
    zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color="#888888", strokeDash=[4, 3])
    points = alt.Chart(seeds).mark_point(
        shape="stroke", angle=90, size=120, color="#8a8a8a", strokeWidth=1.5
    )
    limits = alt.Chart(rows).mark_rule(color="black", strokeWidth=2)
    means = alt.Chart(rows).mark_point(
        shape="diamond", filled=True, size=90, color="#e08a3c", opacity=1
    )
    return alt.layer(
        zero.encode(x="at:Q"),
        points.encode(x=alt.X("difference:Q", axis=axis), y=y),
        limits.encode(x="low:Q", x2="high:Q", y=y),
        means.encode(x="mean:Q", y=y),
    ).properties(
        width=_WIDTH,
        height=alt.Step(30),
        title=heading(
            "Differences between arms",
            "diamond and line: mean over seeds and its 95% interval",
            "grey strokes: single seeds; left of 0: harder to predict",
        ),
    )


def sweep_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the points of the sweep's lines, of one run for each model and target.

    The closed form has priority over other methods, and of its runs the one with most of the
    model's targets, so that each line shows one run if possible.

    Parameters
    ----------
    rows
        Result of ``analysis.residual.report.sweep.sweep_rows``.

    Returns
    -------
    table
        A row for each point; no rows if no target is the output of a block.
    """
    post = [row for row in rows if row["target"].endswith("hook_resid_post")]
    targets = Counter((row["model"], row["run"]) for row in post)
    chosen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in sorted(
        post, key=lambda r: (r["method"] != "closed form", -targets[r["model"], r["run"]], r["run"])
    ):
        chosen.setdefault((row["model"], row["target"]), row)
    return pd.DataFrame(
        [
            {
                "model": row["model"],
                "target": row["target"],
                "layer": _layer(row),
                "line": name,
                "r2": row[column],
                "low": row["r2_low"] if column == "r2_weighted" else None,
                "high": row["r2_high"] if column == "r2_weighted" else None,
            }
            for row in rows
            if chosen.get((row["model"], row["target"])) is row
            for name, (column, _) in _LINES.items()
            if row[column] is not None
        ]
    )


def draw_sweep(rows: Sequence[Mapping[str, Any]], *, source: str = "hook_embed") -> Chart:
    """Draw R² of affine maps by layer, with token means and floor, in a panel for each model.

    Parameters
    ----------
    rows
        Result of ``analysis.residual.report.sweep.sweep_rows``, with rows in ``sweep_table``.
    source
        The source site.
    """
    table = sweep_table(rows)
    order = [name for name in _LINES if name in set(table["line"])]
    layers = sorted(set(table["layer"]))
    every = layers[:: max(1, len(layers) // 10)]
    x = alt.X("layer:Q", title="target: after block").axis(values=every, format="d")
    scale = alt.Scale(domain=[min(0.0, float(table["r2"].min())), 1.0])
    base = alt.Chart().encode(x=x)
    bands = (
        base.transform_filter(alt.datum.line == "affine map, held out")
        .mark_area(opacity=0.2, color="#4c78a8")
        .encode(y=alt.Y("low:Q"), y2="high:Q")
    )
    lines = base.mark_line(point=True, strokeWidth=1.8).encode(
        y=alt.Y("r2:Q", title="R², variance-weighted", scale=scale),
        color=alt.Color("line:N", title=None, sort=order)
        .scale(domain=order, range=["#4c78a8", "#e08a3c", "#b0b0b0", "#666666"][: len(order)])
        .legend(orient="bottom", columns=2, symbolType="stroke"),
        strokeDash=alt.StrokeDash("line:N", sort=order, legend=None).scale(
            domain=order, range=[_LINES[name][1] for name in order]
        ),
    )
    drawn: Chart = (
        alt.layer(bands, lines, data=table)
        .properties(width=_WIDTH, height=200)
        .facet(
            alt.Facet(
                "model:N", title=None, header=alt.Header(labelAnchor="start", labelFontSize=11)
            ),
            columns=1,
        )
    )
    return drawn.properties(
        title=heading(
            f"R² of affine maps from {source} by layer",
            "band: 95% interval over documents of the held-out R²",
        )
    )


def draw_verdicts(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw the share of each verdict by layer of the features, in a panel for each model.

    Parameters
    ----------
    rows
        Result of ``analysis.residual.report.sweep.verdict_rows``, of one run.
    """
    table = verdict_table(rows)
    layers = list(table.sort_values("rank")["layer"].drop_duplicates())
    weights = list(dict.fromkeys(table["weights"]))
    names = [name for name in VERDICTS if (table[table["verdict"] == name]["share"] > 0).any()]
    bars = (
        alt.Chart(table[table["verdict"].isin(names)])
        .mark_bar()
        .encode(
            y=alt.Y("layer:N", sort=layers, title="layer of the features"),
            x=alt.X(
                "share:Q",
                title="share of probed features",
                stack="zero",
                axis=alt.Axis(format=".0%"),
            ),
            color=alt.Color("verdict:N", title=None, sort=names)
            .scale(domain=names, range=[_VERDICTS[name] for name in names])
            .legend(orient="bottom"),
            order="position:Q",
        )
    )
    if len(weights) > 1:
        bars = bars.encode(
            yOffset=alt.YOffset("weights:N", sort=weights),
            opacity=alt.Opacity("weights:N", title=None, sort=weights)
            .scale(domain=weights, range=[1.0, 0.55])
            .legend(orient="bottom"),
        )
    drawn: Chart = (
        bars.properties(width=_WIDTH, height=alt.Step(22 / len(weights) + 3))
        .facet(
            alt.Facet(
                "model:N", title=None, header=alt.Header(labelAnchor="start", labelFontSize=11)
            ),
            columns=1,
        )
        .resolve_scale(y="independent")
    )
    return drawn.properties(title=heading("Verdicts by layer", f"run {rows[0]['run']}"))


def verdict_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each share in the figure, of the model and of its floor.

    Parameters
    ----------
    rows
        As for ``draw_verdicts``.
    """
    return pd.DataFrame(
        [
            {
                "model": row["model"],
                "layer": "embedding" if row["layer"] is None else f"{row['layer']}",
                "rank": -1 if row["layer"] is None else row["layer"],
                "verdict": name,
                "position": position,
                "weights": weights,
                "share": row[f"{before}{name}"],
            }
            for row in rows
            for before, weights in (("", "this model"), ("floor_", "floor: random weights"))
            for position, name in enumerate(VERDICTS)
            if row[f"{before}{name}"] is not None
        ]
    )


def _bins(
    study: ResidualStudy, arm: str, scores: "np.ndarray[Any, np.dtype[np.float64]]", edges: Any
) -> pd.DataFrame:
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    seeds = len({p.seed for p in study.of(arm)})
    summary = (
        f"mean {scores.mean():.3f}, n = {len(scores):,} features, {seeds} seed{'s' * (seeds > 1)}"
    )
    return pd.DataFrame(
        {
            "arm": arm,
            "panel": f"{arm} ({summary})",
            "low": edges[:-1],
            "high": edges[1:],
            "share": counts / max(1, len(scores)),
            "mean": scores.mean(),
        }
    )


def _box(arm: str, score: str, values: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, Any]:
    ends = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    return {
        "arm": arm,
        "score": score,
        **dict(zip(("p5", "q1", "median", "q3", "p95"), ends, strict=True)),
    }


def _where(study: ResidualStudy) -> tuple[str, ...]:
    return (f"study {study.name}, probed from {study.site}", f"run {study.run}; 0.5 is chance")


def _named(difference: Difference) -> str:
    return f"{difference.one} − {difference.other}"


def _colour(arms: Sequence[str], **more: Any) -> alt.Color:
    return alt.Color(
        "arm:N",
        scale=alt.Scale(domain=list(arms), range=[COLOURS.get(a, "#b279a2") for a in arms]),
        **more,
    )


def _layer(row: Mapping[str, Any]) -> int:
    return -1 if row["layer"] is None else int(row["layer"])


def _floor(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    """Return the lower limit of an axis of scores: 0.4, or a round number below the lowest score."""
    return min(0.4, max(0.0, float(np.floor(values.min() * 10 + 1e-9) / 10)))
