"""Array functions for reductions: runs of equal values, and codes by feature."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from ingest.codes.store import Block

__all__ = ["Arrays", "by_feature", "changes", "ranks"]

# A State without static types of its arrays; the ``start`` of each reduction documents them.
Arrays: TypeAlias = dict[str, NDArray[Any]]


def changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a value differs from the previous one; the first always does."""
    fresh = np.ones(len(values), dtype=np.bool_)
    fresh[1:] = values[1:] != values[:-1]
    return fresh


def ranks(group: NDArray[Any]) -> NDArray[np.int64]:
    """Number the members of each group from 0; groups must be contiguous."""
    starts = np.flatnonzero(changes(group))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))


def by_feature(block: Block, rows: NDArray[np.int64] | None = None) -> csc_array:
    """Return the codes as columns, with rows in the order ``rows`` (that of the block if None).

    The conversion is a counting sort, several times faster than a sort by key.
    """
    codes = csr_array(
        (block.values, block.indices.view(np.int32), block.indptr), (len(block), block.d_sae)
    )
    return (codes if rows is None else codes[rows]).tocsc()
