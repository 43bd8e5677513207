"""Rooms: plugins that add commands, plots and doctor checks.

Each room is an entry point of the group ``atlas.rooms`` that names a ``Room``, so that
lower rooms need not import upper ones. Any package can add a room. A room that fails to
import causes one line of warning.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

__all__ = [
    "ALL",
    "SECTIONS",
    "Check",
    "Failed",
    "Room",
    "StudyCommand",
    "computing_command",
    "feature_command",
    "find_plotter",
    "find_reader",
    "find_rooms",
    "import_function",
    "study_commands",
]

ALL = "all"
"""Passed instead of names of SAEs, selects every SAE that a study can use."""

#: Sections of ``atlas --help``, in order.
SECTIONS = (
    "Start",
    "Inspect",
    "Measure SAEs",
    "Compare SAEs",
    "Edit the model",
    "Share and maintain",
)


@dataclass(frozen=True)
class Check:
    """One check of ``atlas doctor``.

    Parameters
    ----------
    about
        Subject of the check.
    state
        ``"ok"``, ``"note"`` (no action needed) or ``"fault"``.
    message
        Result of the check.
    remedy
        Remedy, if there is one.
    """

    about: str
    state: Literal["ok", "note", "fault"]
    message: str
    remedy: str = ""


class StudyCommand(click.Command):
    """The command of a study.

    Parameters
    ----------
    kind
        Kind of the parts of the study; the name of the command, if empty.
    package
        Package of the study; that of the function of the command, if empty. The function ``draw``
        of its module ``plots``, if there is one, plots a result.
    example
        Arguments of the command in messages; if empty, its required arguments, or else its SAEs.
    also
        Option with which the command computes parts of another kind, by this kind.
    of_feature
        Name of the command that answers the question for a single feature, SAE/INDEX.
    """

    def __init__(
        self,
        name: str | None,
        *,
        kind: str = "",
        package: str = "",
        example: str = "",
        also: Mapping[str, str] | None = None,
        of_feature: str = "",
        **attributes: Any,
    ) -> None:
        super().__init__(name, **attributes)
        self.kind = kind or str(name)
        self.package = package or str(self.callback.__module__).rpartition(".")[0]
        self.also = dict(also or {})
        self.of_feature = of_feature
        self._example = example

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, and store the command as typed, without a password in a URL."""
        names = [str(each.info_name) for each in _path(ctx)[1:]]
        words = shlex.join(["atlas", *names, *args])
        ctx.meta["atlas.command"] = re.sub(r"://[^/@\s]*@", "://", words)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and collect the results of its studies for their provenance."""
        from atlas.studies.collected_provenance import collecting

        with collecting():
            return super().invoke(ctx)

    @property
    def example(self) -> str:
        """The command with its arguments, for messages: ``atlas match A B``."""
        arguments = (p for p in self.params if isinstance(p, click.Argument))
        shown = " ".join(a.metavar or str(a.name).upper() for a in arguments).replace("...", "")
        words = re.sub(r"\[.*?\]", "", shown).split() or re.findall(r"SAE(?!/)", shown)
        letters = iter("ABCDEF")
        words = [next(letters) if word == "SAE" else word for word in words]
        return " ".join(["atlas", str(self.name), *(self._example.split() or words)])

    def with_saes(self, saes: Sequence[str]) -> str | None:
        """The running command as it was typed, for other SAEs; None outside it, or without such a parameter.

        Parameters
        ----------
        saes
            Names of the SAEs.
        """
        context = click.get_current_context(silent=True)
        if context is None or context.command is not self or "saes" not in context.params:
            return None
        words = ["atlas", str(self.name)]
        for parameter in self.params:
            name = str(parameter.name)
            if name == "saes":
                option = parameter.opts[:1] if isinstance(parameter, click.Option) else []
                words += [word for sae in saes for word in (*option, sae)]
            elif context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                words += _typed(parameter, context.params.get(name))
        return shlex.join(words)


#: Parameters that do not change the result of a study.
_OUTPUT = {"outs", "as_json", "quiet", "replace", "workers", "ray", "every", "rows", "wide"}


def _typed(parameter: click.Parameter, value: Any) -> list[str]:
    """Return the words of a parameter with a value; none for those of the output."""
    if value is None or parameter.name in _OUTPUT:
        return []
    several = parameter.multiple or parameter.nargs != 1
    values = list(value) if several and isinstance(value, list | tuple) else [value]
    texts = [",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in values]
    if not isinstance(parameter, click.Option):
        return texts
    if parameter.is_flag:
        return [(parameter.opts if value else parameter.secondary_opts)[0]]
    return [word for text in texts for word in (parameter.opts[0], text)]


def _path(ctx: click.Context) -> list[click.Context]:
    """Return the contexts from the first command to this one."""
    return [*(_path(ctx.parent) if ctx.parent is not None else []), ctx]


@dataclass(frozen=True)
class Room:
    """A room: its commands, its checks for ``atlas doctor``, and its plots.

    Parameters
    ----------
    name
        Name of the room.
    commands
        Commands by section of the help, one of ``SECTIONS``.
    checks
        Takes the folder of an atlas, or None to check the installation only.
    plots
        Functions that plot results and are not found by their ``StudyCommand``, as
        ``module:function`` by kind of study. Each takes an ``atlas.studies.results.Result`` and
        returns an Altair chart.
    readers
        Functions that read an attribute of an SAE that lower rooms cannot read, as
        ``module:function``, by name of the attribute. It takes the open atlas and the name
        of the SAE.
    """

    name: str
    commands: Mapping[str, tuple[click.Command, ...]]
    checks: Callable[[Path | None], Iterable[Check]]
    plots: Mapping[str, str] = field(default_factory=dict)
    readers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A room that could not be imported, with the reason."""

    name: str
    reason: str


