"""A remark on an answer: texts of tokens in the question that the atlas does not store."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from atlas.amounts import listed
from atlas.named_queries import Question

if TYPE_CHECKING:
    from atlas.stores import Store

__all__ = ["missing_tokens", "nearest_token"]

# Parameters of named queries that are complete texts of tokens.
_PARAMETERS = ("token", "tokens")

# Words that a remark names.
_NAMED = 5

# Least similarity of a word and its nearest token (ratio of difflib).
_LEAST = 0.6


def missing_tokens(store: "Store", question: Question) -> list[str]:
    """Return a sentence on the words of a question that are not among the stored tokens.

    A word is sought with and without a leading space, since most tokens begin with one.

    Parameters
    ----------
    store
        The graph store that answered.
    question
        The question; only a named query with the parameter ``token`` or ``tokens`` is checked.

    Returns
    -------
    list of str
        One sentence with the nearest stored token of each word; empty if each word is stored as it is.
    """
    texts = _texts(question)
    if not texts:
        return []
    found = store.query(
        "MATCH (t:Token) WHERE t.text IN $texts RETURN DISTINCT t.text AS text", {"texts": texts}
    )["text"].to_pylist()
    stored = {text.strip() for text in found}
    # A list from the command line has each word twice; one of both suffices.
    missing = dict.fromkeys(text.strip() for text in texts if text.strip() not in stored)
    if not missing:
        return []
    every = store.query("MATCH (t:Token) RETURN DISTINCT t.text AS text", {})["text"].to_pylist()
    words = [word for word in missing if word]
    named = [_with_nearest(word, every) for word in words[:_NAMED]]
    if not named:
        return []
    return [
        f"Not among the stored tokens: {listed([*named, *words[_NAMED:]], _NAMED)}. A word may be rare, "
        "absent from the text, or several tokens."
    ]


def nearest_token(word: str, texts: Iterable[str]) -> str | None:
    """Return the text that is most similar to a word, regardless of case and surrounding spaces.

    Parameters
    ----------
    word
        The word.
    texts
        Texts of tokens.

    Returns
    -------
    str or None
        The text; of equally similar ones, the one that begins with a space. None if none is similar.

    Examples
    --------
    >>> nearest_token("Dog", [" cat", " dogs", "dog", " dog"])
    ' dog'
    >>> nearest_token("zebra", [" cat", " dog"]) is None
    True
    """
    plain: dict[str, str] = {}
    for text in sorted(texts):  # a space sorts before letters
        plain.setdefault(text.strip().casefold(), text)
    own = word.strip().casefold()
    if own in plain:
        return plain[own]
    # Others cannot be as similar, and comparing them takes long for a large vocabulary.
    similar = [text for text in plain if text[:1] == own[:1] and abs(len(text) - len(own)) <= 3]
    found = difflib.get_close_matches(own, similar, n=1, cutoff=_LEAST)
    return plain[found[0]] if found else None


def _texts(question: Question) -> list[str]:
    """Return the texts of tokens that a named query seeks."""
    if question.query is None:
        return []
    texts: list[str] = []
    for name in _PARAMETERS:
        value = question.params.get(name)
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list | tuple):
            texts += [text for text in value if isinstance(text, str)]
    return list(dict.fromkeys(texts))


def _with_nearest(word: str, texts: Sequence[str]) -> str:
    nearest = nearest_token(word, texts)
    return repr(word) if nearest is None else f"{word!r} (the nearest is {nearest!r})"
