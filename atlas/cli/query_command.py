"""The command class of ``atlas query``: parameters of a named query as options, and its own help."""

import json
import re
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

import queries
from atlas.cli.completion import COMPLETIONS
from atlas.cli.early_checks import first_argument
from atlas.errors import UnknownName
from atlas.safe_text import SPACE, with_spaces

__all__ = [
    "QueryCommand",
    "complete_query",
    "example_of",
    "named_query",
    "values_of",
    "written_parameters",
]

_META = "atlas.query"
_PREFIX = "query_parameter_"
# Parameters of the command that a named query does not need.
_ONLY_CYPHER = ("params", "cypher", "max_rows", "memory")


class QueryCommand(click.Command):
    """A command whose first argument may be a named query, which adds options and help.

    After ``atlas query NAME``, each parameter of the query is an option, and ``--help`` shows
    the question, the parameters, the columns of the answer and an example.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the named query among the arguments, before they are parsed."""
        ctx.meta[_META] = self._named(args)
        at = first_argument(self, args)
        first = None if at is None else args[at]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            if ctx.meta[_META] is None and first is not None:
                hint = "`atlas query` lists all queries."
                known = queries.names()
                raise UnknownName("query", first, known=known, hint=hint) from None
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters of the command, and those of the named query."""
        query = named_query(ctx)
        own = super().get_params(ctx)
        if query is None:
            return own
        return [*map(_option, query.parameters), *own]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the named query; the help of the command, if none is named."""
        query = named_query(ctx)
        if query is None:
            super().format_help(ctx, formatter)
            return
        formatter.write_usage(ctx.command_path, f"{query.name} [OPTIONS]")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(query.question)
        if query.parameters:
            with formatter.section("Parameters"):
                formatter.write_dl([(_written(p), _meaning(p)) for p in query.parameters])
        with formatter.section("Columns of the answer"):
            formatter.write_dl([(c.name, f"{c.meaning} ({c.type})") for c in query.columns])
        with formatter.section("Example"):
            formatter.write(f"{' ' * formatter.current_indent}{example_of(query)}\n")
        with formatter.section("Options"):
            shared = [p for p in self.params if p.name not in _ONLY_CYPHER]
            records = [p.get_help_record(ctx) for p in shared if isinstance(p, click.Option)]
            formatter.write_dl([record for record in records if record is not None])

    def _named(self, args: Sequence[str]) -> queries.Query | None:
        """Return the named query of the arguments, if there is one."""
        takes_value = {
            o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts
        }
        known = {query.name: query for query in queries.every()}
        before = ""
        for word in args:
            if word in known and before not in takes_value:
                return known[word]
            before = word
        return None


def named_query(ctx: click.Context) -> queries.Query | None:
    """Return the named query among the arguments of a command, if there is one."""
    found: queries.Query | None = ctx.meta.get(_META)
    return found


def values_of(options: dict[str, Any], query: queries.Query | None) -> dict[str, Any]:
    """Remove the options that are parameters of a query from ``options``; return their values.

    A list of texts is written as JSON, or as words. A word is sought with and without a leading
    space, because most tokens begin with one. A token that is pasted from a table has ``␣`` for a
    space, and is sought as it is.
    """
    found = {}
    for parameter in query.parameters if query is not None else ():
        value = options.pop(_PREFIX + parameter.name, None)
        if value is None or value == ():
            continue
        if parameter.type == "string[]":
            value = _items(value)
        elif parameter.type == "string":
            value = with_spaces(value)
        found[parameter.name] = ",".join(value) if type(value) is tuple else value
    return found


def _written(parameter: queries.Parameter) -> str:
    """Return a parameter of a query as an option, with the kind of its value."""
    return f"{_flag(parameter)} {_metavar(parameter)}"


def written_parameters(query: queries.Query) -> list[str]:
    """Return the parameters of a query as options, each with what it is and whether it is required."""
    return [
        f"{_written(p)} ({p.meaning}{', required' if p.required else ''})" for p in query.parameters
    ]


def _flag(parameter: queries.Parameter) -> str:
    """Return the printed option of a parameter: with hyphens, as all options have."""
    return "--" + parameter.name.replace("_", "-")


def example_of(query: queries.Query) -> str:
    """Return a command that runs a query with the examples of its required parameters."""
    words = ["atlas query", query.name]
    for parameter in query.parameters:
        if parameter.required:
            value = parameter.example
            text = " ".join(map(str.strip, map(str, value))) if type(value) is list else str(value)
            plain = re.fullmatch(r"[\w./:@+-]+", text)
            words += [_flag(parameter), text if plain else f"'{text}'"]
    return " ".join(words)


def complete_query(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the named queries that begin with the typed text, for the shell."""
    if ctx.params.get("words"):
        return []
    return [
        CompletionItem(query.name, help=query.title)
        for query in queries.every()
        if query.name.startswith(incomplete)
    ]


def _option(parameter: queries.Parameter) -> click.Option:
    return click.Option(
        # The name in Cypher is accepted too.
        [*dict.fromkeys((_flag(parameter), f"--{parameter.name}")), _PREFIX + parameter.name],
        multiple=parameter.type.endswith("[]"),
        metavar=_metavar(parameter),
        help=_meaning(parameter),
        shell_complete=COMPLETIONS.get(parameter.names or parameter.name),
        type=click.Choice(parameter.choices) if parameter.choices else None,
    )


def _metavar(parameter: queries.Parameter) -> str:
    if parameter.names:
        return parameter.names.upper()
    if parameter.type.endswith("[]"):
        return "WORDS" if parameter.type == "string[]" else "NUMBERS"
    return {"string": "TEXT", "int64": "N", "double": "X", "bool": "true|false"}[parameter.type]


def _meaning(parameter: queries.Parameter) -> str:
    """Return the meaning of a parameter for the help: with its choices, and default or example."""
    listed = "; words are sought with and without a leading space" * (parameter.type == "string[]")
    choices = f"; one of {', '.join(parameter.choices)}" if parameter.choices else ""
    default = parameter.example if parameter.example != "" else "''"
    state = "[required]" if parameter.required else f"[default: {default}]"
    return f"{parameter.meaning}{listed}{choices}  {state}"


def _items(values: Sequence[str]) -> list[Any]:
    """Return the items of a list that is written as JSON or as words."""
    items: list[Any] = []
    for value in values:
        if value.lstrip().startswith("["):
            try:
                listed = json.loads(value)
                items += [with_spaces(item) if type(item) is str else item for item in listed]
                continue
            except ValueError:
                pass
        if value.startswith(" ") and len(value.split()) == 1:
            items.append(value)  # the exact text of a token
            continue
        for word in re.split(r"[\s,]+", value.strip()):
            items += [with_spaces(word)] if SPACE in word else [f" {word}", word]
    return list(dict.fromkeys(items))
