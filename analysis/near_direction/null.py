"""p-values of nearest directions, compared with random rows of matched covariance."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.directions import Floats, Ints, cosine_blocks, unit_rows
from analysis.statistics.permutation import exceedance_p

__all__ = ["QUERIES", "direction_p", "frequency_groups", "random_rows"]

Rows: TypeAlias = NDArray[np.float32]

#: Most groups of frequency, and fewest rows of a group for each dimension.
GROUPS, ROWS_PER_DIMENSION = 5, 4

#: Bins of features by the height of their null, and most features that are compared with it.
BINS, QUERIES = 10, 4096


def frequency_groups(frequency: Floats, *, width: int) -> Ints:
    """Return the frequency group of each row: up to five groups of equal size.

    Parameters
    ----------
    frequency
        float64, (rows,).
    width
        Number of dimensions of the rows; a group has at least four rows for each.
    """
    n = len(frequency)
    groups = int(np.clip(n // max(ROWS_PER_DIMENSION * width, 1), 1, GROUPS))
    order = np.argsort(np.argsort(frequency, kind="stable"), kind="stable")
    found: Ints = (order * groups // max(n, 1)).astype(np.int64)
    return found


def random_rows(rows: Rows, groups: Ints, rng: np.random.Generator) -> Rows:
    """Draw a random unit row for each row, with the mean and covariance of its frequency group.

    The rows are Gaussian and then scaled to length 1. In few dimensions, the scaling changes the
    covariance.

    Parameters
    ----------
    rows
        Unit rows, (rows, dimensions).
    groups
        int64, (rows,). Group of each row.
    rng
        Source of random numbers.
    """
    drawn = np.empty(rows.shape, dtype=np.float32)
    for group in range(int(groups.max(initial=-1)) + 1):
        own = np.flatnonzero(groups == group)
        if not len(own):
            continue
        x = rows[own].astype(np.float64)
        mean = x.mean(axis=0)
        values, axes = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        scale = np.sqrt(np.maximum(values, 0.0))
        y = mean + (rng.standard_normal((len(own), len(scale))) * scale) @ axes.T
        drawn[own] = unit_rows(y)
    return drawn


def direction_p(
    a: Rows, b: Rows, cosine: Floats, *, groups: Ints, draws: int, seed: int, within: bool
) -> tuple[Floats, float]:
    """Return the p-value of each nearest direction, and the median cosine under the null.

    The null statistic is the highest cosine of a feature of A with as many random rows as it has
    candidates. The random rows have the covariance of B's rows of similar frequency. Null
    statistics are pooled over features of A whose projections on random rows vary similarly.

    Parameters
    ----------
    a, b
        Unit rows of the features, and of their candidates.
    cosine
        float64, (rows of A, k). Cosines of the nearest rows of B; NaN for none.
    groups
        int64, (rows of B,). Frequency groups; see ``frequency_groups``.
    draws
        Number of sets of random rows.
    seed
        Seed of the random rows.
    within
        Whether A and B are the same rows, so that a feature has one candidate less.

    Returns
    -------
    p
        float64, (rows of A, k). NaN where the cosine is.
    median
        Median of the null statistic over draws and a sample of the features; NaN without draws.
    """
    n = len(a)
    p = np.full(cosine.shape, np.nan)
    candidates = len(b) - within
    if not n or candidates < 1 or not draws:
        return p, np.nan
    rng = np.random.default_rng([seed, 0])
    level = np.empty(n)
    queries = np.sort(rng.choice(n, min(n, QUERIES), replace=False))
    tops = np.empty((draws, len(queries)))
    for draw in range(draws):
        null = random_rows(b, groups, rng)[rng.permutation(len(b))[:candidates]]
        if not draw:
            level = _spread(a, null)
        for start, block in cosine_blocks(a[queries], null):
            tops[draw, start : start + len(block)] = block.max(axis=1)
    bins = max(1, min(BINS, len(queries) // 20))
    edges = np.quantile(level[queries], np.linspace(0, 1, bins + 1)[1:-1])
    of_all = np.searchsorted(edges, level, side="right")
    for one in range(bins):
        pool = np.sort(tops[:, of_all[queries] == one].ravel())
        own = np.flatnonzero(of_all == one)
        if not len(pool):
            pool = np.sort(tops.ravel())
        as_high = len(pool) - np.searchsorted(pool, cosine[own] - 1e-6, side="left")
        p[own] = exceedance_p(as_high.astype(np.int64), len(pool))
    p[np.isnan(cosine)] = np.nan
    return p, float(np.median(tops))


def _spread(a: Rows, null: Rows) -> Floats:
    """Return the root mean square projection of random rows on each row of A."""
    second = null.T.astype(np.float64) @ null / len(null)
    found: Floats = np.sqrt(np.maximum(np.einsum("ij,ij->i", a @ second, a), 0.0))
    return found
