"""p-values from a statistic on permuted or simulated data; ``ingest`` uses the same ones."""

import numpy as np
from numpy.typing import NDArray

from ingest.statistics.permutation import exceedance_p, permutation_p

__all__ = ["exceedance_p", "max_statistic_p", "permutation_p", "two_sided_p"]

# The same sum in a different order must not compare as different.
_ROUNDING = 1e-12


def two_sided_p(seen: float, samples: NDArray[np.float64]) -> float | None:
    """Return twice the smaller of the two one-sided p-values, at most 1, or None.

    Parameters
    ----------
    seen, samples
        As in ``permutation_p``.

    Examples
    --------
    >>> two_sided_p(5.0, np.arange(39.0) + 10)
    0.05
    """
    sides = [permutation_p(sign * seen, sign * samples) for sign in (1, -1)]
    found = [p for p in sides if p is not None]
    return min(1.0, 2 * min(found)) if found else None


def max_statistic_p(
    seen: NDArray[np.float64], samples: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the p-value of the largest of several statistics, and the standardised statistics.

    Each statistic is standardised by mean and standard deviation over the observed data and
    all draws, which are exchangeable under the null. The p is therefore valid for any number
    and dependence of the statistics [1]_.

    Parameters
    ----------
    seen
        (statistics,). Observed values; finite.
    samples
        (draws, statistics). Values of each draw; finite.

    Returns
    -------
    p
        Share of the draws, the observed data included, whose largest statistic is at least as
        large as the observed one.
    standardised
        (statistics,). Observed values in standard deviations; 0 for a constant statistic.

    References
    ----------
    .. [1] P. Westfall and S. Young, "Resampling-Based Multiple Testing", 1993.

    Examples
    --------
    >>> p, _ = max_statistic_p(np.array([9.0, 0.0]), np.random.default_rng(0).normal(size=(19, 2)))
    >>> p
    0.05
    """
    pooled = np.concatenate([seen[None], samples])
    spread = pooled.std(axis=0)
    centred = pooled - pooled.mean(axis=0)
    moving = spread > _ROUNDING * np.abs(pooled).max(axis=0, initial=0.0)
    standardised = np.divide(centred, spread, out=np.zeros_like(pooled), where=moving)
    highest = standardised.max(axis=1, initial=-np.inf)
    p = permutation_p(float(highest[0]), highest[1:]) if pooled.shape[1] else None
    return (1.0 if p is None else p), standardised[0]
