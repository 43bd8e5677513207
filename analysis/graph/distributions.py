"""Distributions of degree and frequency over features, and their correlation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.graph.dip_test import dip_test

__all__ = ["Correlation", "Modes", "correlate", "modes"]

_ENOUGH = 4  # fewer values cannot show two modes


@dataclass(frozen=True)
class Modes:
    """A dip test of the distribution of a count over features.

    Parameters
    ----------
    n, zeros
        Number of features with a count above 0, which are tested, and with count 0. Zeros are
        excluded because they form a separate peak in any case.
    dip, p
        Result of the dip test. A small p indicates more than one mode, but not how many. None
        for fewer than four features.
    """

    n: int
    zeros: int
    dip: float | None
    p: float | None


@dataclass(frozen=True)
class Correlation:
    """Correlation of degree and frequency over the features that are active at least once.

    Parameters
    ----------
    n
        Number of features.
    pearson, spearman
        Correlation coefficients; None if degree or frequency is constant.
    """

    n: int
    pearson: float | None
    spearman: float | None


def modes(counts: NDArray[np.int64], *, log: bool, seed: int = 0) -> Modes:
    """Test a count (a degree, a number of tokens) for more than one mode.

    Counts repeat, and the dip test treats every repeated value as a mode. Each count c is
    therefore spread evenly between c - 1/2 and c + 1/2 (on the scale tested), like a histogram
    with one bar per count.

    Parameters
    ----------
    counts
        (features,).
    log
        Whether to test the logarithm of the count.
    seed
        Seed of the spreading and of the test.
    """
    rng = np.random.default_rng(seed)
    some = counts[counts > 0].astype(np.float64)
    zeros = len(counts) - len(some)
    if len(some) < _ENOUGH:
        return Modes(len(some), zeros, None, None)
    low, high = some - 0.5, some + 0.5
    if log:
        low, high = np.log(low), np.log(high)
    # Values can be equal after spreading only by rounding; the dip needs distinct values.
    test = dip_test(np.unique(rng.uniform(low, high)), seed=seed)
    return Modes(len(some), zeros, test.dip, test.p)


def correlate(degree: NDArray[np.int64], active: NDArray[np.int64]) -> Correlation:
    """Correlate the degree of features with the number of tokens they are active on.

    Parameters
    ----------
    degree, active
        (features,) each. Features that are never active are excluded.
    """
    live = active > 0
    x, y = degree[live].astype(np.float64), active[live].astype(np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), None, None)
    ranks = stats.rankdata(x), stats.rankdata(y)
    return Correlation(len(x), float(np.corrcoef(x, y)[0, 1]), float(np.corrcoef(*ranks)[0, 1]))
