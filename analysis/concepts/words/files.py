"""Concept files: labelled words as CSV or JSONL, checked row by row.

Columns of a file; all but the first two may be absent::

    text      the word, or a text that contains it
    label     its class; several are separated by "|" (in JSONL also a list); empty for none
    group     words that belong together, such as forms of one lemma; by default the word
    family    a larger kind of words, such as a suffix
    span      "start:end", the characters of the word in the text; by default the complete text
    carrier   a sentence with {} where the word is inserted
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.amounts import counted
from atlas.errors import BadInput
from ingest.sae.info import slug
from ingest.text.user_files import how_to_convert, refuse_pipe

__all__ = ["Concept", "Item", "WordSet", "list_names", "read_words"]

COLUMNS = ("text", "label", "group", "family", "span", "carrier")

LARGEST, LONGEST, MOST = 2**26, 10_000, 100_000
"""Most bytes of a file, characters of a text, and rows."""

LONGEST_NAME = 60
"""Most characters of the name of a set."""


@dataclass(frozen=True)
class Item:
    """A labelled word.

    Parameters
    ----------
    text
        The word, or a text that contains it.
    labels
        Its classes; none if it belongs to no class.
    group, family
        Units of splits; ``group`` is the word in lower case if the file has none.
    span
        First and last character (exclusive) of the word in ``text``.
    carrier
        A sentence with ``{}`` where the text is inserted; empty for none.
    """

    text: str
    labels: tuple[str, ...]
    group: str
    family: str
    span: tuple[int, int]
    carrier: str = ""

    @property
    def word(self) -> str:
        """The word, without the text around it."""
        return self.text[slice(*self.span)]


@dataclass(frozen=True)
class Concept:
    """A contrast between two classes of words.

    Parameters
    ----------
    name
        ``set/label``.
    positive, negative
        The classes; the negative one is "other" if several classes are contrasted with it.
    """

    name: str
    positive: str
    negative: str


@dataclass(frozen=True)
class WordSet:
    """The labelled words of a file.

    Parameters
    ----------
    name
        Name of the set, from the file.
    items
        The words, in the order of the file.
    hash
        SHA-256 of the words, 8 hex digits.
    messages
        What was excluded, and why.
    """

    name: str
    items: tuple[Item, ...]
    hash: str
    messages: tuple[str, ...] = ()

    @property
    def concepts(self) -> list[Concept]:
        """The contrasts: one for two exclusive classes, otherwise each label against all others."""
        labels = sorted({label for item in self.items for label in item.labels})
        exclusive = all(len(item.labels) == 1 for item in self.items)
        if len(labels) == 2 and exclusive:
            return [Concept(f"{self.name}/{labels[0]}", labels[0], labels[1])]
        return [Concept(f"{self.name}/{label}", label, "other") for label in labels]

    def labels_of(self, concept: Concept) -> NDArray[np.bool_]:
        """Return which words belong to the positive class; bool, (words,)."""
        return np.array([concept.positive in item.labels for item in self.items], dtype=bool)


def list_names() -> list[str]:
    """Return the names of the word lists of this package.

    Examples
    --------
    >>> list_names()
    ['feelings', 'gender', 'kinds']
    """
    folder = resources.files(__package__) / "lists"
    return sorted(f.name.removesuffix(".csv") for f in folder.iterdir() if f.name.endswith(".csv"))


def read_words(source: str | Path) -> WordSet:
    """Read labelled words.

    Parameters
    ----------
    source
        A file that ends in ``.csv`` or ``.jsonl``, or the name of a list of this package.

    Raises
    ------
    BadInput
        If the file cannot be read, a row is invalid, or all words have the same label.

    Examples
    --------
    >>> words = read_words("kinds")
    >>> [concept.name for concept in words.concepts][:2], words.items[0].word
    (['kinds/animal', 'kinds/number'], 'dog')
    """
    if str(source) in list_names() and not Path(source).exists():
        path = Path(str(source) + ".csv")
        content = (resources.files(__package__) / "lists" / path.name).read_bytes()
    else:
        path = Path(source)
        content = _content(path)
    rows = _csv_rows(path, content) if path.suffix.lower() == ".csv" else _json_rows(path, content)
    items, messages = _merged(list(_items(rows)))
    digest = hashlib.sha256(repr([_stored(item) for item in items]).encode()).hexdigest()[:8]
    found = WordSet(
        slug(path.stem)[:LONGEST_NAME] or "words", tuple(items), digest, tuple(messages)
    )
    _check_classes(found, path)
    return found


def _content(path: Path) -> bytes:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise BadInput(
            f"{str(path)!r} is neither a list of this program ({', '.join(list_names())}) nor a file that "
            "ends in .csv or .jsonl. Name one of these."
        )
    refuse_pipe(path)
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(
                f"{path} has {path.stat().st_size:,} bytes; expected at most {LARGEST:,}. Use fewer words."
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"{path} cannot be read ({reason}): check that it exists and that you may read it."
        ) from error


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path} is not UTF-8: line {line} has the byte 0x{content[error.start]:02X}. "
            f"{how_to_convert(content)}"
        ) from error


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the location and the fields of each row of a CSV file."""
    reader = csv.DictReader(io.StringIO(_text(path, content), newline=""), strict=True)
    try:
        fields = reader.fieldnames or []
        if missing := [name for name in ("text", "label") if name not in fields]:
            raise BadInput(
                f"{path} has no column {missing[0]!r}; its columns: {', '.join(map(repr, fields)) or 'none'}. "
                f"The first line must name the columns, of {', '.join(COLUMNS)}."
            )
        for row in reader:
            where = f"{path}, line {reader.line_num},"
            if None in row or None in row.values():
                raise BadInput(
                    f"{where} has another number of fields than the first line ({len(fields)}). Quote fields that "
                    "contain a comma."
                )
            yield where, row
    except csv.Error as error:
        raise BadInput(
            f"{path}, line {reader.line_num}, is not valid CSV ({error}). Quote fields that contain commas, "
            "quotes or line ends."
        ) from error


