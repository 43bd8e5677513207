"""Tools of the server, and the check of what an assistant passes to them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas.errors import BadInput, UnknownName
from atlas.safe_text import shown

__all__ = ["MAX_LIST", "MAX_TEXT", "Tool", "checked_arguments", "find_tool", "object_schema"]

MAX_TEXT = 1_000
"""Largest number of characters of a text that an assistant passes, except for Cypher."""
MAX_LIST = 1_000
"""Largest number of items of a list that an assistant passes."""
MAX_ARGUMENTS = 100_000
"""Largest number of characters of all arguments of a call, as JSON."""


@dataclass(frozen=True)
class Tool:
    """A tool: a function that an assistant can call.

    Parameters
    ----------
    name
        Its name, unique in a server.
    title
        A few words for a list.
    description
        What it answers and when to use it; assistants choose a tool by this text.
    input, output
        JSON Schemas of its arguments and of its answer.
    call
        Takes checked arguments and returns the answer, which matches ``output``.
    """

    name: str
    title: str
    description: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    call: Callable[[Mapping[str, Any]], dict[str, Any]]


def object_schema(
    properties: Mapping[str, Mapping[str, Any]],
    *,
    required: Sequence[str] = (),
    closed: bool = True,
) -> dict[str, Any]:
    """Return the JSON Schema of an object.

    Parameters
    ----------
    properties
        Schemas by name.
    required
        Names that must be present.
    closed
        Whether other names are refused.
    """
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        **({"additionalProperties": False} if closed else {}),
    }


def find_tool(tools: Sequence[Tool], name: str) -> Tool:
    """Return the tool of this name.

    Raises
    ------
    UnknownName
        If there is none.
    """
    for tool in tools:
        if tool.name == name:
            return tool
    raise UnknownName("tool", shown(name[:100]), known=[tool.name for tool in tools])


def checked_arguments(tool: Tool, arguments: object) -> dict[str, Any]:
    """Check the arguments of a call against the schema of the tool, and return them.

    Raises
    ------
    BadInput
        If they are too long, or do not match the schema.
    """
    import jsonschema

    passed = {} if arguments is None else arguments
    if len(json.dumps(passed)) > MAX_ARGUMENTS:
        raise BadInput(
            f"The arguments of {tool.name} have more than {MAX_ARGUMENTS:,} characters; pass fewer names."
        )
    checker = jsonschema.Draft202012Validator(tool.input)
    error = jsonschema.exceptions.best_match(checker.iter_errors(passed))
    if error is not None:
        at = ".".join(map(str, error.absolute_path))
        value = repr(error.instance)  # the message begins with it, however long it is
        reason = error.message.replace(value, _shortened(value, 60))
        names = ", ".join(tool.input["properties"]) or "none"
        raise BadInput(
            f"The {f'argument {at}' if at else 'arguments'} of {tool.name} cannot be used: "
            f"{shown(_shortened(reason, 300))}. Its arguments are: {names}."
        )
    return dict(passed)  # type: ignore[call-overload, no-any-return]


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
