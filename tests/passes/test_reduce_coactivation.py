"""Coactivation compared with dense NumPy and a loop over tokens, on random and degenerate codes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_codes import assert_same, codes, random_blocks, reduce, sizes_of, subject

from atlas.errors import BadInput, OutOfSpace
from atlas.schema import arrow_schema
from ingest.codes.store import Block, Tokens
from ingest.reduce import pair_counting
from ingest.reduce.coactivation import Coactivation, equal_range
from ingest.reduce.protocol import Sizes, State, Table

INTEGERS = ("source", "target", "count", "joint_count")
FLOATS = ("expected", "weight", "cosine", "jaccard", "phi", "lift")

# One pass over all pairs; pairs, then edges; counts, then 1, 2 or 4 ranges of pairs, then edges.
PASSES = (1, 2, 3, 4, 6)

BIG = Sizes(64, 16_384, 1_000_000, 70.0, 5000, True)


def dense(block: Block) -> NDArray[np.float64]:
    acts = np.zeros((len(block), block.d_sae))
    acts[block.rows, block.indices] = block.values
    return acts


def block_of(acts: NDArray[np.float64], number: int = 0) -> Block:
    """Make a block, all of one document, of dense activations."""
    rows, features = np.nonzero(acts)
    n = np.arange(len(acts), dtype=np.int32)
    tokens = Tokens(n * 0, np.full(len(acts), number), n, n, n, n)
    indptr = np.searchsorted(rows, np.arange(len(acts) + 1)).astype(np.int64)
    values = acts[rows, features].astype(np.float32)
    return Block(number, tokens, indptr, features.astype(np.uint32), values, acts.shape[1])


def by_hand(blocks: Sequence[Block], d_sae: int, *, k: int, min_count: int) -> list[dict]:
    """Compute the edges from their definition, pair by pair."""
    acts = [np.zeros((0, d_sae)), *map(dense, blocks)]
    chosen = []
    for a in acts:
        s = np.zeros(a.shape, dtype=int)
        for t, row in enumerate(a):
            order = sorted(np.flatnonzero(row), key=lambda i, row=row: (-row[i], i))
            s[t, order[:k]] = 1
        chosen.append(s)
    every, every_chosen = np.concatenate(acts), np.concatenate(chosen)
    tokens, active = len(every), (every > 0).sum(0).tolist()
    rows = []
    for i, j in itertools.combinations(range(d_sae), 2):
        n = [int(s[:, i] @ s[:, j]) for s in chosen]
        if sum(n) < min_count:
            continue
        weight = sum(m * cosine(a[:, i], a[:, j]) for m, a in zip(n, acts, strict=True) if m)
        joint = int(((every[:, i] > 0) & (every[:, j] > 0)).sum())
        a, b = active[i], active[j]
        below = math.sqrt(a * (tokens - a)) * math.sqrt(b * (tokens - b))
        rows.append(
            {
                "source": f"toy/{i}",
                "target": f"toy/{j}",
                "count": sum(n),
                "expected": int(every_chosen[:, i].sum() * every_chosen[:, j].sum()) / tokens,
                "weight": weight / sum(n),
                "cosine": cosine(every[:, i], every[:, j]),
                "joint_count": joint,
                "jaccard": joint / (a + b - joint),
                "phi": (tokens * joint - a * b) / below if below else None,
                "lift": joint * tokens / (a * b),
            }
        )
    return rows


def cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(x @ y / np.sqrt(x @ x) / np.sqrt(y @ y))


def in_passes(
    reduction: Coactivation, blocks: Sequence[Block], d_sae: int, passes: int, *, cuts: object = ()
) -> list[Table]:
    """Compute the tables in a number of passes; the sizes allow any number of edges."""
    sizes = sizes_of(blocks, d_sae, tokens=10**6)
    bounds = [0, *sorted(cuts), len(blocks)]  # type: ignore[call-overload]
    finals: list[State] = []
    for pass_index in range(passes):
        merged = None
        for a, b in itertools.pairwise(bounds):
            state = reduction.start(pass_index, finals, sizes=sizes, passes=passes)
            for block in blocks[a:b]:
                reduction.update(state, block)
            merged = state if merged is None else reduction.merge(merged, state)
        finals.append(merged)  # type: ignore[arg-type]
    return list(reduction.tables(finals, subject(d_sae)))


def edges_of(tables: Sequence[Table]) -> pa.Table:
    (table,) = tables
    assert table.name == "CO_ACTIVATES"
    assert table.data.schema.equals(arrow_schema("CO_ACTIVATES", "coactivation"))
    return table.data


def assert_equals_reference(found: pa.Table, expected: list[dict]) -> None:
    rows = found.to_pylist()
    assert [[r[n] for n in INTEGERS] for r in rows] == [[r[n] for n in INTEGERS] for r in expected]
    for row, by in zip(rows, expected, strict=True):
        for name in FLOATS:
            want = by[name]
            assert row[name] == (want and pytest.approx(want, rel=1e-12, abs=1e-15)), name


@settings(deadline=None)
@given(codes(), st.integers(1, 8), st.integers(1, 3), st.sampled_from(PASSES))
def test_every_edge_equals_that_by_hand(
    drawn_codes: tuple[list[Block], int], k: int, min_count: int, passes: int
) -> None:
    blocks, d_sae = drawn_codes
    found = edges_of(in_passes(Coactivation(k, min_count), blocks, d_sae, passes))
    assert_equals_reference(found, by_hand(blocks, d_sae, k=k, min_count=min_count))


@settings(deadline=None)
@given(codes(), st.data())
def test_any_split_and_number_of_passes_gives_the_same_result(
    drawn_codes: tuple[list[Block], int], data: st.DataObject
) -> None:
    blocks, d_sae = drawn_codes
    reduction = Coactivation(k=3)
    cuts = data.draw(st.lists(st.integers(0, len(blocks)), max_size=4))
    passes = data.draw(st.sampled_from(PASSES))
    one = in_passes(reduction, blocks, d_sae, 2)
    assert_same(one, in_passes(reduction, blocks, d_sae, passes, cuts=cuts))


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_larger_codes_split_at_every_block_equal_numpy(passes: int) -> None:
    blocks = random_blocks(
        np.random.default_rng(5), [[90, 60]] * 7, d_sae=60, l0=12, always=True, ties=True
    )
    found = edges_of(in_passes(Coactivation(5, 2), blocks, 60, passes, cuts=range(1, 7)))
    assert found.num_rows > 300
    assert_equals_reference(found, by_hand(blocks, 60, k=5, min_count=2))


@pytest.mark.parametrize("ranges", [1, 3, 1000])
def test_the_result_does_not_depend_on_threads(
    ranges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = random_blocks(np.random.default_rng(5), [[90, 60]] * 2, d_sae=60, l0=12)
    one = in_passes(Coactivation(), blocks, 60, 1) + in_passes(Coactivation(), blocks, 60, 2)
    monkeypatch.setattr(pair_counting, "_RANGES", ranges)
    monkeypatch.setattr(pair_counting, "_ENTRIES_WORTH_A_RANGE", 1)
    other = in_passes(Coactivation(), blocks, 60, 1) + in_passes(Coactivation(), blocks, 60, 2)
    assert_same(one, other, rtol=0)


def test_a_loop_over_tokens_gives_the_same_counts_and_weights() -> None:
    """The loop of the original study: top k of each token, cosines over the complete batch."""
    rng = np.random.default_rng(3)
    acts = rng.random((80, 12)) * (rng.random((80, 12)) < 0.6)
    acts = acts[(acts > 0).sum(1) >= 4].astype(np.float32).astype(np.float64)
    count, weight = np.zeros((12, 12), dtype=int), np.zeros((12, 12))
    for row in acts:
        top = np.argsort(-np.abs(row))[:4]
        unit = acts[:, top] / np.linalg.norm(acts[:, top], axis=0)
        similar = unit.T @ unit
        for a, b in itertools.combinations(range(4), 2):
            for i, j in ((top[a], top[b]), (top[b], top[a])):
                count[i, j] += 1
                weight[i, j] += similar[a, b]
    found = edges_of(in_passes(Coactivation(k=4), [block_of(acts)], 12, 2)).to_pydict()
    i, j = np.nonzero(np.triu(count))
    assert found["source"] == [f"toy/{x}" for x in i]
    assert found["target"] == [f"toy/{x}" for x in j]
    assert found["count"] == count[i, j].tolist()
    np.testing.assert_allclose(found["weight"], weight[i, j] / count[i, j], rtol=1e-12)


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize(
    "acts",
    [
        np.zeros((0, 4)),
        np.zeros((5, 4)),
        np.array([[0.0, 2.0, 0.0]] * 3),
        np.array([[1.0], [0.0], [2.0]]),
    ],
    ids=["no token", "nothing active", "one feature active", "one feature"],
)
def test_codes_without_pairs_make_no_edges(acts: NDArray[np.float64], passes: int) -> None:
    found = edges_of(in_passes(Coactivation(), [block_of(acts)], acts.shape[1], passes))
    assert found.num_rows == 0
    assert edges_of(in_passes(Coactivation(), [], acts.shape[1], passes)).num_rows == 0


def test_k_of_one_makes_no_edges() -> None:
    blocks = random_blocks(np.random.default_rng(5), [[50]], d_sae=9, l0=5)
    assert edges_of(in_passes(Coactivation(k=1), blocks, 9, 2)).num_rows == 0


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_equal_features_have_cosine_one_and_an_always_active_one_has_no_phi(passes: int) -> None:
    acts = np.array([[1.5, 1.5, 3.0], [0.1, 0.1, 2.0], [0.0, 0.0, 7.0]])
    same, first, second = edges_of(
        in_passes(Coactivation(), [block_of(acts)], 3, passes)
    ).to_pylist()
    assert same == {
        "source": "toy/0",
        "target": "toy/1",
        "count": 2,
        "expected": pytest.approx(4 / 3),
        "weight": pytest.approx(1.0),
        "cosine": 1.0,
        "joint_count": 2,
        "jaccard": 1.0,
        "phi": pytest.approx(1.0),
        "lift": 1.5,
    }
    assert first["phi"] is second["phi"] is None
    assert first["lift"] == second["lift"] == 1.0


def test_ties_go_to_the_lower_index_and_fewer_than_k_active_features_are_all_used() -> None:
    acts = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 1.0]])
    found = edges_of(in_passes(Coactivation(k=2), [block_of(acts)], 4, 2)).to_pydict()
    assert list(zip(found["source"], found["target"], strict=True)) == [
        ("toy/0", "toy/1"),
        ("toy/2", "toy/3"),
    ]
    assert found["count"] == [1, 1]
    assert found["joint_count"] == [1, 2]


@pytest.mark.parametrize("stored", [True, False])
def test_phi_of_three_million_tokens_equals_python_integers(stored: bool) -> None:
    """Products of four counts exceed 64 bits, and with an overflow phi is wrong or NaN."""
    tokens, rng = 3_000_000, np.random.default_rng(0)
    on = rng.random((tokens, 3), dtype=np.float32) < np.array([0.5, 0.3, 0.98], dtype=np.float32)
    on[:, 1] |= on[:, 0] & (np.arange(tokens) % 3 == 0)
    blocks = [block_of(a, n) for n, a in enumerate(np.split(on, 30))]
    sizes = sizes_of(blocks, 3, codes_stored=stored)
    finals = reduce(Coactivation(), blocks, sizes=sizes)
    found = edges_of(list(Coactivation().tables(finals, subject(3)))).to_pydict()
    for n, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        a, b, m = int(on[:, i].sum()), int(on[:, j].sum()), int((on[:, i] & on[:, j]).sum())
        with localcontext(prec=60):
            below = Decimal(a * (tokens - a) * b * (tokens - b)).sqrt()
            phi = float((tokens * m - a * b) / below)
        assert a * (tokens - a) * b * (tokens - b) > 2**63
        assert found["joint_count"][n] == m
        assert found["phi"][n] == pytest.approx(phi, rel=1e-13)
        assert found["lift"][n] == pytest.approx(m * tokens / (a * b), rel=1e-13)
        assert found["cosine"][n] == pytest.approx(m / math.sqrt(a * b), rel=1e-12)


@pytest.mark.parametrize("cuts", [(), (4,), range(1, 9)])
def test_states_fit_the_plan(cuts: Sequence[int]) -> None:
    # Features of very different rates, so ranges with equal numbers of features would not fit.
    blocks = random_blocks(np.random.default_rng(2), [[200]] * 9, d_sae=80, l0=8)
    reduction, passes_seen, tables = Coactivation(k=6, min_count=4), set(), []
    for stored, memory in ((True, 1 << 30), (False, 1 << 30), (True, 250_000), (True, 210_000)):
        sizes = sizes_of(blocks, 80, codes_stored=stored)
        plan = reduction.plan(sizes, memory=memory)
        assert plan.bytes <= (memory // 2 if stored else memory)
        finals = reduce(reduction, blocks, sizes=sizes, cuts=cuts, memory=memory)
        assert len(finals) == plan.passes
        for n in range(plan.passes):  # with the states of earlier passes
            held = {id(v): v for f in finals[: n + 1] for v in f.values()}
            assert sum(v.nbytes for v in held.values()) <= plan.bytes
        passes_seen.add(plan.passes)
        tables.append(list(reduction.tables(finals, subject(80))))
        assert_same(tables[0], tables[-1])
    assert {1, 2} < passes_seen
    assert max(passes_seen) >= 5


def test_ranges_have_similar_size_for_any_distribution_of_pairs() -> None:
    ahead = np.array([1000, 0, 0, 3, 5, 0, 40, 2, 1, 9, 1, 0])
    most = np.minimum(ahead, 2 * np.arange(11, -1, -1))
    for ranges in range(1, 15):
        bounds = [equal_range(ahead, r, ranges=ranges) for r in range(ranges)]
        assert [b[0] for b in bounds] == [0, *(b[1] for b in bounds[:-1])]
        assert bounds[-1][1] == 12
        for first, end in bounds:
            assert most[first:end].sum() <= most.sum() / ranges + most.max()


def test_the_plan_by_width_tokens_and_stored_codes() -> None:
    reduction = Coactivation()
    two = reduction.plan(BIG, memory=4 << 30)
    assert two.passes == 2
    assert two.bytes < 360 << 20  # six pairs a token
    rare = replace(BIG, l0=0.1)
    assert reduction.plan(rare, memory=4 << 30).bytes < 20 << 20
    many = replace(BIG, tokens=50_000_000)
    assert reduction.plan(many, memory=4 << 30).passes > 2
    assert reduction.plan(many, memory=4 << 30).bytes <= 2 << 30
    wide = replace(BIG, d_sae=131_072)
    assert reduction.plan(wide, memory=4 << 30).passes == 2
    assert reduction.plan(replace(BIG, d_sae=4096, codes_stored=False), memory=4 << 30).passes == 1
    with pytest.raises(OutOfSpace, match="Use `keep_codes=True`"):
        reduction.plan(replace(wide, codes_stored=False), memory=4 << 30)
    with pytest.raises(OutOfSpace, match="at least"):
        reduction.plan(BIG, memory=1 << 20)


def test_too_many_edges_for_memory_are_rejected_with_advice() -> None:
    blocks = random_blocks(np.random.default_rng(2), [[200]] * 9, d_sae=80, l0=20)
    sizes = sizes_of(blocks, 80)
    edges = edges_of(in_passes(Coactivation(k=12), blocks, 80, 2)).num_rows
    with pytest.raises(OutOfSpace, match="Use a higher `min_count` or a lower `k`"):
        reduce(Coactivation(k=12), blocks, sizes=sizes, memory=56 * edges)
    fewer = Coactivation(k=12, min_count=30)
    assert fewer.plan(sizes, memory=56 * edges).passes > 2
    assert_same(
        list(fewer.tables(reduce(fewer, blocks, sizes=sizes, memory=56 * edges), subject(80))),
        in_passes(fewer, blocks, 80, 2),
    )


@pytest.mark.parametrize("wrong", [{"k": 0}, {"min_count": 0}])
def test_settings_below_one_are_rejected(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="must be 1 or more"):
        Coactivation(**wrong)
