"""Rooms: plugins that add commands, plots and doctor checks.

Each room is an entry point of the group ``atlas.rooms`` that names a ``Room``, so that
lower rooms need not import upper ones. Any package can add a room. A room that fails to
import causes one line of warning.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import click

__all__ = [
    "SECTIONS",
    "Check",
    "Failed",
    "Room",
    "find_plotter",
    "find_reader",
    "find_rooms",
    "import_function",
]

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
        Function that plots a result, as ``module:function``, by kind of study. It takes an
        ``atlas.studies.results.Result`` and returns an Altair chart.
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


def find_plotter(kind: str) -> Callable[[Any], Any] | None:
    """Return the function that plots results of a kind of study; None if no room has one."""
    for room in find_rooms():
        if isinstance(room, Room) and kind in room.plots:
            return import_function(room.plots[kind])
    return None


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
