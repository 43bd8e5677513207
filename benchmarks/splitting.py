"""Feature splitting at size, and the edges of known trees next to two simpler rules.

    python -m benchmarks.splitting             time and memory, 16,384 into 65,536 features
    python -m benchmarks.splitting --truth     precision and recall on hierarchical features of sae-lens

The codes of the first are made here: features of Zipf-like rates, the wide SAE with the tokens of four
parts of each feature of the narrow one. The study's functions run on them as after the reading of an
atlas, in a process of its own; its peak memory includes the codes, the directions and the libraries.
"""

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from analysis.splitting.containment import ActiveTokens, Columns
from analysis.splitting.hierarchy import hierarchy
from analysis.splitting.settings import SplittingSettings
from analysis.statistics.directions import unit_rows
from atlas.cli.output.tables import print_table
from benchmarks.coactivation import Shape, block, in_subprocess, peak_gib
from ingest.match.aligned_codes import CodeRows

PARTS = 4  # features of the wide SAE for each of the narrow one
DOCUMENT = 500  # tokens

Vectors = NDArray[np.float32]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--narrow", type=int, default=16_384, help="features of the narrow SAE")
    parser.add_argument("--d-in", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--l0", type=int, default=64)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--truth", action="store_true", help="known trees instead")
    parser.add_argument("--seeds", type=int, default=5, help="trees")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.truth:
        found = truth(args.seeds)
    else:
        shape = Shape(args.tokens, args.narrow, args.l0)
        found = [in_subprocess(at_size, shape, d_in=args.d_in, draws=args.draws)]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print_table(found)


def at_size(shape: Shape, *, d_in: int, draws: int) -> dict[str, object]:
    """Split each feature into parts, half of them with its direction, and time the study."""
    run(Shape(500, 20, 4), 4, draws=3)  # compiling is not timed
    return run(shape, d_in, draws=draws)


def run(shape: Shape, d_in: int, *, draws: int) -> dict[str, object]:
    """Make the codes and directions, and measure."""
    rng = np.random.default_rng(0)
    made = block(rng, 0, shape)
    narrow = CodeRows(made.indptr, made.indices, made.values, shape.d_sae)
    # Each activation belongs to one of the parts of its feature.
    part = rng.integers(0, PARTS, len(made.indices), dtype=np.uint32)
    indices = made.indices * np.uint32(PARTS) + part
    wide = CodeRows(made.indptr, indices, made.values, PARTS * shape.d_sae)
    a = unit_rows(rng.standard_normal((shape.d_sae, d_in), dtype=np.float32), dtype=np.float32)
    b = unit_rows(
        rng.standard_normal((PARTS * shape.d_sae, d_in), dtype=np.float32), dtype=np.float32
    )
    related = np.arange(len(b)) % 2 == 0
    b[related] += a[np.flatnonzero(related) // PARTS]
    document = np.arange(shape.tokens, dtype=np.int64) // DOCUMENT
    began, cpu = time.perf_counter(), time.process_time()
    tokens = ActiveTokens(Columns.of(narrow), Columns.of(wide), document)
    found = hierarchy((a, b), tokens, SplittingSettings(draws=draws))
    seconds = time.perf_counter() - began
    edges = found.edges
    right = (edges.child // PARTS == edges.parent) & related[edges.child]
    testable = related & (tokens.wide.count >= SplittingSettings().min_joint)
    return {
        "narrow": shape.d_sae,
        "wide": PARTS * shape.d_sae,
        "tokens": shape.tokens,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": peak_gib(),
        "edges": len(edges),
        "precision": float(right.mean()) if len(edges) else None,
        "recall": float(right.sum() / max(testable.sum(), 1)),
    }


def truth(seeds: int) -> list[dict[str, object]]:
    """Compare the edges of known trees with the nearest direction and the highest Jaccard index."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from splitting_trees import known_tree, scores

    rows = []
    for miss, noise in ((0.0, 0.0), (0.1, 0.3), (0.2, 0.6)):
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(seeds):
            tree = known_tree(seed, miss=miss, noise=noise)
            edges = hierarchy(tree.vectors, tree.tokens).edges
            pairs = zip(edges.parent.tolist(), edges.child.tolist(), strict=True)
            found.setdefault("SPLITS_INTO", []).append(scores(pairs, tree.edges))
            x, y = (unit_rows(v) for v in tree.vectors)
            a, b = tree.active_narrow.astype(float), tree.active_wide.astype(float)
            joint = a.T @ b
            jaccard = joint / (a.sum(axis=0)[:, None] + b.sum(axis=0) - joint)
            for name, alone in (("decoder cosine alone", x @ y.T), ("Jaccard alone", jaccard)):
                best = [(int(i), j) for j, i in enumerate(alone.argmax(axis=0))]
                found.setdefault(name, []).append(scores(best, tree.edges))
        for name, each in found.items():
            precision, recall = np.mean(each, axis=0)
            rows.append(
                {
                    "missed activations": miss,
                    "error of directions": noise,
                    "rule": name,
                    "precision": float(precision),
                    "recall": float(recall),
                }
            )
    return rows


if __name__ == "__main__":
    main()
