"""Counts of the pairs of feature and token in a block."""

import numpy as np

from ingest.codes.store import Block
from ingest.reduce.arrays import by_feature, changes
from ingest.reduce.sorted_pair_counts import Run

__all__ = ["token_run"]


def token_run(block: Block, *, first: int, end: int) -> Run:
    """Return the run of the features in [first, end); see ``sorted_pair_counts``.

    Keys are ``feature << 32 | token``; totals are sums of activations.
    """
    by_token = np.argsort(block.tokens.token_id, kind="stable")
    token = block.tokens.token_id[by_token].astype(np.int64)
    columns = by_feature(block, by_token)
    begin, stop = columns.indptr[first], columns.indptr[end]
    feature = np.repeat(np.arange(first, end), np.diff(columns.indptr[first : end + 1]))
    key = (feature << 32) | token[columns.indices[begin:stop]]
    starts = np.flatnonzero(changes(key))
    if not len(starts):
        return key, np.zeros(0, dtype=np.int64), np.zeros(0)
    total = np.add.reduceat(columns.data[begin:stop], starts, dtype=np.float64)
    return key[starts], np.diff(starts, append=len(key)), total
