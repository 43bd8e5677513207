"""Tables and plots of probes, from small atlases with known numbers."""

import json
import random
import re
import statistics
import xml.etree.ElementTree as ElementTree
import zlib

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from drawn_charts import check_chart, marks
from probe_edges import (
    DOCUMENT,
    EMBED,
    FIRST,
    HOW_MUCH,
    SECOND,
    SHARES,
    TYPE,
    edge,
    made_atlas,
    random_edges,
)

from analysis.plot_style import finished, save
from analysis.probe import tables
from analysis.probe.commands import _sentence
from analysis.probe.floor_scores import FloorMark, floor_marks, floor_sentences, marked
from analysis.probe.plots import KINDS, SCORES, draw_probes
from analysis.probe.strongest_group import strongest_group
from atlas.api import Atlas
from atlas.cli.main import main
from atlas.errors import BadInput, UnknownName


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Two SAEs, three sites, two runs of kind 'active', and one of kind 'activation'."""
    rng = random.Random(0)
    edges = list(random_edges(1, saes=("one", "two"), sites=(EMBED, FIRST, SECOND)))
    edges += [edge("one", i, run=HOW_MUCH, r2=rng.random(), loss=rng.random()) for i in range(40)]
    path = tmp_path_factory.mktemp("probed") / "p.atlas"
    counts = {name: [rng.randint(1, 10) for _ in range(40)] for name in ("one", "two")}
    made_atlas(path, edges, counts=counts, hooks={"two": SECOND})
    return path, pd.DataFrame(edges), counts


@pytest.fixture(scope="module")
def loaded(atlas):
    with Atlas.open(atlas[0]) as opened:
        return tables.load(opened)


# --- loading ---------------------------------------------------------------------------------


def test_a_row_for_each_probe_with_its_feature_and_site(loaded, atlas):
    _, edges, counts = atlas
    assert len(loaded) == len(edges)
    row = loaded[
        (loaded["feature"] == "two/3") & (loaded["site"] == FIRST) & (loaded["run"] == TYPE)
    ].iloc[0]
    assert (row["sae"], row["idx"], row["layer"], row["site_layer"]) == ("two", 3, 1, 0)
    assert row["frequency"] == counts["two"][3] / 10
    assert row["site_id"] == f"m/{FIRST}"
    embedded = loaded[loaded["site"] == EMBED]
    assert embedded["site_layer"].isna().all()
    assert loaded[loaded["sae"] == "one"]["layer"].isna().all()
    ranks = dict(zip(loaded["site"], loaded["site_rank"], strict=True))
    assert ranks == {EMBED: 0, FIRST: 1, SECOND: 2}


def test_sites_are_ranked_in_the_order_of_the_model(tmp_path):
    order = [
        EMBED,
        "blocks.0.hook_resid_pre",
        "blocks.0.attn.hook_z",
        "blocks.0.hook_attn_out",
        "blocks.0.hook_resid_mid",
        "blocks.0.mlp.hook_post",
        "blocks.0.hook_mlp_out",
        "blocks.0.hook_resid_post",
        "blocks.2.hook_resid_pre",
        "blocks.10.hook_resid_pre",
    ]
    edges = [edge("one", 0, site) for site in sorted(order)]
    with Atlas.open(made_atlas(tmp_path / "a.atlas", edges)) as opened:
        assert list(tables.load(opened)["site"]) == order


def test_choosing_saes_sites_and_runs(atlas):
    path, edges, _ = atlas
    with Atlas.open(path) as opened:
        found = tables.load(opened, saes=["two"], sites=[EMBED, f"m/{SECOND}"], run="type")
        assert set(found["sae"]) == {"two"}
        assert set(found["site"]) == {EMBED, SECOND}
        assert set(found["run"]) == {TYPE}
        assert set(tables.load(opened, run="document")["run"]) == {DOCUMENT, HOW_MUCH}
        assert set(tables.load(opened, run="document/active")["run"]) == {DOCUMENT}
        assert len(tables.load(opened, run=TYPE)) == (edges["run"] == TYPE).sum()
        assert len(tables.load(opened, saes=["two", "two"])) == 40 * 3 * 2
        for wrong, message in (
            ({"saes": ["three"]}, "No SAE"),
            ({"sites": ["hook_embd"]}, "Nearest: hook_embed"),
            ({"run": "docum"}, "No run"),
        ):
            with pytest.raises(UnknownName, match=message):
                tables.load(opened, **wrong)


def test_an_atlas_without_probes_gives_no_rows(tmp_path):
    with Atlas.open(made_atlas(tmp_path / "a.atlas", [])) as opened:
        table = tables.load(opened, run="document")
    assert len(table) == 0
    assert tables.summary(table) == tables.breakdown(table) == tables.sweep(table) == []
    assert tables.first_layer_histogram(tables.first_layers(table)) == []
    with pytest.raises(BadInput, match="nothing to plot"):
        draw_probes(table)


# --- summary and ladder ----------------------------------------------------------------------


def summary_by_hand(values):
    there = [v for v in values if v is not None and not np.isnan(v)]
    if not there:
        return {"n": 0, "mean": None, "median": None, "std": None, "min": None, "max": None}
    return {
        "n": len(there),
        "mean": statistics.fmean(there),
        "median": statistics.median(there),
        "std": statistics.pstdev(there),
        "min": min(there),
        "max": max(there),
    }


def test_summary_equals_the_statistics_module(loaded, atlas):
    _, edges, _ = atlas
    rows = tables.summary(loaded)
    assert len(rows) == 2 * 3 * 2 + 1
    for row in rows:
        of = edges[
            edges["source"].str.startswith(row["sae"] + "/")
            & (edges["target"] == f"m/{row['site']}")
            & (edges["run"] == row["run"])
        ]
        assert row["probes"] == len(of) == 40
        assert row["unconverged"] == sum(c is False for c in of["converged"])
        if row["kind"] == "activation":
            assert "ladder" not in row
            assert row["scores"]["r2"] == pytest.approx(summary_by_hand(of["r2"]))
            continue
        for name in (*SHARES, "train_loss", "loss"):
            assert row["scores"][name] == pytest.approx(summary_by_hand(of[name])), name
        gaps = [
            None if np.isnan(a) or np.isnan(b) else a - b
            for a, b in zip(of["train_balanced_accuracy"], of["balanced_accuracy"], strict=True)
        ]
        assert row["scores"]["accuracy_gap"] == pytest.approx(summary_by_hand(gaps))
        assert row["scores"]["inactive_share"] == pytest.approx(
            summary_by_hand(1 - of["positives"] / 100)
        )
        assert row["scores"]["selectivity"] == summary_by_hand([])
        assert row["verdicts"] == {v: list(of["verdict"]).count(v) for v in tables.VERDICTS}


def test_the_summary_holds_plain_values_only(loaded):
    json.dumps(tables.summary(loaded), allow_nan=False)


def test_the_ladder_counts_each_value_once(loaded):
    values = loaded["accuracy"]
    there = [v for v in values if not np.isnan(v)]
    rungs = {r["rung"]: r for r in tables.ladder(values)}
    by_hand = {
        "≥95%": [v for v in there if v >= 0.95],
        "90–95%": [v for v in there if 0.9 <= v < 0.95],
        "85–90%": [v for v in there if 0.85 <= v < 0.9],
        "80–85%": [v for v in there if 0.8 <= v < 0.85],
        "75–80%": [v for v in there if 0.75 <= v < 0.8],
        "<75%": [v for v in there if v < 0.75],
    }
    assert {name: r["count"] for name, r in rungs.items()} == {
        n: len(v) for n, v in by_hand.items()
    }
    assert all(r["share"] == r["count"] / len(there) for r in rungs.values())
    assert rungs["85–90%"]["at_least"] == sum(v >= 0.85 for v in there)
    assert rungs["<75%"]["at_least_share"] == 1


def test_ladder_without_values():
    rungs = tables.ladder(pd.Series([np.nan, None], dtype=float))
    assert [r["count"] for r in rungs] == [0] * 6
    assert [r["share"] for r in rungs] == [None] * 6


def test_one_probe(tmp_path):
    edges = [edge("one", 2, accuracy=0.9, balanced_accuracy=0.8, verdict="token")]
    with Atlas.open(made_atlas(tmp_path / "a.atlas", edges)) as opened:
        table = tables.load(opened)
    (row,) = tables.summary(table)
    assert row["scores"]["accuracy"] == {
        "n": 1,
        "mean": 0.9,
        "median": 0.9,
        "std": 0.0,
        "min": 0.9,
        "max": 0.9,
    }
    (bin,) = tables.breakdown(table)
    assert (bin["low"], bin["high"], bin["probes"], bin["token"]) == (0.2, 0.2, 1, 1)
    assert tables.sweep(table) == []
    assert not len(tables.first_layers(table))
    save(draw_probes(table), tmp_path / "page.svg")


# --- breakdowns ------------------------------------------------------------------------------


def test_breakdown_by_frequency(loaded):
    rows = tables.breakdown(loaded, by="frequency", bins=4)
    assert {r["run"] for r in rows} == {DOCUMENT, TYPE}
    for (sae, site, run), bins in pd.DataFrame(rows).groupby(["sae", "site", "run"]):
        of = loaded[(loaded["sae"] == sae) & (loaded["site"] == site) & (loaded["run"] == run)]
        assert bins["probes"].sum() == len(of)
        assert (bins["low"].iloc[0], bins["high"].iloc[-1]) == (
            of["frequency"].min(),
            of["frequency"].max(),
        )
        for i, row in enumerate(bins.to_dict("records")):
            last = i == len(bins) - 1
            inside = of[
                (of["frequency"] >= row["low"])
                & ((of["frequency"] < row["high"]) | (last & (of["frequency"] == row["high"])))
            ]
            assert row["probes"] == len(inside)
            assert row["balanced_accuracy"] == pytest.approx(inside["balanced_accuracy"].mean())
            assert row["beyond token"] == (inside["verdict"] == "beyond token").sum()


def test_breakdown_with_missing_values(loaded):
    rows = tables.breakdown(loaded, by="max_activation")  # these statistics have none
    assert all((r["low"], r["high"], r["probes"]) == (None, None, 40) for r in rows)
    with pytest.raises(BadInput, match="bins=0"):
        tables.breakdown(loaded, bins=0)


def test_breakdown_by_layer(loaded):
    rows = tables.breakdown(loaded, by="layer")
    assert len(rows) == 2 * 3 * 2
    assert [(r["site"], r["layer"]) for r in rows[:2]] == [(EMBED, None), (EMBED, 1)]
    for row in rows:
        sae = "one" if row["layer"] is None else "two"
        of = loaded[
            (loaded["sae"] == sae) & (loaded["site"] == row["site"]) & (loaded["run"] == row["run"])
        ]
        assert row["token_ceiling"] == pytest.approx(of["token_ceiling"].mean())


def test_breakdown_by_layer_never_pools_a_floor_with_a_trained_sae(loaded):
    table = loaded.assign(layer=1.0)
    pooled = tables.breakdown(table, by="layer")
    assert {(r["sae"], r["saes"]) for r in pooled} == {("one, two", 2)}
    apart = tables.breakdown(table.assign(floor=table["sae"] == "two"), by="layer")
    assert {(r["sae"], r["saes"]) for r in apart} == {("one", 1), ("two", 1)}
    for rows, group in ((pooled, ["one", "two"]), (apart, ["one"]), (apart, ["two"])):
        for row in (r for r in rows if r["sae"] == ", ".join(group)):
            of = table[table["sae"].isin(group)]
            of = of[(of["site"] == row["site"]) & (of["run"] == row["run"])]
            assert row["probes"] == len(of)
            assert row["balanced_accuracy"] == pytest.approx(of["balanced_accuracy"].mean())
    assert not loaded["floor"].any()


def test_breakdown_by_layer_never_pools_two_models(loaded):
    table = loaded.assign(layer=1.0, model=loaded["sae"] + " model")
    rows = tables.breakdown(table, by="layer")
    assert {(r["sae"], r["saes"]) for r in rows} == {("one", 1), ("two", 1)}


# --- sites compared --------------------------------------------------------------------------


def test_the_first_layer_by_hand(tmp_path):
    scores = {  # at the embedding, after block 0, after block 1
        0: (0.70, 0.88, 0.90),  # just delta below the best
        1: (0.95, 0.90, 0.80),  # best at the embedding
        2: (0.60, None, 0.61),  # one score missing
        3: (None, None, 0.90),  # one site only
        4: (0.50, 0.70, 0.90),
    }
    edges = [
        edge("one", i, site, balanced_accuracy=score)
        for i, row in scores.items()
        for site, score in zip((EMBED, FIRST, SECOND), row, strict=True)
    ]
    edges.append(edge("one", 0, run=HOW_MUCH, r2=0.5))
    path = made_atlas(tmp_path / "a.atlas", edges, counts={"one": [1] * 5})
    with Atlas.open(path) as opened:
        table = tables.load(opened)
    first = tables.first_layers(table, delta=0.02)
    assert dict(zip(first["idx"], first["site"], strict=True)) == {
        0: FIRST,
        1: EMBED,
        2: EMBED,
        4: SECOND,
    }
    assert list(first["best_site"]) == [SECOND, EMBED, SECOND, SECOND]
    assert list(first["best"]) == [0.9, 0.95, 0.61, 0.9]
    assert list(first["sites"]) == [3, 3, 2, 3]
    histogram = tables.first_layer_histogram(first)
    assert [(r["site"], r["features"], r["share_so_far"]) for r in histogram] == [
        (EMBED, 2, 0.5),
        (FIRST, 1, 0.75),
        (SECOND, 1, 1.0),
    ]
    assert histogram[0]["mean_score"] == pytest.approx((0.95 + 0.60) / 2)
    exact = tables.first_layers(table, delta=0)
    assert list(exact["site"]) == list(exact["best_site"])
    for wrong in (-0.1, float("nan")):
        with pytest.raises(BadInput, match="delta"):
            tables.first_layers(table, delta=wrong)

    rows = tables.sweep(table)
    assert [(r["site"], r["features"], r["left_out"]) for r in rows] == [
        (EMBED, 3, 2),
        (FIRST, 3, 2),
        (SECOND, 3, 2),
    ]
    means = [statistics.fmean(scores[i][k] for i in (0, 1, 4)) for k in range(3)]
    assert [r["balanced_accuracy"] for r in rows] == pytest.approx(means)


def test_first_layers_against_a_loop(loaded):
    first = tables.first_layers(loaded, delta=0.05)
    wanted = {}
    for (run, feature), of in loaded[loaded["kind"] == "active"].groupby(["run", "feature"]):
        scored = [
            (r["site_rank"], r["balanced_accuracy"], r["site"])
            for r in of.to_dict("records")
            if not np.isnan(r["balanced_accuracy"])
        ]
        if len(scored) > 1:
            best = max(score for _, score, _ in scored)
            wanted[run, feature] = min(s for s in scored if s[1] >= best - 0.05)[2]
    assert {(r["run"], r["feature"]): r["site"] for r in first.to_dict("records")} == wanted


def test_the_sweep_is_ordered_by_layer(loaded):
    rows = tables.sweep(loaded)
    assert [(r["layer"], r["sae"]) for r in rows] == [(None, "one")] * 6 + [(1, "two")] * 6
    for row in rows:
        of = loaded[(loaded["sae"] == row["sae"]) & (loaded["run"] == row["run"])]
        wide = of.pivot_table(index="feature", columns="site", values="balanced_accuracy").dropna()
        assert (row["features"], row["left_out"]) == (len(wide), 40 - len(wide))
        assert row["balanced_accuracy"] == pytest.approx(wide[row["site"]].mean())


# --- plots -----------------------------------------------------------------------------------


def pixels(path):
    """Return the pixels of a PNG of eight bits a channel, rows by bytes."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, header = 8, b"", b""
    while at < len(data):
        size, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        packed, header = packed + (body if name == b"IDAT" else b""), header or body
        at += 12 + size
    height = int.from_bytes(header[4:8])
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_plot_has_titles(kind, loaded, tmp_path):
    one = loaded[(loaded["sae"] == "one") & (loaded["run"] == DOCUMENT)]
    save(draw_probes(one, kind=kind), tmp_path / "a.svg")
    drawn = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert drawn.tag.endswith("svg")
    text = "".join(drawn.itertext())
    for title in ("one", EMBED, DOCUMENT, "n = "):
        assert title in text


