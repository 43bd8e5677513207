"""Estimators: probes for many labels at once, with scikit-learn's manners, for arrays in a notebook."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, issparse
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from atlas.errors import BadInput
from ingest.probe.solver.design import Design
from ingest.probe.solver.preconditioner import Spectrum, spectrum
from ingest.probe.solver.solve import Link, Solution, margins, solve

__all__ = ["LogisticProbes", "RidgeProbes"]

Floats = NDArray[np.floating[Any]]


class _Probes(BaseEstimator):  # type: ignore[misc]
    """What both kinds share: blocks of labels, and what is kept of them."""

    penalty: float
    tol: float
    max_iter: int
    device: str
    dtype: str
    block: int
    coef_: Floats
    intercept_: Floats

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return ``X w + b``; (rows, labels)."""
        check_is_fitted(self)
        design = self._design(X)
        if design.width != self.coef_.shape[1]:
            raise BadInput(
                f"Vectors of {design.width} dimensions were given; the probes were fitted on"
                f" {self.coef_.shape[1]}."
            )
        coef, intercept = torch.from_numpy(self.coef_), torch.from_numpy(self.intercept_)
        nothing = torch.zeros(0)
        found = margins(design, Solution(coef, intercept, nothing, nothing))
        return found.cpu().numpy()

    def _design(self, X: ArrayLike) -> Design:
        """Wrap the vectors."""
        if self.dtype not in ("float32", "float64"):
            raise BadInput(f"dtype={self.dtype!r} was given; expected 'float32' or 'float64'.")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise BadInput(
                f"device={self.device!r} cannot be used here; expected one such as 'cpu' or 'cuda'."
            ) from error
        x = X if isinstance(X, np.ndarray) else _array(X, "vectors")
        if np.issubdtype(x.dtype, np.integer) or x.dtype == np.bool_:
            x = x.astype(self.dtype)
        return Design(x, device=device, dtype=getattr(torch, self.dtype))

    def _fit(self, design: Design, targets: Any, *, totals: Floats, link: Link) -> None:
        """Fit block by block; ``targets`` are dense or sparse columns, already weighted."""
        if not (isinstance(self.block, int) and self.block > 0 and self.max_iter > 0):
            raise BadInput(
                f"block={self.block} and max_iter={self.max_iter} were given; expected 1 or more."
            )
        if not 0 < self.tol < 1:
            raise BadInput(f"tol={self.tol} was given; expected a number between 0 and 1.")
        dtype = getattr(torch, self.dtype)
        basis = spectrum(design, torch.from_numpy(totals).to(design.device, dtype))
        found = []
        for first in range(0, targets.shape[1], self.block):
            block = _dense(targets, slice(first, first + self.block))
            weight, target = self._weighted(block, totals)
            found.append(self._solve(design, weight, target, link=link, basis=basis))
        coef = np.concatenate([one.coef.cpu().numpy() for one in found])
        self.coef_ = coef.astype(self.dtype)
        self.intercept_ = np.concatenate([one.intercept.cpu().numpy() for one in found])
        self.n_iter_ = np.concatenate([one.iterations.cpu().numpy() for one in found])
        self.converged_ = np.concatenate([one.converged.cpu().numpy() for one in found])
        self.n_features_in_ = design.width

    def _solve(
        self, design: Design, weight: Floats, target: Floats, *, link: Link, basis: Spectrum
    ) -> Solution:
        dtype = getattr(torch, self.dtype)
        return solve(
            design,
            torch.from_numpy(weight).to(design.device, dtype),
            torch.from_numpy(target).to(design.device, dtype),
            penalty=self.penalty,
            link=link,
            tolerance=self.tol,
            max_iterations=self.max_iter,
            basis=basis,
        )

    def _weighted(self, block: Floats, totals: Floats) -> tuple[Floats, Floats]:
        """Return the weights and targets of a block of labels."""
        return totals[:, None], block


