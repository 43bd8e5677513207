"""TokenCounts compared with dictionaries and pandas, on random and degenerate codes."""

import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
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
from ingest.codes.store import Block
from ingest.reduce.protocol import Sizes
from ingest.reduce.tokens import TokenCounts

# Texts with and without letters and digits; the text of another token, such as 5, is " t5".
ODD = {0: ",", 1: " é", 2: "\n\n", 4: "…"}


def odd_text(token: int) -> str:
    return ODD.get(token, text_of(token))


BIG = Sizes(64, 1000, 1_000_000, 30.0, 5000, True)


@settings(deadline=None)
@given(codes(), st.integers(1, 7))
def test_every_edge_equals_that_by_hand(drawn_codes: tuple[list[Block], int], top: int) -> None:
    blocks, d_sae = drawn_codes
    reduction = TokenCounts(top=top)
    finals = reduce(reduction, blocks, sizes=sizes_of(blocks, d_sae))
    toy = replace(subject(d_sae), texts=lambda ids: [odd_text(i) for i in ids])
    tables = as_dict(list(reduction.tables(finals, toy)))
    occurs = Counter(int(t) for b in blocks for t in b.tokens.token_id)
    seen: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for feature, token, value, _ in entries(blocks):
        seen[feature][token].append(value)
    expected, named, features = [], set(), []
    for i in range(d_sae):
        order = sorted(seen[i], key=lambda t: (-len(seen[i][t]), t))
        common = [odd_text(t) for t in order[:5]]
        wordless = [text for text in common if not re.search(r"[^\W_]", text)]
        features.append(
            {
                "id": f"toy/{i}",
                "top_token": common[0] if common else None,
                "wordless_share": len(wordless) / len(common) if common else None,
            }
        )
        total = sum(map(len, seen[i].values()))
        for rank, token in enumerate(order[:top]):
            values = seen[i][token]
            named.add(token)
            expected.append(
                {
                    "source": f"toy/{i}",
                    "target": f"abc/{token}",
                    "rank": rank,
                    "count": len(values),
                    "share": len(values) / total,
                    "rate": len(values) / occurs[token],
                    "mean_activation": pytest.approx(sum(values) / len(values), rel=1e-12, abs=0),
                }
            )
    assert tables["FIRES_ON"].to_pylist() == expected
    assert tables["Feature"].to_pylist() == features
    assert tables["Token"].to_pylist() == [
        {"id": f"abc/{t}", "tokenizer": "abc", "token_id": t, "text": odd_text(t)}
        for t in sorted(named)
    ]


@settings(deadline=None)
@given(codes(), st.data())
def test_any_split_and_number_of_passes_gives_the_same_result(
    drawn_codes: tuple[list[Block], int], data: st.DataObject
) -> None:
    blocks, d_sae = drawn_codes
    sizes = sizes_of(blocks, d_sae)
    reduction = TokenCounts(top=2)
    cuts = data.draw(st.lists(st.integers(0, len(blocks)), max_size=4))
    memory = data.draw(st.integers(0, 1 << 10))
    try:
        reduction.plan(sizes, memory=memory)
    except OutOfSpace:
        memory = 1 << 20
    one = reduce(reduction, blocks, sizes=sizes)
    other = reduce(reduction, blocks, sizes=sizes, cuts=cuts, memory=memory)
    assert_same(
        list(reduction.tables(one, subject(d_sae))), list(reduction.tables(other, subject(d_sae)))
    )


