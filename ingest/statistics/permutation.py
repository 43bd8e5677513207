"""p-values from a statistic on permuted or simulated data."""

from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["exceedance_p", "permutation_p"]

# The same sum in a different order must not compare as smaller.
_ROUNDING = 1e-12


@overload
def exceedance_p(as_high: int, draws: int) -> float: ...
@overload
def exceedance_p(
    as_high: NDArray[np.int64], draws: int | NDArray[np.int64]
) -> NDArray[np.float64]: ...
@overload
def exceedance_p(as_high: int, draws: NDArray[np.int64]) -> NDArray[np.float64]: ...
def exceedance_p(
    as_high: int | NDArray[np.int64], draws: int | NDArray[np.int64]
) -> float | NDArray[np.float64]:
    """Return the p-value from a number of draws, (1 + as_high) / (1 + draws).

    The observed data count as one more draw, so p is never 0 and the test is valid for any
    number of draws (Phipson & Smyth 2010, "Permutation P-values should never be zero").

    Parameters
    ----------
    as_high
        Number of draws with a statistic at least as high as the observed one.
    draws
        Number of draws.

    Examples
    --------
    >>> exceedance_p(0, 19)
    0.05
    """
    return (1 + as_high) / (1 + draws)


def permutation_p(seen: float, samples: NDArray[np.float64]) -> float | None:
    """Return the one-sided p-value, (1 + draws at least as high) / (1 + draws), or None.

    Parameters
    ----------
    seen
        The observed statistic; NaN gives None.
    samples
        (draws,). The statistic of each draw; NaN is ignored, and no finite draw gives None.
    """
    values = samples[np.isfinite(samples)]
    if not np.isfinite(seen) or not len(values):
        return None
    as_high = values >= seen - _ROUNDING * abs(seen)
    return exceedance_p(int(as_high.sum()), len(values))
