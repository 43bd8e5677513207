"""Means and sums of squared deviations, merged without losing digits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.reduce.arrays import Arrays

__all__ = ["Moments"]


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations from it, entry by entry.

    The mean is ``mean + rest``: Chan's formula works with differences of means, and
    where the spread is far below the mean, the digits lost in rounding the mean to
    64 bits would be digits of the spread.

    Parameters
    ----------
    number
        int64. How many were seen; any shape that broadcasts to the others.
    mean, rest
        float64. The mean, rounded, and what rounding left out.
    m2
        float64. Sum of squared deviations from the mean.
    """

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    rest: NDArray[np.float64]
    m2: NDArray[np.float64]

    @classmethod
    def empty(cls, width: int, *, counts: int) -> "Moments":
        """Return the moments of no numbers: ``width`` entries, ``counts`` separate counts."""
        zeros = np.zeros(width)
        return cls(np.zeros(counts, dtype=np.int64), zeros, zeros.copy(), zeros.copy())

    @classmethod
    def of(cls, state: Arrays) -> "Moments":
        """Take them from a state, where they lie under the names of the fields."""
        return cls(*(state[name] for name in cls._fields))

    def into(self, state: Arrays) -> None:
        """Put them into a state."""
        state.update(self._asdict())

    def join(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of numbers together (Chan et al.)."""
        number = self.number + other.number
        share = other.number / np.maximum(number, 1)
        delta = (other.mean - self.mean) + (other.rest - self.rest)
        m2 = self.m2 + other.m2 + delta * delta * (self.number * share)
        low = self.rest + delta * share
        mean = self.mean + low
        back = mean - self.mean
        rest = (self.mean - (mean - back)) + (low - back)  # what this sum rounds off (Knuth)
        fresh = self.number == 0
        return Moments(
            number,
            np.where(fresh, other.mean, mean),
            np.where(fresh, other.rest, rest),
            np.where(fresh, other.m2, m2),
        )
