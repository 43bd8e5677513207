"""Activation counts and centred moments of the features of an SAE over some units."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.match import kernels
from ingest.match.aligned_codes import Rows

__all__ = ["Features", "codes", "features", "fixed"]

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


def features(rows: Rows, units: Ints, *, min_count: int, allowed: Mask | None = None) -> Features:
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


def codes(rows: Rows) -> kernels.Codes:
    """Return an SAE's codes in the form that the compiled loops accept."""
    return fixed(rows.indptr), fixed(rows.indices), fixed(rows.values)


def fixed(array: NDArray[Array]) -> NDArray[Array]:
    """Return a plain read-only view, so that one compiled form serves arrays and memory maps."""
    view = np.asarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view
