"""Numbering of groups by size."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_size"]


def by_size(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups in descending order of size; ties are in order of the lowest node.

    Parameters
    ----------
    groups
        (nodes,). The group of each node; any integers.
    """
    _, first, back, size = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[back]
