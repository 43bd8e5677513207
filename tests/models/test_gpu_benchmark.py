"""The benchmark of the GPU path runs from end to end on the CPU, at toy sizes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


def benchmark(*words: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_step_runs_on_the_cpu(tmp_path: Path) -> None:
    done = benchmark(
        "--device", "cpu", "--toy", "--skip", "ray", "--json", str(tmp_path / "x.json")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["step"]: row for row in json.loads((tmp_path / "x.json").read_text())}
    compared = {"versions", "demo", "probes", "maps", "training", "memory", "assert"}
    assert {name for name, row in found.items() if row["passed"]} == compared
    assert {name for name, row in found.items() if row["passed"] is None} == {
        "ingest-bfloat16",
        "ingest-float32",
        "profile",
    }
    assert "aten::" in found["profile"]["measured"]
    assert "projected" in found["ingest-float32"]["measured"]
    assert done.stdout.count("| pass |") == len(compared)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_without_a_gpu_the_command_states_what_to_do() -> None:
    done = benchmark()
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "--device cpu --toy" in done.stderr
    assert "Traceback" not in done.stderr
