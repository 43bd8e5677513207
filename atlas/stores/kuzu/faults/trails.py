"""Trails: within one ``MATCH``, no edge is used twice.

Cypher matches trails. kuzu matches walks, in which an edge may be used again, so the store names the edges that can
be the same and compares them. A repeated edge, such as ``-[:E*1..2]-``, gets the keyword ``TRAIL`` of kuzu.

References
----------
.. [1] Francis et al. (2018), *Cypher: an evolving query language for property graphs*. SIGMOD.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from atlas.errors import QueryFailed
from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.clauses import projections
from atlas.stores.kuzu.faults.edits import Edit, Query, insertion
from atlas.stores.kuzu.faults.expressions import closing
from atlas.stores.kuzu.faults.patterns import Match, matches, with_condition

__all__ = ["check_trails", "compared_edges"]

_SEMANTICS = frozenset(["TRAIL", "ACYCLIC", "SHORTEST", "WSHORTEST", "ALL", "WALK"])


@dataclass(frozen=True)
class _Edge:
    """One edge of a pattern.

    Parameters
    ----------
    name
        Its variable, as typed; empty if it has none.
    types
        Its types in capitals; empty if it may have any.
    at
        The position in the text at which a variable is written.
    has_brackets
        Whether it is ``-[…]-``, not ``--``.
    star
        The position behind ``*``, for a repeated edge without a keyword such as ``SHORTEST``; otherwise -1.
    is_repeated
        Whether it has a ``*``.
    """

    name: str
    types: frozenset[str]
    at: int
    has_brackets: bool
    star: int = -1
    is_repeated: bool = False

    def can_be(self, other: "_Edge") -> bool:
        """Return whether one edge of the graph may match both."""
        return not self.types or not other.types or bool(self.types & other.types)


def compared_edges(query: Query) -> Iterator[Edit]:
    """Yield the insertions that make each ``MATCH`` select trails.

    Parameters
    ----------
    query
        A query that ``check_trails`` accepts.

    Examples
    --------
    >>> from atlas.stores.kuzu.faults.edits import edited
    >>> text = "MATCH (f)-[a:E]-(g)--(h) RETURN h.id"
    >>> edited(text, compared_edges(Query(text, {})))
    'MATCH (f)-[a:E]-(g)-[edge_1]-(h) WHERE id(a) <> id(edge_1) RETURN h.id'
    """
    prefix, number = "edge_", 0
    while prefix in query.text:
        prefix += "_"
    for match in matches(query.tokens):
        edges = list(_edges(match.pattern))
        pairs = _pairs(edges)
        names: dict[int, str] = {}
        for edge in edges:
            if edge.star >= 0:
                yield insertion(edge.star, " TRAIL ")
            if any(edge in pair for pair in pairs):
                names[edge.at] = edge.name
                if not edge.name:
                    number += 1
                    name = names[edge.at] = f"{prefix}{number}"
                    yield insertion(edge.at, name if edge.has_brackets else f"[{name}]")
        named = [(names[one.at], names[other.at]) for one, other in pairs]
        if named:
            condition = " AND ".join(f"id({one}) <> id({other})" for one, other in named)
            yield from with_condition(match, condition)


def check_trails(match: Match, tokens: Sequence[Token]) -> None:
    """Refuse a pattern whose edges cannot be compared.

    Raises
    ------
    QueryFailed
        If a repeated edge can contain another edge of the pattern, or if ``*`` would return an edge without a name.
    """
    pairs = _pairs(list(_edges(match.pattern)))
    if any(edge.is_repeated for pair in pairs for edge in pair):
        raise QueryFailed(
            "The embedded store cannot exclude that a repeated edge, such as -[:E*1..2]-, uses another edge of the same "
            "MATCH again. Write the other edge in a MATCH of its own, where it may be used again, or write each edge of "
            "the repeated one."
        )
    if any(not edge.name for pair in pairs for edge in pair) and _returns_all(tokens):
        raise QueryFailed(
            "The embedded store names the edges of this MATCH to compare them, so RETURN * and WITH DISTINCT * would "
            "include them. Write the variables instead of *, or give each edge a name, such as -[e]->."
        )


def _pairs(edges: Sequence[_Edge]) -> list[tuple[_Edge, _Edge]]:
    """Return the pairs of edges that may be the same edge of the graph."""
    pairs = combinations(edges, 2)
    return [(a, b) for a, b in pairs if a.can_be(b) and not (a.name and a.name == b.name)]


def _returns_all(tokens: Sequence[Token]) -> bool:
    """Return whether a projection of the query has all variables as columns or as a group."""
    return any(
        (projection.word == "RETURN" or projection.is_distinct)
        and any([token.text for token in item] == ["*"] for item in projection.items)
        for projection in projections(tokens)
    )


def _edges(pattern: Sequence[Token]) -> Iterator[_Edge]:
    """Yield each edge of a pattern, without what is in maps."""
    at, end = 0, len(pattern) - 1
    while at < end:
        token, following = pattern[at], pattern[at + 1]
        if token.text == "{":
            at += max(closing(pattern[at:]), 0)
        elif token.text == "-" and following.text == "[":
            size = closing(pattern[at + 1 :])
            yield _edge(pattern[at + 2 : at + 1 + size], following.start + 1)
            at += size + 1
            # The sign behind the bracket begins no edge.
            at += 1
        elif token.text == "-" and following.text == "-":
            yield _Edge("", frozenset(), following.start, False)
            at += 1
        at += 1


def _edge(inside: Sequence[Token], start: int) -> _Edge:
    """Return the edge with these tokens in its brackets."""
    name = inside[0].text if inside and inside[0].name is not None else ""
    types, star, is_repeated = set[str](), -1, False
    for at, token in enumerate(inside):
        after = inside[at + 1] if at + 1 < len(inside) else None
        if token.text == "{":
            break
        if token.text == "*":
            is_repeated = True
            star = -1 if after is not None and after.word in _SEMANTICS else token.start + 1
            break
        if token.text in (":", "|") and after is not None and after.name is not None:
            types.add(after.name.upper())
    return _Edge(name, frozenset(types), start, True, star, is_repeated)
