"""Plots of probes: distributions, box plots, score against ceiling, ladder and sweep.

A *group* is the probes of one SAE, site and run. Most plots show one group.
"""

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.probe.tables import RUNGS, VERDICTS, ladder, load, sweep
from atlas.api import Atlas
from atlas.errors import BadInput, Missing
from atlas.studies.results import Result
from ingest.probe.settings import CLASSIFIERS

__all__ = [
    "KINDS",
    "draw",
    "draw_activation",
    "draw_distribution",
    "draw_ladder",
    "draw_probes",
    "draw_scatter",
    "draw_splits",
]

SCORES = {
    "accuracy": "accuracy of the probe, natural prevalence",
    "balanced_accuracy": "balanced accuracy of the probe",
    "token_table": "token table: training counts by token id",
    "token_ceiling": "token ceiling: best function of the token id",
    "control": "control: probe of a permuted task",
    "shuffled": "probe trained on shuffled labels",
}
#: Names in legends, which fit a phone.
_SHORT = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "token_ceiling": "token ceiling",
    "control": "control task",
}
_COLOURS = {
    "accuracy": "#bab0ac",
    "balanced_accuracy": "#4c78a8",
    "token_table": "#d0a354",
    "token_ceiling": "#e08a3c",
    "control": "#8a8a8a",
    "shuffled": "#c9c9c9",
}
_UNJUDGED = "not judged"
_VERDICT_COLOURS = {
    "token": "#4c78a8",
    "beyond token": "#9c5fb5",
    "context": "#e08a3c",
    "undecided": "#a0a0a0",
    _UNJUDGED: "#d5d5d5",
}
_LADDERS = ("accuracy", "balanced_accuracy")
_BOXES = ("accuracy", "balanced_accuracy", "token_ceiling", "control")

_WIDTH = 360


def draw_probes(table: pd.DataFrame, *, kind: str = "scatter", every_site: bool = False) -> Chart:
    """Plot probe scores.

    Parameters
    ----------
    table
        The result of ``analysis.probe.tables.load``; only classifiers are plotted:
        probes of kind 'activation' are not.
    kind
        One of ``KINDS``; ``"page"`` combines all of them.
    every_site
        Whether to plot the groups of every site. By default, only the first site of each SAE in
        model order is plotted. The sweep always has every site.

    Raises
    ------
    BadInput
        If no probe has a score, the kind is unknown, or a sweep is requested and every SAE was
        probed at one site only.
    """
    if kind not in KINDS:
        raise BadInput(f"Unknown plot {kind!r}; expected one of {', '.join(KINDS)}.")
    active = table[table["kind"].isin(CLASSIFIERS) & table["balanced_accuracy"].notna()]
    if not len(active):
        raise BadInput(
            "No selected probe that predicts activity has a balanced accuracy, so there is nothing to plot."
        )
    shown = active if every_site else _first_sites(active)
    if kind == "page":
        return _page(active, shown)
    if kind == "sweep":
        return _sweeps(active)
    if kind == "splits":
        return draw_splits(shown)
    return _stacked([_ONE_GROUP[kind](of) for of in _groups(shown)])


def draw(result: Result) -> Chart:
    """Plot the scores of a result of ``ingest.probe.study.probe_saes`` against the token ceiling.

    Raises
    ------
    BadInput
        If no probe has both a score and a ceiling.
    Missing
        If the result has no atlas.
    """
    if result.atlas is None:
        raise Missing(
            f"The plot of probes needs the features of {result['sae']}, and the result has no atlas. "
            "Set `result.atlas` to the folder of the atlas."
        )
    with Atlas.open(result.atlas) as atlas:
        of = load(atlas, saes=[result["sae"]], sites=[result["site"]], run=result["run"])
    active = bool(of["kind"].isin(CLASSIFIERS).any())
    score, ceiling = (
        ("balanced_accuracy", "token_ceiling") if active else ("r2", "r2_token_ceiling")
    )
    if not of[[score, ceiling]].notna().all(axis=1).any():
        raise BadInput(
            f"No probe of {result['sae']} at {result['site']} (run {result['run']}) has both a score and a "
            "token ceiling, so there is nothing to plot. `atlas probe` reports why features are excluded."
        )
    of = of.dropna(subset=[score])
    return finished(draw_scatter(of) if active else draw_activation(of))


