"""Courses: on which tokens features of a kind are active, drawn stretch by stretch.

But for ``Anywhere``, a kind first has *places*, such as the occurrences of some words; on
each of its places a feature is active with one chance, its rate over the share of places,
so that the rate comes out as asked whatever the places are.
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
"""Share of its places on which a feature is to be active, about; at least half of that."""


class ActivationPattern(Protocol):
    """Where the features of a kind are active."""

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""


@dataclass(frozen=True)
class Anywhere:
    """Each token alike, independently; ``rates`` is float64, one a feature."""

    rates: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""
        # As many points as a Poisson process has: a cell holds one or more with chance `rate`.
        points = rng.poisson(-np.log1p(-self.rates) * len(stretch))
        feature = np.repeat(np.arange(len(points)), points)
        cells = np.sort(rng.integers(0, len(stretch), len(feature)) * len(points) + feature)
        cells = cells[np.diff(cells, prepend=-1) > 0]  # sorting is faster than np.unique's hashing
        token, feature = np.divmod(cells, max(len(points), 1))
        return token, feature


class Index:
    """Which features have chosen a value, such as a word or a document.

    Parameters
    ----------
    chosen
        The values of each feature.
    values
        How many values there are.
    """

    def __init__(self, chosen: Sequence[NDArray[np.int64]], values: int) -> None:
        value = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
        feature = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen])
        self._features = feature[np.argsort(value, kind="stable")]
        self._counts = np.bincount(value, minlength=values)
        self._begins = np.cumsum(self._counts) - self._counts

    def find(self, values: NDArray[np.int64]) -> Entries:
        """Return, for some values, each place and each feature that has chosen its value."""
        place, step = _spans(self._counts[values])
        return place, self._features[self._begins[values[place]] + step]


def _spans(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count from 0 to each length: which length it is, and the count."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class OnValues:
    """Where a token's ``type`` or ``index`` is one that the feature has chosen."""

    of: Literal["type", "index"]
    index: Index
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""
        return _some(self.index.find(getattr(stretch, self.of)), self.chances, rng)


@dataclass(frozen=True)
class OnWordsInDocuments:
    """On occurrences of the feature's words in its documents; ``documents`` is bool, documents x features."""

    words: Index
    documents: NDArray[np.bool_]
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""
        return _some(self.sites(stretch), self.chances, rng)

    def sites(self, stretch: Stretch) -> Entries:
        """Return all occurrences of its words in its documents."""
        token, feature = self.words.find(stretch.type)
        own = self.documents[stretch.document[token], feature]
        return token[own], feature[own]


@dataclass(frozen=True)
class AfterTriggers:
    """On up to ``reach`` tokens after an occurrence of a word of the feature's, in its document."""

    index: Index
    reach: int
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""
        return _some(self.places(stretch), self.chances, rng)

    def places(self, stretch: Stretch) -> Entries:
        """Return all tokens that a trigger reaches."""
        token, feature = self.index.find(stretch.type)
        order = np.lexsort((token, feature))
        token, feature = token[order], feature[order]
        # A run ends where the next of the same feature begins, or with the document.
        ends = (stretch.begins + stretch.lengths)[stretch.document[token] - stretch.first]
        ends[:-1] = np.where(
            feature[1:] == feature[:-1], np.minimum(ends[:-1], token[1:] + 1), ends[:-1]
        )
        run, step = _spans(np.minimum(ends - token - 1, self.reach))
        return token[run] + 1 + step, feature[run]


@dataclass(frozen=True)
class InBursts:
    """In one burst in each of the feature's documents, which goes on at its begin when it ends.

    Bursts begin anywhere, so that a circular shift of a document changes no probability.
    """

    index: Index
    burst: float
    chances: NDArray[np.float64]

    def draw(self, stretch: Stretch, rng: np.random.Generator) -> Entries:
        """Draw it for some documents."""
        documents = np.arange(len(stretch.lengths))
        document, feature = self.index.find(stretch.first + documents)
        lengths = stretch.lengths[document]
        begin = rng.integers(0, lengths)
        burst, step = _spans(_burst(lengths, self.burst))
        at = (begin[burst] + step) % lengths[burst]
        return _some((stretch.begins[document[burst]] + at, feature[burst]), self.chances, rng)


