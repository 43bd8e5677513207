"""Edits of a query: all replacements of one step are collected, then written at once."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from atlas.errors import QueryFailed
from atlas.stores import Param
from atlas.stores.cypher import Token, tokens_of

__all__ = ["MAX_LENGTH", "NO_PARAMS", "Edit", "Query", "Range", "edited", "insertion"]

MAX_LENGTH = 100_000
"""Limit of characters of an edited query, because an edit may write a part twice, and its parts may be edited too."""

NO_PARAMS: Mapping[str, Param] = MappingProxyType({})

Range = tuple[int, int]
"""Positions in a text: of its first character, and behind its last."""


@dataclass(frozen=True)
class Query:
    """A query that is rewritten.

    Parameters
    ----------
    text
        Its text, whose line ends are ``\\n``.
    params
        The values of its parameters.
    """

    text: str
    params: Mapping[str, Param]

    @cached_property
    def tokens(self) -> Sequence[Token]:
        """The tokens of the text."""
        return list(tokens_of(self.text))


@dataclass(frozen=True)
class Edit:
    """A replacement of one range of a text.

    Parameters
    ----------
    start, end
        The range; an insertion replaces an empty one.
    parts
        What is written instead: new texts, and ranges of the old text. A range is written with the edits in it.
    """

    start: int
    end: int
    parts: Sequence[str | Range]


def insertion(at: int, text: str) -> Edit:
    """Return the edit that inserts a text at a position."""
    return Edit(at, at, [text])


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return a text with all edits.

    Parameters
    ----------
    text
        The text.
    edits
        The edits. Two of them do not overlap, or one is inside a part of the other. Insertions at one position are
        written in the order of the edits.

    Raises
    ------
    QueryFailed
        If the new text has more than ``MAX_LENGTH`` characters.

    Examples
    --------
    >>> twice = Edit(0, 5, [(0, 1), " and ", (2, 5)])
    >>> edited("a + b", [twice, Edit(4, 5, ["c"])])
    'a and + c'
    """
    ordered = sorted(
        edits, key=lambda edit: (edit.start, -edit.end)
    )  # an outer edit is before those in it
    starts = [edit.start for edit in ordered]

    def written(start: int, end: int, first: int) -> str:
        """Return one range with its edits, which begin at ``first`` in the order of all."""
        parts, at, number = list[str](), start, bisect_left(starts, start, first)
        while number < len(ordered) and ordered[number].end <= end:
            edit = ordered[number]
            parts.append(text[at : edit.start])
            parts += (p if isinstance(p, str) else written(*p, number + 1) for p in edit.parts)
            at = edit.end
            number = bisect_left(starts, at, number + 1)  # behind those inside
        parts.append(text[at:end])
        if sum(map(len, parts)) > MAX_LENGTH:
            raise QueryFailed(
                f"The embedded store would need more than {MAX_LENGTH:,} characters to write this query in a form that its "
                "engine answers rightly. Compute the inner values of nested +, CONTAINS and IN in a WITH before them."
            )
        return "".join(parts)

    return written(0, len(text), 0)