@pytest.mark.slow
def test_plots_work_offline(loaded, tmp_path):
    one = loaded[(loaded["sae"] == "one") & (loaded["run"] == DOCUMENT)]
    picture = draw_probes(one, kind="scatter")
    save(picture, tmp_path / "a.png")
    # Filtered rows of a blank image repeat; lines and letters make them differ.
    rows = pixels(tmp_path / "a.png")
    assert len(rows) > 200
    assert len(np.unique(rows, axis=0)) > 20
    save(picture, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "vegaEmbed" in page


def test_a_plot_has_every_feature_of_kind_active_once(loaded):
    spec = draw_probes(loaded[loaded["sae"] == "two"], kind="scatter", every_site=True).to_dict()
    drawn = [r for d in spec["datasets"].values() for r in d if "feature" in r]
    both = loaded[(loaded["sae"] == "two") & (loaded["kind"] == "active")]
    both = both.dropna(subset=["balanced_accuracy", "token_ceiling"])
    assert sorted(r["feature"] for r in drawn) == sorted(both["feature"])


def test_only_the_first_site_is_plotted_by_default(loaded):
    titles = json.dumps(draw_probes(loaded, kind="ladder").to_dict()["vconcat"])
    assert EMBED in titles
    assert FIRST not in titles
    assert FIRST in json.dumps(
        draw_probes(loaded, kind="ladder", every_site=True).to_dict()["vconcat"]
    )


def test_plots_exclude_columns_without_numbers(tmp_path):
    edges = [edge("one", i, balanced_accuracy=0.5 + i / 10) for i in range(3)]
    with Atlas.open(made_atlas(tmp_path / "a.atlas", edges)) as opened:
        table = tables.load(opened)
    save(draw_probes(table), tmp_path / "page.svg")
    assert tables.summary(table)[0]["scores"]["accuracy"]["n"] == 0
    assert [r["accuracy"] for r in tables.breakdown(table)] == [None] * 3
    with pytest.raises(BadInput, match="two sites"):
        draw_probes(table, kind="sweep")
    with pytest.raises(BadInput, match="Unknown plot"):
        draw_probes(table, kind="pie")


def test_the_group_that_exceeds_its_controls_most(tmp_path):
    scores = [
        ("one", EMBED, 0.90, 0.85, 0.60),  # exceeds its higher control by .05
        ("one", FIRST, 0.80, 0.60, 0.70),  # by .10
        ("two", EMBED, 0.70, None, 0.55),  # by .15
        ("two", FIRST, 0.64, None, None),  # by .14 over chance
        ("two", SECOND, None, 0.1, 0.1),
    ]
    edges = [
        edge(sae, i, site, balanced_accuracy=score, control=control, token_table=table)
        for sae, site, score, control, table in scores
        for i in range(3)
    ]
    counts = {"one": [5, 0, 2], "two": [1, 2, 3]}
    with Atlas.open(made_atlas(tmp_path / "a.atlas", edges, counts=counts)) as opened:
        table = tables.load(opened)
    found = strongest_group(table)
    assert list(found.rows["feature"]) == ["one/0", "one/1", "one/2"]
    assert set(found.rows["site"]) == {FIRST}
    assert (found.excess, found.others) == (pytest.approx(0.10), 3)
    assert "one from blocks" in found.sentence
    assert "0.800 (control task 0.600, token table 0.700)" in found.sentence
    # Without a control task, only if no group has one; a floor, only if there is no other SAE.
    for rest in (
        strongest_group(table[table["sae"] == "two"]),
        strongest_group(table, floors=["one"]),
    ):
        assert set(rest.rows["sae"]) == {"two"}
        assert set(rest.rows["site"]) == {EMBED}
        assert rest.excess == pytest.approx(0.15)
    assert set(strongest_group(table, floors=["one", "two"]).rows["sae"]) == {"one"}
    rest = table[(table["site"] == FIRST) & (table["sae"] == "two")]
    assert "0.640 (chance 0.5)" in strongest_group(rest).sentence
    with pytest.raises(BadInput, match="nothing to plot"):
        strongest_group(table[table["site"] == SECOND])


def test_a_path_that_cannot_be_written(loaded, tmp_path):
    picture = draw_probes(loaded, kind="ladder")
    with pytest.raises(BadInput, match=r"must end in \.png, \.svg, \.html"):
        save(picture, tmp_path / "a.gif")
    with pytest.raises(BadInput, match="does not exist"):
        save(picture, tmp_path / "none" / "a.png")


# --- commands --------------------------------------------------------------------------------


@pytest.fixture
def run(atlas, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATLAS", str(atlas[0]))

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return done.value.code, printed.out, printed.err

    return run


def test_probes_as_json_and_as_tables(run):
    code, out, _ = run("probe-scores", "--json")
    assert code == 0
    assert len(json.loads(out)["result"]) == 13
    code, out, err = run("probe-scores")
    assert (code, "r2_token_table" in out) == (0, True)
    assert "detailed tables" in err
    code, out, err = run("probe-scores", "one", "--site", EMBED, "--run", "type")
    assert (code, err) == (0, "")
    for label in ("token_ceiling", "≥95%", "<75%", "undecided", "inactive_share"):
        assert label in out


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (
            {"token_table": 0.9},
            "0.800 (control task 0.600); a table of token counts reaches 0.900, more",
        ),
        ({"token_table": 0.8}, "reaches 0.800, as much as the probe."),
        (
            {"token_table": 0.78, "control": 0.79},
            "0.790, nearly as high); a table of token counts ",
        ),
        ({"token_table": 0.78}, "reaches 0.780, nearly as high."),
        ({"token_table": 0.6}, "reaches 0.600, less than the probe."),
        ({"token_table": None, "control": None, "shuffled": None}, "balanced accuracy 0.800."),
        (
            {"token_table": 0.5, "control": None, "seen_share": 0.0},
            "0.800 (shuffled labels 0.510); a table of token counts is at chance, since no id of validation",
        ),
    ],
)
def test_the_sentence_on_a_group_compares_with_the_control_and_the_token_table(scores, expected):
    means = {"balanced_accuracy": 0.8, "control": 0.6, "shuffled": 0.51, "seen_share": 0.9} | scores
    row = {"sae": "a", "site": "s", "run": "r", "ladder": {}}
    assert expected in _sentence(row | {"scores": {n: {"mean": m} for n, m in means.items()}})


