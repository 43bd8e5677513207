"""Probes of concepts: scikit-learn as reference, grouped splits, leaks, controls, description length."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.concepts.probing.control_task import control_task
from analysis.concepts.probing.description_length import PORTIONS, online_codelength
from analysis.concepts.probing.elastic_net import (
    fit_elastic_net,
    largest_penalty,
    nested_elastic_net,
)
from analysis.concepts.probing.nonlinear import mlp_margins, random_features
from analysis.concepts.probing.ridge import (
    PENALTIES,
    fit_ridge,
    held_out_accuracy,
    held_out_auc,
    held_out_loss,
    nested_ridge,
    rotated,
)
from analysis.concepts.probing.sparse import (
    TrainingStatistic,
    best_units,
    sparse_margins,
    unit_scores,
)
from analysis.concepts.probing.splits import (
    grouped_splits,
    permuted_groups,
    resampled_interval,
)

N = 80
LABELS = np.arange(N) % 2 == 0
GROUPS = np.arange(N)


def planted(*, units=30, strong=3, shift=0.8, seed=0, rows=N):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, units))
    x[:, :strong] += shift * np.where(np.arange(rows) % 2 == 0, 1, -1)[:, None]
    return x


def splits(repeats=2, groups=GROUPS, labels=LABELS, seed=0):
    return grouped_splits(labels.tolist(), groups, folds=5, repeats=repeats, seed=seed)


def columns(cut, labels=LABELS):
    return np.repeat(labels[None], len(cut), axis=0), cut.test


# ------------------------------------------------------------------ splits


def test_splits_cover_each_row_once_divide_no_group_and_are_balanced():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, N)
    cut = splits(3, groups)
    for repeat in range(3):
        tests = cut.test[cut.repeat == repeat]
        assert (tests.sum(axis=0) == 1).all()
        for test in tests:
            assert not set(groups[test]) & set(groups[~test])
    alone = splits(1)
    assert {int((test & LABELS).sum()) for test in alone.test} == {8}
    different = {tuple(map(tuple, cut.test[cut.repeat == r])) for r in range(3)}
    assert len(different) == 3
    np.testing.assert_array_equal(splits(3, groups).test, cut.test)
    assert len(grouped_splits("ab", np.array([0, 1]), folds=5, repeats=1, seed=0)) == 2


def test_permuted_labels_stay_equal_within_a_group():
    groups = np.repeat(np.arange(10), 8)
    labels = groups < 4
    drawn = permuted_groups(labels, groups, 50, seed=0)
    for one in drawn:
        assert all(len(set(one[groups == g])) == 1 for g in range(10))
        assert one.sum() == labels.sum()
    pairs = np.repeat(np.arange(40), 2)  # both classes in each group
    assert (permuted_groups(LABELS, pairs, 5, seed=0).sum(axis=1) == LABELS.sum()).all()


def test_the_interval_of_overlapping_splits_covers_the_mean():
    """Nadeau and Bengio's interval: 50 splits of one sample are not 50 samples."""
    naive = corrected = 0
    for seed in range(60):
        x = planted(strong=1, shift=0.5, units=1, seed=seed)
        labels, test = columns(splits(10))
        f = TrainingStatistic(x).signed_f(labels, ~test)
        margins, _ = sparse_margins(x, labels, ~test, units=best_units(f, 1))
        auc = held_out_auc(margins, labels, test)
        found = resampled_interval(auc, 0.25)
        truth = 0.76025  # P(N(1, 2) > 0) = Φ(1 / √2), for a shift of 0.5 each way
        corrected += found.low <= truth <= found.high
        half = 1.96 * auc.std(ddof=1) / np.sqrt(len(auc))
        naive += abs(auc.mean() - truth) <= half
    assert corrected >= 48  # 90% would be 54; fewer than 48 with p < 2%
    assert naive < 40


# ------------------------------------------------------------------ probes


