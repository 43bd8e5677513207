"""Loops compiled to machine code, and spread over threads.

A compiled function lets go of the interpreter's lock, so plain threads run it side by
side. Each thread gets a range of its own, so that results do not depend on their number.

What is kept on disk is checked against the file that holds the function, and no other:
compiled functions call only such as stand in their own file.
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
    """Compile a function of NumPy arrays and numbers at its first call; kept on disk for the next."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # there is no folder to keep it in, as in some containers
        return cast(F, numba.njit(nogil=True)(function))


def in_threads(work: Callable[[int, int], None], bounds: Sequence[int]) -> None:
    """Call ``work(bounds[i], bounds[i + 1])`` for every i, as many at a time as there are cores."""
    ranges = list(itertools.pairwise(bounds))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda ends: work(*ends), ranges):
            pass
