"""The benchmark of the GPU path runs from end to end on the CPU, at toy sizes, and reports failures."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import full_ingest, gpu, within
from benchmarks.gpu_inputs import ReservedBytes
from benchmarks.gpu_projection import CORPUS, Line, probe_ids
from benchmarks.gpu_steps import DRIVER_BYTES, STEPS, TOY, Found, Steps
from ingest.text.corpus import Document
from ingest.text.tokenization import ContextSettings, tokenize

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
    done = benchmark("--device", "cpu", "--toy", "--json", str(tmp_path / "x.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["step"]: row for row in json.loads((tmp_path / "x.json").read_text())}
    assert found.keys() == STEPS.keys()
    # Times at toy sizes are not judged.
    judged_by_time = {"ingest-bfloat16", "ingest-float32", "total", "profile"}
    assert {name for name, row in found.items() if row["passed"] is None} - {"ray"} == (
        judged_by_time
    )
    assert not any(row["passed"] is False for row in found.values())
    assert "aten::" in found["profile"]["measured"]
    assert "16,384 labels" in found["embedding"]["measured"]
    if find_spec("ray"):
        assert found["ray"]["passed"]
        assert "codes equal, driver holds 0 MiB" in found["ray"]["measured"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_without_a_gpu_the_command_states_what_to_do() -> None:
    done = benchmark()
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "--device cpu --toy" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- failures of a step


def steps(monkeypatch: pytest.MonkeyPatch, **work: Any) -> None:
    monkeypatch.setattr(gpu, "STEPS", work)


def passed(_: Steps) -> Found:
    return Found("", True, "a criterion", "a number")


def raises(_: Steps) -> Found:
    raise ZeroDivisionError("a reason\nand more")


@pytest.mark.parametrize(
    ("bad", "row"),
    [
        (
            lambda _: Found("", False, "a criterion", "7"),
            "| bad | **fail** | a criterion | 7 | 0 s |",
        ),
        (raises, "| bad | **fail** | no error | ZeroDivisionError: a reason | 0 s |"),
    ],
)
def test_a_step_that_fails_is_a_row_and_the_others_run(
    bad: Any,
    row: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps(monkeypatch, first=passed, bad=bad, last=passed)
    found = gpu.run("cpu", TOY, ["first", "bad", "last"], file=tmp_path / "x.json")
    assert [one.passed for one in found] == [True, False, True]
    good = "| {} | pass | a criterion | a number | 0 s |"
    lines = capsys.readouterr().out.splitlines()
    assert lines == [good.format("first"), row, good.format("last")]


def test_results_are_stored_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "x.json", []

    def reads(_: Steps) -> Found:
        seen.extend(row["step"] for row in json.loads(file.read_text()))
        return passed(_)

    steps(monkeypatch, first=raises, second=reads)
    gpu.run("cpu", TOY, ["first", "second"], file=file)
    assert seen == ["first"]


def test_no_step_runs_on_a_device_that_refuses_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, first=raises, second=passed)
    monkeypatch.setattr(gpu, "_usable", lambda _: False)
    found = gpu.run("cpu", TOY, ["first", "second"], file=tmp_path / "x.json")
    assert [one.step for one in found] == ["first"]


# ---------------------------------------------------------------- failures of the process

#: A child whose steps are what their names say; a good step is followed by the next one.
CHILD = """
import json, os, sys, time
names, file = sys.argv[1].split(","), sys.argv[2]
found = []
for name in names:
    if name == "hangs":
        open(os.environ["HANGS"], "x").close()
        time.sleep(600)
    if name == "dies":
        os.kill(os.getpid(), 11)
    if name == "exits":
        os._exit(7)
    found.append(dict(step=name, passed=True, criterion="", measured=str(os.getpid()), seconds=0))
    with open(file + ".part", "w") as out:
        json.dump(found, out)
    os.replace(file + ".part", file)
    if name == "spoils":
        sys.exit(1)
