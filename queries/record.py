"""Parse a named query from its file, and fill in its parameters."""

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["OTHER", "TOPICS", "BadParameters", "Column", "Parameter", "Query", "Value", "parse"]

OTHER = "Other questions"
"""Topic of a query whose header names none."""

TOPICS = (
    "SAEs and sites",
    "Features of an SAE",
    "One feature",
    "Tokens and text",
    "Co-activation",
    "Directions",
    "Counterparts in other SAEs",
    "Splitting",
    "Probes and maps",
    "Concepts",
    "Logits and effects",
    OTHER,
)
"""Topics of the queries, in the order of lists."""

Value: TypeAlias = "str | int | float | bool | list[str] | list[int] | list[float]"

_LITERAL = r"'[^'\\]*'|\[[^\]]*\]|-?\d+(?:\.\d+)?|true|false"
_TYPE = r"(?:string|int64|double)(?:\[\])?|bool"
_NAMED = "SAE|feature|site|model|concept"
_CHOICES = r"'[^'\\]*'(?:, '[^'\\]*')*"
_PARAM = re.compile(
    rf"// param (\w+) \(({_TYPE}|{_NAMED}), (such as|default) ({_LITERAL})"
    rf"(?:, or ({_CHOICES}))?\): (.+)"
)
_MATCHED = re.compile(r"// matched: (\w+), (\w+)")
_ANSWER = re.compile(r"// answer: (\w+(?:, \w+)*)")
_COLUMN = re.compile(rf"// column (\w+) \(({_TYPE})\): (.+)")
_MARKED = re.compile(rf"({_LITERAL}) /\* \$(\w+) \*/")


class BadParameters(ValueError):
    """A parameter of a query is unknown, missing or has an invalid value."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a query.

    Parameters
    ----------
    name
        Name of the parameter: ``$name`` in the query.
    type
        ``string``, ``int64``, ``double``, ``bool``, or a list of the first three (``string[]``).
    meaning
        Description in one line.
    example
        A valid value, which the file contains.
    required
        Whether a value is required; if not, ``example`` is the default.
    names
        Kind of name: ``SAE``, ``feature``, ``site``, ``model`` or ``concept``; None if it is not a name.
    choices
        Allowed values, the default first; empty if any value is allowed.
    """

    name: str
    type: str
    meaning: str
    example: Value
    required: bool
    names: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def name_and_example(self) -> str:
        """Name and example or default, for messages."""
        return f"{self.name} ({'such as' if self.required else 'default'} {self.example!r})"

    def value(self, passed: object) -> Value:
        """Convert an input value to the type of this parameter; strings are parsed.

        Raises
        ------
        BadParameters
            If the value cannot be converted, or is not one of the choices.
        """
        if self.required and passed == "":  # no name is empty, and engines differ on CONTAINS ''
            raise BadParameters(f"The parameter {self.name_and_example} is empty; pass a value.")
        if self.choices and passed not in self.choices:
            raise BadParameters(
                f"The parameter {self.name} is {passed!r}; expected one of "
                f"{', '.join(map(repr, self.choices))}."
            )
        try:
            if self.type.endswith("[]"):
                return _list(passed, _READ[self.type[:-2]])
            return _READ[self.type](passed)
        except (ValueError, TypeError):
            raise BadParameters(
                f"The parameter {self.name} is {passed!r}; expected {_NOUNS[self.type]}, such as "
                f"{self.example!r}."
            ) from None


