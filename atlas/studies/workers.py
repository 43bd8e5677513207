"""Worker processes on this machine, which end with their parent's work, also after Ctrl-C."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["worker_answers"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def worker_answers(
    compute: Callable[[Item], Answer], items: Sequence[Item], *, workers: int
) -> Iterator[Answer]:
    """Yield the answers of worker processes, in the order of the items.

    A terminal sends Ctrl-C to all its processes. Only this one answers it: it ends its workers, as
    it does after any error and when the generator is closed.

    Parameters
    ----------
    compute
        A function of a module.
    items
        Its arguments, which are pickled.
    workers
        Maximum number of processes.

    Raises
    ------
    Exception
        The first error of a worker.

    Examples
    --------
    >>> list(worker_answers(abs, [-1, 2], workers=2))
    [1, 2]
    """
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=spawn) as pool:
        try:
            with _without_sigint():
                answers = pool.map(compute, items)  # starts the processes
            yield from answers
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


@contextmanager
def _without_sigint() -> Iterator[None]:
    """Block SIGINT; a process that is started meanwhile never receives it.

    Blocked, not ignored, because only the main thread can ignore a signal. If SIGINT arrives
    meanwhile, it is raised at the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
