"""Estimators: probes for many labels at once, with the interface of scikit-learn."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, issparse
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from atlas.errors import BadInput
from ingest.probe.solver.design import Design, Spectrum, spectrum
from ingest.probe.solver.solve import Link, Solution, margins, solve

__all__ = ["LogisticProbes", "RidgeProbes"]

Floats = NDArray[np.floating[Any]]


class _Probes(BaseEstimator):  # type: ignore[misc]
    """Base class of both estimators: fits blocks of labels and stores their coefficients."""

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
                f"The vectors have {design.width} dimensions; the probes were fitted on"
                f" {self.coef_.shape[1]}."
            )
        coef, intercept = torch.from_numpy(self.coef_), torch.from_numpy(self.intercept_)
        empty = torch.zeros(0)
        z = margins(design, Solution(coef, intercept, empty, empty))
        return z.cpu().numpy()

    def _design(self, X: ArrayLike) -> Design:
        """Return a design of the vectors."""
        if self.dtype not in ("float32", "float64"):
            raise BadInput(f"dtype is {self.dtype!r}; expected 'float32' or 'float64'.")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise BadInput(
                f"device={self.device!r} cannot be used here; expected a device such as 'cpu' or 'cuda'."
            ) from error
        x = X if isinstance(X, np.ndarray) else _array(X, "vectors")
        if np.issubdtype(x.dtype, np.integer) or x.dtype == np.bool_:
            x = x.astype(self.dtype)
        return Design(x, device=device, dtype=getattr(torch, self.dtype))

    def _fit(self, design: Design, targets: Any, *, totals: Floats, link: Link) -> None:
        """Fit block by block; ``targets`` are dense or sparse columns, already weighted."""
        if not (isinstance(self.block, int) and self.block > 0 and self.max_iter > 0):
            raise BadInput(
                f"block is {self.block} and max_iter is {self.max_iter}; expected 1 or more for both."
            )
        if not 0 < self.tol < 1:
            raise BadInput(f"tol is {self.tol}; expected a number between 0 and 1.")
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

    Each label minimises its weighted mean loss + penalty · ‖w‖², without a penalty on the
    intercept. For one label this is ``sklearn.linear_model.LogisticRegression(C=1 / (2 *
    penalty * sum of weights))``. A label with one class gets ``w = 0`` and a large intercept;
    ``one_class_`` marks it.

    Parameters
    ----------
    penalty
        λ, above 0.
    class_weight
        ``"balanced"``: both classes have the same total weight. None: tokens have the weight
        of their row.
    tol
        A label ends when no component of its gradient is larger.
    max_iter
        Largest number of passes over the vectors.
    device
        Device of the computation, such as ``"cuda"``.
    dtype
        ``"float32"`` or ``"float64"``.
    block
        Labels solved together: memory is a few arrays (rows, block).

    Attributes
    ----------
    coef_
        (labels, width).
    intercept_
        float64, (labels,). Large where the mean of the vectors is large.
    n_iter_
        int64, (labels,). Passes over the vectors until the label ended.
    converged_
        bool, (labels,).
    one_class_
        bool, (labels,). Labels that are active on all rows with weight, or on none.

    Examples
    --------
    >>> import numpy as np
    >>> from ingest import LogisticProbes
    >>> vectors = np.random.default_rng(0).normal(size=(200, 3))
    >>> probes = LogisticProbes(penalty=0.01).fit(vectors, vectors[:, :2] > 0)
    >>> probes.coef_.shape
    (2, 3)
    >>> (probes.predict(vectors) == (vectors[:, :2] > 0)).mean().round(1).item()
    1.0
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
        """Fit on rows of one sample each.

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
            If shapes, labels or weights are invalid.
        BadActivations
            If the vectors hold NaN or Inf.
        """
        labels = _columns(Y, "labels")
        values = _values(labels)
        if not ((values == 0) | (values == 1)).all():
            raise BadInput("Y has labels other than 0 and 1; expected bool, or 0 and 1.")
        weight = _weights(sample_weight, labels.shape[0], "sample_weight")
        return self.fit_counts(X, _rows_times(labels, weight), weight)

    def fit_counts(self, X: ArrayLike, positives: Any, totals: ArrayLike) -> Self:
        """Fit on rows that stand for several tokens each.

        Parameters
        ----------
        X
            (rows, width).
        positives
            (rows, labels). Number of active tokens of the row; may be sparse.
        totals
            (rows,). Number of tokens of the row.

        Raises
        ------
        BadInput
            If shapes or counts are invalid.
        BadActivations
            If the vectors hold NaN or Inf.
        """
        if self.class_weight not in ("balanced", None):
            raise BadInput(f"class_weight is {self.class_weight!r}; expected 'balanced' or None.")
        design = self._design(X)
        counts = _columns(positives, "positives", rows=design.rows)
        tokens = _weights(totals, design.rows, "totals")
        _check_counts(counts, tokens)
        self._fit(design, counts, totals=tokens, link="logistic")
        active = np.asarray(counts.sum(axis=0), dtype=np.float64)
        self.one_class_ = (active <= 0) | _all_active(counts, tokens)
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probability that each label is active; (rows, labels)."""
        probability: Floats = expit(self.decision_function(X))
        return probability

    def predict(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Predict active where the probability exceeds 0.5; (rows, labels)."""
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

    Each target minimises its weighted mean squared error / 2 + penalty · ‖w‖², without a
    penalty on the intercept, as ``sklearn.linear_model.Ridge(alpha=2 * penalty * sum of
    weights)``.

    Parameters
    ----------
    penalty
        λ, above 0.
    tol
        A target ends when no component of its gradient is larger, in units of the target's
        standard deviation.
    max_iter
        Largest number of passes over the vectors; two usually suffice.
    device
        Device of the computation, such as ``"cuda"``.
    dtype
        ``"float32"`` or ``"float64"``.
    block
        Targets solved together: memory is a few arrays (rows, block).

    Attributes
    ----------
    coef_
        (targets, width).
    intercept_
        float64, (targets,). Large where the mean of the vectors is large.
    n_iter_
        int64, (targets,).
    converged_
        bool, (targets,).

    Examples
    --------
    >>> import numpy as np
    >>> from ingest import RidgeProbes
    >>> vectors = np.random.default_rng(0).normal(size=(200, 3))
    >>> probes = RidgeProbes(penalty=1e-6).fit(vectors, vectors @ [[1.0], [2.0], [3.0]])
    >>> probes.coef_.round(2).tolist()
    [[1.0, 2.0, 3.0]]
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
            If shapes, targets or weights are invalid.
        BadActivations
            If the vectors hold NaN or Inf.
        """
        design = self._design(X)
        targets = _columns(Y, "targets", rows=design.rows)
        weight = _weights(sample_weight, design.rows, "sample_weight")
        self._fit(design, _rows_times(targets, weight), totals=weight, link="squared")
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Return the predicted targets; (rows, targets)."""
        return self.decision_function(X)


def _array(data: Any, name: str) -> Floats:
    """Convert to an array of float64."""
    try:
        return np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"The {name} are not an array of numbers; expected one.") from error


def _columns(data: Any, name: str, *, rows: int | None = None) -> Any:
    """Return a dense array, or a sparse one in CSC format."""
    sparse: bool = issparse(data)
    table: Any = csc_array(data, copy=True) if sparse else _array(data, name)
    if table.ndim != 2 or 0 in table.shape or (rows is not None and table.shape[0] != rows):
        expected = "(rows, labels)" if rows is None else f"({rows}, labels)"
        raise BadInput(f"The {name} have shape {table.shape}; expected {expected}.")
    if not np.isfinite(_values(table)).all():
        raise BadInput(f"The {name} hold NaN or Inf; expected finite numbers.")
    if isinstance(table, csc_array):
        table.sum_duplicates()
    return table


def _weights(data: ArrayLike | None, rows: int, name: str) -> Floats:
    """Return the weight of each row."""
    weights = np.ones(rows) if data is None else _array(data, name)
    if weights.shape != (rows,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise BadInput(
            f"For {rows} rows, {name} has shape {weights.shape} or invalid numbers; expected one"
            " finite number of at least 0 for each row."
        )
    if not weights.any():
        raise BadInput(f"{name} is 0 everywhere; expected at least one number above 0.")
    return weights


def _dense(table: Any, columns: slice) -> Floats:
    """Return some columns as a new dense array of float64."""
    part = table[:, columns]
    return np.array(part.toarray() if isinstance(part, csc_array) else part, dtype=np.float64)


def _rows_times(table: Any, weight: Floats) -> Any:
    """Multiply each row by its weight."""
    if not isinstance(table, csc_array):
        return table * weight[:, None]
    weighted: csc_array = table.copy()
    weighted.data = weighted.data * weight[weighted.indices]
    return weighted


def _values(table: Any) -> Floats:
    """Return the stored numbers of a dense or sparse array."""
    values: Floats = table.data if isinstance(table, csc_array) else table
    return values


def _check_counts(counts: Any, totals: Floats) -> None:
    """Raise if a row has more active tokens than tokens."""
    if isinstance(counts, csc_array):
        good = ((counts.data >= 0) & (counts.data <= totals[counts.indices])).all()
    else:
        good = ((counts >= 0) & (counts <= totals[:, None])).all()
    if not good:
        raise BadInput(
            "positives has numbers below 0 or above the row's total; expected the number of"
            " active tokens of each row."
        )


def _all_active(counts: Any, totals: Floats) -> NDArray[np.bool_]:
    """Return which labels are active on all tokens."""
    if not isinstance(counts, csc_array):
        everywhere: NDArray[np.bool_] = (counts == totals[:, None]).all(axis=0)
        return everywhere
    full = (counts.data == totals[counts.indices]) & (counts.data > 0)
    label = np.repeat(np.arange(counts.shape[1]), np.diff(counts.indptr))
    rows = np.bincount(label[full], minlength=counts.shape[1])
    all_rows: NDArray[np.bool_] = rows == np.count_nonzero(totals)
    return all_rows
