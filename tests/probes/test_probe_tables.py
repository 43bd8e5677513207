"""Tables, scores, intervals, controls, verdicts and R² of probes, against brute force."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array
from scipy.stats import chisquare, hypergeom
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
)

from ingest.probe.bootstrap import Intervals, clusters, limits
from ingest.probe.control_task import control_positives, permuted, shuffled_positives
from ingest.probe.logistic_probe import judge
from ingest.probe.scores import (
    ActivationSums,
    auroc,
    confusion_of,
    logistic_loss,
    r2_ceiling,
    r2_table,
)
from ingest.probe.site_design import Counts
from ingest.probe.token_baselines import best, confusion, seen_share, table


def counted(occurrences, positives, negatives=None):
    """Return counts from dense arrays."""

    def sparse(dense):
        return csc_array(np.asarray(dense, dtype=np.float64))

    drawn = None if negatives is None else sparse(negatives)
    return Counts(np.asarray(occurrences, dtype=np.int64), sparse(positives), drawn)


def random_counts(rng, keys=12, features=9, *, drawn=False):
    """Counts with unseen keys, and features that are active nowhere and everywhere."""
    occurrences = rng.integers(0, 9, keys) * (rng.random(keys) < 0.8)
    rates = np.clip(rng.random((keys, features)) * 1.6 - 0.3, 0, 1)
    rates[:, 0], rates[:, 1] = 0, 1
    positives = rng.binomial(occurrences[:, None], rates)
    if not drawn:
        return counted(occurrences, positives)
    return counted(occurrences, positives, rng.binomial(occurrences[:, None] - positives, 0.4))


def dense(counts):
    """Return the active and inactive tokens that count, as integers of shape (keys, features)."""
    active = counts.positives.toarray().astype(int)
    if counts.negatives is None:
        return active, counts.occurrences[:, None] - active
    return active, counts.negatives.toarray().astype(int)


def predicted_by_hand(counts):
    """Return what the table predicts, by its definition, in fractions."""
    active, inactive = dense(counts)
    predicted = np.zeros(active.shape)
    for v, f in np.ndindex(*predicted.shape):
        p, n = int(active[v, f]), int(inactive[v, f])
        ones, others = int(active[:, f].sum()), int(inactive[:, f].sum())
        if p + n == 0:
            predicted[v, f] = 0.5
        elif p and ones and others:
            share, other = Fraction(p, ones), Fraction(n, others)
            predicted[v, f] = 1 if share > other else 0.5 if share == other else 0
        elif p:
            predicted[v, f] = 0.5  # active everywhere: no prediction is possible
    return predicted


def exact(predicted, active, inactive):
    """Balanced accuracy of one feature as a fraction; None if a class is empty."""
    ones, others = int(active.sum()), int(inactive.sum())
    if not ones or not others:
        return None
    hits = sum(Fraction(t) * int(p) for t, p in zip(predicted, active, strict=True))
    alarms = sum(Fraction(t) * int(n) for t, n in zip(predicted, inactive, strict=True))
    return (hits / ones + 1 - alarms / others) / 2


def as_dense(decision):
    keys, features = np.indices(decision.predicted.shape)
    return decision.at(keys.ravel(), features.ravel()).reshape(decision.predicted.shape)


# Scores


def tokens_of_rows(margins, active, inactive):
    """Return every row twice, once for each class, with its weight."""
    labels = np.repeat([1, 0], len(margins))
    return labels, np.tile(margins, 2), np.concatenate([active, inactive])


@pytest.fixture
def rows():
    rng = np.random.default_rng(5)
    margins = rng.normal(size=(80, 37)).astype(np.float32)
    margins[:, ::2] = np.round(margins[:, ::2])  # ties, and zeros
    margins[:, 3] = 0
    return margins, rng.integers(0, 4, margins.shape), rng.integers(0, 6, margins.shape)


def test_auroc_equals_sklearn(rows):
    margins, active, inactive = rows
    ours = auroc(*rows)
    for f in range(margins.shape[1]):
        labels, predicted, weight = tokens_of_rows(margins[:, f], active[:, f], inactive[:, f])
        assert ours[f] == pytest.approx(roc_auc_score(labels, predicted, sample_weight=weight))
    assert ours[3] == 0.5


def test_auroc_counts_pairs_exactly(rows):
    margins, active, inactive = (each[:12, 0].astype(float) for each in rows)
    won = sum(
        p * n * (1 if a > b else 0.5 if a == b else 0)
        for (a, p), (b, n) in itertools.product(
            zip(margins, active, strict=True), zip(margins, inactive, strict=True)
        )
    )
    ours = auroc(margins[:, None], active[:, None], inactive[:, None])
    assert ours == won / (active.sum() * inactive.sum())


def test_scores_of_empty_classes_and_broken_margins():
    margins = np.array([[1.0, 1, 1, np.nan], [-1, -1, -1, 1]])
    active = np.array([[0, 2, 1, 1], [0, 1, 0, 1]])
    inactive = np.array([[1, 0, 0, 1], [3, 0, 1, 1]])
    assert np.isnan(auroc(margins, active, inactive)).tolist() == [True, True, False, True]
    counts = confusion_of(margins, active, inactive)
    assert np.isnan(counts.balanced_accuracy).tolist() == [True, True, False, True]
    assert np.isnan(counts.balanced_precision).tolist() == [True, True, False, True]
    assert np.isnan(counts.recall).tolist() == [True, False, False, True]
    assert np.isnan(counts.accuracy).tolist() == [False, False, False, True]
    loss = logistic_loss(margins, active, inactive, pos_weight=1, neg_weight=np.ones(4))
    assert np.isnan(loss).tolist() == [False, False, False, True]
    nothing = np.zeros((0, 4))
    assert np.isnan(auroc(nothing, nothing, nothing)).all()
    assert np.isnan(confusion_of(nothing, nothing, nothing).accuracy).all()
    assert auroc(np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0))).shape == (0,)


def test_confusion_and_its_scores_equal_sklearn(rows):
    margins, active, inactive = rows
    margins = np.where(margins == 0, 0.25, margins)
    found = confusion_of(margins, active, inactive)
    for f in range(margins.shape[1]):
        labels, predicted, weight = tokens_of_rows(margins[:, f] > 0, active[:, f], inactive[:, f])
        equal = np.where(labels == 1, active[:, f].sum() ** -1.0, inactive[:, f].sum() ** -1.0)
        for score, theirs, weighted in (
            ("accuracy", accuracy_score, weight),
            ("precision", precision_score, weight),
            ("recall", recall_score, weight),
            ("balanced_accuracy", balanced_accuracy_score, weight),
            ("balanced_precision", precision_score, weight * equal),
        ):
            expected = theirs(labels, predicted, sample_weight=weighted)
            assert getattr(found, score)[f] == pytest.approx(expected), score


def test_a_margin_of_zero_counts_half():
    found = confusion_of(np.array([[0.0], [2], [-2]]), np.array([[3], [1], [1]]), np.ones((3, 1)))
    assert found.true_positives == 2.5
    assert found.false_negatives == 2.5
    assert found.false_positives == found.true_negatives == 1.5


def test_precision_is_nan_without_positive_predictions():
    found = confusion_of(np.full((4, 1), -1.0), np.eye(4)[:, :1], 1 - np.eye(4)[:, :1])
    assert np.isnan(found.precision).all()
    assert np.isnan(found.balanced_precision).all()
    assert found.balanced_accuracy == 0.5


def test_chunks_of_rows_give_the_same_sums(rows, monkeypatch):
    complete = confusion_of(*rows), logistic_loss(*rows, pos_weight=2, neg_weight=1)
    monkeypatch.setattr("ingest.probe.scores._CHUNK", 37 * 7)
    parts = confusion_of(*rows), logistic_loss(*rows, pos_weight=2, neg_weight=1)
    for name, value in vars(complete[0]).items():
        np.testing.assert_array_equal(getattr(parts[0], name), value)
    np.testing.assert_allclose(parts[1], complete[1], rtol=1e-14)


def test_logistic_loss_equals_sklearn(rows):
    margins, active, inactive = (each.astype(np.float64) for each in rows)
    pos_weight, neg_weight = 1 / active.sum(axis=0), 0.5 / inactive.sum(axis=0)
    ours = logistic_loss(margins, active, inactive, pos_weight=pos_weight, neg_weight=neg_weight)
    for f in range(margins.shape[1]):
        labels, predicted, weight = tokens_of_rows(margins[:, f], active[:, f], inactive[:, f])
        weight = weight * np.where(labels == 1, pos_weight[f], neg_weight[f])
        expected = log_loss(labels, 1 / (1 + np.exp(-predicted)), sample_weight=weight)
        assert ours[f] == pytest.approx(expected, rel=1e-10)


def test_logistic_loss_of_large_margins():
    margins = np.array([[1e4, -1e4, 50.0]])
    one, none = np.ones((1, 3)), np.zeros((1, 3))
    loss = logistic_loss(margins, one, none, pos_weight=1, neg_weight=1)
    np.testing.assert_allclose(loss, [0, 1e4, np.exp(-50)])


# Tables and ceilings


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_table_and_ceiling_equal_their_definitions(seed, drawn):
    rng = np.random.default_rng(seed)
    train, validation = (random_counts(rng, drawn=drawn) for _ in range(2))
    active, inactive = dense(validation)
    for decision, of in ((table(train), train), (best(validation), validation)):
        predicted = predicted_by_hand(of)
        np.testing.assert_array_equal(as_dense(decision), predicted)
        found = confusion(decision, validation)
        np.testing.assert_array_equal(found.true_positives, (predicted * active).sum(axis=0))
        np.testing.assert_array_equal(found.false_positives, (predicted * inactive).sum(axis=0))
        np.testing.assert_array_equal(found.false_negatives, ((1 - predicted) * active).sum(axis=0))
        np.testing.assert_array_equal(
            found.true_negatives, ((1 - predicted) * inactive).sum(axis=0)
        )
        for f, score in enumerate(found.balanced_accuracy):
            by_hand = exact(predicted[:, f], active[:, f], inactive[:, f])
            assert np.isnan(score) if by_hand is None else score == float(by_hand)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_function_of_the_key_exceeds_the_ceiling(seed, drawn):
    """All functions of 7 keys; in fractions, and in the floats that are stored."""
    rng = np.random.default_rng([seed, 1])
    validation = random_counts(rng, keys=7, features=5, drawn=drawn)
    active, inactive = dense(validation)
    ceiling = confusion(best(validation), validation).balanced_accuracy
    predicted = as_dense(best(validation))
    functions = np.array(list(itertools.product([0, 1], repeat=7)), dtype=float)
    for f in range(5):
        top = exact(predicted[:, f], active[:, f], inactive[:, f])
        if top is None:
            continue
        scores = [exact(each, active[:, f], inactive[:, f]) for each in functions]
        assert max(scores) == top
        copies = np.repeat(active[:, [f]], len(functions), axis=1)
        others = np.repeat(inactive[:, [f]], len(functions), axis=1)
        floats = confusion_of(functions.T - 0.5, copies, others).balanced_accuracy
        assert floats.max() == ceiling[f] == float(top)


def test_the_ceiling_is_a_sum_over_stored_entries():
    validation = random_counts(np.random.default_rng(3), keys=40)
    active, inactive = dense(validation)
    with np.errstate(invalid="ignore"):
        advantage = active / active.sum(axis=0) - inactive / inactive.sum(axis=0)
    expected = 0.5 * (1 + np.maximum(advantage, 0).sum(axis=0))
    found = confusion(best(validation), validation).balanced_accuracy
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_probes_with_fractional_margins_never_score_above_the_ceiling():
    rng = np.random.default_rng(11)
    for _ in range(50):
        validation = random_counts(rng, keys=30, features=20)
        active, inactive = dense(validation)
        margins = active / np.maximum(active + inactive, 1) - rng.random(20)
        probe = confusion_of(margins, active, inactive).balanced_accuracy
        ceiling = confusion(best(validation), validation).balanced_accuracy
        assert not np.any(probe > ceiling)


def test_equal_shares_are_found_by_integer_arithmetic():
    """Shares of 1/3 may differ as floats; a tiny difference may vanish as floats."""
    train = counted([10, 20], [[3], [6]])
    assert as_dense(table(train)).tolist() == [[0.5], [0.5]]
    many = 1_500_000_000
    # At key 0: (m / 2 + 1) / m of the active tokens, (m / 2) / (m - 1) of the inactive ones.
    occurrences = [many // 2 + 1 + many // 2, many // 2 - 1 + many // 2 - 1]
    near = counted(occurrences, [[many // 2 + 1], [many // 2 - 1]])
    assert as_dense(table(near)).tolist() == predicted_by_hand(near).tolist() == [[1], [0]]


def test_a_feature_active_nowhere_or_everywhere():
    train = counted([4, 0, 2], [[0, 4], [0, 0], [0, 2]])
    assert as_dense(table(train)).tolist() == [[0, 0.5], [0.5, 0.5], [0, 0.5]]
    assert np.isnan(confusion(table(train), train).balanced_accuracy).all()
    drawn = counted([4, 0, 2], [[0, 4], [0, 0], [0, 2]], [[1, 0], [0, 0], [0, 0]])
    assert as_dense(table(drawn)).tolist() == [[0, 0.5], [0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("drawn", [False, True])
def test_counts_are_not_changed(drawn):
    counts, same = (random_counts(np.random.default_rng(1), drawn=drawn) for _ in range(2))
    confusion(table(counts), counts)
    control_positives(counts, counts, permuted(counts.occurrences, draw=0, seed=0))
    shuffled(counts, seed=0)
    for now, before in ((counts.positives, same.positives), (counts.negatives, same.negatives)):
        for part in ("data", "indices", "indptr") if before is not None else ():
            np.testing.assert_array_equal(getattr(now, part), getattr(before, part))


def test_one_key_predicts_nothing():
    only = counted([10], [[3, 0]])
    assert as_dense(table(only)).tolist() == [[0.5, 0]]
    assert confusion(table(only), only).balanced_accuracy[0] == 0.5


def test_entries_may_be_stored_in_any_order_and_as_zeros():
    tidy = random_counts(np.random.default_rng(2), drawn=True)

    def untidy(matrix):
        rows = np.concatenate([np.arange(12)[::-1]] * 9)
        data = matrix.toarray()[::-1].T.ravel()
        return csc_array((data, rows, 12 * np.arange(10)), shape=(12, 9))

    other = Counts(tidy.occurrences, untidy(tidy.positives), untidy(tidy.negatives))
    np.testing.assert_array_equal(as_dense(table(other)), as_dense(table(tidy)))
    found, expected = (confusion(table(each), each) for each in (other, tidy))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert not other.positives.has_sorted_indices


def test_groups_of_tokens():
    rng = np.random.default_rng(4)
    for drawn in (False, True):
        decision = table(random_counts(rng, drawn=drawn))
        groups = rng.integers(0, 4, (5, 12))
        expected = groups @ as_dense(decision)
        np.testing.assert_array_equal(decision.among(csr_array(groups)), expected)


def test_seen_share():
    train, validation = counted([2, 0, 1], np.zeros((3, 1))), counted([1, 3, 0], np.zeros((3, 1)))
    assert seen_share(train, validation) == 0.25
    assert seen_share(validation, validation) == 1
    assert np.isnan(seen_share(train, counted([0, 0, 0], np.zeros((3, 1)))))


# Intervals


def slow_limits(tp, p, fp, n, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(p), np.full(len(p), 1 / len(p)), size=draws)
    result = []
    for f in range(p.shape[1]):
        scores = []
        for weights in drawn:
            rows = np.repeat(np.arange(len(p)), weights)
            ones, others = p[rows, f].sum(), n[rows, f].sum()
            if ones and others:
                recall, alarm = tp[rows, f].sum() / ones, fp[rows, f].sum() / others
                scores.append((recall + 1 - alarm) / 2)
        result.append(np.quantile(scores, [0.025, 0.975]))
    return np.transpose(result)


def random_clusters(rng, number=7, features=20):
    p, n = rng.integers(0, 3, (number, features)), rng.integers(0, 9, (number, features))
    p[:2], n[:2] = p[:2] + 1, n[:2] + 1  # of each class in two clusters at least
    p[2:, :4] = 0  # so that some draws have none
    tp, fp = rng.binomial(p, 0.8), rng.binomial(n, 0.2)
    return [each.astype(np.float64) for each in (tp, p, fp, n)]


def intervals(tp, p, fp, n, **options):
    return limits(true_positives=tp, positives=p, false_positives=fp, negatives=n, **options)


def test_limits_equal_a_loop():
    sums = random_clusters(np.random.default_rng(0))
    found = intervals(*sums, draws=150, seed=3)
    low, high = slow_limits(*sums, draws=150, seed=3)
    np.testing.assert_allclose(found.low, low, rtol=1e-12)
    np.testing.assert_allclose(found.high, high, rtol=1e-12)


def limits_of(low, high):
    """Return an interval that was not drawn."""
    return Intervals(low, high, np.zeros((0, len(low)), np.float32))


def test_interval_limits_are_quantiles_of_the_draws():
    sums = random_clusters(np.random.default_rng(8))
    found = intervals(*sums, draws=150, seed=3)
    assert found.draws.shape == (150, 20)
    for share, limit in ((0.025, found.low), (0.975, found.high)):
        np.testing.assert_allclose(np.nanquantile(found.draws, share, axis=0), limit, atol=1e-6)
    # A draw means the same clusters whichever features are scored together.
    some = intervals(*(x[:, 4:9] for x in sums), draws=150, seed=3)
    np.testing.assert_array_equal(some.draws, found.draws[:, 4:9])


def test_limits_share_their_draws():
    tp, p, fp, n = random_clusters(np.random.default_rng(1))
    all_of_them = intervals(tp, p, fp, n, draws=50, seed=0)
    one = intervals(*(each[:, [6]] for each in (tp, p, fp, n)), draws=50, seed=0)
    assert (one.low, one.high) == (all_of_them.low[6], all_of_them.high[6])
    better = intervals(p, p, fp, n, draws=50, seed=0)
    assert (better.low >= all_of_them.low).all()
    assert (better.high >= all_of_them.high).all()


def test_limits_of_perfect_scores_have_no_width():
    _, p, _, n = random_clusters(np.random.default_rng(2))
    found = intervals(p, p, 0 * n, n, draws=50, seed=0)
    assert (found.low == 1).all()
    assert (found.high == 1).all()


@pytest.mark.parametrize("draws", [0, 30])
def test_limits_without_draws_or_a_second_cluster_are_nan(draws):
    one = np.ones((1, 3))
    found = intervals(one, one, one, one, draws=draws, seed=0)
    assert np.isnan([found.low, found.high]).all()


def test_limits_where_a_class_is_in_one_document():
    p, n = np.array([[2.0, 2, 0], [0, 1, 0], [0, 0, 0]]), np.full((3, 3), 4.0)
    found = intervals(p, p, n / 4, n, draws=40, seed=0)
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [True, False, True]


def test_intervals_cover_the_truth():
    """Rates vary by document; 300 data sets of 60 documents, one per feature."""
    rng = np.random.default_rng(8)
    p, n = rng.integers(1, 8, (60, 300)), rng.integers(5, 30, (60, 300))
    tp = rng.binomial(p, rng.beta(8, 2, p.shape))
    fp = rng.binomial(n, rng.beta(1, 4, p.shape))
    found = intervals(*(each.astype(float) for each in (tp, p, fp, n)), draws=300, seed=0)
    truth = (0.8 + 1 - 0.2) / 2
    covered = np.mean((found.low <= truth) & (truth <= found.high))
    assert 0.88 <= covered <= 0.99


def test_documents_are_assigned_to_clusters_evenly():
    documents = np.repeat(7 * np.arange(100), 3)
    few = clusters(documents, seed=0)
    assert sorted(set(few)) == list(range(100))
    dealt = clusters(documents, at_most=8, seed=0)
    of_document = dealt.reshape(100, 3)
    assert (of_document == of_document[:, :1]).all()
    assert set(np.bincount(of_document[:, 0])) == {12, 13}
    assert not np.array_equal(dealt, clusters(documents, at_most=8, seed=1))
    np.testing.assert_array_equal(dealt, clusters(documents, at_most=8, seed=0))
    assert clusters(np.array([5, 5]), seed=0).tolist() == [0, 0]
    assert clusters(np.array([], dtype=np.int64), seed=0).tolist() == []


# Controls


def shuffled(train, *, seed):
    return shuffled_positives(train, features=np.arange(train.positives.shape[1]), seed=seed)


def test_keys_get_the_rate_of_keys_of_similar_count():
    occurrences = np.random.default_rng(0).geometric(0.05, 400) - 1
    found = permuted(occurrences, draw=0, seed=0)
    np.testing.assert_array_equal(np.sort(found), np.arange(400))
    size = np.array([int(each).bit_length() for each in occurrences])
    bracket_size = np.bincount(size)[size]  # keys in the same bracket of powers of two
    same = size[found] == size
    assert same[(bracket_size >= 8) & (size < size.max() - 1)].mean() > 0.9
    assert (np.abs(size[found] - size) <= 3).all()
    nowhere = np.flatnonzero(occurrences == 0)
    assert len(nowhere) > 1
    np.testing.assert_array_equal(found[nowhere], nowhere)
    assert (found != np.arange(400))[occurrences > 0].all()
    again, other = (permuted(occurrences, draw=d, seed=0) for d in (0, 1))
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, other)


@pytest.mark.parametrize(
    "occurrences", [[1000, 3, 2, 2, 1], [5, 5], [70, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
)
def test_a_key_alone_in_its_bracket_gets_the_rate_of_another(occurrences):
    for draw in range(20):
        found = permuted(np.array(occurrences), draw=draw, seed=0)
        assert sorted(found) == list(range(len(occurrences)))
        assert (found != np.arange(len(occurrences))).all()
    assert permuted(np.array([0, 9, 0]), draw=0, seed=0).tolist() == [0, 1, 2]
    assert permuted(np.zeros(0, dtype=np.int64), draw=0, seed=0).tolist() == []


def test_permutations_are_uniform():
    """Four keys of one bracket have six cyclic orders."""
    orders = [tuple(permuted(np.array([2, 3, 2, 3]), draw=d, seed=1)) for d in range(600)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 1e-3


def test_control_positives_equal_their_definition():
    rng = np.random.default_rng(6)
    train, validation = random_counts(rng), random_counts(rng)
    both = train.occurrences + validation.occurrences
    permutation = permuted(both, draw=2, seed=0)
    found = control_positives(train, validation, permutation)
    active = (train.positives + validation.positives).toarray()
    for side, counts in zip(found, (train, validation), strict=True):
        expected = np.zeros(active.shape)
        for v, f in np.ndindex(*expected.shape):
            bearer = permutation[v]
            if both[bearer]:
                expected[v, f] = counts.occurrences[v] * active[bearer, f] / both[bearer]
        np.testing.assert_allclose(side.toarray(), expected, rtol=1e-14)
        assert side.has_canonical_format
        assert side.data.all()


@pytest.mark.parametrize("drawn", [False, True])
def test_shuffled_positives_have_the_same_number(drawn):
    train = random_counts(np.random.default_rng(7), keys=60, drawn=drawn)
    found = shuffled(train, seed=0)
    np.testing.assert_array_equal(found.sum(axis=0), train.active)
    active, inactive = dense(train)
    assert (found.toarray() <= active + inactive).all()
    assert found.data.all()
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray(), shuffled(train, seed=0).toarray())
    assert (found.toarray() != shuffled(train, seed=1).toarray()).any()


def test_shuffled_positives_are_hypergeometric():
    """Key 0 has 4 of 10 tokens, and each feature has 5 positives, whatever its keys were."""
    train = counted([4, 0, 6], np.repeat([[4], [0], [1]], 4000, axis=1))
    at_key = shuffled(train, seed=2).toarray()[0].astype(int)
    expected = 4000 * hypergeom(10, 4, 5).pmf(np.arange(5))
    assert chisquare(np.bincount(at_key, minlength=5), expected).pvalue > 1e-3


def test_shuffled_positives_of_no_features_and_no_tokens():
    assert shuffled(counted([3, 1], np.zeros((2, 0))), seed=0).shape == (2, 0)
    empty = shuffled(counted([0, 0], np.zeros((2, 3))), seed=0)
    assert (empty.shape, empty.nnz) == ((2, 3), 0)


def test_a_table_of_shuffled_labels_scores_one_half():
    rng = np.random.default_rng(9)
    occurrences = rng.integers(50, 150, 30)
    validation = counted(occurrences, rng.binomial(occurrences[:, None], rng.random((30, 200))))
    train = counted(occurrences, rng.binomial(occurrences[:, None], rng.random((30, 200))))
    labels = Counts(train.occurrences, shuffled(train, seed=0))
    scores = confusion(table(labels), validation).balanced_accuracy
    assert abs(scores.mean() - 0.5) < 4 * scores.std() / np.sqrt(200)


# Verdicts


def judged(**changes):
    """Return the verdict on one feature; scores that are not passed have middle values."""
    values = {
        "probe": 0.7,
        "probe_low": 0.65,
        "table": 0.7,
        "table_low": 0.65,
        "ceiling": 0.9,
        "ceiling_high": 0.95,
        "position": 0.5,
        "bigram": 0.5,
        "at_embedding": False,
    } | changes

    def one(name):
        return np.array([values[name]], dtype=np.float64)

    found = judge(
        probe=one("probe"),
        probe_limits=limits_of(one("probe_low"), np.ones(1)),
        table=one("table"),
        table_limits=limits_of(one("table_low"), np.ones(1)),
        ceiling=one("ceiling"),
        ceiling_limits=limits_of(np.zeros(1), one("ceiling_high")),
        position=one("position"),
        bigram=one("bigram"),
        tau=0.85,
        delta=0.02,
        at_embedding=values["at_embedding"],
    )
    return found.verdict[0], found.how[0], found.context_by[0]


TOKEN = {"table": 0.95, "table_low": 0.85, "ceiling": 0.97}
CONTEXT = {"ceiling": 0.7, "ceiling_high": 0.8}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, ("undecided", None, None)),
        (TOKEN | {"probe": 0.94}, ("token", "linear", None)),
        (TOKEN | {"probe": 0.97}, ("token", "linear", None)),
        (TOKEN | {"probe": 0.9}, ("token", "lookup", None)),
        (TOKEN | {"table_low": 0.84}, ("undecided", None, None)),
        (TOKEN | {"probe": 1, "probe_low": 0.98}, ("token", "linear", None)),
        ({"probe": 0.95, "probe_low": 0.91}, ("beyond token", None, None)),
        ({"probe": 0.95, "probe_low": 0.9}, ("undecided", None, None)),
        ({"probe": 0.95, "probe_low": 0.91, "at_embedding": True}, ("undecided", None, None)),
        (CONTEXT | {"probe": 0.8, "probe_low": 0.75}, ("beyond token", None, None)),
        (CONTEXT | {"probe_low": 0.6}, ("context", None, None)),
        (CONTEXT | {"probe_low": 0.6, "ceiling_high": 0.85}, ("undecided", None, None)),
        (CONTEXT | {"probe_low": 0.75, "at_embedding": True}, ("context", None, None)),
        (CONTEXT | {"probe_low": 0.6, "position": 0.85}, ("context", None, "position")),
        (CONTEXT | {"probe_low": 0.6, "bigram": 0.9}, ("context", None, "bigram")),
        (
            CONTEXT | {"probe_low": 0.6, "bigram": 0.9, "position": 0.9},
            ("context", None, "position"),
        ),
        (
            {"probe_low": np.nan, "table_low": np.nan, "ceiling_high": np.nan, "position": 1},
            ("undecided", None, None),
        ),
        (CONTEXT | {"probe_low": np.nan, "position": np.nan}, ("context", None, None)),
        (TOKEN | {"probe": np.nan, "probe_low": np.nan}, ("token", None, None)),
    ],
)
def test_verdicts_follow_from_scores_and_limits(scores, expected):
    assert judged(**scores) == expected


def test_verdicts_of_many_features():
    low, high = np.array([0.9, 0.5, np.nan]), np.array([0.99, 0.6, np.nan])
    score = np.array([0.95, 0.55, 0.5])
    both = limits_of(low, high)
    found = judge(
        probe=score,
        probe_limits=both,
        table=score,
        table_limits=both,
        ceiling=score,
        ceiling_limits=both,
        position=score,
        bigram=score,
        tau=0.8,
        delta=0.1,
        at_embedding=True,
    )
    assert found.verdict.tolist() == ["token", "context", "undecided"]
    assert found.how.tolist() == ["linear", None, None]
    assert found.context_by.tolist() == [None, None, None]


# Regression


def random_tokens(rng, tokens=60, keys=10, features=6):
    """Return keys of tokens and activations: feature 0 is dead, 1 always active, 2 has one value."""
    key = rng.integers(0, keys, tokens)
    active = rng.random((tokens, features)) < 0.4
    values = active * (rng.random((tokens, features)) + 0.3 * key[:, None])
    values[:, 0], values[:, 1], values[:, 2] = 0, 1 + rng.random(tokens), 0.1 * active[:, 2]
    return key, values


def summed(key, values, keys=10):
    one_hot = np.eye(keys)[key]
    return ActivationSums(
        np.bincount(key, minlength=keys),
        csc_array(one_hot.T @ (values > 0)),
        csc_array(one_hot.T @ values),
        (values**2).sum(axis=0),
    )


def r2_by_hand(train, validation, active_only):
    """Return the R² of each feature by sklearn, from means of the tokens of each key."""
    result = []
    for f in range(train[1].shape[1]):
        (key, x), (other, y) = ((k, v[:, f]) for k, v in (train, validation))
        if active_only:
            key, x, other, y = key[x > 0], x[x > 0], other[y > 0], y[y > 0]
        if len(x) == 0 or len(set(y)) < 2:
            result.append(np.nan)
            continue
        predicted = [x[key == v].mean() if (key == v).any() else x.mean() for v in other]
        result.append(r2_score(y, predicted))
    return result


@pytest.mark.parametrize("active_only", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_r2_equals_sklearn(seed, active_only):
    rng = np.random.default_rng(seed)
    train, validation = random_tokens(rng, tokens=40), random_tokens(rng)
    train[0][train[0] == 3] = 4  # not seen
    found = r2_table(summed(*train), summed(*validation), active_only=active_only)
    expected = r2_by_hand(train, validation, active_only)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.isnan(found[0])
    assert np.isnan(found[2]) == active_only  # of one value
    ceiling = r2_ceiling(summed(*validation), active_only=active_only)
    expected = r2_by_hand(validation, validation, active_only)
    np.testing.assert_allclose(ceiling, expected, rtol=1e-9)
    assert not np.any(found > ceiling)


def test_r2_of_one_or_no_tokens_is_nan():
    rng = np.random.default_rng(1)
    train, one = (
        summed(*random_tokens(rng)),
        summed(np.array([2]), np.array([[0, 1, 2, 3, 4, 5.0]])),
    )
    nothing = summed(np.array([], dtype=np.int64), np.zeros((0, 6)))
    assert np.isnan(r2_table(train, one)).all()
    assert np.isnan(r2_ceiling(nothing)).all()
    for active_only in (False, True):
        assert np.isnan(r2_table(nothing, train, active_only=active_only)).all()
        assert np.isnan(r2_table(train, nothing, active_only=active_only)).all()


def test_r2_with_one_key_is_that_of_the_mean():
    rng = np.random.default_rng(2)
    _, values = random_tokens(rng)
    sums = summed(np.zeros(60, dtype=np.int64), values, keys=1)
    np.testing.assert_allclose(r2_ceiling(sums)[1:], 0, atol=1e-12)
