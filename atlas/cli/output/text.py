"""Text of commands: lines, verdicts, headings, JSON and progress."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from atlas.cli.output.drawn_text import is_drawing, screen_width
from atlas.cli.output.screen import LINES, Screen, current_screen, on_terminal, split_verdict
from atlas.cli.setting_names import as_options
from atlas.progress import SILENT, Progress
from atlas.safe_text import json_line, shown

if TYPE_CHECKING:
    from atlas.studies.results import Results

__all__ = [
    "echo",
    "emit",
    "fold",
    "make_progress",
    "print_heading",
    "print_paragraph",
    "print_text",
    "print_verdict",
    "study_screen",
    "wrap",
]


def make_progress(*, quiet: bool) -> Progress:
    """Return progress bars on stderr, or silent progress.

    Remarks on the result follow it: they are printed when the command ends.
    """
    if quiet:
        return SILENT
    from atlas.progress import Bars

    context = click.get_current_context(silent=True)
    bars = Bars(remarks_last=context is not None, translate=as_options)
    if context is not None:
        context.call_on_close(bars.print_remarks)
    return bars


def emit(
    result: Any,
    *,
    as_json: bool,
    show: Callable[[], None],
    ok: bool = True,
    verdict: Sequence[str] = (),
) -> None:
    """Print a result as JSON, or call ``show``.

    Parameters
    ----------
    result
        Values for JSON: the rows, and the tables that ``show`` prints.
    as_json
        Whether JSON is printed.
    show
        Prints the result as text.
    ok
        Whether the command succeeded.
    verdict
        Sentences of the verdict. Those of the results of studies, and their provenance, are added
        if the command ran a study.
    """
    if as_json:
        from atlas.studies.collected_provenance import collected_verdict

        content: dict[str, Any] = {"ok": ok}
        if sentences := list(verdict) or collected_verdict():
            content["verdict"] = [as_options(sentence) for sentence in sentences]
        content["result"] = _plain(result)
        provenance = _provenance()
        if provenance is not None:
            content["provenance"] = _plain(provenance)
        click.echo(json_line(content))
    else:
        show()


def _provenance() -> dict[str, Any] | None:
    """Return the provenance of the results of the running command; None if it ran no study."""
    from atlas.studies.collected_provenance import shared_provenance

    context = click.get_current_context(silent=True)
    command = None if context is None else context.meta.get("atlas.command")
    return None if command is None else shared_provenance(command)


def print_verdict(found: "Sequence[str] | Results") -> None:
    """Print the sentences of a verdict, each in lines of the width of the terminal.

    On a terminal without ``--rows``, a study prints the first three sentences, or the first of each
    of several results. The others follow its tables as far as they fit on the screen. The lines of a
    second verdict, or of one below a table, count as those of a table.
    """
    from atlas.studies.results import Results

    groups: list[Sequence[str]] = (
        [one.verdict for one in found] if isinstance(found, Results) else [found]
    )
    screen = study_screen()
    first = [sentence for group in groups for sentence in group]
    if screen is None:
        for sentence in first:
            click.echo(shown(wrap(sentence)))
        return
    first, rest = split_verdict(groups)
    counts = screen.has_verdict or screen.free < LINES
    screen.has_verdict = True
    for number, sentence in enumerate(first):
        text = shown(wrap(sentence))
        lines = text.count("\n") + 1
        if counts and lines > screen.free:
            rest = first[number:] + rest
            break
        click.echo(text)
        screen.use(lines if counts else 0)
    screen.rest += rest


def study_screen() -> Screen | None:
    """Return the screen of the running command, which states what it omits when the command ends."""
    screen = current_screen()
    if screen is not None and not screen.closes:
        screen.closes = True
        click.get_current_context().call_on_close(lambda: _print_rest(screen))
    return screen


def _print_rest(screen: Screen) -> None:
    """Print the sentences that fit below the tables, and state what is not printed."""
    rest, screen.rest = screen.rest, []
    if rest and screen.free > 1:
        echo()
    while rest and wrap(rest[0]).count("\n") < screen.free:
        print_text(rest.pop(0))
    missing = list(screen.omitted)
    if rest:
        missing.append("more sentences of the verdict")
    if missing:
        print_text(f"Not printed: {'; '.join(missing)}. --rows prints all.", err=True)


def print_heading(text: str) -> None:
    """Print a heading on stdout: bold on a terminal, plain in a pipe or with NO_COLOR."""
    is_bold = on_terminal() and not os.environ.get("NO_COLOR")
    click.echo(click.style(shown(text), bold=True) if is_bold else shown(text))


def wrap(text: str, *, indent: str = "") -> str:
    """Return text in lines of the width of the terminal, or on one line in a pipe.

    Settings that it names become options; see ``atlas.cli.setting_names``.
    """
    return fold(text if is_drawing() else as_options(text), indent=indent)


def fold(text: str, *, indent: str = "") -> str:
    """Return the text of a model or a corpus in lines as ``wrap`` does, with its words unchanged."""
    import textwrap

    if not on_terminal():
        return indent + shown(text)
    width = screen_width()
    if "\n" in text:
        return "\n".join(fold(line, indent=indent) for line in text.split("\n"))
    return textwrap.fill(
        shown(text),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,  # names of SAEs have hyphens
        break_long_words=False,
    )


def print_text(text: str, *, indent: str = "", err: bool = False) -> None:
    """Print text in lines of the width of the terminal; see ``wrap``."""
    echo(wrap(text, indent=indent), err=err)


def print_paragraph(text: str, *, err: bool = False) -> None:
    """Print a blank line and text in lines of the width of the terminal; see ``wrap``."""
    echo("\n" + wrap(text), err=err)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line that may contain untrusted names or tokens."""
    if err and is_drawing():
        return
    click.echo(shown(text), err=err)
    screen = None if err else study_screen()
    if screen is not None:
        screen.use(text.count("\n") + 1)


def _plain(value: Any) -> Any:
    """Convert NaN and infinities, which JSON does not allow, to null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