def draw_distribution(of: pd.DataFrame) -> Chart:
    """Plot histograms of the scores of one group, on a common axis with their means.

    Parameters
    ----------
    of
        Rows of one SAE, site and run.
    """
    scores = {name: of[name].dropna() for name in SCORES if of[name].notna().any()}
    edges = _edges(_floor(min(float(values.min()) for values in scores.values())))
    last = list(scores)[-1]
    panels = [
        _histogram(values, edges, name=name, labels=name == last) for name, values in scores.items()
    ]
    return alt.vconcat(
        *panels, spacing=4, title=_title("Distribution of scores", of, "line: mean over features")
    )


def _histogram(
    values: "pd.Series[Any]", edges: "np.ndarray[Any, Any]", *, name: str, labels: bool
) -> Chart:
    """Return the histogram of one score with its mean; only the last of a column has labels."""
    axis = _ticks("score on validation, bins of 0.02")
    if not labels:
        axis = alt.Axis(labels=False, ticks=False, title=None, tickCount=6)
    base = alt.Chart(_bins(values, edges), width=_WIDTH, height=46)
    bars = base.mark_bar(color=_COLOURS[name]).encode(
        x=alt.X(
            "low:Q",
            bin="binned",
            axis=axis,
            scale=alt.Scale(domain=[float(edges[0]), 1.0], nice=False),
        ),
        x2="high:Q",
        y=alt.Y("features:Q", axis=alt.Axis(title="features", tickCount=2, format="~s")),
        tooltip=["low:Q", "high:Q", "features:Q"],
    )
    means = base.mark_rule(color="black", strokeWidth=1.5).encode(x="mean(mean):Q")
    title = f"{SCORES[name]} (mean {values.mean():.3f}, n = {len(values):,})"
    return alt.layer(bars, means).properties(title=title)


def draw_scatter(of: pd.DataFrame) -> Chart:
    """Plot the balanced accuracy of each feature's probe against its token ceiling.

    Parameters
    ----------
    of
        Rows of one SAE, site and run.
    """
    data = of.dropna(subset=["token_ceiling"])[
        [
            "feature",
            "top_token",
            "balanced_accuracy",
            "low",
            "high",
            "token_ceiling",
            "token_table",
            "frequency",
            "verdict",
        ]
    ].copy()
    data["top_token"] = [_visible(token) for token in data["top_token"]]
    data["verdict"] = data["verdict"].where(data["verdict"].isin(VERDICTS), _UNJUDGED)
    ranks = {name: rank for rank, name in enumerate(_VERDICT_COLOURS)}
    # Draw undecided features first, below the others.
    data = data.sort_values("verdict", key=lambda names: names.map(ranks), ascending=False)
    domain = [v for v in _VERDICT_COLOURS if v in VERDICTS or v in set(data["verdict"])]
    numbers = [str(name) for name in data.select_dtypes("number")]
    data[numbers] = data[numbers].round(5)
    lows = data[["balanced_accuracy", "token_ceiling"]].min()
    low = _floor(float(lows.min())) if len(data) else 0.4
    scale = _scores(low)
    chosen = alt.selection_point(_named("chosen", of), fields=["verdict"], bind="legend")
    points = (
        alt.Chart(data)
        .mark_circle(clip=True, stroke=None)
        .encode(
            x=alt.X(
                "token_ceiling:Q", axis=_ticks("token ceiling (balanced accuracy)"), scale=scale
            ),
            y=alt.Y(
                "balanced_accuracy:Q", axis=_ticks("balanced accuracy of the probe"), scale=scale
            ),
            color=alt.Color(
                "verdict:N",
                title="verdict",
                legend=alt.Legend(symbolOpacity=1),
                scale=alt.Scale(domain=domain, range=[_VERDICT_COLOURS[v] for v in domain]),
            ),
            size=_size(data),
            opacity=alt.when(chosen)
            .then(alt.value(_opacity(len(data))))
            .otherwise(alt.value(0.02)),
            tooltip=_tooltips(),
        )
        .add_params(chosen, _zoom(_named("zoom", of)))
    )
    counts = ", ".join(f"{v} {n:,}" for v, n in _verdict_counts(of) if n)
    note = "above the dashed line: better than any prediction from the token id"
    title = _title("Score against ceiling", of, counts or "no feature has a verdict", note)
    return alt.layer(_diagonal(low, scale), points).properties(
        width=_WIDTH, height=_WIDTH, title=title
    )


