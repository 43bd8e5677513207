"""How degree and frequency are distributed over features, and how they go together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.graph.dip_test import dip_test

__all__ = ["Correlation", "Modes", "correlate", "modes"]

_ENOUGH = 4  # a dip of fewer values says nothing


@dataclass(frozen=True)
class Modes:
    """Whether a count has more than one mode over features.

    Parameters
    ----------
    n, zeros
        Features with a count above 0, which are tested, and those with none, which are not:
        they are a heap of their own, whatever the test says.
    dip, p
        Of the dip test; a small p says that there is more than one mode, not how many.
        None for fewer than four features.
    """

    n: int
    zeros: int
    dip: float | None
    p: float | None


@dataclass(frozen=True)
class Correlation:
    """How degree goes with frequency over the features that are active at least once.

    Parameters
    ----------
    n
        Features.
    pearson, spearman
        None where either is the same for all.
    """

    n: int
    pearson: float | None
    spearman: float | None


def modes(counts: NDArray[np.int64], *, log: bool, seed: int = 0) -> Modes:
    """Test a count (a degree, a number of tokens) for more than one mode.

    Counts repeat, and to the dip every repeated value is a mode of its own. So each count c
    is spread evenly between c - 1/2 and c + 1/2 (on the scale tested), as a histogram with
    a bar for every count would be.

    Parameters
    ----------
    counts
        (features,).
    log
        Whether the logarithm of the count is tested.
    seed
        Of the spreading and of the test.
    """
    rng = np.random.default_rng(seed)
    some = counts[counts > 0].astype(np.float64)
    zeros = len(counts) - len(some)
    if len(some) < _ENOUGH:
        return Modes(len(some), zeros, None, None)
    low, high = some - 0.5, some + 0.5
    if log:
        low, high = np.log(low), np.log(high)
    # Two equal values after spreading are rounding; the dip needs one of each.
    test = dip_test(np.unique(rng.uniform(low, high)), seed=seed)
    return Modes(len(some), zeros, test.dip, test.p)


def correlate(degree: NDArray[np.int64], active: NDArray[np.int64]) -> Correlation:
    """Correlate the degree of features with the number of tokens they are active on.

    Parameters
    ----------
    degree, active
        (features,) each. Features that are never active are left out.
    """
    live = active > 0
    x, y = degree[live].astype(np.float64), active[live].astype(np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), None, None)
    ranks = stats.rankdata(x), stats.rankdata(y)
    return Correlation(len(x), float(np.corrcoef(x, y)[0, 1]), float(np.corrcoef(*ranks)[0, 1]))
