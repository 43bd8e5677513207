"""Probes of many labels at once against scikit-learn's, one label at a time."""

import re

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from atlas.errors import BadActivations, BadInput
from ingest.probe.settings import ProbeSettings
from ingest.probe.solver.design import Design, spectrum
from ingest.probe.solver.estimator import LogisticProbes, RidgeProbes
from ingest.probe.solver.losses import Losses, read_targets
from ingest.probe.solver.solve import Solution, bytes_needed, margins, solve

EXACT = {"dtype": "float64", "tol": 1e-9, "max_iter": 1000}


def sklearn_probe(x, y, *, penalty, weight=None):
    """Fit one label by Newton's method."""
    weight = np.ones(len(x)) if weight is None else weight
    model = LogisticRegression(
        C=1 / (2 * penalty * weight.sum()), solver="newton-cholesky", tol=1e-11, max_iter=500
    )
    return model.fit(x, y, sample_weight=weight)


def assert_same(probes, x, y, *, penalty, weight=None, atol=1e-6):
    margin = probes.decision_function(x)
    for label in range(y.shape[1]):
        theirs = sklearn_probe(x, y[:, label], penalty=penalty, weight=weight)
        np.testing.assert_allclose(probes.coef_[label], theirs.coef_[0], atol=atol)
        np.testing.assert_allclose(probes.intercept_[label], theirs.intercept_[0], atol=atol)
        np.testing.assert_allclose(margin[:, label], theirs.decision_function(x), atol=10 * atol)
    assert probes.converged_.all()


def random_rows(seed=0, *, rows=400, width=12, labels=7, mean=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, width)) * np.linspace(2, 0.1, width) + mean
    z = (x - mean) @ rng.standard_normal((width, labels)) + rng.standard_normal(labels)
    return rng, x, rng.random((rows, labels)) < expit(z)


