"""Parse the arguments of ``atlas query``, list the named queries, and mark peak tokens in examples."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import queries
from atlas.cli.output import echo, emit, print_table
from atlas.errors import BadInput
from atlas.named_queries import Question, named

__all__ = ["list_questions", "marked", "read_question"]

_NEEDED = frozenset({"text", "tokens", "peak"})


def marked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of an answer in a readable form.

    In a row that is an example (with ``text``, ``tokens`` and ``peak``), the text has the
    peak token in ``[[ ]]``, and the columns by token are dropped. Other rows are unchanged.
    """
    if not row.keys() >= _NEEDED or row["tokens"] is None:
        return dict(row)
    tokens, peak = row["tokens"], row["peak"]
    text = f"{''.join(tokens[:peak])}[[{tokens[peak]}]]{''.join(tokens[peak + 1 :])}"
    shown = {k: v for k, v in row.items() if k not in ("tokens", "activations", "peak")}
    return shown | {"text": text}


def read_question(name: str | None, cypher: str | None, params: Sequence[str]) -> Question:
    """Return the question that the arguments of ``atlas query`` specify.

    Parameters
    ----------
    name
        Name of a query, or None.
    cypher
        The user's own query, or None.
    params
        Parameters as ``name=value``. For the user's own query, a value that is valid JSON
        is parsed; any other value is a string.
    """
    values: dict[str, str] = {}
    for each in params:
        key, equals, value = each.partition("=")
        if not equals:
            raise BadInput(f"--param got {each!r}; expected NAME=VALUE.")
        values[key] = value
    if name is not None and cypher is not None:
        raise BadInput("Got the name of a query and --cypher; expected only one of them.")
    if cypher is None:
        assert name is not None
        return named(name, values)
    return Question(cypher, {key: _read(value) for key, value in values.items()})


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
        echo("\nTo run a query: atlas query NAME --param PARAMETER=VALUE", err=True)

    emit(rows, as_json=as_json, show=show)


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
