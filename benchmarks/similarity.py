"""Time and memory of the similarity of two SAEs on synthetic pairs, with the published block method.

    python -m benchmarks.similarity --pairs 32768 --tokens 100000 --draws 200

Decoder rows are Gaussian, and codes have 50 active features per token. Half of the pairs are
shared. The published method correlates the activations of all features in dense blocks of 100
columns; it is timed on some blocks, and its time for all blocks is extrapolated.
"""

import argparse
import resource

import numpy as np
from scipy import sparse

from analysis.similarity.comparison import document_shifts
from analysis.similarity.measures import (
    Similarity,
    cosine_similarities,
    shuffles,
    subspace_similarities,
)
from benchmarks.within import clocks

_BLOCK, _TIMED = 100, 2
_ACTIVE = 50


def codes(rng: np.random.Generator, tokens: int, features: int) -> sparse.csc_array:
    """Return codes with about 50 active features per token."""
    rows = np.repeat(np.arange(tokens), _ACTIVE)
    columns = (features * rng.random(len(rows)) ** 2).astype(np.int64)
    values = rng.random(len(rows)).astype(np.float32)
    return sparse.coo_array((values, (rows, columns)), shape=(tokens, features)).tocsc()


def report(what: str, began: np.ndarray) -> None:
    """Print the time and processor time since ``began``, and the peak memory of the process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    took, busy = clocks() - began
    print(f"{what:<58}{took:>8.1f} s {busy:>8.1f} s CPU   peak {peak:.2f} GiB", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("pairs", 32768),
        ("tokens", 100_000),
        ("width", 768),
        ("draws", 200),
        ("columns", 256),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--space", choices=("decoder", "activations"), help="one of both spaces")
    args = parser.parse_args()
    found: list[Similarity] = []
    if args.space != "activations":
        found += decoder_rows(args)
    if args.space != "decoder":
        found += activations(args)
    for one in found:
        print(f"{one.measure:<16} n {one.n:>7,}  value {one.value}  null {one.null}  p {one.p}")


def decoder_rows(args: argparse.Namespace) -> list[Similarity]:
    """Measure decoder rows."""
    rng, orders = np.random.default_rng(0), shuffles(args.pairs, args.draws, seed=0)
    x = rng.normal(size=(args.pairs, args.width)).astype(np.float32)
    y = np.where(np.arange(args.pairs)[:, None] % 2 == 0, x, rng.normal(size=x.shape)).astype(
        np.float32
    )
    began = clocks()
    found = subspace_similarities(x, y, orders)
    report("decoder rows: SVCCA, CCA, CKA, Procrustes", began)
    began = clocks()
    found += cosine_similarities(x, y, orders)
    report("decoder rows: RSA, kNN-Jaccard, mutual nearest", began)
    return found


def activations(args: argparse.Namespace) -> list[Similarity]:
    """Measure activations, and time the published method on some blocks of them."""
    rng, orders = np.random.default_rng(1), shuffles(args.pairs, args.draws, seed=0)
    a, b = codes(rng, args.tokens, args.pairs), codes(rng, args.tokens, args.pairs)
    began = clocks()
    found = cosine_similarities(sparse.csr_array(a.T), sparse.csr_array(b.T), orders)
    report("activations: RSA, kNN-Jaccard, mutual nearest", began)
    chosen = rng.choice(args.pairs, min(args.columns, args.pairs), replace=False)
    shifts = document_shifts(np.full(args.tokens // 100, 100), args.draws, seed=0)
    some = [one[: len(shifts[0])][:, np.sort(chosen)] for one in (a, b)]
    began = clocks()
    found += subspace_similarities(*some, shifts)
    report(f"activations, {len(chosen)} columns: SVCCA, CCA, CKA, Procrustes", began)
    published(a, b)
    return found


def published(a: sparse.csc_array, b: sparse.csc_array) -> None:
    """Print the time of the published dense blocks, from a few of them."""
    features = a.shape[1]
    began = clocks()
    first = a[:, : min(4096, features)].toarray()
    first -= first.mean(0)
    for i in range(_TIMED):
        block = b[:, i * _BLOCK : (i + 1) * _BLOCK].toarray()
        (first.T @ (block - block.mean(0))).max(axis=0)
    blocks = -(-features // _BLOCK) * -(-features // first.shape[1])
    wall, busy = (clocks() - began) * blocks / _TIMED
    print(
        f"published dense blocks, extrapolated from {_TIMED} of {blocks:,}: {wall:,.0f} s, {busy:,.0f} s CPU"
    )


if __name__ == "__main__":
    main()
