"""The study of similarity on a planted atlas: pairs, subsets, nulls, the command and its messages."""

import itertools
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from drawn_charts import check_chart
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress
from scipy import sparse
from small_ingest import brute_force, model, texts, topk

from analysis.similarity.comparison import document_shifts, token_rows
from analysis.similarity.cost import PairSize, pair_cost
from analysis.similarity.grid import grid
from analysis.similarity.measures import MEASURES, rsa
from analysis.similarity.pairs import (
    distinct,
    frequency_strata,
    read_pairs,
    sample_like,
    subsets,
    unique_share,
)
from analysis.similarity.plots import draw_heatmaps
from analysis.similarity.raw import pair_dimensions, raw_activations, raw_hook
from analysis.similarity.settings import SimilaritySettings
from analysis.similarity.study import compare_spaces
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Missing, UnknownName
from atlas.progress import SILENT
from ingest import MatchSettings, ingest
from ingest.codes.store import read_shard
from ingest.match.align import last_tokens
from ingest.match.study import match_saes
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae
from ingest.synthetic import Planted, PlantedSettings
from ingest.text.corpus import Corpus

FAST = SimilaritySettings(draws=19, frequency_draws=9)


def matches(rows):
    """Return a table MATCHES from (a, b, r, one_to_one, rank_ab, rank_ba)."""
    names = ("a", "b", "pearson", "one_to_one", "rank_ab", "rank_ba")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(
        [{**row, "source": f"x/{row['a']}", "target": f"y/{row['b']}"} for row in found]
    )


# Pairs


def test_fault_many_features_with_one_partner():
    # The published pipeline paired 16,384 features with 8,097 different ones, so that decoder rows
    # occurred several times and raised RSA, CKA and the overlap of neighbours.
    # Rank 0 is the best; the pair (4, 7) is the second best match of 4, and (5, 8) of neither.
    rows = [(a, 7, 0.2 + 0.1 * a, a == 3, 0, 0 if a == 3 else 1) for a in range(4)]
    others = [(4, 8, 0.9, True, 0, 0), (4, 7, 0.1, False, 1, None), (5, 8, 0.1, False, None, 1)]
    found = read_pairs(matches([*rows, *others]))
    assert found.one_to_one.a.tolist() == [3, 4]
    assert found.a_to_b.a.tolist() == [3, 4]  # feature 7 is in one pair, its best
    assert found.a_to_b.b.tolist() == [7, 8]
    assert found.unique_ab == 2 / 5
    assert found.unique_ba == 1.0


def test_the_null_of_different_partners_is_that_of_random_choices():
    rng = np.random.default_rng(0)
    drawn = [len(np.unique(rng.integers(0, 30, 50))) / 50 for _ in range(4000)]
    assert unique_share(50, 30) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 4000**0.5)
    assert unique_share(1, 9) == pytest.approx(1)
    assert unique_share(3, 1) == pytest.approx(1 / 3)
    assert unique_share(0, 3) is unique_share(3, 0) is None
    rows = [(a, 7, 0.5, a == 3, 0, 0 if a == 3 else 1) for a in range(4)]
    found = read_pairs(matches([*rows, (4, 8, 0.9, True, 0, 0)]))
    every = [len(set(chosen)) / 5 for chosen in itertools.product(range(2), repeat=5)]
    assert found.unique_ab_null == pytest.approx(np.mean(every))  # 5 features, 2 partners
    assert found.unique_ba_null == pytest.approx(2 / 2 * (20 * 1 + 5 * 0.5) / 25)


def test_the_best_partners_of_a_match_are_those_of_rank_0(path, results):
    with Atlas.open(path) as atlas:
        table = atlas.table("MATCHES").to_pylist()
    a = min(row["source"].partition("/")[0] for row in table)
    b = min(row["target"].partition("/")[0] for row in table if row["source"].startswith(f"{a}/"))
    rows = [r for r in table if r["source"].startswith(f"{a}/") and r["target"].startswith(f"{b}/")]
    best = {}  # of each feature, by correlation
    for row in sorted(rows, key=lambda r: r["pearson"]):
        best[row["source"]] = row["target"]
    found = read_pairs(pa.Table.from_pylist(rows))
    assert found.unique_ab == len(set(best.values())) / len(best)


