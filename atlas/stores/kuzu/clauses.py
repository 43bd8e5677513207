"""The clauses of a query: each ``MATCH`` with its condition, and the variables that are defined before it.

The guards of the embedded store need to know which variables come from outside a pattern, and which may be null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from atlas.stores import Param
from atlas.stores.cypher import Token

__all__ = [
    "CLAUSES",
    "CLOSE",
    "LIST_PREDICATES",
    "NO_PARAMS",
    "OPEN",
    "Match",
    "Scope",
    "as_typed",
    "closing",
    "groups",
    "is_own_variable",
    "kind_of",
    "matches",
    "maybe_null",
    "opening",
    "operand_after",
    "orders",
    "projections",
    "results_of_case",
    "returned",
    "split",
    "terms",
    "undirected",
    "uses_outside",
    "variables",
]

OPEN, CLOSE = frozenset("([{"), frozenset(")]}")
NO_PARAMS: Mapping[str, Param] = MappingProxyType({})
LIST_PREDICATES = frozenset(["ANY", "ALL", "NONE", "SINGLE"])
CLAUSES = frozenset(
    ["MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL", "UNION", "WHERE", "YIELD"]
)
_AFTER_ITEMS = frozenset(["ORDER", "SKIP", "LIMIT"])
_NO_VARIABLES = frozenset(
    [
        "AND",
        "OR",
        "XOR",
        "NOT",
        "IN",
        "IS",
        "NULL",
        "TRUE",
        "FALSE",
        "STARTS",
        "ENDS",
        "WITH",
        "CONTAINS",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "WHERE",
    ]
)
_LITERALS = frozenset(["TRUE", "FALSE"])

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
    scope, optional = dict(outside), False
    clauses = list(_clauses(tokens))
    for at, clause in enumerate(clauses):
        word, body, visible = clause[0].word, clause[1:], dict(scope)
        following = clauses[at + 1] if at + 1 < len(clauses) else []
        if word == "OPTIONAL":
            optional = True
        elif word == "MATCH":
            condition = following[1:] if _word(following) == "WHERE" else []
            tail = condition or body or clause
            name = "OPTIONAL" if optional else kind
            own = {n: "maybe" if optional else k for n, k in _in_pattern(body) if n not in scope}
            start = clauses[at - 1][0].start if optional else clause[0].start
            yield Match(name, body, condition, dict(scope), start, _end(tail), own, brace)
            scope |= own
            optional = False
        elif word == "UNWIND":
            scope |= dict.fromkeys(_after_as(body), "value")
        elif word == "WITH":
            scope = _projected(body, scope)
        elif word == "YIELD":
            scope |= {t.text: "value" for t in body if t.name}
        elif word == "UNION":
            scope = dict(outside)
        # A projection sees both what is defined before it and, in ORDER BY, its own names.
        yield from _subqueries(body, {**scope, **visible} if word != "UNION" else scope)


def _subqueries(tokens: Sequence[Token], scope: Scope) -> Iterator[Match]:
    at = 0
    while at < len(tokens) - 1:
        token, brace = tokens[at], tokens[at + 1]
        if token.word in ("EXISTS", "COUNT") and brace.text == "{":
            size = closing(tokens[at + 1 :])
            body = list(tokens[at + 2 : at + 1 + size]) if size > 0 else list(tokens[at + 2 :])
            if body and body[0].word not in (
                "MATCH",
                "OPTIONAL",
                "WITH",
                "UNWIND",
                "CALL",
                "RETURN",
            ):
                body.insert(0, Token("word", "MATCH", brace.start))  # EXISTS { (a)-->(b) WHERE … }
            yield from _matches(body, scope, token.word, brace.start)
            at += max(size, 1)
        at += 1


def _clauses(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Split the tokens of one depth before each keyword of a clause."""
    depth, clause = 0, list[Token]()
    for before, token in zip([None, *tokens], tokens, strict=False):
        is_name = before is not None and (before.text in (".", ":") or before.word == "AS")
        is_operator = before is not None and before.word in ("STARTS", "ENDS")
        if not depth and token.word in CLAUSES and not is_name and not is_operator and clause:
            yield clause
            clause = []
        depth += (token.text in OPEN) - (token.text in CLOSE)
        clause.append(token)
    if clause:
        yield clause


def _word(clause: Sequence[Token]) -> str:
    return clause[0].word if clause else ""


def _end(tokens: Sequence[Token]) -> int:
    return tokens[-1].start + len(tokens[-1].text)


