"""Plots draw the values of the tables, and a result without a plot is one message."""

import random

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from drawn_charts import axis_titles, check_chart, marks, row_values, titles
from probe_edges import DOCUMENT, EMBED, HOW_MUCH, edge, made_atlas, random_edges
from small_ingest import model, named, run, texts, topk
from small_parts import filled

from analysis.communities.plots import draw as draw_communities
from analysis.communities.study import graph_features
from analysis.graph.study import _CURVE_ROWS, _NULL_ROWS
from analysis.graph_comparison.comparison import Comparison, Row
from analysis.graph_comparison.distances import CURVES
from analysis.graph_matching.ranks import MEASURES
from analysis.graph_matching.study import tables_of
from analysis.match.plots import claims
from analysis.plot_style import finished, save
from atlas.api import Atlas
from atlas.errors import BadInput, Missing
from atlas.plugins import find_plotter, study_commands
from atlas.studies.results import Result
from ingest.match.settings import MatchSettings
from ingest.match.study import match_saes
from ingest.probe.study import ProbeStudy, _verdict


def result_of(kind, summary, tables=()):
    tables = dict(tables)
    return Result(kind, "x", summary, tables=(tables, tables.__getitem__))


#: Studies without a plot.
WITHOUT_PLOT = {"floors", "ground_truth", "near_direction", "residual"}


def test_every_study_has_a_plot():
    assert {kind for kind in study_commands() if find_plotter(kind) is None} == WITHOUT_PLOT
    assert callable(find_plotter("concept_ablation"))  # a study without its own command
    assert find_plotter("no such study") is None


def test_a_plot_does_not_change_the_options_of_altair(tmp_path):
    before = (alt.theme.active, alt.data_transformers.active, dict(alt.data_transformers.options))
    rows = pd.DataFrame({"x": np.arange(6000.0)})  # Altair refuses more than 5,000 rows
    chart = alt.layer(alt.Chart(rows).mark_point().encode(x="x:Q")) | alt.Chart(rows).mark_bar()
    with pytest.raises(alt.MaxRowsError):
        chart.to_dict()
    drawn = finished(chart)
    assert {len(mark.rows) for mark in marks(drawn)} == {6000}
    assert drawn.to_dict()["config"]["axis"]["labelColor"] == "#333333"
    save(chart, tmp_path / "x.svg")
    after = (alt.theme.active, alt.data_transformers.active, dict(alt.data_transformers.options))
    assert before == after
    assert "config" not in chart.hconcat[1].to_dict()["mark"]
    faceted = alt.Chart(rows).mark_point().encode(x="x:Q").facet("x:O", columns=2)
    assert {len(mark.rows) for mark in marks(finished(faceted))} == {6000}


# Matches


def matches(rows):
    columns = ("one_to_one", "pearson", "q", "token_q", "token_document_q", "fixed_share")
    return filled("MATCHES", "match", [dict(zip(columns, row, strict=True)) for row in rows])


def match_result(rows, *, threshold=0.2):
    summary = {
        "a": "one",
        "b": "two",
        "tokens": 1000,
        "alignment": "tokens",
        "null_threshold": threshold,
    }
    return result_of("match", summary, {"MATCHES": matches(rows)})


CLAIMED = [
    ((True, 0.91, 0.01, 0.01, 0.05, 0.0), "beyond the token"),
    ((True, 0.80, 0.05, 0.05, 0.06, 0.9), "undecided"),
    ((True, 0.70, 0.05, 0.05, 0.06, 0.5), "synchronous"),
    ((True, 0.60, 0.05, 0.06, 0.01, 0.9), "synchronous"),
    ((True, 0.50, 0.06, 0.01, 0.01, 0.0), "not significant"),
    ((True, 0.40, None, None, None, None), "not tested"),
]


def test_claims_of_matches():
    table = matches([row for row, _ in CLAIMED]).to_pandas()
    assert claims(table).tolist() == [claim for _, claim in CLAIMED]


