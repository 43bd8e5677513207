"""The clauses of a query, at any depth, and the values of each ``WITH`` and ``RETURN``.

This module alone finds where clauses, subqueries, items and ``ORDER BY`` begin and end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.expressions import (
    CLOSE,
    OPEN,
    can_end_operand,
    closing,
    end_of,
    split,
)

__all__ = [
    "CLAUSES",
    "Clause",
    "Projection",
    "Subquery",
    "all_clauses",
    "clauses",
    "projection",
    "projections",
    "returned",
    "subqueries",
    "without_direction",
]

CLAUSES = frozenset(
    ["MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL", "UNION", "WHERE", "YIELD"]
)
"""The words that begin a clause."""

_FIRST_CLAUSES = CLAUSES - {"UNION", "WHERE", "YIELD"}
_AFTER_ITEMS = frozenset(["ORDER", "SKIP", "LIMIT"])
_DIRECTIONS = frozenset(["ASC", "DESC", "ASCENDING", "DESCENDING"])


@dataclass
class Clause:
    """One clause, with its ``WHERE``.

    Parameters
    ----------
    word
        Its first keyword in capitals; ``OPTIONAL`` for an ``OPTIONAL MATCH``.
    start
        Position of its first keyword in the text.
    body, condition
        The tokens behind its keywords, and those behind ``WHERE``.
    end
        Position in the text behind its last token.
    """

    word: str
    start: int
    body: list[Token] = field(default_factory=list)
    condition: list[Token] = field(default_factory=list)
    end: int = 0


@dataclass(frozen=True)
class Subquery:
    """An ``EXISTS {…}`` or ``COUNT {…}``.

    Parameters
    ----------
    keyword, brace
        Its keyword, and the brace that opens it.
    inside
        Its tokens; without a clause, they begin with a ``MATCH`` that is not in the text.
    """

    keyword: Token
    brace: Token
    inside: Sequence[Token]


@dataclass(frozen=True)
class Projection:
    """One ``WITH`` or ``RETURN``.

    Parameters
    ----------
    word
        ``WITH`` or ``RETURN``.
    is_distinct
        Whether ``DISTINCT`` follows.
    items, order
        The expressions of its columns, with ``AS`` and their names, and those of its ``ORDER BY``.
    """

    word: str
    is_distinct: bool
    items: Sequence[Sequence[Token]]
    order: Sequence[Sequence[Token]]


def clauses(tokens: Sequence[Token]) -> list[Clause]:
    """Return the clauses of a query or subquery, without those of the subqueries in it.

    Examples
    --------
    >>> from atlas.stores.cypher import tokens_of
    >>> found = clauses(list(tokens_of("MATCH (f) WHERE f.dead OPTIONAL MATCH (f)--(g) RETURN f.id")))
    >>> [(clause.word, len(clause.body), len(clause.condition)) for clause in found]
    [('MATCH', 3, 3), ('OPTIONAL', 8, 0), ('RETURN', 3, 0)]
    """
    found, depth, in_condition = list[Clause](), 0, False
    for before, token in zip([None, *tokens], tokens, strict=False):
        is_clause = not depth and token.word in CLAUSES and not _is_part(before)
        depth += (token.text in OPEN) - (token.text in CLOSE)
        is_second = before is not None and before.word == "OPTIONAL" and token.word == "MATCH"
        in_condition = (in_condition and not is_clause) or (is_clause and token.word == "WHERE")
        if not found or (is_clause and not is_second and not in_condition):
            found.append(Clause(token.word, token.start))
        elif not is_clause:
            (found[-1].condition if in_condition else found[-1].body).append(token)
        found[-1].end = end_of(token)
    return found


def _is_part(before: Token | None) -> bool:
    """Return whether the word behind a token is a name or part of ``STARTS WITH``, and begins no clause."""
    return before is not None and (
        before.text in (".", ":") or before.word in ("AS", "STARTS", "ENDS")
    )


def subqueries(tokens: Sequence[Token]) -> Iterator[Subquery]:
    """Yield each ``EXISTS {…}`` and ``COUNT {…}``, without those in it."""
    at = 0
    while at < len(tokens) - 1:
        keyword, brace = tokens[at], tokens[at + 1]
        if keyword.word in ("EXISTS", "COUNT") and brace.text == "{":
            size = closing(tokens[at + 1 :])
            inside = list(tokens[at + 2 : at + 1 + size if size > 0 else None])
            if inside and inside[0].word not in _FIRST_CLAUSES:  # EXISTS { (a)-->(b) WHERE … }
                inside.insert(0, Token("word", "MATCH", brace.start))
            yield Subquery(keyword, brace, inside)
            at += max(size, 1)
        at += 1


def all_clauses(tokens: Sequence[Token]) -> Iterator[Clause]:
    """Yield each clause at any depth; those of a subquery follow the clause that it is in."""
    for clause in clauses(tokens):
        yield clause
        for part in (clause.body, clause.condition):
            for subquery in subqueries(part):
                yield from all_clauses(subquery.inside)


def projections(tokens: Sequence[Token]) -> Iterator[Projection]:
    """Yield each ``WITH`` and ``RETURN``, at any depth."""
    for clause in all_clauses(tokens):
        if clause.word in ("WITH", "RETURN"):
            yield projection(clause)


def projection(clause: Clause) -> Projection:
    """Return the items of a ``WITH`` or ``RETURN`` and the values of its ``ORDER BY``.

    Examples
    --------
    >>> from atlas.stores.cypher import tokens_of
    >>> (clause,) = clauses(list(tokens_of("RETURN DISTINCT f.id AS limit, f.x ORDER BY limit DESC LIMIT 3")))
    >>> found = projection(clause)
    >>> [[token.text for token in value] for value in (*found.items, *found.order)]
    [['f', '.', 'id', 'AS', 'limit'], ['f', '.', 'x'], ['limit', 'DESC']]
    """
    is_distinct = bool(clause.body) and clause.body[0].word == "DISTINCT"
    body = clause.body[is_distinct:]
    ends = [*_ends(body), len(body), len(body)]
    has_order = ends[0] < len(body) and body[ends[0]].word == "ORDER"
    order = split(body[ends[0] + 2 : ends[1]]) if has_order else []
    return Projection(clause.word, is_distinct, split(body[: ends[0]]), order)


def _ends(body: Sequence[Token]) -> Iterator[int]:
    """Yield the positions of ``ORDER``, ``SKIP`` and ``LIMIT`` that are not names."""
    depth = 0
    for at, token in enumerate(body):
        depth += (token.text in OPEN) - (token.text in CLOSE)
        if depth or token.word not in _AFTER_ITEMS or not at:
            continue
        is_star = body[at - 1].text == "*" and (at == 1 or not can_end_operand(body, at - 2))
        if is_star or can_end_operand(body, at - 1):
            yield at


def returned(tokens: Sequence[Token]) -> Sequence[Sequence[Token]]:
    """Return the items of the first ``RETURN`` that is in no subquery."""
    return next((projection(c).items for c in clauses(tokens) if c.word == "RETURN"), [])


def without_direction(value: Sequence[Token]) -> Sequence[Token]:
    """Return a value of ``ORDER BY`` without ``ASC`` or ``DESC``."""
    return value[:-1] if value and value[-1].word in _DIRECTIONS else value
