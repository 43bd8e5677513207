"""Parts: the immutable results an atlas is made of, each a folder of Parquet tables.

A part is of one *kind* (``sae``, ``statistics``, …) and bears a name. Its
``manifest.json`` says what it was made from and how, and holds the checksums
of its tables. The *hash* of a part covers its tables, settings and ancestors,
not when or where it was written; a part whose ancestor has another hash by now
is *stale* and not loaded. The format is written down in ``docs/format.md``.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.atomic_files import placed_folder, sha256, write_json
from atlas.errors import BrokenPart, Locked, NewerFormat
from atlas.versions import installed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FORMAT",
    "Manifest",
    "Part",
    "TableFile",
    "UnwrittenPart",
    "differ",
    "read_manifest",
    "stored_digests",
    "unwritten_part",
    "write_manifest",
    "write_part",
]

FORMAT = 1
MANIFEST = "manifest.json"

_HASHED = ("kind", "name", "version", "saes", "settings", "seed", "sources", "dtypes", "made_from")

_ORIGIN = ("settings", "sources", "dtypes")


@dataclass(frozen=True)
class TableFile:
    """One table of a part: its file, its rows, and the SHA-256 of the file."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a part says of itself.

    Parameters
    ----------
    kind, name
        Which part it is.
    version
        Version of the code that defines this kind's numbers.
    saes
        The SAEs it touches.
    settings
        The settings it was made with.
    seed
        Seed of anything random in it.
    sources
        Where models, SAEs and texts came from, with revisions and hashes.
    dtypes
        Number formats of the computation.
    versions
        Versions of the libraries that made it; not part of the hash.
    made_from
        ``kind/name`` of each ancestor to its hash.
    tables
        Its tables by name.
    created
        When it was written, UTC; not part of the hash.
    format
        Version of the folder format.
    """

    kind: str
    name: str
    version: int = 1
    saes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, TableFile] = field(default_factory=dict)
    created: str = ""
    format: int = FORMAT

    @property
    def key(self) -> str:
        """Its name among all parts: ``kind/name``."""
        return f"{self.kind}/{self.name}"

    @property
    def origin(self) -> str:
        """SHA-256 over what it was made of and how: settings, formats, and the hashes of its sources."""
        core = {name: _origin(getattr(self, name)) for name in _ORIGIN}
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()

    def difference(self, other: "Manifest") -> str:
        """Say in words what another manifest of this part was made of or with instead."""
        mine, others = (
            {
                f"{name} {key}": value
                for name in _ORIGIN
                for key, value in _origin(getattr(m, name)).items()
            }
            for m in (self, other)
        )
        return "; ".join(
            f"{key}: {_short(mine.get(key))} there, {_short(others.get(key))} now"
            for key in sorted(mine | others)
            if mine.get(key) != others.get(key)
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 over what it holds and was made from, as 64 hex digits."""
        said = asdict(self)
        core = {name: said[name] for name in _HASHED}
        core["tables"] = {name: (t.rows, t.sha256) for name, t in self.tables.items()}
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """A part on disk: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    def table(self, name: str) -> "pa.Table":
        """Read one of its tables, held against its checksum.

        Raises
        ------
        BrokenPart
            If the file is missing, has changed or cannot be read.
        Locked
            If another process has replaced the part since its manifest was read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        entry = self.manifest.tables[name]
        path = self.folder / entry.file
        try:
            # A file of Python's would be released by a thread of Arrow, which aborts at exit.
            with pa.OSFile(str(path)) as file:
                # One handle for both: between two, another process may replace the part.
                if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                    file.seek(0)
                    return pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            if path.exists():
                raise _broken(self, f"{path.name} cannot be read ({error})") from error
        self._check(name)  # reports what is wrong
        raise _broken(self, f"its table {name} changed while it was read")

    def check(self) -> None:
        """Hold every file against its checksum.

        Raises
        ------
        BrokenPart
            If a file is missing or has changed.
        """
        for name in self.manifest.tables:
            self._check(name)

    def _check(self, name: str) -> None:
        entry = self.manifest.tables[name]
        path = self.folder / entry.file
        problem = None
        try:
            if sha256(path) != entry.sha256:
                problem = f"its table {name} is not what was written (the checksum differs)"
        except FileNotFoundError:
            problem = f"its table {name} is missing"
        except OSError as error:
            problem = f"{path.name} cannot be read ({error})"
        if problem is not None:
            self._check_not_replaced()
            raise _broken(self, problem)

    def _check_not_replaced(self) -> None:
        """Report a part that another process has replaced since this manifest was read.

        Raises
        ------
        Locked
            If the folder now holds another manifest, or is being replaced.
        """
        try:
            replaced = read_manifest(self.folder).manifest.hash != self.manifest.hash
        except (BrokenPart, NewerFormat) as error:
            # Not asked of the file system once more: the new part may be there by now.
            replaced = isinstance(error.__cause__, FileNotFoundError)
        if replaced:
            raise Locked(
                f"The part {self.manifest.key} was replaced or removed by another process while it was read; "
                "give the command again, once the other one has finished."
            )


