"""A damaged view is built again; two processes do not overwrite or misreport each other's parts."""

import random
from collections import namedtuple

import pytest
from recording_progress import RecordingProgress
from store_graphs import make_graph

from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, read_manifest, write_part
from atlas.doctor import checks
from atlas.errors import BrokenPart, Locked, Mismatch, OutOfSpace
from atlas.stores.kuzu.files import discard_view
from atlas.stores.kuzu.store import KuzuStore

ROWS = "MATCH (a:Feature)-[e:CO_ACTIVATES]->(b:Feature) RETURN a.id, b.id, e.weight ORDER BY a.id, b.id"


@pytest.fixture
def view(tmp_path):
    path = tmp_path / "graph-0.kuzu"
    KuzuStore.open(path, graph=make_graph).close()
    return path


def damaged(path, draw):
    """Change some bytes of a file; return how."""
    content = bytearray(path.read_bytes())
    kind = draw.choice(["flip", "zero page", "truncate", "extend"])
    at = draw.randrange(len(content))
    if kind == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif kind == "zero page":
        content[at : at + 4096] = b"\xff" * len(content[at : at + 4096])
    elif kind == "truncate":
        del content[at:]
    else:
        content += b"\0"
    path.write_bytes(content)
    return kind


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_view_is_built_again_with_the_same_rows(view, seed):
    intact = view.read_bytes()
    damaged(view, random.Random(seed))
    progress = RecordingProgress()
    store = KuzuStore.open(view, graph=make_graph, progress=progress)
    fresh = KuzuStore.open(view.with_name("other.kuzu"), graph=make_graph)
    assert store.query(ROWS, {}).equals(fresh.query(ROWS, {}))
    assert progress.messages[0] == "graph-0.kuzu is damaged or incomplete and is built again."
    store.close()
    fresh.close()
    assert KuzuStore(view).is_sound(complete=True)
    assert len(view.read_bytes()) == len(intact)


