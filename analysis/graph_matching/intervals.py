"""Bootstrap intervals of means, with queries and repeats resampled."""

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import quantile_interval

__all__ = ["intervals"]

_AT_ONCE = 1 << 23


def intervals(
    values: NDArray[np.float64],
    *,
    query: NDArray[np.int64],
    repeat: NDArray[np.int64],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute 95% bootstrap intervals of column means.

    Parameters
    ----------
    values
        float64, (rows, columns).
    query, repeat
        int64, (rows,). The query and the repeat of each row. A query is resampled with all its
        rows. Repeats are resampled too if there are several. The weight of a row is the
        product of the two multiplicities.
    draws, seed
        Number of bootstrap samples, and the seed.
    """
    of_query, of_repeat = (np.unique(x, return_inverse=True)[1] for x in (query, repeat))
    queries, repeats = (int(x.max(initial=-1)) + 1 for x in (of_query, of_repeat))
    if not len(values):
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    rng = np.random.default_rng(seed)
    means = []
    left = draws
    while left:
        some = min(left, max(1, _AT_ONCE // len(values)))
        weight = _drawn(queries, some, rng)[:, of_query] * _drawn(repeats, some, rng)[:, of_repeat]
        total = weight.sum(axis=1, keepdims=True)
        means.append((weight @ values)[total[:, 0] > 0] / total[total[:, 0] > 0])
        left -= some
    return quantile_interval(np.concatenate(means))


def _drawn(number: int, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if number == 1:
        return np.ones((draws, 1))
    return rng.multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)
