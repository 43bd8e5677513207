"""Time some calls within the run they are part of: a machine that slows down then slows both sides."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["clocks", "timed"]


def clocks() -> np.ndarray:
    """Return the time of day and this process's own, which others on the machine do not lengthen."""
    return np.array([time.perf_counter(), time.process_time()])


@contextmanager
def timed(*calls: tuple[object, str], device: str = "cpu", skip: int = 0) -> Iterator[np.ndarray]:
    """Add up how long methods of objects take while this is open, in seconds by both clocks.

    The first ``skip`` calls of each are left out. On a GPU each call is waited for, which
    takes from the run what it does meanwhile.
    """
    took = np.zeros(2)

    def around(method: Callable[..., Any]) -> Callable[..., Any]:
        left = itertools.chain(itertools.repeat(True, skip), itertools.repeat(False))

        def run(*args: Any, **named: Any) -> Any:
            if next(left):
                return method(*args, **named)
            if device == "cuda":
                torch.cuda.synchronize()
            began = clocks()
            found = method(*args, **named)
            if device == "cuda":
                torch.cuda.synchronize()
            took[:] += clocks() - began
            return found

        return run

    for owner, name in calls:
        object.__setattr__(owner, name, around(getattr(owner, name)))
    try:
        yield took
    finally:
        for owner, name in calls:
            object.__delattr__(owner, name)
