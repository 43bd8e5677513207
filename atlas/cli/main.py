"""The command ``atlas``: the commands of all rooms, and the conversion of errors to messages."""

import atexit
import gc
import os
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, NoReturn

import click

from atlas.cli.completion import add_completions
from atlas.cli.early_checks import atlas_among, atlas_as_first_argument, check_names_early
from atlas.cli.help_text import wrap_examples
from atlas.cli.number_limits import limit_numbers
from atlas.cli.output.text import echo, print_text
from atlas.cli.selected_atlas import without_atlas
from atlas.cli.setting_names import name_options
from atlas.cli.wrong_words import about_wrong_word
from atlas.errors import AtlasError, BadInput, Interrupted, OutOfSpace
from atlas.plugins import SECTIONS, Failed, find_rooms
from atlas.safe_text import json_line

__all__ = ["command", "main"]

#: New objects after which Python searches for cycles of unused objects. With its default of 700,
#: the search takes a fifth of the time of importing torch, transformers and sae-lens.
NEW_OBJECTS = 100_000

#: Commands by their earlier names, which a message answers.
RENAMED = {
    "compare": "compare-graphs",
    "concept-subspaces": "subspaces",
    "counterparts": "match-graphs",
    "interpretability": "describe",
    "map": "feature-map",
    "probes": "probe-scores",
    "stats": "graph-stats",
}


class _Sections(click.Group):
    """A group whose help lists its commands by section."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        self.sections: dict[str, list[click.Command]] = {name: [] for name in SECTIONS}

    def add(self, section: str, commands: Iterable[click.Command]) -> None:
        """Add commands to a section of the help."""
        for each in commands:
            self.add_command(each)
            self.sections.setdefault(section, []).append(each)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; answer an earlier name with the present one."""
        name = args[0]
        if name in RENAMED and name not in self.commands:
            ctx.fail(f"The command {name!r} is now named {RENAMED[name]!r}.")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(each.name) for listed in self.sections.values() for each in listed]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)), default=0)
        limit = formatter.width - width - 4
        for section, commands in self.sections.items():
            if commands:
                rows = [
                    (str(each.name).ljust(width), each.get_short_help_str(limit))
                    for each in sorted(commands, key=lambda c: str(c.name))
                ]
                with formatter.section(section):
                    formatter.write_dl(rows)


def command() -> click.Group:
    """Return the command with the subcommands of every room."""
    group = _Sections(
        "atlas",
        help="An atlas of the features that sparse autoencoders find in language models.\n\n"
        "Start with `atlas demo`, which creates a small example atlas. `atlas ingest` creates "
        "an atlas of your own model, SAEs and text.",
        epilog="`atlas COMMAND --help` shows the options of a command and an example. Results go to "
        "stdout, progress to stderr. Exit status: 0 success, 1 failure, 2 invalid request, 130 interrupted.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    for room in find_rooms():
        if isinstance(room, Failed):
            echo(f"atlas: the room {room.name!r} cannot be imported ({room.reason})", err=True)
            continue
        for section, commands in room.commands.items():
            group.add(section, commands)
    add_completions(group)
    check_names_early(group)
    atlas_as_first_argument(group)
    limit_numbers(group)
    name_options(group)
    wrap_examples(group)
    return click.version_option(package_name="feature-atlas")(group)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status.

    Parameters
    ----------
    argv
        The words after ``atlas``. None takes those of the process, and the command is then all
        that the process does.

    Raises
    ------
    SystemExit
        With the exit status, if ``argv`` is passed.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    status = _run(list(sys.argv[1:] if argv is None else argv))
    if argv is None and "torch" in sys.modules:
        _end_process(status)
    sys.exit(status)


def _end_process(status: int) -> NoReturn:
    """End the process without destroying each object of its libraries.

    With torch, transformers and sae-lens, Python takes more than a second for that. Functions
    registered with ``atexit`` still run, and output is written.
    """
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1
    os._exit(status)


def _run(args: list[str]) -> int:
    try:
        status = command().main(args, prog_name="atlas", standalone_mode=False)
    except click.ClickException as error:
        if refused := atlas_among(error, args) or about_wrong_word(error, args):
            _print_error(args, BadInput.__name__, refused)
            return error.exit_code
        _print_error(args, type(error).__name__, error.format_message(), usage=error)
        return error.exit_code
    except AtlasError as error:
        _print_error(args, type(error).__name__, str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        interrupted = Interrupted()
        _print_error(args, Interrupted.__name__, str(interrupted))
        return interrupted.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return _closed_pipe()
        target = f" {error.filename}" if error.filename else ""
        _print_error(
            args,
            "OSError",
            f"The system refused{target}: {error.strerror or error}. Check permissions, free space and the "
            "path, then run the same command again; it continues from the work that is stored, if any.",
        )
        return 1
    except (MemoryError, ValueError, RuntimeError) as error:
        if not _asks_too_much(error):
            raise
        _print_error(
            args,
            OutOfSpace.__name__,
            f"Memory does not suffice ({str(error).rstrip('.') or type(error).__name__}). Pass smaller numbers, for example of "
            "draws, repeats or tokens, or use a machine with more memory.",
        )
        return 1
    return status if isinstance(status, int) else 0


def _asks_too_much(error: Exception) -> bool:
    """Return whether an array does not fit into memory, or into any memory."""
    if isinstance(error, MemoryError):
        return True
    numpy = (
        "array is too big",
        "Maximum allowed dimension exceeded",
        "Maximum allowed size exceeded",
    )
    torch = ("Storage size calculation overflowed", "can't allocate memory")
    phrases = numpy if type(error) is ValueError else torch if type(error) is RuntimeError else ()
    return any(phrase in str(error) for phrase in phrases)


def _closed_pipe() -> int:
    # Prevent a second error message from Python at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _print_error(
    args: list[str], kind: str, sentence: str, usage: click.ClickException | None = None
) -> None:
    if "--json" in args:
        click.echo(json_line({"ok": False, "error": {"type": kind, "message": sentence}}))
    elif usage is not None and isinstance(usage, click.UsageError):
        message = StringIO()
        usage.show(message)
        echo(message.getvalue().rstrip("\n"), err=True)
        missing = isinstance(usage, click.MissingParameter) and isinstance(
            usage.param, click.Argument
        )
        if missing and usage.ctx is not None and (hint := without_atlas(usage.ctx.command)):
            print_text(hint, err=True)
    else:
        print_text(f"atlas: {sentence}", err=True)


if __name__ == "__main__":
    main()
