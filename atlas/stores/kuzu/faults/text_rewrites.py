"""Rewrites of texts: ``x CONTAINS y`` for an empty ``y``, and ``x + y`` for a null."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from atlas import schema
from atlas.stores import Param
from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.edits import Edit, Query, Range
from atlas.stores.kuzu.faults.expressions import (
    can_end_operand,
    kind_of,
    operand_after,
    operand_before,
    property_path,
    range_of,
)

__all__ = ["contained_texts", "joined_texts"]

_SAME_LENGTH = frozenset(["TOLOWER", "TOUPPER", "LOWER", "UPPER", "LCASE", "UCASE"])
_TEXT_FUNCTIONS = _SAME_LENGTH | frozenset(
    [
        "TOSTRING",
        "STRING",
        "LEFT",
        "RIGHT",
        "TRIM",
        "LTRIM",
        "RTRIM",
        "REVERSE",
        "SUBSTRING",
        "REPLACE",
    ]
)
_SUMS = frozenset("+-*/%^")


def contained_texts(query: Query) -> Iterator[Edit]:
    """Write each ``x CONTAINS y`` as ``(contains(x, y) OR x STARTS WITH y)``.

    The second form is true for an empty ``y``. A text of one or more characters stays as it is.
    """
    tokens = query.tokens
    for at, token in enumerate(tokens[:-1]):
        if token.word != "CONTAINS" or not at or not can_end_operand(tokens, at - 1):
            continue
        first, last = operand_before(tokens, at - 1), operand_after(tokens, at + 1)
        if _may_be_empty(tokens[at + 1 : last + 1], query.params):
            x, y = range_of(tokens[first:at]), range_of(tokens[at + 1 : last + 1])
            yield Edit(x[0], y[1], ["(contains(", x, ", ", y, ") OR ", x, " STARTS WITH ", y, ")"])


def _may_be_empty(text: Sequence[Token], params: Mapping[str, Param]) -> bool:
    """Return whether a text may be empty, unless it is a text or parameter that is known, also in ``toLower(…)``."""
    while len(text) > 2 and text[-1].text == ")":
        if text[0].text == "(":
            text = text[1:-1]
        elif text[0].word in _SAME_LENGTH and text[1].text == "(":
            text = text[2:-1]
        else:
            return True
    if len(text) == 1 and text[0].kind == "string":
        return len(text[0].text) == 2
    if len(text) == 1 and text[0].kind == "parameter":
        return params.get(text[0].text[1:], "") == ""
    return True


def joined_texts(query: Query) -> Iterator[Edit]:
    """Write each sum of texts ``x + y`` with a test for null before it.

    Sums of variables and properties alone are also guarded, because their type is unknown.
    """
    tokens = query.tokens
    for at, token in enumerate(tokens[:-1]):
        if token.text != "+" or not at or not can_end_operand(tokens, at - 1):
            continue
        first = operand_before(tokens, at - 1)
        if first and tokens[first - 1].text in _SUMS:
            continue  # part of a sum that began before
        operands, last = [tokens[first:at]], at - 1
        while last + 2 < len(tokens) and tokens[last + 1].text == "+":
            start = last + 2
            last = operand_after(tokens, start)
            operands.append(tokens[start : last + 1])
        if last + 1 < len(tokens) and tokens[last + 1].text in _SUMS:
            continue  # a sum of numbers
        null = [o for o in operands if _may_be_null(o, query.params)]
        if null and _are_texts(operands, query.params):
            tests: list[str | Range] = []
            for operand in null:
                tests += [" OR ", range_of(operand), " IS NULL"]
            whole = range_of(tokens[first : last + 1])
            parts = ["(CASE WHEN ", *tests[1:], " THEN (NULL) ELSE ", whole, " END)"]
            yield Edit(*whole, parts)


@cache
def _numbers() -> frozenset[str]:
    """Return the names of properties that are numbers in each table."""
    kinds = [(p.name, p.type in ("int64", "double")) for t in schema.TABLES for p in t.properties]
    return frozenset(n for n, is_number in kinds if is_number) - {n for n, is_ in kinds if not is_}


def _are_texts(operands: Sequence[Sequence[Token]], params: Mapping[str, Param]) -> bool:
    """Return whether the values of a sum may be texts or lists."""
    if any(
        property_path(operand)[1:2] and property_path(operand)[1] in _numbers()
        for operand in operands
    ):
        return False
    numbers = {f"${name}" for name, value in params.items() if isinstance(value, int | float)}
    return all(
        property_path(o) or (o[0].kind == "parameter" and o[0].text not in numbers)
        for o in operands
    ) or any(
        operand[0].text == "["
        or operand[0].word in _TEXT_FUNCTIONS
        or any(token.kind == "string" for token in operand)
        for operand in operands
    )


def _may_be_null(operand: Sequence[Token], params: Mapping[str, Param]) -> bool:
    if operand[0].kind == "parameter" and len(operand) == 1:
        return params.get(operand[0].text[1:]) is None
    return operand[0].text != "[" and kind_of(operand) != "known"
