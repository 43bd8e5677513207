"""Statistics and its moments compared with plain Python, on random and degenerate codes."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_codes import (
    as_dict,
    assert_same,
    codes,
    entries,
    random_blocks,
    reduce,
    sizes_of,
    subject,
)

from atlas.schema import arrow_schema
from ingest.codes.store import Block
from ingest.reduce.arrays import Arrays
from ingest.reduce.statistics import Statistics


def activations(blocks: list[Block], d_sae: int) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in range(d_sae)]
    for feature, _, value, _ in entries(blocks):
        found[feature].append(value)
    return found


@settings(deadline=None)
@given(codes())
def test_every_feature_equals_that_by_hand(drawn_codes: tuple[list[Block], int]) -> None:
    blocks, d_sae = drawn_codes
    finals = reduce(Statistics(), blocks, sizes=sizes_of(blocks, d_sae))
    tables = as_dict(list(Statistics().tables(finals, subject(d_sae))))
    tokens = sum(map(len, blocks))
    for i, row in enumerate(tables["Feature"].to_pylist()):
        seen = [Fraction(v) for v in activations(blocks, d_sae)[i]]
        n = len(seen)
        assert row["id"] == f"toy/{i}"
        assert row["active_tokens"] == n
        assert row["dead"] == (n == 0)
        assert row["frequency"] == (n / tokens if tokens else None)
        if not n:
            assert row["mean_activation"] is row["std_activation"] is row["max_activation"] is None
            continue
        mean = sum(seen) / n
        variance = sum((v - mean) ** 2 for v in seen) / n
        assert row["mean_activation"] == pytest.approx(float(mean), rel=1e-12, abs=0)
        assert row["std_activation"] == pytest.approx(math.sqrt(variance), rel=1e-12, abs=0)
        assert row["max_activation"] == max(seen)
    (sae,) = tables["SAE"].to_pylist()
    dead = sum(not seen for seen in activations(blocks, d_sae))
    active = sum(len(seen) for seen in activations(blocks, d_sae))
    assert sae == {
        "name": "toy",
        "tokens": tokens,
        "l0": active / tokens if tokens else None,
        "dead": dead,
        "dead_share": dead / d_sae,
    }


@settings(deadline=None)
@given(codes())
def test_histogram_counts_values_between_its_edges(
    drawn_codes: tuple[list[Block], int],
) -> None:
    blocks, d_sae = drawn_codes
    finals = reduce(Statistics(), blocks, sizes=sizes_of(blocks, d_sae))
    rows = as_dict(list(Statistics().tables(finals, subject(d_sae))))["histogram"].to_pylist()
    for i, seen in enumerate(activations(blocks, d_sae)):
        mine = [r for r in rows if r["idx"] == i]
        assert sum(r["count"] for r in mine) == len(seen)
        for r in mine:
            assert r["count"] == sum(r["lower"] <= v < r["upper"] for v in seen) > 0
            assert r["upper"] / r["lower"] == pytest.approx(math.sqrt(2))
            assert 2 * math.log2(r["lower"]) == pytest.approx(round(2 * math.log2(r["lower"])))


@settings(deadline=None)
@given(codes(), st.data())
def test_any_split_gives_the_same_result(
    drawn_codes: tuple[list[Block], int], data: st.DataObject
) -> None:
    blocks, d_sae = drawn_codes
    sizes = sizes_of(blocks, d_sae)
    cuts = data.draw(st.lists(st.integers(0, len(blocks)), max_size=4))
    one, other = (
        list(Statistics().tables(reduce(Statistics(), blocks, sizes=sizes, cuts=c), subject(d_sae)))
        for c in ((), cuts)
    )
    assert_same(one, other)


def test_larger_codes_split_at_every_block_equal_numpy() -> None:
    rng = np.random.default_rng(3)
    blocks = random_blocks(rng, [[30, 50, 20]] * 6, d_sae=300, l0=12, always=True)
    dense = np.concatenate([_dense(b) for b in blocks]).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = (dense > 0).sum(0)
        mean = dense.sum(0) / count
        std = np.sqrt((((dense - mean) ** 2) * (dense > 0)).sum(0) / count)
    finals = reduce(Statistics(), blocks, sizes=sizes_of(blocks, 300), cuts=range(1, 6))
    feature = as_dict(list(Statistics().tables(finals, subject(300))))["Feature"].to_pandas()
    np.testing.assert_array_equal(feature["active_tokens"], count)
    np.testing.assert_allclose(feature["mean_activation"], mean, rtol=1e-12)
    np.testing.assert_allclose(feature["std_activation"], std, rtol=1e-12, atol=1e-15)
    assert feature["frequency"][0] == 1.0


def test_a_standard_deviation_far_below_the_mean_is_exact() -> None:
    """The values differ by one ulp of float32; Chan's formula on plain means is exact to 11 digits only."""
    rng = np.random.default_rng(0)
    blocks = random_blocks(rng, [[40]] * 20, d_sae=1, l0=0, always=True)
    steps = [rng.integers(0, 2, len(b)) for b in blocks]
    near = np.float32(1.1) + np.spacing(np.float32(1.1)) * np.arange(2, dtype=np.float32)
    made = [
        Block(b.number, b.tokens, b.indptr, b.indices, near[s], 1)
        for b, s in zip(blocks, steps, strict=True)
    ]
    p = float(np.concatenate(steps).mean())
    expected = math.sqrt(p * (1 - p)) * float(near[1] - near[0])
    for cuts in ((), range(1, 20)):
        finals = reduce(Statistics(), made, sizes=sizes_of(made, 1), cuts=cuts)
        (row,) = as_dict(list(Statistics().tables(finals, subject(1))))["Feature"].to_pylist()
        assert row["std_activation"] == pytest.approx(expected, rel=1e-13, abs=0)


def test_constant_activations_have_standard_deviation_0() -> None:
    blocks = random_blocks(np.random.default_rng(1), [[7, 9], [40]], d_sae=3, l0=2, always=True)
    for b in blocks:
        b.values[:] = np.float32(0.1)
    finals = reduce(Statistics(), blocks, sizes=sizes_of(blocks, 3), cuts=[1])
    row = as_dict(list(Statistics().tables(finals, subject(3))))["Feature"].to_pylist()[0]
    assert row["std_activation"] == 0.0
    assert row["mean_activation"] == row["max_activation"] == float(np.float32(0.1))


def test_tables_have_the_types_of_the_schema_and_the_plan_suffices() -> None:
    blocks = random_blocks(np.random.default_rng(1), [[20]], d_sae=8, l0=3, ties=True)
    sizes = sizes_of(blocks, 8)
    finals = reduce(Statistics(), blocks, sizes=sizes)
    tables = as_dict(list(Statistics().tables(finals, subject(8))))
    for name in ("Feature", "SAE"):
        assert tables[name].schema.equals(arrow_schema(name, "statistics"))
    assert _bytes(finals[0]) <= Statistics().plan(sizes, memory=0).bytes


def _dense(block: Block) -> NDArray[np.float32]:
    dense = np.zeros((len(block), block.d_sae), dtype=np.float32)
    dense[block.rows, block.indices] = block.values
    return dense


def _bytes(state: Arrays) -> int:
    return sum(array.nbytes for array in state.values())
