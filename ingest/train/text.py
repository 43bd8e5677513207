"""The text of a training run: training and held-out documents, and the order of the tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.text import readers
from ingest.text.atlas_corpus import Text
from ingest.text.corpus import Corpus, Document
from ingest.text.tokenization import token_counts

if TYPE_CHECKING:
    from ingest.train.settings import TrainSettings

__all__ = ["TrainingText", "read_text"]

#: Documents that are tokenized together to count their tokens.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class TrainingText:
    """The documents of a training run.

    Parameters
    ----------
    corpus
        All documents, those held out too.
    held_out
        One document in this many is held out.
    tokens
        int64, (blocks,). Training tokens of each block.
    held_out_tokens
        Tokens of all held-out documents.
    seed
        Seed of the order of blocks.
    """

    corpus: Corpus
    held_out: int
    tokens: NDArray[np.int64]
    held_out_tokens: int
    seed: int

    @property
    def epoch_tokens(self) -> int:
        """Number of training tokens of the text."""
        return int(self.tokens.sum())

    def training(self, block: int) -> list[Document]:
        """Return the training documents of a block."""
        return [d for d in self.corpus.block(block) if d.number % self.held_out]

    def held_out_documents(self) -> Iterator[Document]:
        """Yield the held-out documents in the order of the text."""
        for block in range(len(self.corpus)):
            for document in self.corpus.block(block):
                if document.number % self.held_out == 0:
                    yield document

    def held_out_sample(self, tokens: int, tokenizer: Any) -> list[Document]:
        """Return the first held-out documents, up to the one that reaches a number of tokens."""
        found, total = [], 0
        for document in self.held_out_documents():
            if total >= tokens:
                break
            found.append(document)
            total += token_counts([document.text], tokenizer)[0]
        return found

    def blocks_from(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield block numbers without end, beginning with the one that has a training token.

        Parameters
        ----------
        row
            Number of the training token, from 0, over all epochs.

        Yields
        ------
        tuple
            The block, and how many of its training tokens come before ``row``. The order of
            the blocks is new in each epoch.
        """
        epoch, rest = divmod(row, self.epoch_tokens)
        while True:
            for block in np.random.default_rng([self.seed, epoch]).permutation(len(self.tokens)):
                size = int(self.tokens[block])
                if rest < size:
                    yield int(block), rest
                rest = max(0, rest - size)
            epoch += 1


def read_text(
    text: Text, into: Path, *, settings: "TrainSettings", tokenizer: Any, progress: Progress
) -> TrainingText:
    """Read a text up to the document with which the training tokens suffice.

    Parameters
    ----------
    text
        The text.
    into
        File for its documents.
    settings
        Tokens or steps, and the share of held-out documents.
    tokenizer
        The tokenizer of the model.
    progress
        Receives the progress.

    Raises
    ------
    BadInput
        If the text cannot be used, or has too few training tokens.
    """
    wanted = settings.steps * settings.batch if settings.steps else settings.tokens
    source = readers.read(
        text.source,
        split=text.split,
        field=text.field,
        revision=text.revision,
        split_on=text.split_on,
    )
    counter = _Counter(source, settings.held_out, wanted, tokenizer)
    corpus = Corpus.gather(
        readers.Texts(source.name, source.source, source.revision, iter(counter)),
        into,
        name=text.name,
        progress=progress,
    )
    counts = np.array(counter.counts, np.int64)
    held_out_tokens = int(counts[:: settings.held_out].sum())
    counts[:: settings.held_out] = 0
    of_block = [[d.number for d in corpus.block(b)] for b in range(len(corpus))]
    tokens = np.array([counts[numbers].sum() for numbers in of_block], np.int64)
    read = TrainingText(corpus, settings.held_out, tokens, held_out_tokens, settings.order_seed)
    _check_tokens(read, wanted, settings)
    return read


class _Counter:
    """Iterates over documents, counts their tokens, and stops when training tokens suffice."""

    def __init__(
        self, source: readers.Texts, held_out: int, wanted: int | None, tokenizer: Any
    ) -> None:
        self.counts: list[int] = []
        self._source, self._held_out = source, held_out
        self._wanted, self._tokenizer = wanted, tokenizer

    def __iter__(self) -> Iterator[str]:
        total = 0
        documents = iter(self._source.documents)
        while group := list(islice(documents, _CHUNK)):
            # The corpus excludes blank documents, so they have no number.
            written = [text for text in group if text and not text.isspace()]
            counts = iter(token_counts(written, self._tokenizer) if written else [])
            for text in group:
                if text and not text.isspace():
                    number, count = len(self.counts), next(counts)
                    self.counts.append(count)
                    total += count if number % self._held_out else 0
                yield text
                if self._wanted is not None and total >= self._wanted:
                    return


def _check_tokens(text: TrainingText, wanted: int | None, settings: "TrainSettings") -> None:
    available = text.epoch_tokens * settings.epochs
    needed = wanted or settings.batch
    if available >= needed:
        return
    steps = settings.steps or max(1, needed // settings.batch)
    repeated = (
        f" {settings.epochs} passes over them give {available:,}." if settings.epochs > 1 else ""
    )
    raise BadInput(
        f"{text.corpus.info.source} has {text.epoch_tokens:,} training tokens (one document in "
        f"{settings.held_out} is held out), and {steps:,} steps of {settings.batch:,} tokens need "
        f"{steps * settings.batch:,}.{repeated} Pass fewer `steps` or `tokens`, more `epochs`, or a longer text."
    )
