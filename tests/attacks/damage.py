"""Change bytes of one file of an atlas: of its parts, codes, manifests, view or ``atlas.json``."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from small_ingest import model, texts, topk

from atlas.api import Atlas
from atlas.disk.atomic_files import is_leftover
from atlas.doctor import checks
from atlas.errors import AtlasError
from attacks import Try
from ingest import doctor_checks
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

TITLE = "one file of an atlas flipped, zeroed, cut or extended"
CLAIM = "the command or `atlas doctor` reports it, or every answer is unchanged"
TRIES = 200

QUERIES = (
    "MATCH (f:Feature) RETURN f.id, f.frequency, f.mean_activation ORDER BY f.id",
    "MATCH (a:Feature)-[e:CO_ACTIVATES]->(b:Feature) RETURN a.id, b.id, e.count, e.weight ORDER BY a.id, b.id",
    "MATCH (s:SAE) RETURN s.name, s.l0, s.fvu ORDER BY s.name",
)


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Ingest one small SAE, then damage a copy of its atlas at each try."""
    draw = random.Random(seed)
    atlas = folder / "a.atlas"
    ingest(
        atlas,
        saes=[open_sae(topk(), name="top")],
        text=texts(),
        model=model(),
        settings=Settings(),
    )
    wanted = answers(atlas)
    files = sorted(
        p.relative_to(atlas)
        for p in atlas.rglob("*")
        if p.is_file() and p.stat().st_size and not is_leftover(p)
    )
    for number in range(count):
        copy = folder / f"{number}.atlas"
        shutil.copytree(atlas, copy)
        file = draw.choice(files)
        how = damage(copy / file, draw)
        if draw.random() < 0.5 and file.parts[0] != "cache":
            shutil.rmtree(copy / "cache")  # the answers then come from the parts
        yield outcome(copy, wanted, f"{file} {how}")
        shutil.rmtree(copy)


def outcome(path: Path, wanted: list[Any], name: str) -> Try:
    """Report whether the damage was found, by the doctor or by a query, or was harmless."""
    try:
        faults = [
            c.about for c in [*checks(path), *doctor_checks.checks(path)] if c.state == "fault"
        ]
        same = answers(path) == wanted
    except AtlasError as error:
        return Try(name, True, f"reported: {str(error)[:80]}")
    except Exception as error:  # noqa: BLE001 - the attack searches for tracebacks
        return Try(name, False, f"{type(error).__name__}: {error}")
    return Try(name, same or bool(faults), f"doctor: {faults}" if faults else "")


def answers(path: Path) -> list[Any]:
    """Return the answers of the queries."""
    with Atlas.open(path) as atlas:
        return [atlas.query(cypher).to_pydict() for cypher in QUERIES]


def damage(path: Path, draw: random.Random) -> str:
    """Change some bytes of a file and return how."""
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    how = draw.choice(("bit flipped", "page zeroed", "cut", "extended"))
    if how == "bit flipped":
        content[at] ^= 1 << draw.randrange(8)
    elif how == "page zeroed":
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    elif how == "cut":
        del content[at:]
    else:
        content += b"\0"
    path.write_bytes(content)
    return how
