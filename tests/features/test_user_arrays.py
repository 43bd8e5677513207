"""Functions of ``analysis`` accept lists, arrays and data frames; other input is one message."""

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.similarity.measures import mutual_nearest
from analysis.statistics.arrays import finite_matrix, finite_vector
from atlas.errors import BadInput

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 4)), RNG.standard_normal((40, 3))
MEASURES = ["cca", "cka", "procrustes", "rsa", "svcca"]


@pytest.mark.parametrize("name", MEASURES)
def test_lists_and_data_frames_equal_arrays(name):
    measure = getattr(analysis, name)
    value = measure(X, Y)
    assert measure(X.tolist(), pd.DataFrame(Y)) == value


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, 0], r"x has the shape \(40,\)"),
        (np.where(X > 2, np.nan, X), "NaN or infinite"),
        ([["a"]], "without a number in each cell"),
        ([[1.0], [2.0, 3.0]], "without a number in each cell"),
        (X[:10], "10 and 40 rows"),
    ],
)
def test_values_that_are_no_matrix_are_one_message(name, x, message):
    with pytest.raises(BadInput, match=message):
        getattr(analysis, name)(x, Y)


def test_points_of_one_space():
    assert mutual_nearest(X.tolist(), X) == 1.0
    with pytest.raises(BadInput, match="one space"):
        mutual_nearest(X, Y)


def test_spectra_take_arrays_and_spectra():
    one, other = analysis.spectrum_of(X), analysis.spectrum_of(Y)
    distance = analysis.spectrum_distance(one, other)
    assert distance == analysis.spectrum_distance(
        one.singular_values.tolist(), other.singular_values
    )
    assert analysis.spectrum_distance(one, one) == 0
    for wrong in (X, [], ["a"]):
        with pytest.raises(BadInput):
            analysis.spectrum_distance(one, wrong)
    for wrong in (X[0], np.empty((0, 3)), [[np.inf]]):
        with pytest.raises(BadInput):
            analysis.spectrum_of(wrong)


def test_partitions_are_lists_or_arrays_of_equal_length():
    assert analysis.partition_agreement([0, 0, 1, 1], np.array([5, 5, 2, 2])) == 1.0
    assert analysis.partition_agreement([0, 0, 0], [0, 1, 2]) is None
    for wrong in ([0, 1], [[0, 1, 2]], [0.5, 1.0, 2.0], ["a", "b", "c"]):
        with pytest.raises(BadInput, match="expected a whole number for each node"):
            analysis.partition_agreement([0, 1, 2], wrong)


@pytest.mark.parametrize("values", [["a"], [[1.0, 2.0]], [], [1.0, 1.0], 3])
def test_the_dip_test_needs_different_numbers(values):
    with pytest.raises(BadInput):
        analysis.dip_test(values)


def test_checked_arrays_are_float64():
    assert finite_matrix(np.ones((2, 2), dtype=np.float32), "x").dtype == np.float64
    assert finite_vector(range(3), "x").tolist() == [0.0, 1.0, 2.0]
