"""Suggestions for an unknown name of an SAE: near names of SAEs of the same model only."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from itertools import takewhile

from atlas.errors import UnknownName

__all__ = ["near_names", "near_words", "unknown"]

#: Parts of a name that do not identify a model: block, width, L0, seed, version of the SAEs, date,
#: active parameters of a mixture of experts. A last number of 5 or more is a block without its ``l``;
#: a smaller one may be the version of a model.
_OTHER = re.compile(
    r"average_l0_\d+|l0_[a-z]+|low_?l0|(?<![a-z])(?:layer[_-]?\d+|blocks\.\d+|l\d+[arm]?|a\d+b|s\d+|v\d+)(?![a-z\d])"
    r"|width[_-](?:2pow)?\d+[km]?|(?<![a-z\d])w?\d+(?:k|x)(?![a-z\d])|(?:res|mlp|att)-\d{1,2}$|-(?:[5-9]|\d\d)$|date[_-]\d+|ctx\d+(?:_\d+)?"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[bm](?![a-z\d]))?")
_SIZES = frozenset({"small", "medium", "large", "xl"})
_TUNED = {"it": "tuned", "instruct": "tuned", "chat": "tuned"}
_R1 = re.compile(r"(?<![a-z])r1(?!\d)")
_SITES = (
    "res",
    "resid",
    "mlp",
    "att",
    "attn",
    "lxr",
    "lxm",
    "lxa",
    "transcoder",
    "transcoders",
    "distill",
)
# A shorter family differs from too many others by one letter.
_SHORTEST_WITH_ERROR = 5


@dataclass(frozen=True)
class _Identity:
    """What a name states about its model.

    Parameters
    ----------
    family
        The words before the first number, such as ``("gemma", "scope")``.
    versions, sizes
        Numbers without and with a unit; words for a size, such as ``xl``, are sizes.
    tuning
        ``"tuned"`` for an instruction-tuned model, ``"r1"`` for a distilled one.
    """

    family: tuple[str, ...]
    versions: tuple[str, ...]
    sizes: tuple[str, ...]
    tuning: frozenset[str]


def near_names(name: str, known: Iterable[str], *, models: Mapping[str, str]) -> list[str]:
    """Return up to five known names that are near a name and of the same model.

    Family, version, size and tuning of the model must be equal; one typing error in the family is
    allowed. If the name has no size and no near name is without one, names of every size are
    returned.

    Parameters
    ----------
    name
        The unknown name.
    known
        The known names.
    models
        The model by known name, which may state a size that the name does not.

    Examples
    --------
    >>> near_names("gemma-scope-2b-res", ["gemma-scope-2b-pt-res", "gemma-scope-9b-pt-res"], models={})
    ['gemma-scope-2b-pt-res']
    """
    wanted = _identity(name)
    equal, any_size = [], []
    for other in known:
        found = _identity(other)
        if not _is_same_family(wanted.family, found.family) or (
            (wanted.versions, wanted.tuning) != (found.versions, found.tuning)
        ):
            continue
        if wanted.sizes == found.sizes or (
            not found.sizes and wanted.sizes == _identity(models.get(other, "")).sizes
        ):
            equal.append(other)
        elif not wanted.sizes:
            any_size.append(other)
    near = get_close_matches(name.lower(), equal, n=5, cutoff=0.5)
    return near or _nearest_of_each_size(name, any_size)


def _nearest_of_each_size(name: str, names: Iterable[str]) -> list[str]:
    """Return the nearest name of each size, compared without the size."""
    best: dict[tuple[str, ...], tuple[float, str]] = {}
    for other in names:
        sizes = _identity(other).sizes
        rest = other
        for size in sizes:
            rest = re.sub(rf"[-_]?{re.escape(size)}", "", rest, count=1)
        ratio = SequenceMatcher(None, name.lower(), rest).ratio()
        best[sizes] = max(best.get(sizes, (0.5, "")), (ratio, other))
    return [other for _, other in sorted(best.values(), reverse=True) if other][:5]


def near_words(words: str, *, names: Iterable[str], models: Mapping[str, str]) -> list[str]:
    """Return names and words of names that are near the words that no name has.

    Parameters
    ----------
    words
        Words separated by spaces.
    names
        All names in which words are searched.
    models
        The model by name of an SAE or a release; near ones are of the same model.
    """
    texts = {name.lower() for name in names}
    parts = sorted({part for text in texts for part in re.split(r"[-_/:.]", text) if part})
    found: list[str] = []
    for word in words.lower().split():
        if any(word in text for text in texts):
            continue
        digits = re.findall(r"\d+", word)
        near = near_names(word, models, models=models) or [
            part
            for part in get_close_matches(word, parts, n=3, cutoff=0.6)
            if re.findall(r"\d+", part) == digits
        ]
        found += near
    return found


def unknown(
    what: str, requested: str, known: Iterable[str], *, models: Mapping[str, str], hint: str
) -> UnknownName:
    """Return the error for an unknown name; it suggests near names of the same model only."""
    return UnknownName(
        what, requested, known=near_names(requested, known, models=models), hint=hint
    )


@cache
def _identity(name: str) -> _Identity:
    text = re.sub(r"[^a-z\d.]+", "-", _OTHER.sub("-", name.lower()))
    text, distilled = _R1.subn("-", text)
    numbers = _NUMBER.findall(text)
    words = re.findall(r"[a-z]+", text)
    first = re.search(r"\d", text)
    family = re.findall(r"[a-z]+", text[: first.start()]) if first else words
    tuning = {_TUNED[word] for word in words if word in _TUNED} | ({"r1"} if distilled else set())
    return _Identity(
        family=tuple(word for word in family if not _is_no_family(word)),
        versions=tuple(number for number in numbers if number[-1] not in "bm"),
        sizes=tuple([n for n in numbers if n[-1] in "bm"] + [w for w in words if w in _SIZES]),
        tuning=frozenset(tuning),
    )


def _is_no_family(word: str) -> bool:
    """Return whether a word states a size, tuning or site, also with a typing error in a site."""
    exact = word in _SIZES or word in _TUNED or word in ("pt", "base", "all", "out")
    return exact or bool(get_close_matches(word, _SITES, n=1, cutoff=0.6))


def _is_same_family(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    """Return whether two families are equal, or differ by one letter or two swapped letters."""
    a, b = "".join(one), "".join(two)
    if a == b:
        return True
    letters = [[word for word in words if len(word) == 1] for words in (one, two)]
    if min(len(a), len(b)) < _SHORTEST_WITH_ERROR or letters[0] != letters[1]:
        return False
    start = _equal_letters(a, b)
    end = _equal_letters(a[start:][::-1], b[start:][::-1])
    rest, other = a[start : len(a) - end], b[start : len(b) - end]
    return max(len(rest), len(other)) <= 1 or (len(rest) == 2 and rest == other[::-1])


def _equal_letters(a: str, b: str) -> int:
    """Return with how many equal letters two texts begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
