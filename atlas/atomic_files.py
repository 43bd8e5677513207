"""Writing files and folders so that they are whole or not there.

Everything is written beside its place and renamed into it. A full disk is
translated here, and only here.
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

from atlas.errors import OutOfRoom

__all__ = [
    "discard",
    "enough_room",
    "is_leftover",
    "placed",
    "placed_folder",
    "sha256",
    "write_json",
]


def is_leftover(path: Path) -> bool:
    """Say whether a file or folder was left beside its place by a process that was killed."""
    return path.name.startswith(".")


def _beside(path: Path, why: str) -> Path:
    return path.with_name(f".{path.name}.{why}")


@contextmanager
def enough_room(path: Path) -> Iterator[None]:
    """Translate a full disk, met while writing ``path``, into ``OutOfRoom``."""
    try:
        yield
    except OSError as error:
        # Arrow's own I/O errors carry the reason in the text only.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            free = shutil.disk_usage(_existing(path)).free
            raise OutOfRoom(
                f"The disk is full: {path} could not be written ({free / 2**20:.0f} MiB are free). Nothing "
                "that was finished is lost; free some space and run the same command again."
            ) from error
        raise


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write a file at, and rename it into place at the end.

    If the block raises, nothing is placed and what was written is removed.
    """
    beside = _beside(path, "new")
    try:
        with enough_room(path):
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def placed_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside ``path`` to fill, and rename it into place at the end.

    A folder that stands there is moved away first: between the two renames the
    place is empty, never half full.
    """
    beside = _beside(path, "new")
    discard(beside)
    try:
        with enough_room(path):
            beside.mkdir(parents=True)
            yield beside
            for file in beside.iterdir():
                _flush(file)
            _flush(beside)
            discard(path)
            beside.replace(path)
            _flush(path.parent)
    finally:
        discard(beside)


def discard(path: Path) -> None:
    """Remove a file or a folder, which is gone from its name at once; nothing there is fine."""
    away = _beside(path, "old")
    if path.is_dir() and not path.is_symlink():
        if away.exists():
            shutil.rmtree(away)
        path.rename(away)
        shutil.rmtree(away)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file into place, sorted and indented."""
    with placed(path) as beside:
        beside.write_text(
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