@pytest.mark.parametrize("passes", [1, 3, 40])
def test_larger_codes_equal_pandas(passes: int) -> None:
    rng = np.random.default_rng(5)
    blocks = random_blocks(
        rng, [[40, 80]] * 9, d_sae=40, l0=8, vocabulary=200, always=True, ties=True
    )
    sizes = sizes_of(blocks, 40)
    reduction = TokenCounts(top=10)
    least = next(m for m in range(1 << 30) if _passes(reduction, sizes, m << 5) <= passes) << 5
    assert reduction.plan(sizes, memory=least).passes == passes
    finals = reduce(reduction, blocks, sizes=sizes, cuts=[2, 3, 7], memory=least)
    toy = replace(subject(40), texts=lambda ids: [odd_text(i) for i in ids])
    tables = as_dict(list(reduction.tables(finals, toy)))
    found = tables["FIRES_ON"].to_pandas()
    frame = pd.DataFrame(list(entries(blocks)), columns=["f", "t", "a", "position"])
    each = frame.groupby(["f", "t"]).a.agg(["size", "mean"]).reset_index()
    each = each.sort_values(["f", "size", "t"], ascending=[True, False, True])
    wordless = each.groupby("f").head(5).t.isin([0, 2, 4]).groupby(each.f).mean()
    assert wordless.nunique() > 2
    shares = tables["Feature"].to_pandas().wordless_share.dropna()
    assert shares.tolist() == wordless.tolist()
    each = each.groupby("f").head(10)
    assert found["source"].tolist() == [f"toy/{f}" for f in each.f]
    assert found["target"].tolist() == [f"abc/{t}" for t in each.t]
    assert found["count"].tolist() == each["size"].tolist()
    np.testing.assert_allclose(found["mean_activation"], each["mean"], rtol=1e-12)
    assert (found[found["source"] == "toy/0"]["rate"] == 1.0).all()


def _passes(reduction: TokenCounts, sizes: Sizes, memory: int) -> float:
    try:
        return reduction.plan(sizes, memory=memory).passes
    except OutOfSpace:
        return float("inf")


@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 3, 4, 5, 6, 7, 8)])
def test_states_fit_the_plan(cuts: tuple[int, ...]) -> None:
    blocks = random_blocks(np.random.default_rng(2), [[50]] * 9, d_sae=30, l0=6, vocabulary=100)
    sizes = sizes_of(blocks, 30)
    for memory in (1 << 30, 60_000):
        plan = TokenCounts().plan(sizes, memory=memory)
        assert plan.bytes <= memory
        finals = reduce(TokenCounts(), blocks, sizes=sizes, cuts=cuts, memory=memory)
        assert len(finals) == plan.passes
        assert max(sum(v.nbytes for v in f.values()) for f in finals) <= plan.bytes


def test_repeated_pairs_take_no_more_memory() -> None:
    blocks = random_blocks(
        np.random.default_rng(2), [[20]] * 50, d_sae=2, l0=1, vocabulary=3, always=True
    )
    sizes = sizes_of(blocks, 2)
    plan = TokenCounts().plan(sizes, memory=1 << 20)
    assert plan.bytes < 2 * 24 * 2 * 6 + 100
    (final,) = reduce(TokenCounts(), blocks, sizes=sizes)
    assert sum(v.nbytes for v in final.values()) <= plan.bytes


def test_a_plan_that_does_not_fit_takes_more_passes_or_is_rejected() -> None:
    reduction = TokenCounts()
    full = reduction.plan(BIG, memory=1 << 40)
    assert full.passes == 1
    half = reduction.plan(BIG, memory=full.bytes // 2)
    assert half.passes >= 2
    assert half.bytes <= full.bytes // 2
    with pytest.raises(OutOfSpace, match="or use `keep_codes=True`"):
        reduction.plan(replace(BIG, codes_stored=False), memory=full.bytes // 2)
    assert reduction.plan(replace(BIG, codes_stored=False), memory=full.bytes).passes == 1
    with pytest.raises(OutOfSpace, match="a single feature"):
        reduction.plan(BIG, memory=1000)


def test_codes_without_activity_make_no_edges() -> None:
    blocks = random_blocks(np.random.default_rng(0), [[5, 3]], d_sae=4, l0=0)
    finals = reduce(TokenCounts(), blocks, sizes=sizes_of(blocks, 4))
    tables = as_dict(list(TokenCounts().tables(finals, subject(4))))
    assert tables["FIRES_ON"].num_rows == tables["Token"].num_rows == 0
    assert tables["Feature"]["top_token"].to_pylist() == [None] * 4
    assert tables["Feature"]["wordless_share"].to_pylist() == [None] * 4
    for name, table in tables.items():
        assert table.schema.equals(arrow_schema(name, "tokens"))


def test_a_top_of_zero_is_rejected() -> None:
    with pytest.raises(BadInput, match="top=0"):
        TokenCounts(top=0)
