"""Files that are needed while something is computed: a folder for them, and whether the disk has room."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from atlas.atomic_files import discard
from atlas.errors import OutOfRoom
from atlas.folder import Folder

__all__ = ["check_room", "scratch"]


@contextmanager
def scratch(folder: Folder, what: str) -> Iterator[Path]:
    """Give an empty folder in an atlas' cache, which is removed at the end.

    Parameters
    ----------
    folder
        The atlas, whose lock is held.
    what
        What it is for: what a killed process left of that name is removed first.
    """
    folder.cache.mkdir(exist_ok=True)
    for left in folder.cache.glob(f"{what}-*"):
        discard(left)
    with TemporaryDirectory(prefix=f"{what}-", dir=folder.cache) as made:
        yield Path(made)


def check_room(into: Path, size: int, *, what: str, todo: str) -> None:
    """Make sure that the disk has room for so many bytes.

    Raises
    ------
    OutOfRoom
        If it has not.
    """
    free = shutil.disk_usage(into).free
    if size > free:
        raise OutOfRoom(
            f"{what} take {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free at {into}: {todo}."
        )
