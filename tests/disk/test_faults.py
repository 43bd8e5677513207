"""An ingest that is killed, interrupted, out of disk or started twice leaves a sound atlas."""

import random
import signal
import subprocess
import sys
import time
from importlib.resources import files

import pytest
from fork_server import ForkServer
from slow_ingest import work
from small_parts import table_hashes

from atlas.disk.folder import Folder
from atlas.doctor import checks
from atlas.errors import OutOfSpace
from ingest import doctor_checks


@pytest.fixture(scope="module")
def start():
    """Return a function that starts an ingest in its own process: ``start(folder, *words)``."""
    server = ForkServer("slow_ingest")
    yield lambda folder, keep="keep", *wait: server.start(str(folder), "1", keep, *wait)
    server.close()


@pytest.fixture(scope="module", params=["keep", "drop"])
def expected(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "a.atlas"
    work(path, keep=request.param == "keep")
    return request.param, table_hashes(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_command_killed_at_random_moments_writes_the_same_parts_when_repeated(
    tmp_path, start, expected, seed
):
    keep, wanted = expected
    draw = random.Random(seed)
    path = tmp_path / "a.atlas"
    for _ in range(2):
        running = start(path, keep)
        for _ in range(draw.randint(1, 25)):  # wait for this number of steps
            running.stdout.readline()
        time.sleep(draw.random() * 0.05)
        running.kill()
        running.communicate()
        if (path / "atlas.json").exists():  # parts may be unfinished, but none is broken
            found = all_checks(path)
            assert [c for c in found if c.state == "fault"] == []
            unfinished = [c for c in found if "unfinished" in c.message]
            assert len(unfinished) == len(Folder.open(path).runs())
    done = start(path, keep)
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    assert table_hashes(path) == wanted
    assert Folder.open(path).runs() == []
    assert all(c.state == "ok" for c in all_checks(path))


def all_checks(path):
    """Return the checks of `atlas` and of `ingest` for the doctor."""
    return [*checks(path), *doctor_checks.checks(path)]


@pytest.mark.slow
def test_ctrl_c_preserves_finished_shards(tmp_path, start):
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
def test_a_full_disk_is_one_message_and_nothing_is_lost(tmp_path):
    """A real ENOSPC during the ingest, on a mounted file system of 400 KiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here: {mount.stderr.strip()}")
    try:
        with pytest.raises(OutOfSpace, match="free"):
            work(disk / "a.atlas")
        assert not [c for c in checks(disk / "a.atlas") if c.state == "fault"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        work(disk / "a.atlas")
        assert all(c.state == "ok" for c in checks(disk / "a.atlas"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


DIES = """
import os, signal, sys
from atlas.cli.main import main
from ingest.forward.shard_runner import ShardRunner
ShardRunner.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # after the request is written
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_resume_finishes_the_request(tmp_path, monkeypatch, capsys):
    """On the command line, with --tokens and --replace, from another folder."""
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
    assert all(c.state == "ok" for c in all_checks(tmp_path / "a.atlas"))


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
