"""Faults of the published similarity code of seed 002: each is reproduced, and the measures of the atlas do not have it."""

import numpy as np
import pytest
from scipy import sparse
from splitting_trees import tokens_of

from analysis.similarity.comparison import Spaces, comparison
from analysis.similarity.measures import cka, cosine_similarities, knn_jaccard, shuffles
from analysis.similarity.pairs import Directions, MatchedPairs
from analysis.similarity.settings import SimilaritySettings
from analysis.splitting.hierarchy import find_edges
from analysis.splitting.settings import SplittingSettings
from analysis.statistics.directions import nearest, unit_rows


def published_cka(x, y):
    """Linear CKA as in the original study: biased, on columns that are not standardised."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = np.linalg.norm(x.T @ y) ** 2
    return cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_fault_of_cka_with_padding_and_one_large_token():
    """Part i: a CKA of .866 over all tokens, and of .02 to .30 within groups of features.

    Unrelated activations, of which a third are of the same padding token, have a high CKA.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 600, 40))
    padding = np.arange(600) % 3 == 0
    padded = [np.where(padding[:, None], 8 * rng.normal(size=40), one) for one in (x, y)]
    assert published_cka(*padded) > 0.85
    # Padding is in no statistic of an atlas; on the other tokens the value is that of the null.
    assert abs(cka(x[~padding], y[~padding])) < 0.03
    # The biased value of unrelated points is above 0, also without padding.
    assert published_cka(x[~padding], y[~padding]) > 0.08


@pytest.mark.parametrize(("n", "chance"), [(16, 0.5), (45, 0.13), (380, 0.013)])
def test_fault_of_overlaps_of_small_groups(n, chance):
    """Part i: .550 of 16 pairs and .212 of 380 pairs, which were compared with each other.

    By chance, ten neighbours among n - 1 overlap by about k / (2 (n - 1) - k).
    """
    rng = np.random.default_rng(n)
    found = [knn_jaccard(*rng.normal(size=(2, n, 30)), k=10) for _ in range(20)]
    assert np.mean(found) == pytest.approx(10 / (2 * (n - 1) - 10), rel=0.15)
    assert np.mean(found) == pytest.approx(chance, rel=0.2)
    orders = shuffles(n, 50, seed=0)
    one = cosine_similarities(*rng.normal(size=(2, n, 30)), orders)[1]
    assert one.measure == "knn_jaccard"
    assert np.mean(one.draws) == pytest.approx(chance, rel=0.2)  # the null has the same offset


def test_fault_of_highest_correlations_of_pools_of_different_size():
    """Part i: mean highest correlations of SAEs and of neurons, which have fewer candidates."""
    rng = np.random.default_rng(0)
    x = unit_rows(rng.normal(size=(50, 200)))
    highest = [
        nearest(x, unit_rows(rng.normal(size=(pool, 200))), k=1).cosine.mean()
        for pool in (50, 500, 5000)
    ]
    assert np.all(np.diff(highest) > 0.04)  # of unrelated columns


@pytest.mark.parametrize("n", [8, 24, 116, 239])
def test_fault_of_the_null_of_one_component(n):
    """Part b: shuffled SVCCA of .306, .167, .070 and .050 for 8, 24, 116 and 239 pairs.

    These are the means of |r| of two independent variables, sqrt(2 / (pi n)), and so the null of one
    component. The null of all components is much higher.
    """
    rng = np.random.default_rng(n)
    drawn = [abs(np.corrcoef(*rng.normal(size=(2, n)))[0, 1]) for _ in range(2000)]
    published = {8: 0.306, 24: 0.167, 116: 0.070, 239: 0.050}[n]
    assert np.mean(drawn) == pytest.approx(np.sqrt(2 / (np.pi * n)), rel=0.15)
    assert np.mean(drawn) == pytest.approx(published, rel=0.1)


def test_fault_of_a_subset_compared_only_with_shuffled_pairings():
    """Part b: a concept was reported as shared if its pairing exceeded shuffled pairings.

    Any subset of matched features does. The null of random matched pairs shows that this subset,
    chosen at random, is like the others.
    """
    rng = np.random.default_rng(0)
    rows, tokens, shared = 200, 400, 120
    x = rng.normal(size=(rows, 20)).astype(np.float32)
    y = (x + 0.7 * rng.normal(size=x.shape)).astype(np.float32)
    active = sparse.random_array((tokens, rows), density=0.05, rng=rng).tocsc().astype(np.float32)
    order = np.arange(rows)
    pairs = MatchedPairs(order, order, np.linspace(1, 0.5, rows))
    chosen = np.zeros(rows, dtype=bool)
    chosen[rng.permutation(rows)[:shared]] = True
    none = MatchedPairs(order[:0], order[:0], np.empty(0))
    spaces = Spaces(
        Directions(pairs, none, none, None, None, None, None),
        (x, y),
        True,
        (active, active),
        np.full(20, tokens // 20),
        (chosen, chosen),
    )
    settings = SimilaritySettings(draws=39, frequency_draws=39, frequency_bins=1)
    found = [
        row
        for row in comparison(spaces, settings)
        if (row["space"], row["subset"], row["measure"]) == ("decoder", "with punctuation", "rsa")
    ]
    assert found[0]["pairs"] == shared
    assert found[0]["p"] == 1 / 40
    assert 0.05 < found[0]["matched_p"] < 0.95


def test_fault_of_a_parent_for_every_feature():
    """Part h: the feature of highest correlation was the parent, however low the correlation."""
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(size=(30, 16)), rng.normal(size=(60, 16))
    active = [rng.random((2000, n)) < 0.05 for n in (30, 60)]
    best = np.nan_to_num(np.corrcoef(np.hstack(active).T)[30:, :30]).argmax(axis=1)
    assert len(best) == 60  # each has a parent
    found = find_edges((narrow, wide), tokens_of(*active), SplittingSettings(draws=40))
    assert len(found) == 0
