"""What a command prints on a terminal of 80 columns, as plain text for ``print`` of an object."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["WIDTH", "drawn_text", "is_drawing", "new_console", "screen_width"]

#: Columns of the text.
WIDTH = 80

_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


def drawn_text(draw: Callable[[], object]) -> str:
    """Return what a function prints as on a terminal of 80 columns, without colours or remarks.

    Parameters
    ----------
    draw
        Prints by the functions of ``atlas.cli.output`` to stdout. What it prints to stderr, such as
        the names of omitted columns and the options that print them, is dropped.

    Returns
    -------
    str
        The lines, without a line break at the end.

    Examples
    --------
    >>> drawn_text(lambda: print(click.style("bold", bold=True)))
    'bold'
    """
    page = io.StringIO()
    token = _drawing.set(True)
    try:
        with redirect_stdout(page):
            draw()
    finally:
        _drawing.reset(token)
    lines = click.unstyle(page.getvalue()).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def is_drawing() -> bool:
    """Whether a text is drawn for Python instead of printed by a command."""
    return _drawing.get()


def new_console() -> "Console":
    """Return a console of the terminal, or of the text that is drawn."""
    from rich.console import Console

    if is_drawing():
        return Console(
            width=WIDTH, force_terminal=True, force_jupyter=False, no_color=True, highlight=False
        )
    return Console(highlight=False)


def screen_width() -> int:
    """Return the number of columns of the terminal, or of the text that is drawn."""
    import shutil

    return WIDTH if is_drawing() else shutil.get_terminal_size().columns
