"""One-to-one assignment: at size from sparse candidates, and SciPy's dense and sparse solvers for comparison.

    python -m benchmarks.assign                131,072 features, 8 candidates each
    python -m benchmarks.assign --at 16384     another size
    python -m benchmarks.assign --sparse-at 131072    SciPy's sparse solver at size: minutes

Each feature has 8 candidates, drawn at random. SciPy's solvers run at a size that the dense one
can do, on the same kind of candidates (all other pairs are worth nothing), and there all must
reach the same total. CPU seconds say more on a busy machine. The dense solver's time grows with
the cube of the size, its memory with the square.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from benchmarks.coactivation import in_subprocess, peak_gib, table
from ingest.match.assign import one_to_one
from ingest.match.pairs import Pairs

THRESHOLD = 0.1


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at", type=int, default=131_072, help="features of either SAE")
    parser.add_argument("--candidates", type=int, default=8, help="of each feature")
    parser.add_argument("--peers-at", type=int, default=4096, help="features, for all solvers")
    parser.add_argument("--sparse-at", type=int, help="features, for SciPy's sparse solver")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.sparse_at:
        found = [
            in_subprocess(of, args.sparse_at, args.candidates) for of in (sparse, scipy_sparse)
        ]
        names, same = ("ours", "SciPy, sparse"), found
    else:
        found = [
            in_subprocess(sparse, args.at, args.candidates),
            in_subprocess(sparse, args.at, args.candidates, tied=True),
            in_subprocess(sparse, args.peers_at, args.candidates),
            in_subprocess(scipy_sparse, args.peers_at, args.candidates),
            in_subprocess(dense, args.peers_at, args.candidates),
        ]
        names = ("ours, at size", "the same, two weights", "ours", "SciPy, sparse", "SciPy, dense")
        same = found[2:]
    if not np.allclose([row["total"] for row in same], same[0]["total"], rtol=1e-9):
        raise SystemExit("The solvers reach different totals.")
    if args.json:
        print(json.dumps(dict(zip(names, found, strict=True)), indent=2))
        return
    print("Rows:", "; ".join(names))
    table([dict(row) for row in found])


def sparse(features: int, candidates: int, *, tied: bool = False) -> dict[str, float]:
    """Time ours; with ties all candidates have one of two weights."""
    pairs = some(features, candidates)
    if tied:
        pairs = replace(pairs, pearson=np.where(pairs.pearson > 0.5, 1.0, 0.5))
    one_to_one(some(50, 3), threshold=THRESHOLD)
    base, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    chosen = one_to_one(pairs, threshold=THRESHOLD)
    seconds = time.perf_counter() - began, time.process_time() - cpu
    total = float((pairs.pearson[chosen] - THRESHOLD).sum())
    return report(features, seconds, base, int(chosen.sum()), total)


def scipy_sparse(features: int, candidates: int) -> dict[str, float]:
    """Time SciPy's sparse solver, with a column of its own for each row that has no partner."""
    pairs = some(features, candidates)
    base, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    worth = pairs.pearson > THRESHOLD
    nobody = np.arange(features)
    weight = np.concatenate([1 + pairs.pearson[worth] - THRESHOLD, np.ones(features)])
    rows = np.concatenate([pairs.a[worth], nobody])
    columns = np.concatenate([pairs.b[worth], features + nobody])
    graph = csr_array((weight, (rows, columns)), shape=(features, 2 * features))
    _, of_row = found = min_weight_full_bipartite_matching(graph, maximize=True)
    seconds = time.perf_counter() - began, time.process_time() - cpu
    total = float(graph[found].sum()) - features
    return report(features, seconds, base, int((of_row < features).sum()), total)


def dense(features: int, candidates: int) -> dict[str, float]:
    """Time SciPy's dense solver on the same candidates."""
    pairs = some(features, candidates)
    base, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    worth = np.zeros((features, features))
    worth[pairs.a, pairs.b] = np.maximum(pairs.pearson - THRESHOLD, 0)
    of_row = worth[linear_sum_assignment(worth, maximize=True)]
    seconds = time.perf_counter() - began, time.process_time() - cpu
    return report(features, seconds, base, int((of_row > 0).sum()), float(of_row.sum()))


def report(
    features: int, seconds: tuple[float, float], base: float, chosen: int, total: float
) -> dict[str, float]:
    """Return one row of the table."""
    return {
        "features": features,
        "seconds": seconds[0],
        "cpu_seconds": seconds[1],
        "peak_gib": peak_gib(),
        "of_these_before": base,
        "chosen": chosen,
        "total": total,
    }


def some(features: int, candidates: int) -> Pairs:
    """Make candidates."""
    rng = np.random.default_rng(features)
    a = np.repeat(np.arange(features), candidates)
    key = np.unique(a * features + rng.integers(0, features, len(a)))
    a, b = np.divmod(key, features)
    r, none = rng.random(len(key)), np.zeros(len(key), dtype=np.int64)
    return Pairs(a, b, r, r, none, none, none, none, none)


if __name__ == "__main__":
    main()
