"""Pairs of features that are among each other's best matches, with their statistics."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.match import kernels
from ingest.match.aligned_codes import CodeRows
from ingest.match.kernels import Lists

__all__ = ["Features", "Pairs", "codes", "features", "fixed", "pairs_of"]

Array = TypeVar("Array", bound=np.generic)
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Features:
    """The features of one SAE over the compared units, one entry a feature.

    Parameters
    ----------
    count
        int64. Units on which it is active.
    mean
        float64. Mean activation over all units.
    rest
        float64. Sum over all units of the deviations from that mean: its rounding error.
    m2
        float64. Sum of squared deviations from the mean, over all units.
    eligible
        Whether the feature can be in a candidate pair: it is allowed, its activation varies,
        and it is active on enough units.
    """

    count: Ints
    mean: Floats
    rest: Floats
    m2: Floats
    eligible: Mask

    @cached_property
    def scale(self) -> Floats:
        """1 / the square root of ``m2``; 0 for a feature that is not eligible."""
        return np.divide(1.0, np.sqrt(self.m2), out=np.zeros(len(self.m2)), where=self.eligible)


def features(
    rows: CodeRows, units: Ints, *, min_count: int, allowed: Mask | None = None
) -> Features:
    """Compute the activation counts and centred moments of all features over some units.

    Parameters
    ----------
    rows
        The codes.
    units
        int64. The rows to use.
    min_count
        Smallest number of active units of an eligible feature.
    allowed
        Mask of the features that may be eligible; None for all.
    """
    units = fixed(units)
    count, total, low, high = kernels.totals(codes(rows), units, rows.d_sae)
    mean = total / max(len(units), 1)
    first, second = kernels.deviations(codes(rows), units, mean)
    silent = len(units) - count
    rest = first - silent * mean
    m2 = second + silent * mean**2 - rest**2 / max(len(units), 1)
    varies = (count > 0) & ((silent > 0) | (low < high))
    eligible = varies & (count >= min_count)
    return Features(count, mean, rest, m2, eligible if allowed is None else eligible & allowed)


def codes(rows: CodeRows) -> kernels.Codes:
    """Return an SAE's codes in the form that the compiled loops accept."""
    return fixed(rows.indptr), fixed(rows.indices), fixed(rows.values)


def fixed(array: NDArray[Array]) -> NDArray[Array]:
    """Return a plain read-only view, so that one compiled form serves arrays and memory maps."""
    view = np.asarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


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