def draw_activation(of: pd.DataFrame) -> Chart:
    """Plot the R² of each feature's probe of its activation against its token ceiling.

    Parameters
    ----------
    of
        Rows of one SAE, site and run, of kind 'activation'.
    """
    names = ["feature", "top_token", "r2", "r2_token_ceiling", "r2_token_table", "frequency"]
    data = of.dropna(subset=["r2_token_ceiling"])[names].copy()
    data["top_token"] = [_visible(token) for token in data["top_token"]]
    low = min(0.0, *(float(np.floor(data[n].min() * 10) / 10) for n in ("r2", "r2_token_ceiling")))
    # Few probes predict worse than the mean by far; they are drawn at the edge.
    low = max(low, -1.0)
    data["shown"] = data["r2"].clip(lower=low)
    below = int((data["r2"] < low).sum())
    scale = _scores(low)
    points = (
        alt.Chart(data)
        .mark_circle(
            clip=True, stroke=None, color=_VERDICT_COLOURS["token"], opacity=_opacity(len(data))
        )
        .encode(
            x=alt.X("r2_token_ceiling:Q", axis=_ticks("token ceiling (R²)"), scale=scale),
            y=alt.Y("shown:Q", axis=_ticks("R² of the probe"), scale=scale),
            size=_size(data),
            tooltip=[
                "feature:N",
                alt.Tooltip("top_token:N", title="top token"),
                *(
                    alt.Tooltip(f"{n}:Q", format=".4f")
                    for n in ("r2", "r2_token_ceiling", "r2_token_table")
                ),
            ],
        )
        .add_params(_zoom(_named("zoom", of)))
    )
    notes = ["above the dashed line: better than any prediction from the token id"]
    if below:
        notes.append(f"{below:,} below {low:g} are drawn at {low:g}")
    title = _title("Score against ceiling", of, *notes)
    return alt.layer(_diagonal(low, scale), points).properties(
        width=_WIDTH, height=_WIDTH, title=title
    )


def draw_ladder(of: pd.DataFrame) -> Chart:
    """Plot the number of probes of one group by ranges of accuracy and of balanced accuracy.

    Parameters
    ----------
    of
        Rows of one SAE, site and run.
    """
    rows = [
        {"score": _SHORT[name], "percent": 100 * (rung["share"] or 0), **rung}
        for name in _LADDERS
        for rung in ladder(of[name])
    ]
    order = [_SHORT[name] for name in _LADDERS]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("rung:N", title="score on validation", sort=[name for name, _ in RUNGS]),
        yOffset=alt.YOffset("score:N", sort=order),
        x=alt.X("percent:Q", title="share of features (%)").scale(domain=[0, 100]),
        tooltip=[
            "score:N",
            "rung:N",
            alt.Tooltip("count:Q", title="features"),
            alt.Tooltip("at_least:Q", title="features in this range or above"),
        ],
    )
    colour = alt.Color("score:N", sort=order, title=None).scale(
        domain=order, range=[_COLOURS[name] for name in _LADDERS]
    )
    bars = base.mark_bar().encode(color=colour.legend(orient="bottom", direction="vertical"))
    counts = base.mark_text(align="left", dx=3, fontSize=10).encode(
        text=alt.Text("count:Q", format=",")
    )
    return alt.layer(bars, counts).properties(
        width=260, height=300, title=_title("Ladder", of, "labels: number of features")
    )


def draw_splits(table: pd.DataFrame) -> Chart:
    """Draw box plots of the scores by run, with one plot for each SAE and site.

    Parameters
    ----------
    table
        Rows of any SAEs, sites and runs.
    """
    groups = table.groupby(["sae", "site"], sort=False)
    return _stacked([_boxes(of) for _, of in groups])


def _page(active: pd.DataFrame, shown: pd.DataFrame) -> Chart:
    """Combine all plots: a row for each group, then the plots that compare groups."""
    rows = [
        alt.hconcat(
            draw_distribution(of), draw_scatter(of), draw_ladder(of), spacing=40
        ).resolve_scale(color="independent", size="independent")
        for of in _groups(shown)
    ]
    rows.append(draw_splits(shown))
    if sweep(active):
        rows.append(_sweeps(active))
    features = active["feature"].nunique()
    title = heading(
        "Can a linear probe predict where a feature is active?",
        f"{features:,} features of {_listed(active['sae'])}; validation scores; chance level of balanced accuracy is 0.5",
    )
    return _stacked(rows).properties(title=title)


