"""Damage one file of an unfinished run, and run the same command again."""

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
    """Damage copies of two unfinished runs: one that stores codes, and one that drops them."""
    draw = random.Random(seed)
    wanted, unfinished = {}, {}
    for codes in ("keep", "drop"):
        work(folder / codes, keep=codes == "keep")
        wanted[codes] = hashes(folder / codes)
        unfinished[codes] = interrupted(folder / f"{codes}.unfinished", codes)
    for number in range(count):
        codes = draw.choice(("keep", "drop"))
        copy = folder / f"{number}.atlas"
        shutil.copytree(unfinished[codes], copy)
        files = sorted(p for p in (copy / "runs").rglob("*") if p.is_file() and p.stat().st_size)
        file = draw.choice(files)
        name = f"{codes}, {file.name} {damage(file, draw)}"
        try:
            if draw.random() < 0.5:
                check_resume_is_refused(copy)
            work(copy, keep=codes == "keep")
            same = hashes(copy) == wanted[codes] and not Folder.open(copy).runs()
            yield Try(name, same, "" if same else "other tables")
        except AtlasError as error:
            yield Try(name, True, f"reported: {str(error)[-100:]}")
        except Exception as error:  # noqa: BLE001 - the attack searches for tracebacks
            yield Try(name, False, f"{type(error).__name__}: {error}"[:200])
        shutil.rmtree(copy)


def check_resume_is_refused(path: Path) -> None:
    """Resume without the SAEs in memory, which is refused whatever is damaged."""
    try:
        resume_all(path, saes=(), progress=SILENT)
    except AtlasError:
        return
    raise AssertionError("a run of objects in memory was resumed")


def interrupted(path: Path, codes: str) -> Path:
    """Kill an ingest after some shards are finished, and return its folder."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), "1", codes],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        for _ in running.stdout:
            if len(list((path / "runs").glob("*/*.npz"))) >= (6 if codes == "keep" else 2):
                break
        running.kill()
    return path
