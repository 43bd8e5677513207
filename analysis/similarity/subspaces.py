"""Similarity of two point sets as spanned subspaces: SVCCA, CCA, linear CKA, Procrustes.

Row i of X is paired with row i of Y. All four measures are functions of one small matrix, the
product of the left singular vectors of both sides. A shuffled pairing then costs one product.

The left singular vectors are U = (X - mean) W with W = V / s. For sparse points, U is never
computed: a shuffled pairing sums XᵀY over the entries that both rows have, and multiplies by W
on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.statistics.directions import is_sparse
from ingest.compilation import compiled

__all__ = ["SUBSPACE_MEASURES", "Subspace", "Subspaces"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

SUBSPACE_MEASURES = ("svcca", "cca", "cka", "procrustes")
"""Measures that ``Subspaces.values`` returns."""

_FEWEST = 4  # rows; the debiased CKA divides by n - 3
_CHUNK = 8192  # rows of a product in a shuffled pairing
_ILL = 1e-4  # ratio of singular values below which sparse points are factorised as dense ones


@dataclass(frozen=True, eq=False)
class Subspace:
    """The centred points of one side, factorised once.

    Parameters
    ----------
    points
        (n, d). Dense: the left singular vectors of the centred points, (n, rank). Sparse: the
        points, not centred.
    scale
        (rank,). Singular values.
    retained
        Number of first components that together reach the share of the variance.
    standard
        (rank, columns). The left singular vectors times ``standard`` are the standardised
        columns that vary.
    mean
        (d,). Mean of the points.
    weights
        (d, rank). Of sparse points: the centred points times ``weights`` are the left singular
        vectors. None for dense points.
    """

    points: Any
    scale: Floats
    retained: int
    standard: Floats
    mean: Floats
    weights: Floats | None = None

    @classmethod
    def of(cls, points: Any, *, variance: float) -> "Subspace":
        """Centre and factorise the points.

        Parameters
        ----------
        points
            (n, d), dense or sparse; all finite.
        variance
            Share of the variance that the components of SVCCA reach, above 0 and at most 1.
        """
        exact = points.toarray() if is_sparse(points) else points
        exact = np.asarray(exact, dtype=np.float64)
        mean = exact.sum(axis=0) / max(len(exact), 1)
        centred, least = exact - mean, _negligible(exact)
        if not is_sparse(points):
            basis, scale, right = np.linalg.svd(centred, full_matrices=False)
        else:
            basis, scale, right = np.linalg.svd(
                np.linalg.qr(centred, mode="r"), full_matrices=False
            )
        rank = int((scale > least).sum())
        basis, scale, right = basis[:, :rank], scale[:rank], right[:rank]
        weighted = scale[:, None] * right
        spread = np.linalg.norm(weighted, axis=0)
        varies = spread > least
        standard = weighted[:, varies] * (np.sqrt(len(exact)) / spread[varies])
        retained = components(scale**2, variance)
        if not is_sparse(points):
            return cls(basis, scale, retained, standard, mean)
        rows = sparse.csr_array(points, dtype=np.float64)
        if rank and scale[-1] < _ILL * scale[0]:  # the product of weights would lose digits
            return cls(centred @ (right.T / scale), scale, retained, standard, mean)
        return cls(rows, scale, retained, standard, mean, right.T / scale)

    def __len__(self) -> int:
        return int(self.points.shape[0])

    @cached_property
    def basis(self) -> Floats:
        """(n, rank). Left singular vectors of the centred points."""
        if self.weights is None:
            own: Floats = self.points
            return own
        found: Floats = self.points @ self.weights - self.mean @ self.weights
        return found

    @cached_property
    def diagonal(self) -> Floats:
        """(n,). Squared norm of each row of the standardised columns."""
        weights = self.standard if self.weights is None else self.weights @ self.standard
        offset = 0.0 if self.weights is None else self.mean @ weights
        found = np.empty(len(self))
        for i in range(0, len(found), _CHUNK):
            rows = self.points[i : i + _CHUNK] @ weights - offset
            found[i : i + _CHUNK] = (rows**2).sum(axis=1)
        return found

    @cached_property
    def self_hsic(self) -> float:
        """Debiased HSIC of the standardised columns with themselves."""
        squares = float(np.sum((self.standard @ self.standard.T) ** 2))
        return debiased_hsic(squares, self.diagonal, self.diagonal)


def _negligible(points: Floats) -> float:
    """Return the singular value below which a direction of the centred points is rounding error."""
    size = float(np.linalg.norm(points))
    return size * int(max(*points.shape, 1)) * float(np.finfo(np.float64).eps)


def components(variances: Floats, share: float) -> int:
    """Return the smallest number of components that reach a share of the summed variance.

    Parameters
    ----------
    variances
        Variance of each component, descending.
    share
        Share, above 0 and at most 1.

    Examples
    --------
    >>> components(np.array([6.0, 3.0, 1.0]), 0.85)
    2
    """
    total = variances.sum()
    if not total:
        return 0
    # Both sides of the comparison are shares of the same total.
    reached = np.cumsum(variances) / total >= share - 1e-12
    return int(reached.argmax()) + 1 if reached.any() else len(variances)


def debiased_hsic(squares: float, a: Floats, b: Floats) -> float:
    """Return the unbiased HSIC of two centred linear kernels, up to a factor of n alone.

    Parameters
    ----------
    squares
        Squared Frobenius norm of XᵀY, for centred X and Y.
    a, b
        (n,). Diagonals of XXᵀ and YYᵀ.

    Notes
    -----
    This is the estimator of Song et al. 2012 ("Feature selection via dependence
    maximization"), whose kernels have zero diagonals. The rows of XXᵀ sum to 0.
    """
    n = len(a)
    joint = float(a @ b)
    return squares - joint + float(a.sum() * b.sum()) / ((n - 1) * (n - 2)) - 2 * joint / (n - 2)


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Two sides with paired rows.

    Parameters
    ----------
    x, y
        The sides; both have the same number of rows.
    """

    x: Subspace
    y: Subspace

    @classmethod
    def of(cls, x: Any, y: Any, *, variance: float = 0.99) -> "Subspaces":
        """Factorise two arrays, (n, d_x) and (n, d_y), dense or sparse."""
        return cls(Subspace.of(x, variance=variance), Subspace.of(y, variance=variance))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def refused(self) -> Mapping[str, str]:
        """Reason for each measure that these points do not define."""
        n = len(self)
        found = {}
        sizes = {"svcca": (self.x.retained, self.y.retained)}
        sizes["cca"] = (len(self.x.scale), len(self.y.scale))
        for name, (first, second) in sizes.items():
            if first + second > n - 1 and min(first, second):
                found[name] = (
                    f"{n:,} points are too few for {first:,} and {second:,} dimensions: "
                    "some canonical correlations are 1 for any data"
                )
        if n < _FEWEST:
            found["cka"] = f"{n:,} points are too few; {_FEWEST} are needed"
        for name in SUBSPACE_MEASURES:
            if not (len(self.x.scale) and len(self.y.scale)):
                found[name] = "all points of one side are equal"
        return found

    def values(self, order: Ints | None = None) -> dict[str, float]:
        """Return every defined measure; others are NaN.

        Parameters
        ----------
        order
            int64, (n,). Row i of X is paired with row ``order[i]`` of Y; None for row i.
        """
        refused = self.refused
        found = dict.fromkeys(SUBSPACE_MEASURES, float("nan"))
        joint = self._joint(order)
        if "svcca" not in refused:
            found["svcca"] = _mean_correlation(joint[: self.x.retained, : self.y.retained])
        if "cca" not in refused:
            found["cca"] = _mean_correlation(joint)
        if "procrustes" not in refused:
            weighted = self.x.scale[:, None] * joint * self.y.scale
            norm = np.linalg.norm(self.x.scale) * np.linalg.norm(self.y.scale)
            found["procrustes"] = float(np.linalg.svd(weighted, compute_uv=False).sum() / norm)
        if "cka" not in refused:
            found["cka"] = self._cka(joint, order)
        return found

    def _joint(self, order: Ints | None) -> Floats:
        """Return the product of the bases, (rank of X, rank of Y), with Y's rows in an order."""
        x, y = self.x, self.y
        if x.weights is not None and y.weights is not None:
            pairing = np.arange(len(x)) if order is None else order
            products = _products(_entries(x.points), _entries(y.points), pairing)
            products -= len(x) * np.outer(x.mean, y.mean)
            joint: Floats = x.weights.T @ products @ y.weights
            return joint
        u, v = x.basis, y.basis
        if order is None:
            return u.T @ v
        total = np.zeros((u.shape[1], v.shape[1]))
        for i in range(0, len(order), _CHUNK):
            total += u[i : i + _CHUNK].T @ v[order[i : i + _CHUNK]]
        return total

    def _cka(self, joint: Floats, order: Ints | None) -> float:
        cross = self.x.standard.T @ joint @ self.y.standard
        b = self.y.diagonal if order is None else self.y.diagonal[order]
        own = self.x.self_hsic * self.y.self_hsic
        if self.x.self_hsic <= 0 or own <= 0:
            return float("nan")
        return debiased_hsic(float((cross**2).sum()), self.x.diagonal, b) / float(np.sqrt(own))


def _mean_correlation(joint: Floats) -> float:
    """Return the mean canonical correlation, from the product of two orthonormal bases."""
    found = np.linalg.svd(joint, compute_uv=False)
    return float(np.minimum(found, 1.0).mean())


def _entries(rows: sparse.csr_array) -> tuple[Any, Any, Floats, int]:
    return rows.indptr, rows.indices, rows.data, rows.shape[1]


def _products(
    x: tuple[Any, Any, Floats, int], y: tuple[Any, Any, Floats, int], order: Ints
) -> Floats:
    """Return the sum over i of the outer products of row i of X and row ``order[i]`` of Y."""
    out = np.zeros((x[3], y[3]))
    _add_products(*x[:3], *y[:3], order, out)
    return out


@compiled
def _add_products(
    x_start: Ints,
    x_column: Ints,
    x: Floats,
    y_start: Ints,
    y_column: Ints,
    y: Floats,
    order: Ints,
    out: Floats,
) -> None:
    for i in range(len(order)):
        first, last = y_start[order[i]], y_start[order[i] + 1]
        for a in range(x_start[i], x_start[i + 1]):
            row, value = out[x_column[a]], x[a]
            for b in range(first, last):
                row[y_column[b]] += value * y[b]
