"""Remarks on an answer: that it has as many rows as its limit, or which studies never ran."""

import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.amounts import counted
from atlas.named_queries import Question
from atlas.plugins import study_commands
from atlas.schema import Edge
from atlas.stores.cypher_names import Names, names_in

if TYPE_CHECKING:
    from atlas.stores import Store

__all__ = ["missing_studies", "remarks_on"]


def remarks_on(store: "Store", question: Question, rows: int) -> list[str]:
    """Return why an answer may have fewer rows than expected: its limit, or studies that never ran.

    Parameters
    ----------
    store
        The graph store that answered.
    question
        The question.
    rows
        Number of rows of the answer.

    Returns
    -------
    list of str
        Sentences; empty if there is nothing to remark.
    """
    limit = question.params.get("limit") if question.query is not None else None
    if rows and rows == limit:
        return [f"{counted(rows, 'row')}, the limit of the query; increase `limit` for more."]
    return [] if rows else missing_studies(store, question.cypher, question.params)


def missing_studies(
    store: "Store", cypher: str, params: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """Return which data that a query reads are not stored at all, and the command that computes them.

    Call this when an answer has no rows.

    Parameters
    ----------
    store
        The graph store that answered.
    cypher
        The query.
    params
        Values of its parameters. The commands have the SAEs that they name.

    Returns
    -------
    list of str
        One sentence for each study that never ran; empty if all tables that the query reads
        have rows, so that the answer itself is empty.
    """
    found: dict[str, str] = {}
    names, studies = names_in(cypher), study_commands()
    for kind, what in _empty(store, names, studies):
        command = studies[kind].example if kind in studies else "atlas ingest"
        if command not in found:
            shown, letters = _with_saes(command, _saes_of(store, params))
            found[command] = f"{what}: run `{shown}`{letters}."
    return list(found.values())


def _saes_of(store: "Store", params: Mapping[str, Any]) -> list[str]:
    """Return the SAEs that parameters name, as ``A`` or as the feature ``A/5``, in their order."""
    values = [value for value in params.values() if isinstance(value, str)]
    if not values:
        return []
    names = set(store.query("MATCH (s:SAE) RETURN s.name AS name", {})["name"].to_pylist())
    found = (value if value in names else value.rpartition("/")[0] for value in values)
    return list(dict.fromkeys(name for name in found if name in names))


def _with_saes(command: str, saes: Sequence[str]) -> tuple[str, str]:
    """Return a command with names instead of the letters A and B, and what the others are."""
    letters = [word for word in command.split() if word in ("A", "B")]
    names = dict(zip(letters, map(shlex.quote, saes), strict=False))
    shown = " ".join(names.get(word, word) for word in command.split())
    rest = [letter for letter in letters if letter not in names]
    if not rest:
        return shown, ""
    are = "are names of SAEs" if len(rest) > 1 else "is the name of an SAE"
    return shown, f", where {' and '.join(rest)} {are}"


def _empty(store: "Store", names: Names, studies: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind and a description of each table or property of the query without values."""
    for _, name in dict.fromkeys(names.tables):
        if name not in {t.name for t in schema.TABLES}:
            continue
        spec = schema.table(name)
        is_edge = isinstance(spec, Edge)
        pattern = f"()-[n:`{name}`]->()" if is_edge else f"(n:`{name}`)"
        if not _count(store, f"MATCH {pattern}"):
            yield spec.owner, f"No {name} {'edges' if is_edge else 'nodes'} are stored"
            continue
        read = {p for variable, p in names.properties if name in names.owners.get(variable, ())}
        kinds: dict[str, str] = {}
        for each in spec.properties:
            if each.owner in studies and each.name in read:
                kinds.setdefault(each.owner, each.name)
        for kind, each_name in kinds.items():
            if not _count(store, f"MATCH {pattern} WHERE n.`{each_name}` IS NOT NULL"):
                yield kind, f"No {name} has a value of `{each_name}`"


def _count(store: "Store", match: str) -> int:
    rows = store.query(f"{match} RETURN count(n) AS n", {})
    return int(rows["n"][0].as_py())
