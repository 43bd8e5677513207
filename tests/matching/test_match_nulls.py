"""The three nulls: their draws, p by hand, and the error rate of p."""

import itertools
import math
import tracemalloc
from bisect import bisect_left

import numpy as np
import pytest
from match_rows import bursty, correlated, random_dense, rows_of
from numpy.typing import NDArray
from pooled_by_hand import claims_by_hand
from scipy.stats import chisquare

from atlas.errors import OutOfSpace
from ingest.match.aligned_codes import Units
from ingest.match.correlate import Correlator
from ingest.match.nulls import (
    Null,
    shifted,
    shifted_documents,
    shuffled,
    shuffled_occurrences,
    shuffled_within_documents,
    types_in_documents,
)
from ingest.match.pairs import Pairs
from ingest.match.pooling import End
from ingest.synthetic import Planted

Dense = NDArray[np.float32]


class Counting:
    """A stage that adds up its progress."""

    done = 0.0

    def advance(self, by: float = 1) -> None:
        self.done += by


def documents(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(3 * np.arange(len(lengths)), lengths)


def of_documents(document: NDArray[np.int64]) -> Units:
    return Units(document, np.zeros(len(document), dtype=np.int32))


def of_types(type: NDArray[np.int32]) -> Units:
    return Units(np.zeros(len(type), dtype=np.int64), type)


# ---------------------------------------------------------------- the draws


def test_a_shift_rotates_each_document() -> None:
    rng, lengths = np.random.default_rng(0), np.array([5, 2, 9, 3])
    ends = np.cumsum(lengths)
    for _ in range(50):
        turned = shifted(lengths, rng)
        for start, end in zip(ends - lengths, ends, strict=True):
            complete = list(range(start, end))
            offset = complete.index(turned[start])
            assert turned[start:end].tolist() == complete[offset:] + complete[:offset]
    assert shifted(np.zeros(0, dtype=np.int64), rng).tolist() == []


def test_offsets_are_uniform_and_independent() -> None:
    rng, lengths = np.random.default_rng(1), np.array([4, 3])
    first = [shifted(lengths, rng)[[0, 4]] for _ in range(6000)]
    counts = [sum((f == [i, j]).all() for f in first) for i in range(4) for j in range(4, 7)]
    assert sum(counts) == 6000
    assert chisquare(counts).pvalue > 1e-3


def test_a_shuffle_stays_within_types_and_is_uniform() -> None:
    rng = np.random.default_rng(2)
    type = rng.integers(0, 20, 300).astype(np.int32)
    for _ in range(20):
        order = shuffled(type, rng)
        assert sorted(order) == list(range(300))
        np.testing.assert_array_equal(type[order], type)
    small = np.array([1, 0, 1, 1, 0], dtype=np.int32)
    seen = [tuple(shuffled(small, rng)) for _ in range(6000)]
    possible = [
        (t[0], z[0], t[1], t[2], z[1])
        for t in itertools.permutations([0, 2, 3])
        for z in itertools.permutations([1, 4])
    ]
    assert chisquare([seen.count(p) for p in possible]).pvalue > 1e-3
    assert set(seen) == set(possible)


def test_types_in_documents_are_numbered_without_gaps() -> None:
    rng = np.random.default_rng(3)
    document = np.sort(rng.integers(0, 9, 200))
    type = rng.integers(0, 7, 200).astype(np.int32)
    group = types_in_documents(Units(document, type))
    seen: dict[tuple[int, int], int] = {}
    for d, t, g in zip(document.tolist(), type.tolist(), group.tolist(), strict=True):
        assert seen.setdefault((d, t), g) == g
    assert sorted(seen.values()) == list(range(len(seen)))
    assert group.dtype == np.int32
    none = np.zeros(0, dtype=np.int64)
    assert len(types_in_documents(Units(none, none.astype(np.int32)))) == 0


# ---------------------------------------------------------------- p, by hand


def by_hand(a: Dense, b: Dense, pairs: Pairs, orders: list[NDArray[np.int64]], observed) -> dict:
    """Return a null's numbers from correlations of dense columns."""
    d_a, d_b = a.shape[1], b.shape[1]
    best_a, best_b = np.zeros((len(orders), d_a)), np.zeros((len(orders), d_b))
    for d, order in enumerate(orders):
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.nan_to_num(np.corrcoef(a.T, b[order].T)[:d_a, d_a:])
        r[((a > 0).T.astype(int) @ (b[order] > 0)) < 2] = 0
        r = np.maximum(r, 0)
        best_a[d], best_b[d] = r.max(axis=1), r.max(axis=0)
    live_a, live_b = (a > 0).sum(axis=0) >= 2, (b > 0).sum(axis=0) >= 2
    ends = (
        End(best_a, pairs.a, (a > 0).sum(axis=0), live_a),
        End(best_b, pairs.b, (b > 0).sum(axis=0), live_b),
    )
    every = np.sort(np.concatenate([best_a[:, live_a].ravel(), best_b[:, live_b].ravel()]))
    return {
        **claims_by_hand(*ends, np.asarray(observed)),
        "expected": [
            max(best_a[:, i].mean(), best_b[:, j].mean())
            for i, j in zip(pairs.a, pairs.b, strict=True)
        ],
        "threshold": every[math.ceil(0.95 * (len(every) - 1))],
        "best_a": best_a[:, (a > 0).any(axis=0)].mean(),
        "best_b": best_b[:, (b > 0).any(axis=0)].mean(),
    }


def assert_equal(null: Null, expected: dict) -> None:
    for name, value in expected.items():
        found = getattr(null, name)
        if value is None or found is None:
            assert value is found, name
        else:
            np.testing.assert_allclose(found, value, atol=1e-12, err_msg=name)


def small(rng: np.random.Generator, units: int) -> tuple[Dense, Dense]:
    a, b = random_dense(rng, units, 12, rate=0.25), random_dense(rng, units, 9, rate=0.25)
    b[:, :3] += a[:, :3] * (rng.random((units, 3)) < 0.7)
    a[:, 11], b[:, 8] = 0, 0
    return a, b


def test_p_of_shifted_documents_by_hand() -> None:
    rng = np.random.default_rng(4)
    lengths = np.array([7, 12, 3, 20, 9])
    a, b = small(rng, lengths.sum())
    correlation = correlated(a, b, best=2, min_joint=2)
    pairs, stage = correlation.pairs(), Counting()
    pairs = pairs.take(pairs.pearson > 0.1)
    null = shifted_documents(
        correlation, of_documents(documents(lengths)), pairs, draws=9, seed=5, stage=stage
    )
    orders = [shifted(lengths, np.random.default_rng((5, 1, d))) for d in range(9)]
    assert_equal(null, by_hand(a, b, pairs, orders, pairs.pearson))
    assert (stage.done, null.floor, null.left_out) == (9, 0.1, 0)
    assert len(pairs) > 5
    assert null.p.min() == 0.1


def test_p_of_shuffled_occurrences_by_hand() -> None:
    rng = np.random.default_rng(6)
    a, b = small(rng, 80)
    type = rng.integers(0, 6, 80).astype(np.int32)
    correlation = correlated(a, b, best=1, min_joint=2)
    pairs = correlation.pairs()
    null = shuffled_occurrences(correlation, of_types(type), pairs, draws=7, seed=1)
    orders = [shuffled(type, np.random.default_rng((1, 2, d))) for d in range(7)]
    assert_equal(null, by_hand(a, b, pairs, orders, pairs.pearson))
    assert null.left_out == 0


def test_p_of_rows_shuffled_within_documents_by_hand() -> None:
    rng = np.random.default_rng(14)
    a, b = small(rng, 90)
    type = rng.integers(0, 6, 90).astype(np.int32)
    document = np.repeat(np.arange(6), 15)
    correlation = correlated(a, b, best=2, min_joint=2)
    pairs = correlation.pairs()
    null = shuffled_within_documents(correlation, Units(document, type), pairs, draws=8, seed=3)
    group = types_in_documents(Units(document, type))
    orders = [shuffled(group, np.random.default_rng((3, 3, d))) for d in range(8)]
    assert_equal(null, by_hand(a, b, pairs, orders, pairs.pearson))
    alone = [
        sum(d == e and t == u for e, u in zip(document, type, strict=True)) == 1
        for d, t in zip(document, type, strict=True)
    ]
    for i, j, share in zip(pairs.a, pairs.b, null.fixed, strict=True):
        on_a, on_b = a[:, i] > 0, b[:, j] > 0
        ends = [(on & alone).sum() / on.sum() for on in (on_a, on_b)]
        assert share == pytest.approx(max(ends), abs=1e-12)
    assert 0 < null.fixed.max() <= 1


@pytest.mark.parametrize("draws", [600, pytest.param(3000, marks=pytest.mark.deep)])
def test_draws_within_documents_have_the_distribution_of_all_arrangements(draws: int) -> None:
    """Compare the draws with all arrangements of B in three small documents."""
    document = np.repeat(np.arange(3), [3, 2, 3])
    type = np.array(
        [0, 0, 0, 0, 1, 1, 1, 0], dtype=np.int32
    )  # the fourth, fifth and last are alone
    a = np.array([[3, 0, 1, 2, 0, 4, 0, 1]], dtype=np.float32).T
    b = np.array([[2, 0, 0, 1, 3, 5, 0, 2]], dtype=np.float32).T
    first, third = [0, 1, 2], [5, 6]
    exact: dict[float, float] = {}
    for one in itertools.permutations(first):
        for two in itertools.permutations(third):
            order = [*one, 3, 4, *two, 7]
            r = max(0.0, float(np.corrcoef(a[:, 0], b[order, 0])[0, 1]))
            exact[round(r, 6)] = exact.get(round(r, 6), 0) + 1 / 12
    correlation = correlated(a, b)
    group = types_in_documents(Units(document, type))
    drawn = [
        round(float(correlation.maxima(shuffled(group, np.random.default_rng((0, 3, d))))[0][0]), 6)
        for d in range(draws)
    ]
    assert set(drawn) == set(exact)
    values = sorted(exact)
    counts = [drawn.count(v) for v in values]
    assert chisquare(counts, [draws * exact[v] for v in values]).pvalue > 1e-3
    # And p is the share of arrangements with at least the observed score, itself included.
    pairs = correlation.pairs()
    null = shuffled_within_documents(correlation, Units(document, type), pairs, draws=draws, seed=0)
    as_good = sum(share for r, share in exact.items() if r >= pairs.pearson[0] - 1e-6)
    deviation = math.sqrt(as_good * (1 - as_good) / draws)
    assert null.p[0] == pytest.approx(as_good, abs=4 * deviation + 1 / draws)


def test_a_pair_that_cannot_move_within_documents_claims_nothing() -> None:
    rng = np.random.default_rng(15)
    documents, length = 60, 40
    document = np.repeat(np.arange(documents), length)
    # Of each document, the first word is of a type of its own, and the others are of one type.
    alone = np.arange(documents * length) % length == 0
    type = np.where(alone, 0, 1).astype(np.int32)
    a, b = (random_dense(rng, documents * length, 8, rate=0.1) for _ in range(2))
    a[:, 0], b[:, 0] = 0, 0
    a[alone, 0] = b[alone, 0] = np.exp(rng.standard_normal(documents))
    a[:, 1] = b[:, 1]  # and an equal pair
    correlation = correlated(a, b, best=1)
    pairs = correlation.pairs()
    units = Units(document, type)
    null = shuffled_within_documents(correlation, units, pairs, draws=20, seed=0)
    still, free = ((pairs.a == f) & (pairs.b == f) for f in (0, 1))
    assert null.fixed[still] == 1
    assert null.fixed[free] < 0.1
    assert null.p[still] == 1
    assert null.q[still] > 0.05
    assert null.p[free] == null.floor
    # Without draws the share is known all the same.
    none = shuffled_within_documents(correlation, units, pairs, draws=0, seed=0)
    np.testing.assert_array_equal(none.fixed, null.fixed)
    assert np.isnan(none.q).all()


def test_documents_of_one_unit_are_excluded_from_both_and_counted() -> None:
    rng = np.random.default_rng(7)
    lengths = np.array([1, 8, 1, 1, 15, 10, 1])
    a, b = small(rng, lengths.sum())
    alone = np.repeat(lengths == 1, lengths)
    a[:, 10], b[:, 7] = 0, 0  # a pair that is seen in documents of one unit only
    a[alone, 10], b[alone, 7] = [1, 2, 3, 4], [1, 2, 3, 5]
    correlation = correlated(a, b, best=2, min_joint=2)
    pairs = correlation.pairs()
    null = shifted_documents(correlation, of_documents(documents(lengths)), pairs, draws=6, seed=2)
    longer = lengths[lengths > 1]
    orders = [shifted(longer, np.random.default_rng((2, 1, d))) for d in range(6)]
    observed = correlation.over(np.flatnonzero(~alone)).pearson(pairs.a, pairs.b)
    expected = by_hand(a[~alone], b[~alone], pairs, orders, observed)
    # The pair's features are not active on the compared units: no bin, and no test of their own.
    only = (pairs.a == 10) & (pairs.b == 7)
    assert only.sum() == 1
    assert null.p[only] == null.p_pooled[only] == null.q[only] == 1
    assert null.left_out == 4
    np.testing.assert_allclose(null.p, expected["p"])
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(a[~alone].T, b[~alone].T)[:12, 12:]
    here = observed > 0
    np.testing.assert_allclose(observed[here], r[pairs.a, pairs.b][here], atol=1e-12)


def test_no_draws_give_no_p() -> None:
    a, b = small(np.random.default_rng(8), 30)
    correlation = correlated(a, b)
    pairs = correlation.pairs()
    for null in (
        shifted_documents(
            correlation, of_documents(np.array([0, *[1] * 29])), pairs, draws=0, seed=0
        ),
        shuffled_occurrences(correlation, of_types(np.zeros(30, np.int32)), pairs, draws=0, seed=0),
    ):
        assert np.isnan([*null.p, *null.p_pooled, *null.q, null.best_a]).all()
        assert len(null.p) == len(pairs)
        assert np.isnan(null.threshold)
        assert null.floor == 1


@pytest.mark.parametrize("units", [0, 1, 5])
def test_nothing_to_match(units: int) -> None:
    correlation = correlated(np.zeros((units, 3)), np.ones((units, 2)))
    pairs, one = correlation.pairs(), np.zeros(units, dtype=np.int64)
    for null in (
        shifted_documents(correlation, of_documents(one), pairs, draws=3, seed=0),
        shuffled_occurrences(correlation, of_types(one.astype(np.int32)), pairs, draws=3, seed=0),
        shuffled_within_documents(
            correlation, of_types(one.astype(np.int32)), pairs, draws=3, seed=0
        ),
    ):
        assert len(null.p) == len(null.p_pooled) == len(null.q) == 0
        assert np.isnan(null.threshold)


def test_a_draw_does_not_depend_on_those_before_it() -> None:
    a, b = small(np.random.default_rng(9), 60)
    correlation = correlated(a, b, min_joint=2)
    pairs, document = correlation.pairs(), np.repeat(np.arange(4), 15)
    three, four, other = (
        shifted_documents(correlation, of_documents(document), pairs, draws=n, seed=seed).p
        * (n + 1)
        for n, seed in ((3, 1), (4, 1), (4, 2))
    )
    assert set(np.round(four - three)) <= {0, 1}
    assert not np.array_equal(four, other)


# ---------------------------------------------------------------- the error rate of p


def test_features_of_the_token_alone_are_no_more_than_a_shared_token() -> None:
    rng = np.random.default_rng(10)
    type = rng.integers(0, 30, 3000).astype(np.int32)
    table = random_dense(rng, 30, 10, rate=0.2)
    a = table[type]
    # B varies within a type, so that a shuffle changes the order in which products are added.
    b = a * np.exp(0.3 * rng.standard_normal(a.shape)).astype(np.float32)
    correlation = correlated(a, b, best=1)
    pairs = correlation.pairs()
    null = shuffled_occurrences(correlation, of_types(type), pairs, draws=19, seed=0)
    assert pairs.pearson.max() > 0.8
    assert (null.p == 1).all()
    assert (null.p_pooled > 0.05).all()


def test_rows_of_independent_tokens_shifted_by_one_unit_are_not_matched() -> None:
    rng = np.random.default_rng(11)
    a = random_dense(rng, 4000, 40, rate=0.05)
    document = np.repeat(np.arange(20), 200)
    correlation = correlated(a, np.roll(a, 1, axis=0), min_joint=5)
    pairs = correlation.pairs()
    null = shifted_documents(correlation, of_documents(document), pairs, draws=19, seed=0)
    assert len(pairs) > 40
    assert null.q.min() > 0.05
    same = correlated(a, a, min_joint=5)
    null = shifted_documents(same, of_documents(document), same.pairs(), draws=49, seed=0)
    found = same.pairs().mutual
    assert (null.p[found] == null.floor).all()
    assert (null.q[found] < 0.05).all()


@pytest.mark.parametrize("sets", [50, pytest.param(200, marks=pytest.mark.deep)])
def test_p_of_independent_bursty_features_is_not_below_its_level(sets: int) -> None:
    rng = np.random.default_rng(12)
    lengths = np.array([40, 25, 60, 30, 45, 50])
    shares, lifts = [], []
    for seed in range(sets):
        a, b = (bursty(rng, lengths, 5, run=6, rate=0.3) for _ in range(2))
        correlation = correlated(a, b, best=1, min_joint=5)
        pairs = correlation.pairs()
        null = shifted_documents(
            correlation, of_documents(documents(lengths)), pairs, draws=19, seed=seed
        )
        assert (null.p >= null.floor).all()
        best = pairs.rank_ab == 0
        # A feature without any candidate counts as a test with p = 1.
        shares.append([(null.p[best] <= alpha).sum() / 5 for alpha in (0.05, 0.1, 0.2)])
        lifts.append(
            (
                pairs.joint
                * len(a)
                / correlation.of_a.count[pairs.a]
                / correlation.of_b.count[pairs.b]
            ).max()
        )
    assert np.median(lifts) > 1.5  # the pairs seem related
    for alpha, share in zip((0.05, 0.1, 0.2), np.mean(shares, axis=0), strict=True):
        assert share <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / sets)


