"""Properties that a push derives on the server, of the nodes of SAEs that do not have them yet."""

from collections.abc import Mapping, Sequence

from atlas.stores.neo4j.connection import Bolt

__all__ = ["derive_properties", "set_in_batches"]


def derive_properties(
    bolt: Bolt, atlas: str, *, flag: str, assignments: Sequence[tuple[str, str]], done: str = "true"
) -> None:
    """Set properties of the nodes of each SAE that has no flag, and then the flag.

    The flag is last, so that the next push continues after an interruption.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    atlas
        Uuid of the atlas.
    flag
        Name of the property of the SAE.
    assignments
        Clauses that match nodes ``n`` of an SAE, by ``$sae`` or ``$generation``, each with the
        assignment of a property.
    done
        Cypher of the value of the flag.
    """
    rows = bolt.ask(
        f"MATCH (s:SAE) WHERE s._atlas = $atlas AND s.{flag} IS NULL RETURN s.name, s._generation",
        {"atlas": atlas},
    ).rows
    for sae, generation in rows:
        own = {"sae": sae, "generation": generation}
        for match, assignment in assignments:
            set_in_batches(bolt, match, assignment, parameters=own)
        bolt.write(f"MATCH (s:SAE {{name: $sae}}) SET s.{flag} = {done}", own)


def set_in_batches(
    bolt: Bolt, match: str, assignment: str, *, parameters: Mapping[str, str | int]
) -> None:
    """Set a property or label of many nodes in several transactions, which need little memory.

    Parameters
    ----------
    bolt
        The connection.
    match
        Cypher that matches the nodes ``n``.
    assignment
        The property and its value, or the label: ``n.x = 1``, ``n:Red``.
    parameters
        Of the query.
    """
    bolt.write(f"{match} CALL (n) {{ SET {assignment} }} IN TRANSACTIONS OF 10000 ROWS", parameters)