def test_the_bars_of_a_match_are_counts_of_its_matches():
    draw = random.Random(0)
    rows = [
        (
            draw.random() < 0.8,
            draw.uniform(-0.2, 1),
            *(draw.choice([0.01, 0.2]) for _ in range(3)),
            draw.random(),
        )
        for _ in range(300)
    ]
    drawn = check_chart(match_result(rows).plot())
    bars, line = marks(drawn)
    own = [row for row in rows if row[0]]
    assert sum(row["matches"] for row in bars.rows) == len(own)
    for bar in bars.rows:
        claim = bar["claim"].rpartition(" (")[0]
        inside = [r for r in own if bar["low"] <= r[1] < bar["high"]]
        assert bar["matches"] == sum(claims(matches([r]).to_pandas())[0] == claim for r in inside)
    assert line.rows == [{"threshold": 0.2}]
    assert axis_titles(drawn) == {"Pearson correlation of activations", "one-to-one matches"}
    assert titles(drawn)[:3] == [
        "Correlation of matched features",
        "one and two",
        f"n = {len(own):,} matches over 1,000 tokens",
    ]


def test_matches_without_draws_and_with_one_match_or_none_are_drawn():
    (bars,) = marks(match_result([(True, 1.0, None, None, None, None)] * 2, threshold=None).plot())
    assert [(b["claim"], b["matches"]) for b in bars.rows] == [("not tested (2)", 2)]
    (bars, _) = marks(match_result([(True, 1.0, 0.01, 0.01, 0.01, 0.0)]).plot())
    assert [(b["claim"], b["matches"]) for b in bars.rows] == [("beyond the token (1)", 1)]
    for rows in ([], [(False, 0.5, 0.01, 0.01, 0.01, 0.0)]):
        with pytest.raises(BadInput, match="one and two have no one-to-one match"):
            match_result(rows).plot()


# A small atlas with two SAEs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("plots") / "a.atlas"
    saes = [named(topk(seed=seed), name) for seed, name in ((0, "one"), (1, "two"))]
    run(made, model(), saes, texts(60, words=(10, 30)))
    return made


def test_claims_of_a_match_equal_its_counts(path):
    (result,) = match_saes(path, "all", settings=MatchSettings(draws=19, min_joint=3))
    assert result.atlas == str(path)
    bars = marks(result.plot())[0]
    counts = {}
    for bar in bars.rows:
        counts[bar["claim"]] = counts.get(bar["claim"], 0) + bar["matches"]
    assert sum(counts.values()) == result["one_to_one"]
    counts = {name.rpartition(" (")[0]: n for name, n in counts.items()}
    significant = result["one_to_one"] - counts.get("not significant", 0)
    assert significant == result["significant"]
    assert counts.get("beyond the token", 0) == result["beyond_token"]
    assert counts.get("undecided", 0) == result["undecided"]


def test_the_points_of_communities_are_their_features(path):
    results = graph_features(path, ["one"])
    drawn = check_chart(results[0].plot())
    dots = next(m for m in marks(drawn) if m.rows and "frequency" in m.rows[0])
    with Atlas.open(path) as atlas:
        features = {r["id"]: r for r in atlas.table("Feature", sae="one").to_pylist()}
    big = {c["number"] for c in results[0]["listed"] if c["size"] >= 3}
    assert {row["id"] for row in dots.rows} == {
        id for id, f in features.items() if f["community"] in big
    }
    for row in dots.rows:
        own = features[row["id"]]
        assert (row["community"], row["degree"]) == (own["community"], own["degree"])
        assert row["frequency"] == pytest.approx(own["frequency"])
    assert titles(drawn)[0] == "Communities of one"
    results[0].atlas = None
    with pytest.raises(Missing, match="the result has no atlas"):
        results[0].plot()
    two = Result("graph", "two", {"sae": "two"})
    two.atlas = str(path)
    with pytest.raises(Missing, match="no communities of two"):
        draw_communities(two)


# Probes


def probe_result(path, run, *, sae="one"):
    with Atlas.open(path) as atlas:
        folder = atlas.folder
    parts = [p for k, p in folder.sound().parts.items() if k.startswith(f"probe/{sae}@")]
    summary = {"sae": sae, "site": EMBED, "run": run}
    result = Result(ProbeStudy.kind, parts[0].manifest.name, summary)
    result.atlas = str(path)
    return result


