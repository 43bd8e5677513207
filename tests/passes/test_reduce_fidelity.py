"""Fidelity compared with exact fractions and scikit-learn's R², also on degenerate activations."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_codes import as_dict, assert_same, subject
from sklearn.metrics import r2_score

from atlas.errors import BadActivations
from atlas.schema import arrow_schema
from ingest.reduce.arrays import Arrays
from ingest.reduce.fidelity import Fidelity
from ingest.reduce.protocol import Sizes, Table

VALUES = [0.0, 1.0, -1.0, 0.1, 1e-30, 1e30, 100.0, 100.00001]


def run(x: NDArray[np.float32], y: NDArray[np.float32], cuts: list[int]) -> Arrays:
    """Reduce rows that are cut into shards, with two batches in each shard."""
    reduction = Fidelity()
    bounds = [0, *sorted(cuts), len(x)]
    states = []
    for a, b in itertools.pairwise(bounds):
        state = reduction.start(Sizes(x.shape[1], 1, len(x), 1.0, 1, True))
        for c, d in ((a, (a + b) // 2), ((a + b) // 2, b)):
            reduction.update(state, torch.from_numpy(x[c:d]), torch.from_numpy(y[c:d]))
        states.append(state)
    merged = states[0]
    for state in states[1:]:
        merged = reduction.merge(merged, state)
    return merged


def tables(x: NDArray[np.float32], y: NDArray[np.float32], *cuts: int) -> list[Table]:
    return list(Fidelity().tables([run(x, y, list(cuts))], subject(1)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape = draw(st.integers(0, 7)), draw(st.integers(1, 3))
    size = shape[0] * shape[1]
    x, y = (
        np.array(draw(st.lists(st.sampled_from(VALUES), min_size=size, max_size=size)), np.float32)
        for _ in range(2)
    )
    return x.reshape(shape), y.reshape(shape)


@settings(deadline=None)
@given(pairs(), st.data())
def test_fvu_equals_the_formula_in_fractions_for_any_split(
    drawn_pair: tuple[NDArray[np.float32], NDArray[np.float32]], data: st.DataObject
) -> None:
    x, y = drawn_pair
    cuts = data.draw(st.lists(st.integers(0, len(x)), max_size=3))
    exact_x, exact_y = ([[Fraction(float(v)) for v in row] for row in z] for z in (x, y))
    residual = centred = Fraction(0)
    for j in range(x.shape[1]):
        column = [row[j] for row in exact_x]
        mean = sum(column, Fraction(0)) / max(len(column), 1)
        centred += sum((v - mean) ** 2 for v in column)
        residual += sum((v - row[j]) ** 2 for v, row in zip(column, exact_y, strict=True))
    found = as_dict(tables(x, y, *cuts))["SAE"].to_pylist()
    if centred == 0:
        assert found == [{"name": "toy", "fvu": None}]
    else:
        assert found[0]["fvu"] == pytest.approx(float(residual / centred), rel=1e-12, abs=0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 200), max_size=5))
def test_any_split_gives_the_same_result_and_dimensions_agree_with_sklearn(
    seed: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((200, 5)) * [1, 10, 0.01, 1, 100] + [0, 3, 5, 0, 2686]).astype("f4")
    y = (x + 0.3 * rng.standard_normal(x.shape)).astype("f4")
    unsplit, split = tables(x, y), tables(x, y, *cuts)
    # Sums of terms of both signs are exact relative to the terms, not to the sum.
    a, b = (as_dict(t)["fidelity"]["mean"].to_numpy() / x.std(0) for t in (unsplit, split))
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert_same(*([*t[:1], Table("", t[1].data.drop(["mean"]))] for t in (unsplit, split)))
    found = as_dict(unsplit)["fidelity"].to_pandas()
    wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(
        1 - found["fvu"], r2_score(wide_x, wide_y, multioutput="raw_values"), rtol=1e-9
    )
    np.testing.assert_allclose(found["variance"], wide_x.var(0), rtol=1e-11)
    np.testing.assert_allclose(found["mse"], ((wide_x - wide_y) ** 2).mean(0), rtol=1e-11)
    np.testing.assert_allclose(found["mean"], wide_x.mean(0), rtol=1e-11, atol=1e-13)


def test_fvu_without_tokens_or_variance_is_null() -> None:
    still = np.full((9, 2), 0.1, dtype=np.float32)
    for x in (still, still[:0], still[:1]):
        found = as_dict(tables(x, x + 1))
        assert found["SAE"].to_pylist() == [{"name": "toy", "fvu": None}]
        assert found["fidelity"]["fvu"].to_pylist() == [None, None]
    assert as_dict(tables(still[:0], still[:0]))["fidelity"]["mse"].to_pylist() == [None, None]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["inputs", "reconstruction", "both"])
def test_nan_and_inf_are_rejected_and_do_not_change_the_state(bad: float, where: str) -> None:
    reduction = Fidelity()
    good = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    broken = good.clone()
    broken[1, 1] = bad
    state = reduction.start(Sizes(2, 1, 3, 1.0, 1, True))
    reduction.update(state, good, good)
    before = {k: v.copy() for k, v in state.items()}
    x = broken if where != "reconstruction" else good
    y = broken if where != "inputs" else good
    with pytest.raises(BadActivations, match=r"NaN or Inf is (among|in)") as caught:
        reduction.update(state, x, y)
    assert ("reconstruction" in str(caught.value)) == (where == "reconstruction")
    for k, v in before.items():
        np.testing.assert_array_equal(state[k], v)


def test_a_perfect_reconstruction_has_fvu_0_and_the_mean_has_fvu_1() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3)).astype("f4")
    assert as_dict(tables(x, x, 13))["SAE"]["fvu"].to_pylist() == [0.0]
    mean = np.broadcast_to(x.mean(0), x.shape).copy()
    assert as_dict(tables(x, mean, 13))["SAE"]["fvu"][0].as_py() == pytest.approx(1, rel=1e-6)


def test_tables_have_the_types_of_the_schema_and_the_plan_suffices() -> None:
    x = np.ones((4, 3), dtype=np.float32)
    assert tables(x, x)[0].data.schema.equals(arrow_schema("SAE", "fidelity"))
    plan = Fidelity().plan(Sizes(3, 1, 4, 1.0, 1, True), memory=1 << 20)
    assert sum(v.nbytes for v in run(x, x, []).values()) <= plan.bytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_sums_on_a_gpu_equal_those_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((1000, 17)).astype("f4") for _ in range(2))
    reduction = Fidelity()
    state = reduction.start(Sizes(17, 1, 1000, 1.0, 1, True))
    reduction.update(state, torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda())
    assert_same(tables(x, y), list(reduction.tables([state], subject(1))))
