"""Localisation: how many units carry a concept, and how much of the layer's information they retain."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.concepts.probing.ridge import Fitted, Space
from analysis.concepts.probing.splits import Interval, Splits, resampled_interval

__all__ = [
    "KS",
    "area_under_curve",
    "effective_number",
    "k90",
    "loss_rises",
    "retained",
]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

KS = (1, 2, 5, 10, 20, 50)
"""Numbers of units of the k-sparse probes."""

SHARE = 0.9
"""Share of the information of the layer that defines k90."""

_CELLS = 2**22


def retained(auc: Floats, dense: Floats, ratio: float) -> Interval:
    """Return the retained information R = (mean AUROC - .5) / (mean AUROC of the layer - .5).

    Parameters
    ----------
    auc, dense
        (splits,). AUROC on the same splits; NaN is ignored.
    ratio
        Test rows / training rows of a split.

    Returns
    -------
    R with its 95% interval: the delta method, with the variance of overlapping splits. NaN if the
    interval of the mean of ``dense`` includes .5: then the layer has nothing to retain.

    Examples
    --------
    >>> retained(np.array([0.7, 0.7]), np.array([0.9, 0.9]), 0.25).value
    0.5
    """
    both = np.isfinite(auc) & np.isfinite(dense)
    if not both.any():
        return Interval(np.nan, np.nan, np.nan)
    excess, complete = auc[both] - 0.5, dense[both] - 0.5
    mean = complete.mean()
    if mean <= 0 or resampled_interval(dense, ratio).low <= 0.5:
        return Interval(np.nan, np.nan, np.nan)
    share = float(excess.mean() / mean)
    around = resampled_interval(share + (excess - share * complete) / mean, ratio)
    return Interval(round(share, 12), around.low, around.high)


def k90(ks: tuple[int, ...], shares: list[float]) -> int | None:
    """Return the smallest k whose R reaches 90%; None if none does.

    Parameters
    ----------
    ks
        Numbers of units, ascending.
    shares
        R of each.

    Examples
    --------
    >>> k90((1, 2, 5), [0.5, 0.95, 0.85]), k90((1, 2, 5), [0.5, 0.6, 0.7])
    (2, None)
    """
    return next((k for k, share in zip(ks, shares, strict=True) if share >= SHARE), None)


def area_under_curve(ks: tuple[int, ...], values: Floats) -> Floats:
    """Return the mean of R over log k, from the first k to the last.

    Parameters
    ----------
    ks
        Numbers of units, ascending.
    values
        (..., ks). R at each k.

    Returns
    -------
    (...). The trapezoid area over log k / log of (last k / first k); the value itself for one k.

    Examples
    --------
    >>> float(area_under_curve((1, 10, 100), np.array([0.0, 0.5, 1.0])))
    0.5
    """
    at = np.log(np.asarray(ks, dtype=np.float64))
    if len(at) < 2:
        return np.asarray(values[..., 0])
    return np.asarray(np.trapezoid(values, at, axis=-1) / (at[-1] - at[0]))


def loss_rises(
    values: Floats, space: Space, fitted: Fitted, *, labels: Bools, splits: Splits
) -> Floats:
    """Return how much the held-out loss of a probe rises without each unit.

    Parameters
    ----------
    values
        float64, (rows, units). The units; ``space`` is their rotation.
    space, fitted
        The vectors, and a probe for each split.
    labels
        bool, (rows,).
    splits
        The splits.

    Returns
    -------
    float64, (splits, units). Rise of the balanced held-out loss in nats, if the unit has its
    training mean on all test rows. The probe is not fitted again.
    """
    rises = np.zeros((len(splits), values.shape[1]))
    coef = fitted.coef @ space.back
    for number, test in enumerate(splits.test):
        own = labels[test]
        if own.all() or not own.any():
            rises[number] = np.nan
            continue
        sign = np.where(own, 1.0, -1.0)
        weight = np.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())
        margin = sign * fitted.margins[number, test]
        before = weight @ np.logaddexp(0.0, -margin)
        mean = values[~test].mean(axis=0)
        step = max(1, _CELLS // len(own))
        for first in range(0, values.shape[1], step):
            part = slice(first, first + step)
            change = sign[:, None] * (values[test, part] - mean[part]) * coef[number, part]
            without = np.logaddexp(0.0, change - margin[:, None])
            rises[number, part] = weight @ without - before
    return rises


def effective_number(rises: Floats, ratio: float) -> float:
    """Return the number of units that carry a concept: the participation ratio of loss rises.

    Parameters
    ----------
    rises
        (splits, units). From ``loss_rises``; splits of NaN are ignored.
    ratio
        Test rows / training rows of a split.

    Returns
    -------
    (Σ p)² / Σ p² of the mean rises p. A rise counts only if it exceeds 0 at the level 1 / units
    (at most .05). Then about one unit counts under the null. Otherwise the noise of thousands of
    units would count as tens of units. NaN if no unit counts.

    Examples
    --------
    >>> effective_number(np.tile([1.0, 1.0, 0.0, 0.0], (10, 1)), 0.25)
    2.0
    """
    known = rises[np.isfinite(rises).all(axis=1)]
    if len(known) < 2 or not known.shape[1]:
        return float("nan")
    mean = known.mean(axis=0)
    error = np.sqrt((1 / len(known) + ratio) * known.var(axis=0, ddof=1))
    critical = float(student.isf(min(0.05, 1 / known.shape[1]), len(known) - 1))
    share = np.where(mean > np.maximum(critical * error, 1e-12), mean, 0.0)
    total = share.sum()
    return float(total**2 / (share**2).sum()) if total > 0 else float("nan")