def test_the_points_of_probes_are_their_scores(tmp_path):
    edges = list(random_edges(1))
    path = made_atlas(tmp_path / "p.atlas", edges, counts={"one": [3] * 40})
    drawn = check_chart(probe_result(path, DOCUMENT).plot())
    points = next(mark for mark in marks(drawn) if mark.type == "circle")
    expected = sorted(
        (e["source"], e["balanced_accuracy"], e["token_ceiling"])
        for e in edges
        if e["run"] == DOCUMENT
        and e["balanced_accuracy"] is not None
        and e["token_ceiling"] is not None
    )
    found = row_values(points, "feature", points.field("y"), points.field("x"))
    assert [row[0] for row in found] == [row[0] for row in expected]
    np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in expected], atol=1e-5)
    assert axis_titles(drawn) == {
        "token ceiling (balanced accuracy)",
        "balanced accuracy of the probe",
    }


def test_probes_of_activations_are_drawn_and_need_scores_and_an_atlas(tmp_path):
    rows = [(0, 0.5, 0.75), (1, -3.0, 0.25), (2, None, 0.5), (3, 0.25, None)]
    edges = [edge("one", i, run=HOW_MUCH, r2=r2, r2_token_ceiling=top) for i, r2, top in rows]
    path = made_atlas(tmp_path / "p.atlas", edges, counts={"one": [3] * 4})
    drawn = check_chart(probe_result(path, HOW_MUCH).plot())
    points = next(mark for mark in marks(drawn) if mark.type == "circle")
    assert row_values(points, "feature", "r2", "r2_token_ceiling") == [
        ("one/0", 0.5, 0.75),
        ("one/1", -3.0, 0.25),
    ]
    assert row_values(points, "feature", points.field("y")) == [("one/0", 0.5), ("one/1", -1.0)]
    assert "1 below -1 are drawn at -1" in titles(drawn)
    assert axis_titles(drawn) == {"token ceiling (R²)", "R² of the probe"}
    for name, fields in (("none", {}), ("score", {"balanced_accuracy": 0.7})):
        path = made_atlas(tmp_path / f"{name}.atlas", [edge("one", 0, run=DOCUMENT, **fields)])
        with pytest.raises(BadInput, match="No probe of one at hook_embed"):
            probe_result(path, DOCUMENT).plot()
    one = edge("one", 0, run=DOCUMENT, balanced_accuracy=0.7, token_ceiling=0.8)
    path = made_atlas(tmp_path / "single.atlas", [one])
    (point,) = marks(probe_result(path, DOCUMENT).plot())[1].rows
    assert (point["balanced_accuracy"], point["token_ceiling"]) == (0.7, 0.8)
    alone = probe_result(path, DOCUMENT)
    alone.atlas = None
    with pytest.raises(Missing, match="the result has no atlas"):
        alone.plot()


def test_every_probe_result_has_a_verdict():
    row = dict.fromkeys(("balanced_accuracy", "token_ceiling", "r2", "r2_token_ceiling"))
    row |= {"sae": "one", "site": EMBED, "run": "r", "features": 4, "verdicts": {}}
    for fields, words in (
        ({}, "no feature has a score."),
        ({"verdicts": {"token": 3, "context": 1}}, "1 context, 3 token."),
        ({"balanced_accuracy": 0.75}, "mean balanced accuracy 0.750 of 4 features."),
        (
            {"r2": -0.5, "r2_token_ceiling": 0.25},
            "mean R² -0.500 of 4 features; mean token ceiling 0.250.",
        ),
    ):
        assert _verdict(row | fields) == [f"one at hook_embed (r): {words}"]


# Graph statistics


def null_row(null, statistic, observed, mean, low, high):
    return {
        "sae": "one",
        "null": null,
        "statistic": statistic,
        "observed": observed,
        "draws": 9,
        "mean": mean,
        "low": low,
        "high": high,
    }


def statistics_result(nulls, curves=None):
    tables = {"nulls": pa.Table.from_pylist(nulls, _NULL_ROWS)}
    if curves is not None:
        tables["curves"] = pa.Table.from_pylist(curves, _CURVE_ROWS)
    return result_of("graph_statistics", {"sae": "one", "nodes": 40, "tokens": 500}, tables)


