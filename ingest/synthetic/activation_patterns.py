"""Activation patterns: random samples of the tokens on which features of a kind are active.

Except for ``Anywhere``, a feature has candidate *positions*, such as the occurrences of some
words. It is active on each of them with the same probability: its rate divided by the share of
candidate positions. Its expected rate is therefore as specified for any positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from ingest.synthetic.settings import PlantedSettings
from ingest.synthetic.text import PlantedText, Stretch

__all__ = [
    "ActivationPattern",
    "AfterTriggers",
    "Anywhere",
    "Entries",
    "InBursts",
    "Index",
    "OnValues",
    "OnWordsInDocuments",
    "plant",
]

Entries: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of a token of the stretch and a feature of the kind, each pair once."""

DENSITY = 0.5
"""Approximate share of its candidate positions on which a feature is active; at least half of it."""


class ActivationPattern(Protocol):
    """The tokens on which the features of a kind are active."""

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""


@dataclass(frozen=True)
class Anywhere:
    """Any token, independently and with equal probability; ``rates`` is float64, one a feature."""

    rates: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""
        # Points of a Poisson process: a cell has one or more with probability `rate`.
        points = rng.poisson(-np.log1p(-self.rates) * len(stretch))
        feature = np.repeat(np.arange(len(points)), points)
        cells = np.sort(rng.integers(0, len(stretch), len(feature)) * len(points) + feature)
        cells = cells[np.diff(cells, prepend=-1) > 0]  # sorting is faster than np.unique's hashing
        token, feature = np.divmod(cells, max(len(points), 1))
        return token, feature


class Index:
    """Inverted index from a value, such as a word or a document, to the features that chose it.

    Parameters
    ----------
    chosen
        The values of each feature.
    values
        Number of values.
    """

    def __init__(self, chosen: Sequence[NDArray[np.int64]], values: int) -> None:
        value = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
        feature = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen])
        self._features = feature[np.argsort(value, kind="stable")]
        self._counts = np.bincount(value, minlength=values)
        self._begins = np.cumsum(self._counts) - self._counts

    def find(self, values: NDArray[np.int64]) -> Entries:
        """Return the pairs of position in ``values`` and feature that chose the value there."""
        position, step = _spans(self._counts[values])
        return position, self._features[self._begins[values[position]] + step]


