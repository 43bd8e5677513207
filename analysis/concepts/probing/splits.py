"""Repeated cross-validation whose folds never share a group of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

__all__ = ["Interval", "Splits", "grouped_splits", "permuted_groups", "resampled_interval"]

Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Splits:
    """Splits into training and test rows.

    Parameters
    ----------
    test
        bool, (splits, rows). Rows of the test data of each split; all others are training.
    repeat
        int64, (splits,). Repetition to which each split belongs.
    """

    test: Bools
    repeat: Ints

    def __len__(self) -> int:
        return len(self.test)

    @property
    def ratio(self) -> float:
        """Mean number of test rows / mean number of training rows."""
        tested = float(self.test.mean())
        return tested / max(1 - tested, 1e-12)

    def first(self, repeats: int) -> "Splits":
        """Return the splits of the first repetitions."""
        chosen = self.repeat < repeats
        return Splits(self.test[chosen], self.repeat[chosen])


def grouped_splits(
    strata: Sequence[object], groups: Ints, *, folds: int, repeats: int, seed: int
) -> Splits:
    """Return stratified folds that never divide a group.

    Parameters
    ----------
    strata
        (rows,). Class of each row, by which folds are balanced.
    groups
        int64, (rows,). Group of each row.
    folds, repeats, seed
        Folds of each repetition, repetitions, and their seed. There are as many folds as groups
        at most.

    Notes
    -----
    Groups are shuffled, sorted by their number of rows of each class, and dealt to the folds in
    turn. Folds therefore differ by at most one in their number of groups of each kind.

    Examples
    --------
    >>> made = grouped_splits("aabb", np.array([0, 1, 2, 3]), folds=2, repeats=3, seed=0)
    >>> len(made), made.test.sum(axis=0)
    (6, array([3, 3, 3, 3]))
    """
    names, which = np.unique(groups, return_inverse=True)
    folds = min(folds, len(names))
    _, classes = np.unique(np.asarray([str(s) for s in strata]), return_inverse=True)
    made = np.zeros((len(names), int(classes.max(initial=0)) + 1), np.int64)
    np.add.at(made, (which, classes), 1)
    _, kind = np.unique(made, axis=0, return_inverse=True)
    test = np.zeros((folds * repeats, len(groups)), dtype=bool)
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, 2, repeat])
        order = np.lexsort([rng.random(len(names)), kind.ravel()])
        fold = np.empty(len(names), np.int64)
        fold[order] = rng.permutation(folds)[np.arange(len(names)) % folds]
        test[repeat * folds + fold[which], np.arange(len(groups))] = True
    return Splits(test, np.repeat(np.arange(repeats), folds))


def permuted_groups(labels: Bools, groups: Ints, draws: int, *, seed: int) -> Bools:
    """Permute labels among groups, so that rows of one group that share a label still do.

    Parameters
    ----------
    labels
        bool, (rows,).
    groups
        int64, (rows,).
    draws, seed
        Permutations, and their seed.

    Returns
    -------
    bool, (draws, rows). A unit of permutation is all rows of one group with one label.
    """
    key = groups * 2 + labels
    units, which = np.unique(key, return_inverse=True)
    own = (units % 2).astype(bool)
    rng = np.random.default_rng([seed, 3])
    drawn = rng.permuted(np.tile(own, (draws, 1)), axis=1)
    found: Bools = drawn[:, which]
    return found


@dataclass(frozen=True)
class Interval:
    """A mean over splits, with the limits of its 95% interval; NaN if it is undefined."""

    value: float
    low: float
    high: float


def resampled_interval(values: Floats, ratio: float, *, level: float = 0.95) -> Interval:
    """Return the mean over overlapping splits, with an interval for the overlap.

    Parameters
    ----------
    values
        (splits,). NaN is ignored.
    ratio
        Test rows / training rows of a split.
    level
        Confidence level.

    Notes
    -----
    Training sets of different splits overlap, so the variance of the mean is not that of
    independent values. It is multiplied by 1 / splits + ``ratio`` instead of 1 / splits [1]_.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning
       52, 2003.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    mean = float(known.mean())
    if len(known) < 2:
        return Interval(mean, np.nan, np.nan)
    error = float(np.sqrt((1 / len(known) + ratio) * known.var(ddof=1)))
    half = float(student.isf((1 - level) / 2, len(known) - 1)) * error
    return Interval(mean, mean - half, mean + half)
