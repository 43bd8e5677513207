"""Fill a small file system while the program writes to it, then make room and run the same again."""

import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disk_work import ACTIONS
from fork_server import ForkServer

from atlas.doctor import checks
from attacks import Try, Unavailable

TITLE = "a disk filled at a random moment of an ingest, a match, a view build or an export"
CLAIM = (
    "one message, no signal, no temporary file, and a sound atlas; with room again the same command "
    "writes the same tables"
)
TRIES = 120

SIZE = 256 << 20
SLACK = 64 << 10
"""Largest number of bytes that remain free on a filled disk."""
POLL = 0.0005
ALONE = ("ingest", "ingest without codes")  # the others begin with a complete atlas
CHECKED = ("view",)  # is refused on a full disk, so the disk is filled while it is built


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Attack the actions in turn, about half of the time on a disk that is full from the start."""
    draw = random.Random(seed)
    server = ForkServer("disk_work")
    try:
        with small_disk(folder / "disk") as disk:
            complete = folder / "complete.atlas"
            run(server, "ingest", complete, folder / "none")
            wanted = {a: reference(server, a, disk, complete) for a in ACTIONS}
            for number in range(count):
                action = list(ACTIONS)[number % len(ACTIONS)]
                yield attack(server, action, disk, complete, draw=draw, wanted=wanted[action])
                clear(disk)
    finally:
        server.close()


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a file system in memory."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    mount = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mount.returncode:
        raise Unavailable(f"cannot mount a file system here ({mount.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def clear(disk: Path) -> None:
    """Remove everything."""
    for each in disk.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def prepare(action: str, disk: Path, complete: Path) -> tuple[Path, Path]:
    """Copy the complete atlas where the action reads one; return its atlas and its folder."""
    if action not in ALONE:
        shutil.copytree(complete, disk / "a.atlas")
    return disk / "a.atlas", disk / "out"


def run(server: ForkServer, action: str, *folders: Path | str) -> tuple[dict[str, Any], str]:
    """Run an action in a process; return its outcome, and what is wrong with how it ended."""
    process = server.start(action, *map(str, folders))
    printed, errors = process.communicate()
    if process.returncode:
        reason = errors.strip().splitlines()[-1:] or ["no message"]
        return {}, f"status {process.returncode}: {reason[0][:150]}"
    if errors.strip():
        return {}, f"printed {errors.strip()[-150:]!r}"
    outcome: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return outcome, ""


def reference(server: ForkServer, action: str, disk: Path, complete: Path) -> tuple[Any, int, int]:
    """Return the result with enough room, and the bytes in use before and at most."""
    folders = prepare(action, disk, complete)
    before = used(disk)
    most = [before]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            most[0] = max(most[0], used(disk))

    watching = threading.Thread(target=watch)
    watching.start()
    outcome, wrong = run(server, action, *folders)
    ended.set()
    watching.join()
    assert "result" in outcome, f"{action}: {wrong or outcome}"
    clear(disk)
    return outcome["result"], before, most[0]


def attack(
    server: ForkServer, action: str, disk: Path, complete: Path, *, draw: random.Random, wanted: Any
) -> Try:
    """Fill the disk once a random number of bytes is in use, or leave only that room from the start."""
    result, before, most = wanted
    folders = prepare(action, disk, complete)
    moment = draw.randint(0, most - before)
    slack, per_chunk = draw.randint(0, SLACK), action not in CHECKED and draw.random() < 0.5
    ended = threading.Event()
    filler = disk / "filler"

    def fill_later() -> None:
        while used(disk) < before + moment:
            if ended.wait(POLL):
                return
        fill(filler, spare=slack)

    if per_chunk:
        fill(filler, spare=moment)
    filling = threading.Thread(target=fill_later) if not per_chunk else threading.Thread()
    filling.start()
    outcome, wrong = run(server, action, *folders)
    ended.set()
    filling.join()
    wrong = wrong or unsound(disk, outcome, result)
    filler.unlink(missing_ok=True)
    again, failed = run(server, action, *folders)
    if not wrong and again.get("result") != result:
        wrong = f"run again: {failed or again.get('message') or 'other results'}"
    how = f"{moment >> 10:,} KiB free" if per_chunk else f"filled after {moment >> 10:,} KiB"
    return Try(f"{action}, {how}", not wrong, wrong or outcome.get("message", "finished")[:90])


def unsound(disk: Path, outcome: dict[str, Any], result: Any) -> str:
    """Return what is wrong after a run on a full disk, or an empty text."""
    if "result" in outcome and outcome["result"] != result:
        return "finished with other results"
    if "message" in outcome and not any(w in outcome["message"] for w in ("full", "free")):
        return f"another message: {outcome['message'][:150]}"
    if found := leftovers(disk):
        return f"temporary files: {', '.join(found)}"
    atlas = disk / "a.atlas"
    if (atlas / "atlas.json").exists():
        faults = [c for c in checks(atlas) if c.state == "fault" and str(atlas) in c.about]
        return ", ".join(f"{c.about} {c.message}"[:150] for c in faults)
    return ""


def leftovers(disk: Path) -> list[str]:
    """Return temporary files; an unfinished run is none, because the next run continues it."""
    return [
        str(p.relative_to(disk))
        for p in disk.rglob("*")
        if (p.name.startswith(".") or ".new" in p.name) and "runs" not in p.parts
    ]


def used(disk: Path) -> int:
    """Return the bytes in use on a file system."""
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def fill(filler: Path, *, spare: int) -> None:
    """Write a file until only ``spare`` bytes are free."""
    found = os.statvfs(filler.parent)
    rest = found.f_bavail * found.f_frsize - spare
    with filler.open("wb", buffering=0) as file:
        try:
            while rest > 0:
                rest -= file.write(bytes(min(rest, 1 << 20)))
        except OSError:  # the program took the rest
            return
