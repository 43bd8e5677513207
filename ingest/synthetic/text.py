"""Planted texts: documents of artificial words, each a token, divided into blocks like a corpus."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.codes.store import Tokens
from ingest.synthetic.settings import PlantedSettings
from ingest.text.corpus import cut

__all__ = ["PlantedText", "Stretch"]

_SYLLABLES = [c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"]


@dataclass(frozen=True)
class Stretch:
    """The tokens of some complete documents.

    Parameters
    ----------
    type
        int64, one a token. Number of its word.
    document
        int64, one a token. Number of its document in the text.
    index
        int64, one a token. Number of the token in its document.
    first
        Number of the first document.
    starts, lengths
        int64, one a document. Its first token within the stretch, and its number of tokens.
    """

    type: NDArray[np.int64]
    document: NDArray[np.int64]
    index: NDArray[np.int64]
    first: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.type)


class PlantedText:
    """Documents of independent words with frequencies by Zipf's law.

    Parameters
    ----------
    settings
        The size of the text.
    rng
        Random generator of the text.
    """

    def __init__(self, settings: PlantedSettings, rng: np.random.Generator) -> None:
        half = settings.document_length // 2
        low, high = settings.document_length - half, settings.document_length + half
        self.lengths = rng.integers(low, high, settings.documents, endpoint=True)
        self._ends = np.concatenate([[0], np.cumsum(self.lengths)])
        weights = 1 / np.arange(1, settings.vocabulary + 1)
        edges = np.cumsum(weights / weights.sum())
        drawn = np.searchsorted(edges, rng.random(self._ends[-1]), side="right")
        # The numbers of words are independent of their frequencies.
        order = rng.permutation(settings.vocabulary)
        self._types = order[np.minimum(drawn, settings.vocabulary - 1)].astype(np.int32)
        self.words = _words(settings.vocabulary)
        self._context_size = settings.context_size
        counts = [len(block) for block in cut(self.documents())]
        self._cuts = np.concatenate([[0], np.cumsum(counts)]).tolist()

    def __len__(self) -> int:
        return len(self._types)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self._cuts) - 1

    def documents(self) -> Iterator[str]:
        """Yield the documents: words separated by spaces."""
        for begin, end in itertools.pairwise(self._ends.tolist()):
            yield " ".join(map(self.words.__getitem__, self._types[begin:end].tolist()))

    def stretch(self, block: int) -> Stretch:
        """Return the documents of a block."""
        return self._stretch(self._cuts[block], self._cuts[block + 1])

    @property
    def complete(self) -> Stretch:
        """All documents."""
        return self._stretch(0, len(self.lengths))

    def tokens(self, stretch: Stretch) -> Tokens:
        """Return the tokens of a stretch in the format of codes; spaces are in no token."""
        length = len(self.words[0])
        start = stretch.index * (length + 1)
        return Tokens(
            token_id=stretch.type.astype(np.int32),
            document=stretch.document,
            index=stretch.index.astype(np.int32),
            position=(stretch.index % self._context_size).astype(np.int32),
            start=start.astype(np.int32),
            end=(start + length).astype(np.int32),
        )

    def _stretch(self, first: int, end: int) -> Stretch:
        lengths = self.lengths[first:end]
        starts = self._ends[first:end] - self._ends[first]
        size = int(lengths.sum())
        return Stretch(
            type=self._types[self._ends[first] : self._ends[end]].astype(np.int64),
            document=np.repeat(np.arange(first, end), lengths),
            index=np.arange(size) - np.repeat(starts, lengths),
            first=first,
            starts=starts,
            lengths=lengths,
        )


def _words(number: int) -> list[str]:
    """Return distinct words of equal length, composed of syllables."""
    syllables = 2
    while len(_SYLLABLES) ** syllables < number:
        syllables += 1
    words = itertools.product(_SYLLABLES, repeat=syllables)
    return ["".join(parts) for parts in itertools.islice(words, number)]
