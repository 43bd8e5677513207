"""Design: the vectors of a site, in memory or on disk, read by a solver in chunks.

Their mean and covariance (``spectrum``) are the preconditioner of the solver.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.errors import BadActivations, BadInput
from ingest.device_memory import free_bytes
from ingest.precision import ieee_float32

__all__ = ["Design", "RowMap", "Spectrum", "spectrum"]

STORED_BYTES = 2 * 2**30  # largest array on disk that is copied to the memory of a CPU
STORED_SHARE = 0.5  # share of the free memory of a GPU that a copy may use
WORK_SHARE = 0.8  # share of the memory that is then still free, for the work of a solver
CHUNK_BYTES = 64 * 2**20  # read from disk at once


class RowMap(Protocol):
    """A function of vectors, row by row, such as random features."""

    @property
    def width(self) -> int:
        """Number of dimensions of a result."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map vectors (rows, width of the design) to results (rows, ``width``)."""


class Design:
    """Vectors of a site, as rows.

    The array is read once at the start to check for NaN and Inf. If it fits, it is then
    stored on the device; otherwise each iteration of ``chunks`` reads it again.

    Parameters
    ----------
    x
        (rows, width); float32 or float64, possibly a memory map.
    device
        Device of the chunks, such as ``"cuda"``.
    dtype
        Type of the chunks.
    scale
        Number by which vectors are divided.
    per_chunk
        Rows read at once; if None, the number of rows in 64 MiB.
    store_bytes
        Bytes that may be stored on the device; if None, 2 GiB for an array on disk, or half
        of the free memory of a GPU. An array in memory that needs no conversion is shared.

    Raises
    ------
    BadInput
        If the array has no rows, not two dimensions, or no floating-point numbers; or if the
        scale is not a number above 0.
    BadActivations
        If it holds NaN or Inf.
    """

    def __init__(
        self,
        x: NDArray[np.floating[Any]],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        per_chunk: int | None = None,
        store_bytes: int | None = None,
    ) -> None:
        if x.ndim != 2 or 0 in x.shape or not np.issubdtype(x.dtype, np.floating):
            raise BadInput(
                f"Vectors have shape {x.shape} and type {x.dtype}; expected floating-point numbers "
                "of shape (rows, width), both at least 1."
            )
        if not 0 < scale < math.inf:
            raise BadInput(f"scale is {scale}; expected a finite number above 0.")
        self.device = torch.device(device)
        self.dtype = dtype
        self.scale = scale
        self._x = x
        self._map: RowMap | None = None
        self._index: NDArray[np.int64] | None = None
        self._per_chunk = per_chunk or max(1, CHUNK_BYTES // (x.shape[1] * dtype.itemsize))
        self._stored: torch.Tensor | None = None
        self._on_device: torch.Tensor | None = None  # the index
        self._repeats: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._read_all(store_bytes)

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return len(self._x if self._index is None else self._index)

    @property
    def width(self) -> int:
        """Number of dimensions of a vector."""
        return int(self._x.shape[1]) if self._map is None else self._map.width

    @property
    def wide(self) -> torch.dtype:
        """Type of long sums: float64, where the device has it."""
        return self.dtype if self.device.type == "mps" else torch.float64

    @property
    def is_stored(self) -> bool:
        """Whether the complete array is on the device."""
        return self._stored is not None

    def free_bytes(self, at_most: int) -> int:
        """Return the bytes that a solver may use on the device, at most ``at_most``.

        On a GPU this is a share of the free memory, without one chunk of selected rows.
        """
        if self.device.type != "cuda":
            return at_most
        chunk = self._per_chunk * self.width * self.dtype.itemsize
        free = WORK_SHARE * free_bytes(self.device) - chunk
        return max(0, min(at_most, int(free)))

    def chunks(self, at_most: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the vectors in order, in chunks on the device.

        Parameters
        ----------
        at_most
            Largest number of rows in a chunk; if None, the number of rows read at once.

        Yields
        ------
        The slice of rows, and its vectors (rows of the slice, width), which are read-only.
        """
        for first in range(0, self.rows, self._per_chunk):
            read = slice(first, min(first + self._per_chunk, self.rows))
            vectors = self._read(read) if self._stored is None else self._stored_rows(read)
            for start in range(0, len(vectors), at_most or len(vectors)):
                part = vectors[start : start + (at_most or len(vectors))]
                yield slice(first + start, first + start + len(part)), part

    def repeats(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that repeat an earlier row, and the first such row of each.

        A matrix product may give equal rows results that differ in the last bit, depending
        on their position in a block. Code that ranks results copies those of the first row.

        Returns
        -------
        int64, (repeated rows,) both. Vectors are compared by a 64-bit hash of their numbers.
        """
        if self._repeats is None:
            vectors = self._unmapped()
            factors = np.random.default_rng(0).integers(1, 2**63, size=vectors.width) * 2 + 1
            odd, hashes = factors.astype(np.uint64), np.empty(self.rows, dtype=np.uint64)
            for rows, x in vectors.chunks(at_most=1 << 14):
                bits = (x + 0.0).double().cpu().numpy().view(np.uint64)  # + 0.0: no minus zero
                mixed = bits ^ (bits >> np.uint64(29))
                hashes[rows] = (mixed * odd).sum(axis=1, dtype=np.uint64)
            _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
            firsts = first[which]
            repeated = np.flatnonzero(firsts != np.arange(self.rows))
            self._repeats = repeated, firsts[repeated]
        return self._repeats

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """Convert numbers to the design's type on its device."""
        return torch.from_numpy(values).to(self.device, self.dtype)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Design":
        """Return a design of a subset of rows, selected by number or by a mask.

        Both designs share one array; the subset stores the numbers of its rows, and its chunks
        are copied when they are read. Rows on disk are read most efficiently in ascending order.
        """
        chosen = np.arange(self.rows)[rows]
        if chosen.ndim != 1 or not len(chosen):
            raise BadInput("No row was selected; a design needs at least one.")
        other = Design.__new__(Design)
        other.__dict__.update(self.__dict__)
        other._repeats = None
        index = chosen if self._index is None else self._index[chosen]
        complete = len(index) == len(self._x) and bool((index == np.arange(len(index))).all())
        other._index = None if complete else index
        other._on_device = None
        return other

    def mapped(self, function: RowMap, *, store_bytes: int | None = None) -> "Design":
        """Return a design of a function of these vectors, which is applied as chunks are read.

        The results are stored on the device if they fit; otherwise each iteration of ``chunks``
        computes them again.

        Parameters
        ----------
        function
            Applied to the scaled vectors of a chunk, on the device of the design.
        store_bytes
            As of the class.

        Raises
        ------
        BadActivations
            If a result is NaN or Inf.
        """
        other = Design.__new__(Design)
        other.__dict__.update(self.__dict__)
        other._repeats = other._stored = other._on_device = None
        if self._index is not None:
            other._x, other._index = self._x[self._index], None
        other._map = function
        per_row = max(self.width, function.width) * self.dtype.itemsize
        other._per_chunk = max(1, min(self._per_chunk, CHUNK_BYTES // per_row))
        other._read_all(store_bytes)
        return other

    def _unmapped(self) -> "Design":
        """Return the design of the vectors before the map, if there is one."""
        if self._map is None:
            return self
        other = Design.__new__(Design)
        other.__dict__.update(self.__dict__)
        other._map = other._stored = None
        return other

    def _stored_rows(self, rows: slice) -> torch.Tensor:
        """Return some rows of the array on the device: a view, or a copy of selected rows."""
        assert self._stored is not None
        if self._index is None:
            return self._stored[rows]
        if self._on_device is None:
            self._on_device = torch.from_numpy(self._index).to(self.device)
        return self._stored.index_select(0, self._on_device[rows])

    def _read(self, rows: slice) -> torch.Tensor:
        """Read some rows, converted to the design's type on its device."""
        array = self._x[rows if self._index is None else self._index[rows]]
        if not _fit_for_torch(array):
            array = np.array(array, dtype=f"=f{min(8, array.dtype.itemsize)}", order="C")
        tensor = torch.from_numpy(array)
        tensor = tensor.to(self.device, self.dtype)
        tensor = tensor if self.scale == 1 else tensor / self.scale
        return tensor if self._map is None else self._map(tensor)

    @ieee_float32()
    def _read_all(self, store_bytes: int | None) -> None:
        """Check every number, and copy the array to the device if it fits."""
        nbytes = self.rows * self.width * self.dtype.itemsize
        shared = self._shares_memory()
        stored = None
        if not shared and nbytes <= self._budget(store_bytes):
            stored = torch.empty(self.rows, self.width, dtype=self.dtype, device=self.device)
        for rows, part in self.chunks():
            # The sum is cheaper to check, but may be Inf without NaN or Inf among the numbers.
            if not bool(part.sum().isfinite()) and not bool(part.isfinite().all()):
                bad = rows.start + int(part.isfinite().all(dim=1).logical_not().nonzero()[0, 0])
                raise BadActivations(
                    f"Row {bad} of the vectors holds NaN or Inf (as {self.dtype}); expected "
                    "finite numbers. Exclude the row, or run the model in float32."
                )
            if stored is not None:
                stored[rows] = part
        self._stored = torch.from_numpy(self._x) if shared else stored

    def _shares_memory(self) -> bool:
        """Whether chunks can share the memory of the array."""
        return (
            self.device.type == "cpu"
            and self.scale == 1
            and self._map is None
            and _fit_for_torch(self._x)
            and self._x.dtype == torch.empty(0, dtype=self.dtype).numpy().dtype
        )

    def _budget(self, store_bytes: int | None) -> int:
        """Return the number of bytes that may be stored on the device."""
        if store_bytes is not None:
            return store_bytes
        if self.device.type == "cuda":
            return int(STORED_SHARE * free_bytes(self.device))
        return STORED_BYTES


def _fit_for_torch(x: NDArray[np.floating[Any]]) -> bool:
    """Whether a tensor can share the array's memory: no file, no odd strides or bytes."""
    ordinary = x.flags.writeable and x.flags.c_contiguous and not isinstance(x, np.memmap)
    return ordinary and x.dtype.isnative and x.dtype.itemsize <= 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean of vectors and eigendecomposition of their covariance.

    Parameters
    ----------
    mean
        (width,).
    values
        (width,). Eigenvalues of the covariance, all at least 0.
    vectors
        (width, width). Its eigenvectors, as columns.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor


@ieee_float32()
def spectrum(design: Design, row_weight: Tensor | None = None) -> Spectrum:
    """Compute the mean and the covariance of the vectors.

    Products have the design's type, sums have its wide type.

    Parameters
    ----------
    design
        The vectors.
    row_weight
        (rows,). Weight of each row; equal weights if None.

    Raises
    ------
    BadActivations
        If the squares of the vectors overflow.
    """
    wide = design.wide
    if row_weight is None:
        row_weight = torch.ones(design.rows, dtype=design.dtype, device=design.device)
    share = (row_weight.to(wide) / row_weight.sum(dtype=wide)).to(design.dtype)
    mean = torch.zeros(design.width, dtype=wide, device=design.device)
    for rows, x in design.chunks():
        mean += share[rows] @ x
    covariance = torch.zeros(design.width, design.width, dtype=wide, device=design.device)
    for rows, x in design.chunks():
        centred = x - mean.to(design.dtype)
        covariance += centred.T @ (centred * share[rows, None])
    if not bool(covariance.isfinite().all()):
        raise BadActivations(
            f"The squares of the vectors are too large for {design.dtype}; divide the vectors by"
            " their root mean square, or compute in float64."
        )
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    return Spectrum(
        mean.to(design.dtype), values.clamp(min=0).to(design.dtype), vectors.to(design.dtype)
    )
