"""Parse the arguments of ``atlas query``, list and search the named queries, and mark sampled tokens."""

import difflib
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import queries
from atlas.amounts import counted
from atlas.cli.output.screen import on_terminal
from atlas.cli.output.text import echo, emit, print_heading, print_paragraph, print_text
from atlas.cli.query_command import example_of
from atlas.cli.shared_options import requested
from atlas.errors import BadInput, UnknownName
from atlas.missing_studies import remarks_on
from atlas.missing_tokens import missing_tokens
from atlas.named_queries import Question, named
from atlas.safe_text import passage, with_spaces

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["list_questions", "marked", "read_question", "remarks"]

_NEEDED = frozenset({"text", "tokens", "peak"})


def marked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of an answer in a readable form.

    In a row that is an example (with ``text``, ``tokens`` and ``peak``), the text has the
    sampled token in ``[[ ]]``, and the columns by token are dropped. Other rows are unchanged.
    """
    if not row.keys() >= _NEEDED or row["tokens"] is None:
        return dict(row)
    text = passage(row["tokens"], row["peak"])
    shown = {k: v for k, v in row.items() if k not in ("tokens", "activations", "peak")}
    return shown | {"text": text}


#: Parameters that are texts of tokens.
_TOKENS = {"token", "tokens", "text"}

_STORED_TOKENS = (
    "Only the 20 most frequent tokens of each feature are stored: a feature whose activity on a token is a "
    "small share of its own is missing."
)


def remarks(atlas: "Atlas", question: Question, rows: int) -> list[str]:
    """Return the sentences below an answer: its size, tokens that are not stored, and why it has no rows.

    Parameters
    ----------
    atlas
        The atlas, still open.
    question
        The question.
    rows
        Number of rows of the answer.
    """
    found = remarks_on(atlas.store, question, rows)
    # A token that is typed, and not found through a feature, may be rare in all features.
    by_token = question.query is not None and ":FIRES_ON" in question.cypher
    stored = [_STORED_TOKENS] if by_token and _TOKENS & question.params.keys() else []
    missing = missing_tokens(atlas.store, question)
    if rows:
        return [*(found or [counted(rows, "row")]), *missing, *stored]
    return [counted(rows, "row"), *missing, *stored, *found]


def read_question(
    name: str | None,
    cypher: str | None,
    params: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
) -> Question:
    """Return the question that the arguments of ``atlas query`` specify.

    Parameters
    ----------
    name
        Name of a query, or None.
    cypher
        The user's own query, or None.
    params
        Parameters as ``name=value``. For a named query, ``␣`` stands for a space. For the
        user's own query, a value that is valid JSON is parsed; any other value is a string.
    options
        Parameters of the named query that were passed as options.
    """
    values: dict[str, Any] = dict(options or {})
    for each in params:
        key, equals, value = each.partition("=")
        if not equals:
            raise BadInput(f"--param got {each!r}; expected NAME=VALUE.")
        if key in (options or {}):
            raise BadInput(
                f"The parameter {key} is passed twice, by --{key} and --param; pass it once."
            )
        values[key] = value if cypher is not None else with_spaces(value)
    if name is not None and cypher is not None:
        raise BadInput("Got the name of a query and --cypher; expected only one of them.")
    if cypher is None:
        assert name is not None
        try:
            return named(name, values)
        except BadInput as error:
            raise BadInput(f"{error} `atlas query {name} --help` shows an example.") from None
    return Question(cypher, {key: _read(value) for key, value in values.items()})


def list_questions(words: str = "", *, as_json: bool) -> None:
    """Print the named queries by topic: all of them, or those that contain some words.

    On a terminal, all queries are listed by name only. A search, a pipe and ``--rows`` also show
    the question and the parameters.

    Parameters
    ----------
    words
        Words that each query must contain; see ``queries.search``.

    Raises
    ------
    UnknownName
        If no query contains the words.
    """
    found = queries.search(words)
    if not found:
        near = difflib.get_close_matches(words, queries.names(), n=5, cutoff=0.5)
        topics = "" if near else f"Topics: {', '.join(queries.TOPICS)}. "
        hint = (
            f"{topics}`atlas query WORD` lists the queries with a word in their text, and "
            "`atlas query` all."
        )
        raise UnknownName("query", words, known=near, hint=hint)
    rows = [
        {
            "name": q.name,
            "topic": q.topic,
            "question": q.question,
            "parameters": " ".join(p.name for p in q.parameters),
        }
        for q in found
    ]
    emit(rows, as_json=as_json, show=lambda: _show_questions(found, words))


def _show_questions(found: Sequence[queries.Query], words: str) -> None:
    complete = bool(words) or requested("rows") or not on_terminal()
    for topic, group in groupby(found, key=lambda query: query.topic):
        print_heading(topic)
        listed = list(group)
        if not complete:
            print_text("  ".join(query.name for query in listed), indent="  ")
        for query in listed if complete else ():
            names = [p.name if p.required else f"[{p.name}]" for p in query.parameters]
            echo(f"  {query.name}")
            print_text(query.question, indent="      ")
            print_text(f"Parameters: {', '.join(names) or 'none'}", indent="      ")
    if words:
        echo(f"\nExample: {example_of(found[0])}", err=True)
        return
    remark = (
        "`atlas query WORD` lists the questions with a word, and --rows all questions. "
        "`atlas query NAME --help` shows the parameters and columns of one, and an example."
    )
    print_paragraph(remark, err=True)


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
