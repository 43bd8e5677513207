"""The cosines of paired points, computed once, from which all pairs and subsets are measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.similarity.neighbours import Nearest, Neighbours
from analysis.similarity.rank_correlations import EXACT, rank_correlations_of_cosines
from analysis.statistics.directions import is_sparse, unit_rows

__all__ = ["EXACT", "Cosines"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_DECIMALS = 12  # Cosines that differ by rounding only are ties.


@dataclass(frozen=True, eq=False)
class Cosines:
    """Cosines of the points of two sides, rounded so that equal rows have equal cosines.

    Random subsets of the same pairs then need no product of rows, which for activations has
    as many terms as there are tokens.

    Parameters
    ----------
    x, y
        float64, (n, n). Cosines within each side; 0 for a point at the origin.
    across
        float64, (n, n). Cosine of each row of X with each row of Y; None if they are in
        different spaces.
    """

    x: Floats
    y: Floats
    across: Floats | None

    @classmethod
    def of(cls, x: Any, y: Any, *, one_space: bool) -> "Cosines":
        """Compute the cosines of points, (n, d_x) and (n, d_y), dense or sparse."""
        one, other = unit_rows(x), unit_rows(y)
        shared = one_space and x.shape[1] == y.shape[1]
        return cls(
            _product(one, one),
            _product(other, other),
            _product(one, other) if shared else None,
        )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, which: Ints) -> "Cosines":
        at = np.ix_(which, which)
        across = None if self.across is None else self.across[at]
        return Cosines(self.x[at], self.y[at], across)

    def rank_correlations(self, orders: Sequence[Ints]) -> Floats:
        """Return the Spearman correlation of the cosines of all pairs of points, for pairings.

        Parameters
        ----------
        orders
            int64, (n,) each. Row i of X is paired with row ``order[i]`` of Y.
        """
        return rank_correlations_of_cosines(self.x, self.y, orders)

    def neighbours(self, *, k: int, seed: int) -> Neighbours:
        """Return the k nearest points on the same side; ties are broken at random on each side."""
        rng = np.random.default_rng(seed)
        return Neighbours(*(_highest(one, k, rng) for one in (self.x, self.y)))

    def nearest(self, *, seed: int) -> Nearest | None:
        """Return the nearest point on the other side; None if the sides are in different spaces."""
        if self.across is None:
            return None
        rng = np.random.default_rng(seed)
        found = []
        for own, cosines in ((self.x, self.across), (self.y, self.across.T)):
            first = _highest(cosines, 1, rng, others=True)
            index = first[:, 0] if first.shape[1] else np.zeros(0, dtype=np.int64)
            index[np.diagonal(own) == 0] = -1
            found.append(index)
        return Nearest(*found)


def _product(a: Any, b: Any) -> Floats:
    product = a @ b.T
    dense: Floats = np.asarray(product.toarray() if is_sparse(product) else product)
    return np.round(dense, _DECIMALS)


def _highest(cosines: Floats, k: int, rng: np.random.Generator, *, others: bool = False) -> Ints:
    """Return the columns of the k highest cosines of each row.

    Parameters
    ----------
    cosines
        (n, n). Multiples of 1e-12.
    k
        Number of columns; fewer if there are fewer.
    rng
        Breaks ties: each column is raised by a random amount below the difference of two cosines.
    others
        Whether columns are other points than rows. If not, a row is not its own neighbour.
    """
    n = len(cosines)
    k = min(k, n if others else n - 1)
    if k <= 0:
        return np.zeros((n, 0), dtype=np.int64)
    raised = cosines + rng.permutation(n) * (10.0**-_DECIMALS / (2 * n))
    if not others:
        np.fill_diagonal(raised, -np.inf)
    return np.argpartition(raised, n - k, axis=1)[:, n - k :].astype(np.int64)
