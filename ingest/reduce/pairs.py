"""Counts and sums by pair of feature and token, sparse, in sorted runs.

A run holds ascending keys ``feature << 32 | token`` with their int64 counts and
float64 sums of activations. A state holds runs of falling size under ``key.0``,
``count.0``, ``total.0``, ``key.1``, …: a new run is joined with the one before it
only when that is not twice as long, so that each number is moved a few times in
all, and not once a block.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.codes import Block
from ingest.reduce.arrays import Arrays, by_feature, changes

__all__ = ["Run", "add", "empty", "join", "most_bytes", "take"]

Run: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_NOTHING: Run = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)

_FIELDS = ("key", "count", "total")


def most_bytes(entries: int, pairs: int) -> int:
    """Return the bytes of a state at most, given how many entries and distinct pairs there are.

    A pair may be in several runs, but these are together at most twice as long as the
    longest, and no longer than the entries they count.
    """
    return 24 * min(entries, 2 * pairs)


def empty() -> Arrays:
    """Return the state of no pairs: no runs."""
    return {"runs": np.zeros(1, dtype=np.int64)}


def add(state: Arrays, block: Block, *, first: int, end: int) -> None:
    """Count the pairs of a block whose feature is in [first, end)."""
    run = _block_run(block, first, end)
    if len(run[0]):
        _push(state, run)


def join(a: Arrays, b: Arrays) -> None:
    """Add all of b's pairs to a's; b is consumed."""
    for i in range(int(b["runs"][0])):
        _push(a, _run(b, i))


def take(state: Arrays) -> Run:
    """Return all pairs as one run, leaving none in the state."""
    run = _NOTHING
    while state["runs"][0]:
        run = _joined(_pop(state), run)
    return run


def _block_run(block: Block, first: int, end: int) -> Run:
    by_token = np.argsort(block.tokens.token_id, kind="stable")
    token = block.tokens.token_id[by_token].astype(np.int64)
    columns = by_feature(block, by_token)
    begin, stop = columns.indptr[first], columns.indptr[end]
    feature = np.repeat(np.arange(first, end), np.diff(columns.indptr[first : end + 1]))
    key = (feature << 32) | token[columns.indices[begin:stop]]
    starts = np.flatnonzero(changes(key))
    if not len(starts):
        return _NOTHING
    total = np.add.reduceat(columns.data[begin:stop], starts, dtype=np.float64)
    return key[starts], np.diff(starts, append=len(key)), total


def _joined(a: Run, b: Run) -> Run:
    key, count, total = (np.concatenate(both) for both in zip(a, b, strict=True))
    by = np.argsort(key, kind="stable")  # timsort: two sorted runs are merged, not sorted
    fresh = changes(key[by])
    first, second = by[fresh], by[~fresh]
    # A key is in each run once at most; the j-th second one stands j + 1 behind its first.
    where = np.flatnonzero(~fresh) - np.arange(1, len(second) + 1)
    key, counts, totals = key[first], count[first], total[first]
    counts[where] += count[second]
    totals[where] += total[second]
    return key, counts, totals


def _push(state: Arrays, run: Run) -> None:
    while state["runs"][0] and len(state[f"key.{state['runs'][0] - 1}"]) < 2 * len(run[0]):
        run = _joined(_pop(state), run)
    _put(state, run)


def _put(state: Arrays, run: Run) -> None:
    i = int(state["runs"][0])
    state.update({f"{name}.{i}": array for name, array in zip(_FIELDS, run, strict=True)})
    state["runs"] = np.array([i + 1])


def _pop(state: Arrays) -> Run:
    i = int(state["runs"][0]) - 1
    run = _run(state, i)
    for name in _FIELDS:
        del state[f"{name}.{i}"]
    state["runs"] = np.array([i])
    return run


def _run(state: Arrays, i: int) -> Run:
    key, count, total = (state[f"{name}.{i}"] for name in _FIELDS)
    return key, count, total
