"""Expressions of a query: brackets, operands, terms, variables and the values of ``CASE``."""

from collections.abc import Iterator, Sequence

from atlas.stores.cypher import Token

__all__ = [
    "CLOSE",
    "LIST_PREDICATES",
    "OPEN",
    "as_typed",
    "can_end_operand",
    "closing",
    "end_of",
    "groups",
    "has_all_brackets",
    "is_own_variable",
    "kind_of",
    "opening",
    "operand_after",
    "operand_before",
    "property_path",
    "range_of",
    "results_of_case",
    "split",
    "terms",
    "variables",
]

OPEN, CLOSE = frozenset("([{"), frozenset(")]}")
_COUNTERPARTS = {"(": ")", "[": "]", "{": "}"}
LIST_PREDICATES = frozenset(["ANY", "ALL", "NONE", "SINGLE"])
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
_BEFORE_OPERAND = frozenset(
    [
        "AND",
        "OR",
        "XOR",
        "NOT",
        "IN",
        "WHERE",
        "WHEN",
        "THEN",
        "ELSE",
        "WITH",
        "RETURN",
        "BY",
        "DISTINCT",
        "AS",
        "CONTAINS",
    ]
)
"""Words that end no operand. A bracket behind another word is that of a call or an index."""


def end_of(token: Token) -> int:
    """Return the position in the text behind a token."""
    return token.start + len(token.text)


def can_end_operand(tokens: Sequence[Token], at: int) -> bool:
    """Return whether the token at a position can be the last of an operand, before an operator or a keyword."""
    if tokens[at].kind == "sign":
        return tokens[at].text in CLOSE
    is_property = at > 0 and tokens[at - 1].text == "."
    return is_property or tokens[at].word not in _BEFORE_OPERAND


def range_of(tokens: Sequence[Token]) -> tuple[int, int]:
    """Return the range of an expression in the text."""
    return tokens[0].start, end_of(tokens[-1])


def as_typed(tokens: Sequence[Token], text: str) -> str:
    """Return an expression as its author wrote it."""
    return text[tokens[0].start : end_of(tokens[-1])]


def has_all_brackets(tokens: Sequence[Token]) -> bool:
    """Return whether each bracket has its counterpart; without one, an expression may have no end."""
    opened = list[str]()
    for token in tokens:
        if token.text in _COUNTERPARTS:
            opened.append(token.text)
        elif token.text in CLOSE and (not opened or _COUNTERPARTS[opened.pop()] != token.text):
            return False
    return not opened


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
            size = closing(tokens[at + 1 :])
            at = at + 1 + size if size > 0 else len(tokens) - 1
        else:
            break
    return at


def operand_before(tokens: Sequence[Token], last: int) -> int:
    """Return the position of the first token of the operand that ends at ``last``."""
    at = last
    while True:
        token = tokens[at]
        if token.text in CLOSE or token.word == "END":
            at = opening(tokens, at)
            before = tokens[at - 1] if at else None
            is_call = (
                before is not None
                and before.name is not None
                and before.word not in _BEFORE_OPERAND
            )
            if tokens[at].text in ("(", "[") and is_call:
                at -= 1
        if at >= 2 and tokens[at - 1].text == "." and tokens[at].name is not None:
            at -= 2
            continue
        return at


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


def property_path(side: Sequence[Token]) -> list[str]:
    """Return the parts of ``name`` or ``name.property``; none for any other expression."""
    while len(side) > 2 and side[0].text == "(" and closing(side) == len(side) - 1:
        side = side[1:-1]
    names = [
        t.text for t in side[::2] if t.name is not None and t.word not in ("TRUE", "FALSE", "NULL")
    ]
    dots = all(t.text == "." for t in side[1::2])
    return names if dots and len(side) in (1, 3) and len(names) == len(side[::2]) else []