def _spans(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for ranges of these lengths, the number of the range and the offset in it."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class OnValues:
    """Tokens whose ``type`` or ``index`` the feature has chosen."""

    of: Literal["type", "index"]
    index: Index
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""
        return _sampled(self.index.find(getattr(stretch, self.of)), self.chances, rng)


@dataclass(frozen=True)
class OnWordsInDocuments:
    """Occurrences of the feature's words in its documents; ``documents`` is (documents, features)."""

    words: Index
    documents: NDArray[np.bool_]
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""
        return _sampled(self.sites(stretch), self.chances, rng)

    def sites(self, stretch: Stretch) -> Entries:
        """Return all occurrences of its words in its documents."""
        token, feature = self.words.find(stretch.type)
        own = self.documents[stretch.document[token], feature]
        return token[own], feature[own]


@dataclass(frozen=True)
class AfterTriggers:
    """Up to ``reach`` tokens after an occurrence of a trigger word, in the same document."""

    index: Index
    reach: int
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""
        return _sampled(self.positions(stretch), self.chances, rng)

    def positions(self, stretch: Stretch) -> Entries:
        """Return all tokens in reach of a trigger."""
        token, feature = self.index.find(stretch.type)
        order = np.lexsort((token, feature))
        token, feature = token[order], feature[order]
        # A run ends at the next trigger of the same feature, or with the document.
        ends = (stretch.starts + stretch.lengths)[stretch.document[token] - stretch.first]
        ends[:-1] = np.where(
            feature[1:] == feature[:-1], np.minimum(ends[:-1], token[1:] + 1), ends[:-1]
        )
        run, step = _spans(np.minimum(ends - token - 1, self.reach))
        return token[run] + 1 + step, feature[run]


@dataclass(frozen=True)
class InBursts:
    """One burst in each of the feature's documents, circular at the end of the document.

    Bursts begin at a uniform position, so a circular shift of a document changes no
    probability.
    """

    index: Index
    burst: float
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Sample the pattern in some documents."""
        documents = np.arange(len(stretch.lengths))
        document, feature = self.index.find(stretch.first + documents)
        lengths = stretch.lengths[document]
        begin = rng.integers(0, lengths)
        burst, step = _spans(_burst(lengths, self.burst))
        at = (begin[burst] + step) % lengths[burst]
        return _sampled((stretch.starts[document[burst]] + at, feature[burst]), self.chances, rng)


def _burst(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return the number of tokens of a burst in documents of some lengths."""
    tokens: NDArray[np.int64] = np.ceil(lengths * share).astype(np.int64)
    return tokens


def _sampled(entries: Entries, chances: NDArray[np.float64], rng: np.random.Generator) -> Entries:
    token, feature = entries
    active = rng.random(len(token)) < chances[feature]
    return token[active], feature[active]


def _choose(
    rates: NDArray[np.float64],
    sizes: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    tokens: int,
) -> list[NDArray[np.int64]]:
    """Choose random values for each feature, with enough candidate positions for its rate.

    Parameters
    ----------
    rates
        Share of all tokens on which each feature is to be active.
    sizes
        Number of candidate positions of each value.
    rng
        Random generator of the choice.
    tokens
        Number of all tokens.

    Returns
    -------
    list of array
        The values of each feature. Values with more positions than it needs are avoided.
    """
    chosen = []
    for rate in rates:
        needed = rate * tokens / DENSITY
        least = sizes[sizes > 0].min(initial=tokens)
        fit = rng.permutation(np.flatnonzero((sizes > 0) & (sizes <= max(needed, least))))
        reached = np.cumsum(sizes[fit])
        chosen.append(fit[: np.searchsorted(reached, needed) + 1])
    return chosen


def _chances(
    rates: NDArray[np.float64], positions: NDArray[np.int64], *, tokens: int, kind: str
) -> NDArray[np.float64]:
    """Return the probability that each feature is active on a candidate position.

    Raises
    ------
    BadInput
        If a feature has too few candidate positions for its rate.
    """
    chances: NDArray[np.float64] = rates * tokens / np.maximum(positions, 1)
    if (chances > 1).any():
        raise BadInput(
            f"The text has too few positions for a {kind} feature of the rate {rates.max():.3g}: use a "
            "lower rate, a longer text with more words, longer bursts or a longer reach."
        )
    return chances


def plant(
    kind: str,
    rates: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    text: PlantedText,
    settings: PlantedSettings,
) -> ActivationPattern:
    """Choose the candidate positions of the features of a kind.

    Parameters
    ----------
    kind
        One of ``ingest.synthetic.KINDS``.
    rates
        Share of all tokens on which each feature is to be active.
    rng
        Random generator of the choice.
    text
        The text.
    settings
        The lengths of bursts and reach.

    Raises
    ------
    BadInput
        If a feature has too few candidate positions for its rate.
    """
    if kind in ("shared", "private"):
        return Anywhere(rates)
    stretch, tokens = text.complete, len(text)
    if kind == "token_document":
        return _on_words_in_documents(rates, rng, stretch=stretch)
    if kind == "context":
        every = Index([np.array([word]) for word in range(len(text.words))], len(text.words))
        _, word = AfterTriggers(every, settings.reach, np.ones(0)).positions(stretch)
        sizes = np.bincount(word, minlength=len(text.words))
    elif kind == "bursty":
        sizes = _burst(stretch.lengths, settings.burst)
    else:
        sizes = np.bincount(stretch.type if kind == "token" else stretch.index)
    chosen = _choose(rates, sizes, rng, tokens=tokens)
    index = Index(chosen, len(sizes))
    if kind == "context":
        triggered = AfterTriggers(index, settings.reach, np.ones(0))
        stretches = map(text.stretch, range(text.blocks))
        counts = [np.bincount(triggered.positions(s)[1], minlength=len(rates)) for s in stretches]
        chances = _chances(rates, np.sum(counts, axis=0), tokens=tokens, kind=kind)
        return AfterTriggers(index, settings.reach, chances)
    positions = np.array([sizes[values].sum() for values in chosen], dtype=np.int64)
    chances = _chances(rates, positions, tokens=tokens, kind=kind)
    if kind == "bursty":
        return InBursts(index, settings.burst, chances)
    return OnValues("type" if kind == "token" else "index", index, chances)


def _on_words_in_documents(
    rates: NDArray[np.float64], rng: np.random.Generator, *, stretch: Stretch
) -> OnWordsInDocuments:
    """Choose words, and a random half of the documents, for each feature."""
    sizes, tokens = np.bincount(stretch.type), len(stretch)
    words = Index(_choose(2 * rates, sizes, rng, tokens=tokens), len(sizes))
    documents = rng.random((len(stretch.lengths), len(rates))) < 0.5
    candidates = OnWordsInDocuments(words, documents, np.ones(0))
    positions = np.bincount(candidates.sites(stretch)[1], minlength=len(rates))
    chances = _chances(rates, positions, tokens=tokens, kind="token_document")
    return OnWordsInDocuments(words, documents, chances)
