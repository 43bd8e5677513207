"""Processes that start quickly: forked from one that has imported what they need.

Importing torch, transformers and sae-lens takes more processor time than the work of a test. A
test that kills many processes starts one server, which imports a module once, and each process is
a fork of it: a process of its own, killed and interrupted like any other. The server itself starts
no threads and computes nothing.

``fork_server.py MODULE`` is the server: it reads requests from its standard input, a line of JSON
each, and calls ``MODULE.main(words)`` in a fork.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO


class ForkServer:
    """Starts forks of a process that has imported a module of this folder.

    Parameters
    ----------
    module
        Its name. Its ``main`` is called with the list of arguments.
    """

    def __init__(self, module: str) -> None:
        self._folder = TemporaryDirectory()
        self._started = 0
        self._server = subprocess.Popen(
            [sys.executable, __file__, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *words: str) -> "Forked":
        """Start a process, and return it."""
        self._started += 1
        out, err = (Path(self._folder.name, f"{self._started}.{end}") for end in ("out", "err"))
        os.mkfifo(out)
        pid = self.request(words=words, out=str(out), err=str(err))
        return Forked(self, pid, out.open(encoding="utf-8"), err)

    def request(self, **request: Any) -> int:
        """Send a request to the server, and return the number that it answers."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self._server.communicate()
        self._folder.cleanup()


class Forked:
    """A running process, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, server: ForkServer, pid: int, stdout: TextIO, errors: Path) -> None:
        self.stdout, self.returncode = stdout, 0
        self._server, self._pid, self._errors = server, pid, errors

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens where it has ended, as its number is free only later."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def communicate(self) -> tuple[str, str]:
        """Read all that it prints until it ends, and return that and what it wrote to stderr."""
        printed = self.stdout.read()
        self.stdout.close()
        self.returncode = self._server.request(wait=self._pid)
        return printed, self._errors.read_text("utf-8")


def serve(module: str) -> None:
    """Answer requests until the standard input ends."""
    main = importlib.import_module(module).main
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif not (answer := os.fork()):
            _run(main, **request)
        print(answer, flush=True)


def _run(main: Any, *, words: list[str], out: str, err: str) -> None:
    """Run in the fork, and end it."""
    code = 1
    # A shell's background processes ignore Ctrl-C, and so would this one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for number, path in ((2, err), (1, out), (0, os.devnull)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(path, flags), number)
        main(words)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
