"""Cache of the digests of models, so that unchanged weight files are hashed once.

An entry belongs to one folder of files and one number format. It is valid while every file
that decides the parameters has the same path, size, times, inode and device, and torch and
transformers the same version. As in git, times are trusted only for files that had been
unchanged for two seconds when loading began: a later change within the resolution of the
clock would not be seen.

The entries are in the cache folder of the user, which no other user may be able to write.
An entry that cannot be read or has another form is ignored and written again. The
environment variable ``ATLAS_NO_DIGEST_CACHE`` switches the cache off.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from atlas.disk.atomic_files import write_json
from atlas.disk.parts import installed
from atlas.errors import BadInput, OutOfSpace
from ingest.folder_checks import read_json_object

__all__ = ["DigestCache", "FilesState", "cache_folder", "files_state"]

OFF = "ATLAS_NO_DIGEST_CACHE"
FORMAT = 1
SETTLED_NS = 2_000_000_000
"""How long files must be unchanged, in nanoseconds; the coarsest common file system has 2 s."""
_DIGEST = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class FilesState:
    """The files of a model: what a change of any of them changes.

    Parameters
    ----------
    folder
        Their folder, without symbolic links.
    files
        Of the folder, its configurations and its weights: name, size in bytes, time of
        modification and of change in nanoseconds, inode and device.
    """

    folder: Path
    files: tuple[tuple[str, int, int, int, int, int], ...]

    def settled(self, now: int) -> bool:
        """Return whether no file changed within two seconds of a time in nanoseconds."""
        newest = max(max(modified, changed) for _, _, modified, changed, _, _ in self.files)
        return now - newest >= SETTLED_NS


def files_state(folder: Path | None) -> FilesState | None:
    """Return the state of the files of a model; None if files elsewhere may decide its parameters."""
    if folder is None:
        return None
    try:
        folder = folder.resolve()
        if (folder / "adapter_config.json").exists():
            return None  # adapters name a base model elsewhere
        if "transformers_weights" in read_json_object(folder / "config.json"):
            return None
        index = folder / "model.safetensors.index.json"
        if index.exists():
            names = read_json_object(index)["weight_map"].values()
            if any(Path(name).name != name for name in names):
                return None
        found = [p for p in folder.iterdir() if p.suffix in (".json", ".safetensors")]
        return FilesState(folder, tuple(_state(path) for path in (folder, *sorted(found))))
    except (OSError, BadInput, KeyError, TypeError, AttributeError):
        return None  # loading the model reports what is wrong with its files


def cache_folder() -> Path | None:
    """Return the folder of the entries, creating it if needed; None if it cannot be trusted."""
    if os.environ.get(OFF):
        return None
    from platformdirs import user_cache_path

    folder = user_cache_path("feature-atlas", appauthor=False) / "model-digests"
    try:
        if not folder.is_absolute():  # the user has no home folder
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    if not stat.S_ISDIR(found.st_mode) or (
        os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & others)
    ):
        return None
    return folder


class DigestCache:
    """The entry of one model that was just loaded from files.

    Parameters
    ----------
    state
        The state of its files, equal before and after loading.
    dtype
        The number format in which it was loaded.
    """

    def __init__(self, state: FilesState, dtype: str) -> None:
        self._state = state
        name = sha256(f"{state.folder}\0{dtype}".encode(errors="surrogatepass")).hexdigest()
        self._name = f"{name[:32]}.json"
        # Without surrogates, which JSON cannot hold.
        self._key = {
            "folder": repr(str(state.folder)),
            "files": [[repr(name), *numbers] for name, *numbers in state.files],
            "dtype": dtype,
            "versions": {
                library: installed().get(library) for library in ("torch", "transformers")
            },
        }

    @classmethod
    def of(
        cls, before: FilesState | None, after: FilesState | None, *, dtype: str, began: int
    ) -> "DigestCache | None":
        """Return the entry of a model; None if its files may have changed while it was loaded.

        Parameters
        ----------
        before, after
            The state of its files before and after loading.
        dtype
            The number format in which it was loaded.
        began
            When loading began, in nanoseconds since 1970.
        """
        if before is None or before != after or not before.settled(began):
            return None
        return cls(before, dtype)

    def read(self) -> tuple[str, ...]:
        """Return the stored chain; empty if there is none or it is not valid."""
        folder = cache_folder()
        if folder is None or not self._unchanged():
            return ()
        try:
            entry = read_json_object(folder / self._name)
        except BadInput:
            return ()
        chain = entry.get("digests")
        valid = (
            entry.get("format") == FORMAT
            and entry.get("key") == self._key
            and isinstance(chain, list)
            and all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in chain)
        )
        return tuple(chain or ()) if valid else ()

    def write(self, chain: Sequence[str]) -> None:
        """Store a chain; do nothing if that is not possible, or the files have changed."""
        from filelock import FileLock, Timeout

        folder = cache_folder()
        if folder is None or not self._unchanged():
            return
        entry: dict[str, Any] = {"format": FORMAT, "key": self._key, "digests": list(chain)}
        try:
            with FileLock(folder / "lock", timeout=0):
                write_json(folder / self._name, entry)
        except (OSError, OutOfSpace, Timeout):
            pass  # the next run hashes again

    def _unchanged(self) -> bool:
        """Return whether the files are still those that were loaded; memory may be mapped to them."""
        return files_state(self._state.folder) == self._state


def _state(path: Path) -> tuple[str, int, int, int, int, int]:
    at = path.stat()
    return path.name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino, at.st_dev