@dataclass(frozen=True)
class UnwrittenPart(Part):
    """A part in memory, of an atlas that cannot be written; ``data`` are its tables by name."""

    data: "Mapping[str, pa.Table]" = field(default_factory=dict)

    def table(self, name: str) -> "pa.Table":
        """Return one of its tables."""
        return self.data[name]

    def check(self) -> None:
        """Return: there are no files to check."""


def unwritten_part(manifest: Manifest, tables: "Iterable[tuple[str, pa.Table]]") -> UnwrittenPart:
    """Return a part in memory.

    Parameters
    ----------
    manifest
        Its manifest; ``tables`` is filled in here.
    tables
        Its tables by name, checked as ``write_part`` checks them.
    """
    data = {name: _held_against_schema(manifest.kind, name, table) for name, table in tables}
    files = {name: TableFile("", table.num_rows, "") for name, table in data.items()}
    return UnwrittenPart(Path(), replace(manifest, tables=files), data)


def write_part(folder: Path, manifest: Manifest, tables: "Iterable[tuple[str, pa.Table]]") -> Part:
    """Write a part and rename it into place.

    Parameters
    ----------
    folder
        The folder of the part, ``parts/<kind>/<name>``.
    manifest
        What it says of itself; ``tables``, ``created`` and ``versions`` are filled in here.
    tables
        Its tables by name. Those of the schema are held against it.

    Raises
    ------
    BrokenPart
        If a table has other columns than the schema gives to this kind.
    OutOfRoom
        If the disk is full.
    """
    import pyarrow.parquet as pq

    files: dict[str, TableFile] = {}
    with placed_folder(folder) as beside:
        for name, data in tables:
            path = beside / f"{name}.parquet"
            pq.write_table(
                _held_against_schema(manifest.kind, name, data), path, compression="zstd"
            )
            files[name] = TableFile(path.name, data.num_rows, sha256(path))
        whole = write_manifest(beside, replace(manifest, tables=files))
    return Part(folder, whole)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest into a folder whose tables are there already, and return it dated.

    ``created``, ``versions`` and the hash are filled in here.
    """
    dated = replace(
        manifest, versions=installed(), created=datetime.now(UTC).isoformat(timespec="seconds")
    )
    write_json(folder / MANIFEST, asdict(dated) | {"hash": dated.hash})
    return dated


def read_manifest(folder: Path) -> Part:
    """Read the part in a folder.

    Raises
    ------
    NewerFormat
        If a newer version wrote it.
    BrokenPart
        If the manifest is missing, unreadable, or not the one that was written.
    """
    path = folder / MANIFEST
    try:
        said = json.loads(path.read_text("utf-8"))
        if said["format"] > FORMAT:
            raise NewerFormat(
                f"{folder} has format {said['format']}, and this version reads up to {FORMAT}. "
                "Install a newer feature-atlas."
            )
        told = said.pop("hash")
        said["tables"] = {name: TableFile(**entry) for name, entry in said["tables"].items()}
        manifest = Manifest(**{**said, "saes": tuple(said["saes"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenPart(
            f"The manifest {path} cannot be read ({type(error).__name__}: {error}). Remove that folder and "
            "run the command that made it again."
        ) from error
    if manifest.hash != told:
        raise BrokenPart(
            f"The manifest {path} is not the one that was written. Make the part again."
        )
    return Part(folder, manifest)


def _short(value: Any) -> Any:
    """Return a value for a message; of a chain of digests the last covers the others."""
    return f"…{value[-1]}" if isinstance(value, list) and value else value


def differ(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two chains belong to different models, as far as both go."""
    both = min(len(one), len(other))
    return both > 0 and one[both - 1] != other[both - 1]


def stored_digests(manifests: Iterable[Manifest], model: str) -> tuple[str, ...]:
    """Return the deepest chain that parts store of the model of a name; empty if none does."""
    said = [m.sources.get("model", {}) for m in manifests]
    chains = [tuple(s.get("parameters", ())) for s in said if s.get("name") == model]
    return max(chains, key=len, default=())


def _origin(said: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten one level and leave out names and addresses: the hashes identify the sources."""
    flat: dict[str, Any] = {}
    for key, value in said.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{k}": v for k, v in value.items() if k not in ("source", "name")}
        else:
            flat[key] = value
    return flat


def _held_against_schema(kind: str, name: str, data: "pa.Table") -> "pa.Table":
    if name[0].islower():
        return data
    wanted = schema.arrow_schema(name, kind)
    if data.schema.names != wanted.names:
        raise BrokenPart(
            f"A part of kind {kind!r} fills {', '.join(wanted.names)} of {name}; "
            f"it was given {', '.join(data.schema.names)}."
        )
    return data.cast(wanted)


def _broken(part: Part, what: str) -> BrokenPart:
    return BrokenPart(
        f"The part {part.manifest.key} is broken: {what}. Give the command that made it again, with "
        f"--replace; the rest of the atlas is untouched."
    )
