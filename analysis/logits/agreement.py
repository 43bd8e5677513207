"""How far direct logits agree with measured changes, compared with the direct logits of other features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.statistics.permutation import exceedance_p

__all__ = ["Agreement", "agreement", "top_tokens"]

Floats = NDArray[np.floating]

#: The same sum in a different order must not compare as different.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of direct logits with measured changes; all arrays are (features,).

    Parameters
    ----------
    own
        Spearman correlation, over the vocabulary, of a feature's direct logits with the measured
        fall of the log-probabilities. NaN if one of them is constant.
    control
        Mean of the same correlation with the direct logits of each other feature. NaN without one.
    p
        (1 + other features whose direct logits correlate at least as highly) / (1 + others).
    """

    own: NDArray[np.float64]
    control: NDArray[np.float64]
    p: NDArray[np.float64]


def agreement(direct: Floats, change: Floats) -> Agreement:
    """Compare the direct logits of features with the measured changes by their ablation.

    Parameters
    ----------
    direct
        (features or more, vocabulary). Direct logits of the ablated features, then those of
        features that are not ablated, which are controls.
    change
        (features, vocabulary). Measured change of each log-probability by the ablation.

    Examples
    --------
    >>> direct = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    >>> found = agreement(direct, -2.0 * direct)
    >>> found.own.round(6).tolist(), found.control.round(2).tolist(), found.p.tolist()
    ([1.0, 1.0], [-0.5, -0.5], [0.5, 0.5])
    """
    correlation = np.clip(_standard_ranks(-change) @ _standard_ranks(direct).T, -1.0, 1.0)
    number = len(correlation)
    own = np.diagonal(correlation).copy()
    others = ~np.eye(*correlation.shape, dtype=np.bool_) & np.isfinite(correlation)
    count = others.sum(axis=1)
    total = np.where(others, np.nan_to_num(correlation), 0.0).sum(axis=1)
    control = np.divide(total, count, out=np.full(number, np.nan), where=count > 0)
    higher = (others & (correlation >= own[:, None] - _ROUNDING)).sum(axis=1)
    p = np.array([exceedance_p(h, int(n)) for h, n in zip(higher, count, strict=True)])
    return Agreement(own, control, np.where(np.isfinite(own), p, np.nan))


def top_tokens(values: Floats, number: int) -> NDArray[np.int64]:
    """Return the tokens with the highest values of each row, the highest first; ties to the lower id.

    Parameters
    ----------
    values
        (features, vocabulary).
    number
        Number of tokens, at most.

    Returns
    -------
        int64, (features, tokens).
    """
    width = values.shape[1]
    number = min(number, width)
    if not number:
        return np.zeros((len(values), 0), dtype=np.int64)
    # Everything as high as the last of the highest, so that ties do not depend on the partition.
    last = np.partition(values, width - number, axis=1)[:, width - number]
    found = np.empty((len(values), number), dtype=np.int64)
    for row, (one, least) in enumerate(zip(values, last, strict=True)):
        candidates = np.flatnonzero(one >= least)
        found[row] = candidates[np.argsort(-one[candidates], kind="stable")][:number]
    return found


def _standard_ranks(values: Floats) -> NDArray[np.float64]:
    """Return the ranks of each row, centred and of unit length; NaN in a constant row."""
    ranks = np.empty(values.shape, dtype=np.float64)
    for row, one in enumerate(values):  # one at a time, since the vocabulary is long
        ranks[row] = rankdata(one)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(ranks).sum(axis=1, keepdims=True))
    np.divide(ranks, length, out=ranks, where=length > 0)
    ranks[length[:, 0] == 0] = np.nan
    return ranks
