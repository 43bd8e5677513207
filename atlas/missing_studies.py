"""Why an answer has no rows: the studies that never ran in this atlas."""

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from atlas import schema
from atlas.plugins import study_commands
from atlas.schema import Edge
from atlas.stores.cypher_names import Names, names_in

if TYPE_CHECKING:
    from atlas.stores import Store

__all__ = ["missing_studies"]


def missing_studies(store: "Store", cypher: str) -> list[str]:
    """Return which data that a query reads are not stored at all, and the command that computes them.

    Call this when an answer has no rows.

    Parameters
    ----------
    store
        The graph store that answered.
    cypher
        The query.

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
        found.setdefault(command, f"{what}: run `{command}`.")
    return list(found.values())


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
