"""Alignment: convert the codes of two SAEs to the same units of text.

If the models of both SAEs have the same tokenizer, a unit is a token. Otherwise units are
words (``ingest.match.align``), located by the characters that tokens cover. A
token of either tokenizer that spans several words merges them into one unit, so each token is
in at most one unit. The activation of a feature on a unit is its largest activation on the
unit's tokens. Blocks are aligned one by one; only one is in memory besides the result.
"""

import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.disk.atomic_files import disk_errors
from atlas.errors import Mismatch
from ingest.codes.store import Block, Tokens, read_shard
from ingest.codes.topk_membership import of_documents
from ingest.compilation import compiled
from ingest.match.aligned_codes import Aligned, CodeRows, Units
from ingest.text.corpus import Corpus, Document

__all__ = ["Words", "align", "find_words", "last_tokens"]

_SPACE, _LETTER, _ALONE, _EXTENDS = range(4)

_JOINER = 0x200D
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# Words in the Unicode names of the letters of scripts that are written without spaces.
_WITHOUT_SPACES = (
    "CJK ",
    "IDEOGRAPHIC ",
    "HIRAGANA ",
    "KATAKANA",
    "HENTAIGANA ",
    " KANA ",
    "BOPOMOFO ",
    "THAI ",
    "LAO ",
    "MYANMAR ",
    "KHMER ",
)


@dataclass(frozen=True)
class Words:
    """The words of some texts, in order; no word spans two texts.

    Parameters
    ----------
    text
        The texts joined.
    base
        int64, texts + 1. The start of each text in ``text``, and the end of the last.
    start, end
        int64, one a word. The characters (code points) of ``text`` that it covers.
    """

    text: str
    base: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)


def find_words(texts: Sequence[str]) -> Words:
    """Find the words of texts."""
    text = "".join(texts)
    base = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    fresh = np.zeros(len(text), dtype=np.bool_)
    fresh[base[:-1][base[:-1] < len(text)]] = True
    begins, inside = _word_starts(text, fresh)
    after = np.ones_like(begins)  # whether the word, if any, ends after this character
    after[:-1] = begins[1:] | ~inside[1:]
    return Words(text, base, np.flatnonzero(begins), np.flatnonzero(inside & after) + 1)


