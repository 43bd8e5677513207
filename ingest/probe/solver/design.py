"""Design: the vectors of a site, row by row, in memory or on disk, given to a solver in chunks."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import BadActivations, BadInput

__all__ = ["Design"]

KEPT_BYTES = 2 * 2**30  # of an array on disk, on a processor
KEPT_SHARE = 0.5  # of what is free, on a GPU
CHUNK_BYTES = 64 * 2**20  # read from disk at once


class Design:
    """Vectors of a site, one a row.

    Everything is read once at the start, and looked at for NaN and Inf. What fits is then
    kept on the device; else each round of ``chunks`` reads the array again.

    Parameters
    ----------
    x
        (rows, width); float32 or float64, a memory map too.
    device
        Where chunks are given, such as ``"cuda"``.
    dtype
        Type of the chunks.
    scale
        Vectors are divided by it.
    at_once
        Rows read at once; as many as take 64 MiB if None.
    keep
        Bytes that may be kept on the device; if None, 2 GiB of an array on disk, or half of
        what is free on a GPU. An array in memory that is given as it is costs nothing.

    Raises
    ------
    BadInput
        The array has no rows, no two dimensions, or no floating-point numbers; or the scale
        is not a number above 0.
    BadActivations
        It holds NaN or Inf.
    """

    def __init__(
        self,
        x: NDArray[np.floating[Any]],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        at_once: int | None = None,
        keep: int | None = None,
    ) -> None:
        if x.ndim != 2 or 0 in x.shape or not np.issubdtype(x.dtype, np.floating):
            raise BadInput(
                f"Vectors of shape {x.shape} and type {x.dtype} were given; expected one row or "
                "more of one floating-point number or more, as (rows, width)."
            )
        if not 0 < scale < math.inf:
            raise BadInput(f"scale={scale} was given; vectors are divided by a number above 0.")
        self.device = torch.device(device)
        self.dtype = dtype
        self.scale = scale
        self._x = x
        self._index: NDArray[np.int64] | None = None
        self._at_once = at_once or max(1, CHUNK_BYTES // (x.shape[1] * dtype.itemsize))
        self._kept: torch.Tensor | None = None
        self._repeats: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._read_whole(keep)

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        return len(self._x if self._index is None else self._index)

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return int(self._x.shape[1])

    @property
    def wide(self) -> torch.dtype:
        """Type that long sums are held in: float64, where the device has it."""
        return self.dtype if self.device.type == "mps" else torch.float64

    @property
    def kept(self) -> bool:
        """Whether all of it lies on the device."""
        return self._kept is not None

    def chunks(self, at_most: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Give the vectors in order, as slices of rows and what is there, on the device.

        Parameters
        ----------
        at_most
            Rows of a chunk at most; as many as are read at once if None.

        Yields
        ------
        The slice, and its vectors (rows of the slice, width); not to be written to.
        """
        for first in range(0, self.rows, self._at_once):
            read = slice(first, min(first + self._at_once, self.rows))
            there = self._read(read) if self._kept is None else self._kept[read]
            for start in range(0, len(there), at_most or len(there)):
                part = there[start : start + (at_most or len(there))]
                yield slice(first + start, first + start + len(part)), part

    def repeats(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows whose vector an earlier row has as well, and the first such row of each.

        Products of matrices may give equal rows results that differ in the last bit, by
        where in a block a row stands. Whoever ranks results gives equal rows the same one.

        Returns
        -------
        int64, (repeated rows,) both. Vectors are compared by a hash of 64 bits of their numbers.
        """
        if self._repeats is None:
            factors = np.random.default_rng(0).integers(1, 2**63, size=self.width) * 2 + 1
            odd, hashes = factors.astype(np.uint64), np.empty(self.rows, dtype=np.uint64)
            for rows, x in self.chunks(at_most=1 << 14):
                bits = (x + 0.0).double().cpu().numpy().view(np.uint64)  # + 0.0: no minus zero
                mixed = bits ^ (bits >> np.uint64(29))
                hashes[rows] = (mixed * odd).sum(axis=1, dtype=np.uint64)
            _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
            firsts = first[which]
            again = np.flatnonzero(firsts != np.arange(self.rows))
            self._repeats = again, firsts[again]
        return self._repeats

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """Return numbers of the design's type on its device."""
        return torch.from_numpy(values).to(self.device, self.dtype)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Design":
        """Return a design of some of the rows, by number or by a mask.

        Of a kept design the rows are copied; of one on disk they are read where they lie,
        so rising numbers are best.
        """
        chosen = np.arange(self.rows)[rows]
        if chosen.ndim != 1 or not len(chosen):
            raise BadInput("No row was chosen; a design needs one at least.")
        other = Design.__new__(Design)
        other.__dict__.update(self.__dict__)
        other._repeats = None
        other._index = chosen if self._index is None else self._index[chosen]
        if self._kept is not None:
            other._kept = self._kept[torch.from_numpy(chosen).to(self.device)]
        return other

    def _read(self, rows: slice) -> torch.Tensor:
        """Read some rows, as numbers of the design's type on its device."""
        found = self._x[rows if self._index is None else self._index[rows]]
        if not _fit_for_torch(found):
            found = np.array(found, dtype=f"=f{min(8, found.dtype.itemsize)}", order="C")
        tensor = torch.from_numpy(found)
        tensor = tensor.to(self.device, self.dtype)
        return tensor if self.scale == 1 else tensor / self.scale

    def _read_whole(self, keep: int | None) -> None:
        """Look at every number once, and keep what fits."""
        nbytes = self.rows * self.width * self.dtype.itemsize
        shared = self._shares_memory()
        kept = None
        if not shared and nbytes <= self._room(keep):
            kept = torch.empty(self.rows, self.width, dtype=self.dtype, device=self.device)
        for rows, part in self.chunks():
            # A sum is NaN or Inf if a number is, and may be Inf if none is: then look at all.
            if not bool(part.sum().isfinite()) and not bool(part.isfinite().all()):
                bad = rows.start + int(part.isfinite().all(dim=1).logical_not().nonzero()[0, 0])
                raise BadActivations(
                    f"Row {bad} of the vectors holds NaN or Inf (as {self.dtype}); expected "
                    "numbers. Leave the row out, or run the model in float32."
                )
            if kept is not None:
                kept[rows] = part
        self._kept = torch.from_numpy(self._x) if shared else kept

    def _shares_memory(self) -> bool:
        """Whether the array can be given as it is."""
        return (
            self.device.type == "cpu"
            and self.scale == 1
            and _fit_for_torch(self._x)
            and self._x.dtype == torch.empty(0, dtype=self.dtype).numpy().dtype
        )

    def _room(self, keep: int | None) -> int:
        """Return how many bytes may be kept."""
        if keep is not None:
            return keep
        if self.device.type == "cuda":
            return int(KEPT_SHARE * torch.cuda.mem_get_info(self.device)[0])
        return KEPT_BYTES


def _fit_for_torch(x: NDArray[np.floating[Any]]) -> bool:
    """Whether a tensor can share the array's memory: no file, no odd strides or bytes."""
    ordinary = x.flags.writeable and x.flags.c_contiguous and not isinstance(x, np.memmap)
    return ordinary and x.dtype.isnative and x.dtype.itemsize <= 8
