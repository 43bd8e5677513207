"""Similarity measures: independent references, planted truths, degenerate input, nulls."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import kstest, ortho_group, spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from analysis.similarity.cosines import Cosines
from analysis.similarity.measures import (
    MEASURES,
    cca,
    cka,
    cosine_similarities,
    knn_jaccard,
    mutual_nearest,
    procrustes,
    rsa,
    shuffles,
    similarities_of_cosines,
    subspace_similarities,
    svcca,
)
from analysis.similarity.rank_correlations import rank_correlations
from analysis.similarity.subspaces import Subspaces, components
from analysis.statistics.directions import unit_rows
from atlas.errors import BadInput


def noisy(seed=0, n=60, wide=7, narrow=5):
    """Return two related sides of different width."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, wide)) * np.linspace(3, 0.1, wide) + rng.normal(size=wide)
    return x, x[:, :narrow] @ rng.normal(size=(narrow, narrow)) + rng.normal(size=(n, narrow))


def isotropic(seed=0, n=80, d=6):
    """Return centred points whose columns are orthogonal and of one scale."""
    points = np.random.default_rng(seed).normal(size=(n, d))
    return np.linalg.qr(points - points.mean(axis=0))[0]


def every(x, y, draws=0, k=5):
    orders = shuffles(len(x), draws, seed=0)
    found = [*subspace_similarities(x, y, orders), *cosine_similarities(x, y, orders, k=k)]
    return {one.measure: one for one in found}


# References


def canonical_correlations(x, y):
    """Return canonical correlations from the eigenvalues of Sxx^-1 Sxy Syy^-1 Syx."""
    x, y = x - x.mean(0), y - y.mean(0)
    product = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
    found = np.sqrt(np.sort(np.linalg.eigvals(product).real.clip(0))[::-1])
    return found[: min(x.shape[1], y.shape[1])]


def u_centred(points):
    """Return the U-centred matrix of the linear kernel (Székely & Rizzo 2014, definition 2)."""
    k = points @ points.T
    np.fill_diagonal(k, 0)
    n = len(k)
    row = k.sum(1) / (n - 2)
    k = k - row[:, None] - row + k.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(k, 0)
    return k


def brute_neighbours(points, k):
    unit = points / np.linalg.norm(points, axis=1)[:, None]
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    return [set(np.argsort(-row)[:k].tolist()) for row in cosines]