def test_fault_nan_correlations():
    # The published code replaced NaN by -inf and still returned the pairs.
    rows = [
        (0, 0, float("nan"), True, 0, 0),
        (1, 1, 0.5, True, 0, 0),
        (2, 2, float("inf"), True, 0, 0),
    ]
    found = read_pairs(matches(rows))
    for pairs in (found.one_to_one, found.a_to_b, found.b_to_a):
        assert pairs.a.tolist() == [1]


def test_no_matches():
    found = read_pairs(matches([(0, 0, 0.5, False, None, None)]))
    assert len(found.one_to_one) == len(found.a_to_b) == 0
    assert found.unique_ab is None


@pytest.mark.parametrize("form", [np.asarray, lambda x: sparse.csr_array(np.asarray(x))])
def test_zero_and_duplicate_rows_are_excluded(form):
    rows = form([[1.0, 2], [0, 0], [1, 2], [2, 1], [0, 3], [3, 0]])
    assert distinct(rows).tolist() == [True, False, False, True, True, True]
    assert not distinct(np.array([[np.nan, 1.0], [np.inf, 1.0]])).any()
    assert distinct(np.array([[0.0, 1.0], [-0.0, 1.0]])).tolist() == [True, False]


def test_subsets_by_hand():
    pairs = read_pairs(
        matches([(i, i, r, True, 0, 0) for i, r in enumerate((0.1, 0.9, 0.5))])
    ).one_to_one
    found = dict(subsets(pairs, wordless=np.array([True, False, True])))
    assert {name: which.tolist() for name, which in found.items()} == {
        "top half by r": [1, 2],
        "top tenth by r": [1],
        "with punctuation": [0, 2],
        "without punctuation": [1],
    }


def test_random_pairs_have_the_same_number_in_each_stratum():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 1000, 200)
    stratum = frequency_strata(counts, counts, bins=4)
    assert len(np.unique(stratum)) == 4
    chosen = rng.choice(200, 30, replace=False)
    for _ in range(5):
        drawn = sample_like(chosen, stratum, rng)
        assert len(np.unique(drawn)) == 30
        assert sorted(stratum[drawn]) == sorted(stratum[chosen])


def test_tokens_move_only_within_their_document():
    lengths = np.array([1, 4, 7])
    for order in document_shifts(lengths, 5, seed=0):
        document = np.repeat(np.arange(3), lengths)
        assert (document[order] == document).all()
        assert (np.diff(order[1:5]) % 4 == 1).all()


def test_synchronous_columns_exceed_shifted_documents_and_others_do_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    lengths = np.full(20, 30)
    same = list(token_rows((x, x + rng.normal(size=x.shape)), lengths, FAST, space="s"))
    other = list(token_rows((x, rng.normal(size=x.shape)), lengths, FAST, space="s"))
    assert [row["p"] for row in same] == [0.05] * 4
    assert all(row["p"] > 0.05 for row in other)


# Raw sites


def test_dimensions_are_paired_by_correlation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)) + 3
    order = rng.permutation(5)
    y = (2 * x + 0.01 * rng.normal(size=x.shape))[:, order]
    a, b = pair_dimensions(
        np.hstack([x, np.ones((500, 1))]).astype(np.float32), y.astype(np.float32)
    )
    assert a.shape == b.shape == (500, 5)
    assert all(np.corrcoef(a[:, i], b[:, i])[0, 1] > 0.99 for i in range(5))
    assert np.abs(a.mean(0)).max() < 1e-5


def test_sites_of_models():
    assert raw_hook("blocks.3.hook_mlp_out", "stream") == "blocks.3.hook_resid_post"
    assert raw_hook("hook_embed", "site") == "hook_embed"
    with pytest.raises(BadInput, match="reads no block"):
        raw_hook("hook_embed", "neurons")