def test_statistics_are_drawn_next_to_their_nulls():
    nulls = [
        null_row("bipartite", "edges", 5000.0, 6000.0, 5900.0, 6100.0),
        null_row("configuration", "edges", 5000.0, 5000.0, 5000.0, 5000.0),
        null_row("bipartite", "modularity_unweighted", 0.5, 0.25, 0.125, 0.375),
        null_row("bipartite", "assortativity", None, None, None, None),
        null_row("bipartite", "average_clustering", 0.5, None, None, None),
        null_row("bipartite", "components", 2.0, 3.0, 3.0, 3.0),  # not drawn
    ]
    drawn = check_chart(statistics_result(nulls).plot())
    points = [mark for mark in marks(drawn) if mark.type == "point"]
    shown = [
        (row["null"], row["statistic"], row["mean"], row["low"], row["high"])
        for mark in points
        for row in mark.rows
    ]
    assert shown == [
        tuple(row[n] for n in ("null", "statistic", "mean", "low", "high")) for row in nulls[:3]
    ]
    lines = [m for m in marks(drawn) if m.type == "rule" and m.field("x") == "observed"]
    assert [[row["observed"] for row in mark.rows] for mark in lines] == [[5000.0], [0.5]]
    assert axis_titles(drawn) == {"edges", "modularity", "null"}
    text = str(drawn.to_dict()).replace("', '", " ")  # lines of a subtitle
    assert "n = 40 features over 500 tokens; 9 draws of each null" in text
    assert "undefined: average clustering, degree assortativity" in text


def test_growth_is_drawn_and_statistics_without_nulls_are_one_message():
    curves = [
        {"sae": "one", "tokens": 10 * i, "edges": i, "isolates": 9 - i, "average_clustering": 0.5}
        for i in (1, 2)
    ]
    drawn = check_chart(statistics_result([], curves).plot())
    assert axis_titles(drawn) == {"tokens, log scale", "edges", "features", "average clustering"}
    for mark in marks(drawn):
        assert row_values(mark, "tokens", "edges", "isolates") == [(10, 1, 8), (20, 2, 7)]
    both = statistics_result([null_row("bipartite", "edges", 1.0, 2.0, 1.5, 2.5)], curves).plot()
    assert len(marks(both)) == 3 + 3
    missing = null_row("bipartite", "modularity_unweighted", None, None, None, None)
    for nulls in ([], [missing]):
        with pytest.raises(BadInput, match="No statistic of one has a value under a null"):
            statistics_result(nulls).plot()


# Comparisons and counterparts


def comparison(rows, curves, *, matches=5):
    found = Comparison(
        a="one",
        b="two",
        tokens=100,
        half_tokens=50,
        min_count=1,
        rows=rows,
        notes=[],
        conclusion="",
        matches=matches,
        live=[10, 20],
        communities=[3, 4],
        curves=pa.Table.from_pylist(curves, CURVES),
    )
    return Result(
        "graph_comparison",
        "one+two",
        found.summary,
        tables=(found.tables, found.tables.__getitem__),
    )


STEPS = [
    {"what": what, "side": side, "null": null, "value": value, "share": share}
    for what in ("degree", "clustering")
    for side in "AB"
    for null in (False, True)
    for value, share in ((0.0, 0.25), (1.0, 1.0))
]


