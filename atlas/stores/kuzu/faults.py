"""Faults of the embedded engine: queries that kuzu 0.11.3 answers wrongly are refused.

- In a grouped ``WITH`` or ``RETURN``, an aggregate that follows one with ``DISTINCT`` is not
  computed: counts are 0, and other values are null.
- In ``MATCH … WHERE``, a condition of parameters and constants alone is ignored.
- Lists with nulls, and ``any``, ``all``, ``none`` and ``single``: see ``list_faults``.
- Rows are wrong where the ``WHERE`` of ``NOT EXISTS {…}`` or ``COUNT {…}`` uses a variable from outside.
- A grouped or distinct edge of a pattern without an arrow is counted twice, once for each direction.
- A condition of ``OPTIONAL MATCH`` or ``EXISTS {…}`` that may be true for a null from outside finds no match.

``tests/stores/test_kuzu_faults.py`` shows them, and fails when the engine has been mended. Faults that a rewritten
query avoids are in ``rewrites``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from atlas import schema
from atlas.errors import QueryFailed
from atlas.stores import Param
from atlas.stores.cypher import Token, tokens_of
from atlas.stores.kuzu.aggregates import calls, distinct_last, late_aggregate
from atlas.stores.kuzu.clauses import (
    CLOSE,
    LIST_PREDICATES,
    NO_PARAMS,
    OPEN,
    Match,
    Scope,
    as_typed,
    closing,
    groups,
    matches,
    maybe_null,
    terms,
    undirected,
    uses_outside,
    variables,
)
from atlas.stores.kuzu.list_faults import check_lists
from atlas.stores.kuzu.trails import check_trails

__all__ = ["check_faults"]

_PROJECTIONS = frozenset(["WITH", "RETURN"])
_OTHER_CLAUSES = frozenset(["MATCH", "OPTIONAL", "UNWIND", "CALL", "UNION", "WHERE"])
_AFTER_ITEMS = frozenset(["ORDER", "SKIP", "LIMIT"])


# These return a value or false, although an argument is null.
_NOT_STRICT = frozenset(
    [
        "ALL",
        "ANY",
        "COALESCE",
        "CONCAT",
        "CONCAT_WS",
        "CONSTANT_OR_NULL",
        "GREATEST",
        "HASH",
        "IFNULL",
        "LEAST",
        "LIST_CREATION",
        "NONE",
        "NULLIF",
        "SINGLE",
    ]
)


def check_faults(cypher: str, params: Mapping[str, Param] = NO_PARAMS) -> None:
    """Refuse a query that the embedded engine would answer wrongly.

    Parameters
    ----------
    cypher
        The query.
    params
        The values of its parameters; an unknown one is never null.

    Raises
    ------
    QueryFailed
        If the query has such a form. The message states a form that works.

    Examples
    --------
    >>> check_faults("MATCH (f:Feature) RETURN f.sae, count(f), count(DISTINCT f.dead)")
    >>> check_faults("MATCH (f:Feature) WHERE $sae IN ['', f.sae] RETURN count(f)")
    >>> check_faults("MATCH (t:Token) WHERE any(x IN ['a', 'b'] WHERE x = 'a') RETURN count(t)")
    >>> check_faults("MATCH (f:Feature) WHERE EXISTS { MATCH (f)-->(g) WHERE g.sae = f.sae } RETURN f.id")
    """
    text = cypher.replace("\r\n", "\n")
    tokens = list(tokens_of(text))
    _check_aggregates(tokens)
    _check_conditions(tokens, text)
    _check_subqueries(tokens)
    check_lists(tokens, params)
    _check_undirected(tokens)
    for match in matches(tokens):
        check_trails(match, tokens)
        _check_maps(match)
        _check_nulls(match, text)


def _check_aggregates(tokens: Sequence[Token]) -> None:
    """Refuse an aggregate after a ``DISTINCT`` one in a grouped projection, unless ``rewrites`` moves it."""
    is_union = any(token.word == "UNION" for token in tokens)
    for clause in _projections(tokens):
        found = list(_items(clause))
        items = [item for item, projected in found if projected]
        order = [item for item, projected in found if not projected]
        late = late_aggregate(items, order)
        if late and (is_union or not distinct_last(items, order)):
            raise QueryFailed(
                f"The embedded store computes {late.lower()}(…) wrongly after an aggregate with DISTINCT in the "
                "same WITH or RETURN. Write the aggregates with DISTINCT last, or name each item with AS."
            )


def _check_undirected(tokens: Sequence[Token]) -> None:
    """Refuse groups by an edge of a pattern without an arrow, unless its nodes are in the groups."""
    edges = dict(undirected(tokens))
    for clause in _projections(tokens):
        items = [item for item, projected in _items(clause) if projected and item]
        is_distinct = bool(items) and items[0][0].word == "DISTINCT"
        if not is_distinct and not any(list(calls(item)) for item in items):
            continue
        names = {item[-1].text for item in items if len(item) == 1 + (item[0].word == "DISTINCT")}
        for edge in names & set(edges):
            if len(edges[edge]) < 2 or not names.issuperset(edges[edge]):
                raise QueryFailed(
                    f"The embedded store counts the edge {edge} twice in this group, because its pattern has no arrow. "
                    f"Write the pattern with an arrow, or add both nodes of {edge} to the group."
                )


def _check_conditions(tokens: Sequence[Token], text: str) -> None:
    """Refuse a condition of parameters alone in ``MATCH … WHERE``."""
    for condition in _conditions_of_matches(tokens):
        for term in terms(condition):
            if any(t.kind == "parameter" for t in term) and not _has_variable(term):
                written = _written(term, text)
                raise QueryFailed(
                    f"The embedded store ignores the condition {written} of a MATCH, because it has no variable. "
                    f"Write it after the MATCH: WITH * WHERE {written}"
                )


def _check_subqueries(tokens: Sequence[Token]) -> None:
    """Refuse ``NOT EXISTS`` and ``COUNT`` subqueries whose condition uses a variable from outside.

    ``EXISTS`` as a term of a conjunction in ``WHERE`` is right, and accepted.
    """
    right = {term[0].start for term in _exists_terms(tokens)}
    for at, (token, brace) in enumerate(pairwise(tokens)):
        if token.word not in ("EXISTS", "COUNT") or brace.text != "{" or token.start in right:
            continue
        body = tokens[at + 1 :]
        body = body[: closing(body) + 1]
        outside = {t.text for t in variables(_without_subqueries(tokens[:at]))}
        if found := [n for n in _names_in_conditions(body) if n in outside]:
            raise QueryFailed(
                f"The embedded store computes this {token.word} {{…}} wrongly, because its condition uses {found[0]}, "
                "which is defined outside of it. Write OPTIONAL MATCH … WHERE …, then count the matches in WITH."
            )


def _check_maps(match: Match) -> None:
    """Refuse a map with a variable in a pattern without a name, because its nulls cannot be excluded."""
    for owner, name, value in match.maps():
        used = [t.text for t in variables(value)]
        if not owner and used:
            raise QueryFailed(
                f"The embedded store loses rows of a pattern with {{{name}: {used[0]}…}} if a value is null. Give the "
                f"node or edge a name, such as (x {{{name}: …}})."
            )


def _check_nulls(match: Match, text: str) -> None:
    """Refuse a condition of ``OPTIONAL MATCH`` or ``EXISTS`` that may be true for a null from outside."""
    if match.kind not in ("OPTIONAL", "EXISTS"):
        return
    clause = "OPTIONAL MATCH" if match.kind == "OPTIONAL" else "EXISTS {…}"
    null = [name for name in match.bound if maybe_null(match.before[name])]
    if null and len(match.bound) > 1 and uses_outside(match):
        raise QueryFailed(
            f"The embedded store answers this {clause} wrongly, because {null[0]} may be null and the condition uses "
            f"a variable from outside. Write WITH * WHERE {null[0]} IS NOT NULL before it, or a condition of its "
            "own variables."
        )
    for term in terms(match.condition):
        for token, following in pairwise(term):
            if match.before.get(token.text) in ("node", "edge", "maybe") and following.word == "IS":
                raise QueryFailed(
                    f"The embedded store answers {_written(term, text)} in {clause} wrongly. Use a property of "
                    f"{token.text}, or write the condition in a WHERE before it."
                )
        if name := _open_to_null(term, match.before):
            written, value = _written(term, text), _constant(name)
            raise QueryFailed(
                f"The embedded store finds no match for {written} in {clause} if {name} is null. Compute what may be "
                f"null before it, such as WITH *, coalesce({name}, {value}) AS x, then write x instead of {name}."
            )


def _open_to_null(term: Sequence[Token], before: Scope) -> str:
    """Return what from outside may make a term true if it is null, as typed; empty if there is nothing."""
    for name, bracket, group in groups(term):
        if bracket == "{" or name in ("EXISTS", "COUNT"):
            continue
        words = [t.word for t in _outermost(group)]
        is_test = words[-3:] == ["IS", "NOT", "NULL"] and "NOT" not in [t.word for t in term][:-3]
        is_open = (
            bracket == "["
            or name in _NOT_STRICT
            or not {"OR", "AND", "CASE"}.isdisjoint(words)
            or ("IS" in words and not is_test)
        )
        used = _without_subqueries(group)
        inside = [t for t in variables(used) if before.get(t.text, "known") != "known"]
        if is_open and inside:
            return _with_property(inside[0], used)
    return ""


def _with_property(variable: Token, expression: Sequence[Token]) -> str:
    """Return ``name.property`` for a variable with a property, otherwise its name."""
    at = next(i for i, token in enumerate(expression) if token.start == variable.start)
    following = [t.text for t in expression[at + 1 : at + 3]]
    return variable.text + "".join(following if following[:1] == ["."] else [])


def _constant(name: str) -> str:
    """Return a constant of the type of a property; ``false`` if its type is unknown."""
    _, _, property_ = name.partition(".")
    types = {p.type for table in schema.TABLES for p in table.properties if p.name == property_}
    return next((c for c, of in _CONSTANTS.items() if types & of), "false")


_CONSTANTS = {"false": {"bool"}, "0": {"int64", "double"}, "''": {"string"}}


def _outermost(group: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens of an expression that are in no bracket."""
    depth = 0
    for token in group:
        depth -= token.text in CLOSE
        if not depth and token.text not in CLOSE:
            yield token
        depth += token.text in OPEN


