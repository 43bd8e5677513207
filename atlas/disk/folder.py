"""The folder of an atlas: its layout, its write lock, and which of its parts are sound.

::

    demo.atlas/
      atlas.json              format, uuid, name, corpus
      corpus.parquet          the documents, in blocks
      parts/<kind>/<name>/    Parquet tables and manifest.json
      codes/<sae>/            Arrow files, one a shard, and manifest.json
      saes/<name>/            SAEs that were trained here, as sae-lens saves them
      runs/<id>/              state from which an unfinished run resumes
      cache/                  the embedded view; may be removed at any time
      lock                    held by the process that writes
"""

import errno
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from atlas.disk.atomic_files import discard, is_leftover, write_json
from atlas.disk.parts import FORMAT, Part, differ, read_manifest, stored_digests
from atlas.errors import BadInput, BrokenPart, Locked, Mismatch, NewerFormat

__all__ = ["DESCRIBED", "Folder", "Sound", "models_of"]

T = TypeVar("T")

ATLAS = "atlas.json"

DESCRIBED = "model"
"""The table, with the columns of Model, in which a part that touches no SAE describes its model."""


@dataclass(frozen=True)
class Sound:
    """The parts of an atlas, divided into sound, stale and broken ones.

    Parameters
    ----------
    parts
        Parts that may be loaded, by ``kind/name``.
    stale
        Parts whose ancestor is missing or has changed, each with the reason.
    broken
        Parts whose manifest cannot be read, each with the reason.
    """

    parts: Mapping[str, Part]
    stale: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> list[Part]:
        """Return the sound parts of a kind, by name."""
        return [p for p in self.parts.values() if p.manifest.kind == kind]

    @property
    def saes(self) -> list[str]:
        """The SAEs of the atlas, by name."""
        return [p.manifest.name for p in self.of("sae")]

    @property
    def sae_rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the table SAE, by name of the SAE; each call reads them."""
        rows = (row for part in self.of("sae") for row in part.table("SAE").to_pylist())
        return {row["name"]: row for row in rows}


class Folder:
    """An atlas on disk.

    Use ``Folder.open`` for one that exists and ``Folder.create`` for a new one.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path = path
        self._record = dict(record)

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Open an atlas.

        Raises
        ------
        BadInput
            If there is no atlas at this path.
        NewerFormat
            If a newer version wrote it.
        """
        try:
            record = json.loads((path / ATLAS).read_text("utf-8"))
            newer = record["format"] > FORMAT
            record["uuid"], record["name"], record["corpus"]
        except FileNotFoundError:
            if path.is_dir():
                raise BadInput(
                    f"{path} is a folder without {ATLAS}, so it is no atlas. Select the folder of an atlas "
                    "with `atlas`."
                ) from None
            full = "" if path.is_absolute() else f" The complete path is {path.absolute()}."
            raise BadInput(
                f"There is no atlas at {path}.{full} Expected the folder of an atlas, which has the file {ATLAS}. "
                f"Pass another folder, or create one: `ingest.make_demo({str(path)!r})` creates the demo there, and "
                "`ingest.ingest` an atlas of your own SAEs; so do the commands `atlas demo` and `atlas ingest`."
            ) from None
        except NotADirectoryError:
            raise BadInput(f"{path} is a file; select the folder of an atlas.") from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise BadInput(
                f"{path} is a symbolic link to itself; select the folder of an atlas."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenPart(
                f"{path / ATLAS} cannot be read ({error}); it was changed or damaged after it was written."
            ) from error
        if newer:
            raise NewerFormat(
                f"{path} has format {record['format']}, but this version reads formats up to {FORMAT}. "
                "Install a newer feature-atlas."
            )
        return cls(path, record)

    @classmethod
    def create(cls, path: Path) -> "Folder":
        """Open the atlas at ``path``, or create an empty one.

        Several processes may create the same atlas at once: one creates it, and each of the
        others opens it or reports that the folder is locked.

        Raises
        ------
        BadInput
            If the path is a file, or a folder with other files.
        Locked
            If another process is just creating the atlas.
        """
        if atlas := cls._existing(path):
            return atlas
        try:
            path.mkdir(parents=True, exist_ok=True)  # the lock is a file in it
        except (FileExistsError, NotADirectoryError):
            raise _no_folder(path) from None
        record = {"format": FORMAT, "uuid": str(uuid.uuid4()), "name": path.stem, "corpus": None}
        folder = cls(path, record)
        try:
            with folder.writing():
                if atlas := cls._existing(path):  # another process has created it meanwhile
                    return atlas
                write_json(path / ATLAS, record)
        except Locked:
            if atlas := cls._existing(path):
                return atlas
            raise
        return folder

    @classmethod
    def _existing(cls, path: Path) -> "Folder | None":
        """Open the atlas at a path; None if there is nothing yet.

        The files are listed first: all others are written after ``atlas.json``, so a folder
        that holds others and no ``atlas.json`` is not an atlas that is just being created.
        """
        try:
            files = [f for f in path.iterdir() if f.name != "lock" and not is_leftover(f)]
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise _no_folder(path) from None
        if (path / ATLAS).exists():
            return cls.open(path)
        if files:
            raise BadInput(
                f"{path} is not empty and not an atlas; select a new folder with `atlas`."
            )
        return None

    @property
    def uuid(self) -> str:
        """Unique id of the atlas."""
        return str(self._record["uuid"])

    @property
    def name(self) -> str:
        """Name of the atlas."""
        return str(self._record["name"])

    @property
    def corpus(self) -> Mapping[str, Any] | None:
        """The corpus as recorded in ``atlas.json``; None before the first text is read."""
        return self._record["corpus"]  # type: ignore[no-any-return]

    def check_corpus(self, corpus: Mapping[str, Any]) -> None:
        """Check that the atlas has this corpus, or none yet.

        Raises
        ------
        Mismatch
            If the atlas has another corpus.
        """
        if self.corpus is not None and self.corpus["id"] != corpus["id"]:
            raise Mismatch(
                f"The corpus of {self.path} is {self.corpus['name']!r} ({self.corpus['documents']} "
                f"documents, id {self.corpus['id']}), but the input text is another one "
                f"({corpus['documents']} documents, id {corpus['id']}). An atlas has one corpus: omit "
                "`text` to use the stored one, or select another folder with `atlas`."
            )

    def set_corpus(self, corpus: Mapping[str, Any]) -> None:
        """Record the corpus of this atlas, if it has none yet.

        The caller holds the write lock. ``atlas.json`` is read again first, because another
        process may have recorded a corpus after this one opened the folder.
        """
        self._record = Folder.open(self.path)._record
        self.check_corpus(corpus)
        if self.corpus is None:
            self._record["corpus"] = dict(corpus)
            write_json(self.path / ATLAS, self._record)

    @property
    def corpus_file(self) -> Path:
        """File of the documents."""
        return self.path / "corpus.parquet"

    @property
    def cache(self) -> Path:
        """Folder of the embedded views, which can be rebuilt at any time."""
        return self.path / "cache"

    def part(self, kind: str, name: str) -> Path:
        """Return the folder of a part."""
        return self.path / "parts" / kind / name

    def codes(self, sae: str) -> Path:
        """Return the folder of an SAE's codes."""
        return self.path / "codes" / sae

    def run(self, id: str) -> Path:
        """Return the folder of an unfinished run."""
        return self.path / "runs" / id

    def runs(self) -> list[Path]:
        """Return the folders of unfinished runs, by name."""
        return _folders(self.path / "runs")

    def discard_runs(self, sae: str, *, but: Path | None = None) -> None:
        """Remove the files of unfinished runs of an SAE, except those of the run ``but``."""
        for run in self.runs():
            if run.name.rpartition("-")[0] == sae and run != but:
                discard(run)

    def part_folders(self) -> list[Path]:
        """Return the folder of every part, including codes, by kind and name."""
        found = [f for kind in _folders(self.path / "parts") for f in _folders(kind)]
        return found + _folders(self.path / "codes")

    def all_parts(self) -> tuple[list[Part], dict[str, str]]:
        """Read every manifest; return the readable parts, and the errors of the others by key."""
        parts: list[Part] = []
        broken: dict[str, str] = {}
        for folder in self.part_folders():
            try:
                parts.append(_manifest(folder))
            except (BrokenPart, NewerFormat) as error:
                broken[f"{folder.parent.name}/{folder.name}"] = str(error)
        return parts, broken

    def sound(self) -> Sound:
        """Return the parts that may be loaded, and the reasons why the others may not.

        A part is stale if an ancestor is missing, has another hash, or is itself stale.

        A part that touches no SAE is about a model. It is stale while a sound SAE reads
        another model of the same name. If no SAE reads a model of this name, the part is
        stale unless it describes the model as the first part about it does.
        """
        found, broken = self.all_parts()
        parts = {p.manifest.key: p for p in found}
        stale: dict[str, str] = {}
        changed = True
        while changed:
            changed = False
            for key, part in parts.items():
                reason = None if key in stale else _stale(part, parts, stale)
                if reason:
                    stale[key], changed = reason, True
        if about := {key: part for key, part in parts.items() if not part.manifest.saes}:
            saes = [p for key, p in parts.items() if p.manifest.kind == "sae" and key not in stale]
            stale |= _of_other_models(about, models_of(saes)) | _of_changed_models(about, saes)
        return Sound({k: p for k, p in parts.items() if k not in stale}, stale, broken)

    def read(self, work: Callable[[Sound], T], *, seen: Sound | None = None) -> T:
        """Do some reading without the write lock, which another process may hold meanwhile.

        If a part cannot be read because it was replaced or removed, all manifests are read
        again and the work is repeated once. The result is computed from one set of manifests.

        Parameters
        ----------
        work
            Reads tables of the sound parts.
        seen
            The sound parts, if already read.

        Raises
        ------
        BrokenPart
            If a part is damaged.
        Locked
            If another process replaced or removed a part a second time.
        """
        seen = seen or self.sound()
        try:
            return work(seen)
        except (BrokenPart, Locked):
            now = self.sound()
            if _hashes(now) == _hashes(seen):
                raise
            return work(now)

    def remove(self, part: Part) -> None:
        """Remove a part; parts computed from it become stale."""
        discard(part.folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock of the folder while the block runs.

        Raises
        ------
        Locked
            If another process holds it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Locked(
                f"Another process is writing {self.path}; wait until it has finished, or select "
                "another folder with `atlas`."
            ) from None
        try:
            yield
        finally:
            lock.release()


def _no_folder(path: Path) -> BadInput:
    return BadInput(f"{path} is a file, or below one; select a new folder with `atlas`.")


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(f for f in path.iterdir() if f.is_dir() and not is_leftover(f))


def _manifest(folder: Path) -> Part:
    """Read the manifest of a part; twice, if the part was just being replaced."""
    try:
        return read_manifest(folder)
    except BrokenPart as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return read_manifest(folder)


def _hashes(sound: Sound) -> dict[str, str]:
    return {key: part.manifest.hash for key, part in sound.parts.items()}


def models_of(saes: Iterable[Part]) -> set[tuple[str, str, str]]:
    """Return name, weights and tokenizer of each model that the SAEs read."""
    found = set()
    for part in saes:
        try:
            (row,) = part.table("Model").to_pylist()
        except BrokenPart:  # reported when the SAE is loaded
            continue
        found.add((row["name"], row["weights"], row["tokenizer"]))
    return found


def _of_other_models(
    parts: Mapping[str, Part], models: Collection[tuple[str, str, str]]
) -> dict[str, str]:
    """Report which parts describe a model that differs from the model of that name in the atlas."""
    known: dict[str, set[Any]] = {}
    for identity in models:
        known.setdefault(identity[0], set()).add(identity)
    read = set(known)
    about = {key: part.manifest.sources.get("model", {}) for key, part in parts.items()}
    for key, part in sorted(parts.items()):
        if DESCRIBED in part.manifest.tables:
            known.setdefault(about[key].get("name"), {_identity(about[key])})
    stale = {}
    for key, model in about.items():
        name = model.get("name")
        if name not in known:
            stale[key] = f"no SAE here reads the model {name}, and the part does not describe it"
        elif _identity(model) not in known[name]:
            user = "SAEs here read" if name in read else "another part here is about"
            stale[key] = f"{user} another model named {name} (other weights, or another tokenizer)"
    return stale


def _of_changed_models(parts: Mapping[str, Part], saes: Iterable[Part]) -> dict[str, str]:
    """Report which parts about models belong to a model whose deeper parameters differ."""
    manifests = [part.manifest for part in saes]
    stale = {}
    for key, part in parts.items():
        model = part.manifest.sources.get("model", {})
        name = model.get("name")
        if name and differ(model.get("parameters", ()), stored_digests(manifests, name)):
            stale[key] = f"SAEs here read another model named {name} (other parameters)"
    return stale


def _identity(model: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(model.get(n) for n in ("name", "weights", "tokenizer"))


def _stale(part: Part, parts: Mapping[str, Part], stale: Mapping[str, str]) -> str | None:
    for ancestor, wanted in part.manifest.made_from.items():
        if ancestor not in parts:
            return f"its input {ancestor} is missing"
        if parts[ancestor].manifest.hash != wanted:
            return f"its input {ancestor} has been computed again since"
        if ancestor in stale:
            return f"its input {ancestor} is stale"
    return None
