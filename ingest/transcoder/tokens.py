"""Sums of the targets by fold and token id: what token means, and maps from the embedding, need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TokenSums", "Tokens"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one side that share an id.

    Parameters
    ----------
    ids
        int64, (ids,). Which ids; each once, ascending.
    count
        float64, (ids,). Tokens of each.
    sums
        float64, (ids, target). Sum of the target over them.
    """

    ids: NDArray[np.int64]
    count: Tensor
    sums: Tensor


class TokenSums:
    """Sums of targets for every pair of a slot and a token id that occurs.

    Parameters
    ----------
    keys
        int64. ``id · slots + slot`` of each pair; each once, ascending.
    count
        int64. Tokens of each pair.
    slots
        Number of slots.
    widths
        Width of each target, by name.
    into
        A folder for the sums, where they do not fit into memory; None: in memory.
    """

    def __init__(
        self,
        keys: NDArray[np.int64],
        count: NDArray[np.int64],
        *,
        slots: int,
        widths: Mapping[str, int],
        into: Path | None = None,
    ) -> None:
        self._keys, self._count, self._slots = keys, count, slots
        self._sums: dict[str, NDArray[np.float64]] = {}
        for name, width in widths.items():
            shape = (len(keys), width)
            self._sums[name] = (
                np.zeros(shape)
                if into is None
                else np.lib.format.open_memmap(
                    into / f"sums-{name}.npy", mode="w+", dtype=np.float64, shape=shape
                )
            )

    @staticmethod
    def bytes_needed(keys: int, width: int) -> int:
        """Return the bytes that one takes."""
        return 8 * keys * width

    @property
    def ids(self) -> NDArray[np.int64]:
        """The token ids that occur, ascending."""
        return np.unique(self._keys // self._slots)

    def add(
        self, ids: NDArray[np.int64], slot: NDArray[np.int64], ys: Mapping[str, Tensor]
    ) -> None:
        """Add rows of the targets, (n, width) each, with the id and the slot of each row."""
        row = torch.from_numpy(np.searchsorted(self._keys, ids * self._slots + slot))
        for name, y in ys.items():
            torch.from_numpy(self._sums[name]).index_add_(0, row, y.to("cpu", torch.float64))

    def of(self, name: str, *slots: int) -> Tokens:
        """Return the tokens of some slots together, by id."""
        chosen = np.flatnonzero(np.isin(self._keys % self._slots, slots))
        ids, at = np.unique(self._keys[chosen] // self._slots, return_inverse=True)
        count = np.bincount(at, weights=self._count[chosen], minlength=len(ids))
        sums = self._sums[name][chosen]
        if len(slots) > 1:
            total = torch.zeros(len(ids), sums.shape[1], dtype=torch.float64)
            total.index_add_(0, torch.from_numpy(at), torch.from_numpy(sums))
        else:
            total = torch.from_numpy(sums)
        return Tokens(ids, torch.from_numpy(count), total)
