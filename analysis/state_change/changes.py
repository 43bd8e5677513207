"""Changes of mean and rate of features between two states, paired by token, with p over documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, t

__all__ = ["Change", "change_of", "compared", "moved", "moved_by_random"]

Floats = NDArray[np.float64]

#: Largest q of a change.
SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class Change:
    """Changes of all features of an SAE; arrays are (features,).

    Parameters
    ----------
    mean_before, mean_after
        Mean activation over the compared tokens, 0 where inactive.
    rate_before, rate_after
        Share of the compared tokens on which the feature is active.
    change, low, high
        Difference of the means, and its 95% interval over documents; NaN for one document.
    q
        Benjamini-Hochberg value of the change over the features that are active in a state; NaN
        for the others, and for one document.
    """

    mean_before: Floats
    mean_after: Floats
    rate_before: Floats
    rate_after: Floats
    change: Floats
    low: Floats
    high: Floats
    q: Floats


def change_of(
    before: sparse.csr_array, after: sparse.csr_array, document: NDArray[np.integer]
) -> Change:
    """Compare two states, token by token.

    The mean over tokens is a ratio of sums over documents. Its standard error treats documents
    as independent, and its p is that of Student's t with one degree of freedom less than
    documents. The p is at least 2 / 2^documents, the lowest of a sign-flip test.

    Parameters
    ----------
    before, after
        (tokens, features). Activations of the features on the same tokens.
    document
        (tokens,). Document of each token.
    """
    tokens = max(before.shape[0], 1)
    _, at = np.unique(document, return_inverse=True)
    documents = int(at.max()) + 1 if len(at) else 0
    group = sparse.csr_array(
        (np.ones(len(at)), (at, np.arange(len(at)))), shape=(documents, len(at))
    )
    size = np.bincount(at, minlength=documents).astype(np.float64)
    before, after = (state.astype(np.float64) for state in (before, after))
    difference = after - before
    sums = (group @ difference).toarray()
    change = sums.sum(axis=0) / tokens
    error, p = _tested(sums - size[:, None] * change, change, tokens=tokens)
    active = [np.asarray((state > 0).sum(axis=0)).ravel() for state in (before, after)]
    seen = (active[0] + active[1] > 0) & np.isfinite(p)
    q = np.full(len(change), np.nan)
    if seen.any():
        q[seen] = false_discovery_control(p[seen])
    wide = t.ppf(0.975, documents - 1) * error if documents > 1 else np.full(len(change), np.nan)
    means = [
        np.asarray(state.sum(axis=0, dtype=np.float64)).ravel() / tokens
        for state in (before, after)
    ]
    rates = [count / tokens for count in active]
    return Change(
        mean_before=means[0],
        mean_after=means[1],
        rate_before=rates[0],
        rate_after=rates[1],
        change=change,
        low=change - wide,
        high=change + wide,
        q=q,
    )


def _tested(residual: Floats, change: Floats, *, tokens: int) -> tuple[Floats, Floats]:
    """Return the standard error of each change over documents, and its p."""
    documents = len(residual)
    if documents < 2:
        return np.full(len(change), np.nan), np.full(len(change), np.nan)
    error = np.sqrt(documents / (documents - 1) * np.square(residual).sum(axis=0)) / tokens
    ratio = np.divide(
        np.abs(change), error, out=np.where(change != 0, np.inf, 0.0), where=error > 0
    )
    p = 2.0 * t.sf(ratio, documents - 1)
    return error, np.clip(p, 2.0 ** (1 - documents), 1.0)


def moved(own: Change, others: Sequence[Change]) -> NDArray[np.bool_]:
    """Return which features change significantly, and more than under any of some other edits."""
    largest = np.max([np.abs(one.change) for one in others], axis=0) if others else 0.0
    found: NDArray[np.bool_] = (np.nan_to_num(own.q, nan=1.0) <= SIGNIFICANT) & (
        np.abs(own.change) > largest
    )
    return found


def moved_by_random(own: Change, controls: Sequence[Change]) -> list[int]:
    """Return the number of features that each control moves, by the rule of the edit.

    A control must exceed the other controls and the edit: as many changes as the edit must exceed.
    """
    return [
        int(moved(one, [*controls[:i], *controls[i + 1 :], own]).sum())
        for i, one in enumerate(controls)
    ]


def compared(
    sae: str, own: Change, controls: Sequence[Change], *, edited: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row for each feature that is active in a state, the largest change first.

    Parameters
    ----------
    sae
        Name of the SAE.
    own
        Changes by the edit.
    controls
        Changes by edits along random directions of equal norm.
    edited
        Features of this SAE that were edited.
    """
    largest = np.max([np.abs(one.change) for one in controls], axis=0)
    mean = np.mean([np.abs(one.change) for one in controls], axis=0)
    which = moved(own, controls)
    seen = np.flatnonzero(own.rate_before + own.rate_after > 0)
    order = seen[np.argsort(-np.abs(own.change[seen]), kind="stable")]
    return [
        {
            "sae": sae,
            "feature": f"{sae}/{i}",
            "edited": i in edited,
            "mean_before": float(own.mean_before[i]),
            "mean_after": float(own.mean_after[i]),
            "change": float(own.change[i]),
            "low": _number(own.low[i]),
            "high": _number(own.high[i]),
            "rate_before": float(own.rate_before[i]),
            "rate_after": float(own.rate_after[i]),
            "q": _number(own.q[i]),
            "control_mean": float(mean[i]),
            "control_largest": float(largest[i]),
            "moved": bool(which[i]),
        }
        for i in order.tolist()
    ]


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