def test_a_table_without_a_control_states_why(run, monkeypatch):
    assert "control –" not in run("probe-scores")[1]
    stored = tables.load
    without = {"control": np.nan, "selectivity": np.nan}
    monkeypatch.setattr(tables, "load", lambda *args, **kw: stored(*args, **kw).assign(**without))
    for words in ((), ("--by", "layer"), ("--by", "frequency")):
        assert "control –: no control task was run, or the split" in run("probe-scores", *words)[1]


def test_floors_are_marked_and_compared_with_their_sae():
    saes = [
        {"name": "a", "role": "trained"},
        {"name": "b", "role": "untrained", "floor_of": "a"},
        {"name": "c", "role": "frozen-decoder", "k": 3},  # no SAE has its k
    ]
    marks = floor_marks(saes)
    assert marks == {
        "b": FloorMark(("a",), role="untrained"),
        "c": FloorMark((), role="frozen-decoder"),
    }

    def rows(**means):
        return [
            {"sae": sae, "site": "s", "run": "r", "scores": {"r2": {"mean": mean}}}
            for sae, mean in means.items()
        ]

    assert [row["floor_of"] for row in marked(rows(a=1, b=2, c=3), marks)] == [
        None,
        "a",
        "frozen-decoder",
    ]
    assert all("floor_of" not in row for row in marked(rows(a=1), marks))
    (sentence,) = floor_sentences(rows(a=0.8191, b=0.906, c=0.99), marks)
    assert sentence.startswith("The floor b scores 0.906, the SAE a 0.819 (s, r)")
    for other in ({"a": 0.9, "b": 0.9}, {"a": 0.9, "b": 0.1}, {"a": None, "b": 0.9}, {"b": 0.9}):
        assert not floor_sentences(rows(**other), marks)
    other_site = [{**row, "site": "t"} for row in rows(a=0.1)]
    assert not floor_sentences([*rows(a=0.95, b=0.906), *other_site], marks)


