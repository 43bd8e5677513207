"""Held-out scores of all units of an SAE on labelled words, compared with a loop of scikit-learn.

    python -m benchmarks.concepts

The task: 16,384 units, 10 labellings of 240 words, 50 splits. For each unit, labelling and split,
the held-out AUROC of a logistic regression on the unit alone; for each labelling and split, probes
of the best 1, 2, 5, 10, 20 and 50 units. The loop fits scikit-learn's ``LogisticRegression`` for
sampled units, and its ``SelectKBest`` pipeline for sampled splits, in the same process; its time
is scaled to all of them. The AUROC of both are compared.
"""

import argparse
import json
import time
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.concepts.probing.ridge import held_out_auc
from analysis.concepts.probing.sparse import (
    TrainingStatistic,
    best_units,
    sparse_margins,
    unit_scores,
)
from analysis.concepts.probing.splits import Splits, grouped_splits
from analysis.concepts.worth.localisation import KS
from atlas.cli.output.tables import print_table
from benchmarks.coactivation import in_subprocess, peak_gib

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--units", type=int, default=16_384)
    parser.add_argument("--words", type=int, default=240)
    parser.add_argument("--labellings", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=10, help="of five folds")
    parser.add_argument(
        "--sampled", type=int, default=400, help="fits of the loop for single units"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    ours = in_subprocess(
        ours_at_size, args.units, args.words, labellings=args.labellings, repeats=args.repeats
    )
    loop = in_subprocess(
        loop_at_size,
        args.units,
        args.words,
        labellings=args.labellings,
        repeats=args.repeats,
        sampled=args.sampled,
    )
    found = [ours, loop, {"what": "ratio", **_ratios(ours, loop)}]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print_table(found)


def _ratios(ours: dict[str, float], loop: dict[str, float]) -> dict[str, float]:
    return {
        name: round(loop[name] / ours[name], 1) for name in ("units_s", "sparse_s", "processor_s")
    }


def made(units: int, words: int, *, labellings: int, repeats: int) -> tuple[Floats, Bools, Splits]:
    """Return activations of which about a fifth are above 0, labels and splits."""
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=(words, units)) - 0.8, 0)
    labels = np.array([rng.permutation(np.arange(words) % 2 == 0) for _ in range(labellings)])
    splits = grouped_splits([""] * words, np.arange(words), folds=5, repeats=repeats, seed=0)
    return values, labels, splits


def sparse_aucs(values: Floats, labels: Bools, splits: Splits) -> Floats:
    """Return the held-out AUROC of k-sparse probes; (splits, ks)."""
    every = np.repeat(labels[None], len(splits), axis=0)
    statistic = TrainingStatistic(values).signed_f(every, ~splits.test)
    units = best_units(statistic, max(KS))
    aucs = []
    for k in KS:
        margins, _ = sparse_margins(values, every, ~splits.test, units=units[:, :k])
        aucs.append(held_out_auc(margins, every, splits.test))
    return np.array(aucs).T


def ours_at_size(units: int, words: int, *, labellings: int, repeats: int) -> dict[str, object]:
    """Score all units, labellings and splits."""
    values, labels, splits = made(units, words, labellings=labellings, repeats=repeats)
    processor, began = time.process_time(), time.perf_counter()
    unit_scores(values, labels, splits)
    middle = time.perf_counter()
    for one in labels:
        sparse_aucs(values, one, splits)
    end = time.perf_counter()
    return {
        "what": "ours",
        "units_s": round(middle - began, 2),
        "sparse_s": round(end - middle, 2),
        "processor_s": round(time.process_time() - processor, 2),
        "peak_gib": round(peak_gib(), 2),
        "difference": 0.0,
    }


def loop_at_size(
    units: int, words: int, *, labellings: int, repeats: int, sampled: int
) -> dict[str, object]:
    """Time sampled fits of scikit-learn, scaled to all, and compare their AUROC with ours."""
    values, labels, splits = made(units, words, labellings=labellings, repeats=repeats)
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, units, sampled)
    which = rng.integers(0, len(splits), sampled)
    processor, began = time.process_time(), time.perf_counter()
    found = [
        _alone(values[:, [unit]], labels[0], splits.test[j])
        for unit, j in zip(chosen, which, strict=True)
    ]
    alone = (time.perf_counter() - began) / sampled * units * labellings * len(splits)
    alone_processor = (time.process_time() - processor) / sampled * units * labellings * len(splits)
    few = range(2)
    processor, began = time.process_time(), time.perf_counter()
    sparse = np.array([[_selected(values, labels[0], splits.test[j], k) for k in KS] for j in few])
    scale = labellings * len(splits) / len(few)
    took = (time.perf_counter() - began) * scale
    difference = np.abs(sparse - sparse_aucs(values, labels[0], splits)[: len(few)]).max()
    single = [
        unit_scores(values[:, [u]], labels[:1], Splits(splits.test[[j]], splits.repeat[[j]])).auroc[
            0, 0
        ]
        for u, j in zip(chosen[:50], which[:50], strict=True)
    ]
    return {
        "what": "scikit-learn, scaled",
        "units_s": round(alone, 1),
        "sparse_s": round(took, 1),
        "processor_s": round(alone_processor + (time.process_time() - processor) * scale, 1),
        "peak_gib": round(peak_gib(), 2),
        "difference": round(float(max(difference, np.abs(np.array(single) - found[:50]).max())), 6),
    }


def _alone(column: Floats, labels: Bools, test: Bools) -> float:
    probe = LogisticRegression().fit(column[~test], labels[~test])
    return float(roc_auc_score(labels[test], probe.decision_function(column[test])))


def _selected(values: Floats, labels: Bools, test: Bools, k: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe = make_pipeline(
            SelectKBest(f_classif, k=k),
            StandardScaler(),
            LogisticRegression(class_weight="balanced", max_iter=1000),
        ).fit(values[~test], labels[~test])
    return float(roc_auc_score(labels[test], probe.decision_function(values[test])))


if __name__ == "__main__":
    main()
