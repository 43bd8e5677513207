"""Which effects are edges: p and q over all targets, other features, and intervals over documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.effects.ablation.arms import Arm
from analysis.effects.ablation.source import Source
from analysis.effects.inference import document_interval, max_target_p, paired_p, source_q
from analysis.effects.settings import EffectSettings

__all__ = ["SIGNS", "selected_edges", "tested"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Random signs of documents, and draws of the bootstrap over documents.
SIGNS = 999


def tested(own: Arm, random: Sequence[Arm], sham: float) -> tuple[list[Floats], list[Floats]]:
    """Return p and q by target SAE, adjusted for the targets of all SAEs.

    Parameters
    ----------
    own, random
        Ablation of the features, and random directions of equal norm.
    sham
        Largest change of a target by an edit that changes nothing.

    Returns
    -------
        Two lists of arrays, (sources, features); empty without a target.
    """
    if not own.total:
        return [], []
    total = np.concatenate(own.total, axis=1).astype(np.float64)
    null = np.stack([np.concatenate(arm.total, axis=1) for arm in random]).astype(np.float64)
    p = max_target_p(total, null, floor=max(3 * sham, 1e-6))
    ends = np.cumsum([one.shape[1] for one in own.total])[:-1]
    return np.split(p, ends, axis=1), np.split(source_q(p), ends, axis=1)


def selected_edges(
    source: Source,
    document: Ints,
    arms: Sequence[Arm],
    *,
    candidates: list[Ints],
    p: list[Floats],
    q: list[Floats],
    sham: float,
    settings: EffectSettings,
) -> list[dict[str, Any]]:
    """Return the strongest effects of each source that exceed every control.

    A source needs a token at which another feature is active; only these tokens are compared.

    Parameters
    ----------
    source, document
        The features and tokens, and the document of each token.
    arms
        The ablation of the feature, that of another active feature, and random directions.
    candidates, p, q
        By target SAE, candidates of each source, and ``tested``.
    sham
        Largest change of a target by an edit that changes nothing.
    settings
        Largest q, most edges of a source, and the seed.
    """
    own, other, *random = arms
    has_other = source.has_other
    starts = np.searchsorted(
        source.row[np.argsort(source.row, kind="stable")], np.arange(len(source.features) + 1)
    )
    order = np.argsort(source.row, kind="stable")
    edges = []
    for s, feature in enumerate(source.features):
        rows = order[starts[s] : starts[s + 1]]
        both = has_other[rows]
        if not both.any():
            continue
        compared = rows[both]
        found = []
        for i, columns in enumerate(candidates):
            for column, target in enumerate(columns[s]):
                mean = float(own.total[i][s, target])
                if q[i][s, target] > settings.q or abs(mean) <= sham:
                    continue
                values = own.values[i][rows, column].astype(np.float64)
                others = other.values[i][compared, column].astype(np.float64)
                low, high = document_interval(
                    values, document[rows], draws=SIGNS, seed=settings.seed
                )
                paired = paired_p(
                    np.abs(values[both]),
                    np.abs(others),
                    document[compared],
                    draws=SIGNS,
                    seed=settings.seed,
                )
                if low <= 0 <= high or paired > 0.05:
                    continue
                drawn_values = np.abs(random[0].values[i][rows, column])
                holds = (np.sign(values) == np.sign(mean)) & (np.abs(values) > drawn_values)
                found.append(
                    {
                        "source": int(feature),
                        "sae": i,
                        "target": int(target),
                        "mean": mean,
                        "here": float(own.here[i][s, target]),
                        "low": low,
                        "high": high,
                        "share": float(holds.mean()),
                        "positions": len(rows),
                        "documents": len(np.unique(document[rows])),
                        "random": float(np.mean([abs(arm.total[i][s, target]) for arm in random])),
                        "other": float(others.mean()),
                        "p": float(p[i][s, target]),
                        "q": float(q[i][s, target]),
                        "p_other": paired,
                    }
                )
        found.sort(key=lambda e: (-abs(e["mean"]), e["sae"], e["target"]))
        edges += [edge | {"rank": rank} for rank, edge in enumerate(found[: settings.strongest])]
    return edges
