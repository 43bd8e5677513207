"""One thread for linear algebra on small matrices."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["SMALL", "one_thread_if_small"]

SMALL = 256
"""Dimensions up to which a second thread waits longer than it computes."""


@contextmanager
def one_thread_if_small(dimensions: int, *, most: int = SMALL) -> Iterator[None]:
    """Use one thread for linear algebra in this context, if matrices are small.

    Threads of BLAS and of torch wait for each other in a loop. With small matrices they wait most of
    the time, and on a machine with other work a thousand small products take ten times as long.

    Parameters
    ----------
    dimensions
        The smaller dimension of the matrices.
    most
        The largest that counts as small.

    Examples
    --------
    >>> with one_thread_if_small(64):
    ...     pass
    """
    if dimensions > most:
        yield
        return
    with threadpool_limits(1):
        yield