def test_probe_scores_state_that_a_floor_scores_higher(run, monkeypatch):
    stored = Atlas.table

    def with_floor(self, name, **options):
        table = stored(self, name, **options)
        if name != "SAE":
            return table
        rows = table.to_pylist()
        return pa.Table.from_pylist(
            [
                r | ({"role": "untrained", "floor_of": "one"} if r["name"] == "two" else {})
                for r in rows
            ]
        )

    monkeypatch.setattr(Atlas, "table", with_floor)
    rows = json.loads(run("probe-scores", "--json")[1])["result"]
    assert {(r["sae"], r["floor_of"]) for r in rows} == {("one", None), ("two", "one")}
    mean = {
        (r["sae"], r["site"], r["run"]): r["scores"]["balanced_accuracy"]["mean"]
        for r in rows
        if "ladder" in r
    }
    higher = [m - mean["one", *of] for (sae, *of), m in mean.items() if sae == "two"]
    _, out, _ = run("probe-scores")
    assert "two (floor: one) from" in out
    assert ("The floor two scores" in out) == (max(higher) > 0)
    first, header, *_ = run("probe-scores", "--by", "frequency")[1].splitlines()
    assert (first, "floor_of" in header.split()) == ("Floors: two (one).", True)


@pytest.mark.parametrize("by", ["frequency", "max_activation", "layer", "first-layer", "sweep"])
def test_probes_broken_down(run, by):
    code, out, _ = run("probe-scores", "--by", by, "--json")
    rows = json.loads(out)["result"]
    assert (code, len(rows) > 3) == (0, True)
    assert all(r["run"] != HOW_MUCH for r in rows)
    code, out, _ = run("probe-scores", "--by", by)
    assert (code, len(out.splitlines())) == (0, len(rows) + 1)


