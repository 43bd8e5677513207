"""Generate the command of a study: options from its settings, then verdict and table.

A study whose only arguments are names of SAEs needs no other code for its command. Other tables,
plots and files are functions that its module names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import click

from atlas.cli.options import (
    all_option,
    chosen_settings,
    selected_names,
    settings_options,
    worker_options,
)
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, emit, make_progress, print_verdict
from atlas.cli.selected_atlas import folder_of, which_atlas
from atlas.cli.shared_options import atlas_option, out_option, shared_options
from atlas.plugins import StudyCommand, import_function
from atlas.studies.settings import settings_of

__all__ = ["Writer", "plain_columns", "study_command"]


Decorator: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Writer:
    """The option ``--out`` of a command, which draws or exports its results.

    Parameters
    ----------
    help
        Help of the option.
    prepare
        ``module:function`` that checks the request before the study runs. It takes the paths, the
        names of SAEs, and the values of ``options`` as keywords, and returns a function from
        ``Results`` to the names of the files that it wrote. It is called if there is a path or an
        option.
    options
        Decorators of further options, whose values only ``prepare`` reads.
    """

    help: str
    prepare: str
    options: tuple[Decorator, ...] = ()


def study_command(
    name: str,
    function: str,
    settings: type,
    *,
    help: str,
    kind: str = "",
    columns: Sequence[str] = (),
    controls: Mapping[str, Sequence[str]] | None = None,
    metavar: str = "[SAE]...",
    every: bool = True,
    writer: Writer | None = None,
    report: str = "",
    show: str = "",
) -> StudyCommand:
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
    kind
        Kind of the parts of the study; the name of the command, if empty.
    columns
        Columns of the summary to print; all columns without lists, if empty.
    controls
        Columns that are the controls of a score, by its name; see ``atlas.cli.output.columns.with_controls``.
    metavar
        The names of SAEs in the help.
    every
        Whether there is an option ``--all``; not for a study that uses all SAEs if none is named.
    writer
        The option ``--out``; None for a command that writes no file.
    report
        ``module:function`` from ``Results`` and the names of SAEs to the content of ``--json``, a
        dict. The summary, if empty.
    show
        ``module:function`` that prints this content below the verdict. A table, if empty.
    """

    def command(saes: tuple[str, ...], **options: Any) -> None:
        names = selected_names(saes, every=options.pop("every", False))
        path = folder_of(which_atlas(options.pop("where")))
        quiet, as_json = options.pop("quiet"), options.pop("as_json")
        run = {key: options.pop(key) for key in ("workers", "ray", "replace")}
        chosen = chosen_settings(settings, options)
        outs, write = options.pop("outs", ()), None
        fields = {one.name for one in settings_of(settings)}
        extra = {key: value for key, value in options.items() if key not in fields}
        if writer is not None and (outs or any(extra.values())):
            write = import_function(writer.prepare)(outs, saes, **extra)
        results = import_function(function)(
            path,
            names,
            settings=settings(**chosen),
            **run,
            progress=make_progress(quiet=quiet),
        )
        found = import_function(report)(results, saes) if report else results.rows
        written = write(results) if write is not None else []

        def print_all() -> None:
            print_verdict(results)
            if show:
                import_function(show)(found)
            else:
                print_table(
                    results.rows,
                    columns=columns or plain_columns(results.rows),
                    controls=controls,
                    turned=True,
                )
            for each in written:
                echo(each)

        if written and not isinstance(found, dict):
            found = {"results": found}
        content = {**found, "written": written} if writer and isinstance(found, dict) else found
        emit(content, as_json=as_json, show=print_all)

    for decorate in _decorators(settings, metavar=metavar, every=every, writer=writer):
        command = decorate(command)
    made = click.command(
        name, cls=StudyCommand, help=help, kind=kind, package=function.rpartition(".")[0]
    )
    return made(command)


def _decorators(
    settings: type, *, metavar: str, every: bool, writer: Writer | None
) -> list[Decorator]:
    """Return the decorators of a command, from the last option in the help to the first."""
    first: list[Decorator] = [click.argument("saes", nargs=-1, metavar=metavar)]
    if every:
        first.append(all_option)
    first.append(settings_options(settings))
    if writer is not None:
        first.append(out_option(writer.help))
        first += writer.options
    replace = click.option("--replace", is_flag=True, help="Recompute stored results.")
    return [*first, worker_options, replace, atlas_option, shared_options][::-1]


def plain_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of summaries without lists, those of floors last."""
    if not rows:
        return []
    columns = [k for k, v in rows[0].items() if not isinstance(v, list | dict)]
    # The last rows are those of floors, if any.
    return [*columns, *(n for n in ("role", "floor_of") if n in rows[-1] and n not in columns)]
