"""Stored codes for probes: the keys of every token, and the tokens on which features are active.

``Sides`` are counts of a block of features on training and validation tokens, by any key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array

from atlas.errors import BadInput
from ingest.codes.store import Tokens, read_shard
from ingest.probe.scores import ActivationSums
from ingest.probe.settings import Split
from ingest.probe.site_design import Counts

__all__ = ["Occurrences", "ProbeData", "Sides", "natural", "subsampled", "training"]

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


@dataclass(frozen=True, eq=False)
class Sides:
    """The training and validation tokens, and the occurrences of a block of features on them.

    Parameters
    ----------
    train
        bool, (tokens,). Mask of the training tokens.
    active
        The occurrences of the block's features.
    features
        Number of features in the block.
    drawn
        Training tokens sampled for each feature, as a pair (active, inactive). If None, all
        tokens of the training side are used.
    rest
        Whether tokens of the training side that were not sampled are used for validation.
    """

    train: NDArray[np.bool_]
    active: Occurrences
    features: int
    drawn: tuple[Occurrences, Occurrences] | None = None
    rest: bool = False
    _counted: dict[int, tuple[Counts, Counts]] = field(default_factory=dict, repr=False)

    def counts(self, key: NDArray[np.int64], keys: int) -> tuple[Counts, Counts]:
        """Count both sides by a key of the tokens, (tokens,), whose values are below ``keys``."""
        if id(key) not in self._counted:  # callers hold their keys for the lifetime of the sides
            self._counted[id(key)] = self._count(key, keys)
        return self._counted[id(key)]

    def _count(self, key: NDArray[np.int64], keys: int) -> tuple[Counts, Counts]:
        on_train = self.train[self.active.token]
        train = self._natural(key, keys, self.train, on_train)
        validation = self._natural(key, keys, ~self.train, ~on_train)
        if self.drawn is None:
            return train, validation
        chosen = [self._by_key(key, keys, one) for one in self.drawn]
        drawn = Counts(train.occurrences, *chosen)
        if not self.rest:
            return drawn, validation
        # As in the dataset-geometry study, all tokens that were not sampled are for validation.
        both = train.occurrences + validation.occurrences
        active = csc_array(train.positives + validation.positives)
        inactive = both[:, None] - active.toarray() - chosen[1].toarray()
        positives = csc_array(active - chosen[0])
        positives.eliminate_zeros()
        return drawn, Counts(both, positives, csc_array(inactive))

    def _natural(
        self, key: NDArray[np.int64], keys: int, side: NDArray[np.bool_], active: NDArray[np.bool_]
    ) -> Counts:
        return Counts(
            np.bincount(key[side], minlength=keys).astype(np.int64),
            self._by_key(key, keys, self.active.take(active)),
        )

    def _by_key(self, key: NDArray[np.int64], keys: int, entries: Occurrences) -> csc_array:
        ones = np.ones(len(entries))
        where = (key[entries.token], entries.feature)
        return csc_array(coo_array((ones, where), shape=(keys, self.features)))

    def sums(self, key: NDArray[np.int64], keys: int) -> tuple[ActivationSums, ActivationSums]:
        """Add up activations of both sides by a key of the tokens; see ``counts``."""
        both = self.counts(key, keys)
        train, validation = (
            self._sums(key, keys, of, counts)
            for of, counts in zip((self.train, ~self.train), both, strict=True)
        )
        return train, validation

    def _sums(
        self, key: NDArray[np.int64], keys: int, side: NDArray[np.bool_], counts: Counts
    ) -> ActivationSums:
        entries = self.active.take(side[self.active.token])
        values = entries.value.astype(np.float64)
        where = (key[entries.token], entries.feature)
        total = csc_array(coo_array((values, where), shape=(keys, self.features)))
        squares = np.bincount(entries.feature, values**2, minlength=self.features)
        return ActivationSums(
            counts.occurrences, counts.positives, total, squares.astype(np.float64)
        )


def natural(train: NDArray[np.bool_], active: Occurrences, *, features: int) -> Sides:
    """Return sides on which every token counts."""
    return Sides(train, active, features)


def subsampled(
    train: NDArray[np.bool_],
    active: Occurrences,
    *,
    features: NDArray[np.int64],
    share: float | None,
    seed: int,
) -> Sides:
    """Return sides with equal numbers of active and inactive training tokens for each feature.

    Parameters
    ----------
    train
        Mask of the training tokens.
    active
        The occurrences of the features.
    features
        int64, (features,). Index of each feature, so that its sample does not depend on the
        other features.
    share
        Share of the smaller class that is sampled of each class from all tokens, whatever
        the training side is; the remaining tokens are for validation. The dataset-geometry
        study does so. None: all of the smaller class, from the training side.
    seed
        Seed of the draws.
    """
    begins = np.searchsorted(active.feature, np.arange(len(features) + 1))
    allowed = np.ones(len(train), dtype=np.bool_) if share is not None else train
    total = int(np.count_nonzero(allowed))
    on_drawn: list[Occurrences] = []
    off_drawn: list[Occurrences] = []
    for feature, number_of in enumerate(features.tolist()):
        rng = np.random.default_rng([seed, 3, number_of])
        on = active.token[begins[feature] : begins[feature + 1]]
        on = on[allowed[on]]
        smaller = min(len(on), total - len(on))
        number = smaller if share is None else int(share * smaller)
        off = allowed.copy()
        off[on] = False
        on_drawn.append(_entries(rng.choice(on, number, replace=False), feature))
        off_drawn.append(_entries(rng.choice(np.flatnonzero(off), number, replace=False), feature))
    drawn = (_concatenated(on_drawn), _concatenated(off_drawn))
    return Sides(train, active, len(features), drawn, rest=share is not None)


def _entries(token: NDArray[np.int64], feature: int) -> Occurrences:
    return Occurrences(
        np.sort(token), np.full(len(token), feature), np.ones(len(token), dtype=np.float32)
    )


def _concatenated(parts: list[Occurrences]) -> Occurrences:
    return Occurrences(
        *(np.concatenate([getattr(one, n) for one in parts]) for n in ("token", "feature", "value"))
    )


_UNITS = {"document": "document", "sample": "token", "type": "token id"}


def training(data: ProbeData, how: Split, *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return the mask of training tokens; all other tokens are for validation.

    If there are two texts, the first is for training and the second for validation,
    whatever the split.

    Parameters
    ----------
    data
        The tokens.
    how
        The unit that is never divided: a document, a token, or all tokens of one id.
    share
        Share of tokens for training; for ``"type"``, the share of token ids.
    seed
        Seed of the division.

    Raises
    ------
    BadInput
        If there are fewer than two units, so that one side would be empty.
    """
    if len(data.lengths) > 1:
        first: NDArray[np.bool_] = data.text == 0
        return first
    unit = {"document": data.document, "sample": np.arange(len(data)), "type": data.type}[how]
    number = int(unit.max(initial=-1)) + 1
    if number < 2:
        other = {"document": "sample", "sample": "document", "type": "document"}[how]
        raise BadInput(
            f"The text has {number} {_UNITS[how]}, but a split by {how} needs at least 2: "
            f"choose `splits=('{other}',)`, or a longer text."
        )
    order = np.random.default_rng([seed, *how.encode()]).permutation(number)
    sizes = np.ones(number) if how == "type" else np.bincount(unit, minlength=number)
    before = np.cumsum(sizes[order]) - sizes[order]
    on_training: NDArray[np.bool_] = before < share * sizes.sum()
    on_training[0], on_training[-1] = True, False  # neither side is empty
    train_units = np.zeros(number, dtype=np.bool_)
    train_units[order[on_training]] = True
    train_tokens: NDArray[np.bool_] = train_units[unit]
    return train_tokens