def test_a_breakdown_at_80_columns_has_the_range_the_score_and_its_control(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    code, out, _ = run("probe-scores", "one", "--site", EMBED, "--by", "frequency")
    assert code == 0
    names, first, *_ = click.unstyle(out).splitlines()
    assert {"frequency", "balanced_accuracy", "token_table"} <= set(names.split())
    assert re.search(r"[\d.]+% to", first)


def test_sites_are_compared_only_where_there_are_several(run):
    for by in ("first-layer", "sweep"):
        code, _, err = run("probe-scores", "--site", EMBED, "--by", by)
        assert (code, "--from all" in err) == (2, True)
    code, _, err = run("probe-scores", "--run", HOW_MUCH, "--by", "layer")
    assert (code, "that predict activity" in err) == (2, True)


def test_plot_probes_without_a_kind_draws_one_group(run, tmp_path):
    code, out, err = run("plot", "probes", "-o", "a.svg")
    assert (code, out) == (0, "a.svg\n")
    texts = [e.text for e in ElementTree.parse(tmp_path / "a.svg").iter() if e.text]
    assert sum("Score against ceiling" in text for text in texts) == 1
    assert re.search(r"^Drawn: the probes of \w+ from ", err)
    assert "--kind page" in err
    assert run("plot", "probes", "-o", "a.svg", "-q")[2] == ""


def test_plot_probes(run, tmp_path):
    code, out, err = run(
        "plot", "probes", "one", "--kind", "ladder", "--out", "a.svg", "-o", "a.png"
    )
    assert (code, out.split()) == (0, ["a.svg", "a.png"])
    assert FIRST in err
    assert (tmp_path / "a.png").stat().st_size > 1000
    code, out, err = run("plot", "--json", "probes", "one", "--kind", "ladder", "-q")
    assert (code, json.loads(out)["result"], err) == (0, {"written": ["probes.html"]}, "")
    code, _, err = run("plot", "probes", "--out", "a.bmp")
    assert (code, "'a.bmp'" in err) == (2, True)
    code, _, err = run("plot", "probes", "--run", HOW_MUCH)
    assert (code, "nothing to plot" in err) == (2, True)


def test_atlas_without_probes_reports_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS", str(made_atlas(tmp_path / "a.atlas", [])))
    for words in (["probe-scores"], ["probe-scores", "one"], ["plot", "probes"]):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert "has no probe" in err
        assert "--from hook_embed`" in err
    code, out, _ = run("probe-scores", "--json")
    assert (code, json.loads(out)["ok"]) == (2, False)


def test_histograms_of_scores_count_every_feature_on_one_axis(loaded):
    one = loaded[(loaded["sae"] == "one") & (loaded["run"] == DOCUMENT)]
    one = one[(one["site"] == EMBED) & one["balanced_accuracy"].notna()]
    chart = check_chart(finished(draw_probes(one, kind="distribution")))
    bars = [mark for mark in marks(chart) if mark.type == "bar"]
    assert len({tuple(mark.encoding["x"]["scale"]["domain"]) for mark in bars}) == 1
    names = [n for n in SCORES if one[n].notna().any()]
    counts = [sum(row["features"] for row in mark.rows) for mark in bars]
    assert counts == [int(one[name].notna().sum()) for name in names]
