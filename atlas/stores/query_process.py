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
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import atlas
from atlas import errors
from atlas.errors import AtlasError, OutOfSpace, QueryFailed
from atlas.stores import Limits, Param

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
        "path": str(path), "cypher": cypher, "values": dict(values),
        "timeout": limits.timeout, "memory": limits.memory, "rows": limits.rows,
    }  # fmt: skip
    child = subprocess.Popen(
        # -P: do not import modules from the current folder.
        [sys.executable, "-P", "-m", "atlas.stores.query_child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | ALLOCATORS | {"PYTHONPATH": _import_path()},
    )  # fmt: skip
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
        raise _error(failure["type"], failure["message"])
    reason = log.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
    if child.returncode == -getattr(signal, "SIGALRM", 0):
        raise QueryFailed(too_slow(limits.timeout))
    if b"bad_alloc" in log or b"MemoryError" in log:
        raise OutOfSpace(too_large(limits.memory))
    raise QueryFailed(
        f"The engine crashed while it ran the query ({_ending(child.returncode)}: {reason[0][:200]}); the "
        "atlas is unchanged. Simplify the query."
    )


def _ending(code: int) -> str:
    """Return the signal that ended a process, or its exit status."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit {code}"


def _import_path() -> str:
    """Return the import path of this package and of the parent process."""
    here = str(Path(atlas.__file__).parents[1])
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def too_slow(timeout: float) -> str:
    """Return the message for a query that took too long."""
    return (
        f"The query took longer than its limit of {timeout:g} seconds and was stopped; request less data, or "
        "increase the limit with --timeout."
    )


def too_large(memory: int) -> str:
    """Return the message for a query that needs too much memory."""
    return (
        f"The query needs more memory than its limit of {memory >> 20:,} MiB; request less data, or increase "
        "the limit with --memory."
    )


def too_many_rows(rows: int) -> str:
    """Return the message for an answer with too many rows."""
    return (
        f"The answer has more rows than the limit of {rows:,}; add LIMIT to the query, or increase the "
        "limit with --max-rows."
    )


def _error(name: str, message: str) -> AtlasError:
    """Return the error that the child reported."""
    kind = getattr(errors, name, QueryFailed)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error  # type: ignore[no-any-return]
