"""One-to-one matches, compared with SciPy's dense and sparse solvers and with a brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_rows import pairs_with
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from ingest.match.assign import one_to_one
from ingest.match.pairs import Pairs


def checked(pairs: Pairs, threshold: float) -> tuple[NDArray[np.bool_], float]:
    """Return the chosen pairs, after a check that no feature is in two, and their total."""
    chosen = one_to_one(pairs, threshold=threshold)
    assert len(set(pairs.a[chosen])) == len(set(pairs.b[chosen])) == chosen.sum()
    assert (pairs.pearson[chosen] > threshold).all()
    return chosen, float((pairs.pearson[chosen] - threshold).sum())


@pytest.mark.parametrize(("d_a", "d_b"), [(30, 30), (12, 40), (40, 12), (1, 5)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_equals_the_dense_solver_when_all_pairs_are_candidates(
    d_a: int, d_b: int, threshold: float
) -> None:
    r = np.random.default_rng(d_a * d_b).random((d_a, d_b))
    a, b = np.divmod(np.arange(d_a * d_b), d_b)
    worth = np.maximum(r - threshold, 0)  # having no partner is worth 0
    best = worth[linear_sum_assignment(worth, maximize=True)].sum()
    _, total = checked(pairs_with(a, b, r.ravel()), threshold)
    np.testing.assert_allclose(total, best, rtol=1e-12, atol=1e-12)


def greatest(a: list[int], b: list[int], r: list[float], threshold: float) -> float:
    """Return the greatest total of any set of pairs that shares no feature."""
    best = 0.0
    for size in range(1, len(a) + 1):
        for some in itertools.combinations(range(len(a)), size):
            if len({a[k] for k in some}) == len({b[k] for k in some}) == size:
                best = max(best, sum(r[k] - threshold for k in some))
    return best


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_equals_brute_force_on_sparse_candidates_with_ties(data: st.DataObject) -> None:
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), unique=True, max_size=10)
    )
    value = st.sampled_from([0.1, 0.25, 0.5, 0.5000001, 0.75, 1.0])
    r = data.draw(st.lists(value, min_size=len(pairs), max_size=len(pairs)))
    threshold = data.draw(st.sampled_from([0.0, 0.25, 0.4, 1.0]))
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    arrays = np.array(a, dtype=np.int64), np.array(b, dtype=np.int64), np.array(r, dtype=float)
    _, total = checked(pairs_with(*arrays), threshold)
    np.testing.assert_allclose(total, greatest(a, b, r, threshold), atol=1e-9)


def by_scipy(pairs: Pairs, threshold: float) -> float:
    """Return the greatest total by SciPy's sparse solver; an extra column per row means no partner."""
    rows, row = np.unique(pairs.a, return_inverse=True)
    columns, column = np.unique(pairs.b, return_inverse=True)
    worth = pairs.pearson > threshold
    nobody = np.arange(len(rows))
    graph = csr_array(
        (
            np.concatenate([1 + pairs.pearson[worth] - threshold, np.ones(len(rows))]),
            (
                np.concatenate([row[worth], nobody]),
                np.concatenate([column[worth], len(columns) + nobody]),
            ),
        ),
        shape=(len(rows), len(columns) + len(rows)),
    )
    found = min_weight_full_bipartite_matching(graph, maximize=True)
    return float(graph[found].sum()) - len(rows)


@pytest.mark.parametrize("values", [None, (0.5,), (0.3, 0.6), tuple(np.linspace(0.1, 1, 10))])
@pytest.mark.parametrize(("d_a", "d_b"), [(1500, 1500), (1500, 300), (300, 1500)])
@pytest.mark.parametrize("candidates", [2, 3, 8])
def test_equals_scipy_on_sparse_candidates_at_size(
    d_a: int, d_b: int, candidates: int, values: tuple[float, ...] | None
) -> None:
    rng = np.random.default_rng(d_a + candidates)
    key = np.unique(rng.integers(0, d_a * d_b, candidates * d_a))
    r = rng.random(len(key)) if values is None else rng.choice(values, len(key))
    shuffled = rng.permutation(len(key))  # pairs may have any order
    pairs = pairs_with(key[shuffled] // d_b, key[shuffled] % d_b, r)
    _, total = checked(pairs, 0.2)
    np.testing.assert_allclose(total, by_scipy(pairs, 0.2), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("length", [2, 3, 100, 2001])
@pytest.mark.parametrize("backwards", [False, True])
def test_one_more_row_can_change_all_other_pairs(length: int, backwards: bool) -> None:
    """In a chain, each row except the last has its own column and the next, which is worth slightly less."""
    steps = np.arange(length)
    a = np.concatenate([steps, steps[:-1], [length]])
    b = np.concatenate([steps, steps[1:], [0]])
    r = np.concatenate([np.full(length, 0.9), np.full(length - 1, 0.9 - 1e-7), [0.9]])
    rows = length - a if backwards else a
    pairs = pairs_with(rows, b, r)
    chosen, total = checked(pairs, 0.1)
    assert chosen.sum() == length
    np.testing.assert_allclose(total, by_scipy(pairs, 0.1), rtol=1e-12)


def test_the_best_assignment_can_exclude_the_best_pair_of_a_feature() -> None:
    a, b = np.array([0, 0, 1]), np.array([0, 1, 0])
    chosen, _ = checked(pairs_with(a, b, np.array([0.9, 0.8, 0.85])), 0.1)
    assert chosen.tolist() == [False, True, True]
    # Where no partner is worth more, one good pair beats two middling ones.
    chosen, _ = checked(pairs_with(a, b, np.array([0.9, 0.5, 0.5])), 0.4)
    assert chosen.tolist() == [True, False, False]


def test_pairs_at_the_threshold_are_never_chosen() -> None:
    one = np.array([3])
    assert one_to_one(pairs_with(one, one, np.array([0.5])), threshold=0.5).tolist() == [False]
    assert one_to_one(pairs_with(one, one, np.array([0.5000001])), threshold=0.5).tolist() == [True]
    none = np.zeros(0, dtype=np.int64)
    assert one_to_one(pairs_with(none, none, np.zeros(0)), threshold=0.0).tolist() == []


def test_ties_give_the_same_choice_every_time() -> None:
    rng = np.random.default_rng(1)
    keys = rng.choice(20 * 20, 100, replace=False)
    pairs = pairs_with(keys // 20, keys % 20, rng.choice([0.4, 0.6], 100))
    first = one_to_one(pairs, threshold=0.2)
    for _ in range(5):
        np.testing.assert_array_equal(one_to_one(pairs, threshold=0.2), first)
