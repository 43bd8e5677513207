"""Activations in memory: one run of the model fills a buffer for all sites and SAEs.

The stream of training tokens is cut into buffers of equal size. Each SAE reads a buffer
in a random order of its own seed. A buffer depends on its number only, so a run can
continue at any buffer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from atlas.amounts import counted
from atlas.errors import BadActivations
from atlas.progress import Clock
from ingest.device_timing import timed_on
from ingest.error_translation import memory_errors
from ingest.text.tokenization import Batch, ContextSettings, token_batches
from ingest.train.text import TrainingText

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["Buffers", "batches"]


class Buffers:
    """Fills buffers of activations at some sites.

    Parameters
    ----------
    model
        The model.
    text
        The text.
    hooks
        The sites.
    contexts, batch_tokens
        How text is split into contexts and batches.
    size, total
        Tokens of a buffer, and of the run.
    """

    def __init__(
        self,
        model: "LanguageModel",
        text: TrainingText,
        hooks: tuple[str, ...],
        *,
        contexts: ContextSettings,
        batch_tokens: int,
        size: int,
        total: int,
    ) -> None:
        self._model, self._text, self._hooks = model, text, hooks
        self._contexts, self._batch_tokens = contexts, batch_tokens
        self.size, self.total = size, total
        self._memory: dict[str, Tensor] = {}
        self._row = -1  # the next row of the open stream
        self._parts: Iterator[_Read] = iter(())
        self._rest: _Read | None = None

    def __len__(self) -> int:
        return -(-self.total // self.size)

    def rows(self, number: int) -> int:
        """Return the number of tokens of a buffer."""
        return min(self.size, self.total - number * self.size)

    def fill(self, number: int) -> dict[str, Tensor]:
        """Return the activations of a buffer, by site; the next call overwrites them.

        Parameters
        ----------
        number
            The buffer, from 0.

        Returns
        -------
        dict
            float32, (tokens, width of the site), on the device of the model.

        Raises
        ------
        BadActivations
            If the model returns NaN or Inf.
        OutOfSpace
            If the buffer does not fit into memory.
        """
        row, rows, done = number * self.size, self.rows(number), 0
        with memory_errors(
            f"a buffer of {self.size:,} tokens at {counted(len(self._hooks), 'site')}"
        ):
            self._allocate(rows)
        if self._row != row:
            self._parts, self._rest = self._stream(row), None
        self._row = -1  # until the buffer is complete
        while done < rows:
            part = next(self._parts) if self._rest is None else self._rest
            taken = min(len(part.rows), rows - done)
            for hook in self._hooks:
                part.copy(hook, taken, self._memory[hook][done : done + taken])
            done += taken
            whole = taken == len(part.rows)
            self._rest = None if whole else replace(part, rows=part.rows[taken:])
        self._check(rows)
        self._row = row + rows
        return {hook: self._memory[hook][:rows] for hook in self._hooks}

    @property
    def bytes(self) -> int:
        """Bytes of a buffer."""
        return 4 * self.rows(0) * sum(self._model.site(hook).width for hook in self._hooks)

    def sample(self, clock: Clock) -> tuple[dict[str, Tensor], float]:
        """Return activations of a part of the first block, and the seconds to compute them."""
        block, _ = next(self._text.blocks_from(0))
        batch = self._batches(block)[-1]
        rows: dict[str, Tensor] = {}

        def work() -> None:
            read = self._read(batch)
            rows.update({h: x.index_select(0, read.rows).float() for h, x in read.vectors.items()})

        seconds = timed_on(self._model.device, work, clock=clock)
        return rows, seconds

    def _allocate(self, rows: int) -> None:
        if self._memory:
            return
        for hook in self._hooks:
            width = self._model.site(hook).width
            self._memory[hook] = torch.empty(rows, width, device=self._model.device)

    def _stream(self, row: int) -> Iterator["_Read"]:
        """Yield the activations of training tokens from a row on, batch by batch."""
        for block, before in self._text.blocks_from(row):
            skipped = before
            for batch in self._batches(block):
                size = len(batch.rows)
                read = self._read(batch)
                if skipped < size:
                    yield replace(read, rows=read.rows[skipped:])
                skipped = max(0, skipped - size)

    def _read(self, batch: Batch) -> "_Read":
        """Run the model on a batch."""
        ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
        found = self._model.run(ids, mask, hooks=self._hooks)
        rows = torch.from_numpy(np.flatnonzero(batch.keep)).to(self._model.device)
        return _Read({hook: x.flatten(0, 1) for hook, x in found.items()}, rows)

    def _check(self, rows: int) -> None:
        """Check that the buffer is finite."""
        for hook in self._hooks:
            if not bool(self._memory[hook][:rows].sum().isfinite()):
                raise BadActivations(
                    f"The activations of {self._model.name} at {hook} have NaN or Inf. Run the model in float32, or "
                    "omit that site."
                )

    def _batches(self, block: int) -> tuple[Batch, ...]:
        return token_batches(
            self._text.training(block),
            self._model.tokenizer,
            settings=self._contexts,
            batch_tokens=self._batch_tokens,
        )


@dataclass(frozen=True)
class _Read:
    """The activations of a batch by site, (tokens, width), and the tokens that SAEs read."""

    vectors: dict[str, Tensor]
    rows: Tensor

    def copy(self, hook: str, number: int, out: Tensor) -> None:
        """Copy the first of these tokens to a part of the buffer."""
        x, chosen = self.vectors[hook], self.rows[:number]
        if x.dtype == out.dtype:
            torch.index_select(x, 0, chosen, out=out)
        else:
            out.copy_(x.index_select(0, chosen))


def batches(x: Tensor, *, batch: int, seed: int, number: int) -> Iterator[Tensor]:
    """Yield the batches of a buffer in a random order.

    Parameters
    ----------
    x
        The buffer at one site, (tokens, width).
    batch
        Tokens of a batch; the buffer has a multiple of them.
    seed, number
        Seed of the SAE, and number of the buffer: they determine the order.
    """
    order = np.random.default_rng([seed, number]).permutation(len(x))
    for i in range(0, len(x), batch):
        # Sorted, since reading memory in order is faster and the order within a batch has no effect.
        chosen = torch.from_numpy(np.sort(order[i : i + batch])).to(x.device)
        yield x.index_select(0, chosen)
