"""Start a module of this package as a child process, and convert its end to a message."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import atlas
from atlas import errors
from atlas.errors import AtlasError, QueryFailed

__all__ = ["ending", "last_line", "reported", "start"]


def start(module: str, *, variables: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a module with pipes to its standard streams.

    Parameters
    ----------
    module
        Full name of the module.
    variables
        Environment variables in addition to those of this process.
    """
    return subprocess.Popen(
        # -P: do not import modules from the current folder.
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(variables or {}), "PYTHONPATH": _import_path()},
    )


def ending(code: int) -> str:
    """Return the signal that ended a process, or its exit status."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit {code}"


def last_line(log: bytes) -> str:
    """Return the last line of a child's standard error, shortened for a message."""
    lines = log.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no message"


def reported(name: str, message: str) -> AtlasError:
    """Return the error that a child reported by its class name and message."""
    kind = getattr(errors, name, QueryFailed)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error  # type: ignore[no-any-return]


def _import_path() -> str:
    """Return the import path of this package and of the parent process."""
    here = str(os.path.dirname(os.path.dirname(atlas.__file__)))
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
