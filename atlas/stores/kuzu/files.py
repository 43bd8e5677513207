"""The files of an embedded view: the database, its checksum, its lock and unfinished builds."""

from contextlib import suppress
from pathlib import Path

from atlas.disk.atomic_files import discard

__all__ = [
    "discard_database",
    "discard_unfinished",
    "discard_view",
    "lock_of",
    "remove_lock",
    "stamp",
    "sum_of",
    "unfinished",
]


def discard_view(path: Path) -> None:
    """Remove a view and temporary files of its build, unless a process is building it."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_of(path), timeout=0)
    with suppress(Timeout), lock:
        discard_database(path)
        discard_unfinished(path)
        sum_of(path).unlink(missing_ok=True)
        remove_lock(path)


def lock_of(path: Path) -> Path:
    """Return the file that a process locks while it builds a view."""
    return path.with_name(f"{path.name}.lock")


def remove_lock(path: Path) -> None:
    """Remove the lock of a view that is complete or removed; the caller holds it.

    A process that has opened this file and waits for it must not take the lock of a removed file
    while another one locks a new file. ``filelock`` from 4.2 on then opens the new file.
    """
    with suppress(OSError):  # Windows does not remove an open file
        lock_of(path).unlink(missing_ok=True)


def sum_of(path: Path) -> Path:
    """Return the file that stores the checksum of a view."""
    return path.with_name(f"{path.name}.sum")


def stamp(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def discard_database(path: Path, *, leave: Path | None = None) -> None:
    """Remove a database file and kuzu's auxiliary files, except ``leave``."""
    for suffix in ("", ".wal", ".shadow", ".tmp", ".wal.checkpoint"):
        file = path.with_name(path.name + suffix)
        if file != leave:
            file.unlink(missing_ok=True)


def unfinished(path: Path) -> str:
    """Return how the names of temporary files and folders of a build begin."""
    return f".{path.name}.new"


def discard_unfinished(path: Path) -> None:
    """Remove the files of builds that a killed process did not finish."""
    discard_database(path.with_name(f"{path.name}.new"))  # the name in earlier versions
    for each in path.parent.iterdir():
        if each.name.startswith(unfinished(path)):
            discard(each)
