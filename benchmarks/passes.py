"""Processor time of both passes of all reductions over codes; an ingest overlaps the first with the model.

    OMP_NUM_THREADS=1 python -m benchmarks.passes

Codes are those of ``benchmarks.coactivation``, with Zipf-like token ids.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from atlas.cli.output.tables import print_table
from atlas.progress import SILENT
from benchmarks.coactivation import BLOCK_TOKENS, Shape, in_subprocess, some
from ingest.codes.store import Block, write_shard
from ingest.reduce import on_codes
from ingest.reduce.protocol import Sizes
from ingest.reduce.runner import FirstPass, plan_all, reduce_shards
from ingest.settings import Settings

VOCABULARY = 50_000


def main() -> None:
    """Measure and print microseconds per token."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8 * BLOCK_TOKENS)
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--l0", type=int, default=70)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    found = in_subprocess(passes, Shape(args.tokens, args.d_sae, args.l0))
    if args.json:
        print(json.dumps(found))
    else:
        print_table([found])


def passes(shape: Shape) -> dict[str, float]:
    """Return the processor time of a token in the first pass, and in all others."""
    with tempfile.TemporaryDirectory() as folder:
        measured(Shape(500, 50, 5), Path(folder) / "small.arrow")  # compiles loops
        return measured(shape, Path(folder) / "shard.arrow")


def measured(shape: Shape, path: Path) -> dict[str, float]:
    """Reduce one shard."""
    blocks = list(codes(shape))
    write_shard(path, blocks, sae="synthetic", d_sae=shape.d_sae, first=0)
    tokens, entries = sum(map(len, blocks)), sum(len(b.values) for b in blocks)
    sizes = Sizes(1, shape.d_sae, tokens, entries / tokens, VOCABULARY, codes_stored=True)
    reductions = on_codes(Settings())
    plans = plan_all(reductions, sizes, memory=Settings().memory)
    began = time.process_time()
    first = FirstPass(reductions, plans, sizes=sizes)
    first.add(path)
    between = time.process_time()
    with SILENT.stage("") as stage:
        reduce_shards([path], reductions, plans, sizes=sizes, stage=stage, first=first)
    end = time.process_time()
    return {
        "tokens": tokens,
        "d_sae": shape.d_sae,
        "l0": round(entries / tokens, 1),
        "first_us": round(1e6 * (between - began) / tokens, 1),
        "rest_us": round(1e6 * (end - between) / tokens, 1),
    }


def codes(shape: Shape) -> Iterator[Block]:
    """Yield the blocks, with token ids at rates that fall as 1 / (rank + 10)."""
    rate = 1.0 / (np.arange(VOCABULARY) + 10.0)
    edges = np.cumsum(rate) / rate.sum()
    rng = np.random.default_rng(3)
    for block in some(shape, range(-(-shape.tokens // BLOCK_TOKENS))):
        ids = np.searchsorted(edges, rng.random(len(block))).astype(np.int32)
        ids = np.minimum(ids, VOCABULARY - 1)
        yield replace(block, tokens=replace(block.tokens, token_id=ids))


if __name__ == "__main__":
    main()