@pytest.mark.parametrize("units", [6, 200])
def test_ridge_equals_scikit_learn(units):
    x = planted(units=units)
    labels, test = columns(splits(1))
    space = rotated(x)
    penalty = np.array([1e-3, 1e-2, 1e-1, 1e-2, 1e-3])
    found = fit_ridge(space, labels, ~test, penalty=penalty)
    assert found.converged.all()
    centred = x - x.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    for j, rows in enumerate(test):
        reference = LogisticRegression(
            C=1 / (2 * penalty[j] * (~rows).sum()), class_weight="balanced", tol=1e-9, max_iter=9999
        ).fit(centred[~rows] / scale, LABELS[~rows])
        expected = reference.decision_function(centred / scale)
        np.testing.assert_allclose(found.margins[j], expected, atol=0.02)
        coef = found.coef[j] @ space.back * scale
        np.testing.assert_allclose(coef, reference.coef_[0], atol=0.01)
        np.testing.assert_allclose(
            found.margins[j],
            centred @ (found.coef[j] @ space.back)
            + found.margins[j].mean()
            - (centred @ (found.coef[j] @ space.back)).mean(),
            atol=1e-6,
        )


def test_nested_ridge_chooses_the_penalty_without_the_test_rows():
    x = planted(units=200)
    labels, test = columns(splits(1))
    space = rotated(x)
    found = nested_ridge(space, labels, ~test, groups=GROUPS, seed=0)
    assert set(found.penalty) <= set(PENALTIES)
    changed = labels ^ test  # other labels of the test rows change nothing
    again = nested_ridge(space, changed, ~test, groups=GROUPS, seed=0)
    np.testing.assert_allclose(again.margins, found.margins, atol=1e-9)


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    margins = np.round(rng.normal(size=(4, N)), 1)
    labels = rng.random((4, N)) < 0.3
    test = rng.random((4, N)) < 0.5
    for j in range(4):
        own, z = labels[j, test[j]], margins[j, test[j]]
        assert held_out_auc(margins, labels, test)[j] == pytest.approx(roc_auc_score(own, z))
        accuracy = balanced_accuracy_score(own, z > 0)
        assert held_out_accuracy(margins, labels, test)[j] == pytest.approx(accuracy)
        weights = np.where(own, 1 / own.sum(), 1 / (~own).sum())
        loss = log_loss(own, 1 / (1 + np.exp(-z)), sample_weight=weights)
        assert held_out_loss(margins, labels, test)[j] == pytest.approx(loss)
    one = np.zeros((1, N), bool)
    assert np.isnan(held_out_auc(margins[:1], one, ~one)).all()


@pytest.mark.parametrize("units", [10, 150])
def test_elastic_net_equals_scikit_learn_and_reports_convergence(units):
    """The regression of seed 004 did not converge, and was not regularised."""
    x = planted(units=units)
    labels, test = columns(splits(1))
    penalty = np.array([0.3, 0.1, 0.05, 0.2, 0.1]) * largest_penalty(x, labels, ~test)
    found = fit_elastic_net(x, labels, ~test, penalty=penalty, tolerance=1e-7)
    assert found.converged.all()
    for j, rows in enumerate(test):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = LogisticRegression(
                C=1 / (penalty[j] * (~rows).sum()),
                l1_ratio=0.5,
                solver="saga",
                class_weight="balanced",
                tol=1e-7,
                max_iter=100_000,
            ).fit(x[~rows], LABELS[~rows])
        np.testing.assert_allclose(found.margins[j], reference.decision_function(x), atol=2e-3)
    short = fit_elastic_net(x, labels, ~test, penalty=penalty, max_iterations=2)
    assert not short.converged.any()
    top = fit_elastic_net(x, labels, ~test, penalty=1.001 * largest_penalty(x, labels, ~test))
    assert not top.coef.any()


