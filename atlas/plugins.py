"""Rooms: how commands and doctor checks are found without lower rooms knowing upper ones.

Each room is an entry point of the group ``atlas.rooms`` that names a ``Room``.
Anyone can add one; a room that fails to import costs one warning line.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import click

__all__ = ["Check", "Failed", "Room", "find_rooms"]


@dataclass(frozen=True)
class Check:
    """One thing the doctor looked at.

    Parameters
    ----------
    about
        What was looked at.
    state
        ``"ok"``, ``"note"`` (worth knowing) or ``"fault"`` (something is wrong).
    said
        What was found.
    todo
        What to do about it.
    """

    about: str
    state: Literal["ok", "note", "fault"]
    said: str
    todo: str = ""


@dataclass(frozen=True)
class Room:
    """One room of the house: its commands, and what it can tell the doctor.

    ``checks`` takes the folder of the atlas asked about, or None for the
    installation alone.
    """

    name: str
    commands: tuple[click.Command, ...]
    checks: Callable[[Path | None], Iterable[Check]]


@dataclass(frozen=True)
class Failed:
    """A room that could not be imported, and why."""

    name: str
    reason: str


def find_rooms() -> Iterator[Room | Failed]:
    """Yield every installed room in the order of their names."""
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
