"""Minimum description length of labels, by the online code.

Labels are sent in portions. The first portion costs one bit for each label. Each later one costs the
negative log2 probability of a probe that was trained on all earlier portions.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.probing.ridge import PENALTIES, Space, fit_ridge

__all__ = ["PORTIONS", "Codelength", "online_codelength"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

PORTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Ends of the portions, as shares of the groups."""


@dataclass(frozen=True)
class Codelength:
    """Bits of the labels.

    Parameters
    ----------
    bits
        Mean length over the orders, with log2 of the number of penalties for the choice of one.
    base
        The same code with vectors of zeros, which knows only the frequency of the classes.
    """

    bits: float
    base: float

    @property
    def compression(self) -> float:
        """``base`` / ``bits``; 1 or less if the vectors do not help."""
        return self.base / self.bits


def online_codelength(
    space: Space, labels: Bools, groups: Ints, *, orders: int, seed: int
) -> Codelength:
    """Return the online description length of labels for a reader who knows the vectors.

    Parameters
    ----------
    space
        The vectors.
    labels
        bool, (rows,).
    groups
        int64, (rows,). A portion never divides a group.
    orders, seed
        Random orders of the groups, and their seed.

    References
    ----------
    E. Voita and I. Titov, "Information-Theoretic Probing with Minimum Description Length", 2020,
    arXiv:2003.12298.
    """
    without = Space(np.zeros((len(labels), 1)), np.zeros((1, 1)), np.zeros(1))
    bits, base = (
        _length(one, labels, groups, orders=orders, seed=seed) for one in (space, without)
    )
    return Codelength(bits, base)


def _length(space: Space, labels: Bools, groups: Ints, *, orders: int, seed: int) -> float:
    """Return the mean bits over the orders, with the choice of a penalty."""
    rng = np.random.default_rng([seed, 5])
    names, which = np.unique(groups, return_inverse=True)
    ends = np.unique(np.ceil(np.array(PORTIONS) * len(names)).astype(np.int64))
    train, tested, penalty = [], [], []
    first = np.zeros(orders)
    for order in range(orders):
        position = rng.permutation(len(names))[which]
        first[order] = (position < ends[0]).sum()
        for begin, end in pairwise(ends.tolist()):
            for one in PENALTIES:
                train.append(position < begin)
                tested.append((position >= begin) & (position < end))
                penalty.append(one)
    total = np.repeat(first[:, None], len(PENALTIES), axis=1)
    if train:
        known = np.array(train)
        total += (
            _bits(space, labels, known, np.array(tested), np.array(penalty))
            .reshape(orders, -1, len(PENALTIES))
            .sum(axis=1)
        )
    return float(total.mean(axis=0).min() + np.log2(len(PENALTIES)))


def _bits(space: Space, labels: Bools, train: Bools, tested: Bools, penalty: Floats) -> Floats:
    """Return the bits of the tested rows of each column; one each without both classes."""
    every = np.broadcast_to(labels, train.shape)
    weights = train / np.maximum(train.sum(axis=1, keepdims=True), 1)
    fitted = fit_ridge(space, every, train, penalty=penalty, weights=weights)
    signed = np.where(labels, fitted.margins, -fitted.margins)
    bits = np.logaddexp(0.0, -signed) / np.log(2)
    both = (train & labels).any(axis=1) & (train & ~labels).any(axis=1)
    return np.asarray(np.where(both, (bits * tested).sum(axis=1), tested.sum(axis=1)))