def test_nested_elastic_net_finds_a_few_planted_units():
    x = planted(units=60, shift=1.0)
    labels, test = columns(splits(1))
    found = nested_elastic_net(x, labels, ~test, groups=GROUPS, seed=0)
    assert held_out_auc(found.margins, labels, test).mean() > 0.9
    assert (np.abs(found.coef).mean(axis=0).argsort()[-3:] < 3).all()


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_k_sparse_probes_equal_scikit_learn_on_the_same_folds(k):
    rng = np.random.default_rng(k)
    x = planted(units=120) * (rng.random((N, 120)) < 0.4)
    labels, test = columns(splits(2))
    statistic = TrainingStatistic(x).signed_f(labels, ~test)
    margins, converged = sparse_margins(x, labels, ~test, units=best_units(statistic, k))
    assert converged.all()
    found = held_out_auc(margins, labels, test)
    for j, rows in enumerate(test):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = make_pipeline(
                SelectKBest(f_classif, k=k),
                StandardScaler(),
                LogisticRegression(class_weight="balanced", tol=1e-9, max_iter=9999),
            ).fit(x[~rows], LABELS[~rows])
        expected = roc_auc_score(LABELS[rows], pipeline.decision_function(x[rows]))
        assert abs(found[j] - expected) < 0.01


def test_scores_of_single_units_equal_a_loop_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = planted(units=12) * (rng.random((N, 12)) < 0.5)
    labellings = np.array([LABELS, rng.permutation(LABELS)])
    cut = splits(1)
    found = unit_scores(x, labellings, cut)
    for i, labels in enumerate(labellings):
        for unit in range(12):
            areas = []
            for rows in cut.test:
                one = LogisticRegression().fit(x[~rows, unit : unit + 1], labels[~rows])
                z = one.decision_function(x[rows, unit : unit + 1])
                areas.append(roc_auc_score(labels[rows], z))
            assert found.auroc[i, unit] == pytest.approx(np.mean(areas))
    np.testing.assert_allclose(found.best_share.sum(axis=1), 1)


def test_arms_without_units_are_chance():
    none = np.zeros((N, 0))
    labels, test = columns(splits(1))
    found = nested_ridge(rotated(none), labels, ~test, groups=GROUPS, seed=0)
    assert (held_out_auc(found.margins, labels, test) == 0.5).all()
    assert unit_scores(none, LABELS[None], splits(1)).auroc.shape == (1, 0)
    same = rotated(np.ones((N, 3)))
    assert not same.rows.any()


# ------------------------------------------------------------------ leaks and controls


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_split_that_leaks_lemmas_is_better_by_the_amount_planted(share):
    """Two forms of a lemma have one vector and one label; labels are random per lemma.

    In random folds, a test word has its other form in training with probability .8. It is then
    predicted correctly, others at random: AUROC = 1 - (1 - .8 share)² / 2. Grouped: .5.
    """
    lemmas = 200
    rng = np.random.default_rng(1)
    groups, labels = np.repeat(np.arange(lemmas), 2), np.repeat(rng.random(lemmas) < 0.5, 2)
    x = rng.normal(size=(2 * lemmas, 4000)).reshape(lemmas, 2, -1)
    leaking = np.arange(lemmas) < share * lemmas
    x[leaking, 1] = x[leaking, 0]
    space = rotated(x.reshape(2 * lemmas, -1))
    means = []
    for own in (groups, np.arange(2 * lemmas)):
        cut = grouped_splits(labels.tolist(), own, folds=5, repeats=2, seed=0)
        every, test = columns(cut, labels)
        fitted = fit_ridge(space, every, ~test, penalty=np.full(len(cut), 0.1))
        means.append(held_out_auc(fitted.margins, every, test).mean())
    assert means[0] == pytest.approx(0.5, abs=0.08)
    assert means[1] == pytest.approx(1 - (1 - 0.8 * share) ** 2 / 2, abs=0.06)


