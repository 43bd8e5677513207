"""Tables of a result: rows of arms, curves, probes, units and words, and the tables of the graph."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.concepts.probing.splits import Interval, Splits, resampled_interval
from analysis.concepts.units.separation import Separation
from analysis.concepts.words.files import Concept, WordSet
from analysis.concepts.worth.arms import Arm
from analysis.concepts.worth.evaluate import ArmScores, FurtherProbe
from analysis.concepts.worth.localisation import KS, area_under_curve, k90, retained
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.permutation import permutation_p
from atlas.schema import arrow_schema

__all__ = [
    "ARMS",
    "CURVE",
    "PROBES",
    "P_VALUES",
    "SPLITS",
    "UNITS",
    "WORDS",
    "arm_row",
    "concept_table",
    "curve_rows",
    "number",
    "p_value_rows",
    "probe_row",
    "retains_row",
    "separates_rows",
    "split_rows",
    "table_schema",
    "unit_rows",
]

Row: TypeAlias = dict[str, Any]
Floats: TypeAlias = NDArray[np.float64]

_BINS = 20

BARE = (1e-5, 0.01)
"""Uncorrected levels at which units are counted; the first is that of seed 004."""


def table_schema(text: Sequence[str], counts: Sequence[str], values: Sequence[str]) -> pa.Schema:
    """Return the schema of a table with columns of text, then of whole numbers, then of numbers."""
    return pa.schema(
        [(n, pa.string()) for n in text]
        + [(n, pa.int64()) for n in counts]
        + [(n, pa.float64()) for n in values]
    )


ARMS = table_schema(
    ("concept", "arm"),
    (
        "positives",
        "negatives",
        "units",
        "varying",
        "p5_units",
        "p01_units",
        "q_units",
        "max_t_units",
        "k90",
        "k90_low",
        "k90_high",
    ),
    (
        "p5_chance",
        "p01_chance",
        "q_chance",
        "smallest_effect",
        "smallest_effect_family",
        "auc",
        "auc_low",
        "auc_high",
        "accuracy",
        "permuted_auc",
        "permuted_low",
        "permuted_high",
        "p_auc",
        "converged",
        "sparse_converged",
        "difference",
        "difference_low",
        "difference_high",
        "bits",
        "bits_base",
        "selectivity",
        "control_accuracy",
        "retained",
        "retained_low",
        "retained_high",
        "effective",
        "area",
        "area_low",
        "area_high",
    ),
)
CURVE = table_schema(
    ("concept", "arm"),
    ("k",),
    ("auc", "auc_low", "auc_high", "permuted_auc", "retained", "retained_low", "retained_high"),
)
PROBES = table_schema(
    ("concept", "arm", "probe"),
    ("splits",),
    (
        "auc",
        "auc_low",
        "auc_high",
        "permuted_auc",
        "converged",
        "difference",
        "difference_low",
        "difference_high",
    ),
)
SPLITS = table_schema(
    ("concept", "arm"), ("k", "split"), ("auc", "layer_auc", "permuted_auc", "ratio")
)
UNITS = table_schema(
    ("concept", "arm"),
    ("unit",),
    ("t", "p", "q", "p_permutation", "p_max", "auroc", "auroc_held_out", "effect", "best_share"),
)
P_VALUES = table_schema(("concept", "arm"), ("bin", "units"), ("low", "high"))
WORDS = pa.schema(
    [("text", pa.string()), ("word", pa.string()), ("labels", pa.list_(pa.string()))]
    + [(n, pa.string()) for n in ("group", "family", "excluded")]
    + [(n, pa.int64()) for n in ("contexts", "tokens")]
)


def number(value: float | None) -> float | None:
    """Return a finite number, or None."""
    return None if value is None or not np.isfinite(value) else float(value)


def arm_row(
    concept: Concept,
    arm: Arm,
    scores: ArmScores,
    *,
    tests: Separation | None,
    layer: ArmScores,
    splits: Splits,
    counts: tuple[int, int],
    level: float,
) -> Row:
    """Return the row of an arm: counts of units with their chance, probe, retained information.

    Parameters
    ----------
    concept, arm, scores
        The concept, the arm and its scores.
    tests
        Tests of its units; None for arms that are not tested.
    layer
        Scores of the layer.
    splits
        The splits.
    counts
        Positive and negative observations.
    level
        Family-wise level.
    """
    from analysis.concepts.units.separation import smallest_effect

    live = len(arm.live.units)
    row: Row = {
        "concept": concept.name,
        "arm": arm.name,
        "positives": counts[0],
        "negatives": counts[1],
        "units": arm.live.total,
        "varying": live,
        "smallest_effect": smallest_effect(*counts, level=0.05),
        "smallest_effect_family": smallest_effect(*counts, level=0.05 / max(live, 1)),
    }
    if tests is not None:
        for name, level_of, column in (("p5", BARE[0], 1), ("p01", BARE[1], 0)):
            row[f"{name}_units"] = int((tests.p < level_of).sum())
            row[f"{name}_chance"] = float(tests.chance[:, column].mean())
        row["q_units"] = int((tests.q <= 0.05).sum())
        row["q_chance"] = float(tests.chance_q.mean())
        row["max_t_units"] = int((tests.p_max <= level).sum())
    row |= _probe_columns(scores, layer, splits.ratio)
    return row | _worth_columns(scores, layer, live=live, ratio=splits.ratio)


def _probe_columns(scores: ArmScores, layer: ArmScores, ratio: float) -> Row:
    auc = resampled_interval(scores.auc, ratio)
    difference = resampled_interval(scores.auc - layer.auc, ratio)
    found = _limits("auc", auc) | _limits("difference", difference)
    with np.errstate(invalid="ignore"):
        accuracy = scores.accuracy[np.isfinite(scores.accuracy)]
    found |= {"accuracy": number(accuracy.mean() if len(accuracy) else None)}
    found["converged"] = scores.converged
    null = scores.permuted_auc[np.isfinite(scores.permuted_auc)]
    if len(null):
        low, high = quantile_interval(null)
        found |= {"permuted_auc": float(null.mean())}
        found |= {"permuted_low": float(low), "permuted_high": float(high)}
        found["p_auc"] = permutation_p(auc.value, null)
    if scores.codelength is not None:
        found |= {"bits": scores.codelength.bits, "bits_base": scores.codelength.base}
    if scores.control is not None:
        found["selectivity"] = number(scores.control.selectivity)
        found["control_accuracy"] = number(scores.control.control)
    return found


def _worth_columns(scores: ArmScores, layer: ArmScores, *, live: int, ratio: float) -> Row:
    complete = retained(scores.auc, layer.auc, ratio)
    found = _limits("retained", complete)
    found["effective"] = number(scores.effective)
    found["sparse_converged"] = number(scores.sparse_converged)
    if not scores.ks:
        return found
    ks = (*scores.ks, live)
    shares = [retained(scores.sparse_auc[:, i], layer.auc, ratio) for i in range(len(scores.ks))]
    shares.append(complete)
    for name, values in (
        ("k90", [s.value for s in shares]),
        ("k90_low", [s.high for s in shares]),
        ("k90_high", [s.low for s in shares]),
    ):
        found[name] = k90(ks, values)
    return found | _limits("area", retained(_areas(scores), layer.auc, ratio))


def _areas(scores: ArmScores) -> Floats:
    """Return the area under AUROC over log k on each split, whose excess over .5 is that of R.

    Arms with fewer units than the largest k have their last value there.
    """
    auc = scores.sparse_auc
    missing = len(KS) - auc.shape[1]
    full = np.concatenate([auc, np.repeat(auc[:, -1:], missing, axis=1)], axis=1)
    return area_under_curve(KS, full)


def _limits(name: str, of: Interval) -> Row:
    return {
        name: number(of.value),
        f"{name}_low": number(of.low),
        f"{name}_high": number(of.high),
    }


def curve_rows(
    concept: Concept, arm: Arm, scores: ArmScores, *, layer: ArmScores, splits: Splits
) -> Iterator[Row]:
    """Yield a row for each k: AUROC and R with intervals, and the AUROC of permuted labels.

    The row of all live units has their number as k.
    """
    null = scores.permuted_sparse_auc
    for i, k in enumerate(scores.ks):
        auc = scores.sparse_auc[:, i]
        row = {"concept": concept.name, "arm": arm.name, "k": k}
        row |= _limits("auc", resampled_interval(auc, splits.ratio))
        row |= _limits("retained", retained(auc, layer.auc, splits.ratio))
        row["permuted_auc"] = number(float(np.nanmean(null[:, i]))) if len(null) else None
        yield row
    row = {"concept": concept.name, "arm": arm.name, "k": len(arm.live.units)}
    row |= _limits("auc", resampled_interval(scores.auc, splits.ratio))
    row |= _limits("retained", retained(scores.auc, layer.auc, splits.ratio))
    drawn = scores.permuted_auc[np.isfinite(scores.permuted_auc)]
    row["permuted_auc"] = float(drawn.mean()) if len(drawn) else None
    yield row


def split_rows(
    concept: Concept, arm: Arm, scores: ArmScores, *, layer: ArmScores, splits: Splits
) -> Iterator[Row]:
    """Yield a row for each split: AUROC of all units (k 0), and area under AUROC over log k (k -1).

    ``atlas concepts --rank`` compares SAEs split by split with them.
    """
    areas = _areas(scores) if scores.ks else np.full(len(splits), np.nan)
    null = scores.permuted_auc
    for k, values in ((0, scores.auc), (-1, areas)):
        for split, value in enumerate(values):
            yield {
                "concept": concept.name,
                "arm": arm.name,
                "k": k,
                "split": split,
                "auc": number(value),
                "layer_auc": number(layer.auc[split]),
                "permuted_auc": number(null.mean()) if len(null) and k == 0 else None,
                "ratio": splits.ratio,
            }


def probe_row(
    concept: Concept, arm: Arm, probe: FurtherProbe, *, ridge: ArmScores, splits: Splits
) -> Row:
    """Return the row of a further probe, with its difference from ridge, paired by split."""
    row: Row = {
        "concept": concept.name,
        "arm": arm.name,
        "probe": probe.kind,
        "splits": len(probe.auc),
        "converged": probe.converged,
    }
    row |= _limits("auc", resampled_interval(probe.auc, splits.ratio))
    difference = probe.auc - ridge.auc[: len(probe.auc)]
    row |= _limits("difference", resampled_interval(difference, splits.ratio))
    drawn = probe.permuted_auc[np.isfinite(probe.permuted_auc)]
    return row | {"permuted_auc": float(drawn.mean()) if len(drawn) else None}


def unit_rows(concept: Concept, arm: Arm, *, tests: Separation, scores: ArmScores) -> pa.Table:
    """Return the tests of all live units of an arm."""
    units = len(arm.live.units)
    columns: dict[str, Any] = {
        "concept": [concept.name] * units,
        "arm": [arm.name] * units,
        "unit": arm.live.units,
        "auroc_held_out": scores.units.auroc[0],
        "best_share": scores.units.best_share[0],
    }
    for name in ("t", "p", "q", "p_permutation", "p_max", "auroc", "effect"):
        columns[name] = getattr(tests, name)
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in UNITS]
    return pa.Table.from_arrays(arrays, schema=UNITS)


def p_value_rows(concept: Concept, arm: Arm, tests: Separation) -> Iterator[Row]:
    """Yield a histogram of the uncorrected p-values of live units."""
    edges = np.linspace(0, 1, _BINS + 1)
    counts, _ = np.histogram(tests.p, edges)
    for i, count in enumerate(counts):
        yield {
            "concept": concept.name,
            "arm": arm.name,
            "bin": i,
            "units": int(count),
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
        }


def concept_table(words: WordSet) -> pa.Table:
    """Return the nodes of the concepts of a set of words."""
    rows = [
        {
            "id": f"{concept.name}@{words.hash}",
            "name": concept.name,
            "words_set": words.name,
            "positive": concept.positive,
            "negative": concept.negative,
            "words": len(words.items),
            "positives": int(words.labels_of(concept).sum()),
        }
        for concept in words.concepts
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema("Concept", "concepts"))


def separates_rows(
    sae: str,
    words: WordSet,
    concept: Concept,
    *,
    arm: Arm,
    tests: Separation,
    scores: ArmScores,
    labels: NDArray[np.bool_],
    level: float,
) -> Iterator[Row]:
    """Yield an edge for each feature that separates the concept: its family-wise p is at most the level.

    Parameters
    ----------
    sae, words, concept
        Names of the ends.
    arm, tests, scores
        The features, their tests and held-out scores.
    labels
        bool, (contexts,).
    level
        Highest family-wise p of an edge.
    """
    active = arm.live.values > 0
    chosen = np.flatnonzero(tests.p_max <= level)
    for i in chosen.tolist():
        yield {
            "source": f"{sae}/{arm.live.units[i]}",
            "target": f"{concept.name}@{words.hash}",
            **{
                name: number(getattr(tests, name)[i])
                for name in ("t", "p", "q", "p_permutation", "p_max", "auroc", "effect")
            },
            "auroc_held_out": number(scores.units.auroc[0, i]),
            "active_positive": float(active[labels, i].mean()),
            "active_negative": float(active[~labels, i].mean()),
            "direction": "positive" if tests.t[i] > 0 else "negative",
        }


def retains_row(sae: str, words: WordSet, rows: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return the edge from an SAE to a concept, from the rows of its arms."""
    own, layer = rows["features"], rows["layer"]
    same = (
        "varying",
        "auc",
        "auc_low",
        "auc_high",
        "permuted_auc",
        "difference",
        "difference_low",
        "difference_high",
        "retained",
        "retained_low",
        "retained_high",
        "k90",
        "area",
        "area_low",
        "area_high",
    )
    return {
        "source": sae,
        "target": f"{own['concept']}@{words.hash}",
        **{name: own.get(name) for name in same},
        "separating": own["max_t_units"],
        "layer_auc": layer["auc"],
        "effective_features": own.get("effective"),
        "random_area": rows.get("random", {}).get("area"),
    }
