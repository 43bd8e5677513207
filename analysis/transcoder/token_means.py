"""Sums of the targets by fold and token id, for token means and maps from the embedding.

The sums may be in a file and larger than memory; they are read a block of ids at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.disk.temp_storage import mapped_array

__all__ = ["BLOCK", "TokenBlock", "TokenSums"]

#: Number of ids in a block.
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class TokenBlock:
    """Sums over the tokens of a set of folds, by token id.

    Parameters
    ----------
    ids
        int64, (ids,). Unique ids, ascending.
    count
        float64, (ids,). Number of tokens of each id.
    sums
        float64, (ids, target). Sum of the target over the tokens of each id.
    """

    ids: NDArray[np.int64]
    count: Tensor
    sums: Tensor

    def find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the positions of ids, (n,), and which ids occur, (n,)."""
        if not len(self.ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        at = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return at, self.ids[at] == ids


class TokenSums:
    """Sums of targets for every pair of a slot and a token id that occurs.

    Parameters
    ----------
    keys
        int64. ``id · slots + slot`` of each pair; unique, ascending.
    count
        int64. Number of tokens of each pair.
    slots
        Number of slots.
    widths
        Width of each target, by name.
    into
        Folder for sums that do not fit into memory; None stores them in memory.
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
                else mapped_array(into / f"sums-{name}.npy", shape, np.float64)
            )

    @staticmethod
    def bytes_needed(keys: int, width: int) -> int:
        """Return the bytes of the sums, in memory or in a file."""
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

    def blocks(
        self, name: str, *sides: Sequence[int], per_chunk: int = BLOCK
    ) -> Iterator[tuple[TokenBlock, ...]]:
        """Yield the tokens of sets of slots, a block of ids at a time, with the same ids for all sets.

        Parameters
        ----------
        name
            The target.
        sides
            Slots of each set.
        per_chunk
            Largest number of ids in a block.
        """
        ids = self.ids
        for i in range(0, len(ids), per_chunk):
            low, high = ids[i], ids[min(i + per_chunk, len(ids)) - 1] + 1
            begin, end = np.searchsorted(self._keys, [low * self._slots, high * self._slots])
            rows = np.arange(begin, end)
            yield tuple(self._tokens(name, rows, slots) for slots in sides)

    def of_ids(self, name: str, slots: Sequence[int], ids: NDArray[np.int64]) -> TokenBlock:
        """Return the tokens of a set of slots for selected ids; (ids,) ascending."""
        keys = (ids[:, None] * self._slots + np.sort(np.array(slots))).ravel()
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return self._tokens(name, at[self._keys[at] == keys], slots)

    def _tokens(self, name: str, rows: NDArray[np.int64], slots: Sequence[int]) -> TokenBlock:
        """Sum the rows, ascending, that belong to the slots, one slot after another."""
        slot = self._keys[rows] % self._slots
        ids = np.unique(self._keys[rows[np.isin(slot, slots)]] // self._slots)
        count = np.zeros(len(ids))
        sums = np.zeros((len(ids), self._sums[name].shape[1]))
        for each in slots:
            own = rows[slot == each]  # ids are unique
            at = np.searchsorted(ids, self._keys[own] // self._slots)
            count[at] += self._count[own]
            sums[at] += self._sums[name][own]
        return TokenBlock(ids, torch.from_numpy(count), torch.from_numpy(sums))
