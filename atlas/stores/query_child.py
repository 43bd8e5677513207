"""Child process that runs one query on an embedded view; see ``atlas.stores.query_process``."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import AtlasError, OutOfSpace
from atlas.stores import Limits
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.query_process import too_large

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["main"]

OVERHEAD = 1 << 30
"""Address space for threads and the answer in addition to the limit of the query, in bytes."""
LATENESS = 0.5
"""Seconds after the time limit in which the engine can report it before the process ends."""
INTERVAL = 0.1
"""Seconds between two measurements of the process's memory."""
_ANSWERING = threading.Lock()  # never released: the first thread writes the only answer


def main() -> int:
    """Answer one request; the exit status is 1 after an ``AtlasError`` or too little memory."""
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(timeout=request["timeout"], memory=request["memory"], rows=request["rows"])
    try:
        answer = _answer(request, limits)
    except AtlasError as error:
        _write(json.dumps({"type": type(error).__name__, "message": str(error)}).encode())
        return 1
    except MemoryError:
        message = too_large(limits.memory)
        _write(json.dumps({"type": "OutOfSpace", "message": message}).encode())
        return 1
    _write(_stream(answer))
    return 0


def _answer(request: Mapping[str, Any], limits: Limits) -> "pa.Table":
    store = KuzuStore.open(Path(request["path"]))
    _limit_memory(limits.memory)
    _limit_time(limits.timeout)
    threading.Thread(target=_watch, args=(limits.memory,), daemon=True).start()
    try:
        return store.answer(request["cypher"], request["values"], limits=limits)
    except OutOfSpace:
        raise OutOfSpace(too_large(limits.memory)) from None
    finally:
        store.close()


def _limit_memory(memory: int) -> None:
    """Limit the memory of this process to its current use plus ``memory``, where possible."""
    try:
        import resource
    except ImportError:  # Windows has no memory limit; limits on time and rows still apply
        return
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # macOS reports no address space, and ignores limits on it
        return
    most = min(used + memory + OVERHEAD, sys.maxsize)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_time(timeout: float) -> None:
    """Let the system end this process at the time limit; on Windows only the parent ends it."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, timeout + LATENESS)


def _watch(memory: int) -> None:
    """End this process with a message if it exceeds its memory; macOS has no such limit itself.

    kuzu releases Python's lock while it runs a query, but not while it prepares one.
    """
    before = _most_memory()
    while _most_memory() - before <= memory + OVERHEAD:
        time.sleep(INTERVAL)
    _write(json.dumps({"type": "OutOfSpace", "message": too_large(memory)}).encode())
    os._exit(1)


def _most_memory() -> int:
    """Return the peak memory of this process in bytes; 0 if the system does not report it."""
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


if __name__ == "__main__":
    sys.exit(main())
