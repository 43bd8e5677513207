"""Begin one atlas in several processes at once, and read a part while it is replaced."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue

import pyarrow as pa

from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, read_manifest, write_part
from atlas.errors import AtlasError, Locked
from attacks import Try

TITLE = "four processes start one atlas; a part is read while it is replaced"
CLAIM = "one uuid and one corpus; a reader receives one version or a message that names the other process"
TRIES = 40


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Alternate between the two races."""
    for number in range(count):
        path = folder / f"{number}"
        yield begin(path) if number % 2 else replace(path)


def begin(path: Path) -> Try:
    """Let four processes create the atlas at ``path``, each with its own corpus."""
    context = multiprocessing.get_context("fork")
    outcomes: Queue[str] = context.Queue()  # type: ignore[assignment]
    together = context.Barrier(4)
    running = [context.Process(target=_begin, args=(path, n, together, outcomes)) for n in range(4)]
    for process in running:
        process.start()
    found = [outcomes.get(timeout=60) for _ in running]
    for process in running:
        process.join()
    folder = Folder.open(path)
    corpus = (folder.corpus or {}).get("id")
    owners = [g for g in found if g.startswith("mine")]
    right = all(g.startswith(("mine", "Locked", "Mismatch")) for g in found)
    same = owners == [f"mine {folder.uuid} {corpus}"] or (not owners and corpus is None)
    return Try("begin", right and same, "; ".join(sorted(found)))


def _begin(path: Path, number: int, together: Barrier, outcomes: "Queue[str]") -> None:
    together.wait()
    try:
        folder = Folder.create(path)
        with folder.writing():
            folder.set_corpus({"id": str(number), "name": "text", "documents": 1})
        outcomes.put(f"mine {folder.uuid} {number}")
    except AtlasError as error:
        outcomes.put(type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the attack searches for tracebacks
        outcomes.put(f"traceback: {error!r}")


def replace(path: Path) -> Try:
    """Read a part while another process writes 60 versions of it."""
    context = multiprocessing.get_context("fork")
    _write(path, 0)
    writer = context.Process(target=_versions, args=(path,))
    writer.start()
    read, locked, wrong = 0, 0, ""
    while writer.is_alive() and not wrong:
        try:
            part = read_manifest(path)
            values = part.table("t")["x"].to_pylist()
            read += 1
            if values != [part.manifest.settings["version"]] * 1000:
                wrong = f"a mixture: {values[:3]}"
        except Locked:
            locked += 1
        except AtlasError as error:
            if (path / "manifest.json").exists() and "No such file" not in str(error):
                wrong = str(error)[:120]
    writer.join()
    return Try("replace", not wrong, wrong or f"{read} read, {locked} found it replaced")


def _write(path: Path, version: int) -> None:
    table = pa.table({"x": [version] * 1000})
    write_part(path, Manifest("k", "n", settings={"version": version}), [("t", table)])


def _versions(path: Path) -> None:
    for version in range(1, 60):
        _write(path, version)