def _in_pattern(pattern: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Yield the name and kind of each node and edge of a pattern, and of a path."""
    depth = 0
    for at, (before, token) in enumerate(zip([None, *pattern], pattern, strict=False)):
        if before is not None and token.name and before.text in ("(", "["):
            braces = sum((t.text == "{") - (t.text == "}") for t in pattern[:at])
            if not braces:
                yield token.text, "node" if before.text == "(" else "edge"
        elif token.name and not depth and at + 1 < len(pattern) and pattern[at + 1].text == "=":
            yield token.text, "value"
        depth += (token.text in OPEN) - (token.text in CLOSE)


def _after_as(tokens: Sequence[Token]) -> Iterator[str]:
    yield from (name.text for word, name in pairwise(tokens) if word.word == "AS")


def _projected(body: Sequence[Token], scope: Scope) -> dict[str, str]:
    """Return the variables after a ``WITH``."""
    found: dict[str, str] = {}
    for item in _items(body):
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


def kind_of(value: Sequence[Token]) -> str:
    """Return ``known`` for an expression that is never null, otherwise ``value``."""
    depths = [0]
    for token in value:
        depths.append(depths[-1] + (token.text in OPEN) - (token.text in CLOSE))
    outer = [t for t, depth in zip(value, depths, strict=False) if not depth]
    words = [t.word for t in outer]
    is_call = len(value) > 3 and value[1].text == "(" and closing(value[1:]) == len(value) - 2
    literal = value[-2] if is_call else value[-1]
    is_literal = literal.kind in ("string", "number") or literal.word in _LITERALS
    if is_call and value[0].word == "COUNT":
        return "known"
    if is_call and value[0].word == "COALESCE" and is_literal:
        is_negative = literal.kind == "number" and value[-3].text == "-"
        if value[-4 if is_negative else -3].text == ",":
            return "known"
    if len(value) == 2 and value[0].text == "-" and literal.kind == "number":
        return "known"
    is_test = "IS" in words and words[-1] == "NULL" and not {"AND", "OR", "XOR"} & {*words}
    return "known" if is_test or (len(value) == 1 and is_literal) else "value"


def _items(body: Sequence[Token]) -> list[list[Token]]:
    """Return the items of a projection, without its ``ORDER BY``."""
    depth = 0
    for at, (before, token) in enumerate(zip([None, *body], body, strict=False)):
        is_name = before is not None and (before.word == "AS" or before.text == ".")
        if not depth and token.word in _AFTER_ITEMS and not is_name:
            body = body[:at]
            break
        depth += (token.text in OPEN) - (token.text in CLOSE)
    return split(body[1:] if body and body[0].word == "DISTINCT" else body)


def split(tokens: Sequence[Token]) -> list[list[Token]]:
    """Split tokens at each comma that is in no bracket."""
    depth, items = 0, [list[Token]()]
    for token in tokens:
        depth += (token.text in OPEN) - (token.text in CLOSE)
        if not depth and token.text == ",":
            items.append([])
        else:
            items[-1].append(token)
    return items


def _owner(pattern: Sequence[Token], brace: int) -> str:
    """Return the name of the node or edge with a map, or an empty text."""
    for at in range(brace, 0, -1):
        if pattern[at - 1].text in ("(", "["):
            return pattern[at].text if pattern[at].name is not None else ""
    return ""


def projections(tokens: Sequence[Token]) -> Iterator[list[list[Token]]]:
    """Yield the items of each ``WITH`` and ``RETURN`` and of its ``ORDER BY``, at any depth."""
    for clause in _projecting(tokens):
        yield _items(clause[1:]) + _ordered(clause)


def orders(tokens: Sequence[Token]) -> Iterator[list[list[Token]]]:
    """Yield the values of each ``ORDER BY``, at any depth."""
    for clause in _projecting(tokens):
        yield _ordered(clause)


def _projecting(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield each ``WITH`` and ``RETURN``, at any depth."""
    for clause in _clauses(tokens):
        if clause[0].word in ("WITH", "RETURN"):
            yield clause
        for at, (token, brace) in enumerate(pairwise(clause)):
            if token.word in ("EXISTS", "COUNT") and brace.text == "{":
                yield from _projecting(clause[at + 2 : at + 1 + closing(clause[at + 1 :])])


def _ordered(clause: Sequence[Token]) -> list[list[Token]]:
    """Return the values of the ``ORDER BY`` of a projection."""
    items = _items(clause[1:])
    rest = clause[1 + sum(map(len, items)) + len(items) - 1 :]
    rest = rest[1:] if rest and clause[1].word == "DISTINCT" else rest
    if not rest or rest[0].word != "ORDER":
        return []
    ends = [
        at
        for at, t in enumerate(rest)
        if at > 1 and t.word in ("SKIP", "LIMIT") and _ends(rest, at)
    ]
    return split(rest[2 : ends[0] if ends else None])


def _ends(tokens: Sequence[Token], at: int) -> bool:
    """Return whether the word at a position ends ``ORDER BY``, and is not a name."""
    before, after = tokens[at - 1], tokens[at + 1] if at + 1 < len(tokens) else None
    is_number = after is not None and (after.kind in ("number", "parameter"))
    return is_number and before.text not in (".", ",") and before.word != "BY"


def returned(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the items of the first ``RETURN`` that is in no subquery."""
    return next((_items(c[1:]) for c in _clauses(tokens) if c[0].word == "RETURN"), [])


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


def terms(condition: Sequence[Token]) -> Iterator[list[Token]]:
    """Split a conjunction at each ``AND``, also inside parentheses around it."""
    depth, term, found = 0, list[Token](), list[list[Token]]()
    is_conjunction = True
    for token in condition:
        depth += token.text in OPEN or token.word == "CASE"
        depth -= token.text in CLOSE or token.word == "END"
        is_conjunction &= bool(depth) or token.word not in ("OR", "XOR")
        if not depth and token.word == "AND":
            found.append(term)
            term = []
        else:
            term.append(token)
    for each in [*found, term] if is_conjunction else [list(condition)]:
        if len(each) > 1 and each[0].text == "(" and closing(each) == len(each) - 1:
            yield from terms(each[1:-1])
        elif each:
            yield each


def as_typed(tokens: Sequence[Token], text: str) -> str:
    """Return an expression as its author wrote it."""
    return text[tokens[0].start : _end(tokens)]


def closing(tokens: Sequence[Token]) -> int:
    """Return the position of the bracket that closes the first one, or -1."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in OPEN) - (token.text in CLOSE)
        if not depth:
            return at
    return -1


def opening(tokens: Sequence[Token], last: int) -> int:
    """Return the position of the bracket or ``CASE`` that the token at ``last`` closes."""
    depth = 0
    for at in range(last, -1, -1):
        depth += tokens[at].text in CLOSE or tokens[at].word == "END"
        depth -= tokens[at].text in OPEN or tokens[at].word == "CASE"
        if not depth:
            return at
    return 0


def variables(expression: Sequence[Token]) -> Iterator[Token]:
    """Yield each token that names a variable."""
    for before, token, after in zip(
        [None, *expression], expression, [*expression[1:], None], strict=False
    ):
        if before is not None and before.text == ".":
            continue
        is_function = after is not None and after.text == "("
        if token.kind == "quoted" or (
            token.kind == "word" and token.word not in _NO_VARIABLES and not is_function
        ):
            yield token


def operand_after(tokens: Sequence[Token], first: int) -> int:
    """Return the position of the last token of the operand that begins at ``first``."""
    at = first
    if tokens[at].word == "CASE":
        depth = 0
        for at in range(first, len(tokens)):
            depth += (tokens[at].word == "CASE") - (tokens[at].word == "END")
            if not depth:
                break
    elif tokens[at].text in OPEN:
        at += closing(tokens[at:])
    while at + 1 < len(tokens):
        if tokens[at + 1].text == "." and at + 2 < len(tokens):
            at += 2
        elif tokens[at + 1].text in ("(", "["):
            at += 1 + closing(tokens[at + 1 :])
        else:
            break
    return at


def results_of_case(case: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the values after each ``THEN`` and ``ELSE`` of a ``CASE``, without those of a ``CASE`` in it."""
    depth = 0
    result: list[Token] | None = None
    for token in case:
        depth += token.word == "CASE" or token.text in OPEN
        depth -= token.word == "END" or token.text in CLOSE
        ends = depth == 1 and token.word in ("WHEN", "THEN", "ELSE")
        if result is not None and (ends or not depth):
            yield result
            result = None
        if ends and token.word != "WHEN":
            result = []
        elif result is not None:
            result.append(token)


def is_own_variable(tokens: Sequence[Token], at: int) -> bool:
    """Return whether the ``IN`` at a position is that of a list predicate, such as ``any(x IN …)``."""
    return at > 2 and tokens[at - 2].text == "(" and tokens[at - 3].word in LIST_PREDICATES


def groups(expression: Sequence[Token]) -> Iterator[tuple[str, str, list[Token]]]:
    """Yield the expression and each bracket in it: the word before it, its sign, and its tokens."""
    yield "", "", list(expression)
    for at, token in enumerate(expression):
        if token.text in OPEN:
            size = closing(expression[at:])
            before = expression[at - 1] if at else None
            is_name = before is not None and before.name is not None
            name = before.text.upper() if before is not None and is_name else ""
            yield name, token.text, list(expression[at + 1 : at + size])
