"""Kill an ingest at random moments, damage nothing, and run the same command again."""

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

TITLE = "an ingest killed twice at random moments, then run again"
CLAIM = "no fault in between; the final tables equal those without a kill"
TRIES = 20

PROGRAM = Path(__file__).parents[1] / "support" / "slow_ingest.py"


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Kill and resume ingests that store or drop their codes."""
    draw = random.Random(seed)
    wanted = {}
    for codes in ("keep", "drop"):
        work(folder / codes, keep=codes == "keep")
        wanted[codes] = hashes(folder / codes)
    for number in range(count):
        codes = draw.choice(("keep", "drop"))
        path = folder / f"{number}.atlas"
        moments = [killed(path, codes, draw) for _ in range(2)]
        faults = (
            [c.about for c in checks(path) if c.state == "fault"]
            if (path / "atlas.json").exists()
            else []
        )
        work(path, keep=codes == "keep")
        same = hashes(path) == wanted[codes] and not Folder.open(path).runs()
        yield Try(f"{codes}, killed after {moments} lines", same and not faults, ", ".join(faults))


def killed(path: Path, codes: str, draw: random.Random) -> int:
    """Start the ingest, kill it after some lines of progress, and return their number."""
    lines = draw.randint(0, 40)
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), "1", codes],
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
    """Return the checksums of the tables of numbers; those of ``sae`` contain the UUID."""
    return {
        key: {name: t.sha256 for name, t in part.manifest.tables.items()}
        for key, part in Folder.open(path).sound().parts.items()
        if part.manifest.kind != "sae"
    }