def _json_rows(path: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the location and the fields of each row of a JSONL file."""
    for number, line in enumerate(_text(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number},"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{where} is not JSON ({error}): expected one object per line, such as "
                '{"text": "queen", "label": "female"}.'
            ) from error
        if not isinstance(row, dict) or "text" not in row or "label" not in row:
            raise BadInput(
                f"{where} is not an object with the fields text and label. Write rows such as "
                '{"text": "queen", "label": "female"}.'
            )
        yield where, row


def _items(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Item]:
    for number, (where, row) in enumerate(rows):
        if number >= MOST:
            raise BadInput(f"{where} is row {number + 1:,}; expected at most {MOST:,} rows.")
        text = _field(row, "text", where)
        if not text.strip() or len(text) > LONGEST:
            raise BadInput(
                f"{where} has a text of {len(text):,} characters; expected 1 to {LONGEST:,}, not only spaces. "
                "Correct or remove the row."
            )
        carrier = _field(row, "carrier", where)
        if carrier and carrier.count("{}") != 1:
            raise BadInput(
                f"{where} has the carrier {carrier[:80]!r}; expected a sentence with {{}} once, where the word "
                "is inserted."
            )
        span = _span(_field(row, "span", where), text, where)
        group = _field(row, "group", where).strip() or text[slice(*span)].strip().casefold()
        yield Item(
            text, _labels(row, where), group, _field(row, "family", where).strip(), span, carrier
        )


def _field(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInput(
            f"{where} has a {name} of type {type(value).__name__}; expected a text. Correct the row."
        )
    text = str(value)
    if any(0xD800 <= ord(c) < 0xE000 for c in text) or "\0" in text:
        raise BadInput(
            f"{where} has a {name} with a null character or half of a surrogate pair. Correct the row."
        )
    return text


def _labels(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    value = row.get("label")
    if isinstance(value, list):
        parts = [_field({"label": one}, "label", where) for one in value]
    else:
        parts = _field(row, "label", where).split("|")
    return tuple(sorted({" ".join(part.split()) for part in parts if part.strip()}))


def _span(value: str, text: str, where: str) -> tuple[int, int]:
    if not value.strip():
        return 0, len(text)
    start, _, end = value.partition(":")
    if start.strip().isdecimal() and end.strip().isdecimal():
        found = int(start), int(end)
        if 0 <= found[0] < found[1] <= len(text) and text[slice(*found)].strip():
            return found
    raise BadInput(
        f"{where} has the span {value[:40]!r}; expected start:end within the {len(text):,} characters of the "
        "text, such as 4:9."
    )


def _stored(item: Item) -> tuple[Any, ...]:
    return item.text, item.labels, item.group, item.family, item.span, item.carrier


def _merged(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Drop repeated rows, and words whose rows have different labels."""
    by_text: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        by_text.setdefault((item.text, item.span, item.carrier), []).append(item)
    found, conflicting, repeated = [], [], 0
    for same in by_text.values():
        repeated += len(same) - 1
        if len({item.labels for item in same}) > 1:
            conflicting.append(same[0].word)
        else:
            found.append(same[0])
    messages = []
    if conflicting:
        messages.append(
            f"Excluded {counted(len(conflicting), 'word')} with different labels in different rows: "
            f"{_some(conflicting)}. To give a word several labels, write them in one row, as in male|royal."
        )
    elif repeated:
        messages.append(f"Ignored {counted(repeated, 'repeated row')}.")
    return found, messages


def _some(words: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(word[:40]) for word in words[:most])
    return shown + (f" and {len(words) - most} more" if len(words) > most else "")


def _check_classes(words: WordSet, path: Path) -> None:
    usable = [
        concept
        for concept in words.concepts
        if 0 < words.labels_of(concept).sum() < len(words.items)
    ]
    if not usable:
        labels = sorted({label for item in words.items for label in item.labels})
        raise BadInput(
            f"{path} has {counted(len(words.items), 'word')} of {counted(len(labels), 'label')} ({', '.join(labels)[:80] or 'none'}), so "
            "there is nothing to compare. Add words with another label, or with an empty label."
        )
