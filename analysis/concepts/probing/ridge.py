"""Ridge logistic regression of many labellings and splits at once, with nested selection of the penalty.

The rows of an arm are rotated to the space they span, which has at most as many dimensions as
rows. An L2 penalty does not depend on the rotation, so the fits are exact and cost the same for
16,384 features as for 300.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.concepts.probing.splits import grouped_splits
from analysis.statistics.ranks import auc_columns
from ingest.probe.solver.design import Design, spectrum
from ingest.probe.solver.solve import solve

__all__ = [
    "INNER",
    "PENALTIES",
    "Fitted",
    "Space",
    "balanced_weights",
    "fit_ridge",
    "held_out_accuracy",
    "held_out_auc",
    "held_out_loss",
    "inner_folds",
    "nested_ridge",
    "rotated",
]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""λ of mean loss + λ‖w‖², for vectors whose mean squared length is 1."""

INNER = 3
"""Folds within the training data that choose the penalty."""

_TOLERANCE = 1e-5
_COLUMNS = 512


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors of an arm, centred, scaled to mean squared length 1, and rotated.

    Parameters
    ----------
    rows
        float64, (rows, dimensions).
    back
        float64, (dimensions, units). A coefficient of the rotated rows times this is the
        coefficient of the original units.
    mean
        float64, (units,). Subtracted from the original rows.
    """

    rows: Floats
    back: Floats
    mean: Floats


@dataclass(frozen=True, eq=False)
class Fitted:
    """Probes; one for each column.

    Parameters
    ----------
    margins
        float64, (columns, rows). ``X w + b``, of all rows.
    coef
        float64, (columns, dimensions).
    converged
        bool, (columns,).
    penalty
        float64, (columns,).
    """

    margins: Floats
    coef: Floats
    converged: Bools
    penalty: Floats


def rotated(values: Floats) -> Space:
    """Centre, scale and rotate vectors to the space they span.

    Parameters
    ----------
    values
        float64, (rows, units).

    Examples
    --------
    >>> rotated(np.random.default_rng(0).normal(size=(5, 100))).rows.shape
    (5, 4)
    """
    mean = values.mean(axis=0)
    centred = values - mean
    scale = np.sqrt((centred**2).sum(axis=1).mean()) if centred.size else 0.0
    if not scale > 0:
        return Space(np.zeros((len(values), 1)), np.zeros((1, values.shape[1])), mean)
    centred /= scale
    if centred.shape[1] <= centred.shape[0]:
        return Space(centred, np.eye(centred.shape[1]) / scale, mean)
    squares, vectors = np.linalg.eigh(centred @ centred.T)
    used = squares > squares[-1] * 1e-12
    lengths = np.sqrt(squares[used])
    back = (vectors[:, used] / lengths).T @ centred / scale
    return Space(vectors[:, used] * lengths, back, mean)


def balanced_weights(labels: Bools, train: Bools) -> Floats:
    """Return weights of the training rows, with equal sums for both classes; (columns, rows)."""
    weights = np.zeros(train.shape)
    for chosen in (labels & train, ~labels & train):
        counts = chosen.sum(axis=1, keepdims=True)
        weights += chosen / np.maximum(counts, 1)
    return weights / 2


def fit_ridge(
    space: Space,
    labels: Bools,
    train: Bools,
    *,
    penalty: Floats,
    weights: Floats | None = None,
) -> Fitted:
    """Fit one probe for each column.

    Parameters
    ----------
    space
        The vectors.
    labels, train
        bool, (columns, rows). Labels, and the rows that each probe is trained on.
    penalty
        (columns,).
    weights
        (columns, rows). Weights of rows; by default both classes weigh the same.
    """
    own = balanced_weights(labels, train) if weights is None else weights
    design = Design(np.ascontiguousarray(space.rows), dtype=torch.float64)
    basis = spectrum(design)
    coefs, intercepts, converged = [], [], []
    for first in range(0, len(labels), _COLUMNS):
        part = slice(first, first + _COLUMNS)
        weight = torch.from_numpy(np.ascontiguousarray(own[part].T))
        target = torch.from_numpy(np.ascontiguousarray((own[part] * labels[part]).T))
        found = solve(
            design,
            weight,
            target,
            penalty=torch.from_numpy(np.ascontiguousarray(penalty[part])),
            tolerance=_TOLERANCE,
            max_iterations=500,
            basis=basis,
        )
        coefs.append(found.coef.numpy())
        intercepts.append(found.intercept.numpy())
        converged.append(found.converged.numpy())
    coef = np.concatenate(coefs)
    margins = coef @ space.rows.T + np.concatenate(intercepts)[:, None]
    return Fitted(margins, coef, np.concatenate(converged), np.asarray(penalty, dtype=np.float64))


def nested_ridge(
    space: Space,
    labels: Bools,
    train: Bools,
    *,
    groups: Ints,
    seed: int,
    penalties: tuple[float, ...] = PENALTIES,
) -> Fitted:
    """Fit one probe for each column, with the penalty that inner folds choose.

    Parameters
    ----------
    space, labels, train
        As in ``fit_ridge``.
    groups
        int64, (rows,). Inner folds do not divide a group either.
    seed
        Seed of the inner folds.
    penalties
        Penalties to choose from, by the balanced loss on inner test rows.
    """
    number = len(penalties)
    inner_train, inner_test = inner_folds(labels, train, groups=groups, seed=seed)
    folds = inner_train.shape[1]
    repeated = np.repeat(labels, folds * number, axis=0)
    fitted = fit_ridge(
        space,
        repeated,
        np.repeat(inner_train.reshape(-1, labels.shape[1]), number, axis=0),
        penalty=np.tile(penalties, len(labels) * folds),
    )
    losses = held_out_loss(
        fitted.margins,
        repeated,
        np.repeat(inner_test.reshape(-1, labels.shape[1]), number, axis=0),
    )
    mean = np.nan_to_num(losses.reshape(len(labels), folds, number), nan=np.log(2)).mean(axis=1)
    chosen = np.asarray(penalties)[mean.argmin(axis=1)]
    return fit_ridge(space, labels, train, penalty=chosen)


def inner_folds(labels: Bools, train: Bools, *, groups: Ints, seed: int) -> tuple[Bools, Bools]:
    """Return inner training and test rows; bool, (columns, folds, rows)."""
    inside = np.zeros((len(train), INNER, train.shape[1]), dtype=bool)
    outside = inside.copy()
    for column, rows in enumerate(train):
        at = np.flatnonzero(rows)
        cut = grouped_splits(
            labels[column, at].tolist(), groups[at], folds=INNER, repeats=1, seed=seed
        )
        for fold, test in enumerate(cut.test):
            inside[column, fold, at[~test]] = True
            outside[column, fold, at[test]] = True
    return inside, outside


def held_out_loss(margins: Floats, labels: Bools, test: Bools) -> Floats:
    """Return the balanced logistic loss on test rows, in nats; (columns,), NaN for one class."""
    signed = np.where(labels, margins, -margins)
    loss = np.logaddexp(0.0, -signed)
    found = _class_mean(loss, labels & test) + _class_mean(loss, ~labels & test)
    return np.asarray(found / 2)


def held_out_accuracy(margins: Floats, labels: Bools, test: Bools) -> Floats:
    """Return the balanced accuracy on test rows; (columns,), NaN for one class."""
    right = ((margins > 0) == labels).astype(np.float64)
    found = _class_mean(right, labels & test) + _class_mean(right, ~labels & test)
    return np.asarray(found / 2)


def _class_mean(values: Floats, chosen: Bools) -> Floats:
    counts = chosen.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, (values * chosen).sum(axis=1) / counts, np.nan)


def held_out_auc(margins: Floats, labels: Bools, test: Bools) -> Floats:
    """Return the AUROC on test rows, ties count half; (columns,), NaN for one class."""
    found = np.full(len(margins), np.nan)
    for column, rows in enumerate(test):
        found[column] = auc_columns(margins[column, rows, None], labels[column, rows])[0]
    return found
