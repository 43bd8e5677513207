"""One thread for linear algebra on small matrices."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["SMALL", "one_thread_if_small"]

SMALL = 256
"""Dimensions up to which a second thread waits longer than it computes."""


@contextmanager
def one_thread_if_small(dimensions: int) -> Iterator[None]:
    """Use one thread for linear algebra in this context, if matrices are small.

    Threads of BLAS wait for each other in a loop. With small matrices they wait most of the time,
    and on a machine with other work a thousand small products take many times as long.

    Parameters
    ----------
    dimensions
        The smaller dimension of the matrices.

    Examples
    --------
    >>> with one_thread_if_small(64):
    ...     pass
    """
    if dimensions > SMALL:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield
