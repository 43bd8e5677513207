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
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")


def check_aggregates(cypher: str) -> None:
    """Refuse a query with an aggregate after a ``DISTINCT`` one in a grouped projection.

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
        items = list(_items(clause))
        calls = [call for item in items for call in _calls(item)]
        distinct = [is_distinct for _, is_distinct in calls]
        late = [name for i, (name, d) in enumerate(calls) if not d and any(distinct[:i])]
        if late and any(_is_key(item) for item in items):
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


def _items(clause: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the expressions of a projection, those of ``ORDER BY`` included."""
    depth, item = 0, list[Token]()
    for token in clause:
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if not depth and (token.text == "," or token.word in ("ORDER", "SKIP", "LIMIT")):
            yield item
            item = []
        else:
            item.append(token)
    yield item


def _calls(item: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield the name of each aggregate of an expression, and whether it has ``DISTINCT``."""
    for name, parenthesis, argument in zip(item, item[1:], item[2:], strict=False):
        if name.word in _AGGREGATES and parenthesis.text == "(":
            yield name.word, argument.word == "DISTINCT"


def _is_key(item: Sequence[Token]) -> bool:
    """Return whether an expression may be a grouping key: it is more than one aggregate."""
    words = [t for t in item if t.word != "DISTINCT"]
    if not words or words[0].word == "BY" or all(t.kind == "number" for t in words):
        return False
    if words[0].word not in _AGGREGATES or len(words) < 2 or words[1].text != "(":
        return True
    depth = 0
    for at, token in enumerate(words[1:], 1):
        depth += (token.text == "(") - (token.text == ")")
        if not depth:
            rest = words[at + 1 :]
            return bool(rest) and rest[0].word != "AS"
    return False