"""


def supervised(*names: str, **limits: float) -> tuple[list[Found], list[int]]:
    """Run steps of ``CHILD``; return their results, and how many were stored each time."""
    stored: list[int] = []

    def command(names: Sequence[str], file: Path) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", CHILD, ",".join(names), str(file)]

    found = gpu.supervise(command, names, store=lambda so_far: stored.append(len(so_far)), **limits)
    assert [one.step for one in found] == list(names)
    assert stored == sorted(stored)
    assert stored[-1] == len(names)
    return found, stored


def test_steps_share_a_process() -> None:
    found, _ = supervised("a", "b", "c")
    assert all(one.passed for one in found)
    assert len({one.measured for one in found}) == 1


def test_after_an_error_that_spoils_cuda_the_other_steps_run_in_a_new_process() -> None:
    found, _ = supervised("a", "spoils", "b", "c")
    assert all(one.passed for one in found)
    a, spoils, b, c = (one.measured for one in found)
    assert a == spoils != b == c


@pytest.mark.parametrize(("bad", "status"), [("dies", "-11"), ("exits", "7")])
def test_a_process_that_dies_loses_one_step(
    bad: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = supervised("a", bad, "b")
    assert [one.passed for one in found] == [True, False, True]
    assert found[1].measured == f"the process ended with exit status {status}"
    assert [row.split(" | ")[0] for row in capsys.readouterr().out.splitlines()] == [f"| {bad}"]


def test_a_process_that_always_dies_ends() -> None:
    found, _ = supervised("dies", "dies", "dies")
    assert not any(one.passed for one in found)


@pytest.fixture
def clock_of_hanging_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that adds 1,000 s when a step hangs, and nothing otherwise."""
    hanging, seen, seconds = tmp_path / "hangs", False, 0.0

    def sleep(interval: float) -> None:
        nonlocal seen, seconds
        time.sleep(interval)
        if seen:  # the results before the step that hangs have been read
            hanging.unlink()
            seconds += 1_000
        seen = hanging.exists()

    monkeypatch.setenv("HANGS", str(hanging))
    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: seconds, sleep=sleep))


@pytest.mark.usefixtures("clock_of_hanging_steps")
def test_a_step_that_hangs_is_stopped_and_the_others_run() -> None:
    found, _ = supervised("a", "hangs", "b", budget=1_001.0, step_limit=999.0)
    assert [one.passed for one in found] == [True, False, True]
    assert found[1].measured == "stopped after 1000 s"


@pytest.mark.usefixtures("clock_of_hanging_steps")
def test_after_the_time_limit_a_step_is_stopped_and_no_further_one_starts() -> None:
    found, _ = supervised("a", "hangs", "b", "c", budget=999.0, step_limit=1_001.0)
    assert [one.passed for one in found] == [True, False, False, False]
    assert [one.measured for one in found[1:]] == ["stopped after 1000 s", "not run", "not run"]


# ---------------------------------------------------------------- what the steps compute


@pytest.mark.parametrize(("fixed", "each", "bare"), [(7.0, 0.01, 0.008), (0.0, 2.0, 1.0)])
def test_fixed_costs_are_not_multiplied(fixed: float, each: float, bare: float) -> None:
    few, many = ((n, fixed + n * each, n * bare) for n in (100, 400))
    line = Line.through(few, many)
    assert line.sound
    assert line.ratio == pytest.approx(each / bare)
    assert line.seconds(CORPUS) == pytest.approx(fixed + CORPUS * each)


def test_times_that_fall_with_more_text_are_not_used() -> None:
    assert not Line.through((100, 5.0, 4.0), (400, 4.0, 5.0)).sound
    assert not Line.through((100, 5.0, 4.0), (400, 6.0, 3.0)).sound


def test_probes_of_ids_are_projected_to_all_features() -> None:
    found = probe_ids(rows=300, width=8, labels=8, device="cpu")
    assert found.converged == 1
    # Two splits, each with a label and five controls.
    assert found.projected == pytest.approx(found.seconds * 12 * 16_384 / 8)


def test_bytes_are_recorded_while_blocks_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    progress = ReservedBytes()
    for reserved, unit in ((DRIVER_BYTES, "shards"), (3, "blocks"), (DRIVER_BYTES, "")):
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda n=reserved: n)
        with progress.stage("", unit=unit) as stage:
            stage.advance()
    assert progress.bytes == [3, 3]


def test_the_bare_run_has_only_the_batches_of_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that adds 1 at each reading: each timed call takes 1.
    readings = iter(range(10**6))
    monkeypatch.setattr(within, "clocks", lambda: np.full(2, float(next(readings))))
    text = full_ingest.random_text(TOY.shape)
    model = full_ingest.random_model(TOY.shape, "float32", device="cpu")
    contexts = ContextSettings(context_size=TOY.shape.context, prepend_bos=True)
    documents = [Document(i, one) for i, one in enumerate(text)]
    cut = tokenize(documents, model.tokenizer, settings=contexts, batch_tokens=512)
    sae = full_ingest.random_sae(TOY.shape, model, list(cut.batches))
    _, bare, *_ = full_ingest.complete_ingest(model, sae, text, 512)
    # One run of the model and one call of the encoder for each batch, of 8 contexts each.
    assert len(text) == 63
    assert bare.tolist() == [16, 16]
