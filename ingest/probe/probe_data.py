"""Stored codes for probes: the keys of every token, and the tokens on which features are active."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.codes.store import Tokens, read_shard

__all__ = ["Occurrences", "ProbeData"]

_Entries: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_COLUMNS = tuple(f.name for f in fields(Tokens))


@dataclass(frozen=True, eq=False)
class Occurrences:
    """The tokens on which some features are active, sorted by feature and token.

    Parameters
    ----------
    token
        int64. Number of the token, from 0; ascending within a feature.
    feature
        int64. Position among the requested features, from 0; never decreases.
    value
        float32. The activation, above 0.
    """

    token: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.token)

    def take(self, where: NDArray[np.bool_] | slice) -> "Occurrences":
        """Return a subset of the entries."""
        return Occurrences(self.token[where], self.feature[where], self.value[where])


class ProbeData:
    """The codes of an SAE on one or more consecutive texts.

    Tokens and documents are numbered from 0 over all texts.

    Parameters
    ----------
    texts
        The shards of each text, in order.
    d_sae
        Number of features.
    first
        Number of tokens to read from the start of each text; all if None.
    """

    def __init__(
        self, texts: Sequence[Sequence[Path]], *, d_sae: int, first: int | None = None
    ) -> None:
        self.d_sae = d_sae
        self._texts = texts
        self._first = first
        read = [self._tokens(shards) for shards in texts]
        self.lengths = [len(one) for one in read]
        self.text = np.repeat(np.arange(len(read)), self.lengths)
        """int64, one a token: the number of its text."""
        self.ids, self.type = np.unique(
            np.concatenate([one.token_id for one in read]), return_inverse=True
        )
        self.position = np.concatenate([one.position for one in read]).astype(np.int64)
        self.document = _numbered([one.document for one in read])
        # The first token of a context has no previous token, which makes a bigram of its own.
        self._fresh = np.concatenate([one.fresh for one in read])

    def __len__(self) -> int:
        return len(self.type)

    @cached_property
    def bigram(self) -> NDArray[np.int64]:
        """Number of the bigram (previous token in the context, token); (tokens,), from 0."""
        before = np.concatenate([[0], self.type[:-1] + 1])
        before[self._fresh] = 0
        pair = before * (len(self.ids) + 1) + self.type
        return np.unique(pair, return_inverse=True)[1]

    def positives(
        self, sides: Sequence[NDArray[np.bool_]], *, threshold: float
    ) -> list[NDArray[np.int64]]:
        """Count the tokens of each side on which every feature is active; (d_sae,) each.

        Parameters
        ----------
        sides
            The mask of the tokens of each side; (tokens,).
        threshold
            Activation above which a feature counts as active.
        """
        counts = [np.zeros(self.d_sae, dtype=np.int64) for _ in sides]
        for token, feature, value in self._entries():
            for total, side in zip(counts, sides, strict=True):
                active = feature[side[token] & (value > threshold)]
                total += np.bincount(active, minlength=self.d_sae)
        return counts

    def occurrences(self, features: NDArray[np.int64], *, threshold: float = 0.0) -> Occurrences:
        """Find the tokens on which some features exceed a threshold, in one pass over the codes."""
        number = np.full(self.d_sae, -1, dtype=np.int64)
        number[features] = np.arange(len(features))
        pieces = []
        for token, feature, value in self._entries():
            selected = (number[feature] >= 0) & (value > threshold)
            pieces.append((token[selected], number[feature[selected]], value[selected]))
        token, feature, value = (np.concatenate(column) for column in zip(*pieces, strict=True))
        order = np.argsort(feature, kind="stable")
        return Occurrences(token[order], feature[order], value[order])

    def _entries(self) -> Iterator[_Entries]:
        """Yield token, feature and value of all active features, block by block."""
        at = 0
        for shards, length in zip(self._texts, self.lengths, strict=True):
            end = at + length
            for shard in shards:
                for block in read_shard(shard):
                    take = min(len(block), end - at)
                    stop = block.indptr[take]
                    token = at + block.rows[:stop]
                    yield token, block.indices[:stop].astype(np.int64), block.values[:stop]
                    at += take
            assert at == end

    def _tokens(self, shards: Sequence[Path]) -> Tokens:
        columns: list[Tokens] = []
        remaining = self._first
        for shard in shards:
            for block in read_shard(shard):
                t = block.tokens
                take = len(t) if remaining is None else min(remaining, len(t))
                # Copies: the block's arrays are views of a file that is closed.
                columns.append(Tokens(**{n: getattr(t, n)[:take].copy() for n in _COLUMNS}))
                remaining = None if remaining is None else remaining - take
        return Tokens(**{n: np.concatenate([getattr(c, n) for c in columns]) for n in _COLUMNS})


def _numbered(documents: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number the documents of all texts from 0, without gaps."""
    begin, numbers = 0, []
    for one in documents:
        number = np.unique(one, return_inverse=True)[1] + begin
        begin = int(number.max(initial=begin - 1)) + 1
        numbers.append(number)
    return np.concatenate(numbers)
