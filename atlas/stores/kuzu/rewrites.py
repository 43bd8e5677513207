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

``tests/stores/test_kuzu_rewrites.py`` shows them, and fails when the engine has been mended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise

from atlas import schema
from atlas.stores import Param
from atlas.stores.cypher import Token, tokens_of
from atlas.stores.kuzu.aggregates import distinct_last, late_aggregate, name_of
from atlas.stores.kuzu.clauses import (
    CLAUSES,
    CLOSE,
    NO_PARAMS,
    OPEN,
    Match,
    as_typed,
    closing,
    is_own_variable,
    kind_of,
    matches,
    maybe_null,
    opening,
    operand_after,
    orders,
    projections,
    results_of_case,
    returned,
    split,
    terms,
    uses_outside,
    variables,
)
from atlas.stores.kuzu.trails import compared_edges

__all__ = ["headings", "rewritten", "typed_columns"]

Insertion = tuple[int, str]
"""A position in the text, and what is inserted there."""


def rewritten(cypher: str, params: Mapping[str, Param] = NO_PARAMS) -> str:
    """Return the query that the embedded engine runs.

    Parameters
    ----------
    cypher
        The query, without faults that ``faults.check_faults`` refuses. Its line ends become ``\\n``.
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
    for replacement in (
        _named_order,
        _moved_aggregates,
        _joined_texts,
        _contained_text,
        _listed_values,
    ):
        while found := replacement(text, list(tokens_of(text)), params):
            start, end, written = found
            text = f"{text[:start]}{written}{text[end:]}"
    steps: list[Callable[[str, Sequence[Token]], Iterator[Insertion]]] = [
        _matched_subqueries,
        compared_edges,
        _empty_totals,
        _known_keys,
        _guarded_counts,
        _compared_conditions,
        _compared_calls,
        _positive_zeros,
        _final_texts,
    ]
    for step in steps:
        insertions = list(step(text, list(tokens_of(text))))
        # Stable: insertions at one position stay in the order in which they were found.
        for at, inserted in sorted(insertions, key=lambda each: each[0])[::-1]:
            text = f"{text[:at]}{inserted}{text[at:]}"
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


def _matched_subqueries(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Write ``MATCH`` in each ``EXISTS { (a)-->(b) }`` and ``COUNT {…}`` that begins with its pattern."""
    for token, brace, following in zip(tokens, tokens[1:], tokens[2:], strict=False):
        is_subquery = token.word in ("EXISTS", "COUNT") and brace.text == "{"
        if is_subquery and (following.text == "(" or following.word not in CLAUSES):
            yield brace.start + 1, " MATCH "


_EMPTY = {"SUM": "0", "COLLECT": "[]"}


