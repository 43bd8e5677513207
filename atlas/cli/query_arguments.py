"""Questions as they are typed on the command line, read and listed."""

import json
from collections.abc import Sequence
from typing import Any

import queries
from atlas.cli.output import echo, emit, print_table
from atlas.errors import BadInput
from atlas.named_queries import Question, named

__all__ = ["list_questions", "read_question"]


def read_question(name: str | None, cypher: str | None, params: Sequence[str]) -> Question:
    """Make a question of what was typed on the command line.

    Parameters
    ----------
    name
        The name of a query, or None.
    cypher
        A query of one's own, or None.
    params
        ``name=value`` each; for a query of one's own, a value that reads as JSON is
        that, anything else is a string.
    """
    given: dict[str, str] = {}
    for each in params:
        key, equals, value = each.partition("=")
        if not equals:
            raise BadInput(f"--param takes NAME=VALUE, and got {each!r}.")
        given[key] = value
    if name is not None and cypher is not None:
        raise BadInput("Give the name of a query or --cypher, not both.")
    if cypher is None:
        assert name is not None
        return named(name, given)
    return Question(cypher, {key: _read(value) for key, value in given.items()})


def list_questions(*, as_json: bool) -> None:
    """Print the named queries with their parameters."""
    rows = [
        {
            "name": q.name,
            "question": q.question,
            "parameters": " ".join(p.name for p in q.parameters),
        }
        for q in queries.every()
    ]

    def show() -> None:
        print_table(rows)
        echo("\nAsk one: atlas query NAME --param PARAMETER=VALUE", err=True)

    emit(rows, as_json=as_json, show=show)


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
