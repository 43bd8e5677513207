"""The study of splitting on small atlases: parts, edges, classes, baseline, chains, messages and plot."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import sae_lens
import torch
from click.testing import CliRunner
from drawn_charts import check_chart, marks
from recording_progress import RecordingProgress
from sklearn.decomposition import PCA
from small_ingest import HOOK, metadata, model, texts

from analysis.splitting.chains import chains, describe_chains
from analysis.splitting.hierarchy import CHILD_CLASSES, PARENT_CLASSES, hierarchy
from analysis.splitting.plots import draw_pair
from analysis.splitting.settings import SplittingSettings
from analysis.splitting.study import SplittingStudy, edges_of, find_splits
from analysis.splitting.subjects import active_tokens
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from atlas.progress import SILENT
from atlas.studies.study import TaskContext
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

DRAWS = SplittingSettings(draws=10)


def rows(features, *, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((features, 24)).astype(np.float32)


def relu(directions, *, hook=HOOK):
    """An SAE that reads and writes the directions, active above a fixed share of their norm."""
    config = sae_lens.StandardSAEConfig(d_in=24, d_sae=len(directions), metadata=metadata(hook))
    sae = sae_lens.StandardSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(torch.from_numpy(directions))
        sae.W_enc.copy_(torch.from_numpy(directions.T.copy()))
        sae.b_enc.fill_(-1.0)
        sae.b_dec.zero_()
    return sae.eval()


@pytest.fixture(scope="module")
def opened():
    """Three widths, each with the features of the narrower one, two further seeds, and another site."""
    wider = rows(160, seed=1)
    noise = 0.05 * rows(40, seed=3)
    made = {
        "narrow": relu(wider[:40]),
        "wide": relu(wider[:80]),
        "wider": relu(wider),
        "seed": relu(wider[:40] + noise),
        "other": relu(wider[:40], hook="hook_embed"),
    }
    return [open_sae(sae, name=name) for name, sae in made.items()]


@pytest.fixture(scope="module")
def path(tmp_path_factory, opened):
    where = tmp_path_factory.mktemp("splitting") / "a.atlas"
    ingest(
        where,
        saes=opened,
        text=texts(120, words=(10, 30)),
        model=model(),
        settings=Settings(context=16),
        match=None,
    ).close()
    return where


@pytest.fixture(scope="module")
def results(path, opened):
    return find_splits(path, ["narrow", "wide", "wider"], settings=DRAWS, opened=opened)


def test_pairs_are_followed_by_baselines(results):
    assert [(r["narrow"], r["wide"], r["equal_width"]) for r in results] == [
        ("narrow", "wide", False),
        ("narrow", "wider", False),
        ("wide", "wider", False),
        ("narrow", "seed", True),
    ]


def test_stored_numbers_equal_those_computed_from_codes_and_weights(path, opened, results):
    folder, by_name = Folder.open(path), {o.info.name: o.sae.W_dec.detach().numpy() for o in opened}
    for result in results:
        names = (result["narrow"], result["wide"])
        tokens = active_tokens(folder, folder.sound(), names, scratch=path)
        found = hierarchy(tuple(by_name[n] for n in names), tokens, DRAWS)
        assert result.table("narrow")["class"].to_pylist() == found.parent_class.tolist()
        assert result.table("wide")["class"].to_pylist() == found.child_class.tolist()
        a, b = (result.table(side)["active_tokens"].to_numpy() for side in ("narrow", "wide"))
        for k, row in enumerate(edges_of(result).to_pylist()):
            i, j = (int(row[end].rpartition("/")[2]) for end in ("source", "target"))
            x, y = by_name[names[0]][i], by_name[names[1]][j]
            assert row["decoder_cosine"] == pytest.approx(
                x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5
            )
            assert row["parent_given_child"] == row["joint_count"] / b[j]
            assert row["child_given_parent"] == row["joint_count"] / a[i]
            assert (row["q"], row["expected"]) == (found.edges.q[k], found.edges.expected[k])
        counts = result.to_pandas("classes")
        for side in ("narrow", "wide"):
            of = counts[counts["side"] == side]
            assert of["features"].sum() == result[f"{side}_features"]
            assert of["share"].sum() == pytest.approx(1)


def test_map_shows_two_principal_components_of_both(opened, results):
    by_name = {o.info.name: o.sae.W_dec.detach().numpy() for o in opened}
    for result in results:
        rows = np.vstack([by_name[result[side]] for side in ("narrow", "wide")])
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        reference = PCA(2).fit(rows)
        shown = np.vstack([result.to_pandas(side)[["x", "y"]] for side in ("narrow", "wide")])
        np.testing.assert_allclose(np.abs(shown), np.abs(reference.transform(rows)), atol=1e-4)
        assert result["map_variance"] == pytest.approx(
            reference.explained_variance_ratio_.sum(), abs=1e-4
        )


def test_forecast_is_finite_and_does_not_change_the_atlas(path, opened):
    folder = Folder.open(path)
    before = {key: part.manifest.hash for key, part in folder.sound().parts.items()}
    with TemporaryDirectory() as scratch:
        at = TaskContext(folder, folder.sound(), Path(scratch), SILENT)
        study = SplittingStudy(DRAWS, opened)
        for task in study.tasks(at, ["narrow", "wide"]):
            cost = study.forecast(task, at)
            assert 0 < cost.seconds < np.inf
            assert cost.bytes > 0
    assert before == {key: part.manifest.hash for key, part in folder.sound().parts.items()}


def test_repeated_features_are_the_same_and_further_ones_are_new(results):
    first = results[0]
    parents = first.to_pandas("narrow")
    tested = parents[parents["class"] != "untested"]
    assert len(tested) >= 20
    assert (tested["class"] == "same").mean() >= 0.9
    children = first.to_pandas("wide")
    assert (children["class"][:40] == "same").sum() == (tested["class"] == "same").sum()
    assert (children["class"][40:] == "same").sum() == 0


def test_edges_are_in_the_graph_and_those_of_equal_width_are_not(path, results):
    with Atlas.open(path) as atlas:
        stored = atlas.table("SPLITS_INTO").to_pylist()
    wanted = [row for r in results if not r["equal_width"] for row in edges_of(r).to_pylist()]
    assert len(stored) == len(wanted) > 0
    assert {(r["source"], r["target"]) for r in stored} == {
        (r["source"], r["target"]) for r in wanted
    }
    assert "SPLITS_INTO" not in results[3].tables


def test_chains_join_edges_of_three_widths(results):
    found = chains(results)
    steps = [{(e["source"], e["target"]) for e in edges_of(r).to_pylist()} for r in results[:3]]
    first, direct, second = steps
    expected = {(a, b, c) for a, b in first for d, c in second if b == d}
    assert {tuple(row) for row in found[["narrow", "middle", "wide"]].to_numpy()} == expected
    assert found["direct"].tolist() == [
        (a, c) in direct for a, c in zip(found["narrow"], found["wide"], strict=True)
    ]
    summary = describe_chains(results)
    assert summary["chains"] == len(expected)
    ends = [(a, c) for a, *_ in expected for *_, c in expected]
    assert summary["chance"] == pytest.approx(np.mean([pair in direct for pair in ends]))
    assert describe_chains(results[:1]) is None
    assert chains(results[:1]).empty


def test_stored_results_are_read_again(path, opened, results):
    again = find_splits(path, ["narrow", "wide"], settings=DRAWS)  # weights are not needed
    assert again.rows == [results[0].summary, results[3].summary]


def test_verdict_states_counts_of_the_tables(results):
    for result in results:
        assert f"{result['narrow_same']:,} (" in result.verdict[0]
        assert ("baseline" in result.verdict[0]) == result["equal_width"]


def test_map_shows_tested_features_and_edges(results):
    for result in results:
        edges = edges_of(result).to_pandas()
        shown = (edges["parent_class"] != "same").sum()
        drawn = marks(check_chart(draw_pair([result], kind="map")))
        points = drawn.pop()
        lines = drawn.pop().rows if shown else []  # without lines, there is no layer of them
        tested = sum(result[f"{s}_features"] - result[f"{s}_untested"] for s in ("narrow", "wide"))
        assert len(points.rows) == tested
        assert len(lines) == shown
        assert not drawn


def test_plot_shows_the_share_of_each_class(results):
    for result in results:
        (bars,) = marks(check_chart(result.plot()))
        assert bars.type == "bar"
        assert {row["class"] for row in bars.rows} <= set(PARENT_CLASSES) | set(CHILD_CLASSES)
        for side in ("narrow", "wide"):
            shares = [row["share"] for row in bars.rows if row["side"] == side]
            assert sum(shares) == pytest.approx(1)


def test_plot_of_a_pair_has_the_shares_of_its_baseline(results):
    first = next(one for one in results if not one["equal_width"])
    base = next(
        o for o in results if o["equal_width"] and o is not first and o["narrow"] == first["narrow"]
    )
    drawn = marks(check_chart(draw_pair(results)))
    (lines,) = [mark for mark in drawn if mark.type == "tick"]
    shares = {(r["side"], r["class"]): r["share"] for r in base.table("classes").to_pylist()}
    assert lines.rows
    for row in lines.rows:
        assert row["baseline"] == shares[row["side"], row["class"]]
    alone = marks(check_chart(draw_pair([first])))
    assert [mark for mark in alone if mark.type == "tick"] == []


@pytest.mark.parametrize(
    ("saes", "error", "words"),
    [
        (None, BadInput, "No SAE was named, and splitting cannot use all; name two or three"),
        ("all", BadInput, "No SAE was named, and splitting cannot use all; name two or three"),
        (["narrow"], BadInput, "narrow; name two or three"),
        (["narrow", "wide", "wider", "seed"], BadInput, "two or three"),
        (["narrow", "narrow"], BadInput, "twice"),
        (["wide", "narrow"], BadInput, "wide has 80 features and narrow has 40"),
        (["narrow", "other"], Mismatch, "`atlas match`"),
        (["narrow", "absent"], UnknownName, "absent"),
    ],
)
def test_messages(path, saes, error, words):
    with pytest.raises(error, match=words):
        find_splits(path, saes, settings=DRAWS)


def test_weights_that_are_not_available(path):
    with pytest.raises(BadInput, match="memory"):
        find_splits(path, ["seed", "wide"], settings=DRAWS)


@pytest.mark.parametrize("name", ["narrow", "wide", "other"])
def test_baseline_of_another_width_or_site(path, name):
    with pytest.raises(BadInput, match="width of narrow"):
        find_splits(path, ["narrow", "wide"], settings=SplittingSettings(baseline=name))


def test_codes_that_are_not_stored(tmp_path):
    where = tmp_path / "a.atlas"
    saes = [open_sae(relu(rows(n, seed=n)), name=f"w{n}") for n in (8, 9)]
    ingest(
        where,
        saes=saes,
        text=texts(10),
        model=model(),
        match=None,
        settings=Settings(context=16, keep_codes=False),
    ).close()
    with pytest.raises(Missing, match="--keep-codes"):
        find_splits(where, ["w8", "w9"], opened=saes)


def test_missing_baseline_is_reported_and_equal_widths_have_none(path, opened):
    (one,) = find_splits(path, ["narrow", "seed"], settings=DRAWS, opened=opened)
    assert one["equal_width"]


def test_too_few_draws_are_reported(path, opened):
    progress = RecordingProgress()
    find_splits(
        path,
        ["seed", "wider"],
        settings=SplittingSettings(draws=3, q=0.001),
        opened=opened,
        progress=progress,
    )
    (message,) = {m for m in progress.messages if "`draws=" in m and "seed and wider" in m}
    assert "With 3 draws" in message


def test_command_prints_the_stored_results(path, results):
    words = ["splitting", "narrow", "wide", "wider", "--draws", "10", "-q", "-a", str(path)]
    done = CliRunner().invoke(command(), [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["result"]
    assert found["pairs"] == results.rows
    assert found["chains"] == describe_chains(results)
    by_class = {(r["features of"], r["class"]): r for r in found["classes"]}
    pair, same = "narrow → seed (equal width)", results[3]["narrow_same"]
    untested = results[3]["narrow_untested"]
    assert by_class["narrow", "same"][pair]["features"] == same
    assert by_class["narrow", "same"][pair]["share"] == pytest.approx(same / (40 - untested))
    assert by_class["narrow", "untested"][pair] == {"features": untested, "share": None}
    shown = CliRunner().invoke(command(), words)
    assert shown.stdout.startswith("narrow (40 features) and wide (80), narrow and wide: of ")
    assert "chains" in shown.stdout
    assert f"{same} ({100 * same / (40 - untested):.3g}%)" in shown.stdout