def _sweeps(active: pd.DataFrame) -> Chart:
    rows = pd.DataFrame(sweep(active))
    if not len(rows):
        raise BadInput(
            "A sweep needs probes from at least two sites for the same SAE and run; "
            "run `atlas probe SAE --from all`."
        )
    return _stacked([_heat_map(of) for _, of in rows.groupby("run", sort=False)])


def _heat_map(of: pd.DataFrame) -> Chart:
    of = of.assign(
        reads=["embedding" if pd.isna(layer) else f"layer {int(layer)}" for layer in of["layer"]]
    )
    of["row"] = [f"{r.reads} · {r.sae} (n = {r.features:,})" for r in of.itertuples()]
    sites = list(of.sort_values("site_rank")["site"].drop_duplicates())
    base = alt.Chart(of.drop(columns=["layer", "site_layer"])).encode(
        x=alt.X("site:N", sort=sites, title="probed site").axis(labelAngle=-40),
        y=alt.Y("row:N", sort=list(of["row"].drop_duplicates()), title=None),
        tooltip=[
            "sae:N",
            "reads:N",
            "site:N",
            alt.Tooltip("balanced_accuracy:Q", format=".4f"),
            alt.Tooltip("token_ceiling:Q", format=".4f"),
            "features:Q",
            "left_out:Q",
            "beyond_token:Q",
        ],
    )
    cells = base.mark_rect(stroke="white").encode(
        color=alt.Color("balanced_accuracy:Q", title=["mean balanced", "accuracy"]).scale(
            scheme="blues", domain=[0.5, 1], clamp=True
        )
    )
    numbers = base.mark_text(fontSize=10).encode(
        text=alt.Text("balanced_accuracy:Q", format=".2f"),
        color=alt.when("datum.balanced_accuracy > 0.75")
        .then(alt.value("white"))
        .otherwise(alt.value("#333333")),
    )
    subtitle = (f"run {of['run'].iloc[0]}", "means over the n features scored at every site")
    return alt.layer(cells, numbers).properties(
        width=alt.Step(44),
        height=alt.Step(28),
        title=heading("Score by layer of the SAE and probed site", *subtitle),
    )


def _boxes(of: pd.DataFrame) -> Chart:
    rows = []
    for run, group in of.groupby("run", sort=False):
        for name in _BOXES:
            scores = group[name].dropna()
            if len(scores):
                ends = np.quantile(scores, [0.05, 0.25, 0.5, 0.75, 0.95])
                quantiles = dict(
                    zip(("p5", "q1", "median", "q3", "p95"), ends.tolist(), strict=True)
                )
                rows.append({"run": run, "score": _SHORT[name], "n": len(scores), **quantiles})
    order = [_SHORT[name] for name in _BOXES]
    low = _floor(min(row["p5"] for row in rows))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("run:N", title="run (split first)", sort=None),
        yOffset=alt.YOffset("score:N", sort=order),
        tooltip=[
            "run:N",
            "score:N",
            "n:Q",
            *(
                alt.Tooltip(f"{name}:Q", format=".4f")
                for name in ("p5", "q1", "median", "q3", "p95")
            ),
        ],
    )
    colour = alt.Color("score:N", sort=order, title=None).scale(
        domain=order, range=[_COLOURS[name] for name in _BOXES]
    )
    whiskers = base.mark_rule(color="#888888").encode(
        x=alt.X("p5:Q", axis=_ticks("score on validation"), scale=_scores(low)), x2="p95:Q"
    )
    boxes = base.mark_bar(size=12).encode(x="q1:Q", x2="q3:Q", color=colour)
    middles = base.mark_tick(color="black", thickness=2, size=12).encode(x="median:Q")
    n = ", ".join(f"{run}: n = {len(group):,}" for run, group in of.groupby("run", sort=False))
    return alt.layer(whiskers, boxes, middles).properties(
        width=560,
        height=alt.Step(18),
        title=heading(
            f"Scores by split: {of['sae'].iloc[0]} · {of['site'].iloc[0]}",
            n,
            "box: quartiles and median; line: 5th to 95th percentile",
        ),
    )


