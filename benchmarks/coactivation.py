"""Co-activation compared with the loop over tokens of the original study; growth and memory.

    python -m benchmarks.coactivation             the ratio, on the same codes
    python -m benchmarks.coactivation --growth    time and memory over tokens and over width
    python -m benchmarks.coactivation --at-size   131,072 features, L0 64, 1 M tokens

Codes are synthetic: Zipf-like rates, log-normal activations, one document a block. The
reduction runs as in ``atlas ingest``, from files of codes to the table of edges. Each
measurement has a process of its own. Its peak memory includes Python, the libraries and the
pages of the files that it has read. Seconds are by the clock; on a busy machine, compare the
processor seconds of all threads instead.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from atlas.progress import SILENT
from ingest.codes.store import Block, Tokens, read_shard, write_shard
from ingest.reduce.coactivation import Coactivation
from ingest.reduce.protocol import ReducedSae, Sizes
from ingest.reduce.runner import plan_all, reduce_shards

T = TypeVar("T")

BLOCK_TOKENS = 16_384  # about 64 KiB of text, and the batch of the source
SHARD_BLOCKS = 8

# Features of a token are drawn with replacement: a few more are drawn than are wanted.
DRAWN = 1.06


@dataclass(frozen=True)
class Shape:
    """How large the synthetic codes are."""

    tokens: int
    d_sae: int
    l0: int


def main() -> None:
    """Run what the command line asks for."""
    args = arguments()
    if args.growth:
        found = growth(args)
    elif args.at_size:
        shape = Shape(1_000_000, 131_072, 64)
        found = [measured(shape, k=args.k, memory=args.memory)]
    else:
        found = [ratio(Shape(args.tokens, args.d_sae, args.l0), args)]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    table(found)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8 * BLOCK_TOKENS)
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--l0", type=int, default=70)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--memory", type=int, default=4 * 2**30, help="bytes, as in ingest")
    parser.add_argument("--sample", type=int, default=200, help="tokens that the loop is timed on")
    parser.add_argument("--growth", action="store_true", help="over tokens x1, x4, x16, and width")
    parser.add_argument("--at-size", action="store_true", help="131,072 features, 1 M tokens")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


# ---------------------------------------------------------------- the two sides


def ratio(shape: Shape, args: argparse.Namespace) -> dict[str, object]:
    """Time the loop and the reduction on the same codes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = in_subprocess(make, shape, Path(folder))
        ours = in_subprocess(reduce_files, paths, shape, k=args.k, memory=args.memory)
        loop = in_subprocess(time_loop, paths[0], k=args.k, sample=args.sample)
    # What the loop takes for the complete text, from what it takes for a token of the sample.
    complete = loop["seconds_a_token"] * shape.tokens
    return {
        "tokens": shape.tokens,
        "d_sae": shape.d_sae,
        "l0": ours["l0"],
        "loop_sampled_tokens": args.sample,
        "loop_seconds_scaled": complete,
        "ours_seconds": ours["seconds"],
        "ratio": complete / ours["seconds"],
        "loop_peak_gib": loop["peak_gib"],
        "ours_peak_gib": ours["peak_gib"],
    }


def time_loop(path: Path, *, k: int, sample: int) -> dict[str, float]:
    """Time the original method: the top k of each token, and for each pair of them the cosine
    of both columns over the batch, from columns that are normalised again for each token.
    """
    import torch

    torch.set_num_threads(2)
    block = next(iter(read_shard(path)))
    acts = torch.zeros(len(block), block.d_sae)
    rows = torch.from_numpy(block.rows)
    acts[rows, torch.from_numpy(block.indices.astype(np.int64))] = torch.from_numpy(
        block.values.copy()
    )
    count: dict[tuple[int, int], int] = {}
    weight: dict[tuple[int, int], float] = {}

    def one(t: int) -> None:
        top = acts[t].abs().topk(k).indices
        unit = torch.nn.functional.normalize(acts[:, top], dim=0)
        similar = unit.T @ unit
        features = top.tolist()
        for a, b in itertools.combinations(range(k), 2):
            pair = (min(features[a], features[b]), max(features[a], features[b]))
            count[pair] = count.get(pair, 0) + 1
            weight[pair] = weight.get(pair, 0.0) + float(similar[a, b])

    for t in range(5):
        one(t)
    began = time.perf_counter()
    for t in range(sample):
        one(t)
    return {"seconds_a_token": (time.perf_counter() - began) / sample, "peak_gib": peak_gib()}


