"""Temporary files of a computation: a scratch folder, and a check of free disk space."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from atlas.atomic_files import discard
from atlas.errors import OutOfSpace
from atlas.folder import Folder

__all__ = ["check_space", "scratch"]


@contextmanager
def scratch(folder: Folder, what: str) -> Iterator[Path]:
    """Yield an empty folder in the cache of an atlas, and remove it at the end.

    Parameters
    ----------
    folder
        The atlas, whose lock is held.
    what
        Purpose of the folder. Folders of a killed process with the same purpose are removed.
    """
    folder.cache.mkdir(exist_ok=True)
    for leftover in folder.cache.glob(f"{what}-*"):
        discard(leftover)
    with TemporaryDirectory(prefix=f"{what}-", dir=folder.cache) as created:
        yield Path(created)


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
            f"{what} need {size / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free at {into}: {todo}."
        )
