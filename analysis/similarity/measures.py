"""Measures of similarity between two point sets with paired rows, and their nulls.

X is (n, d_x) and Y is (n, d_y); row i of X is paired with row i of Y. ``MEASURES`` names the
measures. ``similarities`` computes all of them with shuffled pairings as the null.

References
----------
SVCCA: Raghu et al. 2017, arXiv:1706.05806. Linear CKA: Kornblith et al. 2019, arXiv:1905.00414;
debiased: Nguyen et al. 2021, arXiv:2010.15327. RSA: Kriegeskorte et al. 2008,
doi:10.3389/neuro.06.004.2008. Procrustes: Schönemann 1966, doi:10.1007/BF02289451.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.similarity.cosines import Cosines
from analysis.similarity.neighbours import Nearest, Neighbours
from analysis.similarity.rank_correlations import EXACT, rank_correlations
from analysis.similarity.subspaces import SUBSPACE_MEASURES, Subspaces
from analysis.statistics.arrays import finite_matrix
from analysis.statistics.directions import is_sparse, unit_rows
from analysis.statistics.permutation import permutation_p
from atlas.errors import BadInput

__all__ = [
    "COSINE_MEASURES",
    "FEW",
    "MEASURES",
    "Similarity",
    "cca",
    "cka",
    "cosine_similarities",
    "knn_jaccard",
    "mutual_nearest",
    "procrustes",
    "rsa",
    "shuffles",
    "similarities_of_cosines",
    "subspace_similarities",
    "svcca",
]

Array: TypeAlias = "NDArray[np.floating] | sparse.csr_array"
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

COSINE_MEASURES = ("rsa", "knn_jaccard", "mutual_nearest")
MEASURES = (*SUBSPACE_MEASURES, *COSINE_MEASURES)

FEW = 30
"""Values from fewer points are flagged."""


def svcca(x: Floats, y: Floats, *, variance: float = 0.99) -> float:
    """Return the mean canonical correlation of the main components of both sides.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y). Columns are centred.
    variance
        Share of the variance of each side that its components reach.

    Raises
    ------
    BadInput
        If both sides have more components together than n - 1, where some canonical
        correlations are 1 for any data.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(svcca(points, points @ np.diag([1.0, -1.0, 1.0])), 6)
    1.0
    """
    return _subspace("svcca", x, y, variance=variance)


def cca(x: Floats, y: Floats) -> float:
    """Return the mean canonical correlation of all dimensions of both sides.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y). Columns are centred.

    Raises
    ------
    BadInput
        If the ranks of both sides sum to more than n - 1, as for n < d. Some canonical
        correlations are then 1 for any data.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(cca(points, 2 * points + 1), 6)
    1.0
    """
    return _subspace("cca", x, y)


def cka(x: Floats, y: Floats) -> float:
    """Return the debiased linear CKA of standardised columns.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y). Columns are standardised; constant columns are dropped. A column
        of large scale would otherwise determine the result.

    Raises
    ------
    BadInput
        If n is below 4, or all points of a side are equal.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(cka(points, 2 * points + 1), 6)
    1.0
    """
    return _subspace("cka", x, y)


def procrustes(x: Floats, y: Floats) -> float:
    """Return the similarity after the best rotation, scaling and translation, from 0 to 1.

    It is the sum of the singular values of XᵀY for centred sides of norm 1. The residual sum
    of squares, ``disparity`` of ``scipy.spatial.procrustes``, is 1 minus its square. If the
    sides differ in width, the narrow one is padded with zeros, which changes no value.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y).

    Raises
    ------
    BadInput
        If all points of a side are equal.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(procrustes(points, 2 * points[:, ::-1] + 1), 6)
    1.0
    """
    return _subspace("procrustes", x, y)


def rsa(x: Array, y: Array) -> float:
    """Return the Spearman correlation of the cosine dissimilarities of all pairs of points.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y), dense or sparse. Not centred.

    Returns
    -------
    NaN with fewer than three points, or if all cosines of a side are equal.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(rsa(points, 2 * points), 6)
    1.0
    """
    return _only(x, y, "rsa")


def knn_jaccard(x: Array, y: Array, *, k: int = 10, seed: int = 0) -> float:
    """Return the mean Jaccard index of the k nearest neighbours of paired points, by cosine.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y), dense or sparse.
    k
        Number of neighbours; n - 1 if there are fewer.
    seed
        Seed that breaks ties, independently on each side.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> knn_jaccard(points, 2 * points)
    1.0
    """
    return _only(x, y, "knn_jaccard", k=k, seed=seed)


def mutual_nearest(x: Array, y: Array, *, seed: int = 0) -> float:
    """Return the share of pairs whose points are each other's nearest point, by cosine.

    Parameters
    ----------
    x, y
        (n, d), dense or sparse, in one space.
    seed
        Seed that breaks ties.

    Raises
    ------
    BadInput
        If the sides differ in width.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> mutual_nearest(points, 2 * points)
    1.0
    """
    x, y = _points(x, "x"), _points(y, "y")
    _same(x, y)
    if x.shape[1] != y.shape[1]:
        raise BadInput(
            f"The points have {x.shape[1]:,} and {y.shape[1]:,} columns; nearest neighbours across both "
            "sides need one space."
        )
    return _only(x, y, "mutual_nearest", seed=seed)


def _points(points: Array, name: str) -> Array:
    """Return points that a user passed, after a check of their shape and numbers; sparse ones unchanged."""
    return points if is_sparse(points) else finite_matrix(points, name)


def _only(x: Array, y: Array, name: str, *, k: int = 10, seed: int = 0) -> float:
    x, y = _points(x, "x"), _points(y, "y")
    found = {one.measure: one for one in cosine_similarities(x, y, [], k=k, seed=seed)}
    value = found[name].value
    return float("nan") if value is None else value


def _subspace(name: str, x: Floats, y: Floats, *, variance: float = 0.99) -> float:
    x, y = finite_matrix(x, "x"), finite_matrix(y, "y")
    _same(x, y)
    found = Subspaces.of(x, y, variance=variance)
    if name in found.refused:
        raise BadInput(f"{name} is not defined: {found.refused[name]}. Use more pairs.")
    return found.values()[name]


def _same(x: Array, y: Array) -> Ints:
    """Return the pairing of equal rows, after a check of the numbers of rows."""
    if x.shape[0] != y.shape[0]:
        raise BadInput(
            f"The sides have {x.shape[0]:,} and {y.shape[0]:,} rows; row i of one is paired with row i of "
            "the other, so both need the same number."
        )
    return np.arange(x.shape[0])


@dataclass(frozen=True)
class Similarity:
    """One measure with its null.

    Parameters
    ----------
    measure
        One of ``MEASURES``.
    value
        The value; None if it is not defined.
    draws
        (draws,). Values of the shuffled pairings.
    n
        Number of points.
    columns
        Dimensions of both sides that the measure uses.
    note
        Why there is no value; or a warning; empty otherwise.
    """

    measure: str
    value: float | None
    draws: Floats = field(repr=False)
    n: int
    columns: tuple[int, int]
    note: str = ""

    @property
    def null(self) -> float | None:
        """Mean over the shuffled pairings."""
        finite = self.draws[np.isfinite(self.draws)]
        return float(finite.mean()) if len(finite) else None

    @property
    def p(self) -> float | None:
        """One-sided p-value, (1 + draws at least as high) / (1 + draws)."""
        return None if self.value is None else permutation_p(self.value, self.draws)


def shuffles(n: int, draws: int, *, seed: int) -> list[Ints]:
    """Return random pairings of n rows."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(n) for _ in range(draws)]


