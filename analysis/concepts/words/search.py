"""Search for words in a text, as complete words with equal case."""

import re
from collections.abc import Iterable

__all__ = ["word_pattern"]


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds words in a text; the longest one where several begin.

    Parameters
    ----------
    words
        The words. A match is not preceded or followed by a letter, a digit or an underscore.

    Examples
    --------
    >>> word_pattern(["sea", "sea lion"]).findall("A sea lion at sea, not overseas; Sea.")
    ['sea lion', 'sea']
    """
    longest_first = sorted(set(words), key=lambda word: (-len(word), word))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
