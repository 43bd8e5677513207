"""Generate the command of a study: options from its settings, then verdict and table.

A study whose only arguments are names of SAEs needs no other code for its command.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click

from atlas.cli.options import chosen_settings, settings_options, worker_options
from atlas.cli.output import (
    atlas_option,
    echo,
    emit,
    folder_of,
    make_progress,
    print_table,
    shared_options,
    which_atlas,
)

__all__ = ["study_command"]


def study_command(
    name: str, function: str, settings: type, *, help: str, columns: Sequence[str] = ()
) -> click.Command:
    """Return the command of a study.

    Parameters
    ----------
    name
        Name of the command.
    function
        ``module:function`` that runs the study; it is imported when the command runs. It
        takes the atlas, names of SAEs, and the keywords ``settings``, ``replace``,
        ``workers``, ``ray`` and ``progress``, and returns ``Results``.
    settings
        The settings class.
    help
        Help text with an example.
    columns
        Columns of the summary to print; all columns without lists, if empty.
    """

    @click.command(name, help=help)
    @click.argument("saes", nargs=-1, metavar="[SAE]...")
    @settings_options(settings)
    @worker_options
    @click.option("--replace", is_flag=True, help="Recompute stored results.")
    @atlas_option
    @shared_options
    def command(saes: tuple[str, ...], **options: Any) -> None:
        own = ("workers", "ray", "replace")
        results = _imported(function)(
            folder_of(which_atlas(options["where"])),
            saes or None,
            settings=settings(**chosen_settings(settings, options)),
            **{name: options[name] for name in own},
            progress=make_progress(quiet=options["quiet"]),
        )

        def show() -> None:
            for sentence in results.verdict:
                echo(sentence)
            print_table(results.rows, columns=columns or _plain_columns(results.rows))

        emit(results.rows, as_json=options["as_json"], show=show)

    return command


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _plain_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    columns = [k for k, v in rows[0].items() if not isinstance(v, list | dict)]
    # The last rows are those of floors, if any.
    return [*columns, *(n for n in ("role", "floor_of") if n in rows[-1] and n not in columns)]
