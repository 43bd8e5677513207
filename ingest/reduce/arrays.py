"""What reductions share in handling arrays: runs of equal values, codes by feature."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from ingest.codes.store import Block

__all__ = ["Arrays", "by_feature", "changes", "ranks"]

# A State whose arrays' types are not checked: what each holds is said where it is started.
Arrays: TypeAlias = dict[str, NDArray[Any]]


def changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a value differs from the one before; the first always does."""
    fresh = np.ones(len(values), dtype=np.bool_)
    fresh[1:] = values[1:] != values[:-1]
    return fresh


def ranks(group: NDArray[Any]) -> NDArray[np.int64]:
    """Number the members of each group from 0, where groups lie together."""
    starts = np.flatnonzero(changes(group))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))


def by_feature(block: Block, rows: NDArray[np.int64] | None = None) -> csc_array:
    """Return the codes as columns, their rows in this order (the block's, if None).

    Turning rows into columns is a counting sort, several times faster than a sort by key.
    """
    codes = csr_array(
        (block.values, block.indices.view(np.int32), block.indptr), (len(block), block.d_sae)
    )
    return (codes if rows is None else codes[rows]).tocsc()
