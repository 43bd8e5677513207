"""The patterns of a query: each ``MATCH`` with its condition, and the variables that are defined before it.

The guards of the embedded store need to know which variables come from outside a pattern, and which may be null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.clauses import clauses, projection, subqueries
from atlas.stores.kuzu.faults.edits import Edit, insertion
from atlas.stores.kuzu.faults.expressions import (
    CLOSE,
    OPEN,
    closing,
    kind_of,
    opening,
    split,
    variables,
)

__all__ = [
    "Match",
    "Scope",
    "matches",
    "maybe_null",
    "undirected",
    "uses_outside",
    "with_condition",
]

Scope = Mapping[str, str]
"""What each variable is: ``node`` or ``edge``, ``maybe`` (one that may be null), ``value`` or ``known`` (never null)."""


@dataclass(frozen=True)
class Match:
    """One ``MATCH``, at any depth, or the pattern of a subquery.

    Parameters
    ----------
    kind
        ``MATCH``, ``OPTIONAL``, ``EXISTS`` or ``COUNT``; a subquery is a pattern of the last two kinds.
    pattern, condition
        Tokens of the pattern, and those after ``WHERE``.
    before
        The variables that are defined before it.
    start, end
        Positions in the text of its keyword, and behind its last token.
    own
        The variables that it defines.
    brace
        Position in the text of the brace of its subquery; -1 outside of one.
    """

    kind: str
    pattern: Sequence[Token]
    condition: Sequence[Token]
    before: Scope
    start: int
    end: int
    own: Scope = field(default_factory=dict)
    brace: int = -1

    @property
    def bound(self) -> list[str]:
        """Nodes of the pattern that are defined before it."""
        found = (name for name, kind in _in_pattern(self.pattern) if kind == "node")
        return list(dict.fromkeys(name for name in found if name in self.before))

    def maps(self) -> Iterator[tuple[str, str, list[Token]]]:
        """Yield owner, name and value of each property in a map of the pattern; an owner may have no name."""
        for at, token in enumerate(self.pattern):
            if token.text == "{":
                inside = self.pattern[at + 1 : at + max(closing(self.pattern[at:]), 0)]
                owner = _owner(self.pattern, at)
                for pair in split(inside):
                    if len(pair) > 2 and pair[1].text == ":":
                        yield owner, pair[0].text, list(pair[2:])


def matches(tokens: Sequence[Token]) -> Iterator[Match]:
    """Yield each ``MATCH`` and each subquery of a query, in order.

    Examples
    --------
    >>> from atlas.stores.cypher import tokens_of
    >>> query = "MATCH (f:Feature) OPTIONAL MATCH (f)-[m:MATCHES]->(g) WHERE g.dead RETURN f.id, g.id"
    >>> [(match.kind, dict(match.before)) for match in matches(list(tokens_of(query)))]
    [('MATCH', {}), ('OPTIONAL', {'f': 'node'})]
    """
    yield from _matches(tokens, {})


def _matches(
    tokens: Sequence[Token], outside: Scope, kind: str = "MATCH", brace: int = -1
) -> Iterator[Match]:
    scope = dict(outside)
    for clause in clauses(tokens):
        body, before = clause.body, dict(scope)
        if clause.word in ("MATCH", "OPTIONAL"):
            is_optional = clause.word == "OPTIONAL"
            own = {
                name: "maybe" if is_optional else its_kind
                for name, its_kind in _in_pattern(body)
                if name not in scope
            }
            yield Match(
                "OPTIONAL" if is_optional else kind,
                body,
                clause.condition,
                before,
                clause.start,
                clause.end,
                own,
                brace,
            )
            scope |= own
        elif clause.word == "UNWIND":
            scope |= dict.fromkeys(_after_as(body), "value")
        elif clause.word == "WITH":
            scope = _projected(projection(clause).items, scope)
        elif clause.word == "YIELD":
            scope |= {t.text: "value" for t in body if t.name}
        elif clause.word == "UNION":
            scope = dict(outside)
        # A projection sees both what is defined before it and, in ORDER BY, its own names.
        for tokens_of_part, its_scope in ((body, {**scope, **before}), (clause.condition, scope)):
            for subquery in subqueries(tokens_of_part):
                word, start = subquery.keyword.word, subquery.brace.start
                yield from _matches(subquery.inside, its_scope, word, start)


def _in_pattern(pattern: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Yield the name and kind of each node and edge of a pattern, and of a path."""
    depth = braces = 0
    for at, (before, token) in enumerate(zip([None, *pattern], pattern, strict=False)):
        opened = before.text if before is not None else ""
        if opened in ("(", "[") and token.name and not braces:
            yield token.text, "node" if opened == "(" else "edge"
        elif token.name and not depth and at + 1 < len(pattern) and pattern[at + 1].text == "=":
            yield token.text, "value"
        braces += (token.text == "{") - (token.text == "}")
        depth += (token.text in OPEN) - (token.text in CLOSE)


def _after_as(tokens: Sequence[Token]) -> Iterator[str]:
    yield from (name.text for word, name in pairwise(tokens) if word.word == "AS")


def _projected(items: Sequence[Sequence[Token]], scope: Scope) -> dict[str, str]:
    """Return the variables after a ``WITH``."""
    found: dict[str, str] = {}
    for item in items:
        texts = [t.text for t in item]
        if texts == ["*"]:
            found |= scope
        elif len(item) == 1:
            found[texts[0]] = scope.get(texts[0], "value")
        elif len(item) > 2 and item[-2].word == "AS":
            value = item[:-2]
            plain = len(value) == 1 and value[0].name is not None
            found[texts[-1]] = scope.get(value[0].text, "value") if plain else kind_of(value)
    return found


def _owner(pattern: Sequence[Token], brace: int) -> str:
    """Return the name of the node or edge with a map, or an empty text."""
    for at in range(brace, 0, -1):
        if pattern[at - 1].text in ("(", "["):
            return pattern[at].text if pattern[at].name is not None else ""
    return ""


def undirected(tokens: Sequence[Token]) -> Iterator[tuple[str, list[str]]]:
    """Yield each edge of a pattern without an arrow, and the names of its nodes."""
    for at, token in enumerate(tokens):
        if token.text != "[" or at < 3 or tokens[at - 1].text != "-" or tokens[at - 2].text != ")":
            continue
        size = closing(tokens[at:])
        after = [t.text for t in tokens[at + size + 1 : at + size + 3]]
        if after == ["-", "("] and tokens[at + 1].name:
            nodes = (tokens[opening(tokens, at - 2) + 1], tokens[at + size + 3])
            yield tokens[at + 1].text, [node.text for node in nodes if node.name]


def maybe_null(kind: str) -> bool:
    """Return whether a variable of a ``Scope`` may be a null node."""
    return kind in ("maybe", "value")


def uses_outside(match: Match) -> bool:
    """Return whether the condition or a map of a pattern uses a variable that is defined before it."""
    values = [token for *_, value in match.maps() for token in value]
    return any(t.text in match.before for t in variables([*match.condition, *values]))


def with_condition(match: Match, condition: str) -> Iterator[Edit]:
    """Yield the insertions that add a condition before that of a pattern."""
    if match.condition:
        yield insertion(match.condition[0].start, f"{condition} AND (")
        yield insertion(match.end, ")")
    else:
        yield insertion(match.end, f" WHERE {condition}")
