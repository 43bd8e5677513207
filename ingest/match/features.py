"""How often the features of an SAE are active over some units, and their centred moments."""

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
        float64. Sum over all units of the deviations from that mean: what rounding left.
    m2
        float64. Sum of squared deviations from the mean, over all units.
    eligible
        Whether it can be in a candidate pair: it is allowed, it varies, and it is active
        on enough units.
    """

    count: Ints
    mean: Floats
    rest: Floats
    m2: Floats
    eligible: Mask

    @cached_property
    def scale(self) -> Floats:
        """1 / the root of ``m2``; 0 for a feature that is not eligible."""
        return np.divide(1.0, np.sqrt(self.m2), out=np.zeros(len(self.m2)), where=self.eligible)


def features(rows: Rows, units: Ints, *, min_count: int, allowed: Mask | None = None) -> Features:
    """Return how often each feature is active, and its centred moments, over some units.

    Parameters
    ----------
    rows
        The codes.
    units
        int64. Which of their rows.
    min_count
        Units on which an eligible feature is active at least.
    allowed
        The features that may be eligible; None for all.
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
    """Return an SAE's codes as the compiled loops take them."""
    return fixed(rows.indptr), fixed(rows.indices), fixed(rows.values)


def fixed(array: NDArray[Array]) -> NDArray[Array]:
    """Return a plain read-only view: one compiled form serves memory maps and arrays alike."""
    view = np.asarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view
