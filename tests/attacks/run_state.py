"""Damage one file of an unfinished run, and give the same command again."""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from slow_ingest import work

from atlas.disk.folder import Folder
from atlas.errors import AtlasError
from atlas.progress import SILENT
from attacks import Try
from attacks.damage import damage
from attacks.kill import PROGRAM, hashes
from ingest.forward.request import resume_all

TITLE = "one file of an unfinished run flipped, zeroed, cut or extended"
CLAIM = "the same tables as of an undamaged run, or one message; no traceback"
TRIES = 60


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Damage copies of two unfinished runs, codes stored and dropped in turn."""
    draw = random.Random(seed)
    wanted, unfinished = {}, {}
    for keep in ("keep", "drop"):
        work(folder / keep, keep=keep == "keep")
        wanted[keep] = hashes(folder / keep)
        unfinished[keep] = interrupted(folder / f"{keep}.unfinished", keep)
    for number in range(count):
        keep = draw.choice(("keep", "drop"))
        copy = folder / f"{number}.atlas"
        shutil.copytree(unfinished[keep], copy)
        files = sorted(p for p in (copy / "runs").rglob("*") if p.is_file() and p.stat().st_size)
        file = draw.choice(files)
        name = f"{keep}, {file.name} {damage(file, draw)}"
        try:
            if draw.random() < 0.5:
                resumed(copy)
            work(copy, keep=keep == "keep")
            same = hashes(copy) == wanted[keep] and not Folder.open(copy).runs()
            yield Try(name, same, "" if same else "other tables")
        except AtlasError as error:
            yield Try(name, True, f"reported: {str(error)[-100:]}")
        except Exception as error:  # noqa: BLE001 - any other is a traceback: what an attack searches for
            yield Try(name, False, f"{type(error).__name__}: {error}"[:200])
        shutil.rmtree(copy)


def resumed(path: Path) -> None:
    """Ask for the rest without the objects in memory; that is refused, whatever is damaged."""
    try:
        resume_all(path, saes=(), progress=SILENT)
    except AtlasError:
        return
    raise AssertionError("a run of objects in memory was resumed")


def interrupted(path: Path, keep: str) -> Path:
    """Kill an ingest once it has some finished shards, and return its folder."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), "1", keep],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        for _ in running.stdout:
            if len(list((path / "runs").glob("*/*.npz"))) >= (6 if keep == "keep" else 2):
                break
        running.kill()
    return path
