"""Examples compared with sorted Python lists, on random and degenerate codes."""

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import (
    as_dict,
    assert_same,
    codes,
    entries,
    random_blocks,
    reduce,
    sizes_of,
    subject,
    text_of,
)

from atlas.errors import BadInput, OutOfSpace
from atlas.schema import arrow_schema
from ingest.codes.store import Block, Tokens
from ingest.reduce.examples import Examples
from ingest.reduce.protocol import Table

SMALL = Examples(seed=3, n=2, sample=2, before=2, after=1)


def run(reduction: Examples, blocks: list[Block], d_sae: int, **options: Any) -> list[Table]:
    sizes = sizes_of(blocks, d_sae, codes_stored=options.pop("codes_stored", True))
    finals = reduce(reduction, blocks, sizes=sizes, **options)
    return list(reduction.tables(finals, subject(d_sae)))


def by_feature(blocks: list[Block]) -> dict[int, list[tuple[float, int]]]:
    """Return (activation, position) pairs of each feature, highest first, then the earliest."""
    found: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for feature, _, value, position in entries(blocks):
        found[feature].append((value, position))
    return {f: sorted(rows, key=lambda r: (-r[0], r[1])) for f, rows in found.items()}


def same_context(t: Tokens, a: int, c: int) -> bool:
    """Return whether rows a to c belong to one context."""
    same = all(t.document[k] == t.document[a] for k in range(a, c + 1))
    return same and all(t.position[k + 1] > t.position[k] for k in range(a, c))


def window_of(blocks: list[Block], feature: int, position: int, size: Examples) -> dict[str, Any]:
    """Return the window around a position, computed token by token."""
    for b in blocks:
        t = b.tokens
        for row in range(len(b)):
            if (int(t.document[row]) << 32) + int(t.index[row]) != position:
                continue
            first = min(
                r for r in range(max(0, row - size.before), row + 1) if same_context(t, r, row)
            )
            last = max(
                r for r in range(row, min(len(b), row + size.after + 1)) if same_context(t, row, r)
            )
            dense = []
            for r in range(first, last + 1):
                mine = slice(b.indptr[r], b.indptr[r + 1])
                dense.append(float(b.values[mine][b.indices[mine] == feature].sum()))
            words = [text_of(int(x)) for x in t.token_id[first : last + 1]]
            return {
                "tokens": words,
                "text": "".join(words),
                "activations": dense,
                "activation": dense[row - first],
                "peak": row - first,
                "document": int(t.document[row]),
                "start": int(t.start[row]),
            }
    raise AssertionError(position)


@settings(deadline=None)
@given(codes())
def test_top_examples_and_their_windows_equal_those_by_hand(
    drawn_codes: tuple[list[Block], int],
) -> None:
    blocks, d_sae = drawn_codes
    tables = as_dict(run(SMALL, blocks, d_sae, codes_stored=False))
    expected = [
        {"id": f"toy/{i}/{rank}", "sae": "toy", "idx": i, "rank": rank, "kind": "top"}
        | window_of(blocks, i, position, SMALL)
        for i, rows in sorted(by_feature(blocks).items())
        for rank, (_, position) in enumerate(rows[: SMALL.n])
    ]
    assert tables["Example"].to_pylist() == expected
    assert tables["SHOWN_BY"].to_pylist() == [
        {"source": f"toy/{row['idx']}", "target": row["id"]} for row in expected
    ]


@settings(deadline=None)
@given(codes())
def test_the_sample_is_from_each_fifth_and_excludes_the_top(
    drawn_codes: tuple[list[Block], int],
) -> None:
    blocks, d_sae = drawn_codes
    rows = as_dict(run(SMALL, blocks, d_sae))["Example"].to_pylist()
    top = as_dict(run(SMALL, blocks, d_sae, codes_stored=False))["Example"].to_pylist()
    assert [r for r in rows if r["kind"] == "top"] == top
    positions = {
        (int(b.tokens.document[t]), int(b.tokens.start[t])): int(b.location[t])
        for b in blocks
        for t in range(len(b))
    }
    for i, seen in by_feature(blocks).items():
        mine = [r for r in rows if r["idx"] == i]
        assert [r["rank"] for r in mine] == list(range(len(mine)))
        shown = [positions[r["document"], r["start"]] for r in mine]
        assert len(set(shown)) == len(shown)
        most = seen[0][0]
        fifths: dict[int, list[int]] = defaultdict(list)
        for value, position in seen[SMALL.n :]:
            fifths[max(k for k in range(1, 6) if 5 * value > (k - 1) * most)].append(position)
        kinds = ["top"] * min(SMALL.n, len(seen))
        for k in range(1, 6):
            kinds += [f"fifth {k}"] * min(SMALL.sample, len(fifths[k]))
        assert [r["kind"] for r in mine] == kinds
        for r, position in zip(mine, shown, strict=True):
            if r["kind"] != "top":
                assert position in fifths[int(r["kind"][-1])]
            for name, value in window_of(blocks, i, position, SMALL).items():
                assert r[name] == value


