"""Activations in memory: one run of the model fills a buffer for all sites and SAEs.

The stream of training tokens is cut into buffers of equal size. Each SAE reads a buffer
in a random order of its own seed. A buffer depends on its number only, so a run can
continue at any buffer.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from atlas.amounts import counted
from atlas.errors import BadActivations
from atlas.progress import Clock
from ingest.error_translation import memory_errors
from ingest.forward.site_vectors import activations
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize
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
        self._parts: Iterator[dict[str, Tensor]] = iter(())
        self._rest: dict[str, Tensor] | None = None

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
            taken = min(_length(part), rows - done)
            for hook, x in part.items():
                self._memory[hook][done : done + taken] = x[:taken]
            done += taken
            whole = taken == _length(part)
            self._rest = None if whole else {hook: x[taken:] for hook, x in part.items()}
        self._row = row + rows
        return {hook: self._memory[hook][:rows] for hook in self._hooks}

    @property
    def bytes(self) -> int:
        """Bytes of a buffer."""
        return 4 * self.rows(0) * sum(self._model.site(hook).width for hook in self._hooks)

    def sample(self, clock: Clock) -> tuple[dict[str, Tensor], float]:
        """Return activations of a part of the first block, and the seconds to compute them."""
        block, _ = next(self._text.blocks_from(0))
        text = self._tokenized(block)
        for batch in text.batches[-2:]:  # the first batch loads kernels
            began = clock()
            ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
            read = self._model.run(ids, mask, hooks=self._hooks)
            rows = self._selected(batch, read)
            seconds = clock() - began
        return rows, seconds

    def _allocate(self, rows: int) -> None:
        if self._memory:
            return
        for hook in self._hooks:
            width = self._model.site(hook).width
            self._memory[hook] = torch.empty(rows, width, device=self._model.device)

    def _stream(self, row: int) -> Iterator[dict[str, Tensor]]:
        """Yield the activations of training tokens from a row on, batch by batch."""
        for block, before in self._text.blocks_from(row):
            skipped = before
            text = self._tokenized(block)
            for batch, read in activations(self._model, text, hooks=self._hooks):
                rows = self._selected(batch, read)
                size = _length(rows)
                if skipped < size:
                    yield {hook: x[skipped:] for hook, x in rows.items()}
                skipped = max(0, skipped - size)

    def _selected(self, batch: Batch, read: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the activations of the tokens that SAEs read."""
        kept = torch.from_numpy(batch.keep).to(self._model.device)
        rows = {hook: read[hook][kept].float() for hook in self._hooks}
        for hook, x in rows.items():
            if not bool(x.sum().isfinite()):
                raise BadActivations(
                    f"The activations of {self._model.name} at {hook} have NaN or Inf. Run the model in float32, or "
                    "omit that site."
                )
        return rows

    def _tokenized(self, block: int) -> TokenizedBlock:
        return tokenize(
            self._text.training(block),
            self._model.tokenizer,
            settings=self._contexts,
            batch_tokens=self._batch_tokens,
        )


def _length(part: dict[str, Tensor]) -> int:
    return len(next(iter(part.values())))


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