# The forecast


def test_the_forecast_of_a_pair_adds_up_its_sets_and_draws():
    """The product of cosines takes 2 seconds, their measures 1, and 1 for each draw. Subspaces take 2
    and 1 on half of the points, and 3 and 1.5 on all: 1 + n / half, and 0.5 + n / (2 half) for each
    draw."""
    cosines, subspaces = [2.0, 1.0, 17.0], [2.0, 4.0, 3.0, 6.0]
    times = iter([*cosines, *subspaces, *cosines, *subspaces])

    def timer(work):
        work()
        return next(times)

    settings = SimilaritySettings(draws=10, frequency_draws=5, subset_pairs=128, columns=7)
    size = PairSize(pairs=512, width=32, tokens=4096, active=20.0)  # all tokens are the sample
    found = pair_cost(size, settings, timer=timer)
    # All pairs, four subsets of 128, 51.2, 128 and 128 pairs with 6 measurements, two directions;
    # 15, 10 and 10 draws. The sample has 256 pairs.
    subsets = (128, 51.2, 128, 128)
    square = sum((n / 256) ** 2 for n in subsets)
    of_cosines = 4 * (2 + 1 + 15) + square * (6 + 10) + 2 * 0.25 * (2 + 1 + 10)
    half = 64
    base, draw = (lambda n: 1 + n / half), (lambda n: 0.5 + n / (2 * half))
    of_subspaces = base(512) + 15 * draw(512)
    of_subspaces += sum(6 * base(n) + 10 * draw(n) for n in subsets)
    of_subspaces += 2 * (base(128) + 10 * draw(128))
    assert found.seconds == pytest.approx(2 * of_cosines + of_subspaces + 3 + 10 * 1.5)
    assert found.bytes >= 3 * 8 * 512**2
    assert next(times, None) is None


def test_the_forecast_of_many_pairs_bounds_memory():
    size = PairSize(pairs=32_768, width=768, tokens=100_000, active=150.0)
    found = pair_cost(size, SimilaritySettings(columns=256), timer=lambda work: 1.0)
    assert found.bytes < 4e9


@pytest.mark.parametrize("size", [PairSize(0, 4, 100, 2.0), PairSize(5, 4, 0, 0.0)])
def test_a_comparison_of_nothing_costs_nothing(size):
    assert pair_cost(size, SimilaritySettings()).seconds == 0


def test_the_forecast_is_reported_before_a_comparison(path, results):
    progress = RecordingProgress()
    compare_spaces(path, "all", settings=FAST, replace=True, progress=progress)
    assert any(m.startswith("similarity: about") for m in progress.messages)


# The study


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("similarity") / "planted.atlas"
    Planted(PlantedSettings(seed=1, shared=40, private=12)).write(where).close()
    return where


@pytest.fixture(scope="module")
def results(path):
    if not any(p.manifest.kind == "match" for p in Folder.open(path).sound().parts.values()):
        match_saes(path, "all")
    return compare_spaces(path, "all", settings=FAST)


def test_values_equal_the_measures_on_the_stored_codes(path, results):
    (result,) = results
    rows = {(r["space"], r["subset"], r["measure"]): r for r in result.table("rows").to_pylist()}
    full = rows["activations", "one-to-one", "rsa"]
    folder = Folder.open(path)
    found = []
    matched = folder.sound().parts[f"match/{result.name}"].table("MATCHES").to_pylist()
    matched = [m for m in matched if m["one_to_one"]]
    for name, end in ((result["a"], "source"), (result["b"], "target")):
        dense = []
        for file in sorted(folder.codes(name).glob("*.arrow")):
            for block in read_shard(file):
                one = np.zeros((len(block), block.d_sae))
                one[block.rows, block.indices] = block.values
                dense.append(one)
        features = [int(m[end].rpartition("/")[2]) for m in matched]
        found.append(np.concatenate(dense)[:, features].T)
    assert full["n"] == len(matched)
    assert full["value"] == pytest.approx(rsa(*found), abs=1e-8)
    assert result["activation_rsa"] == full["value"]