@dataclass(frozen=True)
class Column:
    """One column of the answer of a query: name, type (as in ``Parameter``) and meaning."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Query:
    """A named query.

    Parameters
    ----------
    name
        Name of the file, without the extension.
    title
        A few words for a list.
    question
        The question that it answers, in one line.
    topic
        What it is about; one of ``TOPICS``.
    parameters, columns
        Its parameters, and the columns of its answer.
    matched
        Pairs of parameters that name two SAEs, directly or by a feature. The query has an
        answer only if these SAEs were matched.
    answer
        Columns that answer the question; a narrow table never omits them.
    cypher
        The query for a driver, with ``$name`` for each parameter.
    text
        The unchanged file, which can be pasted into Neo4j Browser.
    """

    name: str
    title: str
    question: str
    topic: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    matched: tuple[tuple[str, str], ...]
    answer: tuple[str, ...]
    cypher: str
    text: str

    def fill(self, passed: Mapping[str, object]) -> dict[str, Value]:
        """Return a value for every parameter: the converted input value, or the default.

        Parameters
        ----------
        passed
            Input values by name. Strings, as from a command line, are parsed; a list is
            written as JSON or as items separated by commas.

        Raises
        ------
        BadParameters
            If a parameter is unknown, missing, of the wrong type, or not one of its choices; or if
            ``limit`` is negative.
        """
        names = [p.name for p in self.parameters]
        if unknown := [n for n in passed if n not in names]:
            listed = ", ".join(p.name_and_example for p in self.parameters)
            raise BadParameters(
                f"The query {self.name!r} has no parameter {', '.join(map(repr, unknown))}; "
                + (f"it has: {listed}." if listed else "it has none.")
            )
        required = [p for p in self.parameters if p.required]
        if missing := [p.name_and_example for p in required if p.name not in passed]:
            raise BadParameters(f"The query {self.name!r} needs a value for: {', '.join(missing)}.")
        filled = {p.name: p.value(passed.get(p.name, p.example)) for p in self.parameters}
        limit = filled.get("limit")
        if type(limit) is int and limit < 0:
            raise BadParameters(f"The parameter limit is {limit}; expected 0 or more rows.")
        return filled


def parse(name: str, text: str) -> Query:
    """Read a query from the text of its file.

    Parameters
    ----------
    name
        Name of the query.
    text
        The file, in the format that the docstring of ``queries`` describes.

    Raises
    ------
    ValueError
        If a line of the header cannot be parsed, or header and query disagree.
    """
    lines = text.splitlines()
    size = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
    fields: dict[str, str] = {}
    parameters: list[Parameter] = []
    columns: list[Column] = []
    matched: list[tuple[str, str]] = []
    answer: list[str] = []
    for line in lines[:size]:
        if found := _PARAM.fullmatch(line):
            parameters.append(_parameter(*found.groups()))
        elif found := _MATCHED.fullmatch(line):
            matched.append((found[1], found[2]))
        elif found := _ANSWER.fullmatch(line):
            answer += found[1].split(", ")
        elif found := _COLUMN.fullmatch(line):
            columns.append(Column(*found.groups()))
        elif found := re.fullmatch(r"// (title|question|topic): (.+)", line):
            fields[found[1]] = found[2]
        else:
            raise ValueError(f"{name}.cypher: this line of the header cannot be parsed: {line}")
    body = "\n".join(lines[size:]).strip() + "\n"
    _check(name, body, fields, parameters)
    if (topic := fields.get("topic", OTHER)) not in TOPICS:
        raise ValueError(f"{name}.cypher: the topic is {topic!r}; expected one of {TOPICS}")
    name_an_sae = {p.name for p in parameters if p.names in ("SAE", "feature")}
    if wrong := {word for pair in matched for word in pair} - name_an_sae:
        raise ValueError(
            f"{name}.cypher: the line 'matched' expects parameters that name an SAE or a feature; got "
            f"{', '.join(sorted(wrong))}"
        )
    if unknown := set(answer) - {column.name for column in columns}:
        raise ValueError(
            f"{name}.cypher: the line 'answer' expects columns of the answer; got {', '.join(sorted(unknown))}"
        )
    return Query(
        name=name,
        title=fields["title"],
        question=fields["question"],
        topic=topic,
        parameters=tuple(parameters),
        columns=tuple(columns),
        matched=tuple(matched),
        answer=tuple(answer),
        cypher=_MARKED.sub(r"$\2", body),
        text=text,
    )


def _parameter(
    name: str, type: str, kind: str, literal: str, others: str | None, meaning: str
) -> Parameter:
    """Return the parameter that a line of the header declares."""
    named = type in _NAMED.split("|")
    return Parameter(
        name=name,
        type="string" if named else type,
        meaning=meaning,
        example=_literal(literal),
        required=kind == "such as",
        names=type if named else None,
        choices=ast.literal_eval(f"({literal}, {others})") if others else (),
    )


def _check(name: str, body: str, fields: Mapping[str, str], parameters: list[Parameter]) -> None:
    """Raise ValueError unless the header is complete and declares the query's parameters."""
    if missing := {"title", "question"} - fields.keys():
        raise ValueError(f"{name}.cypher: the header has no {', '.join(sorted(missing))}")
    marked = [(word, _literal(literal)) for literal, word in _MARKED.findall(body)]
    declared = [(p.name, p.example) for p in parameters]
    if sorted(marked, key=str) != sorted(declared, key=str):
        raise ValueError(
            f"{name}.cypher: the header declares {declared}, but the query marks {marked}; "
            "mark each parameter once, with the value in the header"
        )


def _literal(text: str) -> Value:
    """Return the value of a Cypher literal; except for bools, it is a Python literal too."""
    value: Value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _int64(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = int(value) if isinstance(value, str) else operator.index(value)  # type: ignore[arg-type]
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _double(value: object) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError
    return number


def _bool(value: object) -> bool:
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise TypeError
    return value


def _list(value: object, parse_item: Callable[[object], Value]) -> Value:
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
    if not isinstance(value, list | tuple):
        raise TypeError
    return [parse_item(item) for item in value]  # type: ignore[return-value]


_READ: dict[str, Callable[[object], Value]] = {
    "string": _string,
    "int64": _int64,
    "double": _double,
    "bool": _bool,
}

_NOUNS = {
    "string": "a text",
    "int64": "a whole number",
    "double": "a number",
    "bool": "true or false",
    "string[]": "a list of texts",
    "int64[]": "a list of whole numbers",
    "double[]": "a list of numbers",
}