@pytest.mark.parametrize("seed", range(5))
def test_cca_equals_eigenvalues_and_scikit_learn(seed):
    x, y = noisy(seed)
    assert cca(x, y) == pytest.approx(canonical_correlations(x, y).mean(), abs=1e-8)
    u, v = CCA(n_components=1, tol=1e-12, max_iter=100_000).fit_transform(x, y)
    first = abs(np.corrcoef(u[:, 0], v[:, 0])[0, 1])
    assert canonical_correlations(x, y)[0] == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_svcca_equals_pca_and_canonical_correlations(seed):
    x, y = noisy(seed)
    reduced = [PCA(n_components=0.99, svd_solver="full").fit_transform(one) for one in (x, y)]
    assert svcca(x, y) == pytest.approx(canonical_correlations(*reduced).mean(), abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_cka_equals_u_centred_kernels(seed):
    x, y = ((one - one.mean(0)) / one.std(0) for one in noisy(seed, n=20))
    k, l = u_centred(x), u_centred(y)  # noqa: E741
    by_hand = (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())
    assert cka(*noisy(seed, n=20)) == pytest.approx(by_hand, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_procrustes_equals_scipy(seed):
    x, y = noisy(seed)
    padded = np.hstack([y, np.zeros((len(y), x.shape[1] - y.shape[1]))])
    _, _, disparity = scipy_procrustes(x, padded)
    assert 1 - procrustes(x, y) ** 2 == pytest.approx(disparity, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_rsa_equals_scipy(seed):
    x, y = noisy(seed)
    by_hand = spearmanr(pdist(x, "cosine"), pdist(y, "cosine")).statistic
    assert rsa(x, y) == pytest.approx(by_hand, abs=1e-8)
    assert rsa(sparse.csr_array(x), sparse.csr_array(y)) == pytest.approx(by_hand, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_equal_brute_force(seed):
    x, y = noisy(seed)
    pairs = zip(brute_neighbours(x, 4), brute_neighbours(y, 4), strict=True)
    by_hand = np.mean([len(a & b) / len(a | b) for a, b in pairs])
    assert knn_jaccard(x, y, k=4) == pytest.approx(by_hand, abs=1e-12)
    a, b = noisy(seed, wide=6, narrow=6)
    cosines = 1 - np.array([[np.nan_to_num(pdist([p, q], "cosine")[0]) for q in b] for p in a])
    mutual = [cosines[i].argmax() == i == cosines[:, i].argmax() for i in range(len(a))]
    assert mutual_nearest(a, b) == pytest.approx(np.mean(mutual), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_values_equal_values_of_shuffled_rows(seed):
    x, y = noisy(seed, wide=5, narrow=5)
    orders = shuffles(len(x), 4, seed=seed)
    found = [*subspace_similarities(x, y, orders), *cosine_similarities(x, y, orders, k=5)]
    alone = {
        "svcca": svcca,
        "cca": cca,
        "cka": cka,
        "procrustes": procrustes,
        "rsa": rsa,
        "knn_jaccard": lambda a, b: knn_jaccard(a, b, k=5),
        "mutual_nearest": mutual_nearest,
    }
    assert {one.measure for one in found} == set(alone) == set(MEASURES)
    for one in found:
        by_hand = [alone[one.measure](x, y[order]) for order in orders]
        assert one.draws == pytest.approx(by_hand, abs=1e-8)
        assert one.p == (1 + sum(v >= one.value - 1e-12 for v in by_hand)) / 5


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("most_bytes", [1 << 30, 2 * 300 * 77, 1])
def test_rounded_ranks_are_close_to_exact_ranks(kind, most_bytes):
    x, y = (one - one.mean(0) for one in noisy(3, n=300))
    if kind == "sparse":
        x, y = (sparse.csr_array(np.where(one > 1, one, 0)) for one in (x, y))
    orders = [np.arange(300), *shuffles(300, 3, seed=0)]
    dense = [one.toarray() if kind == "sparse" else one for one in (x, y)]
    unit = [one / np.maximum(np.linalg.norm(one, axis=1), 1e-300)[:, None] for one in dense]
    cosines = [np.round(one @ one.T, 12) for one in unit]
    below = np.tril_indices(300, -1)
    exact = [
        spearmanr(cosines[0][below], cosines[1][np.ix_(order, order)][below]).statistic
        for order in orders
    ]
    sides = (unit_rows(one, dtype=np.float32) for one in (x, y))
    found = rank_correlations(*sides, orders, most_bytes=most_bytes)
    assert found == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_many_points_have_the_values_of_few(seed):
    """Without the cosines in memory, neighbours are the same, and RSA is close."""
    x, y = noisy(seed, n=120, wide=5, narrow=5)
    orders = shuffles(120, 3, seed=seed)
    exact = cosine_similarities(x, y, orders, k=5)
    streamed = cosine_similarities(x, y, orders, k=5, exact=0)
    for one, other in zip(exact, streamed, strict=True):
        tolerance = 1e-4 if one.measure == "rsa" else 1e-12
        assert other.value == pytest.approx(one.value, abs=tolerance)
        assert other.draws == pytest.approx(one.draws, abs=tolerance)


def sparse_points(seed, n=90, columns=7, share=0.3):
    rng = np.random.default_rng(seed)
    shared = rng.random((n, columns)) * (rng.random((n, columns)) < share)
    other = rng.random((n, columns)) * (rng.random((n, columns)) < share)
    return shared, np.where(rng.random((n, columns)) < 0.5, shared, other)


@pytest.mark.parametrize("case", ["plain", "constant column", "equal columns", "tiny column"])
def test_sparse_points_have_the_values_of_dense_ones(case):
    x, y = sparse_points(0)
    if case == "constant column":
        x[:, 2] = 0
    elif case == "equal columns":
        x[:, 3] = x[:, 1]
    elif case == "tiny column":  # too ill-conditioned for products of sparse rows
        x[:, 4] *= 1e-7
    orders = shuffles(len(x), 5, seed=1)
    dense = subspace_similarities(x, y, orders)
    for kind in (sparse.csr_array, sparse.csc_array):
        for one, other in zip(dense, subspace_similarities(kind(x), kind(y), orders), strict=True):
            assert other.value == pytest.approx(one.value, abs=1e-8)
            assert other.draws == pytest.approx(one.draws, abs=1e-8)
            assert other.columns == one.columns
    mixed = subspace_similarities(sparse.csc_array(x), y, orders)
    assert [one.value for one in mixed] == pytest.approx([one.value for one in dense], abs=1e-8)


def test_cosines_of_a_subset_give_the_measures_of_its_rows():
    x, y = noisy(1, n=80, wide=5, narrow=5)
    which = np.sort(np.random.default_rng(0).choice(80, 40, replace=False))
    some = Cosines.of(x, y, one_space=True)[which]
    found = similarities_of_cosines(some, [], k=5, columns=(5, 5))
    values = {one.measure: one.value for one in found}
    assert values["rsa"] == pytest.approx(
        spearmanr(pdist(x[which], "cosine"), pdist(y[which], "cosine")).statistic, abs=1e-8
    )
    pairs = zip(brute_neighbours(x[which], 5), brute_neighbours(y[which], 5), strict=True)
    by_hand = np.mean([len(a & b) / len(a | b) for a, b in pairs])
    assert values["knn_jaccard"] == pytest.approx(by_hand, abs=1e-12)


# Planted truths


@pytest.mark.parametrize("seed", range(3))
def test_rotated_points_have_a_value_of_one_in_every_measure(seed):
    x = isotropic(seed)
    turned = x @ ortho_group.rvs(6, random_state=seed)
    found = every(x, turned)
    # Across sides, points are compared in their own coordinates.
    found["mutual_nearest"] = every(x, 3 * x)["mutual_nearest"]
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        dict.fromkeys(MEASURES, 1.0), abs=1e-8
    )


def test_shuffled_pairs_have_the_value_of_the_null():
    x = isotropic(1, n=120)
    found = every(x, x[np.random.default_rng(5).permutation(120)], draws=99)
    for one in found.values():
        spread = one.draws.std()
        assert abs(one.value - one.null) <= 4 * spread
        assert one.p > 0.01


def test_half_shared_dimensions_have_a_value_of_half():
    q = isotropic(n=400, d=60)
    x, y = q[:, :40], q[:, 20:60]
    assert svcca(x, y, variance=1.0) == pytest.approx(0.5, abs=1e-6)
    assert cca(x, y) == pytest.approx(0.5, abs=1e-8)
    assert procrustes(x, y) == pytest.approx(0.5, abs=1e-8)
    assert cka(x, y) == pytest.approx(0.5, abs=0.06)  # it also compares diagonals


def test_half_shared_points_have_a_value_of_half():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 50))
    y = np.where(np.arange(400)[:, None] < 200, x, rng.normal(size=(400, 50)))
    assert mutual_nearest(x, y) == pytest.approx(0.5, abs=0.01)


def p_values(seeds, draws):
    found = {name: [] for name in MEASURES}
    for seed in seeds:
        rng = np.random.default_rng([7, seed])
        x, y = rng.normal(size=(2, 40, 5))
        orders = shuffles(40, draws, seed=seed)
        for one in (*subspace_similarities(x, y, orders), *cosine_similarities(x, y, orders, k=5)):
            found[one.measure].append(one.p)
    return found


def check_uniform(found, draws, least):
    rng = np.random.default_rng(0)
    for name, p in found.items():
        # Discrete p-values are spread over the step below them. Ties of mutual nearest neighbours
        # only raise p.
        spread = np.array(p) - rng.random(len(p)) / (1 + draws)
        if name == "mutual_nearest":
            assert kstest(spread, "uniform", alternative="greater").pvalue > least
        else:
            assert kstest(spread, "uniform").pvalue > least


def test_p_of_unrelated_pairs_is_uniform():
    check_uniform(p_values(range(40), 19), 19, 1e-4)


@pytest.mark.deep
def test_p_of_200_unrelated_pairs_is_uniform():
    check_uniform(p_values(range(200), 200), 200, 1e-3)


# Degenerate input


def test_cca_is_refused_for_fewer_points_than_dimensions():
    x, y = np.random.default_rng(0).normal(size=(2, 20, 30))
    with pytest.raises(BadInput, match="too few for 19 and 19 dimensions"):
        cca(x, y)
    found = every(x, y, draws=3)
    assert found["cca"].value is None
    assert found["cca"].p is None
    assert "canonical correlations are 1" in found["cca"].note
    assert found["rsa"].note == "fewer than 30 pairs"


def test_different_numbers_of_rows_are_refused():
    x, y = noisy()
    with pytest.raises(BadInput, match="60 and 59 rows"):
        rsa(x, y[:-1])
    with pytest.raises(BadInput, match="need one space"):
        mutual_nearest(x, y)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_points(n):
    x, y = np.random.default_rng(0).normal(size=(2, n, 4))
    for one in every(x, y, draws=2).values():
        assert one.value is None or np.isfinite(one.value)
        assert one.note


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_equal_points_have_no_value(constant):
    x = np.random.default_rng(0).normal(size=(40, 4))
    found = every(np.full((40, 4), constant), x, draws=2)
    for name in ("svcca", "cca", "cka", "procrustes", "rsa"):
        assert found[name].value is None
        assert found[name].note == (
            "all values of one side are equal"
            if name == "rsa"
            else "all points of one side are equal"
        )


def test_constant_columns_change_nothing():
    x, y = noisy()
    more = np.hstack([x, np.full((len(x), 2), 3.0)])
    for measure in (svcca, cca, cka, procrustes):
        assert measure(more, y) == pytest.approx(measure(x, y), abs=1e-8)


def test_points_at_the_origin_are_nearest_to_no_point():
    x = np.random.default_rng(0).normal(size=(40, 4))
    x[:20] = 0
    assert mutual_nearest(x, x) == pytest.approx(0.5)


def test_ties_of_unrelated_points_do_not_raise_the_overlap():
    # Each point shares no column with another, so all neighbours are tied.
    overlaps = [knn_jaccard(np.eye(60), np.eye(60)[::-1], k=5, seed=s) for s in range(20)]
    assert np.mean(overlaps) == pytest.approx(5 / (2 * 59 - 5), abs=0.03)


# Faults of the published code of seed 002


def test_fault_svcca_of_one_component():
    # The published code compared a share of the variance with an absolute variance, and so retained one
    # component: the correlation of two first components, which a shared large component sets to 1.
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(500, 1)) * 30
    x, y = (np.hstack([shared, rng.normal(size=(500, 9)) * 3]) for _ in range(2))
    first = [PCA(1).fit_transform(one)[:, 0] for one in (x, y)]
    assert abs(np.corrcoef(*first)[0, 1]) > 0.99
    found = Subspaces.of(x, y)
    assert found.x.retained == PCA(0.99, svd_solver="full").fit(x).n_components_ > 5
    assert found.y.retained == PCA(0.99, svd_solver="full").fit(y).n_components_ > 5
    assert svcca(x, y) < 0.35
    assert components(np.array([400.0, 30.0, 20.0]), 0.99) == 3


def test_fault_baseline_from_the_unit_interval():
    # Points of [0, 1) have a common mean. Without centring, their first singular value is
    # sqrt(3)/2 of the norm, and a distance of spectra measures that offset. Shuffled pairings do not.
    rng = np.random.default_rng(0)
    x, uniform = rng.normal(size=(400, 20)), rng.random((400, 20))
    share = np.linalg.svd(uniform, compute_uv=False)[0] / np.linalg.norm(uniform)
    assert share == pytest.approx(np.sqrt(3) / 2, abs=0.02)
    for name, one in every(x, uniform, draws=99).items():
        assert one.p > 0.01, name
        assert one.value == pytest.approx(one.null, abs=4 * one.draws.std()), name


def test_no_pairs_have_no_similarity_and_no_warning():
    none = np.zeros((0, 4))
    for one in subspace_similarities(none, none, shuffles(0, 3, seed=0)):
        assert one.value is None
