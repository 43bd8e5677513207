"""The cache of model digests: unchanged files are hashed once, and every change is hashed again."""

import json
import os
import shutil

import pytest
import torch
from edited_models import FIRST, LAST, negate
from random_models import random_model, small_tokenizer
from small_ingest import named, run, texts, topk

from atlas.errors import Mismatch
from ingest.model import digest_cache, identity
from ingest.model.digest_cache import cache_folder, files_state
from ingest.model.language_model import open_model
from ingest.probe.study import probe_saes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Use a cache folder of the test, without the delay after a change of a file."""
    monkeypatch.delenv("ATLAS_NO_DIGEST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "SETTLED_NS", 0)
    return tmp_path / "cache" / "feature-atlas" / "model-digests"


@pytest.fixture
def hashed(monkeypatch):
    """Record one entry for each block or embedding that is hashed."""
    count, digest = [], identity._digest
    monkeypatch.setattr(identity, "_digest", lambda *tensors: count.append(1) or digest(*tensors))
    return count


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "small"
    random_model("llama").save_pretrained(path)
    small_tokenizer().save_pretrained(path)
    return path


def reopened(folder, hooks=(), **options):
    return open_model(folder, hooks=hooks, cached_digests=True, **options)


def changed_in_place(folder):
    """Negate an upper weight matrix in the file: same path, inode, size and time of modification."""
    file = folder / "model.safetensors"
    before, stat = file.read_bytes(), file.stat()
    lm = open_model(folder)
    with torch.no_grad():
        negate("layers.1.mlp.down_proj.weight")(lm.base)
    other = folder.with_name("other")
    transformer = random_model("llama")
    transformer.model.load_state_dict(lm.base.state_dict())
    transformer.save_pretrained(other)
    after = (other / "model.safetensors").read_bytes()
    assert len(after) == len(before)
    with file.open("r+b") as open_file:
        open_file.write(after)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    now = file.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ino,
    )


def test_unchanged_files_are_hashed_once(folder, hashed):
    without = open_model(folder).parameters([LAST])
    hashed.clear()
    assert reopened(folder).parameters([LAST]) == without
    assert len(hashed) == 3
    assert reopened(folder).parameters([LAST]) == without
    assert reopened(folder).parameters([FIRST]) == without[:2]
    shallow = reopened(folder, [FIRST])
    assert shallow.parameters([LAST]) == without[:2]  # no digest of a block that is not loaded
    assert not shallow.differs_from(without)
    assert shallow.differs_from((*without[:2], "0" * 32))
    assert len(hashed) == 3


def test_a_deeper_site_hashes_only_the_further_blocks(folder, hashed):
    reopened(folder).parameters([FIRST])
    assert len(hashed) == 2
    assert reopened(folder).parameters([LAST]) == open_model(folder).parameters([LAST])
    assert len(hashed) == 2 + 1 + 3


def test_blocks_that_were_compared_in_the_files_are_stored(folder, hashed):
    stored = open_model(folder).parameters([LAST])
    assert not reopened(folder, ["hook_embed"]).differs_from(stored)
    hashed.clear()
    assert not reopened(folder, ["hook_embed"]).differs_from(stored)
    assert hashed == []


def test_commands_hash_an_unchanged_model_once(folder, tmp_path, hashed):
    path = tmp_path / "a.atlas"
    run(path, str(folder), [named(topk(), "top")], texts(), match=None)
    assert hashed
    hashed.clear()
    probe_saes(path, ["top"], sites=["hook_embed"], model=str(folder))
    run(path, str(folder), [named(topk(seed=1), "other")], None, match=None)
    assert hashed == []


def test_a_change_in_place_is_hashed_again(folder):
    before = reopened(folder).parameters([LAST])
    changed_in_place(folder)
    after = reopened(folder).parameters([LAST])
    assert after == open_model(folder).parameters([LAST])
    assert after != before


def test_a_command_refuses_files_that_changed_in_place(folder, tmp_path):
    path = tmp_path / "a.atlas"
    run(path, str(folder), [named(topk(), "top")], texts(), match=None)
    changed_in_place(folder)
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"], sites=["hook_embed"], model=str(folder))


def test_files_that_changed_less_than_two_seconds_ago_are_not_cached(
    folder, cache, hashed, monkeypatch
):
    """A second change within the resolution of the clock would have the same time."""
    monkeypatch.undo()
    monkeypatch.delenv("ATLAS_NO_DIGEST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    state = files_state(folder)
    newest = max(max(entry[2:4]) for entry in state.files)
    assert not state.settled(newest)
    assert not state.settled(newest + 1_999_999_999)
    assert not state.settled(newest - 5_000_000_000)  # the clock of a server is ahead
    assert state.settled(newest + 2_000_000_000)
    monkeypatch.setattr("ingest.model.loading.time.time_ns", lambda: newest + 1_000_000_000)
    reopened(folder).parameters([LAST])
    assert not cache.exists()
    monkeypatch.setattr("ingest.model.loading.time.time_ns", lambda: newest + 3_000_000_000)
    reopened(folder).parameters([LAST])
    assert [p.suffix for p in sorted(cache.iterdir())] == [".json", ""]


def test_files_that_change_while_they_are_loaded_are_not_cached(folder, cache, monkeypatch):
    from transformers import AutoModel

    load = AutoModel.from_pretrained

    def meanwhile(*args, **options):
        found = load(*args, **options)
        os.utime(folder / "model.safetensors", ns=(0, 0))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(AutoModel, "from_pretrained", meanwhile)
        reopened(folder).parameters([LAST])
    assert not cache.exists()


def test_files_that_change_before_they_are_hashed_are_not_cached(folder, cache, hashed):
    """Parameters may be mapped to the file, and change with it."""
    reopened(folder).parameters([FIRST])
    (entry,) = cache.glob("*.json")
    before = entry.read_bytes()
    hashed.clear()
    lm = reopened(folder)
    os.utime(folder / "model.safetensors", ns=(0, 0))
    lm.parameters([LAST])
    assert len(hashed) == 3
    assert entry.read_bytes() == before


def test_a_model_that_was_changed_in_memory_is_hashed(folder, tmp_path):
    """`.data` leaves no trace on a tensor, so a model that the caller passes does not use the cache."""
    path = tmp_path / "a.atlas"
    run(path, str(folder), [named(topk(), "top")], texts(), match=None)
    lm = open_model(folder)
    lm.base.get_parameter("layers.1.mlp.down_proj.weight").data.neg_()
    with pytest.raises(Mismatch, match="its weights differ"):
        probe_saes(path, ["top"], sites=["hook_embed"], model=lm)
    with pytest.raises(Mismatch, match="another model named small"):
        run(path, lm, [named(topk(seed=1), "other")], None, match=None)
    adopted = open_model(lm.base, name="small", tokenizer=lm.tokenizer, cached_digests=True)
    assert adopted.parameters([LAST]) != open_model(folder).parameters([LAST])


def test_number_formats_have_separate_entries(folder):
    single = reopened(folder).parameters([LAST])
    half = reopened(folder, dtype="bfloat16").parameters([LAST])
    assert single != half
    assert reopened(folder).parameters([LAST]) == single
    assert reopened(folder, dtype="bfloat16").parameters([LAST]) == half


def test_a_copy_of_the_folder_has_a_separate_entry(folder, tmp_path, hashed):
    first = reopened(folder).parameters([LAST])
    shutil.copytree(folder, tmp_path / "copy" / "small")
    hashed.clear()
    assert reopened(tmp_path / "copy" / "small").parameters([LAST]) == first
    assert len(hashed) == 3


def with_entry(change):
    def damage(file):
        entry = json.loads(file.read_text())
        change(entry)
        file.write_text(json.dumps(entry))

    return damage


def replaced_by(make):
    def damage(file):
        file.unlink()
        make(file)

    return damage


DAMAGES = {
    "empty": lambda f: f.write_bytes(b""),
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-20]),
    "binary": lambda f: f.write_bytes(b"\xff\x00" * 99),
    "deep": lambda f: f.write_text("[" * 200_000),
    "list": lambda f: f.write_text("[]"),
    "number": lambda f: f.write_text("1" * 9999),
    "link to nothing": replaced_by(lambda f: f.symlink_to("/nonexistent")),
    "pipe": replaced_by(os.mkfifo),
    "no digests": with_entry(lambda e: e.pop("digests")),
    "digests no list": with_entry(lambda e: e.update(digests="0" * 32)),
    "digest no text": with_entry(lambda e: e.update(digests=[7, None])),
    "digest no digest": with_entry(lambda e: e.update(digests=["z" * 32] * 3)),
    "digest with a line": with_entry(lambda e: e.update(digests=["0" * 32 + "\n"] * 3)),
    "other key": with_entry(lambda e: e["key"].update(dtype="torch.float16")),
    "other format": with_entry(lambda e: e.update(format=2)),
    "other versions": with_entry(lambda e: e["key"].update(versions={})),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_entry_is_ignored_and_written_again(folder, cache, how, hashed):
    expected = reopened(folder).parameters([LAST])
    (file,) = cache.glob("*.json")
    DAMAGES[how](file)
    hashed.clear()
    assert reopened(folder).parameters([LAST]) == expected
    assert len(hashed) == 3
    assert reopened(folder).parameters([LAST]) == expected
    assert len(hashed) == 3
    assert json.loads(file.read_text())["digests"] == list(expected)


def test_a_folder_that_cannot_be_trusted_is_not_used(folder, cache, tmp_path, monkeypatch, hashed):
    expected = reopened(folder).parameters([LAST])
    cache.chmod(0o777)  # anyone may have written the entry
    hashed.clear()
    assert cache_folder() is None
    assert reopened(folder).parameters([LAST]) == expected
    assert len(hashed) == 3
    cache.chmod(0o700)
    assert cache_folder() == cache
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)  # the folder of another user
    assert cache_folder() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "config.json"))  # a file
    monkeypatch.delenv("ATLAS_NO_DIGEST_CACHE")
    assert cache_folder() is None
    assert reopened(folder).parameters([LAST]) == expected
    link = tmp_path / "link"
    (link / "feature-atlas").mkdir(parents=True)
    (link / "feature-atlas" / "model-digests").symlink_to(cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(link))
    assert cache_folder() is None


def test_the_environment_switches_the_cache_off(folder, cache, monkeypatch):
    monkeypatch.setenv("ATLAS_NO_DIGEST_CACHE", "1")
    assert reopened(folder).parameters([LAST]) == open_model(folder).parameters([LAST])
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", {"base_model_name_or_path": "elsewhere"}),
        ("model.safetensors.index.json", {"weight_map": {"a": "../other/model.safetensors"}}),
        ("model.safetensors.index.json", {"weight_map": 7}),
        ("config.json", {"transformers_weights": "deep/model.safetensors"}),
        ("config.json", []),
    ],
)
def test_files_elsewhere_are_not_cached(folder, name, content):
    assert files_state(folder) is not None
    (folder / name).write_text(json.dumps(content))
    assert files_state(folder) is None
    assert files_state(folder / "absent") is None


def test_shards_are_cached(tmp_path, hashed):
    path = tmp_path / "small"
    random_model("llama").save_pretrained(path, max_shard_size="20KB")
    small_tokenizer().save_pretrained(path)
    assert len(list(path.glob("*.safetensors"))) > 1
    expected = reopened(path).parameters([LAST])
    hashed.clear()
    assert reopened(path).parameters([LAST]) == expected
    assert hashed == []
