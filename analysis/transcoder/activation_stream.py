"""Stream the text for transcoders: tokens and BOS with their folds and activations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.statistics.document_splits import document_groups
from atlas.amounts import counted
from atlas.disk.temp_storage import mapped_array
from atlas.errors import BadActivations, BadInput
from atlas.progress import Progress
from ingest.forward.site_vectors import activations
from ingest.text.corpus import Corpus
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["SlotCounts", "StreamRows", "TextStream"]


@dataclass(frozen=True, eq=False)
class StreamRows:
    """Tokens of one batch, and their activations.

    Parameters
    ----------
    ids
        int64, (rows,). Token ids.
    document
        int64, (rows,). Document of each token.
    slot
        int64, (rows,). ``2 · fold``, plus 1 for BOS.
    read
        Activations by hook, (rows, width), on the model's device and in its dtype.
    """

    ids: NDArray[np.int64]
    document: NDArray[np.int64]
    slot: NDArray[np.int64]
    read: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    def by_slot(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each slot that occurs, with the indices of its rows as a tensor."""
        for slot in np.unique(self.slot):
            yield int(slot), torch.from_numpy(np.flatnonzero(self.slot == slot))


@dataclass(frozen=True, eq=False)
class SlotCounts:
    """Number of tokens by slot and id.

    Parameters
    ----------
    slots
        Number of slots: two for each fold.
    keys
        int64. ``id · slots + slot`` of each pair that occurs, ascending.
    count
        int64. Number of tokens of each pair.
    """

    slots: int
    keys: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def by_slot(self) -> NDArray[np.int64]:
        """Number of tokens of each slot; (slots,)."""
        found = np.bincount(self.keys % self.slots, weights=self.count, minlength=self.slots)
        return found.astype(np.int64)

    def of(self, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of a slot, ascending, and the number of tokens of each."""
        own = self.keys % self.slots == slot
        return self.keys[own] // self.slots, self.count[own]


class TextStream:
    """A corpus with its text layout for a model, and documents assigned to folds.

    Parameters
    ----------
    corpus
        The documents.
    model
        The model.
    contexts, batch_tokens
        Settings of contexts and batches.
    documents
        Numbers of the documents to use; all if None.
    folds
        Number of folds.
    seed
        Seed of the assignment to folds.

    Raises
    ------
    BadInput
        If there are fewer documents than folds, or a number of no document.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: "LanguageModel",
        *,
        contexts: ContextSettings,
        batch_tokens: int,
        documents: NDArray[np.int64] | None,
        folds: int,
        seed: int,
    ) -> None:
        self.corpus, self.model = corpus, model
        self.folds = folds
        self._contexts, self._batch_tokens = contexts, batch_tokens
        every = np.arange(corpus.info.documents)
        self.documents = every if documents is None else np.unique(documents)
        if unknown := np.setdiff1d(self.documents, every)[:1].tolist():
            raise BadInput(
                f"Document {unknown[0]} was input; expected numbers from 0 to {len(every) - 1}."
            )
        if len(self.documents) < folds:
            raise BadInput(
                f"{counted(len(self.documents), 'document')} cannot be split into {folds} folds, because maps are scored on "
                "held-out documents. Pass fewer `folds`, or a text with more documents."
            )
        self.fold = document_groups(self.documents, among=len(every), number=folds, seed=seed)

    def count(self) -> SlotCounts:
        """Count the tokens of each slot and id; this does not run the model.

        Raises
        ------
        BadInput
            If a fold has no token.
        """
        slots = 2 * self.folds
        keys, count = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for text in self._blocks():
            found = [keys]
            weights = [count]
            for batch in text.batches:
                ids, _, slot, _ = self._cells(text, batch)
                found.append(ids * slots + slot)
                weights.append(np.ones(len(ids), np.int64))
            keys, at = np.unique(np.concatenate(found), return_inverse=True)
            total = np.bincount(at, weights=np.concatenate(weights), minlength=len(keys))
            count = total.astype(np.int64)
        counts = SlotCounts(slots, keys, count)
        if not counts.by_slot[::2].all():
            raise BadInput(
                f"One of {self.folds} folds of documents has no token except BOS and padding. Pass fewer `folds`."
            )
        return counts

    def rows(
        self, hooks: Sequence[str], *, title: str, total: int, progress: Progress
    ) -> Iterator[StreamRows]:
        """Run the model over the text and yield its tokens, a batch at a time.

        Parameters
        ----------
        hooks
            Sites to read.
        title, total, progress
            Title and total of the progress, in tokens with BOS.

        Raises
        ------
        BadActivations
            If the model outputs NaN or Inf.
        """
        with progress.stage(title, total=total, unit="tokens") as stage:
            for text in self._blocks():
                for batch, read in activations(self.model, text, hooks=hooks):
                    ids, document, slot, taken = self._cells(text, batch)
                    if len(ids):
                        where = torch.from_numpy(taken).to(self.model.device)
                        selected = {hook: read[hook][where] for hook in hooks}
                        _check(selected, self.model.name)
                        yield StreamRows(ids, document, slot, selected)
                        stage.advance(len(ids))

    def scratch(
        self, hooks: Sequence[str], into: Path, *, counts: SlotCounts, progress: Progress
    ) -> "Scratch":
        """Run the model once, and store its activations in a file for each site.

        Raises
        ------
        OutOfSpace
            If the disk has too little free space.
        """
        total = int(counts.count.sum())
        widths = {hook: self.model.site(hook).width for hook in hooks}
        files = {
            hook: mapped_array(into / f"{hook}.npy", (total, width), np.float32)
            for hook, width in widths.items()
        }
        slot, at = np.zeros(total, np.int64), 0
        title = f"{self.model.name}: activations at {counted(len(hooks), 'site')}"
        for rows in self.rows(hooks, title=title, total=total, progress=progress):
            slot[at : at + len(rows)] = rows.slot
            for hook, file in files.items():
                file[at : at + len(rows)] = rows.read[hook].float().cpu().numpy()
            at += len(rows)
        return Scratch(slot, files)

    def _blocks(self) -> Iterator[TokenizedBlock]:
        for number in range(len(self.corpus)):
            documents = [d for d in self.corpus.block(number) if self.fold[d.number] >= 0]
            if documents:
                yield tokenize(
                    documents,
                    self.model.tokenizer,
                    settings=self._contexts,
                    batch_tokens=self._batch_tokens,
                )

    def _cells(
        self, text: TokenizedBlock, batch: Batch
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return id, document and slot of a batch's tokens, and their mask in the batch."""
        number = batch.keep.sum(axis=1)  # each context has at least one counted token
        first = text.tokens.document[batch.rows[np.cumsum(number) - number]]
        taken = batch.keep.copy()
        taken[:, 0] |= self._contexts.prepend_bos
        context, column = np.nonzero(taken)
        document = first[context]
        bos = (column == 0) & self._contexts.prepend_bos
        return batch.input_ids[taken], document, 2 * self.fold[document] + bos, taken


@dataclass(frozen=True, eq=False)
class Scratch:
    """Activations in files, which the caller deletes.

    Parameters
    ----------
    slot
        int64, (rows,). As in ``Rows``.
    read
        By hook, float32 of shape (rows, width), mapped from disk.
    """

    slot: NDArray[np.int64]
    read: Mapping[str, NDArray[np.float32]]


def _check(read: Mapping[str, Tensor], model: str) -> None:
    for hook, x in read.items():
        if not bool(x.sum(dtype=torch.float32).isfinite()):  # one pass; isfinite needs two
            raise BadActivations(
                f"The activations of {model} at {hook} have NaN or Inf. Run it in float32, or omit that site."
            )
