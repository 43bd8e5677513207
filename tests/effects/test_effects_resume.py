"""A killed study of effects continues after its last step, and writes the same bytes."""

import shutil

import numpy as np
import pytest
from fork_server import ForkServer
from killed_effects import SETTINGS, ingested, measured

from atlas.disk.folder import Folder
from atlas.progress import Silent
from atlas.studies import steps
from atlas.studies.steps import Steps


class Sentences(Silent):
    """Collects the reports."""

    def __init__(self):
        self.all = []

    def report(self, sentence):
        self.all.append(sentence)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return ingested(tmp_path_factory.mktemp("killed") / "x.atlas")


@pytest.fixture
def counted(monkeypatch):
    """Return the names of the steps that are computed and stored from here on."""
    names, save = [], steps.save_arrays

    def saving(path, arrays, **more):
        names.append(path.stem)
        save(path, arrays, **more)

    monkeypatch.setattr(steps, "save_arrays", saving)
    monkeypatch.setattr("analysis.effects.ablation.arms._FEATURES", 4)
    return names


def part_hash(path):
    return Folder.open(path).sound().parts["effects/a"].manifest.hash


def folders(path):
    return sorted(path.glob("cache/effects-*"))


def test_kill_9_loses_one_step_and_the_result_is_equal_in_every_bit(atlas, tmp_path, counted):
    complete = shutil.copytree(atlas, tmp_path / "complete.atlas")
    measured(complete)
    every = list(counted)
    assert len(every) > 4
    assert not folders(complete)
    killed = shutil.copytree(atlas, tmp_path / "killed.atlas")
    server = ForkServer("killed_effects")
    try:
        for _ in range(2):  # each process stores two more steps and is killed in its next one
            running = server.start(str(killed), "2")
            running.communicate()
            assert running.returncode == -9
    finally:
        server.close()
    (folder,) = folders(killed)
    assert len(list(folder.glob("[!.]*.npz"))) == 4
    counted.clear()
    seen = Sentences()
    measured(killed, progress=seen)
    assert counted == every[4:]
    assert "Continuing an interrupted study: 4 steps are stored." in seen.all
    assert part_hash(killed) == part_hash(complete)
    assert not folders(killed)


class Interrupted(Exception):
    pass


def test_steps_of_other_settings_are_not_used(atlas, tmp_path, counted, monkeypatch):
    path = shutil.copytree(atlas, tmp_path / "x.atlas")
    save = steps.save_arrays

    def stopping(*args, **more):
        save(*args, **more)
        raise Interrupted

    monkeypatch.setattr(steps, "save_arrays", stopping)
    with pytest.raises(Interrupted):
        measured(path)
    (first,) = folders(path)
    from dataclasses import replace

    with pytest.raises(Interrupted):
        measured(path, settings=replace(SETTINGS, seed=1))
    (second,) = folders(path)
    assert second != first
    assert len(counted) == 2


def test_a_damaged_step_is_computed_again(tmp_path):
    made = []

    def compute():
        made.append(1)
        return {"a": np.arange(1000.0)}

    def again():
        return (some.get("one", compute, shapes={"a": (1000,)})["a"] == np.arange(1000.0)).all()

    some = Steps(tmp_path / "effects-a-1")
    assert again()
    file = tmp_path / "effects-a-1" / "one.npz"
    complete = file.read_bytes()
    wrong = []
    for arrays in ({"a": np.zeros(3)}, {"b": np.zeros(1000)}, {"a": np.full(1000, "x")}):
        np.savez(file, **arrays)
        wrong.append(file.read_bytes())
    damaged = complete[:200] + b"\xff" * 8 + complete[208:]
    for number, content in enumerate([b"", complete[:-40], damaged, *wrong], start=2):
        file.write_bytes(content)
        assert again()
        assert len(made) == number
    assert again()
    assert len(made) == 7
    other = tmp_path / "effects-a-b-1"
    other.mkdir()
    Steps(tmp_path / "effects-a-2")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["effects-a-2", "effects-a-b-1"]
    some.end()


def test_steps_of_small_size_change_rounding_alone(atlas, tmp_path):
    complete = shutil.copytree(atlas, tmp_path / "complete.atlas")
    one = measured(complete).to_pandas("Feature")
    small = shutil.copytree(atlas, tmp_path / "small.atlas")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.effects.ablation.arms._FEATURES", 4)
        two = measured(small).to_pandas("Feature")
    numbers = [c for c in one.columns if c.startswith("effect_") and c != "effect_q"]
    np.testing.assert_allclose(one[numbers], two[numbers], atol=1e-5)