def _bins(values: "pd.Series[Any]", edges: "np.ndarray[Any, Any]") -> pd.DataFrame:
    """Count the features in each bin of a score, with its mean."""
    scores = values.to_numpy(float)
    counts, _ = np.histogram(scores, edges)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "features": counts,
            "mean": scores.mean(),
        }
    )


def _groups(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [of for _, of in table.groupby(["sae", "site", "run"], sort=False)]


def _first_sites(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["site_rank"] == table.groupby("sae")["site_rank"].transform("min")]


def _stacked(pictures: Sequence[Chart]) -> Chart:
    stacked: Chart = alt.vconcat(*pictures).resolve_scale(color="independent", size="independent")
    return stacked


def _title(text: str, of: pd.DataFrame, *more: str) -> alt.TitleParams:
    first = of.iloc[0]
    where = f"{first['sae']} · {first['site']}"
    return heading(text, where, f"run {first['run']}; n = {len(of):,} features", *more)


def _scores(low: float) -> alt.Scale:
    # The domain extends beyond 1, so that points at 1 are not clipped.
    return alt.Scale(domain=[low, 1.01], nice=False, zero=False)


def _diagonal(low: float, scale: alt.Scale) -> alt.Chart:
    """Return a dashed line of equal coordinates."""
    line: alt.Chart = (
        alt.Chart(pd.DataFrame({"x": [low, 1.01]}))
        .mark_line(color="#555555", strokeDash=[4, 3], strokeWidth=1)
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("x:Q", scale=scale))
    )
    return line


def _size(data: pd.DataFrame) -> Any:
    """Return the size of points: by log frequency, if all features have a frequency."""
    small = len(data) > 4000
    frequency = data["frequency"]
    if not len(data) or not (frequency > 0).all() or frequency.min() == frequency.max():
        return alt.value(10 if small else 30)
    return alt.Size(
        "frequency:Q",
        title=["frequency", "(share of tokens)"],
        scale=alt.Scale(type="log", range=[3, 24] if small else [10, 120]),
        legend=alt.Legend(
            format="~g", tickCount=4, symbolFillColor="#888888", symbolStrokeColor="#888888"
        ),
    )


def _opacity(points: int) -> float:
    return 0.7 if points < 500 else 0.45 if points < 4000 else 0.3


def _tooltips() -> list[Any]:
    numbers = ("balanced_accuracy", "low", "high", "token_ceiling", "token_table")
    return [
        "feature:N",
        alt.Tooltip("top_token:N", title="top token"),
        "verdict:N",
        *(alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=".4f") for name in numbers),
        alt.Tooltip("frequency:Q", format=".3g"),
    ]


def _ticks(title: str) -> alt.Axis:
    return alt.Axis(title=title, tickCount=6)


def _named(prefix: str, of: pd.DataFrame) -> str:
    """Return a parameter name that is unique to the group on the page."""
    first = of.iloc[0]
    group = f"{first['sae']} {first['site_id']} {first['run']}"
    return f"{prefix}_{crc32(group.encode()):08x}"


def _zoom(name: str) -> alt.Parameter:
    """Return panning by drag and zoom by Shift and wheel; the wheel alone scrolls the page."""
    return alt.selection_interval(name, bind="scales", zoom="wheel![event.shiftKey]")


def _verdict_counts(of: pd.DataFrame) -> list[tuple[str, int]]:
    counts = of["verdict"].value_counts()
    return [(name, int(counts.get(name, 0))) for name in VERDICTS]


def _visible(token: Any) -> str:
    """Return a token with visible spaces and line breaks."""
    if not isinstance(token, str):
        return "–"
    return f"“{token}”".replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")


def _listed(names: "pd.Series[Any]") -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique) if len(unique) < 5 else f"{len(unique)} SAEs"


def _edges(low: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the edges of bins of width 0.02, rounded so that 0.5 is an edge."""
    return np.round(np.linspace(low, 1, round((1 - low) / 0.02) + 1), 6)


def _floor(value: float) -> float:
    """Return the start of a score axis: 0.4, or a round number below the lowest score."""
    return min(0.4, max(0.0, float(np.floor(value * 10 + 1e-9) / 10)))


_ONE_GROUP: dict[str, Callable[[pd.DataFrame], Chart]] = {
    "distribution": draw_distribution,
    "scatter": draw_scatter,
    "ladder": draw_ladder,
}

#: Kinds of plots.
KINDS = (*_ONE_GROUP, "splits", "sweep", "page")
