"""Check the installation, the server and an atlas.

Every fault is reported with its remedy."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import atlas
from atlas.amounts import counted
from atlas.cli.output.text import echo
from atlas.cli.selected_atlas import atlases_here
from atlas.disk.folder import Folder
from atlas.disk.parts import LIBRARIES, installed, read_manifest
from atlas.errors import AtlasError, Locked, StoreDenied, StoreError
from atlas.plugins import Check, Failed, Room, find_rooms
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.opening import is_server, open_server

__all__ = ["checks", "examine", "print_checks"]


def examine(where: str | None) -> list[Check]:
    """Run the checks of every room.

    Parameters
    ----------
    where
        A folder or a server; if None, $ATLAS or the only atlas in the current folder.
    """
    where = where or os.environ.get("ATLAS") or _only_one_here()
    found: list[Check] = []
    path: Path | None = None
    if where is None:
        here = ", ".join(atlases_here())
        found.append(
            Check(
                "atlas",
                "note",
                f"none is selected ({here or 'none'} here)",
                "Name one with --atlas." if here else "`atlas demo` creates a small example.",
            )
        )
    elif is_server(where):
        found += _server(where)
    else:
        path = Path(where)
    for room in find_rooms():
        if isinstance(room, Failed):
            found.append(Check(f"room {room.name}", "fault", room.reason, "Install it again."))
        else:
            found += _of_room(room, path)
    return found


def checks(path: Path | None) -> Iterator[Check]:
    """Yield the checks of the installation, of the server in NEO4J_URI, and of the atlas."""
    where = f"{sys.executable}, {platform.system()} {platform.machine()}"
    yield Check("Python", "ok", f"{platform.python_version()} ({where})")
    versions = installed()
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    source = Path(atlas.__file__).parents[1]
    yield Check("libraries", "ok", f"{listed}; the atlas runs from {source}")
    if missing := [name for name in LIBRARIES if name not in versions]:
        yield Check(
            "libraries",
            "fault",
            f"{', '.join(missing)} not installed",
            "Install feature-atlas again.",
        )
    if uri := os.environ.get("NEO4J_URI"):
        yield from _server(uri)
    else:
        yield Check("server", "ok", "none is selected (NEO4J_URI is not set)")
    if path is not None:
        yield from _folder(path)


def print_checks(found: Iterable[Check], *, faults_only: bool = False) -> None:
    """Print each check on one line, with the remedy below it."""
    signs = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}
    for check in found:
        if faults_only and check.state != "fault":
            continue
        echo(f"{signs[check.state]}  {check.about}: {check.message}")
        if check.remedy:
            echo(f"       → {check.remedy}")


def _of_room(room: Room, path: Path | None) -> list[Check]:
    """Return the checks of a room; a broken library in it becomes a fault."""
    try:
        return list(room.checks(path))
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        return [Check(f"room {room.name}", "fault", reason, "Install feature-atlas again.")]


def _only_one_here() -> str | None:
    here = atlases_here()
    return here[0] if len(here) == 1 else None


def _server(url: str) -> Iterator[Check]:
    try:
        store = open_server(url)
    except StoreDenied as error:
        yield Check("server", "fault", str(error), "Set NEO4J_USERNAME and NEO4J_PASSWORD.")
    except AtlasError as error:
        yield Check("server", "fault", str(error), "Start it, or correct its URL.")
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
    text = (folder.corpus or {}).get("name", "none yet")
    yield Check(str(path), "ok", f"uuid {folder.uuid}, corpus {text}")
    sound = folder.sound()
    intact = 0
    remedy = "Run the command that computed it again, with --replace."
    for key, reason in sound.broken.items():
        yield Check(f"{path}: {key}", "fault", reason, remedy)
    for key, reason in sound.stale.items():
        yield Check(f"{path}: {key}", "fault", f"stale, and not loaded: {reason}", remedy)
    for key, part in sound.parts.items():
        try:
            try:
                part.check()
            except Locked:  # replaced while it was checked
                read_manifest(part.folder).check()
            intact += 1
        except AtlasError as error:
            yield Check(f"{path}: {key}", "fault", str(error), remedy)
    total = len(sound.parts) + len(sound.broken) + len(sound.stale)
    if intact == total:
        yield Check(f"{path}: parts", "ok", f"{intact} sound, all checksums match")
    else:
        yield Check(f"{path}: parts", "note", f"{intact} of {total} sound")
    for view in sorted(folder.cache.glob("graph-*.kuzu")):
        if not KuzuStore(view).is_sound(complete=True):
            yield Check(
                f"{path}: {view.name}",
                "fault",
                "the embedded view has changed since it was built (its checksum differs or is missing)",
                f"Remove {view}; the next query builds it again from the parts.",
            )
    views = [p.name for p in folder.cache.glob("graph-*.kuzu")]
    state = f"the embedded view is built ({', '.join(views)})" if views else "no embedded view yet"
    yield Check(f"{path}: store", "ok", f"{state}; queries build it when needed")
    for run in folder.runs():
        done = len(list(run.glob("codes/*.arrow")))
        yield Check(
            f"{path}: {run.name}",
            "note",
            f"an unfinished ingest with {counted(done, 'stored shard')} of codes",
            "Run the same command again, or `atlas ingest --resume`.",
        )
