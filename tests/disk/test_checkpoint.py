"""Damaged files of an unfinished run are detected, and their shards are computed again."""

import json

import numpy as np
import pytest
from attacks.kill import hashes
from small_ingest import model, texts, topk

from atlas.disk.folder import Folder
from atlas.errors import BrokenPart
from atlas.progress import Silent
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


class Stop(Exception):
    """Raised to interrupt an ingest."""


class Ends(Silent):
    """Interrupts an ingest at one of its reports of progress, and collects the reports."""

    def __init__(self, remaining=10**9):
        self.remaining, self.sentences = remaining, []

    def report(self, sentence):
        self.sentences.append(sentence)

    def stage(self, title, **_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, by=1):
        self.remaining -= by
        if self.remaining < 0:
            raise Stop


def run(path, keep_codes, progress):
    ingest(
        path,
        saes=[open_sae(topk(), name="top")],
        text=texts(600, seed=5, words=(50, 120)),
        model=model(),
        settings=Settings(shard_blocks=1, keep_codes=keep_codes),
        progress=progress,
    )


@pytest.fixture(params=[True, False], ids=["keep", "drop"])
def unfinished(request, tmp_path):
    """Interrupt a run after some shards, and return its atlas and request."""
    run(tmp_path / "reference.atlas", request.param, Silent())
    path = tmp_path / "a.atlas"
    with pytest.raises(Stop):
        run(path, request.param, Ends(602.5))  # 600 documents, and some blocks
    (folder,) = Folder.open(path).runs()
    return path, request.param, folder, hashes(tmp_path / "reference.atlas")


def flip(path, share=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 1
    path.write_bytes(content)


def test_damaged_codes_and_states_are_computed_again(unfinished):
    path, keep_codes, folder, wanted = unfinished
    damaged = sorted((folder / "codes").glob("*.arrow")) if keep_codes else [folder / "reduced.npz"]
    assert damaged
    flip(damaged[0])
    progress = Ends()
    run(path, keep_codes, progress)
    assert hashes(path) == wanted
    assert any("damaged" in s and "computed again" in s for s in progress.sentences)


def test_every_damage_of_states_is_detected(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.start({})
    checkpoint.shard(0).write_bytes(b"codes")
    checkpoint.save_states(0, {"fidelity": {"sum": np.arange(3.0), "count": np.array(4)}})
    states = tmp_path / "run" / "shard-00000.npz"
    intact = states.read_bytes()
    assert checkpoint.drop_damaged() == []
    wanted = checkpoint.states(0)
    for at in range(len(intact)):
        content = bytearray(intact)
        content[at] ^= 1 << at % 8
        states.write_bytes(content)
        if checkpoint.drop_damaged():
            assert not checkpoint.finished(0)
        else:  # a byte without effect, such as a time of the archive
            found = checkpoint.states(0)["fidelity"]
            assert {k: v.tolist() for k, v in found.items()} == {
                k: v.tolist() for k, v in wanted["fidelity"].items()
            }


def test_a_damaged_request_is_reported(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.start(requested := {"saes": ["a"], "model": None, "settings": {"seed": 10}})
    assert checkpoint.request() == requested
    file = tmp_path / "request.json"
    text = file.read_text("utf-8")
    for damage in (text.replace("10", "11"), text.replace("saes", "sets"), "[1]", "7", text[:20]):
        file.write_text(damage, "utf-8")
        with pytest.raises(BrokenPart, match="repeat the complete command"):
            checkpoint.request()
    assert json.loads(text)["sha256"]
