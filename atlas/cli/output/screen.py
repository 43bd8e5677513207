"""One screen of output for a study on a terminal: three sentences, then at most 40 lines."""

from collections.abc import Sequence

import click

from atlas.cli.output.drawn_text import is_drawing, new_console
from atlas.cli.shared_options import requested
from atlas.plugins import StudyCommand
from atlas.studies.results import sentences_of

__all__ = [
    "LINES",
    "SENTENCES",
    "Screen",
    "current_screen",
    "on_terminal",
    "prints_all",
    "split_verdict",
]

#: Sentences of a verdict above the tables of a study, and lines below them, without ``--rows``.
SENTENCES, LINES = 3, 40


class Screen:
    """What a command has printed below its verdict, and what remains to be printed.

    Attributes
    ----------
    free
        Lines that may still be printed.
    rest
        Sentences of the verdict that follow the tables.
    omitted
        Titles of tables without space.
    has_verdict
        Whether a verdict was printed; the lines of the first one do not count.
    closes
        Whether the end of the command prints ``rest`` and ``omitted``.
    """

    def __init__(self) -> None:
        self.free = LINES
        self.rest: list[str] = []
        self.omitted: list[str] = []
        self.has_verdict = False
        self.closes = False

    def use(self, lines: int) -> None:
        """Count printed lines."""
        self.free = max(0, self.free - lines)


def current_screen() -> Screen | None:
    """Return the screen of the running command; None with ``--rows``, in a pipe, and for no study."""
    context = None if is_drawing() else click.get_current_context(silent=True)
    if context is None or any(context.meta.get(f"atlas.{one}", True) for one in ("rows", "full")):
        return None
    found = context.meta.get("atlas.screen")
    if isinstance(found, Screen):
        return found
    if not (isinstance(context.command, StudyCommand) and on_terminal()):
        return None
    screen = context.meta["atlas.screen"] = Screen()
    return screen


def on_terminal() -> bool:
    """Return whether stdout is a terminal, where tables are cut to one screen."""
    return new_console().is_terminal


def prints_all() -> bool:
    """Return whether a study prints all its rows: in a pipe, and with ``--rows`` or ``--full``."""
    return requested("rows") or not on_terminal()


def split_verdict(groups: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Divide verdicts into what is printed above the tables, and what follows them.

    Parameters
    ----------
    groups
        The verdict of each result: texts of one or more sentences.

    Returns
    -------
    The first three sentences of one result, or the first sentence of each of several; and the others.

    Examples
    --------
    >>> split_verdict([["One. Two.", "Three, e.g. 3. Four."]])
    (['One. Two.', 'Three, e.g. 3.'], ['Four.'])
    >>> split_verdict([["a: 1. More."], ["b: 2."]])
    (['a: 1.', 'b: 2.'], ['More.'])
    """
    most = SENTENCES if len(groups) == 1 else 1
    first, rest = [], []
    for group in groups:
        free = most
        for text in group:
            sentences = sentences_of(text)
            first.append(" ".join(sentences[:free]))
            rest.append(" ".join(sentences[free:]))
            free = max(0, free - len(sentences))
    return [text for text in first if text], [text for text in rest if text]