def _word_starts(
    text: str, fresh: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the masks of characters that begin a word, and of characters in a word."""
    chars = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    distinct, which = np.unique(chars, return_inverse=True)
    kind = np.array([_kind(int(code)) for code in distinct], dtype=np.uint8)[which]
    # An extending character gets the kind of the last character that does not extend. After
    # a space, or at the start of a text, it begins a word like a letter.
    base = (kind != _EXTENDS) | fresh
    base[1:] |= kind[:-1] == _SPACE
    kind = kind[np.maximum.accumulate(np.where(base, np.arange(len(kind)), 0))]
    kind[kind == _EXTENDS] = _LETTER
    continues = ~base
    continues[1:] |= (kind[1:] == _LETTER) & (kind[:-1] == _LETTER) | (chars[:-1] == _JOINER)
    inside = kind != _SPACE
    return inside & (fresh | ~continues), inside


@cache
def _kind(code: int) -> int:
    """Return the kind of a character."""
    category = unicodedata.category(chr(code))
    if chr(code).isspace():
        return _SPACE
    if category[0] == "M" or category == "Cf" or code in _SKIN_TONES:
        return _EXTENDS
    if category[0] not in "LN":
        return _ALONE
    name = unicodedata.name(chr(code), "")
    return _ALONE if any(script in name for script in _WITHOUT_SPACES) else _LETTER


Csr: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]"

_OTHER_TEXT = "The codes are not of this text: compute them again with `atlas ingest --replace`."


def align(
    a: Sequence[Path],
    b: Sequence[Path],
    corpus: Corpus,
    *,
    how: Literal["tokens", "words"],
    documents: NDArray[np.int64] | None = None,
    scratch: Path | None = None,
) -> Aligned:
    """Align the codes of two SAEs over one corpus to the same units.

    Parameters
    ----------
    a, b
        The files of codes of either SAE, in corpus order; the division into files may differ.
    corpus
        The text.
    how
        ``"tokens"`` for SAEs whose models have the same tokenizer, else ``"words"``.
    documents
        Numbers of the documents to align; all if None.
    scratch
        A folder for a memory-mapped result, if the codes are larger than memory; the caller
        removes it. If None, the result is in memory.

    Returns
    -------
    Aligned
        With ``"tokens"``, all tokens. With ``"words"``, the units in which both SAEs have a
        token; the type of a unit is its spelling. ``left_out`` counts, for either SAE, the
        tokens of spaces only, and those whose unit has no token of the other SAE. (Special
        tokens are in no codes.)

    Raises
    ------
    Mismatch
        If the codes are not of the blocks of this corpus, or if ``how`` is ``"tokens"`` and
        the tokens differ.
    BrokenPart
        If codes cannot be read.
    OutOfSpace
        If the disk of ``scratch`` is full.
    """
    blocks = _pairs(a, b, blocks=len(corpus))
    return _aligned(blocks, corpus, how=how, documents=documents, scratch=scratch)


def last_tokens(
    a: Sequence[Path],
    b: Sequence[Path],
    corpus: Corpus,
    *,
    how: Literal["tokens", "words"],
    documents: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the last token of each unit in either SAE's codes, for activations of the models.

    At the last token of a word, a model has read the complete word.

    Parameters
    ----------
    a, b, corpus, how, documents
        See ``align``.

    Returns
    -------
    int64, one for each unit of ``align``, for either SAE. The row of the token in its codes.

    Raises
    ------
    Mismatch, BrokenPart
        As ``align`` does.
    """
    blocks = _with_numbers(_pairs(a, b, blocks=len(corpus)))
    found = _aligned(blocks, corpus, how=how, documents=documents)
    last = (rows.indices[rows.indptr[1:] - 1].astype(np.int64) for rows in (found.a, found.b))
    return next(last), next(last)


def _with_numbers(blocks: Iterator[tuple[Block, Block]]) -> Iterator[tuple[Block, Block]]:
    """Yield blocks in which each token has one code: its number, with the activation 1."""
    first = [0, 0]
    for pair in blocks:
        numbered = []
        for side, block in enumerate(pair):
            n, begin = len(block), first[side]
            first[side] += n
            numbered.append(
                replace(
                    block,
                    indptr=np.arange(n + 1, dtype=np.int64),
                    indices=np.arange(begin, begin + n, dtype=np.uint32),
                    values=np.ones(n, dtype=np.float32),
                    d_sae=begin + n,
                )
            )
        yield numbered[0], numbered[1]


def _aligned(
    blocks: Iterator[tuple[Block, Block]],
    corpus: Corpus,
    *,
    how: Literal["tokens", "words"],
    documents: NDArray[np.int64] | None,
    scratch: Path | None = None,
) -> Aligned:
    with ExitStack() as stack:
        if scratch is not None:
            stack.enter_context(disk_errors(scratch))
        result = _Result(scratch, stack)
        for x, y in blocks:
            if documents is not None:
                x, y = of_documents(x, documents), of_documents(y, documents)
            if how == "tokens":
                result.add(_by_tokens(x, y), (x.d_sae, y.d_sae))
            else:
                result.add(_by_words(x, y, corpus.block(x.number)), (x.d_sae, y.d_sae))
        return result.aligned(how)


def _pairs(a: Sequence[Path], b: Sequence[Path], *, blocks: int) -> Iterator[tuple[Block, Block]]:
    """Yield the corresponding blocks of both SAEs."""
    both = zip_longest(*((block for p in paths for block in read_shard(p)) for paths in (a, b)))
    number = -1
    for number, (x, y) in enumerate(both):
        if x is None or y is None or not x.number == y.number == number:
            raise Mismatch(
                f"The codes of the two SAEs differ in the text from block {number} on. {_OTHER_TEXT}"
            )
        yield x, y
    if number + 1 != blocks:
        raise Mismatch(
            f"The codes are of {number + 1} blocks, but the text has {blocks}. {_OTHER_TEXT}"
        )


@dataclass(frozen=True)
class _Piece:
    """The units of one block, with the document and the type name of each, and the codes."""

    document: NDArray[np.int64]
    names: Sequence[int] | Sequence[str]
    a: Csr
    b: Csr
    left_out: dict[str, int] = field(default_factory=dict)


def _by_tokens(x: Block, y: Block) -> _Piece:
    _check_same(x.tokens, y.tokens)
    return _Piece(
        document=x.tokens.document,
        names=x.tokens.token_id.tolist(),
        a=(x.indptr, x.indices, x.values),
        b=(y.indptr, y.indices, y.values),
    )


def _check_same(a: Tokens, b: Tokens) -> None:
    both = min(len(a), len(b))
    differs = np.zeros(both, dtype=np.bool_)
    for name in ("document", "index", "token_id"):
        differs |= getattr(a, name)[:both] != getattr(b, name)[:both]
    if len(a) == len(b) and not differs.any():
        return
    at = int(differs.argmax()) if differs.any() else both
    longer = a if at < len(a) else b
    raise Mismatch(
        f"The tokens of the two SAEs are not the same: they differ from token {longer.index[at]} of "
        f"document {longer.document[at]} on. Align them by words."
    )


def _by_words(x: Block, y: Block, documents: Sequence[Document]) -> _Piece:
    words = find_words([d.text for d in documents])
    first = documents[0].number
    touched = [_touched(z.tokens, words, first_document=first) for z in (x, y)]
    unit_of_word = np.cumsum(~_joined(touched, len(words))) - 1
    count = int(unit_of_word[-1]) + 1 if len(words) else 0
    units = [_units_of(unit_of_word, spans) for spans in touched]
    # Units in which both SAEs have a token are retained.
    common = np.logical_and(*(np.bincount(u[u >= 0], minlength=count) > 0 for u in units))
    renumbered = np.append(np.where(common, np.cumsum(common) - 1, -1), -1)  # the last: no unit
    begins = np.searchsorted(unit_of_word, np.flatnonzero(common))
    ends = np.searchsorted(unit_of_word, np.flatnonzero(common), side="right") - 1
    start, end = words.start[begins], words.end[ends]
    return _Piece(
        document=first + np.searchsorted(words.base, start, side="right") - 1,
        names=[words.text[i:j] for i, j in zip(start.tolist(), end.tolist(), strict=True)],
        a=_pooled(x, renumbered[units[0]], int(common.sum())),
        b=_pooled(y, renumbered[units[1]], int(common.sum())),
        left_out={
            f"{side}: {reason}": int(number)
            for side, other, unit in (("a", "b", units[0]), ("b", "a", units[1]))
            for reason, number in (
                ("spaces alone", (unit < 0).sum()),
                (f"no token of {other} there", ((unit >= 0) & (renumbered[unit] < 0)).sum()),
            )
        },
    )


@dataclass(frozen=True)
class _Spans:
    """The first and last word that each token overlaps; ``some`` is False if there is none."""

    some: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def _touched(tokens: Tokens, words: Words, *, first_document: int) -> _Spans:
    document = tokens.document - first_document
    if len(tokens) and not 0 <= document.min() <= document.max() < len(words.base) - 1:
        raise Mismatch(f"A token is in a document that its block does not have. {_OTHER_TEXT}")
    start, end = words.base[document] + tokens.start, words.base[document] + tokens.end
    if (end > words.base[document + 1]).any():
        raise Mismatch(f"A token extends beyond the end of its document. {_OTHER_TEXT}")
    first = np.searchsorted(words.end, start, side="right")
    last = np.searchsorted(words.start, end) - 1
    return _Spans((first <= last) & (start < end), first, last)


def _joined(touched: Sequence[_Spans], words: int) -> NDArray[np.bool_]:
    """Return which words are joined to the previous word by a token that overlaps both."""
    change = np.zeros(words + 1, dtype=np.int64)
    for spans in touched:
        change += np.bincount(spans.first[spans.some] + 1, minlength=words + 1)
        change -= np.bincount(spans.last[spans.some] + 1, minlength=words + 1)
    return np.cumsum(change)[:-1] > 0


def _units_of(unit_of_word: NDArray[np.int64], spans: _Spans) -> NDArray[np.int64]:
    """Return the unit of each token; -1 for a token in no unit."""
    unit = np.full(len(spans.some), -1, dtype=np.int64)
    unit[spans.some] = unit_of_word[spans.first[spans.some]]
    return unit


def _pooled(block: Block, unit: NDArray[np.int64], units: int) -> Csr:
    """Return the codes of units: the largest activation of each feature on the unit's tokens."""
    rows = np.argsort(unit, kind="stable")
    bounds = np.searchsorted(unit[rows], np.arange(units + 1))
    return _largest(rows, bounds, block.indptr, block.indices, block.values, block.d_sae)


@compiled
def _largest(
    rows: NDArray[np.int64],
    bounds: NDArray[np.int64],
    indptr: NDArray[np.int64],
    indices: NDArray[np.uint32],
    values: NDArray[np.float32],
    d_sae: int,
) -> Csr:
    """Pool rows ``rows[bounds[u]:bounds[u + 1]]`` into row u, with ascending features."""
    out_indptr = np.zeros(len(bounds), dtype=np.int64)
    out_indices = np.empty(len(indices), dtype=np.uint32)
    out_values = np.empty(len(indices), dtype=np.float32)
    largest = np.zeros(d_sae, dtype=np.float32)
    begin = 0
    for unit in range(len(bounds) - 1):
        end = begin
        for row in rows[bounds[unit] : bounds[unit + 1]]:
            for entry in range(indptr[row], indptr[row + 1]):
                feature = indices[entry]
                if largest[feature] == 0:
                    out_indices[end] = feature
                    end += 1
                largest[feature] = max(largest[feature], values[entry])
        if bounds[unit + 1] - bounds[unit] > 1:
            out_indices[begin:end].sort()
        for entry in range(begin, end):
            out_values[entry] = largest[out_indices[entry]]
            largest[out_indices[entry]] = 0
        begin = end
        out_indptr[unit + 1] = end
    return out_indptr, out_indices[:begin].copy(), out_values[:begin].copy()


class _Column:
    """An array to which rows are appended, in memory or in a file."""

    def __init__(self, dtype: type[np.generic], path: Path | None, stack: ExitStack) -> None:
        self._dtype = dtype
        self._path = path
        self._into: Any = io.BytesIO() if path is None else stack.enter_context(path.open("wb"))

    def add(self, array: NDArray[Any]) -> None:
        self._into.write(np.ascontiguousarray(array, dtype=self._dtype).data)

    def array(self) -> NDArray[Any]:
        if self._path is None:
            return np.frombuffer(self._into.getbuffer(), dtype=self._dtype)
        self._into.close()
        if not self._path.stat().st_size:  # an empty file cannot be mapped
            return np.empty(0, dtype=self._dtype)
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r"))


class _Side:
    """The rows of one SAE so far."""

    def __init__(self, name: str, scratch: Path | None, stack: ExitStack) -> None:
        self._indptr, self._indices, self._values = (
            _Column(dtype, scratch and scratch / f"{name}-{column}", stack)
            for column, dtype in (
                ("indptr", np.int64),
                ("indices", np.uint32),
                ("values", np.float32),
            )
        )
        self._entries = 0
        self._indptr.add(np.zeros(1, dtype=np.int64))

    def add(self, codes: Csr) -> None:
        indptr, indices, values = codes
        self._indptr.add(indptr[1:] + self._entries)
        self._indices.add(indices)
        self._values.add(values)
        self._entries += len(indices)

    def rows(self, d_sae: int) -> CodeRows:
        return CodeRows(self._indptr.array(), self._indices.array(), self._values.array(), d_sae)


class _Result:
    """The aligned blocks so far."""

    def __init__(self, scratch: Path | None, stack: ExitStack) -> None:
        self._document = _Column(np.int64, scratch and scratch / "document", stack)
        self._type = _Column(np.int32, scratch and scratch / "type", stack)
        self._sides = [_Side(name, scratch, stack) for name in ("a", "b")]
        self._numbers: dict[int | str, int] = {}
        self._left_out: Counter[str] = Counter()
        self._d_sae = (0, 0)

    def add(self, piece: _Piece, d_sae: tuple[int, int]) -> None:
        numbers = self._numbers
        self._type.add(
            np.fromiter((numbers.setdefault(n, len(numbers)) for n in piece.names), np.int32)
        )
        self._document.add(piece.document)
        for side, codes in zip(self._sides, (piece.a, piece.b), strict=True):
            side.add(codes)
        self._left_out.update(piece.left_out)
        self._d_sae = d_sae

    def aligned(self, how: str) -> Aligned:
        units = Units(self._document.array(), self._type.array())
        a, b = (s.rows(n) for s, n in zip(self._sides, self._d_sae, strict=True))
        return Aligned(how, units, a, b, dict(self._left_out))
