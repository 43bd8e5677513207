"""Correlations of all pairs of two SAEs, compared with dense column blocks; growth.

    python -m benchmarks.correlate             the ratio, on the same codes
    python -m benchmarks.correlate --growth    time and memory over tokens and over width

The original study standardises the dense activations of both SAEs, and multiplies all of A by
blocks of 100 columns of B. Some blocks are timed and scaled to all; the standardisation is
timed for all of A and for these blocks of B. The atlas computes the best 3 matches of every
feature in both directions from sparse codes. Compilation is not timed. Both sides use pairs
that are active together at least once. The best correlations of the timed blocks must agree.
Each side has a process of its own, whose peak memory is reported; the memory that the original
needs for all columns is computed from the sizes. Features are independent, with rates that
fall as 1 / (rank + 20).
"""

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.coactivation import Shape, block, in_subprocess, peak_gib, table
from ingest.match.aligned_codes import CodeRows
from ingest.match.correlate import Correlator

COLUMNS = 100  # of B, a block, in the source
CHUNK = 10_000  # rows that the source multiplies at a time
TOLERANCE = 1e-4  # the source's sums are in 32 bits

Floats = NDArray[np.float64]


def main() -> None:
    """Run what the command line asks for."""
    args = arguments()
    shape = Shape(args.tokens, args.features, args.l0)
    found = growth(shape, args) if args.growth else [ratio(shape, args)]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    table(found)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=int, default=16_384, help="of either SAE")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--l0", type=int, default=70)
    parser.add_argument("--memory", type=int, default=4 * 2**30, help="bytes, as in match")
    parser.add_argument("--blocks", type=int, default=4, help="blocks the source is timed on")
    parser.add_argument("--growth", action="store_true", help="over tokens x1, x4, x16, and width")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


# ---------------------------------------------------------------- the two sides


def ratio(shape: Shape, args: argparse.Namespace) -> dict[str, object]:
    """Time both sides on the same codes, and hold their best correlations together."""
    ours, best = in_subprocess(correlate, shape, memory=args.memory)
    theirs, expected = in_subprocess(dense, shape, blocks=args.blocks)
    apart_by = np.abs(best[: len(expected)] - expected).max()
    if apart_by > TOLERANCE:
        raise SystemExit(f"The best correlations differ by {apart_by:g}.")
    return {
        "tokens": shape.tokens,
        "features": shape.d_sae,
        "ours_seconds": ours["seconds"],
        "dense_seconds_scaled": theirs["seconds"],
        "ratio": theirs["seconds"] / ours["seconds"],
        "ours_peak_gib": ours["peak_gib"],
        "dense_peak_gib": theirs["peak_gib"],
        # Both SAEs' z-scores, as the source holds them; the run above holds one block of B.
        "dense_gib_by_arithmetic": 2 * shape.tokens * shape.d_sae * 4 / 2**30,
        "blocks_run": args.blocks,
        "greatest_difference": float(apart_by),
    }


def correlate(shape: Shape, *, memory: int) -> tuple[dict[str, float], Floats]:
    """Time ours; return also the best correlation of each feature of B."""
    compile_loops()
    a, b = codes(shape, 1), codes(shape, 2)
    began, cpu = time.perf_counter(), time.process_time()
    work = Correlator(a, b, best=3, min_joint=1, memory=memory)
    pairs = work.pairs()
    found = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": peak_gib(),
        "codes_gib": sum(x.indices.nbytes + x.values.nbytes for x in (a, b)) / 2**30,
        "passes": work.passes,
        "pairs": len(pairs),
    }
    best = np.zeros(shape.d_sae)
    first = pairs.rank_ba == 0
    best[pairs.b[first]] = pairs.pearson[first]
    return found, best


def dense(shape: Shape, *, blocks: int) -> tuple[dict[str, float], Floats]:
    """Time the source's method on some blocks of B; return also their best correlations."""
    import torch

    z_scored(torch.rand(10, 10)).T @ torch.rand(10, 10)  # what torch does once is not timed
    a, b = codes(shape, 1), codes(shape, 2)
    complete = filled(a, 0, shape.d_sae)
    began = time.perf_counter()
    a_n = z_scored(complete)
    scoring = time.perf_counter() - began
    of_blocks, best = 0.0, []
    for first in range(0, min(blocks * COLUMNS, shape.d_sae), COLUMNS):
        columns = filled(b, first, min(first + COLUMNS, shape.d_sae))
        began = time.perf_counter()
        b_n = z_scored(columns)
        r = torch.zeros(shape.d_sae, columns.shape[1])
        for row in range(0, shape.tokens, CHUNK):
            r += a_n[row : row + CHUNK].T @ b_n[row : row + CHUNK]
        best.append((r / shape.tokens).max(dim=0).values)
        of_blocks += time.perf_counter() - began
    share = sum(map(len, best)) / shape.d_sae
    # The source divides by N what it scaled by N - 1.
    expected = torch.cat(best).clamp(min=0).double().numpy() * shape.tokens / (shape.tokens - 1)
    return {"seconds": scoring + of_blocks / share, "peak_gib": peak_gib()}, expected


def z_scored(columns):  # type: ignore[no-untyped-def]
    """Centre and scale columns in place, as the source does (it makes copies)."""
    columns -= columns.mean(dim=0)
    columns /= columns.std(dim=0) + 1e-8
    return columns


def filled(rows: CodeRows, first: int, end: int):  # type: ignore[no-untyped-def]
    """Return some columns of the codes as a dense tensor."""
    import torch

    out = torch.zeros(len(rows), end - first)
    row = np.repeat(np.arange(len(rows)), np.diff(rows.indptr))
    here = (rows.indices >= first) & (rows.indices < end)
    at = row[here], rows.indices[here].astype(np.int64) - first
    out[tuple(map(torch.from_numpy, at))] = torch.from_numpy(rows.values[here])
    return out


def codes(shape: Shape, seed: int) -> CodeRows:
    """Make an SAE's codes."""
    made = block(np.random.default_rng(seed), 0, shape)
    return CodeRows(made.indptr, made.indices, made.values, made.d_sae)


def compile_loops() -> None:
    """Run once on a few tokens, so that compiling is not timed."""
    a = codes(Shape(100, 50, 5), 0)
    Correlator(a, a, best=3, min_joint=1, memory=2**30).pairs()


# ---------------------------------------------------------------- growth


def growth(shape: Shape, args: argparse.Namespace) -> list[dict[str, object]]:
    """Measure over tokens at one width, and over width at one number of tokens."""
    over_tokens = [Shape(shape.tokens * times, shape.d_sae, shape.l0) for times in (1, 4, 16)]
    over_width = [Shape(shape.tokens, shape.d_sae * times // 4, shape.l0) for times in (1, 2, 4, 8)]
    return [
        {
            "tokens": s.tokens,
            "features": s.d_sae,
            **in_subprocess(correlate, s, memory=args.memory)[0],
        }
        for s in [*over_tokens, *over_width]
    ]


if __name__ == "__main__":
    main()
