"""Which effects exceed those of random directions and of other features: p, q and intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import bootstrap_weights, quantile_interval
from ingest.statistics.permutation import exceedance_p

__all__ = [
    "decoy_q",
    "document_interval",
    "feature_mean_interval",
    "max_target_p",
    "paired_p",
    "source_q",
]

#: Shrinkage of the scales of ``max_target_p`` towards those of all targets.
_SHRINKAGE = 0.5

Floats = NDArray[np.float64]
Any2 = NDArray[Any]


def max_target_p(own: Floats, null: Floats, *, floor: float = 1e-6) -> Floats:
    """Return p-values of effects, each adjusted for the number of targets.

    A random direction with the norm of a feature's decoder vector is exchangeable with it if the
    feature's direction does not matter. Effects are divided by the usual effect on the target
    and by the usual effect from the source, over the feature and its random directions together, and
    compared with the largest scaled effect of each random direction on any target.

    Parameters
    ----------
    own
        (sources, targets). Mean effects of the features.
    null
        (draws, sources, targets). Mean effects of random directions at the same tokens.
    floor
        Effects of this size are rounding.

    Returns
    -------
        (sources, targets): (1 + random directions whose largest scaled effect is at least as
        large) / (1 + random directions).
    """
    size = np.abs(np.concatenate([own[None], null]))
    usual = np.square(size).mean(axis=(0, 1))
    size = size / np.sqrt(usual + _SHRINKAGE * usual.mean() + floor**2)
    size = size / (np.sqrt(np.square(size).mean(axis=(0, 2), keepdims=True)) + 1e-12)
    highest = np.sort(size[1:].max(axis=2, initial=0.0).ravel())
    as_high = len(highest) - np.searchsorted(highest, size[0] * (1 - 1e-9), side="left")
    # An effect of the size of rounding is none.
    as_high = np.where(np.abs(own) <= floor, len(highest), as_high)
    return np.asarray(exceedance_p(as_high, len(highest)), dtype=np.float64)


def source_q(p: Floats) -> Floats:
    """Return Benjamini-Hochberg q-values over sources of p-values adjusted within a source.

    Parameters
    ----------
    p
        (sources, targets), adjusted for the number of targets.

    Returns
    -------
        (sources, targets). The least rate of false discoveries among sources with an edge at
        which the pair is an edge.
    """
    if not p.size:
        return p.copy()
    lowest = np.sort(p.min(axis=1))
    sources = len(lowest)
    rate = np.append(sources * lowest / np.arange(1, sources + 1), 1.0)
    best = np.minimum.accumulate(rate[::-1])[::-1]
    at = np.searchsorted(lowest, p, side="left")
    selected = np.searchsorted(lowest, p, side="right").clip(min=1)
    q: Floats = np.minimum(best[at], np.minimum(1.0, sources * p / selected))
    return q


def decoy_q(own: Floats, decoys: Floats, *, floor: float = 1e-300) -> Floats:
    """Return q-values from exchangeable decoys of each feature.

    Let w be the log of the largest of the 1 + d values of a feature, minus the median log of the
    others. If the feature is exchangeable with its decoys, then it has the largest value with
    probability 1 / (1 + d), whatever w is. So features whose decoy has the largest value count the
    false discoveries, each as 1 / d [1]_. One decoy gives the procedure of Barber & Candès (2015).

    Parameters
    ----------
    own
        (features,). A positive statistic of each feature.
    decoys
        (d, features). The same of its random directions.
    floor
        Above 0. Values below it are rounding, and are raised to it.

    Returns
    -------
        (features,). For features that exceed their decoys, the least of (1 + decoys with w ≥ t) /
        (d · features with w ≥ t) over the thresholds t ≤ w above 0, at most 1; 1 for the others.

    References
    ----------
    .. [1] Gimenez & Zou, "Improving the stability of the knockoff procedure: multiple simultaneous
       knockoffs and entropy maximization", AISTATS 2019.

    Examples
    --------
    >>> decoy_q(np.array([8.0, 9.0, 1.0]), np.array([[1.0, 1.0, 2.0], [2.0, 1.0, 1.0]])).tolist()
    [0.25, 0.25, 1.0]
    """
    number = len(decoys)
    logs = np.log(np.maximum(np.concatenate([decoys, own[None]]), floor))
    winner = logs.argmax(axis=0)  # of equal values a decoy, since they come first
    ordered = np.sort(logs, axis=0)
    w = ordered[-1] - np.median(ordered[:-1], axis=0)
    discovered = (winner == number) & (w > 0)
    against = np.sort(w[(winner < number) & (w > 0)])
    q = np.ones(len(own))
    order = np.flatnonzero(discovered)[np.argsort(-w[discovered], kind="stable")]
    for rank, i in enumerate(order, start=1):
        false = len(against) - np.searchsorted(against, w[i], side="left")
        q[i] = min(1.0, (1 + false) / (number * rank))
    lowest = 1.0
    for i in order[::-1]:
        lowest = min(lowest, q[i])
        q[i] = lowest
    return q


def paired_p(own: Floats, other: Floats, document: Any2, *, draws: int, seed: int) -> float:
    """Return the one-sided p that one effect is larger than another at the same tokens.

    Parameters
    ----------
    own, other
        (tokens,). Sizes of the effects.
    document
        (tokens,). Document of each token.
    draws, seed
        Number of random signs of the documents, and their seed.

    Returns
    -------
        p of the mean over documents of the mean difference, under random signs of documents.
    """
    _, group = np.unique(document, return_inverse=True)
    difference = np.bincount(group, weights=own - other) / np.bincount(group)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(difference)))
    seen = difference.sum()
    as_high = int(((signs @ difference) >= seen - 1e-12 * abs(seen)).sum())
    return float(exceedance_p(as_high, draws))


def document_interval(
    values: Floats, document: Any2, *, draws: int, seed: int
) -> tuple[float, float]:
    """Return the 95% interval of the mean of some tokens, by a bootstrap over documents.

    Parameters
    ----------
    values
        (tokens,). An effect at each token.
    document
        (tokens,). Document of each token.
    draws, seed
        Number of bootstrap draws, and their seed.
    """
    _, group = np.unique(document, return_inverse=True)
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    weights = bootstrap_weights(len(counts), draws, np.random.default_rng(seed))
    low, high = quantile_interval((weights @ sums) / (weights @ counts))
    return float(low), float(high)


def feature_mean_interval(
    values: Floats, feature: Any2, document: Any2, *, draws: int, seed: int
) -> tuple[float, float, float]:
    """Return the mean over features of their means over tokens, with its 95% interval over documents.

    Parameters
    ----------
    values
        (tokens,). A number at each token, such as a difference of effects; at least one.
    feature, document
        (tokens,). Feature and document of each token.
    draws, seed
        Number of bootstrap draws, and their seed. A feature without a token in a draw is not in it.

    Returns
    -------
        Mean and limits. The features, and random directions, are fixed.

    Examples
    --------
    >>> feature_mean_interval(np.array([1.0, 1.0, 4.0]), [0, 0, 1], [0, 1, 0], draws=99, seed=0)[0]
    2.5
    """
    _, row = np.unique(feature, return_inverse=True)
    _, group = np.unique(document, return_inverse=True)
    shape = (int(group.max()) + 1, int(row.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (group, row), values)
    np.add.at(counts, (group, row), 1.0)
    weights = bootstrap_weights(shape[0], draws, np.random.default_rng(seed))
    number = weights @ counts
    means = np.divide(weights @ sums, number, out=np.full(number.shape, np.nan), where=number > 0)
    low, high = quantile_interval(np.nanmean(means, axis=1))
    return float((sums.sum(0) / counts.sum(0)).mean()), float(low), float(high)
