"""What is installed, what answers, whether an atlas is sound, and what to do about what is not."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from atlas.errors import AtlasError, StoreDenied, StoreError
from atlas.folder import Folder
from atlas.parts import read_manifest
from atlas.rooms import Check, Failed, find_rooms
from atlas.stores.opening import is_server, open_server
from atlas.versions import installed

__all__ = ["checks", "examine", "print_checks"]


def examine(where: str | None) -> list[Check]:
    """Ask every room what it finds.

    Parameters
    ----------
    where
        A folder, a server, or None for the only atlas here, if there is one.
    """
    path: Path | None = None
    found: list[Check] = []
    if where is not None and is_server(where):
        found += _server(where)
    else:
        path = Path(where) if where else _only_one_here()
    for room in find_rooms():
        if isinstance(room, Failed):
            found.append(Check(f"room {room.name}", "fault", room.reason, "Install it anew."))
        else:
            found += room.checks(path)
    return found


def checks(path: Path | None) -> Iterator[Check]:
    """Yield what this room finds: the installation, a server named by NEO4J_URI, and the atlas."""
    where = f"{sys.executable}, {platform.system()} {platform.machine()}"
    yield Check("Python", "ok", f"{platform.python_version()} ({where})")
    said = ", ".join(f"{name} {version}" for name, version in installed().items())
    yield Check("libraries", "ok", said)
    if uri := os.environ.get("NEO4J_URI"):
        yield from _server(uri)
    if path is not None:
        yield from _folder(path)


def print_checks(found: Iterable[Check], *, faults_only: bool = False) -> None:
    """Print what was found, a line each, with what to do below it."""
    signs = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}
    for check in found:
        if faults_only and check.state != "fault":
            continue
        click.echo(f"{signs[check.state]}  {check.about}: {check.said}")
        if check.todo:
            click.echo(f"       → {check.todo}")


def _only_one_here() -> Path | None:
    here = sorted(p.parent for p in Path().glob("*.atlas/atlas.json"))
    return here[0] if len(here) == 1 else None


def _server(url: str) -> Iterator[Check]:
    try:
        store = open_server(url)
    except StoreDenied as error:
        yield Check("server", "fault", str(error), "Set NEO4J_USERNAME and NEO4J_PASSWORD.")
    except StoreError as error:
        yield Check("server", "fault", str(error), "Start it, or correct NEO4J_URI.")
    else:
        try:
            names = ", ".join(sorted(store.contents())) or "no SAE"
            yield Check("server", "ok", f"{store.url} answers and shows {names}")
        except StoreError as error:
            yield Check("server", "fault", str(error))
        finally:
            store.close()


def _folder(path: Path) -> Iterator[Check]:
    try:
        folder = Folder.open(path)
    except AtlasError as error:
        yield Check(str(path), "fault", str(error))
        return
    yield Check(
        str(path),
        "ok",
        f"uuid {folder.uuid}, corpus {(folder.corpus or {}).get('name', 'none yet')}",
    )
    whole = True
    for place in folder.part_folders():
        fault = _part_fault(place)
        if fault:
            whole = False
            yield Check(f"{path}: {place.parent.name}/{place.name}", "fault", fault)
    if not whole:
        return
    sound = folder.sound()
    for key, reason in sound.stale.items():
        kind, _, name = key.partition("/")
        todo = f"`atlas ingest --replace` for {name}" if kind != "sae" else ""
        yield Check(f"{path}: {key}", "fault", f"stale: {reason}", f"Make it again: {todo}")
    yield Check(f"{path}: parts", "ok", f"{len(sound.parts)} sound, every checksum holds")
    for run in folder.runs():
        done = len(list(run.glob("codes/*.arrow")))
        yield Check(
            f"{path}: {run.name}",
            "note",
            f"an ingest that was not finished ({done} shard(s) of codes are there)",
            "Give the same command again, or `atlas ingest --resume`.",
        )


def _part_fault(place: Path) -> str | None:
    try:
        read_manifest(place).check()
    except AtlasError as error:
        return str(error)
    return None
