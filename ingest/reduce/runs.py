"""Counts and sums by pair, sparse, in sorted runs.

A pair is an int64 key ``a << 32 | b``. A run holds ascending keys with their int64
counts and float64 totals. A state holds runs of falling size under ``key.0``,
``count.0``, ``total.0``, ``key.1``, …: a new run is joined with the one before it
only when that is not twice as long, so that each number is moved a few times in
all, and not once a block.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.reduce.arrays import Arrays, changes

__all__ = ["ENTRY_BYTES", "Run", "empty", "join", "most_bytes", "push", "take"]

Run: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

ENTRY_BYTES = 24

_NOTHING: Run = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)

_FIELDS = ("key", "count", "total")


def most_bytes(entries: int, pairs: int) -> int:
    """Return the bytes of a state at most, given how many entries and distinct pairs there are.

    A pair may be in several runs, but these are together at most twice as long as the
    longest, and no longer than the entries they count.
    """
    return ENTRY_BYTES * min(entries, 2 * pairs)


def empty() -> Arrays:
    """Return the state of no pairs: no runs."""
    return {"runs": np.zeros(1, dtype=np.int64)}


def push(state: Arrays, run: Run) -> None:
    """Add a run."""
    if not len(run[0]):
        return
    while state["runs"][0] and len(state[f"key.{state['runs'][0] - 1}"]) < 2 * len(run[0]):
        run = _joined(_pop(state), run)
    _put(state, run)


def join(a: Arrays, b: Arrays) -> None:
    """Add all of b's pairs to a's; b is consumed."""
    for i in range(int(b["runs"][0])):
        push(a, _run(b, i))


def take(state: Arrays) -> Run:
    """Return all pairs as one run, leaving none in the state."""
    run = _NOTHING
    while state["runs"][0]:
        run = _joined(_pop(state), run)
    return run


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
