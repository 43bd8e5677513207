"""The labels, edge types and properties that a Cypher query names, compared with the schema."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atlas import schema
from atlas.errors import QueryFailed
from atlas.schema import Edge, Node
from atlas.stores.cypher import Token, tokens_of

__all__ = ["Names", "check_names", "check_properties", "names_in", "nearest"]

_NOUNS = {"node": "label", "edge": "edge type"}


@dataclass(frozen=True)
class Names:
    """The names in the patterns of a query.

    Parameters
    ----------
    tables
        Kind (``node`` or ``edge``) and name of each label and edge type, in order.
    properties
        Variable and name of each property; ``#`` and a number for a pattern without a variable.
    owners
        Labels and edge types by variable.
    renamed
        Variables that the query also defines by AS, so that they may be anything.
    """

    tables: Sequence[tuple[str, str]]
    properties: Sequence[tuple[str, str]]
    owners: dict[str, set[str]]
    renamed: frozenset[str]


def names_in(cypher: str) -> Names:
    """Return the labels, edge types and properties that a query names.

    Raises
    ------
    QueryFailed
        If the text is not Cypher.
    """
    tokens = list(tokens_of(cypher))
    tables: list[tuple[str, str]] = []
    properties: list[tuple[str, str]] = []
    owners: dict[str, set[str]] = {}
    for at, inside, variable in _contexts(tokens):
        token = tokens[at]
        name = token.name
        before = tokens[at - 1].text if at else ""
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if name is None:
            continue
        if inside in ("node", "edge") and before in (":", "|", "&"):
            tables.append((inside, name))
            owners.setdefault(variable, set()).add(name)
        elif inside == "properties" and after == ":" and before in ("{", ","):
            properties.append((variable, name))
        elif before == "." and at > 1 and after != "(":
            owner = tokens[at - 2].name
            if owner is not None and (at < 3 or tokens[at - 3].text != "."):
                properties.append((owner, name))
    renamed = {
        str(tokens[at].name)
        for at in range(1, len(tokens))
        if tokens[at - 1].word in ("AS", "UNWIND") and tokens[at].name is not None
    }
    return Names(tables, properties, owners, frozenset(renamed))


def check_names(cypher: str) -> None:
    """Refuse a query that names a label, an edge type or a property outside the schema.

    Raises
    ------
    QueryFailed
        If it does; the message has the nearest names.
    """
    names = names_in(cypher)
    for kind, name in names.tables:
        specs = schema.NODES if kind == "node" else schema.EDGES
        known = [spec.name for spec in specs]
        if name not in known:
            others = [spec.name for spec in schema.TABLES]
            swapped = "; it is " + ("an edge type" if kind == "node" else "a label")
            raise QueryFailed(
                f"The query failed: the graph has no {_NOUNS[kind]} {name!r}{swapped if name in others else ''}. "
                f"{nearest(name, known)}"
            )
    check_properties(cypher)


def check_properties(cypher: str) -> None:
    """Refuse a query that names a property which its node or edge does not have in the schema.

    Variables without a label, or with one outside the schema, are not checked.

    Parameters
    ----------
    cypher
        A query.

    Raises
    ------
    QueryFailed
        If it does; the message has the nearest names.
    """
    names = names_in(cypher)
    schemas = {spec.name for spec in schema.TABLES}
    for variable, name in names.properties:
        tables = names.owners.get(variable, set())
        if variable in names.renamed or not variable or not tables or name.startswith("_"):
            continue
        if not tables <= schemas:
            continue
        known = sorted({p for table in tables for p in _properties(schema.table(table))})
        if name not in known:
            have = "have" if len(tables) > 1 else "has"
            raise QueryFailed(
                f"The query failed: {' and '.join(sorted(tables))} {have} no property {name!r}. "
                f"{nearest(name, known)}"
            )


def _properties(spec: Node | Edge) -> list[str]:
    return [p.name for p in spec.properties]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the nearest names, or all if none is near."""
    folded = {each.lower().replace("_", ""): each for each in known}
    near = difflib.get_close_matches(name.lower().replace("_", ""), folded, n=3, cutoff=0.55)
    if near:
        return f"Nearest: {', '.join(folded[each] for each in near)}."
    if len(known) > 30:
        return f"There are: {', '.join(known[:30])} … (docs/schema.md lists all)."
    return f"There are: {', '.join(known)}." if known else "It has none."


def _contexts(tokens: Sequence[Token]) -> Iterator[tuple[int, str, str]]:
    """Yield each position with the innermost bracket it is in, and the variable of its pattern.

    A bracket is ``node``, ``edge``, ``properties`` (the map of a node or an edge) or empty.
    """
    stack: list[tuple[str, str]] = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else None
        if token.text in ("(", "[", "{"):
            stack.append(_opened(tokens, at, stack))
        elif token.text in (")", "]", "}"):
            if stack:
                stack.pop()
        elif before is not None:
            yield at, *(stack[-1] if stack else ("", ""))


def _opened(tokens: Sequence[Token], at: int, stack: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return what a bracket opens, and the variable of its pattern."""
    token, before = tokens[at], tokens[at - 1] if at else None
    after = tokens[at + 1].name if at + 1 < len(tokens) else None
    if token.text == "{":
        inside, variable = stack[-1] if stack else ("", "")
        return ("properties", variable) if inside in ("node", "edge") else ("", "")
    if token.text == "[":
        is_edge = before is not None and before.text in ("-", "<-")
        return ("edge", after or f"#{at}") if is_edge else ("", "")
    is_node = before is not None and (
        before.text in ("-", ">", ",", "=", "(", "{")
        or before.word in ("MATCH", "WHERE", "NOT", "AND", "OR", "EXISTS", "XOR")
    )
    # After these, parentheses may also be an expression; a label needs a colon in them.
    return ("node", after or f"#{at}") if is_node else ("", "")
