"""Probes of all labels at once against a loop of scikit-learn fits; memory; a GPU by arithmetic.

    python -m benchmarks.probes             the ratios, on the same tokens
    python -m benchmarks.probes --memory    peak memory at 16,384 labels
    python -m benchmarks.probes --gpu       the full size, run, where there is a GPU

Token ids follow Zipf's law. A label is a function of the token id (half are linear in the
embedding, a quarter are sets of tokens, a quarter anything), plus noise. Ours collapses the
tokens to distinct ids first, and that time counts. scikit-learn is timed on some labels,
once on the tokens as they are and once on collapsed rows with weights, and scaled to all.
Seconds are by the clock; CPU seconds, of all threads, say more on a busy machine. Errors
are the largest difference of a coefficient from a solution in float64 to 1e-8.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from benchmarks.coactivation import in_subprocess, peak_gib, table

PENALTY = 1e-3
FULL = {"tokens": 2_550_000, "types": 60_000, "labels": 16_384, "width": 2_304}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """How large the made data are."""

    tokens: int
    labels: int
    width: int
    vocabulary: int
    l0: float


@dataclass(frozen=True)
class Made:
    """Tokens to train and to validate on, their labels, and the embedding."""

    ids: NDArray[np.int64]
    active: csc_array
    held_ids: NDArray[np.int64]
    held_active: csc_array
    embedding: NDArray[np.float32]


def main() -> None:
    """Run what the command line asks for."""
    # Threads that wait give way: the machine may be shared, and both sides gain.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    args = arguments()
    shape = Shape(args.tokens, args.labels, args.width, args.vocabulary, args.l0)
    if args.gpu:
        found = [in_subprocess(on_gpu)]
    elif args.memory:
        found = [in_subprocess(memory, shape, labels=16_384)]
    else:
        found = ratios(shape, args)
    for row in [json.dumps(found, indent=2)] if args.json else []:
        print(row)
    if not args.json:
        for row in found:
            table([row])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=2_048)
    parser.add_argument("--width", type=int, default=288)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--l0", type=float, default=20)
    parser.add_argument("--sample", type=int, default=6, help="labels the loop is timed on")
    parser.add_argument("--gpu-tflops", type=float, default=60, help="float32, of the GPU to come")
    parser.add_argument("--share", type=float, default=0.5, help="of these that are reached")
    parser.add_argument("--memory", action="store_true", help="peak memory at 16,384 labels")
    parser.add_argument("--gpu", action="store_true", help="run the full size on a GPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


# ---------------------------------------------------------------- the two sides


def ratios(shape: Shape, args: argparse.Namespace) -> list[dict[str, object]]:
    """Time all sides on the same tokens, and hold what they find together."""
    sample = np.linspace(0, shape.labels - 1, args.sample).astype(int)
    ours, scores, passes = in_subprocess(all_at_once, shape, sample=sample)
    found: list[dict[str, object]] = [{"ours": 1, **ours}]
    for collapsed in (False, True):
        theirs, their_scores = in_subprocess(loop, shape, sample=sample, collapsed=collapsed)
        for unit in ("seconds", "cpu_seconds"):
            theirs[unit] *= shape.labels / len(sample)
            theirs[f"ratio_{unit}"] = theirs[unit] / ours[unit]
        theirs["balanced_accuracy_differs_by"] = float(np.abs(scores - their_scores).max())
        found.append({"collapsed": int(collapsed), **theirs})
    rate = args.gpu_tflops * 1e12 * args.share
    flops = 4.0 * FULL["width"] * FULL["labels"] * passes
    found.append(
        {
            "extrapolated_gpu_tflops": args.gpu_tflops,
            "share_reached": args.share,
            "passes": passes,
            "seconds_collapsed": flops * FULL["types"] / rate,
            "seconds_all_tokens": flops * FULL["tokens"] / rate,
        }
    )
    return found


def all_at_once(
    shape: Shape, *, sample: NDArray[np.int64]
) -> tuple[dict[str, float], Floats, float]:
    """Time ours on all labels; return also the scores of a sample, and the mean of passes."""
    from ingest.probe.solver.estimator import LogisticProbes

    made = make(shape)
    LogisticProbes(PENALTY).fit(np.eye(3), np.eye(3))  # what is done once is not timed
    before, began, cpu = peak_gib(), time.perf_counter(), time.process_time()
    types, positives, totals = collapse(made)
    collapsing = time.perf_counter() - began
    probes = LogisticProbes(PENALTY).fit_counts(made.embedding[types], positives, totals)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_gib()
    exact = LogisticProbes(PENALTY, dtype="float64", tol=1e-8, max_iter=2000)
    exact.fit_counts(made.embedding[types], positives[:, sample], totals)
    flops = 4 * len(types) * shape.width * float(probes.n_iter_.sum())
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "collapsing_seconds": collapsing,
        "types": len(types),
        "mean_passes": float(probes.n_iter_.mean()),
        "most_passes": int(probes.n_iter_.max()),
        "not_converged": int((~probes.converged_).sum()),
        "gflops_a_second": flops / seconds / 1e9,
        "error": float(np.abs(probes.coef_[sample] - exact.coef_).max()),
        "added_gib": peak - before,
    }
    coef, intercept = probes.coef_[sample], probes.intercept_[sample]
    return found, scores(made, coef, intercept, sample=sample), found["mean_passes"]


def loop(
    shape: Shape, *, sample: NDArray[np.int64], collapsed: bool
) -> tuple[dict[str, float], Floats]:
    """Time scikit-learn on a sample of labels, with its default solver and tolerance."""
    from sklearn.linear_model import LogisticRegression

    from ingest.probe.solver.estimator import LogisticProbes

    made = make(shape)
    types, positives, totals = collapse(made)
    exact = LogisticProbes(PENALTY, dtype="float64", tol=1e-8, max_iter=2000)
    exact.fit_counts(made.embedding[types], positives[:, sample], totals)
    x = made.embedding[types] if collapsed else made.embedding[made.ids]
    model = LogisticRegression(C=1 / (2 * PENALTY * shape.tokens), max_iter=1000)
    coefs, intercepts, steps, seconds, cpu = [], [], [], 0.0, 0.0
    for label in sample:
        if collapsed:
            rows, y, weight = weighted(positives[:, [label]].toarray()[:, 0], totals)
        else:
            rows, y = slice(None), made.active[:, [label]].toarray()[:, 0]
            weight = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
        sample = x[rows]
        began, cpu_began = time.perf_counter(), time.process_time()
        model.fit(sample, y, sample_weight=weight.astype(np.float32))
        seconds += time.perf_counter() - began
        cpu += time.process_time() - cpu_began
        coefs.append(model.coef_[0])
        intercepts.append(model.intercept_[0])
        steps.append(model.n_iter_[0])
    error = float(np.abs(np.array(coefs) - exact.coef_).max())
    found = {"seconds": seconds, "cpu_seconds": cpu, "mean_steps": float(np.mean(steps))}
    found |= {"error": error, "peak_gib": peak_gib()}
    return found, scores(made, np.array(coefs), np.array(intercepts), sample=sample)


def weighted(
    positives: Floats, totals: Floats
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Floats]:
    """Return the rows that one label needs: a type twice where it is active and inactive."""
    rest = totals - positives
    on, off = positives.nonzero()[0], rest.nonzero()[0]
    weight = np.concatenate([positives[on] / positives.sum(), rest[off] / rest.sum()])
    y = np.arange(len(on) + len(off)) < len(on)
    return np.concatenate([on, off]), y, weight * totals.sum() / 2


def scores(
    made: Made,
    coef: NDArray[np.float32],
    intercept: NDArray[np.float32],
    *,
    sample: NDArray[np.int64],
) -> Floats:
    """Return the balanced accuracy of each label on tokens held out."""
    predicted = (made.embedding @ coef.T + intercept > 0)[made.held_ids]
    true = made.held_active[:, sample].toarray()
    return (
        (predicted & true).sum(0) / true.sum(0) + (~predicted & ~true).sum(0) / (~true).sum(0)
    ) / 2


# ---------------------------------------------------------------- memory, and a GPU


def memory(shape: Shape, *, labels: int) -> dict[str, float]:
    """Measure the peak over many labels; a few passes reach it, so the rest is left out."""
    from ingest.probe.solver.estimator import LogisticProbes

    rng = np.random.default_rng(0)
    types = int(shape.vocabulary * 0.75)
    totals = np.maximum(1.0, shape.tokens / (np.arange(types) + 3.0) / np.log(types)).round()
    many = int(types * labels * 0.005)
    at = np.unique(rng.integers(0, types * labels, many))
    positives = csc_array((np.ones(len(at)), (at % types, at // types)), (types, labels))
    x = rng.standard_normal((types, shape.width), dtype=np.float32)
    LogisticProbes(PENALTY).fit(np.eye(3), np.eye(3))
    before, began = peak_gib(), time.perf_counter()
    LogisticProbes(PENALTY, max_iter=6).fit_counts(x, positives, totals)
    return {
        "labels": labels,
        "types": types,
        "width": shape.width,
        "seconds_of_6_passes": time.perf_counter() - began,
        "before_gib": before,
        "peak_gib": peak_gib(),
        "added_gib": peak_gib() - before,
    }


def on_gpu() -> dict[str, float]:
    """Run the full size on a GPU: labels of collapsed rows, in blocks of 2,048."""
    import torch

    from ingest.probe.solver.design import Design, spectrum
    from ingest.probe.solver.solve import solve

    if not torch.cuda.is_available():
        raise SystemExit("No GPU is here; run without --gpu for what it would take.")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((FULL["types"], FULL["width"]), dtype=np.float32)
    design, block = Design(x, device="cuda"), 2_048
    basis = spectrum(design)
    cuda = torch.Generator("cuda").manual_seed(0)
    torch.cuda.synchronize()
    began, passes = time.perf_counter(), 0.0
    for _ in range(0, FULL["labels"], block):
        truth = torch.randn(FULL["width"], block, device="cuda", generator=cuda) / 20
        share = torch.cat([torch.sigmoid(part @ truth - 3) for _, part in design.chunks()])
        ones = torch.ones(len(x), 1, device="cuda")
        found = solve(design, ones, torch.bernoulli(share), penalty=PENALTY, basis=basis)
        passes += float(found.iterations.sum())
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return {
        "types": FULL["types"],
        "labels": FULL["labels"],
        "seconds": seconds,
        "mean_passes": passes / FULL["labels"],
        "tflops_a_second": 4e-12 * FULL["types"] * FULL["width"] * passes / seconds,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


# ---------------------------------------------------------------- tokens and labels


def collapse(made: Made) -> tuple[NDArray[np.int64], csc_array, Floats]:
    """Count tokens, and active ones of each label, by distinct token id."""
    types, row, totals = np.unique(made.ids, return_inverse=True, return_counts=True)
    token = np.arange(len(row))
    member = csr_array((np.ones(len(row)), (row, token)), (len(types), len(row)))
    return types, csc_array(member @ made.active.astype(np.float64)), totals.astype(np.float64)


def make(shape: Shape) -> Made:
    """Make tokens, an embedding whose dimensions differ in size, and labels."""
    rng = np.random.default_rng(0)
    share = 1 / (np.arange(shape.vocabulary) + 2.7)
    held = shape.tokens // 4
    ids = rng.choice(shape.vocabulary, shape.tokens + held, p=share / share.sum())
    fall = np.exp(-np.arange(shape.width) / shape.width * 2)
    embedding = rng.standard_normal((shape.vocabulary, shape.width)) * fall
    embedding /= np.sqrt((embedding**2).mean())
    rate = np.exp(0.8 * rng.standard_normal(shape.labels))
    rate *= shape.l0 / rate.sum()
    columns = [active(rng, n, rate=rate[n], ids=ids, embedding=embedding) for n in range(len(rate))]
    ends = np.cumsum([0, *map(len, columns)])
    tokens = np.concatenate(columns)
    complete = csc_array((np.ones(len(tokens), bool), tokens, ends), (len(ids), shape.labels))
    by_row = csr_array(complete)
    return Made(
        ids[held:],
        csc_array(by_row[held:]),
        ids[:held],
        csc_array(by_row[:held]),
        embedding.astype(np.float32),
    )


def active(
    rng: np.random.Generator, number: int, *, rate: float, ids: NDArray[np.int64], embedding: Floats
) -> NDArray[np.int64]:
    """Return the tokens on which a label is active: its rate's share, a tenth of it noise."""
    chance = np.full(len(embedding), rate / 10)
    if number % 4 < 2:
        score = embedding @ rng.standard_normal(embedding.shape[1])
        chance[score > np.quantile(score[ids], 1 - rate)] = 0.9
    elif number % 4 == 2:
        order = rng.permutation(len(embedding))
        often = np.cumsum(np.bincount(ids, minlength=len(embedding))[order]) / len(ids)
        chance[order[: np.searchsorted(often, rate) + 1]] = 0.9
    else:
        chance[:] = rate
    return (rng.random(len(ids)) < chance[ids]).nonzero()[0]


if __name__ == "__main__":
    main()
