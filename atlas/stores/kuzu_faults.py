"""Faults of the embedded engine that give wrong answers: queries are refused or rewritten.

kuzu 0.11.3 has five of them. In a grouped ``WITH`` or ``RETURN``, an aggregate that follows one with
``DISTINCT`` is not computed: counts are 0, and other values are null. And ``CASE WHEN x THEN``
is wrong for most rows where ``x`` is a variable, property or ``CASE``; ``x = true`` is right.
In ``MATCH … WHERE``, a condition of parameters and constants alone is ignored. The condition of
``any``, ``all``, ``none`` and ``single`` is wrong if it uses another variable than its own. Rows are
wrong where the ``WHERE`` of ``NOT EXISTS {…}`` or ``COUNT {…}`` uses a variable from outside.
``tests/stores/test_kuzu_faults.py`` shows them, and fails when the engine has been mended.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from atlas.errors import QueryFailed
from atlas.stores.cypher import Token, tokens_of

__all__ = [
    "check_aggregates",
    "check_conditions",
    "check_list_predicates",
    "check_subqueries",
    "with_compared_conditions",
]

_AGGREGATES = frozenset(["COUNT", "SUM", "AVG", "MIN", "MAX", "COLLECT", "STDEV", "STDEVP"])
_PROJECTIONS = frozenset(["WITH", "RETURN"])
_OTHER_CLAUSES = frozenset(["MATCH", "OPTIONAL", "UNWIND", "CALL", "UNION", "WHERE"])
_AFTER_ITEMS = frozenset(["ORDER", "SKIP", "LIMIT"])
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
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
_LIST_PREDICATES = frozenset(["ANY", "ALL", "NONE", "SINGLE"])
_LIST_FUNCTIONS = frozenset(["LIST_FILTER", "LIST_TRANSFORM"])


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


def check_conditions(cypher: str) -> None:
    """Refuse a query whose ``MATCH … WHERE`` has a condition of parameters alone.

    Parameters
    ----------
    cypher
        The query.

    Raises
    ------
    QueryFailed
        If it has such a condition. The message states what works.

    Examples
    --------
    >>> check_conditions("MATCH (f:Feature) WHERE $sae IN ['', f.sae] RETURN count(f)")
    """
    for condition in _conditions_of_matches(list(tokens_of(cypher))):
        for term in _terms(condition):
            if any(t.kind == "parameter" for t in term) and not _has_variable(term):
                first, last = term[0].start, term[-1].start + len(term[-1].text)
                text = cypher.replace("\r\n", "\n")[first:last]
                raise QueryFailed(
                    f"The embedded store ignores the condition {text[:60]} of a MATCH, because it has no variable. "
                    f"Write it after the MATCH: WITH * WHERE {text[:60]}"
                )


def check_list_predicates(cypher: str) -> None:
    """Refuse a list predicate whose condition uses another variable than its own, or none.

    Parameters
    ----------
    cypher
        The query.

    Raises
    ------
    QueryFailed
        If it has such a condition. The message states what works.

    Examples
    --------
    >>> check_list_predicates("MATCH (t:Token) WHERE any(x IN ['a', 'b'] WHERE x = 'a') RETURN count(t)")
    """
    tokens = list(tokens_of(cypher))
    for at, token in enumerate(tokens[:-3]):
        if token.word not in _LIST_PREDICATES | _LIST_FUNCTIONS or tokens[at + 1].text != "(":
            continue
        call = tokens[at + 1 :]
        call = call[: _closing(call) + 1]
        own, condition = _lambda(call)
        names = {t.text for t in _variables(condition)}
        if condition and names != {own}:
            raise QueryFailed(
                f"The embedded store computes {token.text}(…) wrongly if its condition does not use its own variable "
                f"{own} alone. Write UNWIND list AS {own} WITH DISTINCT … WHERE … instead."
            )


def check_subqueries(cypher: str) -> None:
    """Refuse ``NOT EXISTS`` and ``COUNT`` subqueries whose condition uses a variable from outside.

    ``EXISTS`` as a term of a conjunction in ``WHERE`` is right, and accepted.

    Parameters
    ----------
    cypher
        The query.

    Raises
    ------
    QueryFailed
        If it has such a subquery. The message states what works.

    Examples
    --------
    >>> check_subqueries("MATCH (f:Feature) WHERE EXISTS { MATCH (f)-->(g) WHERE g.sae = f.sae } RETURN f.id")
    """
    tokens = list(tokens_of(cypher))
    right = {term[0].start for term in _exists_terms(tokens)}
    for at, (token, brace) in enumerate(pairwise(tokens)):
        if token.word not in ("EXISTS", "COUNT") or brace.text != "{" or token.start in right:
            continue
        body = tokens[at + 1 :]
        body = body[: _closing(body) + 1]
        outside = {t.text for t in _variables(_without_subqueries(tokens[:at]))}
        if found := [n for n in _names_in_conditions(body) if n in outside]:
            raise QueryFailed(
                f"The embedded store computes this {token.word} {{…}} wrongly, because its condition uses {found[0]}, "
                "which is defined outside of it. Write OPTIONAL MATCH … WHERE …, then count the matches in WITH."
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


def _conditions_of_matches(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the condition of each ``MATCH … WHERE``, at any depth."""
    clauses = [""]  # at each depth, the last clause before the token
    for at, token in enumerate(tokens):
        if token.text in _OPEN:
            clauses.append("MATCH" if token.text == "{" else "")  # EXISTS { (a)-->(b) WHERE … }
        elif token.text in _CLOSE and len(clauses) > 1:
            clauses.pop()
        elif token.word in _PROJECTIONS | {"MATCH", "UNWIND", "CALL"}:
            if token.word != "WITH" or tokens[at - 1].word not in ("STARTS", "ENDS"):
                clauses[-1] = token.word
        elif token.word == "WHERE" and clauses[-1] == "MATCH":
            yield _to_next_clause(tokens[at + 1 :])