def reduce_files(paths: list[Path], shape: Shape, *, k: int, memory: int) -> dict[str, float]:
    """Time the reduction from files to the table of edges."""
    reduction = Coactivation(k=k)
    compile_loops(reduction)
    subject = ReducedSae("synthetic", shape.d_sae, "none", lambda ids: [""] * len(ids))
    l0 = sum(len(b.values) for path in paths for b in read_shard(path)) / shape.tokens
    sizes = Sizes(1, shape.d_sae, shape.tokens, l0, 1, True)
    began, cpu = time.perf_counter(), time.process_time()
    plans = plan_all([reduction], sizes, memory=memory)
    with SILENT.stage("reducing", total=1, unit="shards") as stage:
        finals = reduce_shards(paths, [reduction], plans, sizes=sizes, stage=stage)
    (edges,) = reduction.tables(finals["coactivation"], subject)
    return {
        "l0": l0,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": peak_gib(),
        "passes": plans["coactivation"].passes,
        "planned_gib": plans["coactivation"].bytes / 2**30,
        "edges": edges.data.num_rows,
        "table_gib": edges.data.nbytes / 2**30,
    }


def compile_loops(reduction: Coactivation) -> None:
    """Run once on a few tokens, so that compiling is not timed."""
    shape = Shape(100, 50, 5)
    sizes = Sizes(1, 50, 100, 5.0, 1, True)
    first = reduction.start(0, [], sizes=sizes, passes=2)
    reduction.update(first, block(np.random.default_rng(0), 0, shape))
    second = reduction.start(1, [first], sizes=sizes, passes=2)
    reduction.update(second, block(np.random.default_rng(0), 0, shape))


# ---------------------------------------------------------------- growth


def growth(args: argparse.Namespace) -> list[dict[str, object]]:
    """Measure over tokens at one width, and over width at one number of tokens."""
    over_tokens = [Shape(args.tokens * times, args.d_sae, args.l0) for times in (1, 4, 16)]
    over_width = [
        Shape(args.tokens, args.d_sae * times // 4, args.l0) for times in (1, 2, 4, 8, 16)
    ]
    return [measured(s, k=args.k, memory=args.memory) for s in [*over_tokens, *over_width]]


def measured(shape: Shape, *, k: int, memory: int) -> dict[str, object]:
    """Make codes and reduce them, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        paths = in_subprocess(make, shape, Path(folder))
        found = in_subprocess(reduce_files, paths, shape, k=k, memory=memory)
    return {
        "tokens": shape.tokens,
        "d_sae": shape.d_sae,
        **found,
        "us_a_token": 1e6 * found["seconds"] / shape.tokens,
        "cpu_us_a_token": 1e6 * found["cpu_seconds"] / shape.tokens,
    }


def in_subprocess(work: Callable[..., T], *args: object, **kwargs: object) -> T:
    """Call in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *args, **kwargs).result()


def peak_gib() -> float:
    """Return the most memory this process has had, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


# ---------------------------------------------------------------- codes


def make(shape: Shape, folder: Path) -> list[Path]:
    """Write synthetic codes, shard by shard."""
    paths = []
    blocks = -(-shape.tokens // BLOCK_TOKENS)
    for shard, first in enumerate(range(0, blocks, SHARD_BLOCKS)):
        path = folder / f"shard-{shard:05d}.arrow"
        numbers = range(first, min(first + SHARD_BLOCKS, blocks))
        write_shard(path, some(shape, numbers), sae="synthetic", d_sae=shape.d_sae, first=first)
        paths.append(path)
    return paths


def some(shape: Shape, numbers: range) -> Iterator[Block]:
    """Make blocks, each from a seed of its own."""
    for number in numbers:
        tokens = min(BLOCK_TOKENS, shape.tokens - number * BLOCK_TOKENS)
        yield block(np.random.default_rng(number), number, Shape(tokens, shape.d_sae, shape.l0))


def block(rng: np.random.Generator, number: int, shape: Shape) -> Block:
    """Make one block; features are active independently, at rates that fall as 1 / (rank + 20)."""
    rate = 1.0 / (np.arange(shape.d_sae) + 20.0)
    edges = np.cumsum(rate) / rate.sum()
    drawn = int(shape.l0 * DRAWN)
    feature = np.searchsorted(edges, rng.random((shape.tokens, drawn), dtype=np.float32))
    feature = np.random.default_rng(7).permutation(shape.d_sae)[
        np.minimum(feature, shape.d_sae - 1)
    ]
    feature.sort(axis=1)
    fresh = np.ones(feature.shape, dtype=bool)
    fresh[:, 1:] = feature[:, 1:] != feature[:, :-1]
    n = np.arange(shape.tokens, dtype=np.int32)
    indptr = np.concatenate([[0], np.cumsum(fresh.sum(1))]).astype(np.int64)
    return Block(
        number,
        Tokens(n % 50, np.full(len(n), number), n, n, n, n),
        indptr,
        feature[fresh].astype(np.uint32),
        np.exp(rng.standard_normal(indptr[-1], dtype=np.float32)),
        shape.d_sae,
    )


def table(found: list[dict[str, object]]) -> None:
    """Print one row each."""
    names = list(found[0])
    cells = [[shown(row[name]) for name in names] for row in found]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in [names, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def shown(value: object) -> str:
    """Return a number as people read it."""
    return f"{value:,.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
