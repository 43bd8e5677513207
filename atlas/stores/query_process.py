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
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atlas
from atlas import errors
from atlas.errors import AtlasError, OutOfRoom, QueryFailed
from atlas.stores import Limits, Param

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["main", "query_apart", "too_many_rows"]

GRACE = 5.0
"""Seconds beyond a query's own limit before its process is ended: start and transfer."""
ALLOCATORS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Libraries that set aside much address space at once, and crash if it is refused, do not."""
OVERHEAD = 1 << 30
"""Address space that threads and the answer take besides what a query may use, in bytes."""
LATENESS = 0.5
"""Seconds that the engine has to report a time limit itself before the process ends."""
_ANSWERING = threading.Lock()  # never released: the first thread to have it writes the one answer
INTERVAL = 0.1
"""Seconds between two measurements of the process's memory."""


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
        [sys.executable, "-P", "-m", "atlas.stores.query_process"],
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


def main() -> int:
    """Answer one request; the exit status is 1 if it failed with an error of ours."""
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(timeout=request["timeout"], memory=request["memory"], rows=request["rows"])
    try:
        answer = _answer(request, limits)
    except AtlasError as error:
        _write(json.dumps({"type": type(error).__name__, "message": str(error)}).encode())
        return 1
    except MemoryError:
        message = too_large(limits.memory)
        _write(json.dumps({"type": "OutOfRoom", "message": message}).encode())
        return 1
    _write(_stream(answer))
    return 0


def _answer(request: Mapping[str, Any], limits: Limits) -> "pa.Table":
    from atlas.stores.kuzu import KuzuStore

    store = KuzuStore.open(Path(request["path"]))
    _limit_memory(limits.memory)
    _limit_time(limits.timeout)
    threading.Thread(target=_watch, args=(limits.memory,), daemon=True).start()
    try:
        return store.answer(request["cypher"], request["values"], limits=limits)
    except OutOfRoom:
        raise OutOfRoom(too_large(limits.memory)) from None
    finally:
        store.close()


def _limit_memory(memory: int) -> None:
    """Refuse this process more memory than it has now and may use, where the system can."""
    try:
        import resource
    except ImportError:  # Windows has no such limit; time and rows are limited there as well
        return
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # macOS reports no address space, and ignores limits on it
        return
    most = min(used + memory + OVERHEAD, sys.maxsize)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_time(timeout: float) -> None:
    """Let the system end this process when its time is over; on Windows the parent alone does."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, timeout + LATENESS)


def _watch(memory: int) -> None:
    """End this process with a message once it has used its memory, for macOS has no such limit.

    kuzu releases Python's lock while it runs a query, but not while it prepares one.
    """
    before = _most_memory()
    while _most_memory() - before <= memory + OVERHEAD:
        time.sleep(INTERVAL)
    _write(json.dumps({"type": "OutOfRoom", "message": too_large(memory)}).encode())
    os._exit(1)


def _most_memory() -> int:
    """Return the most memory this process has had, in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _stream(table: "pa.Table") -> "pa.Buffer":
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _write(data: "bytes | pa.Buffer") -> None:
    _ANSWERING.acquire()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _error(name: str, message: str) -> AtlasError:
    """Return an error of the child as one of the parent."""
    kind = getattr(errors, name, QueryFailed)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
