"""Child process that writes a new database file; see ``atlas.stores.kuzu.build``.

Standard input has one JSON object per line: first the path of the file, then statements,
each followed by an Arrow stream if it has rows, and last an empty object. Each is answered
by one line on standard output: an empty object, or the message of the engine's error.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from atlas.stores.kuzu.engine import engine, open_database

__all__ = ["main"]


def main() -> int:
    """Write one file; the exit status is 1 after an error of the engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.set_blocking(sys.stderr.fileno(), False)  # the parent reads it only at the end
    engine()
    import pyarrow as pa

    first = _read()
    try:
        database = open_database(
            Path(first["path"]), buffer_pool=first["buffer_pool"], read_only=False
        )
        connection = engine().Connection(database)
        _answer({})
        while request := _read():
            rows = None
            if request["rows"]:
                with pa.ipc.open_stream(sys.stdin.buffer) as stream:
                    rows = {"rows": stream.read_all()}
            connection.execute(request["cypher"], rows)
            _answer({})
        connection.execute("CHECKPOINT")  # an error of the checkpoint in `close` is not reported
        connection.close()
        database.close()
    except RuntimeError as error:
        _answer({"error": str(error) or "no reason reported"})
        os._exit(1)  # closing the database could end the process with a signal
    _answer({})
    return 0


def _read() -> dict[str, Any]:
    """Read a request; end this process if the parent has ended."""
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(1)
    request: dict[str, Any] = json.loads(line)
    return request


def _answer(answer: dict[str, str]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
