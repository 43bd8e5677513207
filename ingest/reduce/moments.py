"""Means and sums of squared deviations that merge without loss of precision."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.reduce.arrays import Arrays

__all__ = ["FeatureMoments"]


class FeatureMoments(NamedTuple):
    """Count, mean and sum of squared deviations of each entry.

    The mean is ``mean + rest``. Chan's formula uses differences of means. If the spread is far
    below the mean, the rounding error of a 64-bit mean would be comparable to the spread.

    Parameters
    ----------
    number
        int64. Number of values; any shape that broadcasts to the others.
    mean, rest
        float64. The rounded mean, and its rounding error.
    m2
        float64. Sum of squared deviations from the mean.
    """

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    rest: NDArray[np.float64]
    m2: NDArray[np.float64]

    @classmethod
    def empty(cls, width: int, *, counts: int) -> "FeatureMoments":
        """Return the moments of no numbers: ``width`` entries, ``counts`` separate counts."""
        zeros = np.zeros(width)
        return cls(np.zeros(counts, dtype=np.int64), zeros, zeros.copy(), zeros.copy())

    @classmethod
    def of(cls, state: Arrays) -> "FeatureMoments":
        """Read the moments from a state, by the names of the fields."""
        return cls(*(state[name] for name in cls._fields))

    def into(self, state: Arrays) -> None:
        """Write the moments to a state."""
        state.update(self._asdict())

    def join(self, other: "FeatureMoments") -> "FeatureMoments":
        """Return the moments of the union of both sets of numbers (Chan et al.)."""
        number = self.number + other.number
        share = other.number / np.maximum(number, 1)
        delta = (other.mean - self.mean) + (other.rest - self.rest)
        m2 = self.m2 + other.m2 + delta * delta * (self.number * share)
        low = self.rest + delta * share
        mean = self.mean + low
        back = mean - self.mean
        rest = (self.mean - (mean - back)) + (low - back)  # rounding error of the sum (Knuth)
        fresh = self.number == 0
        return FeatureMoments(
            number,
            np.where(fresh, other.mean, mean),
            np.where(fresh, other.rest, rest),
            np.where(fresh, other.m2, m2),
        )
