"""The benchmark of the GPU path runs from end to end on the CPU, at toy sizes, and reports failures."""

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
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


# ---------------------------------------------------------------- failures and the time limit


def steps(monkeypatch: pytest.MonkeyPatch, **work: Any) -> None:
    monkeypatch.setattr(gpu, "STEPS", work)


def passed(_: Steps) -> Found:
    return Found("", True, "a criterion", "a number")


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--toy", *words])
    return gpu.main()


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
    bad: Any, row: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(monkeypatch, first=passed, bad=bad, last=passed)
    assert main(monkeypatch) == 1
    lines = capsys.readouterr().out.splitlines()[2:]
    good = "| {} | pass | a criterion | a number | 0 s |"
    assert lines == [good.format("first"), row, good.format("last")]
    assert main(monkeypatch, "--skip", "bad") == 0


def test_after_the_time_limit_a_step_is_stopped_and_no_further_one_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    def endless(_: Steps) -> Found:
        started.append("endless")
        while True:
            time.sleep(0.01)

    steps(monkeypatch, endless=endless, last=lambda _: started.append("last"))
    monkeypatch.setattr(gpu, "BUDGET", 0.2)
    found = gpu.run("cpu", TOY, ["endless", "last"])
    assert started == ["endless"]
    assert [one.passed for one in found] == [False, False]
    assert [one.measured.split(":")[0] for one in found] == ["stopped", "not run"]
    time.sleep(0.3)  # the timer is off


def test_results_are_stored_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "x.json", []

    def reads(_: Steps) -> Found:
        seen.extend(row["step"] for row in json.loads(file.read_text()))
        return passed(_)

    steps(monkeypatch, first=raises, second=reads)
    main(monkeypatch, "--json", str(file))
    assert seen == ["first"]


@pytest.mark.slow
def test_after_an_error_that_spoils_cuda_the_other_steps_run_in_a_new_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_usable", lambda _: False)
    stored: list[int] = []
    monkeypatch.setitem(gpu.STEPS, "versions", raises)
    names = ["versions", "assert", "maps"]
    found = gpu.run("cpu", TOY, names, store=lambda so_far: stored.append(len(so_far)))
    assert [one.step for one in found] == names
    assert [one.passed for one in found] == [False, True, True]
    assert stored == [1, 3]
    assert [row.split(" | ")[0] for row in capfd.readouterr().out.splitlines()] == [
        f"| {name}" for name in names
    ]


def test_a_process_that_dies_is_reported_for_each_of_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        pass

    monkeypatch.setattr(subprocess, "run", dies)
    found = gpu._in_new_process("cpu", TOY, ["demo", "maps"], budget=1.0)
    assert [(one.step, one.passed) for one in found] == [("demo", False), ("maps", False)]


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
