"""p-values of a statistic that is computed again on permuted or drawn data."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["permutation_p"]

# A sum in another order must not count as a smaller number.
_ROUNDING = 1e-12


def permutation_p(seen: float, drawn: NDArray[np.float64]) -> float | None:
    """Return (1 + draws as high) / (1 + draws), one-sided; None where there is nothing to compare.

    Parameters
    ----------
    seen
        The statistic; NaN if there is none.
    drawn
        (draws,). The statistic of each draw; NaN where a draw has none.
    """
    values = drawn[np.isfinite(drawn)]
    if not np.isfinite(seen) or not len(values):
        return None
    as_high = values >= seen - _ROUNDING * abs(seen)
    return float((1 + as_high.sum()) / (1 + len(values)))
