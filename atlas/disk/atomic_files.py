"""Write files and folders atomically: complete or not at all.

Everything is written under a temporary name in the same directory and then renamed.
Only this module translates the error of a full disk.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlas.errors import AtlasError, OutOfSpace

__all__ = [
    "atomic_file",
    "atomic_folder",
    "discard",
    "disk_errors",
    "is_leftover",
    "sha256",
    "write_json",
]


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder is a temporary one that a killed process did not remove."""
    return path.name.startswith(".")


def _temporary(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise ``OutOfSpace`` if the disk is full while ``path`` is written."""
    try:
        yield
    except AtlasError:
        raise
    except Exception as error:
        # Errors of Arrow and safetensors carry the reason in the text only.
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            free = shutil.disk_usage(_existing(path)).free
            raise OutOfSpace(
                f"The disk is full: {path} could not be written ({free / 2**20:.0f} MiB are free). Finished "
                "work is stored; free some space and run the same command again."
            ) from error
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file at, and rename it to ``path`` at the end.

    If the block raises, the temporary file is removed and ``path`` is unchanged.
    """
    temporary = _temporary(path, "new")
    try:
        with disk_errors(path):
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder to fill, and rename it to ``path`` at the end.

    An existing folder is moved away first. Between the two renames, ``path`` does not
    exist; it is never incomplete.
    """
    temporary = _temporary(path, "new")
    discard(temporary)
    try:
        with disk_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                _flush(file)
            _flush(temporary)
            away = _move_away(path)
            temporary.replace(path)
            _flush(path.parent)
            if away is not None:  # last, so that a reader misses the folder only for a moment
                shutil.rmtree(away)
    finally:
        discard(temporary)


def discard(path: Path) -> None:
    """Remove a file or a folder if it exists; the name is free at once."""
    if away := _move_away(path):
        shutil.rmtree(away)


def _move_away(path: Path) -> Path | None:
    """Free a name: rename a folder and return its new path, or remove a file."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return None
    away = _temporary(path, "old")
    if away.exists():
        shutil.rmtree(away)
    path.rename(away)
    return away


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, sorted and indented."""
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
