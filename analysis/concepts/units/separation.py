"""Tests of single units: which units have different activations on two classes of words.

All units and all permutations of the labels are computed by matrix products. The family-wise p
compares each unit with the largest statistic over all units in each permutation (max-T), which
is exact for any dependence of the units.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import false_discovery_control

from analysis.statistics.permutation import exceedance_p
from analysis.statistics.ranks import auc_columns

__all__ = ["Separation", "WelchSums", "separate", "smallest_effect"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

_CELLS = 2**20  # numbers of a chunk of permutations
CHANCE_DRAWS = 100
"""Permutations in which significant units are counted."""

_ROUNDING = 1e-9  # relative difference below which two statistics are equal


@dataclass(frozen=True, eq=False)
class Separation:
    """The tests of each unit; arrays of shape (units,).

    Parameters
    ----------
    t, p
        Welch's t (positive: higher on the positive class), and its two-sided p.
    auroc
        Share of pairs (positive, negative) that the unit ranks correctly, ties count half:
        Mann-Whitney's U / number of pairs.
    effect
        Hedges' g: difference of means / pooled standard deviation, corrected for few words.
    p_permutation, p_max
        p of \\|t\\| under permutations of the labels, of the unit alone and of the largest
        \\|t\\| over all units.
    q
        Benjamini-Hochberg value of ``p`` over the units.
    chance
        float64, (draws, levels): units with Welch's p below each of ``levels`` in each of the first
        permutations, at most ``CHANCE_DRAWS``.
    levels
        Levels at which chance is counted.
    chance_q
        (draws,). Units with q at most 0.05 in each of these permutations.
    """

    t: Floats
    p: Floats
    auroc: Floats
    effect: Floats
    p_permutation: Floats
    p_max: Floats
    q: Floats
    chance: Floats
    levels: tuple[float, ...]
    chance_q: Floats


class WelchSums:
    """Welch's t of many units for many labellings of the same rows, from sums and squares.

    Parameters
    ----------
    values
        float64, (rows, units).

    Notes
    -----
    Columns are centred and scaled first, so that the variances lose no precision.
    """

    def __init__(self, values: Floats) -> None:
        centred = values - values.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        self._x = centred / np.where(spread > 0, spread, 1.0)
        self._squares = self._x**2
        self._sum, self._sum_squares = self._x.sum(axis=0), self._squares.sum(axis=0)

    def t(self, weights: Floats, rows: Floats | None = None) -> tuple[Floats, Floats]:
        """Return Welch's t and its degrees of freedom.

        Parameters
        ----------
        weights
            float64, (labellings, rows). 1 for the positive class, 0 otherwise.
        rows
            float64, (labellings, rows). 1 for rows that are used; all if None.

        Returns
        -------
        t, degrees of freedom
            (labellings, units). Where both classes are constant, t is 0 if their means are
            equal, and infinite otherwise.
        """
        ones = weights.sum(axis=1)[:, None]
        sums, squares = weights @ self._x, weights @ self._squares
        if rows is None:
            rest = len(self._x) - ones
            other, other_squares = self._sum - sums, self._sum_squares - squares
        else:
            rest = rows.sum(axis=1)[:, None] - ones
            other, other_squares = rows @ self._x - sums, rows @ self._squares - squares
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = sums / ones, other / rest
            a = _variance(squares, first, ones) / ones
            b = _variance(other_squares, second, rest) / rest
            difference = first - second
            difference[np.abs(difference) < _ROUNDING] = 0.0
            t = difference / np.sqrt(a + b)
            freedom = (a + b) ** 2 / (a**2 / (ones - 1) + b**2 / (rest - 1))
        t[(a + b == 0) & (difference == 0)] = 0.0
        return np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf), freedom


def _variance(squares: Floats, mean: Floats, n: Floats) -> Floats:
    """Return unbiased variances from sums of squares; rounding errors count as 0."""
    found = (squares - n * mean**2) / (n - 1)
    return np.where(found < _ROUNDING, 0.0, found)


def welch_p(t: Floats, freedom: Floats) -> Floats:
    """Return the two-sided p of Welch's t; 1 where t is 0 and undefined degrees count as 1."""
    known = np.isfinite(freedom) & (freedom > 0)
    p = 2 * stdtr(np.where(known, freedom, 1.0), -np.abs(t))
    p = np.where(np.isinf(t), 0.0, p)
    return np.clip(np.where(t == 0, 1.0, p), 0.0, 1.0)


