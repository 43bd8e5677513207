"""Rewrites of queries for faults of the embedded engine: the rewritten query selects the rows that its author means.

kuzu 0.11.3 answers these forms wrongly, and the store writes each in a way that is right:

- One ``MATCH`` uses an edge again, as in ``(f)-[:E]-(g)-[:E]-(h)``; see ``trails``.
- Joins on an equality lose rows if a value is null, as in ``MATCH (f:Feature), (g:Feature) WHERE f.x = g.x``.
- A node that may be null gives wrong rows in a later pattern with a condition or with a second known node.
- ``COUNT {…}`` loses the nodes with count 0 if no property of the node is used.
- ``sum`` and ``collect`` of no values are null, not 0 and an empty list.
- ``CASE WHEN x THEN`` is wrong for most rows if ``x`` is a variable, a property or a ``CASE``.
- A condition ``coalesce(f.a, f.b)`` selects wrong rows next to a second condition.
- ``EXISTS { (f)-->(g) }`` without ``MATCH`` is an error.
- ``x CONTAINS ''`` is false.
- ``null + 'a'`` is ``'a'``, not null.
- ``x IN [f.a, f.b]`` compares a null in the list as if it were 0, an empty text or an older value.
- ``RETURN f.sae AS s, count(*) AS n ORDER BY count(*)`` is an error.
- ``-0.0`` is sorted before negative numbers.
- ``ORDER BY f.sae, f.idx`` ignores what follows a text in large tables, unless a text follows.

``tests/stores/test_kuzu_rewrites.py`` shows them, and fails when the engine has been fixed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from atlas import schema
from atlas.stores import Param
from atlas.stores.cypher import Token, tokens_of
from atlas.stores.kuzu.faults.aggregates import name_of
from atlas.stores.kuzu.faults.clauses import CLAUSES, returned
from atlas.stores.kuzu.faults.edits import NO_PARAMS, Edit, Query, Range, edited, insertion
from atlas.stores.kuzu.faults.expressions import (
    as_typed,
    can_end_operand,
    closing,
    end_of,
    has_all_brackets,
    is_own_variable,
    operand_after,
    operand_before,
    property_path,
    range_of,
    split,
    terms,
    variables,
)
from atlas.stores.kuzu.faults.patterns import (
    Match,
    matches,
    maybe_null,
    uses_outside,
    with_condition,
)
from atlas.stores.kuzu.faults.projection_rewrites import (
    empty_totals,
    final_texts,
    moved_aggregates,
    named_order,
    positive_zeros,
)
from atlas.stores.kuzu.faults.text_rewrites import contained_texts, joined_texts
from atlas.stores.kuzu.faults.trails import compared_edges

__all__ = ["headings", "rewritten", "typed_columns"]


def rewritten(cypher: str, params: Mapping[str, Param] = NO_PARAMS) -> str:
    """Return the query that the embedded engine runs.

    Parameters
    ----------
    cypher
        The query, without faults that ``refused.check_faults`` refuses. Its line ends become ``\\n``.
    params
        The values of its parameters. ``x CONTAINS $text`` is rewritten only if the text is empty or unknown.

    Examples
    --------
    >>> rewritten("MATCH (f:Feature) RETURN CASE WHEN f.dead THEN 1 END")
    'MATCH (f:Feature) RETURN CASE WHEN (f.dead) = true THEN 1 END'
    >>> rewritten("MATCH (f:Feature), (g:Feature) WHERE f.x = g.x RETURN f.id, g.id")
    'MATCH (f:Feature), (g:Feature) WHERE f.x IS NOT NULL AND g.x IS NOT NULL AND (f.x = g.x) RETURN f.id, g.id'
    """
    text = cypher.replace("\r\n", "\n")
    if not has_all_brackets(list(tokens_of(text))):
        return text
    steps: list[Callable[[Query], Iterable[Edit]]] = [
        named_order,
        moved_aggregates,
        joined_texts,
        contained_texts,
        _listed_values,
        _matched_subqueries,
        compared_edges,
        empty_totals,
        _known_keys,
        _guarded_counts,
        _compared_conditions,
        _compared_calls,
        positive_zeros,
        final_texts,
    ]
    for step in steps:
        text = edited(text, step(Query(text, params)))
    return text


def headings(cypher: str, names: Sequence[str]) -> list[str]:
    """Return the headings of the columns of a rewritten query: a column without ``AS`` has its author's text.

    Parameters
    ----------
    cypher
        The query of the author.
    names
        The headings from the engine.

    Examples
    --------
    >>> headings("MATCH (f:Feature) RETURN f.id AS id, f.text CONTAINS $t", ["id", "OR(…)"])
    ['id', 'f.text CONTAINS $t']
    """
    text = cypher.replace("\r\n", "\n")
    items = returned([token for token in tokens_of(text) if token.text != ";"])
    if len(items) != len(names) or any(item[0].text == "*" for item in items if item):
        return list(names)
    return [
        name
        if len(item) == 1
        or (item[1].text == "." and len(item) == 3)
        or "AS" in (t.word for t in item[-2:])
        else as_typed(item, text)
        for item, name in zip(items, names, strict=True)
    ]


def typed_columns(cypher: str, names: Sequence[str]) -> list[str]:
    """Return the columns of a rewritten query in the order of its ``RETURN``.

    Parameters
    ----------
    cypher
        The query of the author.
    names
        The columns from the engine.

    Examples
    --------
    >>> typed_columns("MATCH (f) RETURN count(DISTINCT f.x) AS n, f.sae AS s, max(f.x) AS m", ["s", "m", "n"])
    ['n', 's', 'm']
    """
    typed = [name_of(item) for item in returned(list(tokens_of(cypher)))]
    return typed if sorted(typed) == sorted(names) else list(names)


def _matched_subqueries(query: Query) -> Iterator[Edit]:
    """Write ``MATCH`` in each ``EXISTS { (a)-->(b) }`` and ``COUNT {…}`` that begins with its pattern."""
    for keyword, brace, following in zip(
        query.tokens, query.tokens[1:], query.tokens[2:], strict=False
    ):
        is_subquery = keyword.word in ("EXISTS", "COUNT") and brace.text == "{"
        if is_subquery and following.word not in CLAUSES:
            yield insertion(end_of(brace), " MATCH ")


def _known_keys(query: Query) -> Iterator[Edit]:
    """Exclude nulls before each join."""
    for match in matches(query.tokens):
        null = [name for name in match.bound if maybe_null(match.before[name])]
        if match.kind == "MATCH" and null and len(match.bound) > 1:
            known = " AND ".join(f"{name} IS NOT NULL" for name in null)
            yield insertion(match.start, f"WITH * WHERE {known} ")
        conditions = list(dict.fromkeys(f"{side} IS NOT NULL" for side in _join_keys(match)))
        if match.kind != "MATCH" and null and uses_outside(match):
            conditions += [f"id({name}) IS NOT NULL" for name in null]
        if conditions:
            yield from with_condition(match, " AND ".join(conditions))


def _join_keys(match: Match) -> Iterator[str]:
    """Yield both sides of each equality of two properties, in the condition and in maps."""
    for term in terms(match.condition):
        signs = [at for at, token in enumerate(term) if token.text == "="]
        if len(signs) == 1:
            one, other = property_path(term[: signs[0]]), property_path(term[signs[0] + 1 :])
            if one and other and one[0] != other[0]:
                yield from (".".join(side) for side in (one, other) if not _is_item(match, side))
    for owner, name, value in match.maps():
        if value and (side := property_path(value)) and side[0] != owner:
            yield from (f"{owner}.{name}", ".".join(side))


def _is_item(match: Match, side: Sequence[str]) -> bool:
    """Return whether one side of an equality is a node or an edge."""
    kind = {**match.before, **match.own}.get(side[0], "value")
    return len(side) == 1 and kind not in ("value", "known")


def _guarded_counts(query: Query) -> Iterator[Edit]:
    """Use a property of the nodes that a ``COUNT {…}`` begins from, so that the engine reads them."""
    tokens, keys = query.tokens, _keys(query.tokens)
    numbers = {token.start: at for at, token in enumerate(tokens)}
    for match in matches(tokens):
        if match.kind != "COUNT" or not match.bound:
            continue
        brace = numbers[match.brace]
        null = " OR ".join(
            f"{name}.`{keys[name]}` IS NULL" if name in keys else f"{name} IS NULL"
            for name in match.bound
        )
        yield insertion(tokens[brace - 1].start, f"CASE WHEN {null} THEN 0 ELSE ")
        yield insertion(end_of(tokens[brace + closing(tokens[brace:])]), " END")


def _keys(tokens: Sequence[Token]) -> dict[str, str]:
    """Return the key of each node that one pattern defines, with one label."""
    keys = {node.label: node.key for node in schema.NODES}
    labels: dict[str, set[str]] = {}
    for before, name, colon, label, after in zip(
        tokens, tokens[1:], tokens[2:], tokens[3:], tokens[4:], strict=False
    ):
        if before.text == "(" and name.name and colon.text == ":" and label.name:
            is_one = after.text not in ("|", ":", "&")
            labels.setdefault(name.text, set()).add(label.name if is_one else "")
    defined = [name for match in matches(tokens) for name in match.own]
    defined += [name.text for word, name in pairwise(tokens) if word.word == "AS"]
    return {
        name: keys[label]
        for name, (label, *others) in labels.items()
        if not others and label in keys and defined.count(name) == 1
    }


def _compared_conditions(query: Query) -> Iterator[Edit]:
    """Write each condition of ``CASE WHEN`` as ``(condition) = true``."""
    starts: list[
        int | None
    ] = []  # for each open CASE: where its condition starts; None if it has values
    for token, following in pairwise(query.tokens):
        if token.word == "CASE":
            starts.append(following.start if following.word == "WHEN" else None)
        elif token.word == "END" and starts:
            starts.pop()
        elif token.word == "WHEN" and starts and starts[-1] is not None:
            starts[-1] = following.start
        if following.word == "THEN" and starts and starts[-1] is not None:
            yield insertion(starts[-1], "(")
            yield insertion(end_of(token), ") = true")


_BOOLEAN = frozenset(["AND", "OR", "XOR"])


def _compared_calls(query: Query) -> Iterator[Edit]:
    """Write each condition that is ``coalesce(…)`` or a ``CASE`` as ``(condition) = true``."""
    tokens = query.tokens
    for at, token in enumerate(tokens[:-1]):
        if token.word not in ("COALESCE", "IFNULL", "CASE"):
            continue
        first, last = at, operand_after(tokens, at)
        start, end = token.start, end_of(tokens[last])
        while first and tokens[first - 1].text == "(":
            first -= 1
        while last + 1 < len(tokens) and tokens[last + 1].text == ")":
            last += 1
        before = tokens[first - 1].word if first else ""
        after = tokens[last + 1] if last + 1 < len(tokens) else None
        ends = after is None or after.text == "}" or after.word in _BOOLEAN | CLAUSES
        if before in _BOOLEAN | {"WHERE", "NOT"} and ends:
            yield insertion(start, "(")
            yield insertion(end, ") = true")


def _listed_values(query: Query) -> Iterator[Edit]:
    """Write each ``x IN [f.a, f.b]`` as ``(x = (f.a) OR x = (f.b))``."""
    tokens = query.tokens
    for at in range(1, len(tokens) - 1):
        if tokens[at].word != "IN" or tokens[at + 1].text != "[" or is_own_variable(tokens, at):
            continue
        if not can_end_operand(tokens, at - 1):
            continue
        size = closing(tokens[at + 1 :])
        values = split(tokens[at + 2 : at + 1 + size])
        if size < 0 or not any(_may_be_null(value, query.params) for value in values):
            continue
        first = operand_before(tokens, at - 1)
        has_sign = first > 1 and tokens[first - 1].text == "-"
        if has_sign and not can_end_operand(tokens, first - 2):
            first -= 1
        parts: list[str | Range] = []
        for value in filter(None, values):
            parts += [" OR ", range_of(tokens[first:at]), " = (", range_of(value), ")"]
        yield Edit(tokens[first].start, end_of(tokens[at + 1 + size]), ["(", *parts[1:], ")"])


def _may_be_null(value: Sequence[Token], params: Mapping[str, Param]) -> bool:
    """Return whether a value of a list has a variable, or may be null otherwise."""
    null = (t.word == "NULL" or params.get(t.text[1:], "") is None for t in value)
    return any(null) or any(True for _ in variables(value))
