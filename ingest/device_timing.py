"""Seconds of work on a device: GPUs compute in the background, and load kernels at the first call."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from atlas.progress import Clock

if TYPE_CHECKING:
    import torch

__all__ = ["timed_on", "wait_for"]


def wait_for(device: "torch.device") -> None:
    """Wait until a GPU has finished what was requested; nothing to wait for on other devices."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def timed_on(
    device: "torch.device", work: Callable[[], object], *, clock: Clock = time.perf_counter
) -> float:
    """Return the seconds of a call, after an equal call that is not counted.

    The first call loads kernels, compiles loops and allocates memory. A GPU is idle when the clock
    starts, and has finished when it stops.

    Parameters
    ----------
    device
        The device on which the work is done.
    work
        The work; it is done twice, so it must not change what it reads.
    clock
        Returns the time in seconds.

    Examples
    --------
    >>> import torch
    >>> timed_on(torch.device("cpu"), lambda: torch.ones(100).sum()) > 0
    True
    """
    work()
    wait_for(device)
    began = clock()
    work()
    wait_for(device)
    return max(clock() - began, 1e-9)