def test_a_large_view_is_hashed_at_open_only_when_its_size_or_time_differ(view, monkeypatch):
    import os

    monkeypatch.setattr("atlas.stores.kuzu.store.ALWAYS_HASHED", 0)
    before = view.stat()
    content = bytearray(view.read_bytes())
    content[len(content) // 2] ^= 1
    view.write_bytes(content)
    assert not KuzuStore(view).is_sound()
    os.utime(view, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The check at open cannot detect this; the complete check of `atlas doctor` does.
    assert KuzuStore(view).is_sound()
    assert not KuzuStore(view).is_sound(complete=True)


def test_doctor_reports_a_damaged_view(tmp_path):
    folder = Folder.create(tmp_path / "a.atlas")
    view = folder.cache / "graph-0.kuzu"
    KuzuStore.open(view, graph=make_graph).close()
    assert [c.about for c in checks(folder.path) if c.state == "fault"] == []
    damaged(view, random.Random(1))
    (fault,) = [c for c in checks(folder.path) if c.state == "fault"]
    assert fault.about.endswith("graph-0.kuzu")
    assert "builds it again from the parts" in fault.remedy


def test_a_view_that_was_copied_with_its_checksum_is_sound(view, tmp_path):
    import shutil

    copied = tmp_path / "copied"
    copied.mkdir()
    for name in (view.name, f"{view.name}.sum"):
        shutil.copy(view.with_name(name), copied / name)
    assert KuzuStore(copied / view.name).is_sound()


def test_no_view_is_built_on_a_disk_that_is_too_full(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("atlas.stores.kuzu.build.shutil.disk_usage", lambda _: usage(1, 1, 1 << 20))
    with pytest.raises(OutOfSpace, match=r"needs about 32 MiB of disk, but only 1 MiB are free"):
        KuzuStore.open(tmp_path / "graph-0.kuzu", graph=make_graph)
    assert {p.name for p in tmp_path.iterdir()} <= {"graph-0.kuzu.lock"}


def part(folder, value):
    import pyarrow as pa

    return write_part(folder, Manifest(kind="k", name="n"), [("t", pa.table({"x": [value]}))])


def test_a_part_that_is_replaced_while_it_is_read_is_not_reported_as_broken(tmp_path):
    """The reader has the old manifest, and the other process has written the new part."""
    old = part(tmp_path / "k/n", 1)
    new = part(tmp_path / "k/n", 2)
    with pytest.raises(Locked, match="Another process replaced or removed the part"):
        old.table("t")
    with pytest.raises(Locked, match="replaced or removed"):
        old.check()
    assert new.table("t")["x"].to_pylist() == [2]
    (tmp_path / "k/n" / new.manifest.tables["t"].file).write_bytes(b"damaged")
    with pytest.raises(BrokenPart, match="the checksum differs"):
        read_manifest(tmp_path / "k/n").check()


def test_a_table_is_read_from_the_file_whose_checksum_was_compared(tmp_path, monkeypatch):
    """The other process replaces the part between the checksum and the reading."""
    import hashlib

    old = part(tmp_path / "k/n", 1)
    digest, replaced = hashlib.file_digest, []

    def late(file, name):
        found = digest(file, name)
        if not replaced:
            replaced.append(True)
            part(tmp_path / "k/n", 2)
        return found

    monkeypatch.setattr(hashlib, "file_digest", late)
    assert old.table("t")["x"].to_pylist() == [1]
    assert replaced


CORPUS = {"id": "one", "name": "one", "documents": 1}


def test_a_corpus_that_another_process_recorded_meanwhile_is_not_overwritten(tmp_path):
    late = Folder.create(tmp_path / "a.atlas")
    Folder.open(tmp_path / "a.atlas").set_corpus(CORPUS)
    with pytest.raises(Mismatch, match=r"The corpus of .* is 'one'"):
        late.set_corpus(CORPUS | {"id": "two"})
    assert Folder.open(tmp_path / "a.atlas").corpus == CORPUS


def test_two_processes_that_create_an_atlas_at_once_create_one(tmp_path, monkeypatch):
    """The other process creates it between the first check of the folder and the lock."""
    path, others = tmp_path / "a.atlas", []
    locking = Folder.writing

    def late(self):
        if not others:
            others.append(None)
            others[0] = Folder.create(path)
        return locking(self)

    monkeypatch.setattr(Folder, "writing", late)
    mine = Folder.create(path)
    assert mine.uuid == others[0].uuid == Folder.open(path).uuid


def test_nothing_is_written_while_another_process_holds_the_lock(tmp_path):
    path = tmp_path / "a.atlas"
    path.mkdir()
    holder = Folder(path, {})
    with holder.writing(), pytest.raises(Locked, match="Another process is writing"):
        Folder.create(path)
    assert not (path / "atlas.json").exists()


def test_a_part_is_replaced_between_two_reads(tmp_path, monkeypatch):
    """The part is absent when its manifest is read again, and the new one is there just after."""
    import atlas.disk.parts

    old = part(tmp_path / "k/n", 1)
    (tmp_path / "k/n").rename(tmp_path / "away")
    reading = atlas.disk.parts.read_manifest

    def late(folder):
        try:
            return reading(folder)
        finally:
            part(tmp_path / "k/n", 2)

    monkeypatch.setattr("atlas.disk.parts.read_manifest", late)
    with pytest.raises(Locked, match="replaced or removed"):
        old.table("t")


def test_files_of_a_killed_build_are_removed_but_not_those_of_a_running_one(view):
    from filelock import FileLock

    leftovers = [view.with_name(f"{view.name}{s}") for s in (".new", ".new.wal", ".wal")]
    for path in leftovers:
        path.write_bytes(b"left")
    with FileLock(f"{view}.lock"):
        discard_view(view)
        assert all(path.exists() for path in (view, *leftovers))
    discard_view(view)
    assert [p.name for p in view.parent.iterdir() if p.name.startswith(view.name)] in (
        [],
        [f"{view.name}.lock"],
    )
