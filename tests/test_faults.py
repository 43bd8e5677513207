"""What goes wrong leaves nothing half done: killed, interrupted, out of disk, asked from two sides."""

import random
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest
from slow_ingest import work

from atlas.doctor import checks
from atlas.errors import OutOfRoom
from atlas.folder import Folder
from ingest import doctor_checks

HERE = Path(__file__).parent


def start(folder, *, shard_blocks=1, keep="keep"):
    return subprocess.Popen(
        [sys.executable, str(HERE / "slow_ingest.py"), str(folder), str(shard_blocks), keep],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hashes(folder):
    sound = Folder.open(folder).sound()
    assert sound.stale == {}
    # Parts name the atlas' uuid, which two folders differ in: what counts is the tables of numbers.
    return {
        key: {name: (t.rows, t.sha256) for name, t in part.manifest.tables.items()}
        for key, part in sound.parts.items()
        if part.manifest.kind != "sae"
    }


@pytest.fixture(scope="module", params=["keep", "drop"])
def whole(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.atlas"
    work(path, keep=request.param == "keep")
    return request.param, hashes(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_the_same_command_gives_the_same_parts(tmp_path, whole, seed):
    keep, wanted = whole
    draw = random.Random(seed)
    path = tmp_path / "a.atlas"
    for _ in range(2):
        running = start(path, keep=keep)
        for _ in range(draw.randint(1, 25)):  # let it come so many steps far
            running.stdout.readline()
        time.sleep(draw.random() * 0.05)
        running.kill()
        running.communicate()
        if (path / "atlas.json").exists():  # between, nothing is broken: at most unfinished
            found = told(path)
            assert [c for c in found if c.state == "fault"] == []
            unfinished = [c for c in found if "not finished" in c.said]
            assert len(unfinished) == len(Folder.open(path).runs())
    done = start(path, keep=keep)
    _, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    assert hashes(path) == wanted
    assert Folder.open(path).runs() == []
    assert all(c.state == "ok" for c in told(path))


def told(path):
    """Return what both rooms tell the doctor of an atlas."""
    return [*checks(path), *doctor_checks.checks(path)]


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_finished(tmp_path):
    for attempt in range(3):  # on a busy machine it may have ended before it is caught
        path = tmp_path / f"{attempt}.atlas"
        running = start(path)
        for line in running.stdout:
            if list((path / "runs").glob("*/codes/*.arrow")) and line == "on\n":
                break
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        if running.returncode:
            break
    assert running.returncode != 0
    runs = [c for c in checks(path) if c.state == "note"]
    assert runs
    assert "not finished" in runs[0].said
    done = start(path)
    done.communicate(timeout=300)
    assert done.returncode == 0


@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_nothing_is_lost(tmp_path):
    """A file system of its own of 400 KiB: real ENOSPC, met in the middle of the work."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here: {mount.stderr.strip()}")
    try:
        with pytest.raises(OutOfRoom, match="free"):
            work(place / "a.atlas")
        assert not [c for c in checks(place / "a.atlas") if c.state == "fault"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        work(place / "a.atlas")
        assert all(c.state == "ok" for c in checks(place / "a.atlas"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_resume_finishes_what_was_asked(tmp_path, monkeypatch, capsys):
    """By the command line, with --tokens and --replace, from another folder."""
    from atlas.main import main

    text = files("ingest.demo") / "text.jsonl"
    words = ["ingest", "--sae", "tiny-a-l1-s0", "--text", str(text), "--tokens", "60000",
             "--atlas", str(tmp_path / "a.atlas"), "-q"]  # fmt: skip
    code = "import sys; from atlas.main import main; main(sys.argv[1:])"
    running = subprocess.Popen([sys.executable, "-c", code, *words, "--replace"])
    runs = tmp_path / "a.atlas" / "runs"
    for _ in range(3000):
        if list(runs.glob("*/request.json")):
            break
        time.sleep(0.1)
    running.kill()
    running.wait()
    assert list(runs.glob("*/request.json"))
    monkeypatch.chdir(tmp_path)
    for again in (["ingest", "--resume", "-a", "a.atlas", "-q"], words[:3] + words[5:]):
        with pytest.raises(SystemExit) as done:
            main(again)
        assert done.value.code == 0, capsys.readouterr().err
        assert list(runs.iterdir()) == []
    assert all(c.state == "ok" for c in told(tmp_path / "a.atlas"))


@pytest.mark.slow
def test_a_second_writer_is_told(tmp_path):
    from atlas.errors import Locked

    path = tmp_path / "a.atlas"
    running = start(path)
    try:
        for line in running.stdout:
            if line == "on\n":
                break
        with pytest.raises(Locked, match="Another process is writing"):
            work(path)
    finally:
        running.kill()
        running.communicate()
