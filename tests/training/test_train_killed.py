"""A training run is killed or interrupted; the same command ends in the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from random_models import small_tokenizer
from small_training import SITES, hashes, model, texts

PROGRAM = Path(__file__).parents[1] / "support" / "small_training.py"
KILLS = int(os.environ.get("ATLAS_TRAIN_KILLS", "3"))

pytestmark = pytest.mark.slow


def run(out, *, lines=None, pause=0.0):
    """Run the program, kill it after some lines and a pause; return whether it had finished."""
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
    assert run(tmp_path / "reference")
    wanted = hashes(tmp_path / "reference")
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


#: The command of users, with a checkpoint after each buffer.
COMMAND = """
from ingest.train import loop
loop.CHECKPOINT_SECONDS = 0.0
from atlas.cli.main import main
main()
"""


def test_the_command_continues_after_ctrl_c(tmp_path):
    model().save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    lines = [json.dumps({"text": text}) for text in texts()]
    (tmp_path / "text.jsonl").write_text("\n".join(lines), "utf-8")

    def begun(out):
        options = [
            "--model",
            tmp_path / "model",
            "--text",
            tmp_path / "text.jsonl",
            "--site",
            SITES[0],
        ]
        options += [
            "--width",
            "32",
            "--k",
            "4",
            "--steps",
            "1000",
            "--epochs",
            "20",
            "--batch",
            "64",
        ]
        options += [
            "--buffer",
            "512",
            "--context",
            "16",
            "--device",
            "cpu",
            "--quality-tokens",
            "0",
        ]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "train", *map(str, options), "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    with begun(tmp_path / "reference") as running:
        assert running.communicate()[1].count("Interrupted") == 0
    assert running.returncode == 0
    out = tmp_path / "cut"
    with begun(out) as running:
        while not list(out.glob(".unfinished/*.pt")):  # at the first of 125 buffers
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 130
    assert errors.rstrip().endswith(
        "Interrupted. Run the same command again; it continues from the work that is stored, if any."
    )
    assert "Traceback" not in errors
    with begun(out) as running:
        _, errors = running.communicate()
    assert running.returncode == 0
    assert "Continuing from the checkpoints of 1 SAE, the earliest at step" in errors
    assert hashes(out) == hashes(tmp_path / "reference")
