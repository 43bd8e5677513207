"""A training run is killed at random moments; the same command ends in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_training import hashes

PROGRAM = Path(__file__).with_name("small_training.py")
KILLS = int(os.environ.get("ATLAS_TRAIN_KILLS", "4"))

pytestmark = pytest.mark.slow


def run(out, *, seconds=None):
    """Run the program; kill it some seconds after it has begun to work. Return whether it ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        if seconds is not None:
            time.sleep(seconds)
            running.send_signal(signal.SIGKILL)
        _, errors = running.communicate()
    assert seconds is not None or running.returncode == 0, errors.decode()[-2000:]
    return running.returncode == 0


def test_kills_at_random_moments_end_in_the_same_bytes(tmp_path):
    began = time.monotonic()
    run(tmp_path / "whole")
    whole_seconds = time.monotonic() - began
    wanted = hashes(tmp_path / "whole")
    assert sum(name.endswith("sae_weights.safetensors") for name in wanted) == 36
    draw = random.Random(KILLS)
    out, killed, states = tmp_path / "cut", 0, set()
    for _ in range(KILLS):
        ended = run(out, seconds=draw.random() * whole_seconds * 0.5)
        killed += not ended
        states.add(frozenset(hashes(out).items()) if out.exists() else None)
    run(out)
    print(f"{killed} kills, {len(states)} different states on disk")
    assert killed
    assert hashes(out) == wanted
