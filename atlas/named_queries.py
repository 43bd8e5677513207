"""Questions to an atlas: Cypher with a value for every parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import queries
from atlas.errors import BadInput, UnknownName
from atlas.stores import Params

__all__ = ["Question", "named"]


@dataclass(frozen=True)
class Question:
    """Cypher with a value for every parameter.

    Parameters
    ----------
    cypher
        The query in Cypher.
    params
        Values of the parameters, by name.
    query
        The named query; None for a user's own Cypher.
    """

    cypher: str
    params: Params
    query: queries.Query | None = None


def named(name: str, passed: Mapping[str, Any]) -> Question:
    """Return a named query with its parameters filled in.

    Raises
    ------
    UnknownName
        If no query has this name.
    BadInput
        If a parameter is missing, unknown, of the wrong type, or not one of its choices.
    """
    try:
        query = queries.get(name)
    except LookupError:
        hint = "`atlas query` lists all queries."
        raise UnknownName("query", name, known=queries.names(), hint=hint) from None
    try:
        return Question(query.cypher, query.fill(passed), query)
    except ValueError as error:
        raise BadInput(str(error)) from None