def test_shared_bursty_features_are_found() -> None:
    rng = np.random.default_rng(13)
    lengths = np.full(12, 50)
    shared = bursty(rng, lengths, 4, run=6, rate=0.2)
    a, b = (np.hstack([shared, bursty(rng, lengths, 6, run=6, rate=0.2)]) for _ in range(2))
    correlation = correlated(a, b, best=2)
    pairs = correlation.pairs()
    null = shifted_documents(correlation, of_documents(documents(lengths)), pairs, draws=49, seed=0)
    truly = (pairs.a == pairs.b) & (pairs.a < 4)
    assert truly.sum() == 4
    assert (null.p[truly] == 0.02).all()
    assert (null.q[truly] < 0.05).all()
    assert (null.q[~truly] > 0.05).all()


def test_rare_shared_features_are_found_at_the_default_draws() -> None:
    planted = Planted.make(
        0,
        documents=150,
        shared=60,
        private=60,
        context=0,
        token=0,
        position=0,
        bursty=0,
        rate=0.004,
    )
    correlation = Correlator(
        planted.rows("a"), planted.rows("b"), best=3, min_joint=3, memory=1 << 30
    )
    pairs = correlation.pairs()
    null = shifted_documents(correlation, planted.units, pairs, draws=20, seed=0)
    truth = {tuple(pair) for pair in planted.truth.tolist()}
    found = {(a, b) for a, b, q in zip(pairs.a, pairs.b, null.q, strict=True) if q <= 0.05}
    assert len(truth & found) >= 0.95 * len(truth)
    assert len(found - truth) <= 0.05 * len(found) + 3 * np.sqrt(0.05 * len(found))