def _to_next_clause(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens up to the next clause of the same depth."""
    depth, clause = 0, list[Token]()
    for before, token in zip([None, *tokens], tokens, strict=False):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        is_operator = before is not None and before.word in ("STARTS", "ENDS")
        is_clause = token.word in _PROJECTIONS | _OTHER_CLAUSES and not is_operator
        if depth < 0 or (not depth and is_clause):
            break
        clause.append(token)
    return clause


def _terms(condition: Sequence[Token]) -> Iterator[list[Token]]:
    """Split a conjunction at each ``AND``, also inside parentheses around it."""
    depth, term, terms = 0, list[Token](), list[list[Token]]()
    is_conjunction = True
    for token in condition:
        depth += token.text in _OPEN or token.word == "CASE"
        depth -= token.text in _CLOSE or token.word == "END"
        is_conjunction &= bool(depth) or token.word not in ("OR", "XOR")
        if not depth and token.word == "AND":
            terms.append(term)
            term = []
        else:
            term.append(token)
    for each in [*terms, term] if is_conjunction else [list(condition)]:
        if len(each) > 1 and each[0].text == "(" and _closing(each) == len(each) - 1:
            yield from _terms(each[1:-1])
        elif each:
            yield each


def _closing(tokens: Sequence[Token]) -> int:
    """Return the position of the bracket that closes the first one."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if not depth:
            return at
    return -1


def _has_variable(term: Sequence[Token]) -> bool:
    """Return whether an expression uses a variable other than those of its list predicates."""
    own = {
        term[at + 2].text
        for at in range(len(term) - 2)
        if term[at].word in _LIST_PREDICATES and term[at + 1].text == "("
    }
    return any(token.text not in own for token in _variables(term))


def _variables(expression: Sequence[Token]) -> Iterator[Token]:
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


def _lambda(call: Sequence[Token]) -> tuple[str, list[Token]]:
    """Return the variable and the condition of ``(x IN list WHERE condition)`` or ``(list, x -> condition)``."""
    depth = 0
    for at, token in enumerate(call):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 1 and token.word == "WHERE":
            return call[1].text, list(call[at + 1 : -1])
        if depth == 1 and token.text == "-" and call[at + 1].text == ">":
            return call[at - 1].text, list(call[at + 2 : -1])
    return "", []


def _exists_terms(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield each ``EXISTS {…}`` that is a term of a ``WHERE``."""
    parts = [
        term
        for at, token in enumerate(tokens)
        if token.word == "WHERE"
        for term in _terms(_to_next_clause(tokens[at + 1 :]))
    ]
    for part in parts:
        is_exists = len(part) > 1 and part[0].word == "EXISTS" and part[1].text == "{"
        if is_exists and _closing(part[1:]) == len(part) - 2:
            yield part


def _names_in_conditions(body: Sequence[Token]) -> Iterator[str]:
    """Yield the variables that the conditions and the maps of a subquery use."""
    for at, token in enumerate(body):
        if token.word == "WHERE":
            yield from (t.text for t in _variables(_to_next_clause(body[at + 1 :])))
        elif token.text == "{" and at and body[at - 1].word not in ("EXISTS", "COUNT"):
            inside = body[at : at + _closing(body[at:])]  # {name: value} in a pattern
            yield from (value.text for colon, value in pairwise(inside) if colon.text == ":")


def _without_subqueries(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens without the subqueries that end in them."""
    found, at = list[Token](), 0
    while at < len(tokens):
        closing = _closing(tokens[at:]) if tokens[at].text == "{" else -1
        if closing > 0:
            at += closing
        else:
            found.append(tokens[at])
        at += 1
    return found


def _projections(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each ``WITH`` and ``RETURN``, at any depth, without the keyword.

    Its end is the next clause of the same depth, or the end of its subquery.
    """
    for at, token in enumerate(tokens):
        if token.word not in _PROJECTIONS or (at and tokens[at - 1].word in ("STARTS", "ENDS")):
            continue
        yield _to_next_clause(tokens[at + 1 :])


def _items(clause: Sequence[Token]) -> Iterator[tuple[list[Token], bool]]:
    """Yield the expressions of a projection and its ``ORDER BY``, and whether each is projected."""
    depth, item, projected = 0, list[Token](), True
    for token in clause:
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        is_name = bool(item) and (item[-1].word == "AS" or item[-1].text == ".")
        ends = not depth and token.word in _AFTER_ITEMS and not is_name
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
