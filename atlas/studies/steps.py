"""Finished steps of an unfinished task: each is stored, so that an interruption loses one step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from atlas.disk.array_files import load_arrays, save_arrays
from atlas.disk.atomic_files import discard
from atlas.errors import BrokenPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NOT_STORED", "Steps"]

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"

#: Bytes of a step from which it is compressed: that takes longer than to write a small step.
_COMPRESSED = 1 << 24


class Steps:
    """Steps of a task, by name; each is computed once.

    Parameters
    ----------
    folder
        Folder of the finished steps, ``<prefix>-<digest>``: its name covers everything that the steps
        depend on. It is created here, and folders of the same prefix with another digest are removed. If
        None, nothing is stored.

    Examples
    --------
    >>> import numpy as np
    >>> Steps(None).get("one", lambda: {"a": np.zeros(2)}, shapes={"a": (2,)})["a"].tolist()
    [0.0, 0.0]
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        prefix = folder.name.rpartition("-")[0]
        for other in folder.parent.iterdir():
            if other != folder and other.name.rpartition("-")[0] == prefix:
                discard(other)

    @property
    def finished(self) -> int:
        """Number of steps that are stored."""
        return 0 if self.folder is None else len(list(self.folder.glob("[!.]*.npz")))

    def get(
        self, name: str, compute: Callable[[], Arrays], *, shapes: Mapping[str, tuple[int, ...]]
    ) -> Arrays:
        """Return the arrays of a step; compute and store them if they are not stored.

        Parameters
        ----------
        name
            Name of the step.
        compute
            Returns its arrays.
        shapes
            Shapes of the arrays. A damaged file, or one with other arrays, is computed again.

        Raises
        ------
        OutOfSpace
            If the disk is full.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.npz"
        if path.exists():
            try:
                stored = load_arrays(path)
            except BrokenPart:
                stored = {}
            numbers = all(array.dtype.kind == "f" for array in stored.values())
            if numbers and {key: array.shape for key, array in stored.items()} == dict(shapes):
                return stored
            path.unlink()
        found = compute()
        size = sum(array.nbytes for array in found.values())
        save_arrays(path, found, compressed=size >= _COMPRESSED)
        return found

    def end(self) -> None:
        """Remove the folder."""
        if self.folder is not None:
            discard(self.folder)


NOT_STORED = Steps(None)
"""Steps that are computed and not stored."""
