"""Every reduction over codes: from files, through checkpoints, and without tokens."""

from pathlib import Path

import numpy as np
import pytest
from random_codes import assert_same, random_blocks, reduce, sizes_of, subject

from atlas.schema import arrow_schema, table
from ingest.codes.store import Block, read_shard, write_shard
from ingest.reduce import on_codes
from ingest.reduce.protocol import CodeReduction
from ingest.settings import Settings

REDUCTIONS = pytest.mark.parametrize("reduction", on_codes(Settings(seed=1)), ids=lambda r: r.name)


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    rng = np.random.default_rng(8)
    return random_blocks(rng, [[30, 50], [], [90], [1, 1, 1]], d_sae=25, l0=4, always=True)


@REDUCTIONS
def test_codes_from_a_file_have_the_same_tables(
    reduction: CodeReduction, blocks: list[Block], tmp_path: Path
) -> None:
    path = tmp_path / "shard.arrow"
    write_shard(path, blocks, sae="toy", d_sae=25, first=0)
    sizes = sizes_of(blocks, 25)
    one, other = (
        list(reduction.tables(reduce(reduction, some, sizes=sizes), subject(25)))
        for some in (blocks, list(read_shard(path)))
    )
    assert_same(one, other, rtol=0)


@REDUCTIONS
def test_a_state_can_be_saved_loaded_and_merged(
    reduction: CodeReduction, blocks: list[Block], tmp_path: Path
) -> None:
    sizes = sizes_of(blocks, 25, codes_stored=False)
    unsplit = reduce(reduction, blocks, sizes=sizes)
    (state,) = reduce(reduction, blocks[:2], sizes=sizes)
    np.savez(tmp_path / "state.npz", **state)  # type: ignore[arg-type]
    with np.load(tmp_path / "state.npz") as stored:
        loaded = dict(stored)
    (rest,) = reduce(reduction, blocks[2:], sizes=sizes)
    merged = reduction.merge(loaded, rest)
    assert_same(
        list(reduction.tables(unsplit, subject(25))), list(reduction.tables([merged], subject(25)))
    )


@REDUCTIONS
def test_tables_of_the_graph_have_the_types_of_the_schema(
    reduction: CodeReduction, blocks: list[Block]
) -> None:
    for made in reduction.tables(
        reduce(reduction, blocks, sizes=sizes_of(blocks, 25)), subject(25)
    ):
        if made.name != made.name.lower():
            assert made.data.schema.equals(arrow_schema(made.name, reduction.name))
            made.data.validate(full=True)
            for key in table(made.name).keys:
                assert made.data[key].null_count == 0


@REDUCTIONS
def test_a_shard_without_tokens_makes_a_state(reduction: CodeReduction) -> None:
    empty = random_blocks(np.random.default_rng(0), [[]], d_sae=3, l0=1)
    sizes = sizes_of(empty, 3)
    made = list(reduction.tables(reduce(reduction, empty, sizes=sizes), subject(3)))
    assert {t.name: t.data.num_rows for t in made if t.name == "Feature"} in ({}, {"Feature": 3})
