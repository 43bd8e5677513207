"""Parts: the immutable results that an atlas consists of, each a folder of Parquet tables.

A part has a *kind* (``sae``, ``statistics``, …) and a name. Its ``manifest.json``
records the inputs, the settings and the checksums of its tables. The *hash* of a part
covers its tables, settings and ancestors, but not the time and folder of writing. A part
is *stale*, and not loaded, once the hash of an ancestor changes. ``docs/format.md``
specifies the format.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.disk.atomic_files import atomic_folder, sha256, write_json
from atlas.errors import BrokenPart, Locked, NewerFormat

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FORMAT",
    "Manifest",
    "Part",
    "TableFile",
    "UnwrittenPart",
    "differ",
    "installed",
    "read_manifest",
    "stored_digests",
    "unwritten_part",
    "write_manifest",
    "write_part",
]

LIBRARIES = (
    "feature-atlas",
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "sae-lens",
    "kuzu",
    "neo4j",
)


@cache
def installed() -> dict[str, str]:
    """Return the version of each installed library."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


FORMAT = 1
MANIFEST = "manifest.json"

_HASHED = ("kind", "name", "version", "saes", "settings", "seed", "sources", "dtypes", "made_from")

_ORIGIN = ("settings", "sources", "dtypes")


@dataclass(frozen=True)
class TableFile:
    """One table of a part: file name, number of rows, and SHA-256 of the file."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The metadata of a part, stored in ``manifest.json``.

    Parameters
    ----------
    kind, name
        Kind and name of the part.
    version
        Version of the code that defines the numbers of this kind.
    saes
        SAEs that the part describes.
    settings
        Settings of the computation.
    seed
        Random seed.
    sources
        Sources of models, SAEs and texts, with revisions and hashes.
    dtypes
        Number formats of the computation.
    versions
        Versions of the libraries used, and how numbers were computed; not part of the hash.
    made_from
        Hash of each ancestor, by ``kind/name``.
    tables
        Tables by name.
    created
        Time of writing, UTC; not part of the hash.
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
        """Unique name of the part: ``kind/name``."""
        return f"{self.kind}/{self.name}"

    @property
    def origin(self) -> str:
        """SHA-256 of settings, number formats and the hashes of the sources."""
        core = {name: _origin(getattr(self, name)) for name in _ORIGIN}
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()

    def difference(self, other: "Manifest") -> str:
        """Describe how settings, formats and sources differ in another manifest of this part."""
        mine, others = (
            {
                f"{name} {key}": value
                for name in _ORIGIN
                for key, value in _origin(getattr(m, name)).items()
            }
            for m in (self, other)
        )
        return "; ".join(
            f"{key}: {_short(mine.get(key))} stored, {_short(others.get(key))} now"
            for key in sorted(mine | others)
            if mine.get(key) != others.get(key)
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of tables, settings, sources and ancestors, as 64 hex digits."""
        core = {name: getattr(self, name) for name in _HASHED}
        core["tables"] = {name: (t.rows, t.sha256) for name, t in self.tables.items()}
        # `asdict` of the complete manifest would copy each value, which takes ten times as long.
        text = json.dumps(core, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """A part on disk: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    def table(self, name: str) -> "pa.Table":
        """Read one table and verify its checksum.

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
            # An Arrow thread would release a Python file, which aborts the process at exit.
            with pa.OSFile(str(path)) as file:
                # One handle for both, because another process may replace the part in between.
                if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                    file.seek(0)
                    # `read_table` would import pyarrow.dataset and pandas.
                    return pq.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            if path.exists():
                raise _broken(self, f"{path.name} cannot be read ({error})") from error
        self._check(name)  # raises with the reason
        raise _broken(self, f"its table {name} changed while it was read")

    def check(self) -> None:
        """Verify the checksum of every file.

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
                problem = (
                    f"its table {name} has changed since it was written (the checksum differs)"
                )
        except FileNotFoundError:
            problem = f"its table {name} is missing"
        except OSError as error:
            problem = f"{path.name} cannot be read ({error})"
        if problem is not None:
            self._check_not_replaced()
            raise _broken(self, problem)

    def _check_not_replaced(self) -> None:
        """Raise if another process has replaced the part since this manifest was read.

        Raises
        ------
        Locked
            If the folder now holds another manifest, or is being replaced.
        """
        try:
            replaced = read_manifest(self.folder).manifest.hash != self.manifest.hash
        except (BrokenPart, NewerFormat) as error:
            # Use the original cause: the new part may exist by now.
            replaced = isinstance(error.__cause__, FileNotFoundError)
        if replaced:
            raise Locked(
                f"Another process replaced or removed the part {self.manifest.key} while it was read; wait "
                "until that process has finished, then run the command again."
            )


@dataclass(frozen=True)
class UnwrittenPart(Part):
    """A part in memory, for an atlas that cannot be written; ``data`` has its tables by name."""

    data: "Mapping[str, pa.Table]" = field(default_factory=dict)

    def table(self, name: str) -> "pa.Table":
        """Return one table."""
        return self.data[name]

    def check(self) -> None:
        """Do nothing, because there are no files to check."""


def unwritten_part(manifest: Manifest, tables: "Iterable[tuple[str, pa.Table]]") -> UnwrittenPart:
    """Return a part in memory.

    Parameters
    ----------
    manifest
        Manifest of the part; ``tables`` is filled in here.
    tables
        Tables by name, validated as in ``write_part``.
    """
    data = {name: _checked_table(manifest.kind, name, table) for name, table in tables}
    files = {name: TableFile("", table.num_rows, "") for name, table in data.items()}
    return UnwrittenPart(Path(), replace(manifest, tables=files), data)


def write_part(folder: Path, manifest: Manifest, tables: "Iterable[tuple[str, pa.Table]]") -> Part:
    """Write a part atomically.

    Parameters
    ----------
    folder
        The folder of the part, ``parts/<kind>/<name>``.
    manifest
        Manifest of the part; ``tables`` and ``created`` are filled in here, and ``versions`` is
        completed.
    tables
        Tables by name. Tables of the graph are validated against the schema.

    Raises
    ------
    BrokenPart
        If the columns of a table differ from those that the schema assigns to this kind.
    OutOfSpace
        If the disk is full.
    """
    import pyarrow.parquet as pq

    files: dict[str, TableFile] = {}
    with atomic_folder(folder) as temporary:
        for name, data in tables:
            path = temporary / f"{name}.parquet"
            pq.write_table(_checked_table(manifest.kind, name, data), path, compression="zstd")
            files[name] = TableFile(path.name, data.num_rows, sha256(path))
        complete = write_manifest(temporary, replace(manifest, tables=files))
    return Part(folder, complete)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a folder whose tables are already written, and return it.

    ``created`` and the hash are filled in here, and ``versions`` is completed.
    """
    dated = replace(
        manifest,
        versions={**manifest.versions, **installed()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
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
        If the manifest is missing, unreadable, or changed since it was written.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text("utf-8"))
        if fields["format"] > FORMAT:
            raise NewerFormat(
                f"{folder} has format {fields['format']}, but this version reads formats up to {FORMAT}. "
                "Install a newer feature-atlas."
            )
        stored_hash = fields.pop("hash")
        fields["tables"] = {name: TableFile(**entry) for name, entry in fields["tables"].items()}
        manifest = Manifest(**{**fields, "saes": tuple(fields["saes"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenPart(
            f"The manifest {path} cannot be read ({type(error).__name__}: {error}). Remove that folder and "
            "run the command that computed it again."
        ) from error
    if manifest.hash != stored_hash:
        raise BrokenPart(
            f"The manifest {path} has changed since it was written. Compute the part again with `replace=True`."
        )
    return Part(folder, manifest)


def _plain(value: Any) -> Any:
    """Return a dataclass or another mapping as a dict, for JSON."""
    return dict(value) if isinstance(value, Mapping) else asdict(value)


def _short(value: Any) -> Any:
    """Shorten a value for a message; the last digest of a chain covers the others."""
    return f"…{value[-1]}" if isinstance(value, list) and value else value


def differ(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two chains of digests differ within their common length."""
    common = min(len(one), len(other))
    return common > 0 and one[common - 1] != other[common - 1]


def stored_digests(manifests: Iterable[Manifest], model: str) -> tuple[str, ...]:
    """Return the longest chain of digests that parts store for a model; empty if none does."""
    models = [m.sources.get("model", {}) for m in manifests]
    chains = [tuple(s.get("parameters", ())) for s in models if s.get("name") == model]
    return max(chains, key=len, default=())


def _origin(field: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten one level and drop names and addresses, because the hashes identify the sources."""
    flat: dict[str, Any] = {}
    for key, value in field.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{k}": v for k, v in value.items() if k not in ("source", "name")}
        else:
            flat[key] = value
    return flat


def _checked_table(kind: str, name: str, data: "pa.Table") -> "pa.Table":
    if name[0].islower():
        return data
    wanted = schema.arrow_schema(name, kind)
    if data.schema.names != wanted.names:
        raise BrokenPart(
            f"The table {name} has the columns {', '.join(data.schema.names)}; expected for a part of kind "
            f"{kind!r}: {', '.join(wanted.names)}."
        )
    return data.cast(wanted)


def _broken(part: Part, problem: str) -> BrokenPart:
    return BrokenPart(
        f"The part {part.manifest.key} is broken: {problem}. Run the command that computed it again, with "
        f"`replace=True`; other parts are not affected."
    )
