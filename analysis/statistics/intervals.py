"""Quantile intervals of draws, such as bootstrap replicates."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantile_interval"]


def quantile_interval(
    samples: NDArray[np.float64], *, share: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the central share of the draws.

    Parameters
    ----------
    samples
        (draws,) or (draws, columns); all finite, at least one draw.
    share
        Share of the draws in the interval; 1 gives the minimum and the maximum.

    Returns
    -------
    low, high
        Limits of each column; scalars if ``samples`` has one dimension.
    """
    low, high = np.quantile(samples, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return low, high