def separate(
    values: Floats,
    labels: Bools,
    *,
    draws: int,
    seed: int,
    levels: tuple[float, ...] = (0.01, 1e-5),
) -> Separation:
    """Test each unit for different activations on two classes.

    Parameters
    ----------
    values
        float64, (observations, units). Units that do not vary get p = 1.
    labels
        bool, (observations,). At least two of each class.
    draws, seed
        Permutations of the labels, and their seed.
    levels
        Levels at which units significant by chance are counted.

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]])
    >>> found = separate(x, np.arange(6) > 2, draws=99, seed=0)
    >>> round(float(found.t[0]), 2), float(found.auroc[0])
    (12.25, 1.0)
    """
    units = values.shape[1]
    sums = WelchSums(values)
    observed, freedom = sums.t(labels[None].astype(np.float64))
    t = observed[0]
    p = welch_p(t, freedom[0])
    rng = np.random.default_rng([seed, 1])
    size = np.abs(t)
    exceed, highest = np.zeros(units, np.int64), np.zeros(units, np.int64)
    counted = min(draws, CHANCE_DRAWS)
    chance, chance_q = np.zeros((counted, len(levels))), np.zeros(counted)
    step = max(1, _CELLS // max(1, units))
    for first in range(0, draws, step):
        some = min(step, draws - first)
        order = rng.permuted(np.tile(labels, (some, 1)), axis=1).astype(np.float64)
        drawn, degrees = sums.t(order)
        absolute = np.abs(drawn)
        with np.errstate(invalid="ignore"):
            exceed += (absolute >= size * (1 - _ROUNDING)).sum(axis=0)
            largest = absolute.max(axis=1, initial=0.0)
            highest += (largest[:, None] >= size * (1 - _ROUNDING)).sum(axis=0)
        if first < counted:
            found = welch_p(drawn[: counted - first], degrees[: counted - first])
            within = slice(first, first + len(found))
            chance[within] = [[(row <= level).sum() for level in levels] for row in found]
            chance_q[within] = [
                (false_discovery_control(row) <= 0.05).sum() if units else 0 for row in found
            ]
    return Separation(
        t=t,
        p=p,
        auroc=auc_columns(values, labels),
        effect=_hedges(values, labels),
        p_permutation=exceedance_p(exceed, draws),
        p_max=exceedance_p(highest, draws),
        q=false_discovery_control(p) if units else p,
        chance=chance,
        levels=levels,
        chance_q=chance_q,
    )


def _hedges(values: Floats, labels: Bools) -> Floats:
    """Return Hedges' g of each column; 0 where both classes are constant and equal."""
    one, other = values[labels], values[~labels]
    n = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = sum(((x - x.mean(axis=0)) ** 2).sum(axis=0) for x in (one, other))
        g = (one.mean(axis=0) - other.mean(axis=0)) / np.sqrt(squares / (n - 2))
    return np.where(np.isnan(g), 0.0, g) * (1 - 3 / (4 * (n - 2) - 1))


def smallest_effect(
    positives: int, negatives: int, *, level: float, power: float = 0.8
) -> float | None:
    """Return the smallest difference of means that a t-test finds with this power.

    Parameters
    ----------
    positives, negatives
        Numbers of observations.
    level
        Two-sided level of the test; divide by the number of units for a family of tests.
    power
        Probability to find it.

    Returns
    -------
    In standard deviations of one class (Cohen's d); None with fewer than two of either class.

    Examples
    --------
    >>> round(smallest_effect(20, 20, level=0.05), 2)
    0.91
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    if min(positives, negatives) < 2:
        return None
    freedom = positives + negatives - 2
    scale = np.sqrt(positives * negatives / (positives + negatives))
    critical = t.isf(level / 2, freedom)

    def shortfall(d: float) -> float:
        return float(nct.sf(critical, freedom, d * scale)) - power

    return float(brentq(shortfall, 1e-3, (critical + 40) / scale))