def find_rooms() -> Iterator[Room | Failed]:
    """Yield every installed room, sorted by name."""
    for entry in sorted(entry_points(group="atlas.rooms"), key=lambda e: e.name):
        try:
            yield entry.load()
        except (
            ImportError,
            AttributeError,
            SyntaxError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:
            yield Failed(entry.name, f"{type(error).__name__}: {error}")


def study_commands() -> dict[str, StudyCommand]:
    """Return the commands of studies, by the kind of their parts."""
    return {
        each.kind: each
        for room in find_rooms()
        if isinstance(room, Room)
        for commands in room.commands.values()
        for each in commands
        if isinstance(each, StudyCommand)
    }


def computing_command(kind: str) -> str:
    """Return the command that computes parts of a kind: ``atlas match``; empty if there is none."""
    for own, command in study_commands().items():
        if kind == own:
            return f"atlas {command.name}"
        if kind in command.also:
            return f"atlas {command.name} {command.also[kind]}"
    return ""


def feature_command() -> str:
    """Return the command for a feature that belongs to the running one: ``atlas changes``; empty if none."""
    context = click.get_current_context(silent=True)
    command = None if context is None else context.command
    if isinstance(command, StudyCommand) and command.of_feature:
        return f"atlas {command.of_feature}"
    return ""


def find_plotter(kind: str) -> Callable[[Any], Any] | None:
    """Return the function that plots results of a kind of study; None if there is none."""
    for room in find_rooms():
        if isinstance(room, Room) and kind in room.plots:
            return import_function(room.plots[kind])
    command = study_commands().get(kind)
    if command is None or not command.package or not find_spec(f"{command.package}.plots"):
        return None
    return import_function(f"{command.package}.plots:draw")


def find_reader(attribute: str) -> Callable[..., Any]:
    """Return the function that reads an attribute of an SAE.

    Raises
    ------
    NotImplementedError
        If no installed room reads it.
    """
    for room in find_rooms():
        if isinstance(room, Room) and attribute in room.readers:
            return import_function(room.readers[attribute])
    raise NotImplementedError(f"No installed package reads the {attribute} of SAEs.")


def import_function(path: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
