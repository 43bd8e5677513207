"""Pairs of features that are among each other's best matches, with their statistics."""

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.match.features import Features
from ingest.match.kernels import Lists

__all__ = ["Pairs", "pairs_of"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of features, one entry a pair, ascending by (a, b).

    Parameters
    ----------
    a, b
        int64. The features.
    pearson
        float64. Pearson correlation over all units, above 0.
    phi
        float64. Phi coefficient of being active; NaN where either is active on every unit.
    joint
        int64. Units on which both are active.
    rank_ab
        int64. Number of features of B that correlate better with a; -1 if b is not among
        a's best.
    rank_ba
        int64. Number of features of A that correlate better with b; -1 if a is not among
        b's best.
    claims_on_a
        int64. Number of features of B whose best match is a.
    claims_on_b
        int64. Number of features of A whose best match is b.
    """

    a: Ints
    b: Ints
    pearson: Floats
    phi: Floats
    joint: Ints
    rank_ab: Ints
    rank_ba: Ints
    claims_on_a: Ints
    claims_on_b: Ints

    def __len__(self) -> int:
        return len(self.a)

    @property
    def mutual(self) -> Mask:
        """Whether each feature is the best match of the other."""
        best: Mask = (self.rank_ab == 0) & (self.rank_ba == 0)
        return best

    def take(self, which: Mask) -> "Pairs":
        """Return a subset of the pairs; ranks and claims still refer to all pairs."""
        return Pairs(*(getattr(self, f.name)[which] for f in fields(self)))


def pairs_of(best_a: Lists, best_b: Lists, *, of_a: Features, of_b: Features, units: int) -> Pairs:
    """Return all pairs that are in the lists of either side.

    Parameters
    ----------
    best_a, best_b
        The best partners of each feature of A, and of each feature of B.
    of_a, of_b
        The features.
    units
        Number of compared units.
    """
    d_a, d_b = len(of_a.count), len(of_b.count)
    (a_of_a, rank_ab), (b_of_b, rank_ba) = np.nonzero(best_a[0]), np.nonzero(best_b[0])
    b_of_a, a_of_b = best_a[1][a_of_a, rank_ab], best_b[1][b_of_b, rank_ba]
    key, first, where = np.unique(
        np.concatenate([a_of_a * d_b + b_of_a, a_of_b * d_b + b_of_b]),
        return_index=True,
        return_inverse=True,
    )
    a, b = np.divmod(key, max(d_b, 1))
    ranks = np.full((2, len(key)), -1, dtype=np.int64)
    ranks[0, where[: len(rank_ab)]] = rank_ab
    ranks[1, where[len(rank_ab) :]] = rank_ba
    pearson, joint = (
        np.concatenate([best_a[k][a_of_a, rank_ab], best_b[k][b_of_b, rank_ba]])[first]
        for k in (0, 2)
    )
    return Pairs(
        a=a,
        b=b,
        pearson=pearson,
        phi=_phi(joint, of_a.count[a], of_b.count[b], units=units),
        joint=joint,
        rank_ab=ranks[0],
        rank_ba=ranks[1],
        claims_on_a=np.bincount(a_of_b[rank_ba == 0], minlength=d_a)[a],
        claims_on_b=np.bincount(b_of_a[rank_ab == 0], minlength=d_b)[b],
    )


def _phi(joint: Ints, c_a: Ints, c_b: Ints, *, units: int) -> Floats:
    roots = np.sqrt(c_a) * np.sqrt(units - c_a) * np.sqrt(c_b) * np.sqrt(units - c_b)
    over = units * joint - c_a * c_b  # exact in int64, since there are fewer than 2**31 units
    phi = np.full(len(joint), np.nan)
    np.divide(over, roots, out=phi, where=roots > 0)
    return phi
