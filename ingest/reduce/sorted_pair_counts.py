"""Sparse counts and sums by pair, in sorted runs.

A pair is an int64 key ``a << 32 | b``. A run has ascending keys with int64 counts and float64
totals. A state has runs of decreasing size under ``key.0``, ``count.0``, ``total.0``,
``key.1``, … A new run is merged with the previous one only if that is less than twice as long.
Each number is therefore moved a few times in total, instead of once for each block.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.compilation import compiled
from ingest.reduce.arrays import Arrays

__all__ = ["ENTRY_BYTES", "Run", "empty", "join", "most_bytes", "push", "take"]

Run: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

ENTRY_BYTES = 24

_EMPTY: Run = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)

_FIELDS = ("key", "count", "total")


def most_bytes(entries: int, pairs: int) -> int:
    """Return the largest size in bytes of a state with these numbers of entries and distinct pairs.

    A pair may be in several runs. Together they are at most twice as long as the longest, and
    have at most as many keys as there are entries. While runs are merged, the result is in
    memory together with them.
    """
    return 2 * ENTRY_BYTES * min(entries, 2 * pairs)


def empty() -> Arrays:
    """Return a state without runs."""
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
    """Return all pairs as one run, and remove them from the state."""
    run = _EMPTY
    while state["runs"][0]:
        run = _joined(_pop(state), run)
    return run


def _joined(a: Run, b: Run) -> Run:
    if not (len(a[0]) and len(b[0])):
        return a if len(a[0]) else b
    length = _distinct(a[0], b[0])
    joined = np.empty(length, np.int64), np.empty(length, np.int64), np.empty(length)
    _merge(a, b, joined)
    return joined


@compiled
def _distinct(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Return the number of distinct keys of two ascending runs."""
    i = j = n = 0
    while i < len(a) and j < len(b):
        key_a, key_b = a[i], b[j]
        i += key_a <= key_b
        j += key_b <= key_a
        n += 1
    return n + (len(a) - i) + (len(b) - j)


@compiled
def _merge(a: Run, b: Run, into: Run) -> None:
    """Merge two ascending runs; counts and totals of common keys are added, those of a first."""
    i = j = 0
    for n in range(len(into[0])):
        from_a = j == len(b[0]) or (i < len(a[0]) and a[0][i] <= b[0][j])
        from_b = i == len(a[0]) or (j < len(b[0]) and b[0][j] <= a[0][i])
        if from_a:
            into[0][n], into[1][n], into[2][n] = a[0][i], a[1][i], a[2][i]
            if from_b:
                into[1][n] += b[1][j]
                into[2][n] += b[2][j]
        else:
            into[0][n], into[1][n], into[2][n] = b[0][j], b[1][j], b[2][j]
        i += from_a
        j += from_b


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