class LogisticProbes(_Probes):
    """L2 logistic regression of many labels on the same vectors.

    Each label minimises its weighted mean loss + penalty · ‖w‖², its intercept free: what
    ``sklearn.linear_model.LogisticRegression(C=1 / (2 * penalty * sum of weights))`` does for
    one. A label of one class gets ``w = 0`` and a large intercept, and is told by ``one_class_``.

    Parameters
    ----------
    penalty
        λ, above 0.
    class_weight
        ``"balanced"``: both classes weigh the same, by weighted counts. None: as given.
    tol
        A label ends when no component of its gradient is larger.
    max_iter
        Passes over the vectors at most.
    device
        Where it is computed, such as ``"cuda"``.
    dtype
        ``"float32"`` or ``"float64"``.
    block
        Labels solved together: memory is a few arrays (rows, block).

    Attributes
    ----------
    coef_
        (labels, width).
    intercept_
        float64, (labels,): large where the vectors' mean is.
    n_iter_
        int64, (labels,). Passes over the vectors until the label's end.
    converged_
        bool, (labels,).
    one_class_
        bool, (labels,). Labels that are active everywhere or nowhere, where rows weigh anything.
    """

    def __init__(
        self,
        penalty: float = 1e-3,
        *,
        class_weight: str | None = "balanced",
        tol: float = 1e-6,
        max_iter: int = 200,
        device: str = "cpu",
        dtype: str = "float32",
        block: int = 512,
    ) -> None:
        self.penalty = penalty
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.dtype = dtype
        self.block = block

    def fit(self, X: ArrayLike, Y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on rows that stand for themselves.

        Parameters
        ----------
        X
            (rows, width).
        Y
            (rows, labels), bool or 0 and 1; may be sparse.
        sample_weight
            (rows,); 1 each if None.

        Raises
        ------
        BadInput
            Shapes, labels or weights cannot be used.
        BadActivations
            The vectors hold NaN or Inf.
        """
        labels = _columns(Y, "labels")
        values = _values(labels)
        if not ((values == 0) | (values == 1)).all():
            raise BadInput("Labels other than 0 and 1 were given; expected bool, or 0 and 1.")
        weight = _weights(sample_weight, labels.shape[0], "sample_weight")
        return self.fit_counts(X, _rows_times(labels, weight), weight)

    def fit_counts(self, X: ArrayLike, positives: Any, totals: ArrayLike) -> Self:
        """Fit on rows that stand for many tokens each.

        Parameters
        ----------
        X
            (rows, width).
        positives
            (rows, labels). How many of the row's tokens are active; may be sparse.
        totals
            (rows,). How many tokens the row stands for.

        Raises
        ------
        BadInput
            Shapes or counts cannot be used.
        BadActivations
            The vectors hold NaN or Inf.
        """
        if self.class_weight not in ("balanced", None):
            raise BadInput(
                f"class_weight={self.class_weight!r} was given; expected 'balanced' or None."
            )
        design = self._design(X)
        counts = _columns(positives, "positives", rows=design.rows)
        of_rows = _weights(totals, design.rows, "totals")
        _check_counts(counts, of_rows)
        self._fit(design, counts, totals=of_rows, link="logistic")
        active = np.asarray(counts.sum(axis=0), dtype=np.float64)
        self.one_class_ = (active <= 0) | _all_active(counts, of_rows)
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probability that each label is active; (rows, labels)."""
        found: Floats = expit(self.decision_function(X))
        return found

    def predict(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Say whether each label is active: its probability is above a half; (rows, labels)."""
        return self.decision_function(X) > 0

    def _weighted(self, block: Floats, totals: Floats) -> tuple[Floats, Floats]:
        if self.class_weight is None:
            return totals[:, None], block
        rest = totals[:, None] - block
        for counts in (block, rest):
            counts /= np.maximum(counts.sum(axis=0), np.finfo(np.float64).tiny)
        rest += block
        return rest, block


class RidgeProbes(_Probes):
    """Ridge regression of many targets on the same vectors.

    Each target minimises its weighted mean squared error / 2 + penalty · ‖w‖², its intercept
    free: ``sklearn.linear_model.Ridge(alpha=2 * penalty * sum of weights)``.

    Parameters
    ----------
    penalty
        λ, above 0.
    tol
        A target ends when no component of its gradient is larger, in units of the target's
        standard deviation.
    max_iter
        Passes over the vectors at most; two are enough as a rule.
    device
        Where it is computed, such as ``"cuda"``.
    dtype
        ``"float32"`` or ``"float64"``.
    block
        Targets solved together: memory is a few arrays (rows, block).

    Attributes
    ----------
    coef_
        (targets, width).
    intercept_
        float64, (targets,): large where the vectors' mean is.
    n_iter_
        int64, (targets,).
    converged_
        bool, (targets,).
    """

    def __init__(
        self,
        penalty: float = 1e-3,
        *,
        tol: float = 1e-6,
        max_iter: int = 200,
        device: str = "cpu",
        dtype: str = "float32",
        block: int = 512,
    ) -> None:
        self.penalty = penalty
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.dtype = dtype
        self.block = block

    def fit(self, X: ArrayLike, Y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on vectors (rows, width) and targets (rows, targets), which may be sparse.

        Raises
        ------
        BadInput
            Shapes, targets or weights cannot be used.
        BadActivations
            The vectors hold NaN or Inf.
        """
        design = self._design(X)
        targets = _columns(Y, "targets", rows=design.rows)
        weight = _weights(sample_weight, design.rows, "sample_weight")
        self._fit(design, _rows_times(targets, weight), totals=weight, link="squared")
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Return what is predicted; (rows, targets)."""
        return self.decision_function(X)


def _array(given: Any, what: str) -> Floats:
    """Make an array of numbers."""
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"The {what} are no array of numbers; expected one.") from error


def _columns(given: Any, what: str, *, rows: int | None = None) -> Any:
    """Return a dense array, or a sparse one by columns."""
    sparse: bool = issparse(given)
    table: Any = csc_array(given, copy=True) if sparse else _array(given, what)
    if table.ndim != 2 or 0 in table.shape or (rows is not None and table.shape[0] != rows):
        expected = "(rows, labels)" if rows is None else f"({rows}, labels)"
        raise BadInput(f"The {what} are of shape {table.shape}; expected {expected}.")
    if not np.isfinite(_values(table)).all():
        raise BadInput(f"The {what} hold NaN or Inf; expected numbers.")
    if isinstance(table, csc_array):
        table.sum_duplicates()
    return table


def _weights(given: ArrayLike | None, rows: int, what: str) -> Floats:
    """Return one weight a row."""
    weights = np.ones(rows) if given is None else _array(given, what)
    if weights.shape != (rows,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise BadInput(
            f"{what} of shape {weights.shape} was given for {rows} rows; expected one number,"
            " 0 or more, a row."
        )
    if not weights.any():
        raise BadInput(f"{what} is 0 everywhere; expected a row of some weight.")
    return weights


def _dense(table: Any, columns: slice) -> Floats:
    """Return some columns as a new dense array of float64."""
    some = table[:, columns]
    return np.array(some.toarray() if isinstance(some, csc_array) else some, dtype=np.float64)


def _rows_times(table: Any, weight: Floats) -> Any:
    """Multiply each row by its weight."""
    if not isinstance(table, csc_array):
        return table * weight[:, None]
    found: csc_array = table.copy()
    found.data = found.data * weight[found.indices]
    return found


def _values(table: Any) -> Floats:
    """Return the numbers of a dense or sparse array, zeros left out or not."""
    found: Floats = table.data if isinstance(table, csc_array) else table
    return found


def _check_counts(counts: Any, totals: Floats) -> None:
    """Raise where a row has fewer tokens than active ones."""
    if isinstance(counts, csc_array):
        good = ((counts.data >= 0) & (counts.data <= totals[counts.indices])).all()
    else:
        good = ((counts >= 0) & (counts <= totals[:, None])).all()
    if not good:
        raise BadInput(
            "positives below 0 or above the row's total were given; expected how many of the"
            " row's tokens are active."
        )


def _all_active(counts: Any, totals: Floats) -> NDArray[np.bool_]:
    """Say which labels are active on all tokens."""
    if not isinstance(counts, csc_array):
        everywhere: NDArray[np.bool_] = (counts == totals[:, None]).all(axis=0)
        return everywhere
    full = (counts.data == totals[counts.indices]) & (counts.data > 0)
    label = np.repeat(np.arange(counts.shape[1]), np.diff(counts.indptr))
    rows = np.bincount(label[full], minlength=counts.shape[1])
    found: NDArray[np.bool_] = rows == np.count_nonzero(totals)
    return found
