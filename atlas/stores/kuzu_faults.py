"""Faults of the embedded engine that give wrong answers: queries are refused or rewritten.

kuzu 0.11.3 has two of them. In a grouped ``WITH`` or ``RETURN``, an aggregate that follows one with
``DISTINCT`` is not computed: counts are 0, and other values are null. And ``CASE WHEN x THEN``
is wrong for most rows where ``x`` is a variable, property or ``CASE``; ``x = true`` is right.
``tests/test_kuzu_faults.py`` shows both, and fails when the engine has been mended.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from atlas.errors import QueryFailed
from atlas.stores.cypher import Token, tokens_of

__all__ = ["check_aggregates", "with_compared_conditions"]

_AGGREGATES = frozenset(["COUNT", "SUM", "AVG", "MIN", "MAX", "COLLECT", "STDEV", "STDEVP"])
_PROJECTIONS = frozenset(["WITH", "RETURN"])
_OTHER_CLAUSES = frozenset(["MATCH", "OPTIONAL", "UNWIND", "CALL", "UNION", "WHERE"])
_AFTER_ITEMS = frozenset(["ORDER", "SKIP", "LIMIT"])
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")


def check_aggregates(cypher: str) -> None:
    """Refuse a query with an aggregate after a ``DISTINCT`` one in a grouped projection.

    A projection is grouped if one of its expressions, a constant included, has no aggregate.

    Parameters
    ----------
    cypher
        The query.

    Raises
    ------
    QueryFailed
        If it has such aggregates. The message states the order that works.

    Examples
    --------
    >>> check_aggregates("MATCH (f:Feature) RETURN f.sae, count(f), count(DISTINCT f.dead)")
    """
    for clause in _projections(list(tokens_of(cypher))):
        items = [(list(_calls(item)), projected) for item, projected in _items(clause)]
        calls = [call for found, _ in items for call in found]
        distinct = [is_distinct for _, is_distinct in calls]
        late = [name for i, (name, d) in enumerate(calls) if not d and any(distinct[:i])]
        is_grouped = any(projected and not found for found, projected in items)
        if late and is_grouped:
            raise QueryFailed(
                f"The embedded store computes {late[0].lower()}(…) wrongly after an aggregate with DISTINCT in the "
                "same WITH or RETURN. Write the aggregates with DISTINCT last."
            )


def with_compared_conditions(cypher: str) -> str:
    """Write each condition of ``CASE WHEN`` as ``(condition) = true``, which selects the same rows.

    Parameters
    ----------
    cypher
        The query. Its line ends become ``\\n``.

    Examples
    --------
    >>> with_compared_conditions("MATCH (f:Feature) RETURN CASE WHEN f.dead THEN 1 END")
    'MATCH (f:Feature) RETURN CASE WHEN (f.dead) = true THEN 1 END'
    """
    text = cypher.replace("\r\n", "\n")
    for at, inserted in sorted(_comparisons(list(tokens_of(text))), reverse=True):
        text = f"{text[:at]}{inserted}{text[at:]}"
    return text


def _comparisons(tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Yield what to insert in the text, and at which positions."""
    searched: list[bool] = []  # for each open CASE: whether it has conditions, not values
    for token, following in pairwise(tokens):
        if token.word == "CASE":
            searched.append(following.word == "WHEN")
        elif token.word == "END" and searched:
            searched.pop()
        elif token.word == "WHEN" and searched and searched[-1]:
            yield following.start, "("
        if following.word == "THEN" and searched[-1:] == [True]:
            yield token.start + len(token.text), ") = true"


def _projections(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each ``WITH`` and ``RETURN``, at any depth, without the keyword.

    Its end is the next clause of the same depth, or the end of its subquery.
    """
    for at, token in enumerate(tokens):
        if token.word not in _PROJECTIONS or (at and tokens[at - 1].word in ("STARTS", "ENDS")):
            continue
        depth, clause = 0, list[Token]()
        for following in tokens[at + 1 :]:
            depth += (following.text in _OPEN) - (following.text in _CLOSE)
            if depth < 0 or (not depth and following.word in _PROJECTIONS | _OTHER_CLAUSES):
                break
            clause.append(following)
        yield clause


def _items(clause: Sequence[Token]) -> Iterator[tuple[list[Token], bool]]:
    """Yield the expressions of a projection and its ``ORDER BY``, and whether each is projected."""
    depth, item, projected = 0, list[Token](), True
    for token in clause:
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        ends = not depth and token.word in _AFTER_ITEMS
        if ends or (not depth and token.text == ","):
            yield item, projected
            item, projected = [], projected and not ends
        else:
            item.append(token)
    yield item, projected


def _calls(item: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield the name of each aggregate of an expression, and whether it has ``DISTINCT``."""
    for name, parenthesis, argument in zip(item, item[1:], item[2:], strict=False):
        if name.word in _AGGREGATES and parenthesis.text == "(":
            yield name.word, argument.word == "DISTINCT"
