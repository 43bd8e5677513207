"""One-to-one assignment: at size from sparse candidates, and SciPy's dense solver beside it.

    python -m benchmarks.assign                131,072 features, 8 candidates each
    python -m benchmarks.assign --at 16384     another size

Each feature has 8 candidates, drawn at random. The dense solver runs at a size that it can
do, on the same kind of candidates (all other pairs are worth nothing), and there both must
reach the same total. CPU seconds say more on a busy machine. Its time grows with the cube of the size, its memory with the square.
"""

import argparse
import json
import time

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.coactivation import apart, peak_gib, table
from ingest.match.assign import one_to_one
from ingest.match.pairs import Pairs

THRESHOLD = 0.1


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at", type=int, default=131_072, help="features of either SAE")
    parser.add_argument("--candidates", type=int, default=8, help="of each feature")
    parser.add_argument("--dense-at", type=int, default=4096, help="features, for both solvers")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    found = [
        apart(sparse, asked.at, asked.candidates),
        apart(sparse, asked.dense_at, asked.candidates),
        apart(dense, asked.dense_at, asked.candidates),
    ]
    if not np.isclose(found[1]["total"], found[2]["total"], rtol=1e-9):
        raise SystemExit("The two solvers reach different totals.")
    names = ("ours, at size", "ours", "SciPy, dense")
    if asked.json:
        print(json.dumps(dict(zip(names, found, strict=True)), indent=2))
        return
    print("Rows:", "; ".join(names))
    table([dict(row) for row in found])


def sparse(features: int, candidates: int) -> dict[str, float]:
    """Time ours."""
    pairs = some(features, candidates)
    one_to_one(some(50, 3), threshold=THRESHOLD)
    base, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    chosen = one_to_one(pairs, threshold=THRESHOLD)
    seconds = time.perf_counter() - began, time.process_time() - cpu
    total = float((pairs.pearson[chosen] - THRESHOLD).sum())
    return told(features, seconds, base, int(chosen.sum()), total)


def dense(features: int, candidates: int) -> dict[str, float]:
    """Time SciPy's dense solver on the same candidates."""
    pairs = some(features, candidates)
    base, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    worth = np.zeros((features, features))
    worth[pairs.a, pairs.b] = np.maximum(pairs.pearson - THRESHOLD, 0)
    of_row = worth[linear_sum_assignment(worth, maximize=True)]
    seconds = time.perf_counter() - began, time.process_time() - cpu
    return told(features, seconds, base, int((of_row > 0).sum()), float(of_row.sum()))


def told(
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
