"""What goes wrong leaves nothing half done: killed, interrupted, out of disk, asked from two sides."""

import random
import signal
import subprocess
import sys
import time
from importlib.resources import files

import pytest
from fork_server import ForkServer
from slow_ingest import work

from atlas.disk.folder import Folder
from atlas.doctor import checks
from atlas.errors import OutOfSpace
from ingest import doctor_checks


@pytest.fixture(scope="module")
def start():
    """Start an ingest in a process of its own: ``start(folder, *words)``."""
    server = ForkServer("slow_ingest")
    yield lambda folder, keep="keep", *wait: server.start(str(folder), "1", keep, *wait)
    server.close()


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
def test_killed_at_random_moments_the_same_command_gives_the_same_parts(
    tmp_path, start, whole, seed
):
    keep, wanted = whole
    draw = random.Random(seed)
    path = tmp_path / "a.atlas"
    for _ in range(2):
        running = start(path, keep)
        for _ in range(draw.randint(1, 25)):  # let it come so many steps far
            running.stdout.readline()
        time.sleep(draw.random() * 0.05)
        running.kill()
        running.communicate()
        if (path / "atlas.json").exists():  # between, nothing is broken: at most unfinished
            found = told(path)
            assert [c for c in found if c.state == "fault"] == []
            unfinished = [c for c in found if "unfinished" in c.message]
            assert len(unfinished) == len(Folder.open(path).runs())
    done = start(path, keep)
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    assert hashes(path) == wanted
    assert Folder.open(path).runs() == []
    assert all(c.state == "ok" for c in told(path))


def told(path):
    """Return what both rooms tell the doctor of an atlas."""
    return [*checks(path), *doctor_checks.checks(path)]


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_finished(tmp_path, start):
    path = tmp_path / "a.atlas"
    running = start(path, "keep", "wait")
    assert "waiting\n" in running.stdout
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert running.returncode != 0
    runs = [c for c in checks(path) if c.state == "note"]
    assert runs
    assert "unfinished" in runs[0].message
    done = start(path)
    _, errors = done.communicate()
    assert done.returncode == 0, errors


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
        with pytest.raises(OutOfSpace, match="free"):
            work(place / "a.atlas")
        assert not [c for c in checks(place / "a.atlas") if c.state == "fault"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        work(place / "a.atlas")
        assert all(c.state == "ok" for c in checks(place / "a.atlas"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


DIES = """
import os, signal, sys
from atlas.cli.main import main
from ingest.forward.shard_runner import ShardRunner
ShardRunner.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # the request is written then
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_resume_finishes_the_request(tmp_path, monkeypatch, capsys):
    """By the command line, with --tokens and --replace, from another folder."""
    from atlas.cli.main import main

    text = files("ingest.demo") / "text.jsonl"
    words = [
        "ingest",
        "--sae",
        "tiny-a-l1-s0",
        "--text",
        str(text),
        "--tokens",
        "60000",
        "--atlas",
        str(tmp_path / "a.atlas"),
        "-q",
    ]
    killed = subprocess.run([sys.executable, "-c", DIES, *words, "--replace"], check=False)
    assert killed.returncode == -signal.SIGKILL
    runs = tmp_path / "a.atlas" / "runs"
    assert list(runs.glob("*/request.json"))
    monkeypatch.chdir(tmp_path)
    for again in (["ingest", "--resume", "-a", "a.atlas", "-q"], words[:3] + words[5:]):
        with pytest.raises(SystemExit) as done:
            main(again)
        assert done.value.code == 0, capsys.readouterr().err
        assert list(runs.iterdir()) == []
    assert all(c.state == "ok" for c in told(tmp_path / "a.atlas"))


@pytest.mark.slow
def test_a_second_writer_gets_an_error(tmp_path, start):
    from atlas.errors import Locked

    path = tmp_path / "a.atlas"
    running = start(path, "keep", "wait")
    try:
        assert "waiting\n" in running.stdout
        with pytest.raises(Locked, match="Another process is writing"):
            work(path)
    finally:
        running.kill()
        running.communicate()