def subspace_similarities(
    x: Array, y: Array, orders: Sequence[Ints], *, variance: float = 0.99
) -> list[Similarity]:
    """Compute SVCCA, CCA, CKA and Procrustes with shuffled pairings.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y), dense or sparse.
    orders
        int64, (n,) each. The shuffled pairings.
    variance
        See ``svcca``.
    """
    _same(x, y)
    found = Subspaces.of(x, y, variance=variance)
    observed = found.values()
    drawn = [found.values(order) for order in orders]
    retained = (found.x.retained, found.y.retained)
    full = (len(found.x.scale), len(found.y.scale))
    return [
        _similarity(
            name,
            observed[name],
            np.array([one[name] for one in drawn]),
            n=len(found),
            columns=retained if name == "svcca" else full,
            why=found.refused,
        )
        for name in SUBSPACE_MEASURES
    ]


def cosine_similarities(
    x: Array,
    y: Array,
    orders: Sequence[Ints],
    *,
    k: int = 10,
    seed: int = 0,
    one_space: bool = True,
    exact: int = EXACT,
) -> list[Similarity]:
    """Compute RSA, kNN-Jaccard and mutual nearest neighbours with shuffled pairings.

    Parameters
    ----------
    x, y
        (n, d_x) and (n, d_y), dense or sparse.
    orders
        int64, (n,) each. The shuffled pairings.
    k, seed
        See ``knn_jaccard``.
    one_space
        Whether the columns of both sides are the same, so that points can be compared across
        sides.
    exact
        Largest number of points whose cosines are all in memory. With more, RSA rounds cosines to
        16 bits, and dense rows are rounded to single precision.
    """
    same = _same(x, y)
    if len(same) <= exact:
        cosines = Cosines.of(x, y, one_space=one_space)
        return similarities_of_cosines(
            cosines, orders, k=k, seed=seed, columns=(x.shape[1], y.shape[1])
        )
    # The bound of the rounding error grows with the entries of a row, which for sparse rows are many:
    # in single precision, most cosines would be near ties.
    unit_x, unit_y = (
        unit_rows(one, dtype=np.float64 if is_sparse(one) else np.float32) for one in (x, y)
    )
    nearest = None
    if one_space and x.shape[1] == y.shape[1]:
        nearest = Nearest.of(unit_x, unit_y, seed=seed)
    near = Neighbours.of(unit_x, unit_y, k=k, seed=seed)
    pairings = [same, *orders]
    correlations = rank_correlations(unit_x, unit_y, pairings)
    return _of_cosines(correlations, near, nearest, pairings, columns=(x.shape[1], y.shape[1]))


