"""The text index on examples, which finds a part of their text in any case.

A text index of Neo4j finds ``x.text CONTAINS 'a'``, but cannot find ``toLower(x.text)``. A push
therefore stores the text of each example a second time, in lower case, as ``_lower``. The SAE
has the property ``_searchable`` if all its examples have it. The named query
``examples_with_text`` has ``toLower``, which both engines understand; on a server where every
SAE is searchable, ``by_index`` replaces it. Decision 0017 has the measurements.
"""

import queries
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.derived_properties import derive_properties

__all__ = ["INDEXED_LENGTH", "LOWER_CASE", "by_index", "index_examples", "make_searchable"]

INDEXED_LENGTH = 8_000
"""Largest number of characters, of up to 4 bytes each, of a text in a text index.

Neo4j cannot write a text above 32,766 bytes that is in an index.
"""

_QUERY = "examples_with_text"
_SLOW, _FAST = "toLower(e.text) CONTAINS", "e._lower CONTAINS"

LOWER_CASE = "CASE WHEN size({0}.text) <= " + str(INDEXED_LENGTH) + " THEN toLower({0}.text) END"
"""Value of ``_lower``; null for a text that is too long for an index."""


def index_examples(bolt: Bolt) -> None:
    """Create the text index on examples, if there is none.

    Parameters
    ----------
    bolt
        The connection.
    """
    bolt.write("CREATE TEXT INDEX `atlas_Example_text` IF NOT EXISTS FOR (n:Example) ON (n._lower)")


def make_searchable(bolt: Bolt, atlas: str) -> None:
    """Write the lower-case texts of SAEs that have none: those of ``neo4j-admin`` or of an older push.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    atlas
        Uuid of the atlas.
    """
    derive_properties(
        bolt,
        atlas,
        flag="_searchable",
        assignments=(
            (
                "MATCH (n:Example {_generation: $generation})",
                f"n._lower = {LOWER_CASE.format('n')}",
            ),
        ),
        done="NOT EXISTS { MATCH (e:Example {_generation: $generation}) "
        "WHERE e.text IS NOT NULL AND e._lower IS NULL }",
    )


def by_index(bolt: Bolt, cypher: str) -> str:
    """Return the query in the form that uses the index, or unchanged.

    Only the named query itself is replaced, because in a user's query the variable could be
    another node.

    Parameters
    ----------
    bolt
        The connection.
    cypher
        A query.
    """
    if cypher != queries.get(_QUERY).cypher:
        return cypher
    unsearchable = "MATCH (s:SAE) WHERE NOT coalesce(s._searchable, false) RETURN count(s)"
    return cypher if bolt.ask(unsearchable).rows[0][0] else cypher.replace(_SLOW, _FAST)