@settings(deadline=None)
@given(codes(), st.data())
def test_any_split_gives_the_same_result(
    drawn_codes: tuple[list[Block], int], data: st.DataObject
) -> None:
    blocks, d_sae = drawn_codes
    cuts = data.draw(st.lists(st.integers(0, len(blocks)), max_size=4))
    assert_same(run(SMALL, blocks, d_sae), run(SMALL, blocks, d_sae, cuts=cuts), rtol=0)


@pytest.mark.parametrize("ties", [False, True])
def test_larger_codes_under_splits(ties: bool) -> None:
    rng = np.random.default_rng(11)
    blocks = random_blocks(
        rng, [[60, 3, 90]] * 8, d_sae=60, l0=9, vocabulary=40, always=True, ties=ties
    )
    reduction = Examples(seed=0, n=7, before=5, after=4)
    unsplit = run(reduction, blocks, 60)
    for cuts in ((4,), (1, 2, 3, 4, 5, 6, 7), (3, 3)):
        assert_same(unsplit, run(reduction, blocks, 60, cuts=cuts), rtol=0)
    rows = as_dict(unsplit)["Example"].to_pylist()
    for i, seen in by_feature(blocks).items():
        top = [r for r in rows if r["idx"] == i and r["kind"] == "top"]
        assert [r["activation"] for r in top] == [v for v, _ in seen[:7]]
        for r, (_, position) in zip(top, seen, strict=False):
            for name, value in window_of(blocks, i, position, reduction).items():
                assert r[name] == value


def test_the_sample_is_seeded_and_uniform_over_positions() -> None:
    """Each of 400 positions of equal activation is equally likely, early or late."""
    blocks = random_blocks(np.random.default_rng(0), [[100]] * 4, d_sae=40, l0=0)
    blocks = [_everywhere(b) for b in blocks]
    reduction = Examples(seed=1, n=1, sample=10)
    rows = as_dict(run(reduction, blocks, 40))["Example"].to_pandas()
    again = as_dict(run(replace(reduction, seed=2), blocks, 40))["Example"].to_pandas()
    sampled, other = (r[r.kind != "top"] for r in (rows, again))
    assert len(sampled) == len(other) == 400
    assert set(sampled.kind) == {"fifth 5"}
    key = ["idx", "document", "start"]
    assert len(sampled.merge(other, on=key)) < 40  # 10 expected: 400 * 10 / 399
    per_block = np.bincount(sampled.document, minlength=4)
    assert ((per_block > 65) & (per_block < 135)).all()  # 100 ± 4 standard deviations
    # The hash depends on feature and position, so features differ in their positions.
    assert len(set(zip(sampled.document, sampled.start, strict=True))) > 200


def _everywhere(b: Block) -> Block:
    rows, d = len(b), b.d_sae
    return replace(
        b,
        indptr=np.arange(rows + 1) * d,
        indices=np.tile(np.arange(d, dtype=np.uint32), rows),
        values=np.ones(rows * d, dtype=np.float32),
    )


def test_states_fit_the_plan_and_are_small_for_rare_features() -> None:
    blocks = random_blocks(np.random.default_rng(2), [[50]] * 9, d_sae=200, l0=3)
    sizes = sizes_of(blocks, 200)
    reduction = Examples(seed=0)
    plan = reduction.plan(sizes, memory=1 << 40)
    for cuts in ((), range(1, 9)):
        finals = reduce(reduction, blocks, sizes=sizes, cuts=cuts)
        assert len(finals) == plan.passes == 2
        assert sum(v.nbytes for f in finals for v in f.values()) <= plan.bytes
    rare = random_blocks(np.random.default_rng(2), [[50]], d_sae=200, l0=0.1)
    (final, _) = reduce(reduction, rare, sizes=sizes_of(rare, 200))
    assert len(final["order"]) < 10


def test_passes_and_rejected_plans() -> None:
    sizes = sizes_of(random_blocks(np.random.default_rng(0), [[50]], d_sae=9, l0=2), 9)
    assert Examples(seed=0).plan(sizes, memory=1 << 30).passes == 2
    assert Examples(seed=0, sample=0).plan(sizes, memory=1 << 30).passes == 1
    not_stored = replace(sizes, codes_stored=False)
    assert Examples(seed=0).plan(not_stored, memory=1 << 30).passes == 1
    with pytest.raises(OutOfSpace, match="fewer or shorter examples"):
        Examples(seed=0).plan(sizes, memory=1000)
    for wrong in ({"n": 0}, {"sample": -1}, {"before": -1}, {"after": -1}):
        with pytest.raises(BadInput, match="n must be 1 or more"):
            Examples(seed=0, **wrong)


def test_codes_without_activity_make_empty_tables_of_the_schema() -> None:
    blocks = random_blocks(np.random.default_rng(0), [[], [5, 0]], d_sae=4, l0=0)
    for name, table in as_dict(run(SMALL, blocks, 4)).items():
        assert table.num_rows == 0
        assert table.schema.equals(arrow_schema(name, "examples"))


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_any_integer_is_a_seed(seed: int) -> None:
    blocks = random_blocks(np.random.default_rng(0), [[30]], d_sae=2, l0=1, always=True)
    rows = as_dict(run(Examples(seed=seed), blocks, 2))["Example"]
    assert math.isclose(max(rows["activation"].to_pylist()), max(blocks[0].values.tolist()))
