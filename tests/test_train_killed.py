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
KILLS = int(os.environ.get("ATLAS_TRAIN_KILLS", "3"))

pytestmark = pytest.mark.slow


def run(out, *, lines=None, pause=0.0):
    """Run the program, kill it some time after some lines of progress; return whether it ended."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as running:
        assert running.stdout is not None
        for number, _ in enumerate(running.stdout):
            if lines is not None and number >= lines:
                time.sleep(pause)
                running.send_signal(signal.SIGKILL)
                break
        running.communicate()
    return running.returncode == 0


def test_kills_at_random_moments_end_in_the_same_bytes(tmp_path):
    assert run(tmp_path / "whole")
    wanted = hashes(tmp_path / "whole")
    assert sum(name.endswith("sae_weights.safetensors") for name in wanted) == 36
    draw = random.Random(KILLS)
    out, states, ended = tmp_path / "cut", [], False
    for _ in range(KILLS):
        # The training prints 2,304 lines; a killed run continues near its last one.
        ended = run(out, lines=draw.randint(0, 4000 // KILLS), pause=draw.random() * 0.05)
        states.append(frozenset(hashes(out).items()))
        if ended:
            break
    assert run(out)
    print(f"{len(states) - ended} kills, {len(set(states))} different states on disk")
    assert hashes(out) == wanted
