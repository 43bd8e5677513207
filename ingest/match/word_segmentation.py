"""Words: segmentation of texts by Unicode character class.

A word is a run of letters and digits. A letter of a script written without spaces (Han,
kana, Thai, …), an emoji and any other symbol is a word by itself. So is the apostrophe:
``don't`` is three words, which a tokenizer with the token ``'t`` joins to two. Marks,
invisible characters and skin tones belong to the previous character. Characters that a
zero-width joiner connects are one word, so composed emoji are not split. Spaces are in no
word.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Words", "find_words"]

_SPACE, _LETTER, _ALONE, _EXTENDS = range(4)

_JOINER = 0x200D
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# Words in the Unicode names of the letters of scripts that are written without spaces.
_WITHOUT_SPACES = (
    "CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "HENTAIGANA ", " KANA ", "BOPOMOFO ",
    "THAI ", "LAO ", "MYANMAR ", "KHMER ",
)  # fmt: skip


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
    begins, inside = _begins(text, fresh)
    after = np.ones_like(begins)  # whether the word, if any, ends after this character
    after[:-1] = begins[1:] | ~inside[1:]
    return Words(text, base, np.flatnonzero(begins), np.flatnonzero(inside & after) + 1)


def _begins(text: str, fresh: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
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
