"""Faults of the embedded engine with nulls in lists: kuzu 0.11.3 compares them like 0, an empty text or an older value.

Queries are refused that search a list which may have a null, such as ``WITH [f.x] AS l WHERE 0 IN l``. ``x IN [f.a, f.b]``
itself is rewritten in ``rewrites``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from atlas.errors import QueryFailed
from atlas.stores import Param
from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.clauses import projections
from atlas.stores.kuzu.faults.expressions import (
    CLOSE,
    LIST_PREDICATES,
    OPEN,
    closing,
    is_own_variable,
    kind_of,
    operand_after,
    results_of_case,
    split,
    variables,
)

__all__ = ["check_lists"]

_COMPARISONS = frozenset("=<>")
_LIST_FUNCTIONS = frozenset(["LIST_FILTER", "LIST_TRANSFORM"])
_BEFORE_LIST = frozenset(
    [
        "AND",
        "AS",
        "BY",
        "CASE",
        "CONTAINS",
        "DISTINCT",
        "ELSE",
        "IN",
        "NOT",
        "OR",
        "RETURN",
        "THEN",
        "UNWIND",
        "WHEN",
        "WHERE",
        "WITH",
        "XOR",
    ]
)
"""Words before the bracket of a list; after another name, a bracket selects an item."""


def check_lists(tokens: Sequence[Token], params: Mapping[str, Param]) -> None:
    """Refuse a search in a list that may have a null, and a list predicate that the engine computes wrongly.

    Parameters
    ----------
    tokens
        The query.
    params
        The values of its parameters; an unknown one is never null.

    Raises
    ------
    QueryFailed
        If the query has such a form. The message states a form that works.
    """
    nullable = {n for n, value in params.items() if value is None}
    _check_list_predicates(tokens, nullable)
    names = _lists_with_nulls(tokens, nullable)
    for name, list_ in _searched(tokens):
        if used := _null_in(list_, names, nullable):
            raise QueryFailed(
                f"The embedded store answers this {name} wrongly if {used} in the list is null. Write x IN [a, b] with "
                "the values themselves, an OR of equalities, or coalesce(…, a value that cannot occur) in the list."
            )
    _check_stored_lists(tokens)


def _check_list_predicates(tokens: Sequence[Token], nullable: set[str]) -> None:
    """Refuse a list predicate whose condition uses another variable than its own, or none."""
    for function, call in _list_calls(tokens):
        own, condition = _lambda(call)
        _check_elements(function.text, call, own, nullable)
        names = {t.text for t in variables(condition)}
        if condition and names != {own}:
            raise QueryFailed(
                f"The embedded store computes {function.text}(…) wrongly if its condition does not use its own variable "
                f"{own} alone. Write UNWIND list AS {own} WITH DISTINCT … WHERE … instead."
            )


def _check_stored_lists(tokens: Sequence[Token]) -> None:
    """Refuse a list predicate whose list is no parameter and no list of constants."""
    for function, call in _list_calls(tokens):
        is_predicate = function.word in LIST_PREDICATES
        list_ = _to_condition(call[3:-1]) if is_predicate else split(call[1:-1])[0]
        own = call[1].text if is_predicate else "x"
        if used := [t.text for t in variables(list_)]:
            raise QueryFailed(
                f"The embedded store cannot compute {function.text}(…) over a list that depends on {used[0]}: its engine ends "
                f"or is wrong in large tables. Write 'value' IN list, or UNWIND list AS {own} WITH DISTINCT …, {own} "
                f"WHERE … instead."
            )


def _list_calls(tokens: Sequence[Token]) -> Iterator[tuple[Token, Sequence[Token]]]:
    """Yield each list predicate and list function, and its arguments with their parentheses."""
    for at, token in enumerate(tokens[:-3]):
        if token.word in LIST_PREDICATES | _LIST_FUNCTIONS and tokens[at + 1].text == "(":
            call = tokens[at + 1 :]
            yield token, call[: closing(call) + 1]


def _to_condition(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return the tokens before the ``WHERE`` of a list predicate."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in OPEN) - (token.text in CLOSE)
        if not depth and token.word == "WHERE":
            return tokens[:at]
    return tokens


def _check_elements(name: str, call: Sequence[Token], own: str, nullable: set[str]) -> None:
    """Refuse a list predicate over a list whose values may be null, because nulls are compared like 0."""
    for at, (before, bracket) in enumerate(pairwise(call), 1):
        if bracket.text != "[" or (before.name is not None and before.word != "IN"):
            continue
        values = split(call[at + 1 : at + closing(call[at:])])
        if used := [x for v in values if (x := _open_value(v, nullable)) not in ("", own)]:
            raise QueryFailed(
                f"The embedded store computes {name}(…) wrongly if a value of {used[0]} in the list is null. Write "
                f"coalesce({used[0]} …, 0) with a value that cannot occur, or a condition for each value."
            )


def _lambda(call: Sequence[Token]) -> tuple[str, list[Token]]:
    """Return the variable and the condition of ``(x IN list WHERE condition)`` or ``(list, x -> condition)``."""
    depth = 0
    for at, token in enumerate(call):
        depth += (token.text in OPEN) - (token.text in CLOSE)
        if depth == 1 and token.word == "WHERE":
            return call[1].text, list(call[at + 1 : -1])
        if depth == 1 and token.text == "-" and call[at + 1].text == ">":
            return call[at - 1].text, list(call[at + 2 : -1])
    return "", []


def _searched(tokens: Sequence[Token]) -> Iterator[tuple[str, Sequence[Token]]]:
    """Yield each search in a list and each comparison of lists: what it is, and the tokens of the list."""
    for at, token in enumerate(tokens[:-1]):
        following = tokens[at + 1]
        if token.word == "IN":
            last = operand_after(tokens, at + 1)
            while last + 2 < len(tokens) and tokens[last + 1].text == "+":
                last = operand_after(tokens, last + 2)
            is_list = following.text == "[" and last == at + 1 + closing(tokens[at + 1 :])
            is_predicate = is_own_variable(tokens, at)
            # ``x IN [f.a]`` is rewritten; a list in it is not.
            for values in split(tokens[at + 2 : last]) if is_list else [tokens[at + 1 : last + 1]]:
                yield ("list predicate" if is_predicate else "IN"), values
        elif _is_search(token.word) and following.text == "(":
            yield (
                f"{token.text}(…)",
                tokens[at + 2 : at + 1 + closing(tokens[at + 1 :])],
            )
        elif token.text in _COMPARISONS and (following.text == "[" or following.name is not None):
            yield "comparison of lists", tokens[at + 1 : operand_after(tokens, at + 1) + 1]
        if following.text in _COMPARISONS and token.name is not None:
            yield "comparison of lists", [token] if tokens[at - 1].text != "." else []
        elif following.text in _COMPARISONS and token.text == "]":
            first = max(i for i in range(at) if closing(tokens[i : at + 1]) == at - i)
            if _is_list(tokens, first):
                yield "comparison of lists", tokens[first : at + 1]


def _is_search(word: str) -> bool:
    """Return whether a function compares the values of a list."""
    kind, _, rest = word.partition("_")
    return kind in ("LIST", "ARRAY") and rest in (
        "CONTAINS",
        "HAS",
        "HAS_ALL",
        "POSITION",
        "INDEXOF",
    )


def _is_list(tokens: Sequence[Token], at: int) -> bool:
    """Return whether the bracket at a position begins a list, not an index or the edge of a pattern."""
    before = tokens[at - 1] if at else None
    if before is None or before.word in _BEFORE_LIST:
        return tokens[at].text == "["
    is_edge = before.text == "-" and at > 1 and tokens[at - 2].text in (")", "<")
    return (
        tokens[at].text == "["
        and not is_edge
        and before.name is None
        and before.kind != "parameter"
        and before.text not in CLOSE
    )


def _lists_with_nulls(tokens: Sequence[Token], nullable: set[str]) -> set[str]:
    """Return the variables of lists that may have a null."""
    named = [
        (item[-1].text, item[:-2])
        for projection in projections(tokens)
        for item in projection.items
        if len(item) > 2 and item[-2].word == "AS"
    ]
    found = set[str]()
    while new := {
        name for name, value in named if _null_in(value, found, nullable) and name not in found
    }:
        found |= new
    return found


def _null_in(value: Sequence[Token], names: set[str], nullable: set[str]) -> str:
    """Return what may be null in a list, as its author wrote it; empty if nothing may be, or if the value is no list.

    Parameters
    ----------
    value
        The tokens of the list.
    names
        The variables of lists that may have a null.
    nullable
        The parameters that are null.
    """
    if value and value[0].word == "CASE":
        return next(
            (used for v in results_of_case(value) if (used := _null_in(v, names, nullable))), ""
        )
    at, found = 0, list[str]()
    while at < len(value):
        token = value[at]
        before = value[at - 1].text if at else ""
        after = value[at + 1].text if at + 1 < len(value) else ""
        if token.text in _COMPARISONS or token.word in _TESTS:
            return ""
        if token.text == "[" and (at == 0 or _is_list(value, at)):
            size = closing(value[at:])
            found += [_open_value(v, nullable) for v in split(value[at + 1 : at + size])]
            at += max(size, 0)
        elif token.name is not None and after == "(" and not _returns_list(token.word):
            at += 1 + closing(value[at + 1 :])
        elif token.text in names and before != "." and after not in (".", "["):
            found.append(token.text)
        at += 1
    return next(filter(None, found), "")


_TESTS = frozenset(["IN", "IS", "AND", "OR", "XOR", "NOT", "CONTAINS", "STARTS", "ENDS"])


def _returns_list(word: str) -> bool:
    """Return whether a function returns a list with values of its arguments."""
    kind, _, rest = word.partition("_")
    of_lists = kind in ("LIST", "ARRAY") and rest not in (
        "SUM",
        "PRODUCT",
        "DISTINCT",
        "UNIQUE",
        "TO_STRING",
    )
    return of_lists or word in ("COALESCE", "IFNULL", "REVERSE", "TAIL")


def _open_value(value: Sequence[Token], nullable: set[str]) -> str:
    """Return a variable or parameter of one value of a list that may be null; empty if it is never null."""
    for token in value:
        if token.word == "NULL" or (token.kind == "parameter" and token.text[1:] in nullable):
            return token.text
    if not value or kind_of(value) == "known":
        return ""
    return next((t.text for t in variables(value)), "")
