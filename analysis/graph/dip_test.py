"""Hartigan's dip test of unimodality.

The dip is the largest distance between the distribution function of a sample and that of
the nearest unimodal distribution (Hartigan and Hartigan, The Annals of Statistics 13, 1985).
The null is the uniform distribution, the unimodal one that is hardest to distinguish from two
modes.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.arrays import finite_vector
from analysis.statistics.permutation import exceedance_p
from atlas.errors import BadInput
from ingest.compilation import compiled

__all__ = ["DipTest", "dip", "dip_test"]

#: Larger samples are compared with the null at this size: √n · dip has converged by then.
_NULL_SIZE = 2_000


@dataclass(frozen=True)
class DipTest:
    """The result of a dip test.

    Parameters
    ----------
    dip
        The dip, from 1 / (2n) to 1/4.
    p
        p-value: (1 + uniform samples with at least this dip) / (1 + draws).
    n
        Number of values.
    """

    dip: float
    p: float
    n: int


def dip(values: NDArray[np.float64]) -> float:
    """Return the dip of a sample.

    Parameters
    ----------
    values
        (n,). All different. The test treats repeated values as separate modes, so spread
        counts first.

    Raises
    ------
    BadInput
        If there is no value, two values are equal, or a value is not finite.
    """
    x = np.sort(finite_vector(values, "The sample of a dip test"))
    if not len(x) or (len(x) > 1 and np.diff(x).min() == 0.0):
        raise BadInput(
            "The dip test needs one or more finite numbers, all different; the input has repeated "
            "or no values. Spread repeated values first."
        )
    return float(_dip(x))


def dip_test(values: NDArray[np.float64], *, draws: int = 1999, seed: int = 0) -> DipTest:
    """Test whether a sample is consistent with a unimodal distribution.

    Parameters
    ----------
    values
        (n,). All different.
    draws
        Number of uniform samples; the smallest p is 1 / (1 + draws).
    seed
        Seed of the uniform samples.

    Raises
    ------
    BadInput
        For the same inputs as ``dip``.
    """
    found = dip(values)
    size = min(len(values), _NULL_SIZE)
    null = _null(size, draws, seed)
    exceed = int(np.sum(null * np.sqrt(size) >= found * np.sqrt(len(values))))
    return DipTest(found, exceedance_p(exceed, draws), len(values))


@cache
def _null(size: int, draws: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.array([_dip(np.sort(rng.random(size))) for _ in range(draws)])


@compiled
def _hull(
    x: NDArray[np.float64],
    ends: tuple[int, int],
    step: int,
    sign: int,
    touch: NDArray[np.int64],
    curve: NDArray[np.float64],
) -> int:
    """Find the greatest convex minorant of the distribution function, or the least concave majorant.

    Points are (x[i], (i + step) / n) for i from ends[0] to ends[1]. Sign -1 selects the
    majorant. ``touch`` receives the points on the curve, and ``curve`` its height at every
    point. The return value is the number of points on the curve.
    """
    n = len(x)
    size = 0
    for i in range(ends[0], ends[1] + 1):
        while size > 1:
            a, b = touch[size - 2], touch[size - 1]
            bend = (b - a) * (x[i] - x[a]) - (i - a) * (x[b] - x[a])
            if sign * bend < 0:
                break
            size -= 1
        touch[size] = i
        size += 1
    curve[touch[0]] = (touch[0] + step) / n
    for p in range(1, size):
        a, b = touch[p - 1], touch[p]
        slope = (b - a) / (x[b] - x[a])
        for i in range(a + 1, b + 1):
            curve[i] = (a + step + slope * (x[i] - x[a])) / n
    return size


@compiled
def _dip(x: NDArray[np.float64]) -> float:
    """Narrow the modal interval until the distance inside it is at most the distance outside it."""
    n = len(x)
    low, high = 0, n - 1
    found = 1.0 / n
    below, above = np.empty(n), np.empty(n)
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    while low < high:
        lefts = _hull(x, (low, high), 0, 1, left, below)
        rights = _hull(x, (low, high), 1, -1, right, above)
        gap, a, b = 0.0, low, high
        for p in range(lefts):
            if above[left[p]] - below[left[p]] > gap:
                gap = above[left[p]] - below[left[p]]
                a = left[p]
                q = 0
                while right[q] < a:
                    q += 1
                b = right[q]
        for p in range(rights):
            if above[right[p]] - below[right[p]] > gap:
                gap = above[right[p]] - below[right[p]]
                b = right[p]
                q = lefts - 1
                while left[q] > b:
                    q -= 1
                a = left[q]
        if gap <= found:
            break
        for i in range(low, a + 1):
            found = max(found, (i + 1) / n - below[i])
        for i in range(b, high + 1):
            found = max(found, above[i] - i / n)
        if (a, b) == (low, high):
            break
        low, high = a, b
    return found / 2
