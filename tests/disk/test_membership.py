"""The table of tokens and their most active features: its edges equal the atlas', its null is uniform."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import random_blocks
from scipy import stats
from small_ingest import model, named, run, texts, topk

from analysis.statistics.nulls import swapped
from atlas.api import Atlas
from atlas.errors import BadInput, Missing, UnknownName
from ingest.codes.topk_membership import Membership, edges, open_membership, read_membership
from ingest.settings import Settings


def made(rows, *, documents=None, d_sae=None):
    """Return the table of lists of features."""
    d_sae = d_sae or 1 + max((f for row in rows for f in row), default=0)
    return Membership(
        np.cumsum([0, *map(len, rows)]),
        np.array([f for row in rows for f in row], dtype=np.int32),
        np.array(documents or [0] * len(rows), dtype=np.int64),
        np.bincount([f for row in rows for f in row], minlength=d_sae),
    )


def rows_of(m):
    return [m.features[a:b].tolist() for a, b in itertools.pairwise(m.indptr)]


@given(st.integers(0, 2**32), st.integers(1, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_k_most_active_features_and_their_pairs(seed, k, ties):
    rng = np.random.default_rng(seed)
    lengths = [[3, 0, 7], [], [1, 12]]
    blocks = random_blocks(rng, lengths, d_sae=9, l0=3.0, ties=ties)
    tokens = int(rng.integers(0, 24))
    m = read_membership(blocks, d_sae=9, k=k, tokens=tokens)
    wanted, active, documents = [], Counter(), []
    for block in blocks:
        for t in range(len(block)):
            if len(wanted) == tokens:
                break
            entries = range(block.indptr[t], block.indptr[t + 1])
            best = sorted(entries, key=lambda e: (-block.values[e], block.indices[e]))[:k]
            wanted.append(sorted(int(block.indices[e]) for e in best))
            active.update(int(block.indices[e]) for e in entries)
            documents.append(block.tokens.document[t])
    assert rows_of(m) == wanted
    assert m.active.tolist() == [active[i] for i in range(9)]
    assert m.document.tolist() == documents
    for first in (None, len(m) // 2):
        for min_count in (1, 2):
            together = Counter(p for row in wanted[:first] for p in itertools.combinations(row, 2))
            pairs, count = edges(m, first, min_count=min_count)
            some = {p: n for p, n in together.items() if n >= min_count}
            assert [tuple(p) for p in pairs.tolist()] == sorted(some)
            assert count.tolist() == [some[p] for p in sorted(some)]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    path = tmp_path_factory.mktemp("membership") / "a.atlas"
    run(path, model(), [named(topk(k=8), "top")], texts(12))
    with Atlas.open(path) as opened:
        yield opened


def test_edges_equal_those_of_the_atlas(atlas):
    table = atlas.table("CO_ACTIVATES").to_pylist()
    wanted = {(int(e["source"][4:]), int(e["target"][4:])): e["count"] for e in table}
    m = open_membership(atlas.folder, "top")
    pairs, count = edges(m)
    assert dict(zip(map(tuple, pairs.tolist()), count.tolist(), strict=True)) == wanted
    assert len(wanted) > 50
    assert m.active.tolist() == atlas.features("top")["active_tokens"].to_pylist()
    assert len(open_membership(atlas.folder, "top", tokens=7)) == 7


def test_bad_input_is_refused(atlas, tmp_path):
    with pytest.raises(UnknownName, match="tap"):
        open_membership(atlas.folder, "tap")
    with pytest.raises(BadInput, match="999,999 tokens of top"):
        open_membership(atlas.folder, "top", tokens=999_999)
    without = tmp_path / "b.atlas"
    run(without, model(), [named(topk(), "top")], texts(5), settings=Settings(keep_codes=False))
    with Atlas.open(without) as other, pytest.raises(Missing, match="--keep-codes --replace"):
        open_membership(other.folder, "top")


@pytest.mark.parametrize("within", [False, True])
def test_swaps_preserve_counts_of_tokens_and_features(within):
    rng = np.random.default_rng(0)
    blocks = random_blocks(rng, [[40, 1, 60], [99]], d_sae=30, l0=4.0)
    m = read_membership(blocks, d_sae=30, k=4)
    drawn = swapped(m, 1, within_documents=within)
    assert (drawn.features != m.features).mean() > 0.5
    assert drawn.indptr is m.indptr
    assert (drawn.counts() == m.counts()).all()
    assert all(row == sorted(set(row)) for row in rows_of(drawn))
    row = np.repeat(m.document, np.diff(m.indptr))
    by_document = [
        [np.bincount(x.features[row == d], minlength=30).tolist() for d in np.unique(m.document)]
        for x in (m, drawn)
    ]
    assert (by_document[0] == by_document[1]) == within
    assert (swapped(m, 1, within_documents=within).features == drawn.features).all()
    assert (swapped(m, 2, within_documents=within).features != drawn.features).any()


def test_all_tables_of_these_counts_are_equally_likely():
    rows = [[0, 1], [0, 2], [1, 3], [2]]
    m = made(rows)
    assert_uniform(
        rows, [rows_of(swapped(m, seed, within_documents=False)) for seed in range(4000)]
    )


def test_all_tables_of_a_document_are_equally_likely():
    # Documents are independent, so each copy of one is a draw.
    rows, copies = [[0, 1], [0, 2], [1, 3], [2]], 4000
    m = made(rows * copies, documents=np.repeat(np.arange(copies), len(rows)).tolist())
    drawn = rows_of(swapped(m, 0, within_documents=True))
    assert_uniform(rows, [drawn[at : at + len(rows)] for at in range(0, len(drawn), len(rows))])


def assert_uniform(rows, draws):
    states = sorted(all_tables(rows))
    found = Counter(map(str, draws))
    assert len(states) > 10
    assert set(found) == set(states)
    assert stats.chisquare([found[s] for s in states]).pvalue > 1e-3


def all_tables(rows):
    """Yield, as text, all tables with the same counts of each token and of each feature."""
    wanted = Counter(f for row in rows for f in row)
    choices = [itertools.combinations(range(4), len(row)) for row in rows]
    for table in itertools.product(*choices):
        if Counter(f for row in table for f in row) == wanted:
            yield str([list(row) for row in table])


def test_tables_without_swaps():
    for rows in ([], [[]], [[0, 1]], [[0], [0]]):
        m = made(rows, d_sae=2)
        drawn = swapped(m, 0, within_documents=True)
        assert rows_of(drawn) == rows
        pairs, count = edges(drawn)
        assert len(pairs) == len(count) == sum(len(r) == 2 for r in rows)
