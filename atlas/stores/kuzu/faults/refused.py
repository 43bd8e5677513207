"""Faults of the embedded engine: queries that kuzu 0.11.3 answers wrongly are refused.

- In a grouped ``WITH`` or ``RETURN``, an aggregate that follows one with ``DISTINCT`` is not
  computed: counts are 0, and other values are null.
- In ``MATCH … WHERE``, a condition of parameters and constants alone is ignored.
- Lists with nulls, and ``any``, ``all``, ``none`` and ``single``: see ``refused_lists``.
- Rows are wrong where the ``WHERE`` of ``NOT EXISTS {…}`` or ``COUNT {…}`` uses a variable from outside.
- Aggregates are wrong in a projection with ``COUNT {…}`` that follows a ``WITH`` with an aggregate.
- A grouped or distinct edge of a pattern without an arrow is counted twice, once for each direction.
- A condition of ``OPTIONAL MATCH`` or ``EXISTS {…}`` that may be true for a null from outside finds no match.

``tests/stores/test_kuzu_faults.py`` shows them, and fails when the engine has been fixed. Faults that a rewritten
query avoids are in ``rewrites``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from atlas import schema
from atlas.errors import QueryFailed
from atlas.stores import Param
from atlas.stores.cypher import Token, tokens_of
from atlas.stores.kuzu.faults.aggregates import calls, distinct_last, late_aggregate
from atlas.stores.kuzu.faults.clauses import (
    all_clauses,
    clauses,
    projection,
    projections,
    subqueries,
)
from atlas.stores.kuzu.faults.edits import NO_PARAMS
from atlas.stores.kuzu.faults.expressions import (
    CLOSE,
    LIST_PREDICATES,
    OPEN,
    as_typed,
    closing,
    groups,
    has_all_brackets,
    terms,
    variables,
)
from atlas.stores.kuzu.faults.patterns import (
    Match,
    Scope,
    matches,
    maybe_null,
    undirected,
    uses_outside,
)
from atlas.stores.kuzu.faults.refused_lists import check_lists
from atlas.stores.kuzu.faults.trails import check_trails

__all__ = ["check_faults"]

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
        A query that ``atlas.stores.cypher.checked`` accepts.
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
    if not has_all_brackets(tokens):
        return  # the engine refuses it, and its message has the position
    _check_aggregates(tokens)
    _check_conditions(tokens, text)
    _check_subqueries(tokens)
    _check_counts(tokens)
    check_lists(tokens, params)
    _check_undirected(tokens)
    for match in matches(tokens):
        check_trails(match, tokens)
        _check_maps(match)
        _check_nulls(match, text)


def _check_aggregates(tokens: Sequence[Token]) -> None:
    """Refuse an aggregate after a ``DISTINCT`` one in a grouped projection, unless ``rewrites`` moves it."""
    is_union = any(token.word == "UNION" for token in tokens)
    for each in projections(tokens):
        late = late_aggregate(each)
        if late and (is_union or not distinct_last(each)):
            raise QueryFailed(
                f"The embedded store computes {late.lower()}(…) wrongly after an aggregate with DISTINCT in the "
                "same WITH or RETURN. Write the aggregates with DISTINCT last, or name each item with AS."
            )


def _check_undirected(tokens: Sequence[Token]) -> None:
    """Refuse groups by an edge of a pattern without an arrow, unless its nodes are in the groups."""
    edges = dict(undirected(tokens))
    for each in projections(tokens):
        items = each.items
        if not each.is_distinct and not any(list(calls(item)) for item in items):
            continue
        names = {item[0].text for item in items if len(item) == 1}
        for edge, nodes in edges.items():
            if edge in names and (len(nodes) < 2 or not names.issuperset(nodes)):
                raise QueryFailed(
                    f"The embedded store counts the edge {edge} twice in this group, because its pattern has no arrow. "
                    f"Write the pattern with an arrow, or add both nodes of {edge} to the group."
                )


def _check_conditions(tokens: Sequence[Token], text: str) -> None:
    """Refuse a condition of parameters alone in ``MATCH … WHERE``."""
    for match in matches(tokens):
        for term in terms(match.condition):
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
        inside = next(subqueries(tokens[at:])).inside
        outside = {t.text for t in variables(_without_subqueries(tokens[:at]))}
        if found := [n for n in _names_in_conditions(inside) if n in outside]:
            raise QueryFailed(
                f"The embedded store computes this {token.word} {{…}} wrongly, because its condition uses {found[0]}, "
                "which is defined outside of it. Write OPTIONAL MATCH … WHERE …, then count the matches in WITH."
            )


def _check_counts(tokens: Sequence[Token]) -> None:
    """Refuse ``COUNT {…}`` next to an aggregate in a projection after a ``WITH`` with an aggregate.

    On 3,000 nodes, a sum was 11 instead of 56.
    """
    is_grouped = False
    for clause in clauses(tokens):
        if clause.word == "UNION":
            is_grouped = False
        if clause.word not in ("WITH", "RETURN"):
            continue
        items = projection(clause).items
        has_aggregate = any(list(calls(_without_subqueries(item))) for item in items)
        has_count = any(sub.keyword.word == "COUNT" for sub in subqueries(clause.body))
        if is_grouped and has_aggregate and has_count:
            raise QueryFailed(
                "The embedded store computes aggregates wrongly next to this COUNT {…}, because a WITH before it "
                "has an aggregate. Compute the COUNT {…} in a WITH of its own: WITH *, COUNT {…} AS c"
            )
        is_grouped = is_grouped or has_aggregate


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
    for clause in all_clauses(tokens):
        for term in terms(clause.condition):
            is_exists = len(term) > 1 and term[0].word == "EXISTS" and term[1].text == "{"
            if is_exists and closing(term[1:]) == len(term) - 2:
                yield term


def _names_in_conditions(subquery: Sequence[Token]) -> Iterator[str]:
    """Yield the variables that the conditions and the maps of a subquery use."""
    for clause in all_clauses(subquery):
        yield from (token.text for token in variables(clause.condition))
    for match in matches(subquery):
        yield from (token.text for *_, value in match.maps() for token in variables(value))


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