def test_best_partners_have_the_highest_correlation(path, results):
    # Ranks of MATCHES start at 0; the first version of the study used the second best.
    (result,) = results
    matched = Folder.open(path).sound().parts[f"match/{result.name}"].table("MATCHES").to_pandas()
    for end, other, unique in (
        ("source", "target", "unique_ab"),
        ("target", "source", "unique_ba"),
    ):
        best = matched.loc[matched.groupby(end)["pearson"].idxmax()]
        assert result[unique] == best[other].nunique() / len(best)
    found = read_pairs(pa.Table.from_pandas(matched))
    highest = matched.groupby("source")["pearson"].max()
    assert len(found.a_to_b)
    assert set(found.a_to_b.r) <= set(highest)


def test_planted_pairs_exceed_both_nulls(results):
    (result,) = results
    rows = result.table("rows").to_pylist()
    full = [r for r in rows if r["subset"] == "one-to-one" and r["space"] == "activations"]
    assert {r["measure"] for r in full} == set(MEASURES)
    assert all(r["p"] == 0.05 for r in full if r["p"] is not None)
    assert next(r for r in full if r["measure"] == "mutual_nearest")["value"] > 0.9
    verdict = " ".join(result.verdict)
    assert "exceed the null" in verdict
    assert "selected by activation" in verdict
    assert "No floor is compared: the atlas has no floor of " in verdict
    (half,) = (
        r
        for r in rows
        if (r["space"], r["measure"], r["subset"]) == ("activations", "rsa", "top half by r")
    )
    sentence = (
        f"In the half of highest correlation, rsa of activations is {half['value']:.3g}, and "
    )
    assert sentence + f"{half['matched_null']:.3g} in random matched pairs" in verdict


def test_few_pairs_are_flagged(results):
    (result,) = results
    few = [r for r in result.table("rows").to_pylist() if r["n"] < 30]
    assert few
    assert all(r["note"] for r in few)


def test_values_are_on_compared_with(path, results):
    with Atlas.open(path) as atlas:
        (edge,) = atlas.table("COMPARED_WITH").to_pylist()
    assert edge["activation_rsa"] == results[0]["activation_rsa"]
    assert edge["activation_rsa_p"] == 0.05
    assert edge["one_to_one"] is not None


def test_grid_has_excess_and_q(results):
    rows = grid([results[0], results[0]])
    assert all(r["excess"] == pytest.approx(r["value"] - r["null"]) for r in rows)
    assert all(r["q"] == pytest.approx(r["p"]) for r in rows)  # equal p-values
    panels = [
        panel
        for space in check_chart(draw_heatmaps(results)).to_dict()["vconcat"]
        for panel in space["concat"]
    ]
    assert len(panels) == len({(r["space"], r["measure"]) for r in rows})
    one = draw_heatmaps(results, measures=["rsa"]).to_dict()["vconcat"]
    assert {len(space["concat"]) for space in one} == {3}  # value, shuffled pairing, difference
    assert check_chart(results[0].plot()).to_dict()["hconcat"]


def test_the_command_prints_values_with_nulls(path, results):
    names = [results[0]["a"], results[0]["b"]]
    how = ["--draws", "19", "--frequency-draws", "9", "-q", "-a", str(path)]
    done = CliRunner().invoke(command(), ["similarity", *names, *how, "--json"])
    assert done.exit_code == 0, done.output
    (pair,) = json.loads(done.stdout)["result"]["pairs"]
    assert pair["activation_rsa"] == results[0]["activation_rsa"]
    shown = CliRunner().invoke(command(), ["similarity", "--all", *how])
    assert shown.exit_code == 0, shown.output
    assert "knn_jaccard" in shown.stdout


def test_messages(path, results, tmp_path):
    name = results[0]["a"]
    with pytest.raises(BadInput, match="needs two different SAEs"):
        compare_spaces(path, [name], settings=FAST)
    with pytest.raises(UnknownName):
        compare_spaces(path, [name, "nobody"], settings=FAST)
    done = CliRunner().invoke(command(), ["similarity", name, "--all", "-a", str(path)])
    assert "--all" in str(done.exception)