def test_a_comparison_is_drawn_with_its_controls():
    rows = [
        Row("distance", "degree: Kolmogorov-Smirnov", value=0.25),
        *(
            Row(
                "conserved",
                f"share of {side}'s edges",
                n=8,
                value=0.5,
                low=0.25,
                high=0.75,
                null_mean=0.125,
                null_low=0.0,
                null_high=0.25,
                itself_mean=1.0,
            )
            for side in "AB"
        ),
        Row(
            "communities",
            "adjusted mutual information",
            n=7,
            value=0.5,
            low=0.375,
            high=0.625,
            null_mean=0.0,
            null_low=-0.125,
            null_high=0.125,
        ),
    ]
    drawn = check_chart(comparison(rows, STEPS).plot())
    lines = [mark for mark in marks(drawn) if mark.type == "line"]
    assert len(lines) == 2
    for line in lines:
        assert row_values(line, "graph", "value", "share") == sorted(
            (name, value, share)
            for name in ("one", "one, null", "two", "two, null")
            for value, share in ((0.0, 0.25), (1.0, 1.0))
        )
    shares = next(mark for mark in marks(drawn) if mark.type == "bar")
    names = ("of", "value", "low", "high", "null_low", "null_high", "itself_mean")
    assert row_values(shares, *names) == [
        (f"edges of {sae}", 0.5, 0.25, 0.75, 0.0, 0.25, 1.0) for sae in ("one", "two")
    ]
    overlaps = marks(drawn)[-1]
    assert row_values(overlaps, "of", "value", "low", "high") == [
        ("matches, all tokens", 0.5, 0.375, 0.625),
        ("permuted matches, all tokens", 0.0, -0.125, 0.125),
    ]
    assert {
        "degree (features), symmetric log scale",
        "clustering",
        "share of conserved edges",
        "share of features at or below",
        "adjusted mutual information",
    } <= axis_titles(drawn)


def test_a_comparison_without_values_is_drawn():
    nothing = [Row("distance", "degree: Kolmogorov-Smirnov", note="no live feature on one side")]
    at_zero = [step | {"share": 1.0} for step in STEPS if step["value"] == 0]
    lines = marks(comparison(nothing, at_zero, matches=0).plot())
    assert [mark.type for mark in lines] == ["line", "line"]
    with pytest.raises(BadInput, match="one and two has no distribution"):
        comparison(nothing, []).plot()


def counterparts(methods):
    settings = dict.fromkeys(("standard", "depth", "walks", "rounds", "prior", "doubt", "most"))
    found = {
        "a": "one",
        "b": "two",
        "seed": 0,
        "draws": 5,
        "min_count": 1,
        "repeats": 1,
        "truth": [9],
        "left_out": [0],
        "table_share": 0.5,
        "settings": settings,
        "chosen": None,
        "sentences": [],
        "methods": methods,
        **{name: [] for name in ("graphs", "by_anchors", "by_frequency", "agreement", "faq")},
    }
    tables = tables_of(found)
    return Result("graph_matching", "one+two", {}, tables=(tables, tables.__getitem__))


def method(name, share, value):
    row = {
        "method": name,
        "repeats": 1,
        "share": share,
        "anchors": 9 * share,
        "queries": 9.0,
        "candidates": 20.0,
        "coverage": 1.0,
    }
    for measure in MEASURES:
        row |= {measure: value, f"{measure} low": value / 2, f"{measure} high": value * 2}
    return row


def test_counterparts_are_drawn_with_their_intervals():
    rows = [
        method("frequency", 0.0, 0.125),
        method("frequency", 0.5, 0.25),
        method("decoder cosine", 0.5, 0.5),
    ]
    drawn = check_chart(counterparts(rows).plot())
    curve = next(mark for mark in marks(drawn) if mark.type == "line")
    assert row_values(curve, "method", "share", "value", "low", "high") == [
        ("frequency", 0.0, 0.125, 0.0625, 0.25),
        ("frequency", 0.5, 0.25, 0.125, 0.5),
    ]
    kinds = next(mark for mark in marks(drawn) if mark.type == "point")
    assert row_values(kinds, "method", "value", "low", "high") == [
        ("decoder cosine", 0.5, 0.25, 1.0),
        ("frequency", 0.25, 0.125, 0.5),
    ]
    assert {"recall@10", "known counterparts, share of the truth (mean number)"} == axis_titles(
        drawn
    )
    with pytest.raises(BadInput, match="No method was evaluated for one and two"):
        counterparts([]).plot()


# Transcoders and positions


def map_result(**fields):
    edge_ = {
        "source": "m/hook_embed",
        "target": "m/blocks.0.hook_resid_post",
        "tokens": 1000,
        "folds": 5,
        "method": "closed form",
        "r2_weighted": 0.5,
        "r2_low": 0.25,
        "r2_high": 0.75,
        "r2_in_sample_weighted": 0.625,
        "token_r2_weighted": 0.375,
        "token_r2_low": 0.3125,
        "token_r2_high": 0.4375,
        "token_eta2_weighted": 0.875,
    }
    return result_of("transcoder", edge_ | fields)