def _written(term: Sequence[Token], text: str) -> str:
    """Return the first characters of a term as its author wrote it."""
    return as_typed(term, text)[:60]


def _conditions_of_matches(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the condition of each ``MATCH … WHERE``, at any depth."""
    clauses = [""]  # at each depth, the last clause before the token
    for at, token in enumerate(tokens):
        if token.text in OPEN:
            clauses.append("MATCH" if token.text == "{" else "")  # EXISTS { (a)-->(b) WHERE … }
        elif token.text in CLOSE and len(clauses) > 1:
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
        depth += (token.text in OPEN) - (token.text in CLOSE)
        is_operator = before is not None and before.word in ("STARTS", "ENDS")
        is_clause = token.word in _PROJECTIONS | _OTHER_CLAUSES and not is_operator
        if depth < 0 or (not depth and is_clause):
            break
        clause.append(token)
    return clause


def _has_variable(term: Sequence[Token]) -> bool:
    """Return whether an expression uses a variable other than those of its list predicates."""
    own = {
        term[at + 2].text
        for at in range(len(term) - 2)
        if term[at].word in LIST_PREDICATES and term[at + 1].text == "("
    }
    return any(token.text not in own for token in variables(term))


def _exists_terms(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield each ``EXISTS {…}`` that is a term of a ``WHERE``."""
    parts = [
        term
        for at, token in enumerate(tokens)
        if token.word == "WHERE"
        for term in terms(_to_next_clause(tokens[at + 1 :]))
    ]
    for part in parts:
        is_exists = len(part) > 1 and part[0].word == "EXISTS" and part[1].text == "{"
        if is_exists and closing(part[1:]) == len(part) - 2:
            yield part


def _names_in_conditions(body: Sequence[Token]) -> Iterator[str]:
    """Yield the variables that the conditions and the maps of a subquery use."""
    for at, token in enumerate(body):
        if token.word == "WHERE":
            yield from (t.text for t in variables(_to_next_clause(body[at + 1 :])))
        elif token.text == "{" and at and body[at - 1].word not in ("EXISTS", "COUNT"):
            inside = body[at : at + closing(body[at:])]  # {name: value} in a pattern
            yield from (value.text for colon, value in pairwise(inside) if colon.text == ":")


def _without_subqueries(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens without the subqueries that end in them."""
    found, at = list[Token](), 0
    while at < len(tokens):
        size = closing(tokens[at:]) if tokens[at].text == "{" else -1
        if size > 0:
            at += size
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
        depth += (token.text in OPEN) - (token.text in CLOSE)
        is_name = bool(item) and (item[-1].word == "AS" or item[-1].text == ".")
        ends = not depth and token.word in _AFTER_ITEMS and not is_name
        if ends or (not depth and token.text == ","):
            yield item, projected
            item, projected = [], projected and not ends
        else:
            item.append(token)
    yield item, projected
