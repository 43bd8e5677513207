"""Random and degenerate codes for tests: blocks of complete documents with Zipf-like features."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.codes.store import Block, Tokens
from ingest.reduce.protocol import CodeReduction, ReducedSae, Sizes, State, Table

TIES = np.array([1e-30, 0.5, 1.0, 1.0000001, 3.0, 1e30], dtype=np.float32)


def text_of(token: int) -> str:
    """The text of a token of the imagined tokenizer."""
    return f" t{token}"


def subject(d_sae: int) -> ReducedSae:
    return ReducedSae("toy", d_sae, "abc", lambda ids: [text_of(i) for i in ids])


def sizes_of(blocks: Sequence[Block], d_sae: int, **changes: object) -> Sizes:
    """The sizes of these codes, known exactly."""
    tokens = sum(map(len, blocks))
    active = sum(len(b.values) for b in blocks)
    vocabulary = 1 + max((int(b.tokens.token_id.max()) for b in blocks if len(b)), default=0)
    sizes = Sizes(4, d_sae, tokens, active / max(tokens, 1), vocabulary, True)
    return replace(sizes, **changes)  # type: ignore[arg-type]


def random_blocks(
    rng: np.random.Generator,
    lengths: Sequence[Sequence[int]],
    *,
    d_sae: int,
    l0: float,
    vocabulary: int = 50,
    context: int = 16,
    bos: bool = True,
    ties: bool = False,
    always: bool = False,
) -> list[Block]:
    """Make one block for each list of document lengths, in tokens.

    With ``ties`` the activations are a few values only, among them extreme ones; with
    ``always`` feature 0 is active on every token.
    """
    blocks, document = [], 0
    weight = 1.0 / np.arange(1, d_sae + 1)
    words = np.cumsum(1.0 / np.arange(1, vocabulary + 1))
    for number, documents in enumerate(lengths):
        size = np.array(documents, dtype=np.int64)
        rows = int(size.sum())
        index = np.arange(rows) - np.repeat(np.cumsum(size) - size, size)
        token_id = np.searchsorted(words / words[-1], rng.random(rows))
        tokens = Tokens(
            token_id.astype(np.int32),
            np.repeat(document + np.arange(len(size)), size),
            index.astype(np.int32),
            (index % context + bos).astype(np.int32),
            (index * 3).astype(np.int32),
            (index * 3 + 3).astype(np.int32),
        )
        document += len(size)
        indptr, indices = _active(rng, rows, weight, l0=l0, always=always)
        values = np.exp(rng.standard_normal(len(indices))).astype(np.float32)
        if ties:
            values = rng.choice(TIES, len(indices))
        blocks.append(Block(number, tokens, indptr, indices, values, d_sae))
    return blocks


def _active(
    rng: np.random.Generator, rows: int, weight: NDArray[np.float64], *, l0: float, always: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Draw Zipf-like features for each row, twice-drawn ones once; about l0 a row."""
    edges = np.cumsum(weight / weight.sum())
    row = np.repeat(np.arange(rows), rng.poisson(l0 * 1.3, rows))
    drawn = np.minimum(np.searchsorted(edges, rng.random(len(row))), len(weight) - 1)
    # A shuffle of the indices, so that the common features are not the first ones.
    key = row * len(weight) + np.random.default_rng(7).permutation(len(weight))[drawn]
    if always:
        key = np.concatenate([key, np.arange(rows) * len(weight)])
    key = np.unique(key)
    indptr = np.searchsorted(key, np.arange(rows + 1) * len(weight)).astype(np.int64)
    return indptr, (key % len(weight)).astype(np.uint32)


@st.composite
def codes(draw: st.DrawFn) -> tuple[list[Block], int]:
    """Small codes with all degenerate cases: empty blocks, dead features, ties, extremes."""
    d_sae = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5))
    blocks = random_blocks(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        lengths,
        d_sae=d_sae,
        l0=draw(st.sampled_from([0.0, 0.3, 2.0, 5.0])),
        vocabulary=draw(st.integers(1, 5)),
        context=draw(st.integers(1, 5)),
        bos=draw(st.booleans()),
        ties=draw(st.booleans()),
        always=draw(st.booleans()),
    )
    return blocks, d_sae


def entries(blocks: Sequence[Block]) -> Iterator[tuple[int, int, float, int]]:
    """Yield (feature, token id, activation, position) of every entry, in corpus order."""
    for b in blocks:
        for t in range(len(b)):
            for e in range(b.indptr[t], b.indptr[t + 1]):
                position = (int(b.tokens.document[t]) << 32) + int(b.tokens.index[t])
                yield int(b.indices[e]), int(b.tokens.token_id[t]), float(b.values[e]), position


def reduce(
    reduction: CodeReduction,
    blocks: Sequence[Block],
    *,
    sizes: Sizes,
    cuts: Sequence[int] = (),
    memory: int = 1 << 40,
) -> list[State]:
    """Run all passes, with the blocks divided into shards before each index in ``cuts``."""
    passes = reduction.plan(sizes, memory=memory).passes
    bounds = [0, *sorted(cuts), len(blocks)]
    finals: list[State] = []
    for pass_index in range(passes):
        states = []
        for a, b in itertools.pairwise(bounds):
            state = reduction.start(pass_index, finals, sizes=sizes, passes=passes)
            for block in blocks[a:b]:
                reduction.update(state, block)
            states.append(state)
        merged = states[0]
        for state in states[1:]:
            merged = reduction.merge(merged, state)
        finals.append(merged)
    return finals


def as_dict(tables: Sequence[Table]) -> dict[str, pa.Table]:
    return {t.name: t.data for t in tables}


def assert_same(a: Sequence[Table], b: Sequence[Table], *, rtol: float = 1e-12) -> None:
    """Integers, texts and nulls equal; floats to ``rtol``."""
    assert [t.name for t in a] == [t.name for t in b]
    for x, y in zip(a, b, strict=True):
        assert x.data.schema == y.data.schema
        for name in x.data.column_names:
            p, q = x.data[name].combine_chunks(), y.data[name].combine_chunks()
            if pa.types.is_floating(p.type):
                assert p.is_null().equals(q.is_null()), name
                np.testing.assert_allclose(
                    p.drop_null().to_numpy(), q.drop_null().to_numpy(), rtol=rtol, err_msg=name
                )
            else:
                assert p.equals(q), name