def _empty_totals(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Write each ``sum(x)`` as ``coalesce(sum(x), 0)`` and each ``collect(x)`` as ``coalesce(collect(x), [])``."""
    for at, (token, following) in enumerate(pairwise(tokens)):
        if token.word not in _EMPTY or following.text != "(":
            continue
        last = at + 1 + closing(tokens[at + 1 :])
        around = [
            t.word or t.text for t in (*tokens[max(at - 2, 0) : at], *tokens[last + 1 : last + 4])
        ]
        if last > at and around != ["COALESCE", "(", ",", "0", ")"]:
            yield token.start, "coalesce("
            yield tokens[last].start + 1, f", {_EMPTY[token.word]})"


def _known_keys(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Exclude nulls before each join."""
    for match in matches(tokens):
        null = [name for name in match.bound if maybe_null(match.before[name])]
        if match.kind == "MATCH" and null and len(match.bound) > 1:
            known = " AND ".join(f"{name} IS NOT NULL" for name in null)
            yield match.start, f"WITH * WHERE {known} "
        conditions = list(dict.fromkeys(f"{side} IS NOT NULL" for side in _join_keys(match)))
        if match.kind != "MATCH" and null and uses_outside(match):
            conditions += [f"id({name}) IS NOT NULL" for name in null]
        if not conditions:
            continue
        if match.condition:
            yield match.condition[0].start, f"{' AND '.join(conditions)} AND ("
            yield match.end, ")"
        else:
            yield match.end, f" WHERE {' AND '.join(conditions)}"


def _join_keys(match: Match) -> Iterator[str]:
    """Yield both sides of each equality of two properties, in the condition and in maps."""
    for term in terms(match.condition):
        signs = [at for at, token in enumerate(term) if token.text == "="]
        if len(signs) == 1:
            one, other = _path(term[: signs[0]]), _path(term[signs[0] + 1 :])
            if one and other and one[0] != other[0]:
                yield from (".".join(side) for side in (one, other) if not _is_item(match, side))
    for owner, name, value in match.maps():
        if value and (side := _path(value)) and side[0] != owner:
            yield from (each for each in (f"{owner}.{name}", ".".join(side)))


def _is_item(match: Match, side: Sequence[str]) -> bool:
    """Return whether one side of an equality is a node or an edge."""
    kind = {**match.before, **match.own}.get(side[0], "value")
    return len(side) == 1 and kind not in ("value", "known")


def _path(side: Sequence[Token]) -> list[str]:
    """Return the parts of ``name`` or ``name.property``; none for any other expression."""
    while len(side) > 2 and side[0].text == "(" and closing(side) == len(side) - 1:
        side = side[1:-1]
    names = [
        t.text for t in side[::2] if t.name is not None and t.word not in ("TRUE", "FALSE", "NULL")
    ]
    dots = all(t.text == "." for t in side[1::2])
    return names if dots and len(side) in (1, 3) and len(names) == len(side[::2]) else []


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


def _guarded_counts(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Use a property of the nodes that a ``COUNT {…}`` begins from, so that the engine reads them."""
    keys = _keys(tokens)
    for match in matches(tokens):
        if match.kind != "COUNT" or not match.bound:
            continue
        brace = next(at for at, token in enumerate(tokens) if token.start == match.brace)
        end = tokens[brace + closing(tokens[brace:])]
        null = " OR ".join(
            f"{name}.`{keys[name]}` IS NULL" if name in keys else f"{name} IS NULL"
            for name in match.bound
        )
        yield tokens[brace - 1].start, f"CASE WHEN {null} THEN 0 ELSE "
        yield end.start + 1, " END"


def _compared_conditions(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Write each condition of ``CASE WHEN`` as ``(condition) = true``."""
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


_BOOLEAN = frozenset(["AND", "OR", "XOR"])


def _compared_calls(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Write each condition that is ``coalesce(…)`` or a ``CASE`` as ``(condition) = true``."""
    for at, token in enumerate(tokens[:-1]):
        if token.word not in ("COALESCE", "IFNULL", "CASE"):
            continue
        first, last = at, operand_after(tokens, at)
        start, end = token.start, tokens[last].start + len(tokens[last].text)
        while first and tokens[first - 1].text == "(":
            first -= 1
        while last + 1 < len(tokens) and tokens[last + 1].text == ")":
            last += 1
        before = tokens[first - 1].word if first else ""
        after = tokens[last + 1] if last + 1 < len(tokens) else None
        ends = after is None or after.text == "}" or after.word in _BOOLEAN | CLAUSES
        if before in _BOOLEAN | {"WHERE", "NOT"} and ends:
            yield start, "("
            yield end, ") = true"


def _may_be_null(value: Sequence[Token], params: Mapping[str, Param]) -> bool:
    """Return whether a value of a list has a variable, or may be null otherwise."""
    null = (t.word == "NULL" or params.get(t.text[1:], "") is None for t in value)
    return any(null) or any(True for _ in variables(value))


_SAME_LENGTH = frozenset(["TOLOWER", "TOUPPER", "LOWER", "UPPER", "LCASE", "UCASE"])


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


def _contained_text(
    text: str, tokens: Sequence[Token], params: Mapping[str, Param]
) -> tuple[int, int, str] | None:
    """Return where an innermost ``x CONTAINS y`` is, and ``(contains(x, y) OR x STARTS WITH y)``.

    The second form is true for an empty ``y``. A text of one or more characters stays as it is.
    """
    found = []
    for at, token in enumerate(tokens[:-1]):
        if token.word != "CONTAINS" or not at or tokens[at - 1].text in (".", ":", "("):
            continue
        first, last = _operand_before(tokens, at - 1), operand_after(tokens, at + 1)
        if _may_be_empty(tokens[at + 1 : last + 1], params):
            found.append((first, at, last))
    for first, at, last in found:
        if any(first <= other <= last for _, other, _ in found if other != at):
            continue
        start, end = tokens[first].start, tokens[last].start + len(tokens[last].text)
        left, right = text[start : tokens[at].start].strip(), text[tokens[at + 1].start : end]
        return start, end, f"(contains({left}, {right}) OR {left} STARTS WITH {right})"
    return None


_DIRECTIONS = frozenset(["ASC", "DESC", "ASCENDING", "DESCENDING"])


def _named_order(
    text: str, tokens: Sequence[Token], params: Mapping[str, Param]
) -> tuple[int, int, str] | None:
    """Return where a value of ``ORDER BY`` repeats an expression with ``AS``, and the name of the expression."""
    for projection, order in zip(projections(tokens), orders(tokens), strict=True):
        names = {
            tuple(t.text for t in item[:-2]): item[-1].text
            for item in projection[: len(projection) - len(order)]
            if len(item) > 3 and item[-2].word == "AS"
        }
        for value in order:
            repeated = value[:-1] if value and value[-1].word in _DIRECTIONS else value
            if name := names.get(tuple(t.text for t in repeated)):
                return repeated[0].start, _end(repeated[-1]), name
    return None


def _moved_aggregates(
    text: str, tokens: Sequence[Token], params: Mapping[str, Param]
) -> tuple[int, int, str] | None:
    """Return where an aggregate follows one with ``DISTINCT``, and the items with the latter at their end."""
    for projection, order in zip(projections(tokens), orders(tokens), strict=True):
        items = projection[: len(projection) - len(order)]
        if late_aggregate(items, order) and (moved := distinct_last(items, order)):
            written = ", ".join(as_typed(item, text) for item in moved)
            return items[0][0].start, _end(items[-1][-1]), written
    return None


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
_GUARD = ["THEN", "(", "NULL", ")", "ELSE"]


def _joined_texts(
    text: str, tokens: Sequence[Token], params: Mapping[str, Param]
) -> tuple[int, int, str] | None:
    """Return where an innermost sum of texts ``x + y`` is, and the sum with a test for null before it.

    Sums of variables and properties alone are also guarded, because their type is unknown.
    """
    found = []
    for at, token in enumerate(tokens[:-1]):
        if token.text != "+" or not at or tokens[at - 1].text in ("(", "[", ",", "="):
            continue
        first = _operand_before(tokens, at - 1)
        is_later = first and tokens[first - 1].text in ("+", "-", "*", "/", "%", "^")
        if is_later or [t.word or t.text for t in tokens[max(first - 5, 0) : first]] == _GUARD:
            continue
        operands, last = [tokens[first:at]], at - 1
        while last + 2 < len(tokens) and tokens[last + 1].text == "+":
            start = last + 2
            last = operand_after(tokens, start)
            operands.append(tokens[start : last + 1])
        after = tokens[last + 1].text if last + 1 < len(tokens) else ""
        null = [o for o in operands if _may_be_null_text(o, params)]
        if null and after not in ("-", "*", "/", "%", "^") and _are_texts(operands, params):
            found.append((first, last, null))
    for first, last, null in found:
        if any(first <= other <= last and other != first for other, _, _ in found):
            continue
        tests = " OR ".join(f"{as_typed(operand, text)} IS NULL" for operand in null)
        start, end = tokens[first].start, _end(tokens[last])
        return start, end, f"(CASE WHEN {tests} THEN (NULL) ELSE {text[start:end]} END)"
    return None


@cache
def _numbers() -> frozenset[str]:
    """Return the names of properties that are numbers in each table."""
    kinds = [(p.name, p.type in ("int64", "double")) for t in schema.TABLES for p in t.properties]
    return frozenset(n for n, is_number in kinds if is_number) - {n for n, is_ in kinds if not is_}


def _are_texts(operands: Sequence[Sequence[Token]], params: Mapping[str, Param]) -> bool:
    """Return whether the values of a sum may be texts or lists."""
    if any(_path(operand)[1:2] and _path(operand)[1] in _numbers() for operand in operands):
        return False
    numbers = {f"${name}" for name, value in params.items() if isinstance(value, int | float)}
    return all(
        _path(o) or (o[0].kind == "parameter" and o[0].text not in numbers) for o in operands
    ) or any(
        operand[0].text == "["
        or operand[0].word in _TEXT_FUNCTIONS
        or any(token.kind == "string" for token in operand)
        for operand in operands
    )


def _may_be_null_text(operand: Sequence[Token], params: Mapping[str, Param]) -> bool:
    if operand[0].kind == "parameter" and len(operand) == 1:
        return params.get(operand[0].text[1:]) is None
    return operand[0].text != "[" and kind_of(operand) != "known"


def _end(token: Token) -> int:
    return token.start + len(token.text)


def _listed_values(
    text: str, tokens: Sequence[Token], params: Mapping[str, Param]
) -> tuple[int, int, str] | None:
    """Return where the last ``x IN [f.a, f.b]`` is, and ``(x = f.a OR x = f.b)``; None if there is none."""
    for at in range(len(tokens) - 2, 0, -1):
        if tokens[at].word != "IN" or tokens[at + 1].text != "[" or is_own_variable(tokens, at):
            continue
        size = closing(tokens[at + 1 :])
        values = split(tokens[at + 2 : at + 1 + size])
        if size < 0 or not any(_may_be_null(value, params) for value in values):
            continue
        first = _operand_before(tokens, at - 1)
        start, left = tokens[first].start, text[tokens[first].start : tokens[at].start].strip()
        parts = [text[v[0].start : v[-1].start + len(v[-1].text)] for v in values if v]
        end = tokens[at + 1 + size].start + 1
        return start, end, f"({' OR '.join(f'{left} = ({part})' for part in parts)})"
    return None


def _operand_before(tokens: Sequence[Token], last: int) -> int:
    """Return the position of the first token of the operand that ends at ``last``."""
    at = last
    while True:
        token = tokens[at]
        if token.text in CLOSE or token.word == "END":
            at = opening(tokens, at)
            before = tokens[at - 1] if at else None
            is_call = (
                before is not None and before.name is not None and before.word not in _OPERATORS
            )
            if tokens[at].text in ("(", "[") and is_call:
                at -= 1
        if at >= 2 and tokens[at - 1].text == "." and tokens[at].name is not None:
            at -= 2
            continue
        return at


_OPERATORS = frozenset(
    [
        "AND",
        "OR",
        "XOR",
        "NOT",
        "IN",
        "WHERE",
        "WHEN",
        "THEN",
        "ELSE",
        "WITH",
        "RETURN",
        "BY",
        "DISTINCT",
        "AS",
        "CONTAINS",
    ]
)


_SIGNS = frozenset("+-*/%^.")
_ROUNDING = frozenset(["ROUND", "CEIL", "CEILING", "FLOOR", "NEGATE"])


def _positive_zeros(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """Add 0 to each column, and to each value of ``ORDER BY``, that may compute ``-0.0``."""
    for projection in projections(tokens):
        for item in projection:
            value = item[:-2] if len(item) > 2 and item[-2].word == "AS" else item
            if value and value[-1].word in _DIRECTIONS:
                value = value[:-1]
            if value and _may_be_negative_zero(value):
                yield value[0].start, "(("
                yield value[-1].start + len(value[-1].text), ") + 0)"


def _final_texts(text: str, tokens: Sequence[Token]) -> Iterator[Insertion]:
    """End each ``ORDER BY`` of several values with a text, because those after the last text are not compared."""
    for values in orders(tokens):
        if len(values) > 1 and values[-1]:
            last = values[-1][-1]
            yield last.start + len(last.text), ", ''"


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