def similarities_of_cosines(
    cosines: Cosines,
    orders: Sequence[Ints],
    *,
    k: int = 10,
    seed: int = 0,
    columns: tuple[int, int],
) -> list[Similarity]:
    """Compute RSA, kNN-Jaccard and mutual nearest neighbours of cosines that are in memory.

    Parameters
    ----------
    cosines
        The cosines of n paired points.
    orders
        int64, (n,) each. The shuffled pairings.
    k, seed
        See ``knn_jaccard``.
    columns
        Dimensions of the points of both sides, for the result.
    """
    pairings = [np.arange(len(cosines)), *orders]
    return _of_cosines(
        cosines.rank_correlations(pairings),
        cosines.neighbours(k=k, seed=seed),
        cosines.nearest(seed=seed),
        pairings,
        columns=columns,
    )


def _of_cosines(
    correlations: Floats,
    near: Neighbours,
    nearest: Nearest | None,
    pairings: Sequence[Ints],
    *,
    columns: tuple[int, int],
) -> list[Similarity]:
    undefined = np.full(len(pairings), np.nan)
    values = {
        "rsa": correlations,
        "knn_jaccard": np.array([near.value(order) for order in pairings]),
        "mutual_nearest": undefined
        if nearest is None
        else np.array([nearest.value(order) for order in pairings]),
    }
    why = {"mutual_nearest": "the sides are in different spaces"} if nearest is None else {}
    return [
        _similarity(name, one[0], one[1:], n=len(pairings[0]), columns=columns, why=why)
        for name, one in values.items()
    ]


def _similarity(
    name: str,
    value: float,
    draws: Floats,
    *,
    n: int,
    columns: tuple[int, int],
    why: Mapping[str, str],
) -> Similarity:
    note = why.get(name, "")
    if not note and not np.isfinite(value):
        note = "all values of one side are equal"
    if not note and n < FEW:
        note = f"fewer than {FEW} pairs"
    return Similarity(
        name, float(value) if np.isfinite(value) else None, draws, n=n, columns=columns, note=note
    )
