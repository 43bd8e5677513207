"""The entry point of the command, which answers Ctrl-C also while modules are imported."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Import the command, run it, and exit with its status; see ``atlas.cli.main.main``.

    Parameters
    ----------
    argv
        The words after ``atlas``; those of the process, if None.

    Raises
    ------
    SystemExit
        With the exit status.
    """
    try:
        from atlas.cli.main import main as run

        run(argv)
    except KeyboardInterrupt:
        _exit_interrupted(sys.argv[1:] if argv is None else argv)


def _exit_interrupted(args: Sequence[str]) -> None:
    """Print one message by the standard library, because other modules may be half imported."""
    import json
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from atlas.errors import Interrupted

    error = Interrupted()
    if "--json" in args:
        answer = {"ok": False, "error": {"type": Interrupted.__name__, "message": str(error)}}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stderr.write(f"\natlas: {error}\n")
    sys.exit(error.exit_code)
