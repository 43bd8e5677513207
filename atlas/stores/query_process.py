"""Run a user's query on an embedded view in a process of its own, with limits that hold.

kuzu checks its time limit between operators only, and nothing bounds the memory of
a list that a query builds, so a query typed by a user could fill the machine or end
the process. Here it can only end a child: the parent stops the child when its time
is over, the operating system refuses it memory, and a crash becomes a message.
Named queries of the package run in the process itself, which saves the start.

The request goes to the child's standard input as JSON; the answer comes back as an
Arrow stream, or as the JSON of an error.
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
from atlas.errors import AtlasError, OutOfRoom, QueryFailed
from atlas.stores import Limits, Param

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["query_apart", "too_large", "too_many_rows", "too_slow"]

GRACE = 5.0
"""Seconds beyond a query's own limit before its process is ended: start and transfer."""
ALLOCATORS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Libraries that set aside much address space at once, and crash if it is refused, do not."""


def query_apart(
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
    OutOfRoom
        If it needs more memory than the limit.
    """
    import pyarrow as pa

    request = {
        "path": str(path), "cypher": cypher, "values": dict(values),
        "timeout": limits.timeout, "memory": limits.memory, "rows": limits.rows,
    }  # fmt: skip
    child = subprocess.Popen(
        # -P: no module of the folder that the user happens to be in is imported.
        [sys.executable, "-P", "-m", "atlas.stores.query_child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | ALLOCATORS | {"PYTHONPATH": _import_path()},
    )  # fmt: skip
    try:
        answer, said = child.communicate(
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
    reason = said.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
    if child.returncode == -getattr(signal, "SIGALRM", 0):
        raise QueryFailed(too_slow(limits.timeout))
    if b"bad_alloc" in said or b"MemoryError" in said:
        raise OutOfRoom(too_large(limits.memory))
    raise QueryFailed(
        f"The engine ended while it ran the query ({_ending(child.returncode)}: {reason[0][:200]}); the atlas "
        "is unharmed. Write the query in a simpler form."
    )


def _ending(code: int) -> str:
    """Return how a process ended: the name of the signal, or its exit status."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit {code}"


def _import_path() -> str:
    """Return where the child finds this package, and what the parent was given."""
    here = str(Path(atlas.__file__).parents[1])
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def too_slow(timeout: float) -> str:
    """Return the message for a query that took too long."""
    return (
        f"The query took longer than {timeout:g} seconds and was given up; ask for less, or give it "
        "more time with --timeout."
    )


def too_large(memory: int) -> str:
    """Return the message for a query that needs too much memory."""
    return (
        f"The query needs more than {memory >> 20:,} MiB of memory, its limit; ask for less, or raise the "
        "limit with --memory."
    )


def too_many_rows(rows: int) -> str:
    """Return the message for an answer with too many rows."""
    return (
        f"The answer has more than {rows:,} rows, its limit; add LIMIT to the query, or raise the limit "
        "with --max-rows."
    )


def _error(name: str, message: str) -> AtlasError:
    """Return an error of the child as one of the parent."""
    kind = getattr(errors, name, QueryFailed)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error  # type: ignore[no-any-return]
