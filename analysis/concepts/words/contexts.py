"""Contexts of words: alone, in carrier sentences, or where they occur in the text of an atlas."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.concepts.settings import ConceptSettings
from analysis.concepts.words.files import Item
from analysis.concepts.words.search import word_pattern
from atlas.errors import BadInput
from ingest.text.corpus import Document

__all__ = ["WordContext", "word_contexts"]

BEFORE = 300
"""Most characters of the text of an atlas that are read before a word."""


@dataclass(frozen=True)
class WordContext:
    """A text that ends with a word, or contains it.

    Parameters
    ----------
    item
        Index of the word in its set.
    text
        The text.
    start, end
        Characters of the word in the text; ``end`` is exclusive.
    """

    item: int
    text: str
    start: int
    end: int


def word_contexts(
    items: Sequence[Item], settings: ConceptSettings, documents: Iterable[Document] = ()
) -> list[WordContext]:
    """Return the contexts of each word, sorted by word.

    Parameters
    ----------
    items
        The words.
    settings
        ``carrier`` and ``in_corpus``.
    documents
        The text of the atlas; read only if ``in_corpus`` is above 0.

    Raises
    ------
    BadInput
        If a carrier does not contain ``{}`` once, or carriers and the text are both requested.

    Examples
    --------
    >>> item = Item("queen", ("female",), "queen", "", (0, 5))
    >>> word_contexts([item], ConceptSettings(carrier=("She is a {}",)))
    [WordContext(item=0, text='She is a queen', start=9, end=14)]
    """
    carriers = settings.carrier or ()
    for carrier in carriers:
        if carrier.count("{}") != 1:
            raise BadInput(
                f"The carrier is {carrier!r}; expected a sentence with {{}} once, such as 'I saw the {{}}'."
            )
    if settings.in_corpus:
        if carriers:
            raise BadInput(
                "A carrier and in_corpus were both passed; words are read either in carriers or in the text "
                "of the atlas. Omit one."
            )
        return _in_corpus(items, documents, settings.in_corpus)
    return [
        _inserted(number, item, carrier)
        for number, item in enumerate(items)
        for carrier in (carriers or (item.carrier or "{}",))
    ]


def _inserted(number: int, item: Item, carrier: str) -> WordContext:
    before, _, after = carrier.partition("{}")
    start, end = item.span
    return WordContext(number, before + item.text + after, len(before) + start, len(before) + end)


def _in_corpus(
    items: Sequence[Item], documents: Iterable[Document], most: int
) -> list[WordContext]:
    """Return the first occurrences of each word, at most one per document."""
    numbers: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        numbers.setdefault(item.word.strip(), []).append(number)
    pattern = word_pattern(numbers)
    counts = dict.fromkeys(numbers, 0)
    missing = len(counts)
    found: list[WordContext] = []
    for document in documents:
        if not missing:
            break
        seen: set[str] = set()
        for match in pattern.finditer(document.text):
            word = match[0]
            if word in seen or counts[word] >= most:
                continue
            seen.add(word)
            counts[word] += 1
            missing -= counts[word] == most
            begin = _word_start(document.text, match.start() - BEFORE, match.start())
            text = document.text[begin : match.end()]
            at = match.start() - begin
            found.extend(WordContext(n, text, at, len(text)) for n in numbers[word])
    return sorted(found, key=lambda context: context.item)


def _word_start(text: str, at: int, end: int) -> int:
    """Return the first position between ``at`` and ``end`` that follows spaces, or ``at``."""
    if at <= 0:
        return 0
    space = re.compile(r"\s+").search(text, at, end)
    return space.end() if space is not None else at
