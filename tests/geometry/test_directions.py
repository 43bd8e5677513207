"""Rows of unit length and nearest rows by cosine: brute force, scikit-learn, ties, degenerate rows."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from analysis.statistics.directions import (
    cosine_blocks,
    directed_rows,
    nearest,
    row_cosines,
    unit_rows,
)

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])

#: No direction, a common row, NaN, Inf, and rows whose squares vanish or overflow.
RAW = np.array([[0.0, 0.0], [3.0, 4.0], [np.nan, 1.0], [np.inf, 1.0], [1e-200, 0.0], [1e200, 0]])


def rows(n, width=12, *, seed=0, dtype=np.float32):
    return unit_rows(np.random.default_rng(seed).normal(size=(n, width)), dtype=dtype)


def sparse_rows(n=60, tokens=200, *, above=0.9, dtype=np.float32):
    dense = np.random.default_rng(0).random((n, tokens))
    return unit_rows(sparse.csr_array(np.where(dense > above, dense, 0.0)), dtype=dtype)


def by_brute_force(a, b, k, *, within):
    """The k nearest by sorting all pairs in double precision; ties to the lower index."""
    cosine = np.round(a.astype(np.float64) @ b.astype(np.float64).T, 12)
    found = []
    for i, row in enumerate(cosine):
        order = [
            j for j in sorted(range(len(b)), key=lambda j: (-row[j], j)) if not within or j != i
        ]
        found.append(order[:k])
    return np.array(found).reshape(len(a), -1)


@BOTH
@pytest.mark.parametrize(("n", "width", "k"), [(50, 12, 7), (7, 3, 10), (2, 2, 1), (200, 1, 4)])
def test_neighbours_equal_brute_force(n, width, k, dtype):
    a, b = rows(n, width, dtype=dtype), rows(n + 3, width, seed=1, dtype=dtype)
    np.testing.assert_array_equal(nearest(a, k=k).index, by_brute_force(a, a, k, within=True))
    np.testing.assert_array_equal(nearest(a, b, k=k).index, by_brute_force(a, b, k, within=False))


def test_neighbours_equal_scikit_learn():
    a, b = rows(300), rows(400, seed=1)
    found = nearest(a, b, k=9)
    distance, index = (
        NearestNeighbors(metric="cosine", algorithm="brute")
        .fit(b.astype(np.float64))
        .kneighbors(a.astype(np.float64), 9)
    )
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.cosine, 1 - distance, atol=1e-6)  # of rows rounded to float32


def test_duplicates_and_ties_go_to_the_lower_index():
    a = rows(20)[np.random.default_rng(0).integers(20, size=90)]
    for k in (1, 5, 30):
        np.testing.assert_array_equal(nearest(a, k=k).index, by_brute_force(a, a, k, within=True))
    equal = np.ones((6, 3), dtype=np.float32) / np.sqrt(3, dtype=np.float32)
    assert nearest(equal, k=2).index.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]


def test_nearly_equal_cosines_are_ranked_in_double_precision():
    # Differences of 1e-9 between cosines disappear in single precision.
    angle = 0.5 + 1e-3 * np.arange(40)[::-1]
    a = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(
        nearest(query, a, k=5).index, by_brute_force(query, a, 5, within=False)
    )


@BOTH
@pytest.mark.parametrize("above", [0.9, 0.99, 0.998])
def test_sparse_neighbours_equal_dense_ones(above, dtype):
    """With few entries, most rows have fewer neighbours than k, and cosines of 0 are tied."""
    a = sparse_rows(above=above, dtype=dtype)
    dense = a.toarray()
    np.testing.assert_array_equal(
        nearest(a, k=6).index, by_brute_force(dense, dense, 6, within=True)
    )
    some = a[:20]
    np.testing.assert_array_equal(
        nearest(some, a, k=6).index, by_brute_force(some.toarray(), dense, 6, within=False)
    )


def test_sparse_rows_with_negative_entries_equal_dense_ones():
    signed = unit_rows(sparse.random_array((40, 30), density=0.2, rng=0) * -1.0)
    signed.data[::2] *= -1
    dense = signed.toarray()
    np.testing.assert_array_equal(
        nearest(signed, k=5).index, by_brute_force(dense, dense, 5, within=True)
    )


def test_blocks_do_not_change_the_cosines():
    a, b = rows(30), rows(20, seed=1)
    blocks = list(cosine_blocks(a, b, cells=50))
    assert len(blocks) == 15
    np.testing.assert_allclose(np.concatenate([x for _, x in blocks]), a @ b.T, atol=1e-6)


@BOTH
def test_unit_rows_equal_division_by_the_norm(dtype):
    raw = np.random.default_rng(0).normal(size=(50, 7)).astype(dtype)
    expected = raw / np.linalg.norm(raw.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(raw, dtype=dtype), expected, rtol=4 * np.finfo(dtype).eps)
    found = unit_rows(sparse.csr_array(raw), dtype=dtype)
    np.testing.assert_allclose(found.toarray(), expected, rtol=4 * np.finfo(dtype).eps)
    assert found.dtype == unit_rows(raw, dtype=dtype).dtype == dtype


def test_rows_without_a_direction_are_zero_or_excluded():
    unit, which = directed_rows(RAW)
    assert which.tolist() == [1, 4, 5]
    np.testing.assert_allclose(unit, [[0.6, 0.8], [1, 0], [1, 0]])
    every = unit_rows(RAW)
    np.testing.assert_array_equal(every[which], unit)
    assert not every[[0, 2, 3]].any()
    assert directed_rows(np.zeros((3, 2)))[0].shape == (0, 2)
    assert unit_rows(np.empty((0, 4))).shape == (0, 4)


def test_sparse_rows_without_a_direction_are_zero_or_excluded():
    raw = sparse.csr_array(RAW[:4])
    assert directed_rows(raw)[1].tolist() == [1]
    found = unit_rows(raw)
    assert found.nnz == 2
    np.testing.assert_allclose(found.toarray()[1], [0.6, 0.8])


@BOTH
def test_cosines_of_pairs_equal_numpy(dtype):
    a, b = rows(9, dtype=dtype), rows(5, seed=1, dtype=dtype)
    pairs = np.array([0, 8, 3]), np.array([4, 0, 4])
    expected = [np.dot(a[i].astype(np.float64), b[j]) for i, j in zip(*pairs, strict=True)]
    np.testing.assert_allclose(row_cosines(a, b, pairs), expected, atol=1e-12)
    found = row_cosines(sparse.csr_array(a), sparse.csr_array(b), pairs)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("entries", [1, 30, 10**6])
def test_cosines_of_pairs_in_pieces_are_those_of_all(monkeypatch, entries):
    """Memory is bounded by the entries of the rows of a piece, of which some have many."""
    monkeypatch.setattr("analysis.statistics.directions._ENTRIES", entries)
    dense = np.random.default_rng(0).random((20, 40))
    dense[1:] *= dense[1:] > 0.8
    dense[4] = 0
    pairs = tuple(np.random.default_rng(1).integers(0, 20, (2, 100)))
    expected = [dense[i] @ dense[j] for i, j in zip(*pairs, strict=True)]
    for form in (np.asarray, sparse.csr_array):
        a = form(dense)
        np.testing.assert_allclose(row_cosines(a, a, pairs), expected, atol=1e-12)
    none = (np.zeros(0, dtype=np.int64),) * 2
    assert len(row_cosines(sparse.csr_array(dense), sparse.csr_array(dense), none)) == 0


@pytest.mark.parametrize("n", [0, 1])
def test_no_candidates(n):
    assert nearest(rows(5)[:n], k=3).index.shape == (n, 0)
    assert nearest(rows(5), rows(5)[:n], k=3).index.shape == (5, n)
