"""Quantile intervals of draws, such as bootstrap replicates."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantile_interval"]


def quantile_interval(
    drawn: NDArray[np.float64], *, share: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the central share of the draws.

    Parameters
    ----------
    drawn
        (draws,) or (draws, columns); all finite, at least one draw.
    share
        Share of the draws in the interval; 1 gives the minimum and the maximum.

    Returns
    -------
    low, high
        Limits of each column; scalars if ``drawn`` has one dimension.
    """
    low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return low, high
