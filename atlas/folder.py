"""The folder of an atlas: what lies where, who may write, and which parts are sound.

::

    demo.atlas/
      atlas.json              format, uuid, name, corpus
      corpus.parquet          the documents, in blocks
      parts/<kind>/<name>/    Parquet tables and manifest.json
      codes/<sae>/            Arrow files, one a shard, and manifest.json
      saes/<name>/            SAEs that were trained here, as sae-lens saves them
      runs/<id>/              what an unfinished run needs to go on
      cache/                  the embedded view; may be removed at any time
      lock                    held by the process that writes
"""

import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.atomic_files import discard, is_leftover, write_json
from atlas.errors import BadInput, BrokenPart, Locked, Mismatch, NewerFormat
from atlas.parts import FORMAT, Part, differ, read_manifest, stored_digests

__all__ = ["DESCRIBED", "Folder", "Sound", "models_of"]

ATLAS = "atlas.json"

DESCRIBED = "model"
"""The table in which a part that touches no SAE describes its model, as the table Model would."""


@dataclass(frozen=True)
class Sound:
    """The parts of an atlas as they stand now.

    Parameters
    ----------
    parts
        Those that may be loaded, by ``kind/name``.
    stale
        Those whose ancestor is gone or another by now, each with the reason.
    broken
        Those whose manifest cannot be read, each with the reason.
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


class Folder:
    """An atlas on disk.

    Use ``Folder.open`` for one that exists and ``Folder.create`` for a new one.
    """

    def __init__(self, path: Path, said: Mapping[str, Any]) -> None:
        self.path = path
        self._said = dict(said)

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Open an atlas.

        Raises
        ------
        BadInput
            If there is no atlas there.
        NewerFormat
            If a newer version wrote it.
        """
        try:
            said = json.loads((path / ATLAS).read_text("utf-8"))
            newer = said["format"] > FORMAT
            said["uuid"], said["name"], said["corpus"]
        except FileNotFoundError:
            raise BadInput(
                f"There is no atlas at {path}. `atlas demo` makes one to look at, "
                "`atlas ingest` makes one of your own; `--atlas PATH` names another."
            ) from None
        except NotADirectoryError:
            raise BadInput(f"{path} is a file; an atlas is a folder.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenPart(
                f"{path / ATLAS} cannot be read ({error}); it is not what was written."
            ) from error
        if newer:
            raise NewerFormat(
                f"{path} has format {said['format']}, and this version reads up to {FORMAT}. "
                "Install a newer feature-atlas."
            )
        return cls(path, said)

    @classmethod
    def create(cls, path: Path) -> "Folder":
        """Open the atlas at ``path``, or begin an empty one there."""
        if (path / ATLAS).exists():
            return cls.open(path)
        if path.exists() and (
            not path.is_dir()
            or any(f.name != "lock" and not is_leftover(f) for f in path.iterdir())
        ):
            raise BadInput(f"{path} is not empty and not an atlas; name a new folder with --atlas.")
        path.mkdir(parents=True, exist_ok=True)
        said = {"format": FORMAT, "uuid": str(uuid.uuid4()), "name": path.stem, "corpus": None}
        folder = cls(path, said)
        with folder.writing():
            if (path / ATLAS).exists():  # another process has begun it meanwhile
                return cls.open(path)
            write_json(path / ATLAS, said)
        return folder

    @property
    def uuid(self) -> str:
        """The atlas' own name among all atlases."""
        return str(self._said["uuid"])

    @property
    def name(self) -> str:
        """The atlas' name for people."""
        return str(self._said["name"])

    @property
    def corpus(self) -> Mapping[str, Any] | None:
        """What ``atlas.json`` says of the corpus; None before the first text is read."""
        return self._said["corpus"]  # type: ignore[no-any-return]

    def check_corpus(self, corpus: Mapping[str, Any]) -> None:
        """Make sure that the atlas is about this corpus, or about none yet.

        Raises
        ------
        Mismatch
            If it is about another one.
        """
        if self.corpus is not None and self.corpus["id"] != corpus["id"]:
            raise Mismatch(
                f"{self.path} is about the corpus {self.corpus['name']!r} ({self.corpus['documents']} "
                f"documents, id {self.corpus['id']}), and the text given is another one "
                f"({corpus['documents']} documents, id {corpus['id']}). An atlas has one corpus: leave "
                "out --text to use its own, or name another folder with --atlas."
            )

    def set_corpus(self, corpus: Mapping[str, Any]) -> None:
        """Record the corpus this atlas is about, if it has none yet.

        The caller holds the right to write. ``atlas.json`` is read again first: another
        process may have recorded a corpus after this one opened the folder.
        """
        self._said = Folder.open(self.path)._said
        self.check_corpus(corpus)
        if self.corpus is None:
            self._said["corpus"] = dict(corpus)
            write_json(self.path / ATLAS, self._said)

    @property
    def corpus_file(self) -> Path:
        """Where the documents lie."""
        return self.path / "corpus.parquet"

    @property
    def cache(self) -> Path:
        """Where views that may be rebuilt lie."""
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
        """Remove what unfinished runs of an SAE have left, except one."""
        for run in self.runs():
            if run.name.rpartition("-")[0] == sae and run != but:
                discard(run)

    def part_folders(self) -> list[Path]:
        """Return the folder of every part, codes too, by kind and name."""
        found = [f for kind in _folders(self.path / "parts") for f in _folders(kind)]
        return found + _folders(self.path / "codes")

    def all_parts(self) -> tuple[list[Part], dict[str, str]]:
        """Read every manifest: the parts, sound or stale, and why others cannot be read."""
        parts: list[Part] = []
        broken: dict[str, str] = {}
        for place in self.part_folders():
            try:
                parts.append(read_manifest(place))
            except (BrokenPart, NewerFormat) as error:
                broken[f"{place.parent.name}/{place.name}"] = str(error)
        return parts, broken

    def sound(self) -> Sound:
        """Return the parts that may be loaded, and why the others may not.

        Parts are read in any order: one is stale if an ancestor is missing, has
        another hash, or is itself stale. One that touches no SAE is about a model: it is
        stale while a sound SAE reads another model of that name, or, where none reads one
        of that name, if the part does not describe the model, or describes another one
        than a part before it.
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

    def remove(self, part: Part) -> None:
        """Remove a part; those made from it are stale from then on."""
        discard(part.folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write while the block runs.

        Raises
        ------
        Locked
            If another process has it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Locked(
                f"Another process is writing {self.path}; wait until it has finished, or use another "
                "folder with --atlas."
            ) from None
        try:
            yield
        finally:
            lock.release()


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(f for f in path.iterdir() if f.is_dir() and not is_leftover(f))


def models_of(saes: Iterable[Part]) -> set[tuple[str, str, str]]:
    """Return name, weights and tokenizer of the models that SAEs read, of which parts may be."""
    found = set()
    for part in saes:
        try:
            (row,) = part.table("Model").to_pylist()
        except BrokenPart:  # told by whoever loads the SAE
            continue
        found.add((row["name"], row["weights"], row["tokenizer"]))
    return found


def _of_other_models(
    parts: Mapping[str, Part], models: Collection[tuple[str, str, str]]
) -> dict[str, str]:
    """Say which parts about models are about others than those that bear their names here."""
    known: dict[str, set[Any]] = {}
    for identity in models:
        known.setdefault(identity[0], set()).add(identity)
    read = set(known)
    about = {key: part.manifest.sources.get("model", {}) for key, part in parts.items()}
    for key, part in sorted(parts.items()):
        if DESCRIBED in part.manifest.tables:
            known.setdefault(about[key].get("name"), {_identity(about[key])})
    stale = {}
    for key, said in about.items():
        name = said.get("name")
        if name not in known:
            stale[key] = f"no SAE here reads the model {name}, and the part does not describe it"
        elif _identity(said) not in known[name]:
            who = "SAEs here read" if name in read else "another part here is about"
            stale[key] = f"{who} another model named {name} (other weights, or another tokenizer)"
    return stale


def _of_changed_models(parts: Mapping[str, Part], saes: Iterable[Part]) -> dict[str, str]:
    """Report which parts about models belong to models whose upper parameters differ."""
    manifests = [part.manifest for part in saes]
    stale = {}
    for key, part in parts.items():
        model = part.manifest.sources.get("model", {})
        name = model.get("name")
        if name and differ(model.get("parameters", ()), stored_digests(manifests, name)):
            stale[key] = f"SAEs here read another model named {name} (other parameters)"
    return stale


def _identity(said: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(said.get(n) for n in ("name", "weights", "tokenizer"))


def _stale(part: Part, parts: Mapping[str, Part], stale: Mapping[str, str]) -> str | None:
    for ancestor, wanted in part.manifest.made_from.items():
        if ancestor not in parts:
            return f"{ancestor}, which it was made from, is gone"
        if parts[ancestor].manifest.hash != wanted:
            return f"{ancestor}, which it was made from, has been made anew since"
        if ancestor in stale:
            return f"{ancestor}, which it was made from, is stale"
    return None
