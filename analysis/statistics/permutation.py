"""p-values from a statistic on permuted or simulated data."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["permutation_p"]

# The same sum in a different order must not compare as smaller.
_ROUNDING = 1e-12


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
    return float((1 + as_high.sum()) / (1 + len(values)))
