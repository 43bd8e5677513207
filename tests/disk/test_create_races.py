"""Processes that create one atlas at once create one sound atlas, wherever each is interrupted."""

import json
import multiprocessing
from pathlib import Path

import pytest

import atlas.disk.folder
from atlas.disk.folder import Folder
from atlas.errors import AtlasError, BadInput, Locked
from ingest.text.atlas_corpus import beginning

FORK = multiprocessing.get_context("fork")
STOPS = {
    "before it lists the folder": (Path, "iterdir"),
    "before it checks for the atlas": (Path, "exists"),
    "before it makes the folder": (Path, "mkdir"),
    "before it locks": (Folder, "writing"),
}
"""The functions at whose first call a process is stopped, one interleaving of two each."""


class Stopped:
    """A process that creates an atlas and is stopped at the first call of a function."""

    def __init__(self, path, owner, name):
        self._here, self._there = FORK.Pipe()
        self._process = FORK.Process(target=self._create, args=(path, owner, name))
        self._process.start()
        self.first = self._here.recv()

    def _create(self, path, owner, name):
        original, calls = getattr(owner, name), []

        def late(at, *args, **options):
            # A lock has these methods too, with its path.
            if not calls and getattr(at, "path", at) in (path, path / "atlas.json"):
                calls.append(True)
                self._there.send("stopped")
                self._there.recv()
            return original(at, *args, **options)

        setattr(owner, name, late)
        self._there.send(created(path))

    def go_on(self):
        if self.first != "stopped":
            answer = self.first
        else:
            self._here.send("go on")
            answer = self._here.recv()
        self._process.join()
        return answer


def created(path):
    """Create an atlas and return its uuid, or the name of the error."""
    try:
        return Folder.create(path).uuid
    except AtlasError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - a traceback is what this test searches for
        return f"unexpected {error!r}"


@pytest.mark.parametrize(
    ("stop", "made"),
    # Without a folder, the first check for the atlas is under the lock.
    [(stop, made) for stop in STOPS for made in (False, True) if made or "checks" not in stop],
)
def test_another_process_creates_the_atlas_while_this_one_is_stopped(tmp_path, stop, made):
    path = tmp_path / "above" / "a.atlas"
    if made:
        path.mkdir(parents=True)
    late = Stopped(path, *STOPS[stop])
    folder = Folder.create(path)
    with folder.writing():  # it then writes, so the lock is held
        folder.set_corpus({"id": "c", "name": "text", "documents": 1})
        (path / "parts").mkdir()
        content = (path / "atlas.json").read_bytes()
        assert late.go_on() == folder.uuid
    assert (path / "atlas.json").read_bytes() == content
    assert Folder.open(path).corpus["id"] == "c"


def test_the_process_that_holds_the_lock_creates_the_atlas(tmp_path):
    path = tmp_path / "a.atlas"
    first = Stopped(path, atlas.disk.folder, "write_json")
    assert first.first == "stopped"
    with pytest.raises(Locked, match="Another process is writing"):
        Folder.create(path)
    assert not (path / "atlas.json").exists()
    uuid = first.go_on()
    assert created(path) == uuid == json.loads((path / "atlas.json").read_text())["uuid"]


def test_an_atlas_that_is_created_while_the_folder_is_locked_is_opened(tmp_path, monkeypatch):
    """The process finds the folder locked, and just after that the atlas is complete."""
    path = tmp_path / "a.atlas"
    first, taking = Stopped(path, atlas.disk.folder, "write_json"), Folder.writing
    uuids = []

    def late(self):
        class Taking:
            def __enter__(self_):
                try:
                    return lock.__enter__()
                except Locked:
                    uuids.append(first.go_on())
                    raise

            def __exit__(self_, *error):
                return lock.__exit__(*error)

        lock = taking(self)
        return Taking()

    monkeypatch.setattr(Folder, "writing", late)
    assert [Folder.create(path).uuid] == uuids


def test_eight_processes_create_one_atlas(tmp_path):
    for number in range(5):
        path = tmp_path / f"{number}" / "a.atlas"
        together, answers = FORK.Barrier(8), FORK.SimpleQueue()

        def create(path=path, together=together, answers=answers):
            together.wait()
            answers.put(created(path))

        running = [FORK.Process(target=create) for _ in range(8)]
        for process in running:
            process.start()
        found = [answers.get() for _ in running]
        for process in running:
            process.join()
        uuid = Folder.open(path).uuid
        assert all(f == uuid or f.startswith("Locked: Another process is writing") for f in found)
        assert uuid in found


def test_a_command_that_fails_does_not_discard_the_atlas_of_another(tmp_path, monkeypatch):
    """It found no folder, opened the empty atlas of the other process, and waited for the lock."""
    path = tmp_path / "a.atlas"
    create = Folder.create

    def late(at):
        folder = create(at)
        with folder.writing():  # the other process finishes
            Folder.open(at).set_corpus({"id": "c", "name": "text", "documents": 1})
        return folder

    monkeypatch.setattr(Folder, "create", late)
    with pytest.raises(BadInput, match="bad text"), beginning(path):
        raise BadInput("bad text")
    assert Folder.open(path).corpus["id"] == "c"


def test_a_command_that_fails_discards_the_empty_atlas_that_it_created(tmp_path):
    path = tmp_path / "a.atlas"
    with pytest.raises(BadInput, match="bad text"), beginning(path):
        raise BadInput("bad text")
    assert not path.exists()


def test_an_atlas_is_created_over_the_files_of_a_killed_process(tmp_path):
    path = tmp_path / "a.atlas"
    path.mkdir()
    (path / "lock").touch()
    (path / ".atlas.json.new").write_text("{")
    assert Folder.create(path).uuid == Folder.open(path).uuid


def test_a_folder_of_other_files_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    (path / "thesis.txt").touch()
    with pytest.raises(BadInput, match="not empty and not an atlas"):
        Folder.create(path)
    assert [p.name for p in path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("below", ["", "a.atlas", "a/b.atlas"])
def test_a_path_that_is_or_is_below_a_file_is_one_message(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file, or below one"):
        Folder.create(tmp_path / "file" / below)
    assert (tmp_path / "file").read_bytes() == b""
