"""The tables of an effects study: features, edges, and the calibration of attribution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.effects.measure import Effects, above_all_random, feature_q, kl_above
from analysis.statistics.ranks import auc, rank_correlation
from ingest.reduce.arrays import graph_table, keys

__all__ = ["calibration", "effect_tables", "explained", "summary_of"]

Floats = NDArray[np.float64]

#: Bins of the calibration curve, by quantiles of the attribution.
_BINS = 20


def effect_tables(
    effects: Effects,
    sae: str,
    on: Sequence[str],
    *,
    measures: Sequence[tuple[Floats, Floats]] = (),
) -> list[tuple[str, pa.Table]]:
    """Return the tables of a part.

    Parameters
    ----------
    effects
        The effects.
    sae, on
        Names of the SAE and of those at later sites.
    measures
        Co-activation and virtual weights of all pairs; see ``questions.pair_measures``.
    """
    summary = summary_of(effects, sae, on) | explained(effects, measures)
    tables = [
        ("Feature", _features(effects, sae)),
        ("AFFECTS", _edges(effects, sae, on)),
        ("calibration", pa.Table.from_pylist(calibration(effects))),
        ("summary", pa.Table.from_pylist([summary])),
    ]
    return [(name, table) for name, table in tables if table.num_columns]


def _features(effects: Effects, sae: str) -> pa.Table:
    own = effects.loss_of(effects.own)
    random, other = effects.kl_of_random.mean(0), effects.loss_of(effects.other)[:, 2:].sum(1)
    counts = np.bincount(effects.source.row, minlength=len(own))
    columns = {
        "id": keys(sae, effects.source.features),
        "effect_tokens": counts.astype(np.int64),
        "effect_ce": own[:, 0],
        "effect_ce_later": own[:, 1],
        "effect_kl": own[:, 2],
        "effect_kl_later": own[:, 3],
        "effect_kl_random": random,
        "effect_kl_other": pa.array(other, from_pandas=True),
        "effect_q": feature_q(effects),
    }
    return graph_table("Feature", "effects", columns).data


def _edges(effects: Effects, sae: str, on: Sequence[str]) -> pa.Table:
    edges = effects.edges
    number = {int(f): i for i, f in enumerate(effects.source.features)}
    attributed = [
        float(effects.attribution.effect[e["sae"]][number[e["source"]], e["target"]]) for e in edges
    ]
    columns: dict[str, Any] = {
        "source": [f"{sae}/{e['source']}" for e in edges],
        "target": [f"{on[e['sae']]}/{e['target']}" for e in edges],
        "attributed": attributed,
    }
    for name in (
        "mean", "here", "low", "high", "share", "positions", "documents", "random", "other", "p",
        "p_other", "q", "rank",
    ):  # fmt: skip
        columns[name] = [e[name] for e in edges]
    return graph_table("AFFECTS", "effects", columns).data


def calibration(effects: Effects) -> list[dict[str, Any]]:
    """Return the calibration curve: measured effects by quantiles of the attribution.

    Returns
    -------
        A row for each of up to 20 bins of pairs with an attribution: ``attributed`` and
        ``measured``, their means; ``low`` and ``high``, the 10% and 90% quantiles of the measured
        effects; ``pairs``.
    """
    attributed, measured = _pairs(effects)
    there = attributed != 0
    attributed, measured = attributed[there], measured[there]
    if not len(attributed):
        return []
    order = np.argsort(attributed, kind="stable")
    rows = []
    for part in np.array_split(order, min(_BINS, len(order))):
        low, high = np.quantile(measured[part], [0.1, 0.9])
        rows.append(
            {
                "attributed": float(attributed[part].mean()),
                "measured": float(measured[part].mean()),
                "low": float(low),
                "high": float(high),
                "pairs": len(part),
            }
        )
    return rows


def explained(
    effects: Effects, measures: Sequence[tuple[Floats, Floats]]
) -> dict[str, float | None]:
    """Return how well co-activation and virtual weights predict effects and edges.

    Parameters
    ----------
    effects
        The effects.
    measures
        By target SAE, phi and virtual weight of all pairs.

    Returns
    -------
        ``phi_`` and ``virtual_correlation``: rank correlations of their sizes with the sizes of
        the measured effects, over all pairs; ``random_phi_`` and ``random_virtual_correlation``:
        the same with the effects of random directions; ``phi_auc`` and ``virtual_auc``: the
        probability that an edge has a higher value than another candidate. Candidates have the
        largest attributions, so that this is not the selection of candidates.
    """
    names = ("phi", "virtual")
    empty: dict[str, float | None] = {
        f"{n}_{what}": None for what in ("correlation", "auc") for n in names
    }
    if not measures:
        return empty | {f"random_{n}_correlation": None for n in names}
    own, random = (
        np.abs(np.concatenate([one.ravel() for one in arm.total]).astype(np.float64))
        for arm in (effects.own, effects.random[0])
    )
    edge = [np.zeros(one.shape, bool) for one in effects.own.total]
    number = {int(f): i for i, f in enumerate(effects.source.features)}
    for e in effects.edges:
        edge[e["sae"]][number[e["source"]], e["target"]] = True
    candidate = [np.zeros(one.shape, bool) for one in edge]
    for one, columns in zip(candidate, effects.candidates, strict=True):
        np.put_along_axis(one, columns, True, axis=1)
    edges, candidates = (
        np.concatenate([one.ravel() for one in part]) for part in (edge, candidate)
    )
    found: dict[str, float | None] = {}
    for n, parts in zip(names, zip(*measures, strict=True), strict=True):
        values = np.abs(np.concatenate([one.ravel() for one in parts]))
        found[f"{n}_correlation"] = rank_correlation(values, own)
        found[f"random_{n}_correlation"] = rank_correlation(values, random)
        found[f"{n}_auc"] = auc(values[candidates & edges], values[candidates & ~edges])
    return found


def _pairs(effects: Effects) -> tuple[Floats, Floats]:
    """Return attribution and measurement of the pairs in which either is not 0."""
    attributed, measured = (
        np.concatenate([one.ravel() for one in part]).astype(np.float64) if part else np.zeros(0)
        for part in (effects.attribution.effect, effects.own.total)
    )
    there = (attributed != 0) | (measured != 0)
    return attributed[there], measured[there]


def summary_of(effects: Effects, sae: str, on: Sequence[str]) -> dict[str, Any]:
    """Return the main numbers of a study of one SAE."""
    own, other = (effects.loss_of(arm)[:, 2:].sum(1) for arm in (effects.own, effects.other))
    random = effects.kl_of_random
    attributed, measured = _pairs(effects)
    of_edges = {(e["source"], e["sae"], e["target"]) for e in effects.edges}
    added, has_other = effects.additivity, effects.source.has_other
    return {
        "sae": sae,
        "on": ", ".join(on),
        "features": len(effects.source.features),
        "tokens": len(effects.source.chosen),
        "documents": len(np.unique(effects.document)),
        "targets": effects.targets_per_source,
        "edges": len(of_edges),
        "sources_with_edges": len({source for source, *_ in of_edges}),
        "half_edges": effects.replication.edges,
        "half_edges_replicated": effects.replication.replicated,
        "rank_correlation": rank_correlation(attributed, measured),
        "rank_correlation_ce": rank_correlation(
            effects.attribution.loss, effects.loss_of(effects.own)[:, :2].sum(1)
        ),
        "kl": float(own.mean()),
        "kl_random": float(random.mean()),
        "kl_other": float(np.nanmean(other)) if has_other.any() else None,
        "tokens_with_other": float(has_other.mean()),
        **_interval("above_random", kl_above(effects, "random")),
        **_interval("above_other", kl_above(effects, "other") if has_other.any() else None),
        "features_above_random": int((feature_q(effects) <= 0.05).sum()),
        "features_above_all_random": int(above_all_random(effects).sum()),
        "additivity_targets": added["targets"],
        "additivity_ce": added["ce"],
        "joint_kl_ratio": added["kl_ratio"],
        "joint_tokens": added["tokens"],
        "random_directions": len(effects.random) * len(effects.source.features),
        "sham": effects.sham,
        "sham_kl": effects.sham_kl,
    }


def _interval(name: str, values: tuple[float, float, float] | None) -> dict[str, float | None]:
    """Return a mean and its limits as columns; None without values."""
    ends = (name, f"{name}_low", f"{name}_high")
    return dict(zip(ends, values or (None, None, None), strict=True))
