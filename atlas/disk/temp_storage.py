"""Temporary files of a computation: a scratch folder, arrays in files, and a check of disk space."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from atlas.amounts import byte_size
from atlas.disk.atomic_files import discard, disk_errors
from atlas.disk.folder import Folder
from atlas.errors import OutOfSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scalar = TypeVar("Scalar", bound=np.generic)

__all__ = ["check_space", "mapped_array", "scratch"]


@contextmanager
def scratch(folder: Folder, what: str) -> Iterator[Path]:
    """Yield an empty folder in the cache of an atlas, and remove it at the end.

    Parameters
    ----------
    folder
        The atlas, whose lock is held.
    what
        Purpose of the folder. Folders of a killed process with the same purpose are removed.

    Raises
    ------
    OutOfSpace
        If the disk is full while the folder is used.
    """
    with disk_errors(folder.cache):
        folder.cache.mkdir(exist_ok=True)
        for leftover in folder.cache.glob(f"{what}-*"):
            discard(leftover)
        with TemporaryDirectory(prefix=f"{what}-", dir=folder.cache) as created:
            yield Path(created)


def mapped_array(path: Path, shape: tuple[int, ...], dtype: "type[Scalar]") -> "NDArray[Scalar]":
    """Return a new array of zeros in a file, mapped into memory.

    The disk space is reserved first. Without this, the system would end the process with
    SIGBUS when the disk is full while the array is filled.

    Parameters
    ----------
    path
        The file, in the format of ``numpy.save``.
    shape, dtype
        Of the array.

    Raises
    ------
    OutOfSpace
        If the disk has too little room.
    """
    import numpy as np

    with disk_errors(path):
        array: NDArray[Scalar] = np.lib.format.open_memmap(
            path, mode="w+", dtype=dtype, shape=shape
        )
        if array.nbytes and hasattr(os, "posix_fallocate"):  # macOS and Windows have none
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def check_space(into: Path, size: int, *, what: str, todo: str) -> None:
    """Check that the disk has ``size`` bytes free.

    Raises
    ------
    OutOfSpace
        If it has less.
    """
    free = shutil.disk_usage(into).free
    if size > free:
        raise OutOfSpace(
            f"{what} need {byte_size(size)}, but {byte_size(free)} are free at {into}: {todo}."
        )
