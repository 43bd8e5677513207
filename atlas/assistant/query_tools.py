"""The named queries as tools, typed by their headers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import queries
from atlas.api import Atlas
from atlas.assistant.answer_size import MAX_ROWS, fitted_rows
from atlas.assistant.tool import MAX_LIST, MAX_TEXT, Tool, object_schema
from atlas.missing_tokens import missing_tokens
from atlas.named_queries import named
from atlas.stores import Limits

__all__ = ["Open", "query_tools", "rows_schema"]

Open: TypeAlias = Callable[[], AbstractContextManager[Atlas]]
"""Opens the atlas for one call, so that each answer is of its current contents."""

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string", "maxLength": MAX_TEXT},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": "number"},
    "bool": {"type": "boolean"},
}
_NAMES = {
    "SAE": "Name of an SAE; list_saes lists them.",
    "feature": "A feature, as sae/index.",
    "site": "A site of a model, as model/hook.",
    "model": "Name of a model.",
    "concept": "Name of a concept.",
}


def query_tools(open_atlas: Open, *, timeout: float, only: Sequence[str] = ()) -> list[Tool]:
    """Return a tool for every named query.

    Parameters
    ----------
    open_atlas
        Opens the atlas.
    timeout
        Time limit of a query in seconds.
    only
        Names of queries; all if empty.

    Raises
    ------
    UnknownName
        If no query has a name in ``only``.
    """
    chosen = [_query(name) for name in only] if only else queries.every()
    return [_tool(query, open_atlas, timeout) for query in chosen]


def _query(name: str) -> queries.Query:
    from atlas.errors import UnknownName

    try:
        return queries.get(name)
    except LookupError:
        hint = "`atlas query` lists all queries."
        raise UnknownName("query", name, known=queries.names(), hint=hint) from None


def _tool(query: queries.Query, open_atlas: Open, timeout: float) -> Tool:
    meanings = {column.name: column.meaning for column in query.columns}

    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        question = named(query.name, arguments)
        with open_atlas() as atlas:
            answer = atlas.answer(question, limits=Limits(timeout=timeout))
            missing = missing_tokens(atlas.store, question)
        fitted = fitted_rows(answer.slice(0, MAX_ROWS).to_pylist(), total=answer.num_rows)
        notes = [note for note in (fitted["note"], *missing) if note]
        return {**fitted, "note": " ".join(notes) or None, "columns": meanings}

    needs_match = " Needs a match of the two SAEs." if query.matched else ""
    return Tool(
        name=query.name,
        title=query.title,
        description=f"{query.question}{needs_match} Columns: {', '.join(meanings)}.",
        input=object_schema(
            {p.name: _input(p) for p in query.parameters},
            required=[p.name for p in query.parameters if p.required],
        ),
        output=rows_schema(
            {
                column.name: {**_nullable(column.type), "description": column.meaning}
                for column in query.columns
            }
        ),
        call=call,
    )


def _input(parameter: queries.Parameter) -> dict[str, Any]:
    """Return the JSON Schema of a parameter."""
    name = _NAMES.get(parameter.names or "", "")
    described = " ".join(part for part in (f"{parameter.meaning}.", name) if part)
    schema: dict[str, Any] = {**_type(parameter.type), "description": described}
    if parameter.name == "limit":
        schema |= {"minimum": 1, "maximum": MAX_ROWS}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.required:
        schema["examples"] = [parameter.example]
        if parameter.type == "string":
            schema["minLength"] = 1
    else:
        schema["default"] = parameter.example
    return schema


def _type(type: str) -> dict[str, Any]:
    if type.endswith("[]"):
        return {"type": "array", "items": dict(_TYPES[type[:-2]]), "maxItems": MAX_LIST}
    return dict(_TYPES[type])


def _nullable(type: str) -> dict[str, Any]:
    """Return the JSON Schema of a column, whose values may be null."""
    base = _TYPES[type.removesuffix("[]")]["type"]
    if type.endswith("[]"):
        return {"type": ["array", "null"], "items": {"type": [base, "null"]}}
    return {"type": [base, "null"]}


def rows_schema(columns: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of an answer with rows.

    Parameters
    ----------
    columns
        Schemas by column; None if they differ between answers.
    """
    row = {"type": "object"} if columns is None else object_schema(columns)
    return object_schema(
        {
            "rows": {"type": "array", "items": row},
            "row_count": {"type": "integer", "description": "rows of the complete answer"},
            "note": {
                "type": ["string", "null"],
                "description": "states which rows, or tokens of the question, are missing",
            },
            "columns": {
                "type": "object",
                "description": "meaning of each column",
                "additionalProperties": {"type": "string"},
            },
        },
        required=["rows", "row_count", "note", "columns"],
    )
