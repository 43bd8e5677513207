"""Correlations of all pairs against NumPy on dense columns, at every size of memory."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_rows import correlated, random_dense, rows_of
from numpy.typing import NDArray
from random_codes import codes

from atlas.errors import Mismatch, OutOfSpace
from ingest.codes.store import Block
from ingest.match import kernels
from ingest.match.assign import one_to_one
from ingest.match.correlate import Correlator
from ingest.match.pairs import Pairs

Dense = NDArray[np.float64]


def brute(a: Dense, b: Dense, min_joint: int = 1) -> tuple[Dense, Dense]:
    """Return correlations (0 where no candidate) and joint counts, A's features x B's."""
    r = np.zeros((a.shape[1], b.shape[1]))
    joint = (a > 0).T.astype(np.int64) @ (b > 0).astype(np.int64)
    for i, j in itertools.product(range(a.shape[1]), range(b.shape[1])):
        x, y = a[:, i].astype(np.longdouble), b[:, j].astype(np.longdouble)
        if joint[i, j] >= min_joint and len(set(x)) > 1 and len(set(y)) > 1:
            x, y = x - x.mean(), y - y.mean()
            r[i, j] = max(0, x @ y / np.sqrt((x @ x) * (y @ y)))
    return r, joint


def ranked(r: Dense, best: int) -> list[list[int]]:
    """Return the best columns of each row; of equal ones, the first."""
    return [
        [int(j) for j in np.argsort(-row, kind="stable")[:best] if row[j] > 0]
        for row in np.round(r, 12)
    ]


def check(found: Pairs, r: Dense, joint: NDArray[np.int64], best: int, tol: float = 1e-11) -> None:
    """Check that pairs are the best of each side, with the numbers of the brute force."""
    ab = {(i, j): k for i, row in enumerate(ranked(r, best)) for k, j in enumerate(row)}
    ba = {(i, j): k for j, row in enumerate(ranked(r.T, best)) for k, i in enumerate(row)}
    pairs = list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert pairs == sorted(ab.keys() | ba.keys())
    assert found.rank_ab.tolist() == [ab.get(pair, -1) for pair in pairs]
    assert found.rank_ba.tolist() == [ba.get(pair, -1) for pair in pairs]
    assert found.mutual.tolist() == [ab.get(p) == 0 == ba.get(p) for p in pairs]
    np.testing.assert_allclose(found.pearson, r[found.a, found.b], atol=tol, rtol=0)
    np.testing.assert_array_equal(found.joint, joint[found.a, found.b])
    firsts_b = [j for (_, j), k in ab.items() if k == 0]
    firsts_a = [i for (i, _), k in ba.items() if k == 0]
    assert found.claims_on_b.tolist() == [firsts_b.count(j) for _, j in pairs]
    assert found.claims_on_a.tolist() == [firsts_a.count(i) for i, _ in pairs]


def least_memory(c: Correlator) -> int:
    """Return the least memory in which these can be correlated, by bisection."""
    low, high = 0, 1 << 30
    while high - low > 1:
        middle = (low + high) // 2
        try:
            assert Correlator(c.a, c.b, best=c.best, min_joint=1, memory=middle).passes
            high = middle
        except OutOfSpace:
            low = middle
    return high


@pytest.mark.parametrize(("d_a", "d_b", "best"), [(12, 12, 3), (7, 40, 1), (40, 5, 9)])
@pytest.mark.parametrize("min_joint", [1, 4])
def test_equals_numpy_at_every_memory(d_a: int, d_b: int, best: int, min_joint: int) -> None:
    rng = np.random.default_rng(d_a * d_b)
    a, b = random_dense(rng, 150, d_a, rate=0.1), random_dense(rng, 150, d_b, rate=0.1)
    b[:, 0] += a[:, 1]
    in_one_pass = correlated(a, b, best=best, min_joint=min_joint)
    assert in_one_pass.passes == 1
    found = in_one_pass.pairs()
    check(found, *brute(a, b, min_joint), best)
    order = rng.permutation(150)
    r, _ = brute(a, b[order], min_joint)
    best_a, best_b = in_one_pass.maxima(order)
    np.testing.assert_allclose(best_a, r.max(axis=1), atol=1e-12)
    np.testing.assert_allclose(best_b, r.max(axis=0), atol=1e-12)

    least = least_memory(in_one_pass)
    passes = set()
    for memory in (least, least + 200, least + 1000):
        pieces = Correlator(
            in_one_pass.a, in_one_pass.b, best=best, min_joint=min_joint, memory=memory
        )
        passes.add(pieces.passes)
        again = pieces.pairs()
        for name in Pairs.__dataclass_fields__:  # bit for bit
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
        np.testing.assert_array_equal(pieces.maxima(order)[1], best_b)
    assert max(passes) > 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_numpy_on_degenerate_codes(data: st.DataObject) -> None:
    (blocks_a, d_a), (blocks_b, d_b) = data.draw(codes()), data.draw(codes())
    a, b = dense_of(blocks_a, d_a), dense_of(blocks_b, d_b)
    units = min(len(a), len(b))
    # Spreads of thirty powers of ten in one column are beyond any 64-bit reference.
    a, b = np.clip(a[:units], 0, 100), np.clip(b[:units], 0, 100)
    best, min_joint = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    c = correlated(a, b, best=best, min_joint=min_joint)
    found, (r, joint) = c.pairs(), brute(a, b, min_joint)
    np.testing.assert_allclose(found.pearson, r[found.a, found.b], atol=1e-9, rtol=0)
    np.testing.assert_array_equal(found.joint, joint[found.a, found.b])
    for mine, theirs in zip(
        c.maxima(np.arange(units)), (r.max(axis=1), r.max(axis=0)), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


def dense_of(blocks: Sequence[Block], d_sae: int) -> Dense:
    dense = [np.zeros((0, d_sae))]
    for block in blocks:
        dense.append(np.zeros((len(block), d_sae)))
        dense[-1][block.rows, block.indices] = block.values
    return np.concatenate(dense)


def test_phi_is_null_for_features_that_are_always_active() -> None:
    rng = np.random.default_rng(3)
    a, b = random_dense(rng, 90, 6, rate=0.3), random_dense(rng, 90, 6, rate=0.3)
    a[:, 2] = 1 + rng.random(90)  # active everywhere, and varying: it has r but no phi
    found = correlated(a, b, best=6).pairs()
    phi = np.corrcoef(np.delete(a, 2, axis=1).T > 0, b.T > 0)[:5, 5:]
    phi = np.insert(phi, 2, np.nan, axis=0)
    np.testing.assert_allclose(found.phi, phi[found.a, found.b], atol=1e-12)
    assert np.isnan(found.phi[found.a == 2]).all()
    assert (found.a == 2).any()


def test_phi_of_three_million_tokens_does_not_overflow() -> None:
    units, c, joint = 3_000_000, 1_400_000, 1_100_000
    a = np.zeros((units, 1), dtype=np.float32)
    b = np.zeros((units, 1), dtype=np.float32)
    a[:c], b[c - joint : 2 * c - joint] = 1, 2
    found = correlated(a, b).pairs()
    exact = (units * joint - c * c) / ((units - c) * c)
    np.testing.assert_allclose(found.phi, [exact], rtol=1e-14)
    np.testing.assert_allclose(found.pearson, [exact], rtol=1e-11)


def test_constant_columns_have_no_correlation() -> None:
    a = np.zeros((50, 4), dtype=np.float32)
    a[:, 0] = 0.1  # the same on every unit; its mean is rounded
    a[::2, 1] = 3
    a[:, 2] = 0.1
    a[7, 2] = np.nextafter(np.float32(0.1), np.float32(1))
    found = correlated(a, a, best=4).pairs()
    found_pairs = list(zip(found.a, found.b, strict=True))
    assert found_pairs == [(1, 1), (2, 2)]
    np.testing.assert_allclose(found.pearson, 1, atol=1e-9)


@pytest.mark.parametrize("units", [0, 1])
def test_too_few_units_to_vary(units: int) -> None:
    c = correlated(np.ones((units, 3)), np.ones((units, 2)))
    assert len(c.pairs()) == 0
    assert [m.tolist() for m in c.maxima(np.arange(units))] == [[0] * 3, [0] * 2]


def test_no_active_token_or_no_feature_gives_no_pairs() -> None:
    assert len(correlated(np.zeros((20, 3)), np.ones((20, 2))).pairs()) == 0
    assert len(correlated(np.zeros((20, 0)), np.ones((20, 2))).pairs()) == 0
    assert len(correlated(np.ones((20, 2)), np.zeros((20, 0))).pairs()) == 0


def test_equal_columns_rank_by_index() -> None:
    rng = np.random.default_rng(5)
    one = random_dense(rng, 60, 1, rate=0.5)
    found = correlated(np.tile(one, 3), np.tile(one, 4), best=2).pairs()
    assert list(zip(found.a, found.b, strict=True)) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 0),
        (2, 1),
    ]
    assert found.rank_ab.tolist() == [0, 1, -1, -1, 0, 1, -1, -1, 0, 1]
    assert found.rank_ba.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, -1, -1]
    assert found.claims_on_a.tolist() == [4, 4, 4, 4, 0, 0, 0, 0, 0, 0]
    assert len(set(found.pearson)) == 1


@pytest.mark.parametrize("ratio", [1e1, 1e3])
@pytest.mark.parametrize("silent", [0, 3])
def test_correlations_are_precise_if_means_are_far_above_the_spread(
    ratio: float, silent: int
) -> None:
    rng = np.random.default_rng(8)
    common = rng.standard_normal((20_000, 1))
    a = (ratio + 0.6 * common + 0.8 * rng.standard_normal((20_000, 3))).astype(np.float32)
    b = (ratio + 0.1 * common + rng.standard_normal((20_000, 3))).astype(np.float32)
    b = np.hstack([b, random_dense(rng, 20_000, 3, rate=0.1)])
    a[:silent], b[5 : 5 + silent] = 0, 0
    c = correlated(a, b, best=6)
    r, _ = brute(a, b)
    found = c.pairs()
    np.testing.assert_allclose(found.pearson, r[found.a, found.b], atol=1e-9, rtol=0)
    every = np.divmod(np.arange(18), 6)
    np.testing.assert_allclose(c.pearson(*every), r.ravel(), atol=1e-9, rtol=0)


def test_selected_units_and_allowed_features_only() -> None:
    rng = np.random.default_rng(9)
    a, b = random_dense(rng, 120, 8, rate=0.3), random_dense(rng, 120, 9, rate=0.3)
    selected = np.flatnonzero(rng.random(120) < 0.6)
    allowed_a, allowed_b = rng.random(8) < 0.7, rng.random(9) < 0.7
    c = correlated(a, b, allowed_a=allowed_a, allowed_b=allowed_b).over(selected)
    r, joint = brute(a[selected], b[selected])
    r *= np.outer(allowed_a, allowed_b)
    check(c.pairs(), r, joint, 3)
    assert c.of_a.count.tolist() == (a[selected] > 0).sum(axis=0).tolist()
    order = rng.permutation(len(selected))
    shuffled, _ = brute(a[selected], b[selected][order])
    best = c.maxima(order)[0]
    np.testing.assert_allclose(best, (shuffled * np.outer(allowed_a, allowed_b)).max(axis=1))


def test_codes_in_a_memory_map(tmp_path: object) -> None:
    rng = np.random.default_rng(10)
    a = rows_of(random_dense(rng, 100, 10, rate=0.2))
    paths = [f"{tmp_path}/{name}.npy" for name in ("indptr", "indices", "values")]
    for path, array in zip(paths, (a.indptr, a.indices, a.values), strict=True):
        np.save(path, array)
    mapped = type(a)(*(np.load(path, mmap_mode="r") for path in paths), d_sae=10)
    mine = Correlator(mapped, mapped, best=1, min_joint=1, memory=1 << 28).pairs()
    theirs = Correlator(a, a, best=1, min_joint=1, memory=1 << 28).pairs()
    np.testing.assert_array_equal(mine.pearson, theirs.pearson)


def test_errors_report_what_to_do() -> None:
    a = rows_of(np.ones((10, 2)) * np.arange(1, 11)[:, None])
    with pytest.raises(
        OutOfSpace,
        match=r"needs at least .* MiB in addition to the codes.* Allow more with `memory`",
    ):
        Correlator(a, a, best=1, min_joint=1, memory=100).pairs()
    with pytest.raises(Mismatch, match="10 and 9 rows"):
        Correlator(a, rows_of(np.ones((9, 2))), best=1, min_joint=1, memory=1 << 28)


def test_lists_do_not_depend_on_the_order_in_which_pairs_come() -> None:
    rng = np.random.default_rng(11)
    pairs = [(0, r, j, j + 100) for j, r in enumerate(rng.choice([0.1, 0.2, 0.3], 12))]
    first = [(r, j) for _, r, j, _ in sorted(pairs, key=lambda p: (-p[1], p[2]))][:5]
    for _ in range(20):
        rng.shuffle(pairs := list(pairs))
        one, half = kernels.empty_lists(1, 5), kernels.empty_lists(1, 5)
        for n, pair in enumerate(pairs):
            kernels.insert(one if n % 2 else half, *pair)
        kernels.join(one, half)
        assert list(zip(one[0][0], one[1][0], strict=True)) == first
        assert (one[2] == one[1] + 100).all()


# ---------------------------------------------------------------- a permuted copy


def test_a_permuted_copy_gives_the_permutation() -> None:
    rng = np.random.default_rng(12)
    a = random_dense(rng, 3000, 60, rate=0.1)
    order = rng.permutation(60)
    found = correlated(a, a[:, order], min_joint=10).pairs()
    live = np.flatnonzero((a > 0).sum(axis=0) >= 10)
    same = found.mutual
    assert len(live) > 50
    assert found.a[same].tolist() == live.tolist()
    assert order[found.b[same]].tolist() == live.tolist()
    np.testing.assert_allclose(found.pearson[same], 1, atol=1e-12)
    chosen = one_to_one(found, threshold=0.2)
    np.testing.assert_array_equal(chosen, same)
