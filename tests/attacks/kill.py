"""Kill an ingest at random moments, damage nothing, and give the same command again."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from slow_ingest import work

from atlas.disk.folder import Folder
from atlas.doctor import checks
from attacks import Try

TITLE = "an ingest killed twice at random moments, then given again"
CLAIM = "no fault between; at the end the same tables as without a kill"
TRIES = 20

PROGRAM = Path(__file__).parents[1] / "support" / "slow_ingest.py"


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Kill and resume, codes stored and dropped in turn."""
    draw = random.Random(seed)
    wanted = {}
    for keep in ("keep", "drop"):
        work(folder / keep, keep=keep == "keep")
        wanted[keep] = hashes(folder / keep)
    for number in range(count):
        keep = draw.choice(("keep", "drop"))
        path = folder / f"{number}.atlas"
        moments = [killed(path, keep, draw) for _ in range(2)]
        faults = (
            [c.about for c in checks(path) if c.state == "fault"]
            if (path / "atlas.json").exists()
            else []
        )
        work(path, keep=keep == "keep")
        same = hashes(path) == wanted[keep] and not Folder.open(path).runs()
        yield Try(f"{keep}, killed after {moments} lines", same and not faults, ", ".join(faults))


def killed(path: Path, keep: str, draw: random.Random) -> int:
    """Start the ingest, kill it after some lines of progress, and return how many."""
    lines = draw.randint(0, 40)
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), "1", keep],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        for _ in range(lines):
            running.stdout.readline()
        time.sleep(draw.random() * 0.2)
        running.kill()
    return lines


def hashes(path: Path) -> dict[str, dict[str, str]]:
    """Return the checksums of the tables of numbers; those of ``sae`` hold the uuid."""
    return {
        key: {name: t.sha256 for name, t in part.manifest.tables.items()}
        for key, part in Folder.open(path).sound().parts.items()
        if part.manifest.kind != "sae"
    }
