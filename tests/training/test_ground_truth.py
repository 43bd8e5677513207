"""Ground truth, compared with SciPy, sae-lens and brute force; a true and a random dictionary."""

import itertools
import json

import numpy as np
import pytest
import sae_lens
import torch
from click.testing import CliRunner
from sae_lens.saes.sae import SAEMetadata
from sae_lens.synthetic import mean_correlation_coefficient
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from small_synthetic import small_synthetic

from analysis import GroundTruthSettings, compare_with_truth
from analysis.ground_truth.recovery import (
    ancestor_pairs,
    candidates,
    find_partners,
    implied_pairs,
    pair_scores,
    random_directions,
    recall_by_rate,
    recovery_scores,
)
from atlas.cli.main import command
from atlas.errors import BadInput, UnknownName
from ingest import ingest, save_synthetic
from ingest.model.language_model import open_model
from ingest.model.synthetic_features import SUM_HOOK
from ingest.sae.autoencoder import open_sae


def directions(rows, *, width=8, seed=0):
    return random_directions((rows, width), np.random.default_rng(seed))


@pytest.mark.parametrize(("true", "learned"), [(12, 12), (20, 9), (9, 20), (1, 1), (1, 5)])
def test_partners_equal_the_dense_assignment(true, learned):
    a, b = directions(true), directions(learned, seed=1)
    partners = find_partners(a, b, np.arange(learned), n=100)
    positive = np.maximum(a @ b.T, 0)
    rows, columns = linear_sum_assignment(positive, maximize=True)
    assert partners.cosine.sum() == pytest.approx(positive[rows, columns].sum())
    chosen = partners.partner[partners.partner >= 0]
    assert len(set(chosen)) == len(chosen)
    found = partners.partner >= 0
    np.testing.assert_allclose(partners.cosine[found], (a @ b.T)[found, partners.partner[found]])
    np.testing.assert_allclose(partners.best, (a @ b.T).max(axis=1))
    np.testing.assert_array_equal(partners.nearest, (a @ b.T).argmax(axis=0))
    np.testing.assert_allclose(partners.nearest_cosine, (a @ b.T).max(axis=0))


def test_mean_cosine_equals_sae_lens_where_all_are_candidates():
    a = np.abs(directions(15))  # positive cosines: sae-lens takes their absolute value
    b = np.abs(directions(11, seed=1))
    partners = find_partners(a, b, np.arange(11), n=15)
    scores = recovery_scores(partners, live=11, threshold=0.9)
    peer = mean_correlation_coefficient(torch.from_numpy(a), torch.from_numpy(b))
    assert scores["mean_cosine"] == pytest.approx(peer, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 50])
def test_candidates_are_the_nearest_of_either_side(n):
    a, b = directions(30), directions(40, seed=1)
    row, column, cosine = candidates(a, b, n)
    exact = a @ b.T
    expected = {(i, j) for i in range(30) for j in np.argsort(-exact[i])[:n].tolist()}
    expected |= {(i, j) for j in range(40) for i in np.argsort(-exact[:, j])[:n].tolist()}
    assert set(zip(row.tolist(), column.tolist(), strict=True)) == expected
    np.testing.assert_allclose(cosine, exact[row, column])


def test_the_true_dictionary_scores_one_and_a_random_one_scores_chance():
    a = directions(60, width=32)
    mixed = np.random.default_rng(3).permutation(60)
    partners = find_partners(a, a[mixed], np.arange(60), n=5)
    assert (mixed[partners.partner] == np.arange(60)).all()
    scores = recovery_scores(partners, live=60, threshold=0.9)
    assert (scores["f1"], scores["precision"], scores["recall"]) == (1, 1, 1)
    assert scores["mean_cosine"] == pytest.approx(1)
    draws = [
        recovery_scores(
            find_partners(a, directions(60, width=32, seed=s), np.arange(60), n=60),
            live=60,
            threshold=0.9,
        )
        for s in range(1, 9)
    ]
    assert all(d["f1"] == 0 for d in draws)
    # The assignment of random directions is far below 1, and not 0.
    assert 0.2 < np.mean([d["mean_cosine"] for d in draws]) < 0.6