# ---------------------------------------------------------------- the loss itself


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [0.1, 30.0, 90.0, 300.0, 1e4])
def test_loss_is_right_for_large_margins(far, dtype):
    """A step that overshoots must have a large loss, although sigmoid(z) underflows below -87."""
    rng, x, y = random_rows(2, rows=50, labels=3)
    weight = rng.random((50, 3))
    target = weight * y
    design = Design(x, dtype=dtype)
    targets = read_targets(
        design, *(torch.from_numpy(t).to(dtype) for t in (weight, target)), logistic=True
    )
    basis = spectrum(design)
    penalty = torch.full((3,), 1e-3, dtype=dtype)
    losses = Losses.of(design, targets, basis=basis, penalty=penalty)
    point = far * torch.from_numpy(rng.standard_normal((3, x.shape[1] + 1))).to(dtype)
    coef = (point[:, :-1] @ basis.vectors.T).double().numpy()
    centred = x - basis.mean.double().numpy()
    own = (weight.T @ centred) / weight.sum(0)[:, None]  # each label's weighted mean
    z = centred @ coef.T + (point[:, -1].double().numpy() - (coef * own).sum(1))
    wanted = (weight * np.logaddexp(0, z) - target * z).sum(0) / weight.sum(0)
    wanted += 1e-3 * (coef**2).sum(1)
    close = {"rtol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10}
    np.testing.assert_allclose(losses.at(point).loss.double().numpy(), wanted, **close)


# ---------------------------------------------------------------- equal to scikit-learn


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_coefficients_equal_scikit_learn(penalty, mean):
    _, x, y = random_rows(mean=mean)
    probes = LogisticProbes(penalty, class_weight=None, block=3, **EXACT).fit(x, y)
    assert_same(probes, x, y, penalty=penalty, atol=1e-4 if mean else 1e-5)


def test_weighted_rows():
    rng, x, y = random_rows(1)
    weight = rng.exponential(size=len(x)) * (rng.random(len(x)) < 0.8)
    probes = LogisticProbes(1e-3, class_weight=None, **EXACT).fit(x, y, sample_weight=weight)
    assert_same(probes, x, y, penalty=1e-3, weight=weight)
    positive = weight > 0
    without = clone(probes).fit(x[positive], y[positive], sample_weight=weight[positive])
    np.testing.assert_allclose(without.coef_, probes.coef_, atol=1e-6)


def test_five_positives_of_three_thousand_balanced():
    rng, x, _ = random_rows(2, rows=3000)
    y = np.zeros((3000, 4), bool)
    for label in range(4):
        y[rng.choice(3000, 5, replace=False), label] = True
    probes = LogisticProbes(1e-3, **EXACT).fit(x, y)
    for label in range(4):
        weight = np.where(y[:, label], 3000 / 10, 3000 / 5990)
        theirs = sklearn_probe(x, y[:, label], penalty=1e-3, weight=weight)
        np.testing.assert_allclose(probes.coef_[label], theirs.coef_[0], atol=1e-6)
        balanced = LogisticRegression(
            C=1 / (2e-3 * 3000),
            class_weight="balanced",
            solver="newton-cholesky",
            tol=1e-11,
        ).fit(x, y[:, label])
        np.testing.assert_allclose(probes.coef_[label], balanced.coef_[0], atol=1e-6)
        np.testing.assert_allclose(
            probes.predict_proba(x)[:, label], balanced.predict_proba(x)[:, 1], atol=1e-6
        )


def test_separable_labels():
    _, x, _ = random_rows(3)
    y = np.stack([x[:, 0] > 0.5, x[:, 1] + x[:, 2] > 0, x[:, 3] > 1], axis=1)
    for penalty, atol in ((1e-3, 1e-5), (1e-5, 1e-3)):
        probes = LogisticProbes(penalty, class_weight=None, **EXACT).fit(x, y)
        assert_same(probes, x, y, penalty=penalty, atol=atol)
        assert (probes.predict(x) == y).mean() > 0.95


def test_constant_and_duplicate_columns():
    _, x, y = random_rows(4)
    x = np.hstack([x, np.full((len(x), 2), 3.0), np.zeros((len(x), 1)), x[:, :3]])
    probes = LogisticProbes(1e-3, class_weight=None, **EXACT).fit(x, y)
    assert_same(probes, x, y, penalty=1e-3)
    assert np.abs(probes.coef_[:, 12:15]).max() < 1e-6
    np.testing.assert_allclose(probes.coef_[:, :3], probes.coef_[:, 15:], atol=1e-6)


def test_more_dimensions_than_rows():
    _, x, y = random_rows(5, rows=20, width=50, labels=3)
    assert_same(
        LogisticProbes(1e-2, class_weight=None, **EXACT).fit(x, y), x, y, penalty=1e-2, atol=1e-5
    )


def test_collapsed_rows_equal_raw_rows():
    rng, table, _ = random_rows(6, rows=60)
    ids = rng.zipf(1.3, size=3000) % 60
    y = rng.random((3000, 5)) < expit(table[ids] @ rng.standard_normal((12, 5)))
    totals = np.bincount(ids, minlength=60)
    positives = np.stack([np.bincount(ids[y[:, n]], minlength=60) for n in range(5)], axis=1)
    for class_weight in (None, "balanced"):
        probes = LogisticProbes(1e-3, class_weight=class_weight, block=2, **EXACT)
        raw = probes.fit(table[ids], y).coef_
        for counts in (positives, csr_array(positives)):
            again = clone(probes).fit_counts(table, counts, totals)
            np.testing.assert_allclose(again.coef_, raw, atol=1e-6)
    plain = clone(probes).set_params(class_weight=None).fit_counts(table, positives, totals)
    assert_same(plain, table[ids], y, penalty=1e-3)


def test_penalties_of_each_label():
    _, x, y = random_rows(7, labels=3)
    penalties = [1e-4, 1e-2, 1.0]
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    found = solve(
        Design(x, dtype=torch.float64),
        ones,
        torch.from_numpy(y.astype(float)),
        penalty=torch.tensor(penalties),
        tolerance=1e-9,
    )
    for label, penalty in enumerate(penalties):
        theirs = sklearn_probe(x, y[:, label], penalty=float(np.float32(penalty)))
        np.testing.assert_allclose(found.coef[label], theirs.coef_[0], atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_ridge_equals_scikit_learn(sparse):
    rng, x, _ = random_rows(8, mean=5.0)
    y = x @ rng.standard_normal((12, 4)) + 100 * rng.standard_normal((len(x), 4))
    y[:, 1] *= 1e-4
    weight = rng.exponential(size=len(x))
    probes = RidgeProbes(1e-2, block=3, **EXACT)
    probes.fit(x, csr_array(y) if sparse else y, sample_weight=weight)
    theirs = Ridge(alpha=2e-2 * weight.sum()).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(probes.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(probes.predict(x), theirs.predict(x), atol=1e-5)
    assert probes.converged_.all()
    assert (probes.n_iter_ <= 2).all()


def test_ridge_with_weights_of_each_label():
    rng, x, _ = random_rows(9)
    y = rng.standard_normal((len(x), 3))
    weight = rng.exponential(size=y.shape)
    found = solve(
        Design(x, dtype=torch.float64),
        torch.from_numpy(weight),
        torch.from_numpy(weight * y),
        penalty=1e-2,
        link="squared",
        tolerance=1e-9,
    )
    for label in range(3):
        w = weight[:, label]
        theirs = Ridge(alpha=2e-2 * w.sum()).fit(x, y[:, label], sample_weight=w)
        np.testing.assert_allclose(found.coef[label], theirs.coef_, atol=1e-7)
        np.testing.assert_allclose(found.intercept[label], theirs.intercept_, atol=1e-7)


# ---------------------------------------------------------------- precision and memory


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_single_precision_equals_double(mean):
    _, x, y = random_rows(10, rows=2000, mean=mean)
    exact = LogisticProbes(1e-3, **EXACT).fit(x, y)
    fast = LogisticProbes(1e-3, tol=1e-5).fit(x.astype(np.float32), y)
    assert fast.coef_.dtype == np.float32
    assert fast.converged_.all()
    np.testing.assert_allclose(fast.coef_, exact.coef_, atol=2e-3)
    np.testing.assert_allclose(fast.predict_proba(x), exact.predict_proba(x), atol=1e-3)
    ridge = RidgeProbes(1e-3).fit(x.astype(np.float32), y)
    np.testing.assert_allclose(
        ridge.predict(x), RidgeProbes(1e-3, **EXACT).fit(x, y).predict(x), atol=1e-4
    )


def test_single_precision_holds_where_means_are_far_above_spreads():
    rng, x, _ = random_rows(22, rows=1000)
    x /= x.std(axis=0)
    y = rng.random((len(x), 7)) < expit(x @ rng.standard_normal((12, 7)))
    x[:, :4] += [1000, -1000, 1000, 500]
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    design = Design(x, per_chunk=300)
    ones, target = torch.ones(len(x), 1), torch.from_numpy(y)
    found = solve(design, ones, target, penalty=1e-3, tolerance=1e-5)
    assert found.converged.all()
    by_hand = wide @ found.coef.numpy().T + found.intercept.numpy()
    np.testing.assert_allclose(margins(design, found), by_hand, atol=2e-5)
    for label in range(7):
        theirs = sklearn_probe(wide, y[:, label], penalty=1e-3).decision_function(wide)
        np.testing.assert_allclose(by_hand[:, label], theirs, atol=3e-3)
    probes = LogisticProbes(1e-3, class_weight=None, tol=1e-5).fit(x, y)
    by_hand = wide @ probes.coef_.T.astype(np.float64) + probes.intercept_
    np.testing.assert_allclose(probes.decision_function(x), by_hand, atol=2e-5)


@pytest.mark.parametrize("own_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ridge_where_targets_are_far_above_their_spread(own_weights, dtype):
    rng, x, _ = random_rows(23, rows=1000)
    x = x.astype(np.float32)
    level = np.array([0.0, 1e3, -1e5, 1e6])
    y = x @ rng.standard_normal((12, 4)) + rng.standard_normal((len(x), 4)) + level
    weight = rng.integers(1, 5, (len(x), 4 if own_weights else 1)).astype(np.float64)
    single = dtype == torch.float32
    found = solve(
        Design(x, dtype=dtype),
        torch.from_numpy(weight),
        torch.from_numpy(weight * y),
        penalty=1e-3,
        link="squared",
        tolerance=1e-4 if single else 1e-9,
    )
    assert found.converged.all()
    assert own_weights or (found.iterations <= 2).all()
    atol = [2e-3, 2e-3, 5e-3, 3e-2] if single else [1e-7] * 4  # limited by the digits of the target
    for label in range(4):
        w = weight[:, label if own_weights else 0]
        theirs = Ridge(alpha=2e-3 * w.sum()).fit(x.astype(np.float64), y[:, label], w)
        np.testing.assert_allclose(found.coef[label], theirs.coef_, atol=atol[label])
        np.testing.assert_allclose(found.intercept[label], theirs.intercept_, atol=atol[label])


def test_a_tolerance_out_of_reach_is_reported():
    _, x, y = random_rows(11)
    probes = LogisticProbes(1e-3, tol=1e-12, max_iter=50).fit(x, y)
    assert not probes.converged_.any()
    exact = LogisticProbes(1e-3, **EXACT).fit(x, y)
    np.testing.assert_allclose(probes.coef_, exact.coef_, atol=1e-3)


def test_a_label_stops_where_its_gradient_is_small():
    _, x, y = random_rows(12)
    probes = LogisticProbes(1e-3, class_weight=None, dtype="float64", tol=1e-3).fit(x, y)
    rest = expit(probes.decision_function(x)) - y
    gradient = rest.T @ (x - x.mean(axis=0)) / len(x) + 2e-3 * probes.coef_
    assert np.abs(gradient).max() <= 1e-3 + 1e-9
    assert np.abs(rest.mean(axis=0)).max() <= 1e-3 + 1e-9
    assert len(set(probes.n_iter_)) > 1
    one = clone(probes).set_params(max_iter=1).fit(x, y)
    assert not one.converged_.any()
    assert (one.n_iter_ == 1).all()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_file_in_chunks_equals_the_array_in_memory(tmp_path, scale):
    rng, x, y = random_rows(13)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    there = np.load(tmp_path / "x.npy", mmap_mode="r")
    weight = torch.from_numpy(rng.exponential(size=(len(x), 1)))
    target = weight * torch.from_numpy(y)
    in_memory = Design(np.array(there, dtype=np.float64) / scale, dtype=torch.float64)
    stored = Design(there, dtype=torch.float64, scale=scale)
    parts = Design(there, dtype=torch.float64, scale=scale, per_chunk=37, store_bytes=0)
    assert (in_memory.is_stored, stored.is_stored, parts.is_stored) == (True, True, False)
    found = [
        solve(d, weight, target, penalty=1e-3, tolerance=1e-9) for d in (in_memory, stored, parts)
    ]
    for other, design in zip(found[1:], (stored, parts), strict=True):
        torch.testing.assert_close(other.coef, found[0].coef, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            margins(design, other), margins(in_memory, found[0]), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("store_bytes", [0, None])
def test_chunks_and_rows_of_a_design(tmp_path, store_bytes):
    x = np.arange(40.0).reshape(20, 2)
    np.save(tmp_path / "x.npy", x)
    design = Design(
        np.load(tmp_path / "x.npy", mmap_mode="r"), per_chunk=7, store_bytes=store_bytes
    )
    assert [(s.start, s.stop) for s, _ in design.chunks()] == [(0, 7), (7, 14), (14, 20)]
    assert max(len(part) for _, part in design.chunks(3)) == 3
    mask = np.arange(20) % 3 == 0
    some = design.take(mask).take(np.array([5, 1, 1]))
    got = torch.cat([part for _, part in some.chunks(2)])
    np.testing.assert_array_equal(got, x[mask][[5, 1, 1]])
    assert (some.rows, some.width, design.rows) == (3, 2, 20)
    with pytest.raises(BadInput, match="No row"):
        design.take(np.zeros(20, bool))


def test_spectrum_equals_that_of_the_covariance():
    rng, x, _ = random_rows(14, mean=3.0)
    weight = rng.exponential(size=len(x))
    found = spectrum(Design(x, dtype=torch.float64, per_chunk=50), torch.from_numpy(weight))
    covariance = np.cov(x.T, aweights=weight, ddof=0)
    again = found.vectors * found.values @ found.vectors.T
    np.testing.assert_allclose(again, covariance, atol=1e-10)
    np.testing.assert_allclose(found.mean, np.average(x, axis=0, weights=weight), atol=1e-10)
    y = torch.from_numpy(rng.random((len(x), 3)))
    kwargs = {"penalty": 1e-3, "tolerance": 1e-9}
    design, ones = Design(x, dtype=torch.float64), torch.ones(len(x), 1)
    torch.testing.assert_close(
        solve(design, ones, y, basis=found, **kwargs).coef,
        solve(design, ones, y, **kwargs).coef,
        atol=1e-6,
        rtol=0,
    )


def test_bytes_grow_with_labels():
    assert bytes_needed(1000, 10, labels=200) > bytes_needed(1000, 10, labels=100) > 8 * 1000 * 100


# ---------------------------------------------------------------- degenerate


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("sparse", [False, True])
def test_labels_of_one_class(class_weight, sparse):
    _, x, y = random_rows(15, labels=4)
    y[:, 1], y[:, 3] = True, False
    probes = LogisticProbes(1e-3, class_weight=class_weight, **EXACT)
    probes.fit(x, csr_array(y) if sparse else y)
    assert probes.one_class_.tolist() == [False, True, False, True]
    assert not probes.coef_[[1, 3]].any()
    assert np.isfinite(probes.intercept_).all()
    assert (probes.predict(x)[:, [1, 3]] == [True, False]).all()
    assert probes.n_iter_[[1, 3]].tolist() == [0, 0]
    assert probes.converged_.all()
    alone = clone(probes).fit(x, y[:, [0, 2]])
    np.testing.assert_allclose(alone.coef_, probes.coef_[[0, 2]], atol=1e-6)


def test_a_label_without_weight():
    _, x, y = random_rows(16, labels=2)
    weight = torch.ones(len(x), 2, dtype=torch.float64)
    weight[:, 1] = 0
    target = weight * torch.from_numpy(y)
    design = Design(x, dtype=torch.float64)
    for weights, expected in ((weight, [True, False]), (weight * 0, [False, False])):
        for link in ("logistic", "squared"):
            found = solve(design, weights, target * (weights > 0), penalty=1e-3, link=link)
            assert found.converged.tolist() == expected
            assert not found.coef[1].any()
            assert not found.intercept[1].any()


def test_one_row():
    x = np.array([[1.0, 2.0]])
    probes = LogisticProbes(1e-3).fit(x, [[1, 0]])
    assert probes.predict(x).tolist() == [[True, False]]
    assert probes.one_class_.all()
    half = LogisticProbes(1e-3, class_weight=None).fit_counts(x, [[3, 1]], [4])
    np.testing.assert_allclose(half.predict_proba(x), [[0.75, 0.25]], atol=1e-4)
    assert RidgeProbes(1e-3).fit(x, [[7.0]]).predict(x).tolist() == [[7.0]]


def test_vectors_that_are_all_equal():
    x = np.full((30, 4), 2.0)
    y = (np.arange(30) < 10)[:, None]
    probes = LogisticProbes(1e-3, class_weight=None).fit(x, y)
    np.testing.assert_allclose(probes.predict_proba(x), 1 / 3, atol=1e-4)
    assert probes.converged_.all()


def test_targets_that_do_not_vary():
    _, x, _ = random_rows(17)
    y = np.zeros((len(x), 2))
    y[:, 1] = 1234.5
    probes = RidgeProbes(1e-3).fit(x, y)
    assert probes.converged_.all()
    assert not probes.coef_.any()
    np.testing.assert_allclose(probes.predict(x), y, rtol=1e-6)


def test_huge_vectors_and_small_penalties_stay_finite():
    _, x, y = random_rows(18)
    for factor in (1e-6, 1e6):
        probes = LogisticProbes(1e-8).fit(x * factor, y)
        assert np.isfinite(probes.coef_).all()
        assert np.isfinite(probes.predict_proba(x * factor)).all()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("store_bytes", [0, None])
def test_vectors_with_nan_or_inf_are_rejected(tmp_path, bad, store_bytes):
    _, x, y = random_rows(19)
    x[123, 4] = bad
    with pytest.raises(BadActivations, match="Row 123 of the vectors"):
        LogisticProbes().fit(x, y)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(BadActivations, match="Row 123"):
        Design(np.load(tmp_path / "x.npy", mmap_mode="r"), per_chunk=50, store_bytes=store_bytes)


def test_arrays_that_torch_cannot_share():
    x = random_rows()[1]
    for other in (x[::-1][::-1], x.T.copy().T, x.astype(">f8"), x.astype(np.longdouble)):
        (_, got), *_ = Design(other, dtype=torch.float64).chunks()
        np.testing.assert_array_equal(got, x)
    frozen = x.copy()
    frozen.flags.writeable = False
    assert Design(frozen).is_stored


def test_squares_too_large_for_single_precision_are_reported():
    with pytest.raises(BadActivations, match="root mean square"):
        LogisticProbes().fit(np.array([[1e30], [-1e30]]), [[1], [0]])


def test_a_number_too_large_for_single_precision_is_reported():
    with pytest.raises(BadActivations, match="float32"):
        Design(np.array([[1e300]]))


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda x, y: LogisticProbes().fit(x[0], y), "shape (12,)"),
        (lambda x, y: LogisticProbes().fit([["a"]], [[1]]), "not an array of numbers"),
        (lambda x, y: LogisticProbes().fit(x, y[:5]), "(400, labels)"),
        (lambda x, y: LogisticProbes().fit(x, y[:, 0]), "(rows, labels)"),
        (lambda x, y: LogisticProbes().fit(x, y * 2), "other than 0 and 1"),
        (lambda x, y: LogisticProbes().fit(x, y, sample_weight=-np.ones(400)), "sample_weight"),
        (lambda x, y: LogisticProbes().fit(x, y, sample_weight=np.zeros(400)), "0 everywhere"),
        (lambda x, y: LogisticProbes().fit_counts(x, y * 3, np.ones(400)), "positives"),
        (lambda x, y: LogisticProbes().fit_counts(x, csr_array(y * 3), np.ones(400)), "positives"),
        (lambda x, y: LogisticProbes(-1.0).fit(x, y), "penalty"),
        (lambda x, y: LogisticProbes(class_weight="none").fit(x, y), "class_weight"),
        (lambda x, y: LogisticProbes(dtype="int8").fit(x, y), "dtype"),
        (lambda x, y: LogisticProbes(device="abacus").fit(x, y), "device"),
        (lambda x, y: LogisticProbes(block=0).fit(x, y), "block"),
        (lambda x, y: LogisticProbes(tol=0.0).fit(x, y), "tol"),
        (lambda x, y: LogisticProbes().fit(x, y).predict(x[:, :5]), "5 dimensions"),
        (lambda x, y: RidgeProbes().fit(x, np.full((400, 1), np.nan)), "NaN"),
        (lambda x, y: Design(x, scale=0.0), "scale"),
    ],
)
def test_bad_input_gets_a_clear_message(fit, message):
    _, x, y = random_rows(20)
    with pytest.raises(BadInput, match=re.escape(message)):
        fit(x, y.astype(float))


@pytest.mark.parametrize(
    ("weight", "target"),
    [
        (np.ones((10, 2)), np.ones((10, 3))),
        (np.ones((9, 1)), np.ones((10, 3))),
        (-np.ones((10, 1)), np.ones((10, 3))),
        (np.full((10, 1), np.nan), np.ones((10, 3))),
        (np.ones((10, 1)), np.full((10, 3), 2.0)),
        (np.ones((10, 1)), np.full((10, 3), np.nan)),
    ],
)
def test_weights_and_targets_that_do_not_fit(weight, target):
    with pytest.raises(BadInput):
        solve(
            Design(np.ones((10, 2))),
            torch.from_numpy(weight),
            torch.from_numpy(target),
            penalty=1e-3,
        )


# ---------------------------------------------------------------- conventions


def test_scikit_learn_conventions():
    probes = LogisticProbes(penalty=0.5, block=7)
    assert probes.get_params()["block"] == 7
    assert clone(probes).get_params() == probes.get_params()
    assert RidgeProbes().set_params(penalty=2.0).penalty == 2.0
    _, x, y = random_rows(21)
    assert probes.fit(x, y) is probes
    assert probes.predict(x).dtype == bool
    assert probes.predict_proba(x).shape == y.shape == probes.decision_function(x).shape
    assert probes.coef_.shape == (7, 12)
    assert probes.n_iter_.dtype == np.int64


@pytest.mark.parametrize("width", [24, 96])
def test_default_settings_end_within_a_bound_of_the_optimum(width):
    """Spreads of directions differ a thousandfold, so a small gradient does not bound the distance."""
    rng = np.random.default_rng(width)
    x = rng.normal(size=(3000, width)) * np.logspace(0, -1.5, width) * np.sqrt(5)
    y = rng.random(3000) < 1 / (1 + np.exp(2 - x @ rng.normal(size=width) * 2))
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum()) * len(y)
    settings, penalty = ProbeSettings(), 1e-3
    design = Design(x.astype(np.float32))
    column = torch.tensor(weight, dtype=torch.float32)[:, None]
    target = column * torch.tensor(y)[:, None]
    found = solve(
        design,
        column,
        target,
        penalty=penalty,
        max_iterations=settings.iterations,
        tolerance=settings.gradient_tolerance(penalty),
    )
    wanted = LogisticRegression(
        C=1 / (2 * penalty * weight.sum()), tol=1e-12, max_iter=1000, solver="newton-cholesky"
    ).fit(x, y, sample_weight=weight)
    assert found.converged.all()
    distance = np.linalg.norm(found.coef[0].numpy() - wanted.coef_[0])
    assert distance <= 0.002 * np.sqrt(width + 1)
    loose = solve(design, column, target, penalty=penalty, tolerance=1e-4)
    assert np.linalg.norm(loose.coef[0].numpy() - wanted.coef_[0]) > 3 * distance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_vectors_get_equal_margins_despite_rounding_of_the_product(monkeypatch, dtype):
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(40, 9))
    distinct[3], distinct[5] = 0.0, -0.0
    which = rng.integers(0, 40, 600)
    design = Design(distinct[which], dtype=dtype, per_chunk=130)
    coef = torch.tensor(rng.normal(size=(4, 9)))
    nothing = torch.zeros(4)
    solution = Solution(coef, torch.zeros(4, dtype=torch.float64), nothing, nothing)
    exact = margins(design, solution).numpy()
    product = torch.addmm

    def noisy(*args, out):
        product(*args, out=out)
        out *= 1 + torch.finfo(dtype).eps * torch.tensor(
            rng.integers(-2, 3, out.shape), dtype=dtype
        )

    monkeypatch.setattr(torch, "addmm", noisy)
    found = margins(design, solution).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    same = np.where(np.isin(which, (3, 5)), 3, which)
    for group in np.unique(same):
        assert len(np.unique(found[same == group], axis=0)) == 1
    again, first = design.repeats()
    wanted = [(r, np.flatnonzero(same == g)[0]) for r, g in enumerate(same)]
    assert [(r, f) for r, f in wanted if r != f] == list(zip(again, first, strict=True))


def test_a_design_of_some_rows_finds_its_own_repeats():
    x = np.array([[1.0], [2.0], [1.0], [2.0], [2.0]])
    design = Design(x, dtype=torch.float64)
    assert [a.tolist() for a in design.repeats()] == [[2, 3, 4], [0, 1, 1]]
    assert [a.tolist() for a in design.take(np.array([1, 2, 4])).repeats()] == [[2], [0]]
    assert [a.tolist() for a in Design(np.ones((1, 3))).repeats()] == [[], []]
