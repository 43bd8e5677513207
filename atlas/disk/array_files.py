"""Files of NumPy arrays, written atomically and checked as they are read."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.disk.atomic_files import atomic_file
from atlas.errors import BrokenPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load_arrays", "save_arrays"]


def save_arrays(
    path: Path, arrays: "Mapping[str, NDArray[Any]]", *, compressed: bool = False
) -> None:
    """Write arrays to a file in the format of ``numpy.savez``, complete or not at all.

    Raises
    ------
    OutOfSpace
        If the disk is full.
    """
    import numpy as np

    save: Any = np.savez_compressed if compressed else np.savez
    with atomic_file(path) as unfinished, unfinished.open("wb") as file:
        save(file, **arrays)


def load_arrays(
    path: Path, *, where: Callable[[str], bool] = lambda _: True
) -> "dict[str, NDArray[Any]]":
    """Read the arrays of a file, and check the CRC of each.

    Parameters
    ----------
    path
        The file.
    where
        Whether an array of this name is read; by default all are.

    Raises
    ------
    BrokenPart
        If the file is damaged.
    """
    import numpy as np

    arrays = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile) or stored.zip is None:
                raise ValueError("it holds one array")
            for name in stored.files:
                if where(name):
                    _check_crc(stored.zip, f"{name}.npy")
                    arrays[name] = stored[name]
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise BrokenPart(
            f"{path} cannot be read ({error}). Remove it and run the same command again."
        ) from error
    return arrays


def _check_crc(archive: zipfile.ZipFile, name: str) -> None:
    """Read a member to its end before NumPy does: a damaged header may request any amount of memory."""
    with archive.open(name) as file:
        while file.read(1 << 20):
            pass
