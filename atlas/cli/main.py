"""The command ``atlas``: the commands of all rooms, and the conversion of errors to messages."""

import os
import sys
from collections.abc import Sequence
from io import StringIO

import click

from atlas.cli.output import echo
from atlas.errors import AtlasError
from atlas.plugins import Failed, find_rooms
from atlas.safe_text import json_line

__all__ = ["command", "main"]


class _Rooms(click.Group):
    """A group that lists its commands in the order in which the rooms define them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def command() -> click.Group:
    """Return the command with the subcommands of every room."""
    group = _Rooms(
        "atlas",
        help="An atlas of the features that sparse autoencoders find in language models.\n\n"
        "Start with `atlas demo`, which creates a small example atlas. `atlas ingest` creates "
        "an atlas of your own model, SAEs and text.",
        epilog="Results go to stdout, progress to stderr. Exit status: 0 success, 1 failure, 2 invalid request.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    group = click.version_option(package_name="feature-atlas")(group)
    for room in find_rooms():
        if isinstance(room, Failed):
            echo(f"atlas: the room {room.name!r} cannot be imported ({room.reason})", err=True)
            continue
        for each in room.commands:
            group.add_command(each)
    return group


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    args = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_run(args))


def _run(args: list[str]) -> int:
    try:
        status = command().main(args, prog_name="atlas", standalone_mode=False)
    except click.ClickException as error:
        _print_error(args, type(error).__name__, error.format_message(), usage=error)
        return error.exit_code
    except AtlasError as error:
        _print_error(args, type(error).__name__, str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _print_error(
            args,
            "Interrupted",
            "Interrupted. Finished work is stored; run the same command again to continue.",
        )
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return _closed_pipe()
        target = f" {error.filename}" if error.filename else ""
        _print_error(
            args,
            "OSError",
            f"The system refused{target}: {error.strerror or error}. Finished work is stored; check "
            "permissions, free space and the path, then run the same command again.",
        )
        return 1
    return status if isinstance(status, int) else 0


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
    else:
        echo(f"atlas: {sentence}", err=True)
