"""Examples in the help of commands, in lines that a terminal of 80 columns does not break."""

import textwrap

import click

__all__ = ["wrap_examples"]

# Columns of an example: a terminal of 80, less the indent of the help.
_WIDTH = 76


def wrap_examples(command: click.Command) -> None:
    """Break long examples of a command and its subcommands with a backslash, before an option if possible."""
    if command.help:
        command.help = "\n".join(map(_broken, command.help.split("\n")))
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        wrap_examples(each)


def _broken(line: str) -> str:
    """Break a line that begins with ``atlas`` or an option, such that it can be copied to a shell."""
    text = line.strip()
    if len(textwrap.dedent(line)) <= _WIDTH or not text.startswith(("atlas ", "--")):
        return line
    indent = line[: len(line) - len(line.lstrip())]
    more = indent + ("  " if text.startswith("atlas ") else "")
    pieces = text.replace(" --", "\n--").split("\n")
    lines = [indent + pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1].lstrip()) + 1 + len(piece) <= _WIDTH - len(more):
            lines[-1] += f" {piece}"
        else:
            lines.append(more + piece)
    return " \\\n".join(lines)
