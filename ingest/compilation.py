"""Compilation of loops to machine code, and their execution in threads.

A compiled function releases the interpreter's lock, so plain threads run it in parallel.
Each thread gets its own range, so results do not depend on the number of threads.

The cache on disk is checked against the source file of the function only. Compiled
functions must therefore call only functions in the same file.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import numba

__all__ = ["compiled", "in_threads"]

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function of NumPy arrays and numbers at its first call, with a cache on disk."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder for the cache is writable, as in some containers
        return cast(F, numba.njit(nogil=True)(function))


def in_threads(work: Callable[[int, int], None], bounds: Sequence[int]) -> None:
    """Call ``work(bounds[i], bounds[i + 1])`` for every i, in one thread for each core."""
    ranges = list(itertools.pairwise(bounds))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda ends: work(*ends), ranges):
            pass
