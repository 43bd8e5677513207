"""Lists of the best partners of each feature, kept in order while pairs come in any order.

A list is three arrays of shape features x best: correlations (falling; 0 where there is
no partner), partners and joint counts. Of equal correlations the partner of lower index
stands first, so a list does not depend on the order in which its pairs came.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

__all__ = ["Lists", "empty", "join", "keep"]

Lists: TypeAlias = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def empty(features: int, best: int) -> Lists:
    """Return the lists of no pairs."""
    shape = features, best
    return np.zeros(shape), np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)


@compiled
def keep(lists: Lists, feature: int, r: float, partner: int, joint: int) -> None:
    """Put a pair into the list of a feature, if it is among the best; its r is above 0."""
    pearson, partners, joints = lists
    at = pearson.shape[1]
    while at > 0 and (
        r > pearson[feature, at - 1]
        or (r == pearson[feature, at - 1] and partner < partners[feature, at - 1])
    ):
        at -= 1
    if at == pearson.shape[1]:
        return
    for k in range(pearson.shape[1] - 1, at, -1):
        pearson[feature, k] = pearson[feature, k - 1]
        partners[feature, k] = partners[feature, k - 1]
        joints[feature, k] = joints[feature, k - 1]
    pearson[feature, at], partners[feature, at], joints[feature, at] = r, partner, joint


@compiled
def join(lists: Lists, more: Lists) -> None:
    """Put all pairs of other lists of the same features into these."""
    pearson, partners, joints = more
    for feature in range(pearson.shape[0]):
        for k in range(pearson.shape[1]):
            if pearson[feature, k] > 0:
                keep(lists, feature, pearson[feature, k], partners[feature, k], joints[feature, k])
