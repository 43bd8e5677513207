"""Elastic-net logistic regression of many columns at once: accelerated proximal gradient.

Each column minimises over w and b, with z = X w + b and weights that sum to 1::

    Σ_r weight_r · log(1 + exp(∓z_r)) + penalty · (ratio · ‖w‖₁ + (1 - ratio) / 2 · ‖w‖²)

which is scikit-learn's ``LogisticRegression(l1_ratio=ratio, C=1 / (penalty · ΣW))`` with weights W.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis.concepts.probing.ridge import (
    INNER,
    Fitted,
    balanced_weights,
    held_out_loss,
    inner_folds,
)

__all__ = ["FRACTIONS", "fit_elastic_net", "largest_penalty", "nested_elastic_net"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

FRACTIONS = (0.5, 0.2, 0.1, 0.05)
"""Penalties to choose from, as shares of the smallest penalty whose coefficients are all 0."""

RATIO = 0.5
"""Share of the L1 part of the penalty."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """Columns that are still running; vectors are shared."""

    x: Floats
    signs: Floats
    weights: Floats
    penalty: Floats
    ratio: float

    def gradient(self, w: Floats, b: Floats) -> tuple[Floats, Floats]:
        """Return the gradient of the smooth part; (columns, units) and (columns,)."""
        z = w @ self.x.T + b[:, None]
        residual = -self.signs * self.weights * expit(-self.signs * z)
        slope = residual @ self.x + (self.penalty * (1 - self.ratio))[:, None] * w
        return slope, residual.sum(axis=1)

    def take(self, columns: Bools) -> "_Problem":
        """Return some columns."""
        return _Problem(
            self.x,
            self.signs[columns],
            self.weights[columns],
            self.penalty[columns],
            self.ratio,
        )


def fit_elastic_net(
    values: Floats,
    labels: Bools,
    train: Bools,
    *,
    penalty: Floats,
    ratio: float = RATIO,
    tolerance: float = 1e-5,
    max_iterations: int = 5000,
) -> Fitted:
    """Fit one probe for each column; both classes weigh the same.

    Parameters
    ----------
    values
        float64, (rows, units).
    labels, train
        bool, (columns, rows).
    penalty
        (columns,).
    ratio
        Share of the L1 part.
    tolerance
        A column has converged when no component of its proximal gradient is larger, in units
        of vectors scaled to mean squared length 1.
    max_iterations
        Columns that did not converge by then are reported as such.

    References
    ----------
    A. Beck and M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", 2009, with the
    restart of B. O'Donoghue and E. Candès, 2015.
    """
    mean = values.mean(axis=0)
    x = values - mean
    scale = float(np.sqrt((x**2).sum(axis=1).mean())) or 1.0
    x = x / scale
    weights = balanced_weights(labels, train)
    scaled = _scaled_penalty(penalty, scale, ratio)
    problem = _Problem(x, np.where(labels, 1.0, -1.0), weights, scaled.ridge, ratio)
    w, b, converged = _minimise(
        problem, scaled.lasso, tolerance=tolerance, max_iterations=max_iterations
    )
    margins = w @ x.T + b[:, None]
    return Fitted(margins, w / scale, converged, np.asarray(penalty, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class _Penalties:
    """Penalties of scaled vectors: of ‖w‖² / 2 · (1 - ratio), and of ‖w‖₁."""

    ridge: Floats
    lasso: Floats


def _scaled_penalty(penalty: Floats, scale: float, ratio: float) -> _Penalties:
    """Convert penalties of original coefficients to those of vectors divided by ``scale``."""
    penalty = np.asarray(penalty, dtype=np.float64)
    return _Penalties(penalty / scale**2, penalty * ratio / scale)


def _minimise(
    problem: _Problem, lasso: Floats, *, tolerance: float, max_iterations: int
) -> tuple[Floats, Floats, Bools]:
    columns, units = len(problem.signs), problem.x.shape[1]
    best_w, best_b = np.zeros((columns, units)), np.zeros(columns)
    converged = np.zeros(columns, dtype=bool)
    running = np.arange(columns)
    step = 1 / _lipschitz(problem)
    w, b = best_w.copy(), best_b.copy()
    ahead_w, ahead_b = w, b
    momentum = np.ones(columns)
    for _ in range(max_iterations):
        slope, slope_b = problem.gradient(ahead_w, ahead_b)
        new_w = _shrunk(ahead_w - step[:, None] * slope, (step * lasso)[:, None])
        new_b = ahead_b - step * slope_b
        moved = np.maximum(
            np.abs(new_w - ahead_w).max(axis=1, initial=0.0), np.abs(new_b - ahead_b)
        )
        done = moved / step <= tolerance
        uphill = ((ahead_w - new_w) * (new_w - w)).sum(axis=1) + (ahead_b - new_b) * (new_b - b) > 0
        momentum = np.where(uphill, 1.0, momentum)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        share = np.where(uphill, 0.0, (momentum - 1) / following)
        ahead_w = new_w + share[:, None] * (new_w - w)
        ahead_b = new_b + share * (new_b - b)
        w, b, momentum = new_w, new_b, following
        if done.any():
            best_w[running[done]], best_b[running[done]] = w[done], b[done]
            converged[running[done]] = True
            rest = ~done
            problem, running = problem.take(rest), running[rest]
            w, b, ahead_w, ahead_b = w[rest], b[rest], ahead_w[rest], ahead_b[rest]
            momentum, step, lasso = momentum[rest], step[rest], lasso[rest]
            if not len(running):
                break
    best_w[running], best_b[running] = w, b
    return best_w, best_b, converged


def _shrunk(values: Floats, by: Floats) -> Floats:
    return np.asarray(np.sign(values) * np.maximum(np.abs(values) - by, 0.0))


def _lipschitz(problem: _Problem) -> Floats:
    """Return a bound of the curvature of the smooth part of each column."""
    x = problem.x
    smaller = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    top = float(np.linalg.eigvalsh(smaller)[-1]) if smaller.size else 0.0
    largest = problem.weights.max(axis=1)
    # The column of ones of the intercept adds at most its own squared length.
    return np.asarray(largest * (top + len(x)) / 4 + problem.penalty * (1 - problem.ratio))


def largest_penalty(values: Floats, labels: Bools, train: Bools, *, ratio: float = RATIO) -> Floats:
    """Return the smallest penalty at which all coefficients are 0; (columns,)."""
    weights = balanced_weights(labels, train)
    residual = weights * (labels - 0.5)
    return np.asarray(
        np.abs(residual @ (values - values.mean(axis=0))).max(axis=1, initial=0.0) / ratio
    )


def nested_elastic_net(
    values: Floats, labels: Bools, train: Bools, *, groups: Ints, seed: int
) -> Fitted:
    """Fit one probe for each column, with the penalty that inner folds choose.

    Parameters
    ----------
    values, labels, train
        As in ``fit_elastic_net``.
    groups, seed
        As in ``ridge.nested_ridge``.
    """
    top = np.maximum(largest_penalty(values, labels, train), 1e-12)
    grid = np.asarray(FRACTIONS) * top[:, None]
    inner_train, inner_test = inner_folds(labels, train, groups=groups, seed=seed)
    number, rows = len(FRACTIONS), labels.shape[1]
    repeated = np.repeat(labels, INNER * number, axis=0)
    fitted = fit_elastic_net(
        values,
        repeated,
        np.repeat(inner_train.reshape(-1, rows), number, axis=0),
        penalty=np.repeat(grid[:, None], INNER, axis=1).ravel(),
        tolerance=1e-3,
    )
    losses = held_out_loss(
        fitted.margins, repeated, np.repeat(inner_test.reshape(-1, rows), number, axis=0)
    )
    mean = np.nan_to_num(losses.reshape(len(labels), INNER, number), nan=np.log(2)).mean(axis=1)
    chosen = grid[np.arange(len(labels)), mean.argmin(axis=1)]
    return fit_elastic_net(values, labels, train, penalty=chosen)
