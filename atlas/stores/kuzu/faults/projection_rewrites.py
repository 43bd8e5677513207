"""Rewrites of ``WITH`` and ``RETURN``: aggregates, ``ORDER BY`` and ``-0.0``."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.aggregates import distinct_last, late_aggregate
from atlas.stores.kuzu.faults.clauses import projections, without_direction
from atlas.stores.kuzu.faults.edits import Edit, Query, Range, insertion
from atlas.stores.kuzu.faults.expressions import (
    CLOSE,
    OPEN,
    closing,
    end_of,
    range_of,
    results_of_case,
    split,
)

__all__ = ["empty_totals", "final_texts", "moved_aggregates", "named_order", "positive_zeros"]


def named_order(query: Query) -> Iterator[Edit]:
    """Write the name of a column in ``ORDER BY`` instead of its expression."""
    for projection in projections(query.tokens):
        names = {
            tuple(t.text for t in item[:-2]): item[-1].text
            for item in projection.items
            if len(item) > 3 and item[-2].word == "AS"
        }
        for value in map(without_direction, projection.order):
            if name := names.get(tuple(t.text for t in value)):
                yield Edit(*range_of(value), [name])


def moved_aggregates(query: Query) -> Iterator[Edit]:
    """Write the items of a projection with its aggregates with ``DISTINCT`` last, if one of them is too early."""
    for projection in projections(query.tokens):
        if late_aggregate(projection) and (moved := distinct_last(projection)):
            parts: list[str | Range] = []
            for item in moved:
                parts += [", ", range_of(item)]
            start, end = projection.items[0][0].start, end_of(projection.items[-1][-1])
            yield Edit(start, end, parts[1:])


_EMPTY = {"SUM": "0", "COLLECT": "[]"}


def empty_totals(query: Query) -> Iterator[Edit]:
    """Write each ``sum(x)`` as ``coalesce(sum(x), 0)`` and each ``collect(x)`` as ``coalesce(collect(x), [])``."""
    tokens = query.tokens
    for at, (token, following) in enumerate(pairwise(tokens)):
        if token.word not in _EMPTY or following.text != "(":
            continue
        last = at + 1 + closing(tokens[at + 1 :])
        around = [
            t.word or t.text for t in (*tokens[max(at - 2, 0) : at], *tokens[last + 1 : last + 4])
        ]
        if last > at and around != ["COALESCE", "(", ",", "0", ")"]:
            yield insertion(token.start, "coalesce(")
            yield insertion(end_of(tokens[last]), f", {_EMPTY[token.word]})")


def final_texts(query: Query) -> Iterator[Edit]:
    """End each ``ORDER BY`` of several values with a text, because those after the last text are not compared."""
    for projection in projections(query.tokens):
        if len(projection.order) > 1 and projection.order[-1]:
            yield insertion(end_of(projection.order[-1][-1]), ", ''")


_SIGNS = frozenset("+-*/%^.")
_ROUNDING = frozenset(["ROUND", "CEIL", "CEILING", "FLOOR", "NEGATE"])
_WORDS = frozenset(
    [
        "AND",
        "OR",
        "XOR",
        "NOT",
        "IN",
        "IS",
        "CONTAINS",
        "STARTS",
        "ENDS",
        "CASE",
        "WHEN",
        "END",
        "EXISTS",
        "DISTINCT",
    ]
)


def positive_zeros(query: Query) -> Iterator[Edit]:
    """Add 0 to each column, and to each value of ``ORDER BY``, that may compute ``-0.0``."""
    for projection in projections(query.tokens):
        columns = [i[:-2] if len(i) > 2 and i[-2].word == "AS" else i for i in projection.items]
        for value in (*columns, *map(without_direction, projection.order)):
            if value and _may_be_negative_zero(value):
                yield insertion(value[0].start, "((")
                yield insertion(end_of(value[-1]), ") + 0)")


def _may_be_negative_zero(value: Sequence[Token]) -> bool:
    """Return whether an expression is a number that may be ``-0.0``."""
    results = list(results_of_case(value)) if value[0].word == "CASE" else []
    if value[0].word in ("COALESCE", "IFNULL") and closing(value[1:]) == len(value) - 2:
        results = split(value[2:-1])
    if results:
        return any(result and _may_be_negative_zero(result) for result in results)
    depth, outer = 0, list[Token]()
    for token in value:
        depth -= token.text in CLOSE
        if not depth and token.text not in CLOSE:
            outer.append(token)
        depth += token.text in OPEN
    if any(t.kind == "sign" and t.text not in _SIGNS | OPEN for t in outer):
        return False
    if any(t.kind == "string" or t.word in _WORDS for t in outer):
        return False
    is_number = len(value) == 2 and value[1].kind == "number"
    signs = [
        t.text
        for before, t in zip([None, *outer], outer, strict=False)
        if t.text in ("*", "/", "%", "^")
        or (t.text == "-" and (before is None or before.text in _SIGNS))
    ]
    is_rounded = len(value) > 2 and value[1].text == "(" and value[0].word in _ROUNDING
    is_extreme = len(value) > 2 and value[1].text == "(" and value[0].word in ("MIN", "MAX")
    if is_extreme and closing(value[1:]) == len(value) - 2:
        inner = [t for t in value[2:-1] if t.word != "DISTINCT"]
        return bool(inner) and _may_be_negative_zero(inner)
    return len(value) > 1 and not is_number and (bool(signs) or is_rounded)
