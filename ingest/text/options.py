"""The options by which commands are given a text, the same for all of them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
from click.core import ParameterSource

__all__ = ["text_options"]

F = TypeVar("F", bound=Callable[..., Any])

#: Options that say how a text is read.
_HOW = ("field", "split", "revision", "split_on")


def text_options(without: str, *, what: str = "") -> Callable[[F], F]:
    """Give a command ``text``, a Text or None, and ``tokens``, how many of it are read at most.

    Parameters
    ----------
    without
        What is read without ``--text``, for its help.
    what
        What is done with the text, for the same.
    """
    options = [
        click.option("--text", metavar="TEXT",
                     help="A .txt, .jsonl or .parquet file, a folder of them, or a data set (hf:NAME)"
                     f"{what}. [default: {without}]"),
        click.option("--field", default="text", show_default=True,
                     help="The field that holds the text."),
        click.option("--split", default="train", show_default=True, help="Of a data set."),
        click.option("--revision", help="Of a data set."),
        click.option("--split-on", type=click.Choice(["paragraph", "line", "file"]), default="paragraph",
                     show_default=True, help="What is a document in a plain text file."),
        click.option("--tokens", type=click.IntRange(1),
                     help="Stop after the document that reaches this many tokens, as the first model's tokenizer counts; "
                     "one that would exceed it by more than a tenth is cut."),
    ]  # fmt: skip

    def give(function: F) -> F:
        @wraps(function)
        def called(
            *args: Any, text: str | None, field: str, split: str, revision: str | None,
            split_on: Any, **rest: Any,
        ) -> Any:  # fmt: skip
            from ingest.text.atlas_corpus import Text

            asked = click.get_current_context()
            for name in _HOW if text is None else ():
                if asked.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                    option = f"--{name.replace('_', '-')}"
                    raise click.UsageError(
                        f"{option} says how a text is read; name one with --text."
                    )
            if text is not None and not text.strip():
                raise click.UsageError(
                    "--text was given nothing; a file, a folder or a data set is expected."
                )
            given = None if text is None else Text(
                text, field=field, split=split, revision=revision, split_on=split_on
            )  # fmt: skip
            return function(*args, text=given, **rest)

        for option in reversed(options):
            called = option(called)
        return called  # type: ignore[return-value]

    return give
