"""The text as transcoders read it: every counted token and every BOS, its fold, and the activations there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.errors import BadActivations, BadInput
from atlas.progress import Progress
from ingest.forward.activations import activations
from ingest.text.corpus import Corpus
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["Counts", "Rows", "Text", "deal"]


def deal(documents: NDArray[np.int64], *, among: int, number: int, seed: int) -> NDArray[np.int64]:
    """Deal documents at random, as many to each or one more.

    Parameters
    ----------
    documents
        Numbers of those that are dealt.
    among
        Documents there are.
    number
        To how many they are dealt, from 0.
    seed
        Seed of the deal.

    Returns
    -------
    int64, (among,): to which each document went; -1 for those that were not dealt.
    """
    dealt = np.full(among, -1, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(documents)
    dealt[shuffled] = np.arange(len(documents)) % number
    return dealt


@dataclass(frozen=True, eq=False)
class Rows:
    """Tokens of one batch, and the activations there.

    Parameters
    ----------
    ids
        int64, (rows,). Token ids.
    document
        int64, (rows,). Documents.
    slot
        int64, (rows,). ``2 · fold``, and 1 more for BOS.
    read
        By hook, (rows, width), on the model's device and in its number format.
    """

    ids: NDArray[np.int64]
    document: NDArray[np.int64]
    slot: NDArray[np.int64]
    read: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    def by_slot(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each slot that occurs, with its rows' places as a tensor."""
        for slot in np.unique(self.slot):
            yield int(slot), torch.from_numpy(np.flatnonzero(self.slot == slot))


@dataclass(frozen=True, eq=False)
class Counts:
    """How many tokens there are, by slot and id.

    Parameters
    ----------
    slots
        Number of slots: two for each fold.
    keys
        int64. ``id · slots + slot`` of each pair that occurs, ascending.
    count
        int64. Tokens of each.
    """

    slots: int
    keys: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def by_slot(self) -> NDArray[np.int64]:
        """Tokens of each slot; (slots,)."""
        found = np.bincount(self.keys % self.slots, weights=self.count, minlength=self.slots)
        return found.astype(np.int64)

    def of(self, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of a slot, ascending, and the tokens of each."""
        there = self.keys % self.slots == slot
        return self.keys[there] // self.slots, self.count[there]


class Text:
    """A corpus as a model was given it, its documents dealt into folds.

    Parameters
    ----------
    corpus
        The documents.
    model
        The model.
    contexts, batch_tokens
        How text is laid out.
    documents
        Numbers of the documents to take; all if None.
    folds
        Into how many folds they are dealt.
    seed
        Seed of the deal.

    Raises
    ------
    BadInput
        If there are fewer documents than folds, or none of a number.
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
        if strange := np.setdiff1d(self.documents, every)[:1].tolist():
            raise BadInput(
                f"The text has documents 0 to {len(every) - 1}, and document {strange[0]} was asked for."
            )
        if len(self.documents) < folds:
            raise BadInput(
                f"{len(self.documents)} document(s) cannot be dealt into {folds} folds; take fewer --folds, or "
                "a text of more documents: a score is of documents that the map has not seen."
            )
        self.fold = deal(self.documents, among=len(every), number=folds, seed=seed)

    def count(self) -> Counts:
        """Count the tokens of each slot and id, without the model.

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
        counts = Counts(slots, keys, count)
        if not counts.by_slot[::2].all():
            raise BadInput(
                f"One of {self.folds} folds of documents has no token that counts; take fewer --folds."
            )
        return counts

    def rows(
        self, hooks: Sequence[str], *, title: str, total: int, progress: Progress
    ) -> Iterator[Rows]:
        """Run the model over the text and yield its tokens, a batch at a time.

        Parameters
        ----------
        hooks
            Places to read.
        title, total, progress
            What is told: of so many tokens, BOS among them.

        Raises
        ------
        BadActivations
            If the model gives NaN or Inf.
        """
        with progress.stage(title, total=total, unit="tokens") as stage:
            for text in self._blocks():
                for batch, read in activations(self.model, text, hooks=hooks):
                    ids, document, slot, taken = self._cells(text, batch)
                    if len(ids):
                        where = torch.from_numpy(taken).to(self.model.device)
                        found = {hook: read[hook][where] for hook in hooks}
                        _check(found, self.model.name)
                        yield Rows(ids, document, slot, found)
                        stage.advance(len(ids))

    def scratch(
        self, hooks: Sequence[str], into: Path, *, counts: Counts, progress: Progress
    ) -> "Scratch":
        """Run the model once and keep what is read in files, one a place.

        Raises
        ------
        OutOfRoom
            If the disk has no room for them.
        """
        total = int(counts.count.sum())
        widths = {hook: self.model.site(hook).width for hook in hooks}
        files = {
            hook: np.lib.format.open_memmap(
                into / f"{hook}.npy", mode="w+", dtype=np.float32, shape=(total, width)
            )
            for hook, width in widths.items()
        }
        slot, at = np.zeros(total, np.int64), 0
        title = f"{self.model.name}: activations at {len(hooks)} site(s)"
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
                    documents, self.model.tokenizer,
                    settings=self._contexts, batch_tokens=self._batch_tokens,
                )  # fmt: skip

    def _cells(
        self, text: TokenizedBlock, batch: Batch
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return id, document and slot of a batch's tokens, and where they stand in it."""
        number = batch.keep.sum(axis=1)  # each context has a token that counts
        first = text.tokens.document[batch.rows[np.cumsum(number) - number]]
        taken = batch.keep.copy()
        taken[:, 0] |= self._contexts.prepend_bos
        context, column = np.nonzero(taken)
        document = first[context]
        bos = (column == 0) & self._contexts.prepend_bos
        return batch.input_ids[taken], document, 2 * self.fold[document] + bos, taken


@dataclass(frozen=True, eq=False)
class Scratch:
    """Activations in files, which the caller removes.

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
        if not bool(x.sum(dtype=torch.float32).isfinite()):  # one look, where isfinite takes two
            raise BadActivations(
                f"NaN or Inf came out of {model} at {hook}; run it in float32, or leave that site out."
            )
