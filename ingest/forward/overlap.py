"""Work on threads while the device computes: text that is prepared ahead, and results that are stored."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from ingest.settings import Settings

__all__ = ["InOrder", "has_idle_core", "in_order", "prefetched"]

T = TypeVar("T")

#: Pieces of work that wait while another runs. Each holds the codes of a shard.
WAITING = 1


def has_idle_core(device: "torch.device", settings: "Settings") -> bool:
    """Return whether this process has a processor core that the model does not use.

    On a CPU, torch divides each operation equally among its threads and waits for the slowest.
    Other work on the same cores would therefore delay all of them.
    """
    if device.type != "cpu" or settings.workers or settings.ray:
        return True
    import torch

    # macOS does not report on which cores a process may run.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return torch.get_num_threads() < (cores or 1)


def prefetched(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items in their order; a thread computes the next one while the caller uses one.

    Examples
    --------
    >>> list(prefetched(range(3)))
    [0, 1, 2]
    """
    rest, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        ahead: Future[T | object] = pool.submit(next, rest, end)
        while (item := ahead.result()) is not end:
            ahead = pool.submit(next, rest, end)
            yield item  # type: ignore[misc]  # it is not the end


class InOrder:
    """Runs pieces of work in the order in which they are submitted; see ``in_order``."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._running: deque[Future[None]] = deque()
        self._failed = False
        self.stopping = False
        """Whether the caller has failed, so that work is pointless that is not stored."""

    def submit(self, work: Callable[[], None], *, always: bool = False) -> None:
        """Run a piece of work after those that were submitted before.

        Parameters
        ----------
        work
            The piece.
        always
            Whether it also runs after an error of an earlier piece.
        """
        if self._pool is None:
            work()
            return
        self._running.append(self._pool.submit(self._run, work, always=always))
        while self._running and (self._running[0].done() or len(self._running) > 1 + WAITING):
            self._running.popleft().result()

    def finish(self) -> None:
        """Wait for all pieces."""
        while self._running:
            self._running.popleft().result()

    def abandon(self, error: BaseException) -> None:
        """Wait for all pieces after an error of the caller; add their errors to it as notes."""
        self.stopping = True
        while self._running:
            other = self._running.popleft().exception()
            if other is not None and other is not error:
                error.add_note(f"Work on finished shards failed too: {other}")

    def _run(self, work: Callable[[], None], *, always: bool) -> None:
        if always or not self._failed:
            before, self._failed = self._failed, True  # unless it returns
            work()
            self._failed = before


@contextmanager
def in_order(*, on_thread: bool) -> Iterator[InOrder]:
    """Yield an object that runs pieces of work in the order in which they are submitted.

    Parameters
    ----------
    on_thread
        Run them on one thread. At most ``WAITING`` wait for the one that runs; with more, a
        call waits. If False, each call runs its piece before it returns.

    An error of a piece is raised by a later call or at the end. Of the pieces after it, only
    those submitted with ``always`` run. If the block raises, the submitted pieces still run, so
    that finished work is stored, and their errors are notes of the error of the block. Long
    pieces read ``stopping`` and return early.

    Examples
    --------
    >>> done = []
    >>> with in_order(on_thread=True) as work:
    ...     for i in range(3):
    ...         work.submit(lambda i=i: done.append(i))
    >>> done
    [0, 1, 2]
    """
    if not on_thread:
        yield InOrder(None)
        return
    with ThreadPoolExecutor(1) as pool:
        work = InOrder(pool)
        try:
            yield work
            work.finish()
        except BaseException as error:
            work.abandon(error)
            raise
