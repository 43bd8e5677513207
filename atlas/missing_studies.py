"""Remarks on an answer: it has as many rows as its limit, or studies never ran, in all or for an SAE."""

import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.amounts import counted
from atlas.features.sections import IN_GRAPH, SECTIONS, Section
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
    if rows:
        return []
    name = "" if question.query is None else question.query.name
    return missing_studies(store, question.cypher, question.params, query=name)


def missing_studies(
    store: "Store",
    cypher: str,
    params: Mapping[str, Any] = MappingProxyType({}),
    *,
    query: str = "",
) -> list[str]:
    """Return which data that a query reads are not stored, and the command that computes them.

    Call this when an answer has no rows.

    Parameters
    ----------
    store
        The graph store that answered.
    cypher
        The query.
    params
        Values of its parameters. The commands have the SAEs that they name.
    query
        Name of the query, if it has one.

    Returns
    -------
    list of str
        One sentence for each study that never ran, in this atlas or for an SAE of the parameters;
        empty if all studies that the query reads ran, so that the answer itself is empty.
    """
    found: dict[str, str] = {}
    names, studies = names_in(cypher), study_commands()
    saes = _saes_of(store, params)
    for kind, what in _empty(store, names, studies):
        command = studies[kind].example if kind in studies else "atlas ingest"
        if command not in found:
            shown, letters = _with_saes(command, saes)
            found[command] = f"{what}: run `{shown}`{letters}."
    return list(found.values()) or list(_not_measured(store, names, saes, query=query))


def _not_measured(
    store: "Store", names: Names, saes: Sequence[str], *, query: str
) -> Iterator[str]:
    """Yield a sentence for each SAE, and study that the query reads, which did not measure it."""
    tables = {spec.name: spec for spec in schema.TABLES}
    read = {tables[name].owner for _, name in names.tables if name in tables}
    for variable, name in names.properties:
        for table in names.owners.get(variable, set()) & tables.keys():
            read |= {p.owner for p in tables[table].properties if p.name == name}
    of_query = next((one for one in SECTIONS if one.query == query), None)
    for kind in sorted(read - {""}):
        sections = [one for one in SECTIONS if one.kind == kind]
        if of_query in sections:
            section = of_query
        elif sections:
            section = next((one for one in sections if one.role == "first"), sections[0])
        else:
            continue
        assert section is not None
        # The last of several SAEs of a question on effects is that of the targets.
        sources = saes[:-1] if section.role == "first" and len(saes) > 1 else saes
        for sae in sources:
            if not _has(store, sae, section):
                yield _about_sae(sae, section)


def _has(store: "Store", sae: str, section: Section) -> bool:
    pattern = IN_GRAPH[section.kind, section.role]
    found = store.query(
        f"MATCH (s:SAE {{name: $sae}}) MATCH {pattern} RETURN s.name AS name LIMIT 1", {"sae": sae}
    )
    return bool(found.num_rows)


def _about_sae(sae: str, section: Section) -> str:
    if not section.command:
        return (
            f"No effect on a feature of {sae} is stored: run `atlas effects A --on {shlex.quote(sae)}`, where A "
            "is the name of an SAE at an earlier site."
        )
    command = section.command.format(sae=shlex.quote(sae))
    return f"{sae} was not measured: run `{command}`."


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