def test_unmatched_saes_name_the_command(tmp_path):
    where = tmp_path / "unmatched.atlas"
    Planted(PlantedSettings(seed=2, shared=4, private=2)).write(where).close()
    folder = Folder.open(where)
    shutil.rmtree(folder.path / "parts" / "match", ignore_errors=True)
    names = folder.sound().saes
    with pytest.raises(Missing, match="atlas match"):
        compare_spaces(where, names, settings=FAST)
    with pytest.raises(Missing, match="atlas match"):
        compare_spaces(where, "all", settings=FAST)


@pytest.mark.slow
def test_models_are_compared_at_equal_numbers_of_columns(tmp_path):
    path, lm = tmp_path / "two.atlas", model()
    saes = [open_sae(topk(seed=seed), name=f"s{seed}") for seed in (0, 1)]
    ingest(path, saes=saes, text=texts(), model=lm).close()
    match_saes(path, "all", settings=MatchSettings(draws=0, min_joint=3))
    settings = SimilaritySettings(draws=19, frequency_draws=0, raw="site")
    (found,) = compare_spaces(path, "all", settings=settings, opened=saes, models=[lm])
    rows = found.table("rows").to_pylist()
    own = [r for r in rows if r["space"] == "model (site)"]
    # Both SAEs read one site, so the activations of their models are the same.
    assert all(r["value"] == pytest.approx(1, abs=1e-6) for r in own if r["value"] is not None)
    other = [r for r in rows if r["space"] == "activations" and "random" in r["subset"]]
    assert {r["pairs"] for r in own} == {r["pairs"] for r in other}
    assert {r["measure"] for r in own} == {r["measure"] for r in other} == set(MEASURES)
    # The decoder rows of the two SAEs are random, but in one space.
    decoder = {
        r["measure"]: r for r in rows if r["space"] == "decoder" and r["subset"] == "one-to-one"
    }
    assert decoder["mutual_nearest"]["value"] is not None


def test_models_with_other_tokenizers_are_compared_on_words(tmp_path):
    """A word is described by the activations of either model at its last token."""
    path, documents = tmp_path / "two.atlas", texts()
    saes = [open_sae(topk(seed=seed), name=f"s{seed}") for seed in (0, 1)]
    lms = [
        open_model(random_model("llama", seed=seed), name=f"m{seed}", tokenizer=tokenizer)
        for seed, tokenizer in enumerate((small_tokenizer(), small_tokenizer(vocabulary=60)))
    ]
    for sae, lm, text in zip(saes, lms, (documents, None), strict=True):
        ingest(path, saes=[sae], text=text, model=lm, match=None).close()
    sound, corpus = Folder.open(path).sound(), Corpus.open(Folder.open(path).corpus_file)
    shards = [sorted(Folder.open(path).codes(name).glob("*.arrow")) for name in ("s0", "s1")]
    last = last_tokens(*shards, corpus, how="words")
    found = raw_activations(
        sound,
        ["s0", "s1"],
        corpus,
        raw="site",
        tokens=last,
        into=tmp_path,
        models=lms,
        progress=SILENT,
    )
    for one, rows, sae, lm in zip(found, last, saes, lms, strict=True):
        _, _, inputs, _ = brute_force(documents, lm, sae.sae)
        np.testing.assert_allclose(one, inputs[rows], atol=1e-4)
    match_saes(path, "all", settings=MatchSettings(draws=0, min_joint=3))
    settings = SimilaritySettings(draws=9, frequency_draws=0, raw="site")
    (result,) = compare_spaces(path, "all", settings=settings, opened=saes, models=lms)
    rows = [r for r in result.table("rows").to_pylist() if r["space"] == "model (site)"]
    assert {r["measure"] for r in rows} == set(MEASURES)
    assert all(r["n"] == len(last[0]) for r in rows if r["points"] == "tokens")