def test_control_task_needs_repeated_words():
    """Seed 004 called accuracy minus chance selectivity: each of its words occurred once."""
    x = planted()
    assert control_task(rotated(x), LABELS, GROUPS, draws=2, folds=5, seed=0) is None
    rng = np.random.default_rng(0)
    words = np.repeat(np.arange(40), 5)
    labels = words % 2 == 0
    own = rng.normal(size=(40, 60))[words] * 2 + rng.normal(size=(200, 60)) * 0.1
    memorised = control_task(rotated(own), labels, words, draws=3, folds=5, seed=0)
    assert memorised is not None
    assert memorised.control > 0.95  # vectors identify the word, so any labels are learned
    assert abs(memorised.selectivity) < 0.05
    shared = np.where(labels, 1.0, -1.0)[:, None] * 3 + rng.normal(size=(200, 2))
    concept = control_task(rotated(shared), labels, words, draws=3, folds=5, seed=0)
    assert concept is not None
    assert concept.accuracy > 0.95
    assert concept.selectivity > 0.25


def test_non_linear_probes_find_what_a_linear_one_cannot():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    labels = x[:, 0] * x[:, 1] > 0
    groups = np.arange(200)
    cut = grouped_splits(labels.tolist(), groups, folds=5, repeats=1, seed=0)
    every, test = columns(cut, labels)
    space = rotated(x)
    linear = nested_ridge(space, every, ~test, groups=groups, seed=0).margins
    kernel = nested_ridge(
        random_features(space, seed=0), every, ~test, groups=groups, seed=0
    ).margins
    network = mlp_margins(space, every, ~test, seed=0)
    areas = [held_out_auc(m, every, test).mean() for m in (linear, kernel, network)]
    assert areas[0] < 0.65
    assert min(areas[1:]) > 0.9
    np.testing.assert_array_equal(network, mlp_margins(space, every, ~test, seed=0))
    changed = mlp_margins(space, every ^ test, ~test, seed=0)
    np.testing.assert_allclose(changed, network, atol=1e-6)  # test labels are not read


def frequency_bits(labels, *, orders, seed):
    """Bits of a code in which a label costs by the frequency of its class in earlier portions."""
    rng = np.random.default_rng([seed, 5])
    n, total = len(labels), 0.0
    ends = [int(np.ceil(p * n)) for p in PORTIONS]
    for _ in range(orders):
        position = rng.permutation(n)
        total += ends[0]
        for begin, end in pairwise(ends):
            share = labels[position < begin].mean()
            own = labels[(position >= begin) & (position < end)]
            one_class = share in (0.0, 1.0)
            total += len(own) if one_class else -np.log2(np.where(own, share, 1 - share)).sum()
    return total / orders + np.log2(len(PENALTIES))


def test_description_length_equals_a_loop():
    x = planted(units=5, shift=1.0)
    space = rotated(x)
    found = online_codelength(space, LABELS, GROUPS, orders=2, seed=4)
    rng = np.random.default_rng([4, 5])
    orders = [rng.permutation(N) for _ in range(2)]
    ends = [int(np.ceil(p * N)) for p in PORTIONS]
    base = frequency_bits(LABELS, orders=2, seed=4)
    totals = []
    for penalty in PENALTIES:
        bits = 0.0
        for position in orders:
            bits += ends[0]
            for begin, end in pairwise(ends):
                train, test = position < begin, (position >= begin) & (position < end)
                if len(set(LABELS[train])) < 2:
                    bits += test.sum()
                    continue
                c = 1 / (2 * penalty * train.sum())
                one = LogisticRegression(C=c, tol=1e-9, max_iter=9999)
                p = one.fit(space.rows[train], LABELS[train]).predict_proba(space.rows[test])
                bits -= np.log2(p[np.arange(test.sum()), LABELS[test].astype(int)]).sum()
        totals.append(bits / 2)
    assert found.bits == pytest.approx(min(totals) + np.log2(len(PENALTIES)), rel=1e-3)
    assert found.base == pytest.approx(base, rel=1e-3)
    assert found.compression == pytest.approx(base / found.bits, rel=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_vectors_of_zeros_compress_no_labels(share):
    labels = np.arange(200) < 200 * share
    found = online_codelength(rotated(np.zeros((200, 7))), labels, np.arange(200), orders=3, seed=0)
    assert found.compression == pytest.approx(1, abs=1e-9)
    assert found.base == pytest.approx(frequency_bits(labels, orders=3, seed=0), rel=1e-3)