def _burst(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return the tokens of a burst in documents of some lengths."""
    tokens: NDArray[np.int64] = np.ceil(lengths * share).astype(np.int64)
    return tokens


def _some(entries: Entries, chances: NDArray[np.float64], rng: np.random.Generator) -> Entries:
    token, feature = entries
    kept = rng.random(len(token)) < chances[feature]
    return token[kept], feature[kept]


def _choose(
    rates: NDArray[np.float64],
    sizes: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    tokens: int,
) -> list[NDArray[np.int64]]:
    """Choose values at random for features, enough to have the places that they need.

    Parameters
    ----------
    rates
        Share of all tokens on which each feature is to be active.
    sizes
        The places that each value gives, in tokens.
    rng
        What they are drawn from.
    tokens
        Number of all tokens.

    Returns
    -------
    list of array
        The values of each feature; none gives more places than are needed if others do.
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
    rates: NDArray[np.float64], places: NDArray[np.int64], *, tokens: int, kind: str
) -> NDArray[np.float64]:
    """Return the chance of each feature on each of its places.

    Raises
    ------
    BadInput
        If a feature has too few places for its rate.
    """
    found: NDArray[np.float64] = rates * tokens / np.maximum(places, 1)
    if (found > 1).any():
        raise BadInput(
            f"The text has too few places for a {kind} feature of the rate {rates.max():.3g}: ask for a "
            "lower rate, or for a longer text of more words, longer bursts or a longer reach."
        )
    return found


def plant(
    kind: str,
    rates: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    text: PlantedText,
    settings: PlantedSettings,
) -> ActivationPattern:
    """Choose where the features of a kind may be active.

    Parameters
    ----------
    kind
        One of ``ingest.synthetic.KINDS``.
    rates
        Share of all tokens on which each feature is to be active.
    rng
        What the choice is drawn from.
    text
        The text.
    settings
        The lengths of bursts and reach.

    Raises
    ------
    BadInput
        If a feature has too few places for its rate.
    """
    if kind in ("shared", "private"):
        return Anywhere(rates)
    whole, tokens = text.whole, len(text)
    if kind == "token_document":
        return _on_words_in_documents(rates, rng, whole=whole)
    if kind == "context":
        every = Index([np.array([word]) for word in range(len(text.words))], len(text.words))
        _, word = AfterTriggers(every, settings.reach, np.ones(0)).places(whole)
        sizes = np.bincount(word, minlength=len(text.words))
    elif kind == "bursty":
        sizes = _burst(whole.lengths, settings.burst)
    else:
        sizes = np.bincount(whole.type if kind == "token" else whole.index)
    chosen = _choose(rates, sizes, rng, tokens=tokens)
    index = Index(chosen, len(sizes))
    if kind == "context":
        triggered = AfterTriggers(index, settings.reach, np.ones(0))
        stretches = map(text.stretch, range(text.blocks))
        found = (np.bincount(triggered.places(s)[1], minlength=len(rates)) for s in stretches)
        chances = _chances(rates, np.sum(list(found), axis=0), tokens=tokens, kind=kind)
        return AfterTriggers(index, settings.reach, chances)
    places = np.array([sizes[values].sum() for values in chosen], dtype=np.int64)
    chances = _chances(rates, places, tokens=tokens, kind=kind)
    if kind == "bursty":
        return InBursts(index, settings.burst, chances)
    return OnValues("type" if kind == "token" else "index", index, chances)


def _on_words_in_documents(
    rates: NDArray[np.float64], rng: np.random.Generator, *, whole: Stretch
) -> OnWordsInDocuments:
    """Choose words and, for each feature, half of the documents."""
    sizes, tokens = np.bincount(whole.type), len(whole)
    words = Index(_choose(2 * rates, sizes, rng, tokens=tokens), len(sizes))
    documents = rng.random((len(whole.lengths), len(rates))) < 0.5
    found = OnWordsInDocuments(words, documents, np.ones(0))
    sites = np.bincount(found.sites(whole)[1], minlength=len(rates))
    chances = _chances(rates, sites, tokens=tokens, kind="token_document")
    return OnWordsInDocuments(words, documents, chances)