@pytest.mark.parametrize("null", [shifted_documents, shuffled_occurrences])
def test_few_shared_features_of_any_frequency_are_found_at_the_default_draws(null) -> None:
    """Ten true pairs among 60 features; octaves that are not merged find none of them."""
    text = {"documents": 250, "document_length": 120, "vocabulary": 2000}
    others = {"private": 50, "context": 0, "token": 0, "position": 0, "bursty": 0}
    planted = Planted.make(1, **text, shared=10, **others, spread=1.5, rate=0.0325)
    correlation = Correlator(
        planted.rows("a"), planted.rows("b"), best=3, min_joint=3, memory=1 << 30
    )
    pairs = correlation.pairs()
    found = null(correlation, planted.units, pairs, draws=20, seed=1)
    truth = {tuple(pair) for pair in planted.truth.tolist()}
    claimed = {(a, b) for a, b, q in zip(pairs.a, pairs.b, found.q, strict=True) if q <= 0.05}
    assert len(truth & claimed) >= 9
    assert len(claimed - truth) <= 2
    assert found.draws_needed <= 20
    assert found.matches_needed <= 10


@pytest.mark.parametrize(
    "null", [shifted_documents, shuffled_occurrences, shuffled_within_documents]
)
def test_draws_stay_within_the_least_memory_that_matching_accepts(null) -> None:
    units, active = 100_000, np.zeros((100_000, 1))
    active[::5000] = 1
    rows, rng = rows_of(active), np.random.default_rng(0)
    text = Units(np.arange(units) // 50, rng.integers(0, 300, units).astype(np.int32))

    def work(memory: int) -> Correlator:
        return Correlator(rows, rows, best=1, min_joint=1, memory=memory)

    def fits(memory: int) -> bool:
        try:
            return work(memory).passes > 0
        except OutOfSpace:
            return False

    least = bisect_left(range(1 << 26), True, key=fits)
    pairs = work(least).pairs()
    null(work(least), text, pairs, draws=1, seed=0)  # compiles
    fresh = work(least)
    tracemalloc.start()
    try:
        null(fresh, text, pairs, draws=2, seed=0)
        assert tracemalloc.get_traced_memory()[1] <= least
    finally:
        tracemalloc.stop()
