"""Command-line options that select a text, shared by all commands."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from atlas.cli.completion import complete_file

__all__ = ["text_options"]

F = TypeVar("F", bound=Callable[..., Any])

#: Options that are valid only together with --text.
_READER_OPTIONS = ("field", "split", "revision", "split_on")


def text_options(without: str, *, what: str = "", tokens: bool = True) -> Callable[[F], F]:
    """Add the arguments ``text`` (a Text or None) and ``tokens`` (the most to read) to a command.

    Parameters
    ----------
    without
        The default of ``--text``, for its help.
    what
        How the command uses the text, for the same help.
    tokens
        Whether to add ``--tokens``; false for a command that defines it otherwise.
    """
    options = [
        click.option(
            "--text",
            metavar="TEXT",
            shell_complete=complete_file,
            help="A .txt, .jsonl or .parquet file, a folder of them, or a data set (hf:NAME)"
            f"{what}. [default: {without}]",
        ),
        click.option(
            "--field",
            default="text",
            show_default=True,
            help="With --text: the field that holds the text.",
        ),
        click.option(
            "--split", default="train", show_default=True, help="With --text: split of a data set."
        ),
        click.option("--revision", help="With --text: revision of a data set."),
        click.option(
            "--split-on",
            type=click.Choice(["paragraph", "line", "file"]),
            default="paragraph",
            show_default=True,
            help="With --text: the unit that is one document in a plain text file.",
        ),
        click.option(
            "--tokens",
            type=click.IntRange(1),
            help="Stop after the document that reaches this many tokens, counted by the first model's "
            "tokenizer. That document is cut if it exceeds the number by more than a tenth.",
        ),
    ]

    def decorate(function: F) -> F:
        @wraps(function)
        def called(
            *args: Any,
            text: str | None,
            field: str,
            split: str,
            revision: str | None,
            split_on: Any,
            **rest: Any,
        ) -> Any:
            from ingest.text.atlas_corpus import Text

            context = click.get_current_context()
            for name in _READER_OPTIONS if text is None else ():
                if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                    option = f"--{name.replace('_', '-')}"
                    raise click.UsageError(f"{option} requires --text; name a text with --text.")
            if text is not None and not text.strip():
                raise click.UsageError(
                    "--text is empty; a file, a folder or a data set is expected."
                )
            request = (
                None
                if text is None
                else Text(text, field=field, split=split, revision=revision, split_on=split_on)
            )
            return function(*args, text=request, **rest)

        for option in reversed(options if tokens else options[:-1]):
            called = option(called)
        return called  # type: ignore[return-value]

    return decorate
