"""Files and folders are written completely or not at all; a full disk is one message."""

import errno
import os

import numpy as np
import pytest
from safetensors import SafetensorError

from atlas.disk.atomic_files import atomic_file, atomic_folder, discard, is_leftover, sha256
from atlas.disk.folder import Folder
from atlas.disk.temp_storage import mapped_array, scratch
from atlas.errors import BadInput, OutOfSpace


def fail(writing, write):
    with writing as temporary:
        write(temporary)
        raise ValueError("half way")


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert is_leftover(temporary)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_preserves_the_existing_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="half way"):
        fail(atomic_file(tmp_path / "a.txt"), lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_created_and_replaced_atomically(tmp_path):
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "kind" / "name") as temporary:
            (temporary / f"{content}.txt").write_text(content)
    assert [f.name for f in (tmp_path / "kind" / "name").iterdir()] == ["two.txt"]
    assert [f.name for f in (tmp_path / "kind").iterdir()] == ["name"]


def test_a_failure_preserves_the_existing_folder(tmp_path):
    with atomic_folder(tmp_path / "name") as temporary:
        (temporary / "old.txt").write_text("old")
    with pytest.raises(ValueError, match="half way"):
        fail(
            atomic_folder(tmp_path / "name"),
            lambda temporary: (temporary / "new.txt").write_text("new"),
        )
    assert [f.name for f in (tmp_path / "name").iterdir()] == ["old.txt"]
    assert [f.name for f in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        OSError("IOError: Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_one_message(tmp_path, error):
    with (
        pytest.raises(OutOfSpace, match=r"The disk is full: .*a.txt could not be written"),
        atomic_file(tmp_path / "a.txt"),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "no"), BadInput("no"), SafetensorError("no"), ValueError("no")],
)
def test_other_errors_are_not_changed(tmp_path, error):
    with pytest.raises(type(error)) as raised, atomic_file(tmp_path / "a.txt"):
        raise error
    assert raised.value is error


def test_discard_removes_files_and_folders_and_ignores_absent_names(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x")
    for name in ("file", "folder", "nothing"):
        discard(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_mapped_array_reserves_its_disk_space(tmp_path):
    array = mapped_array(tmp_path / "a.npy", (1000, 30), np.float64)
    assert array.shape == (1000, 30)
    assert array.dtype == np.float64
    assert not array.any()
    if hasattr(os, "posix_fallocate"):
        assert (tmp_path / "a.npy").stat().st_blocks * 512 >= array.nbytes
    array[:] = 1.5
    array.flush()
    assert (np.load(tmp_path / "a.npy") == 1.5).all()
    assert mapped_array(tmp_path / "b.npy", (0, 3), np.float32).shape == (0, 3)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no space")
def test_a_mapped_array_on_a_full_disk_is_one_message(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutOfSpace, match=r"The disk is full: .*a.npy could not be written"):
        mapped_array(tmp_path / "a.npy", (10, 3), np.float32)


def test_a_full_disk_in_a_scratch_folder_is_one_message(tmp_path):
    folder = Folder.create(tmp_path / "a.atlas")
    with pytest.raises(OutOfSpace, match="The disk is full"), scratch(folder, "test"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(folder.cache.iterdir()) == []


def test_sha256_equals_a_published_digest(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == known
