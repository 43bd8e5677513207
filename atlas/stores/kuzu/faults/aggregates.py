"""Aggregates with ``DISTINCT`` in a grouped projection: those that follow one are not computed by kuzu 0.11.3.

If each item has a name, the store writes the aggregates with ``DISTINCT`` last, and returns the typed order of columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from atlas.stores.cypher import Token
from atlas.stores.kuzu.faults.clauses import Projection

__all__ = ["calls", "distinct_last", "late_aggregate", "name_of"]

_AGGREGATES = frozenset(["COUNT", "SUM", "AVG", "MIN", "MAX", "COLLECT", "STDEV", "STDEVP"])


def late_aggregate(projection: Projection) -> str:
    """Return an aggregate that follows one with ``DISTINCT`` in a grouped projection; empty if there is none.

    A projection is grouped if one of its items, a constant included, has no aggregate.
    """
    values = (*projection.items, *projection.order)
    found = [call for value in values for call in calls(value)]
    distinct = [is_distinct for _, is_distinct in found]
    late = [name for i, (name, d) in enumerate(found) if not d and any(distinct[:i])]
    is_grouped = any(not list(calls(item)) for item in projection.items)
    return late[0] if late and is_grouped else ""


def distinct_last(projection: Projection) -> Sequence[Sequence[Token]]:
    """Return the items with the aggregates with ``DISTINCT`` last, or no items if no such order is right."""
    if projection.is_distinct or not all(name_of(item) for item in projection.items):
        return []
    items = sorted(projection.items, key=lambda item: any(d for _, d in calls(item)))
    return [] if late_aggregate(replace(projection, items=items)) else items


def name_of(item: Sequence[Token]) -> str:
    """Return the name of an item, which is its ``AS`` or a variable; empty if it has none."""
    is_variable = len(item) == 1 and item[0].word not in ("TRUE", "FALSE", "NULL")
    has_name = is_variable or (len(item) > 2 and item[-2].word == "AS")
    return (item[-1].name or "") if has_name else ""


def calls(item: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield the name of each aggregate of an expression, and whether it has ``DISTINCT``."""
    for name, parenthesis, argument in zip(item, item[1:], item[2:], strict=False):
        if name.word in _AGGREGATES and parenthesis.text == "(":
            yield name.word, argument.word == "DISTINCT"
