"""k-sparse probes: logistic regression on the k units that separate the training words best.

Units are ranked inside each split, by the F statistic of the training words. A probe of k units is
scikit-learn's ``SelectKBest(f_classif, k=k)``, ``StandardScaler`` and
``LogisticRegression(class_weight="balanced")``, for all splits and labellings at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis.concepts.probing.ridge import balanced_weights
from analysis.concepts.probing.splits import Splits
from analysis.statistics.ranks import auc_columns

__all__ = ["UnitScores", "best_units", "sparse_margins", "unit_scores"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

_STEPS = 50
_CELLS = 2**24  # numbers in a chunk of columns


class TrainingStatistic:
    """F statistics of units on the training rows of many splits, from sums and squares.

    Parameters
    ----------
    values
        float64, (rows, units).
    """

    def __init__(self, values: Floats) -> None:
        centred = values - values.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        self._x = centred / np.where(spread > 0, spread, 1.0)
        self._squares = self._x**2

    def signed_f(self, labels: Bools, train: Bools) -> Floats:
        """Return F with the sign of the difference of means; (columns, units).

        0 for units without a difference, infinite for a difference without variance.
        """
        one, both = (labels & train).astype(np.float64), train.astype(np.float64)
        n, n_one = both.sum(axis=1)[:, None], one.sum(axis=1)[:, None]
        total, first = both @ self._x, one @ self._x
        squares = both @ self._squares
        n_other = n - n_one
        with np.errstate(divide="ignore", invalid="ignore"):
            difference = first / n_one - (total - first) / n_other
            between = difference**2 * n_one * n_other / n
            within = squares - total**2 / n - between
            within[within < 1e-10 * np.maximum(squares, 1e-300)] = 0.0
            f = between / (within / (n - 2))
        f = np.where(between <= 1e-18, 0.0, f)
        return np.asarray(np.sign(difference) * np.nan_to_num(f, nan=0.0, posinf=np.inf))


def best_units(statistic: Floats, most: int) -> Ints:
    """Return the units with the largest absolute statistic, best first; (columns, most).

    Ties go to the lower index.
    """
    size = np.abs(statistic)
    most = min(most, size.shape[1])
    if most < size.shape[1]:
        # All units that tie with the last selected one are candidates.
        least = np.partition(size, size.shape[1] - most, axis=1)[:, -most]
        found = np.empty((len(size), most), np.int64)
        for column, values in enumerate(size):
            candidates = np.flatnonzero(values >= least[column])
            order = np.argsort(-values[candidates], kind="stable")[:most]
            found[column] = candidates[order]
        return found
    return np.argsort(-size, axis=1, kind="stable")


def sparse_margins(
    values: Floats, labels: Bools, train: Bools, *, units: Ints, c: float = 1.0
) -> tuple[Floats, Bools]:
    """Fit a logistic regression on selected units of each column.

    Parameters
    ----------
    values
        float64, (rows, units).
    labels, train
        bool, (columns, rows).
    units
        int64, (columns, k). The units of each column.
    c
        Inverse penalty, as in scikit-learn.

    Returns
    -------
    margins
        float64, (columns, rows). Of all rows.
    converged
        bool, (columns,).
    """
    margins = np.zeros(labels.shape)
    converged = np.zeros(len(labels), dtype=bool)
    step = max(1, _CELLS // max(1, labels.shape[1] * (units.shape[1] + 1)))
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        x = np.transpose(values[:, units[part]], (1, 0, 2))
        margins[part], converged[part] = _newton(x, labels[part], train[part], c=c)
    return margins, converged


def _newton(x: Floats, labels: Bools, train: Bools, *, c: float) -> tuple[Floats, Bools]:
    """Minimise by Newton's method with halved steps; x is (columns, rows, k)."""
    x = _standardised(x, train)
    weights = balanced_weights(labels, train)
    ridge = 1 / (2 * c * np.maximum(train.sum(axis=1), 1))
    signs = np.where(labels, 1.0, -1.0)
    columns, _, k = x.shape
    design = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    penalty = np.concatenate([np.tile(2 * ridge[:, None], (1, k)), np.full((columns, 1), 1e-12)], 1)
    point = np.zeros((columns, k + 1))

    def loss(at: Floats) -> Floats:
        z = signs * _products(design, at)
        return np.asarray(
            (weights * np.logaddexp(0.0, -z)).sum(axis=1) + (penalty * at**2).sum(axis=1) / 2
        )

    now, converged = loss(point), np.zeros(columns, dtype=bool)
    for _ in range(_STEPS):
        z = _products(design, point)
        p = expit(z)
        residual = weights * (p - labels)
        gradient = np.matmul(residual[:, None], design)[:, 0] + penalty * point
        converged = np.abs(gradient).max(axis=1) <= 1e-8
        if converged.all():
            break
        bend = np.sqrt(weights * p * (1 - p))[:, :, None] * design
        hessian = np.matmul(np.transpose(bend, (0, 2, 1)), bend)
        hessian[:, np.arange(k + 1), np.arange(k + 1)] += penalty + 1e-12
        direction = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        size = np.ones(columns)
        for _ in range(30):
            tried = point + size[:, None] * direction
            after = loss(tried)
            worse = (after > now + 1e-15) & ~converged
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        better = after <= now + 1e-15
        point = np.where(better[:, None], tried, point)
        now = np.where(better, after, now)
    return _products(design, point), converged


def _products(design: Floats, point: Floats) -> Floats:
    return np.asarray(np.matmul(design, point[:, :, None])[:, :, 0])


def _standardised(x: Floats, train: Bools) -> Floats:
    """Centre and scale each unit by its training rows; constant units become 0."""
    rows = train[:, :, None]
    n = np.maximum(train.sum(axis=1), 1)[:, None, None]
    mean = (x * rows).sum(axis=1, keepdims=True) / n
    centred = x - mean
    spread = np.sqrt((centred**2 * rows).sum(axis=1, keepdims=True) / n)
    moving = spread > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return np.asarray(np.where(moving, centred / np.where(moving, spread, 1.0), 0.0))


@dataclass(frozen=True, eq=False)
class UnitScores:
    """Held-out scores of every unit, for each labelling; (labellings, units).

    Parameters
    ----------
    auroc
        Mean AUROC on test rows over the splits, in the direction of the training rows. It equals
        the held-out AUROC of a logistic regression on the unit alone.
    best_share
        Share of the splits in which no other unit has a larger F on the training rows.
    """

    auroc: Floats
    best_share: Floats


def unit_scores(values: Floats, labels: Sequence[Bools] | Bools, splits: Splits) -> UnitScores:
    """Score every unit alone, for several labellings of the same rows, over all splits.

    Parameters
    ----------
    values
        float64, (rows, units).
    labels
        bool, (labellings, rows).
    splits
        The splits, which the labellings share.
    """
    by_row = np.asarray(labels, dtype=bool)
    statistic = TrainingStatistic(values)
    shape = (len(by_row), values.shape[1])
    total, count, best = np.zeros(shape), np.zeros((len(by_row), 1)), np.zeros(shape)
    for test in splits.test:
        train = np.broadcast_to(~test, by_row.shape)
        f = statistic.signed_f(by_row, train)
        area = auc_columns(values[test], by_row[:, test])
        usable = np.isfinite(area).all(axis=1, keepdims=True)
        area = np.where(f >= 0, area, 1 - area)
        total += np.where(usable, area, 0.0)
        count += usable
        if shape[1]:
            best[np.arange(len(best)), np.abs(f).argmax(axis=1)] += 1
    with np.errstate(invalid="ignore"):
        return UnitScores(total / count, best / max(len(splits), 1))
