"""Run a user's query on an embedded view in a separate process, with enforced limits.

kuzu checks its time limit only between operators, and does not limit the memory of a
list that a query builds. A user's query could therefore exhaust the machine or crash the
process. In a child process, the parent enforces the time limit, the operating system
limits the memory, and a crash becomes a message. Named queries of the package run in the
calling process, which saves the start of a child.

The child reads the request from standard input as JSON. It returns the answer as an
Arrow stream, or an error as JSON.
"""

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.errors import OutOfSpace, QueryFailed
from atlas.stores import Limits, Param
from atlas.stores.child_process import ending, last_line, reported, start

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["query_in_subprocess", "too_large", "too_many_rows", "too_slow"]

GRACE = 5.0
"""Seconds added to the time limit of a query for start and transfer, before its process is ended."""
ALLOCATORS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables that make libraries reserve little address space, so that they work under the limit."""


def query_in_subprocess(
    path: Path, cypher: str, values: Mapping[str, Param], *, limits: Limits
) -> "pa.Table":
    """Run a checked query on an embedded view in a child process.

    Parameters
    ----------
    path
        The file of the view.
    cypher, values
        The query and its parameters, as ``atlas.stores.cypher.checked`` returned them.
    limits
        Seconds, bytes and rows.

    Raises
    ------
    QueryFailed
        If the query is wrong, takes too long, or its answer has too many rows.
    OutOfSpace
        If it needs more memory than the limit.
    """
    import pyarrow as pa

    request = {
        "path": str(path),
        "cypher": cypher,
        "values": dict(values),
        "timeout": limits.timeout,
        "memory": limits.memory,
        "rows": limits.rows,
    }
    child = start("atlas.stores.query_child", variables=ALLOCATORS)
    try:
        answer, log = child.communicate(
            json.dumps(request).encode(), timeout=limits.timeout + GRACE
        )
    except subprocess.TimeoutExpired:
        raise QueryFailed(too_slow(limits.timeout)) from None
    finally:
        child.kill()
        child.wait()
    if child.returncode == 0:
        with pa.ipc.open_stream(answer) as reader:
            return reader.read_all()
    if child.returncode == 1 and answer:
        failure = json.loads(answer)
        raise reported(failure["type"], failure["message"])
    if child.returncode == -getattr(signal, "SIGALRM", 0):
        raise QueryFailed(too_slow(limits.timeout))
    if b"bad_alloc" in log or b"MemoryError" in log:
        raise OutOfSpace(too_large(limits.memory))
    raise QueryFailed(
        f"The engine crashed while it ran the query ({ending(child.returncode)}: {last_line(log)}); the "
        "atlas is unchanged. Simplify the query."
    )


def too_slow(timeout: float) -> str:
    """Return the message for a query that took too long."""
    return (
        f"The query took longer than its limit of {timeout:g} seconds and was stopped; request less data, or "
        "increase the limit with `timeout`."
    )


def too_large(memory: int) -> str:
    """Return the message for a query that needs too much memory."""
    return (
        f"The query needs more memory than its limit of {memory >> 20:,} MiB; request less data, or increase "
        "the limit with `memory`."
    )


def too_many_rows(rows: int) -> str:
    """Return the message for an answer with too many rows."""
    return (
        f"The answer has more rows than the limit of {rows:,}; add LIMIT to the query, or increase the "
        "limit with `max_rows`."
    )