def test_degenerate_dictionaries():
    a = directions(5)
    none = find_partners(a, directions(4, seed=1), np.array([], dtype=np.int64), n=3)
    assert none.partner.tolist() == [-1] * 5
    scores = recovery_scores(none, live=0, threshold=0.9)
    assert (scores["f1"], scores["mean_cosine"], scores["precision"]) == (0, 0, 0)
    zero = find_partners(a, np.zeros((3, 8)), np.arange(3), n=3)
    assert zero.partner.tolist() == [-1] * 5
    assert find_partners(a, -a, np.arange(5), n=1).cosine.max() < 1  # opposite is not equal
    twice = find_partners(a[:1], np.concatenate([a[:1], a[:1]]), np.arange(2), n=2)
    assert twice.cosine.tolist() == pytest.approx([1])
    assert recovery_scores(twice, live=2, threshold=0.9)["precision"] == 0.5


def test_recall_by_rate_equals_counts_by_hand():
    a = directions(6)
    partners = find_partners(a, a[[0, 1, 2]], np.arange(3), n=1)
    rows = recall_by_rate(np.array([0.3, 0.26, 0.2, 0.15, 0.14, 0.0]), partners, threshold=0.9)
    assert [(r["low"], r["high"], r["features"]) for r in rows] == [
        (0.125, 0.25, 3),
        (0.25, 0.5, 2),
    ]
    assert [r["recall"] for r in rows] == pytest.approx([1 / 3, 1])
    assert recall_by_rate(np.zeros(6), partners, threshold=0.9) == []


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_pair_scores_equal_brute_force(seed, directed):
    rng = np.random.default_rng(seed)
    every = np.array(
        list(
            itertools.permutations(range(7), 2) if directed else itertools.combinations(range(7), 2)
        )
    )
    true = every[rng.random(len(every)) < 0.4]
    learned = np.array([p for p in itertools.combinations(range(9), 2) if rng.random() < 0.5])
    true_of = np.full(9, -1)
    partners = rng.permutation(9)[:5]
    true_of[partners] = rng.permutation(7)[:5]
    scores = pair_scores(true, learned, true_of, directed=directed)

    def correct(of):
        kind = tuple if directed else frozenset
        known = {kind(pair) for pair in true.tolist()}
        return sum(
            kind((of[i], of[j])) in known for i, j in learned.tolist() if of[i] >= 0 <= of[j]
        )

    assert scores.correct == correct(true_of)
    assert (scores.true, scores.learned) == (len(true), len(learned))
    exchanged = []
    for order in itertools.permutations(true_of[partners]):
        of = np.full(9, -1)
        of[partners] = order
        exchanged.append(correct(of))
    assert scores.chance == pytest.approx(np.mean(exchanged))


def test_pair_scores_without_pairs_are_null():
    none = np.empty((0, 2), dtype=np.int64)
    scores = pair_scores(none, none, np.full(3, -1))
    assert (scores.precision, scores.recall, scores.chance_precision) == (None, None, None)


@pytest.mark.parametrize("seed", range(4))
def test_implied_pairs_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    active = rng.random((300, 6)) < rng.uniform(0.05, 0.5, 6)
    active[:, 1] &= active[:, 0]
    active[:, 3] &= active[:, 1]
    codes = sparse.csr_array(active.astype(np.int64))
    count = active.sum(0)
    found = implied_pairs((codes.T @ codes).tocsr(), count, tokens=300, share=0.9, lift=1.5)
    expected = {
        (i, j)
        for i, j in itertools.permutations(range(6), 2)
        if count[i]
        and (both := (active[:, i] & active[:, j]).sum()) / count[i] >= 0.9
        and both * 300 >= 1.5 * count[i] * count[j]
        and count[i] < count[j]
    }
    assert set(map(tuple, found.tolist())) == expected
    assert {(1, 0), (3, 1), (3, 0)} <= expected


def test_ancestors_are_all_features_above():
    parent = [-1, 0, 0, 1, 3, -1]
    pairs = {tuple(p) for p in ancestor_pairs(parent).tolist()}
    assert pairs == {(1, 0), (2, 0), (3, 1), (3, 0), (4, 3), (4, 1), (4, 0)}
    assert ancestor_pairs([-1, -1]).shape == (0, 2)


# ---------------------------------------------------------------- complete studies


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a synthetic model with linearly independent features, so that an SAE can be perfect."""
    folder = tmp_path_factory.mktemp("world") / "synth"
    settings = small_synthetic(width=32, tokens=6000, max_rate=0.3, min_rate=0.05)
    return save_synthetic(folder, settings)


def dictionary_sae(folder, *, name, random=None, hook=SUM_HOOK):
    """Return an SAE whose decoder is the true dictionary, or random, and whose encoder inverts it."""
    rows = open_model(folder, device="cpu").base.sums.down_proj.weight.T.detach()
    if random is not None:
        rows = torch.from_numpy(directions(24, width=32, seed=random)).float()
    metadata = SAEMetadata(model_name="synth", hook_name=hook, context_size=16, prepend_bos=True)
    sae = sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(d_in=32, d_sae=24, metadata=metadata))
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(torch.linalg.pinv(rows))
        sae.threshold.fill_(1e-3)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return open_sae(sae, name=name)


@pytest.fixture(scope="module")
def atlas(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("atlas") / "synth.atlas"
    saes = [dictionary_sae(world, name="perfect"), dictionary_sae(world, name="random", random=5)]
    ingest(
        path, saes=[str(world / "truth"), *saes], text=world / "text.jsonl", model=world, match=None
    ).close()
    return path, saes


def test_a_perfect_sae_scores_one_everywhere(atlas):
    path, opened = atlas
    perfect, random = compare_with_truth(
        path, opened=opened, settings=GroundTruthSettings(lift=1.2)
    )
    assert perfect["sae"] == "perfect"
    for score in (
        "f1",
        "recall",
        "precision",
        "mean_cosine",
        "activity_f1",
        "edge_precision",
        "edge_recall",
        "parent_recall",
    ):
        assert perfect[score] == pytest.approx(1, abs=1e-6), score
    assert perfect["true_edges"] == perfect["edges"] > 10
    assert perfect["edge_chance"] < 0.9
    assert perfect["parent_precision"] > perfect["parent_chance"]
    assert random["f1"] == 0
    assert random["mean_cosine"] == pytest.approx(random["chance_mean_cosine"], abs=0.1)
    assert random["edge_precision"] == 0
    features = perfect.to_pandas("true_features")
    assert (features["partner"] == features["idx"]).all()
    assert perfect.to_pandas("rates")["recall"].tolist() == [1] * len(perfect.to_pandas("rates"))
    assert "recovers 24 of 24 true features" in perfect.verdict[0]


def test_the_command_reads_the_stored_result(atlas):
    path, opened = atlas
    settings = GroundTruthSettings(min_count=4)
    (row,) = compare_with_truth(path, ["perfect"], settings=settings, opened=opened).rows
    done = CliRunner().invoke(
        command(), ["truth", "perfect", "--min-count", "4", "--atlas", str(path), "--json"]
    )
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["result"]
    assert result["f1"] == row["f1"] == 1


def test_other_saes_are_refused_with_a_reason(world, atlas, tmp_path):
    path, _ = atlas
    with pytest.raises(UnknownName, match=r"'nothing'\. There are: truth\. `atlas synthetic`"):
        compare_with_truth(path, settings=GroundTruthSettings(truth="nothing"))
    with pytest.raises(BadInput, match=r"perfect reads blocks\.0\.hook_mlp_out"):
        compare_with_truth(path, settings=GroundTruthSettings(truth="perfect"))
    with pytest.raises(BadInput, match="truth cannot be compared with truth: it is the truth"):
        compare_with_truth(path, ["truth"])
    with pytest.raises(BadInput, match="was in memory when it was ingested"):
        compare_with_truth(path, ["perfect"], replace=True)
    only = tmp_path / "only.atlas"
    ingest(only, saes=[str(world / "truth")], text=world / "text.jsonl", model=world).close()
    with pytest.raises(BadInput, match="this atlas has none"):
        compare_with_truth(only)
