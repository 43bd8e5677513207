"""Sparse codes of an SAE, in compressed sparse rows: on a device, and in NumPy arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["DeviceCodes", "SparseCodes", "entries_by_numpy", "entries_by_torch", "joined_codes"]


class SparseCodes(NamedTuple):
    """Sparse codes in compressed sparse row form, one row per token.

    Row t holds entries ``indptr[t]:indptr[t + 1]``; ``indices`` ascend within a
    row, and all ``values`` are above 0.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


class DeviceCodes(NamedTuple):
    """Sparse codes on the device of the dense ones: int64, int64 and float32; see ``SparseCodes``.

    Multiplied by a decoder row by row. That is twice as fast as with a sparse tensor, whose product
    on a GPU may also differ between two runs.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor

    def codes(self) -> SparseCodes:
        """Return the codes in the memory of the processor."""
        indptr, indices, values = self.indptr, self.indices.to(torch.int32), self.values
        return SparseCodes(
            indptr.cpu().numpy(), indices.cpu().numpy().astype(np.uint32), values.cpu().numpy()
        )

    @property
    def is_sparse(self) -> bool:
        """False: sae-lens multiplies these codes as it multiplies dense ones."""
        return False

    def __mul__(self, scale: torch.Tensor) -> "DeviceCodes":  # type: ignore[override]
        """Multiply each feature by its own number, (d_sae,)."""
        return self._replace(values=self.values * scale[self.indices])

    def __matmul__(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(
            self.indices,
            weight,
            self.indptr,
            mode="sum",
            per_sample_weights=self.values,
            include_last_offset=True,
        )


def entries_by_numpy(z: torch.Tensor) -> DeviceCodes:
    """Return the nonzero entries of dense codes (rows, d_sae) on the CPU.

    NumPy finds them eight times faster than torch does.
    """
    rows, width = z.shape
    flat = z.flatten().numpy()
    positions = np.flatnonzero(flat != 0)
    indptr = np.searchsorted(positions, np.arange(rows + 1) * width)
    return DeviceCodes(*map(torch.from_numpy, (indptr, positions % width, flat[positions])))


def entries_by_torch(z: torch.Tensor) -> DeviceCodes:
    """Return the nonzero entries of dense codes (rows, d_sae) on any device."""
    rows, width = z.shape
    flat = z.flatten()
    positions = flat.nonzero().squeeze(1)
    begins = torch.arange(rows + 1, device=z.device) * width
    return DeviceCodes(torch.searchsorted(positions, begins), positions % width, flat[positions])


def joined_codes(chunks: Sequence[SparseCodes]) -> SparseCodes:
    """Return the codes of consecutive rows as one."""
    counts = np.concatenate([np.diff(chunk.indptr) for chunk in chunks])
    return SparseCodes(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([chunk.indices for chunk in chunks]),
        np.concatenate([chunk.values for chunk in chunks]),
    )
