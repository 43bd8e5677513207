"""A question, ready to be asked: Cypher and a value for every parameter in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import queries
from atlas.errors import BadInput, UnknownName
from atlas.stores import Params

__all__ = ["Question", "named"]


@dataclass(frozen=True)
class Question:
    """Cypher and a value for every parameter in it.

    Parameters
    ----------
    cypher
        The Cypher.
    params
        The values, by name.
    query
        The named query it is; None for Cypher of one's own.
    """

    cypher: str
    params: Params
    query: queries.Query | None = None


def named(name: str, given: Mapping[str, Any]) -> Question:
    """Return a named query with its parameters filled in.

    Raises
    ------
    UnknownName
        If there is no query of this name.
    BadInput
        If a parameter is missing, unknown, of the wrong type, or none of its choices.
    """
    try:
        query = queries.get(name)
    except LookupError:
        hint = "`atlas query` lists them all."
        raise UnknownName("query", name, known=queries.names(), hint=hint) from None
    try:
        return Question(query.cypher, query.fill(given), query)
    except ValueError as error:
        raise BadInput(str(error)) from None