def test_a_map_is_drawn_next_to_the_means_of_tokens():
    drawn = check_chart(map_result().plot())
    rule, point = marks(drawn)
    assert rule.rows == point.rows
    assert row_values(point, "predictor", "text", "r2") == [
        ("affine map", "held out by document", 0.5),
        ("affine map", "in sample", 0.625),
        ("means of token ids", "held out by document", 0.375),
        ("means of token ids", "in sample", 0.875),
    ]
    held_out = [row for row in rule.rows if row["text"] == "held out by document"]
    assert [(row["low"], row["high"]) for row in held_out] == [(0.25, 0.75), (0.3125, 0.4375)]
    assert "share of variance explained (R², all dimensions)" in axis_titles(drawn)
    assert titles(drawn)[1:3] == [
        "predicted from m/hook_embed",
        "n = 1,000 tokens, 5 folds of documents; closed form",
    ]


def test_maps_that_explain_nothing_or_have_no_score():
    worse = map_result(r2_weighted=-0.5, r2_low=None, r2_high=None).plot()
    assert marks(worse)[0].encoding["x"]["scale"]["domain"] == [-0.5, 1]
    values = ("r2_weighted", "r2_in_sample_weighted", "token_r2_weighted", "token_eta2_weighted")
    with pytest.raises(BadInput, match="no dimension of the target varies"):
        map_result(**dict.fromkeys(values)).plot()
    with pytest.raises(BadInput, match="the same site"):
        map_result(target="m/hook_embed").plot()
    no_tokens = map_result(**dict.fromkeys(values[2:], None)).plot()
    assert {row["predictor"] for row in marks(no_tokens)[1].rows} == {"affine map"}


def position(first, last, l0, low, high):
    return {
        "first": first,
        "last": last,
        "tokens": 10,
        "l0": l0,
        "l0_null_low": low,
        "l0_null_high": high,
        "l0_p": 0.5,
        "activation": 0.75,
        "activation_null_low": 0.5,
        "activation_null_high": 1.0,
        "activation_p": 0.25,
    }


def test_positions_of_constant_l0_are_drawn_by_activation():
    rows = [position(1, 1, 20.0, 20.0, 20.0), position(2, 3, 20.0, 20.0, 20.0)]
    table = pa.Table.from_pylist(rows)
    drawn = check_chart(result_of("positions", {"sae": "one"}, {"positions": table}).plot())
    bars, line = marks(drawn)
    assert row_values(bars, "label", bars.field("y"), bars.field("y2"))[0] == ("1", 0.5, 1.0)
    assert row_values(line, "label", line.field("y")) == [("1", 0.75), ("2–3", 0.75)]
    assert titles(drawn)[0] == "Mean activation by position, one"


def test_positions_are_drawn_next_to_shuffled_tokens():
    rows = [position(1, 1, 3.0, 4.0, 5.0), position(2, 3, 4.5, 4.25, 4.75)]
    result = result_of("positions", {"sae": "one"}, {"positions": pa.Table.from_pylist(rows)})
    drawn = check_chart(result.plot())
    bars, line = marks(drawn)
    assert row_values(bars, "label", "l0_null_low", "l0_null_high") == [
        ("1", 4.0, 5.0),
        ("2–3", 4.25, 4.75),
    ]
    assert row_values(line, "label", line.field("y")) == [("1", 3.0), ("2–3", 4.5)]
    assert axis_titles(drawn) == {"position in the context (tokens)", "active features per token"}
    assert titles(drawn) == ["Active features by position, one", "n = 20 tokens"]
    table = pa.Table.from_pylist(rows)
    one = result_of("positions", {"sae": "one"}, {"positions": table.slice(0, 1)}).plot()
    assert len(marks(one)[0].rows) == 1
    with pytest.raises(BadInput, match="have no tokens"):
        result_of("positions", {"sae": "one"}, {"positions": table.slice(0, 0)}).plot()
