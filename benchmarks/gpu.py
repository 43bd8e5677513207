"""What the GPU path returns and costs, in one command of at most ten minutes on a large card.

Each step has a pass criterion and a time. The steps run in a child process, so that a step that
fails, crashes or hangs does not end the run: the next steps run in a new process if the first has
ended, or if CUDA refuses all further work after an error such as a device assert. A step may take
four minutes, and all steps together nine and a half; the rest of ten minutes is for imports.
`--json` is written after each step. Correctness is compared with the CPU of the same machine or
with float64; speed with the bare run of the model and the encoder. Weights are random, of the real
shape. The output is a table for docs/benchmarks.md. The exit code is 1 if a step failed.

    python -m benchmarks.gpu                        # at Gemma-2-2B's shape, on cuda
    python -m benchmarks.gpu --device cpu --toy     # the same steps in a minute, to test the script
    python -m benchmarks.gpu --only demo,probes --json out.json
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.gpu_steps import FULL, STEPS, TOY, Found, Size, Steps

#: Seconds of all steps together.
BUDGET = 570.0

#: Seconds of one step.
STEP_LIMIT = 240.0


# ---------------------------------------------------------------- in the child


def run(device: str, size: Size, names: Sequence[str], *, file: Path) -> list[Found]:
    """Run steps until the device refuses further work; an error in a step is its result.

    Parameters
    ----------
    device, size
        The device, and the sizes of the steps.
    names
        Names of the steps, in order.
    file
        Receives all results so far after each step.
    """
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(device, size, Path(folder))
        for name in names:
            start = time.perf_counter()
            one = _step(steps, name)
            found.append(replace(one, step=name, seconds=time.perf_counter() - start))
            print(line(found[-1]), flush=True)
            _write(file, found)
            if not _usable(device):
                break
    return found


def _step(steps: Steps, name: str) -> Found:
    """Run a step; an error is its result."""
    try:
        return STEPS[name](steps)
    except Exception as error:  # noqa: BLE001 - the next steps still run
        reason = (str(error) or "no message").splitlines()[0]
        return Found(name, False, "no error", f"{type(error).__name__}: {reason}")


def _usable(device: str) -> bool:
    """Return whether this process can still use the device, and release the memory of a step."""
    if not device.startswith("cuda"):
        return True
    try:
        torch.cuda.synchronize(torch.device(device))
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


# ---------------------------------------------------------------- in the parent


def supervise(
    command: Callable[[Sequence[str], Path], Sequence[str]],
    names: Sequence[str],
    *,
    store: Callable[[list[Found]], None] = lambda _: None,
    budget: float = BUDGET,
    step_limit: float = STEP_LIMIT,
) -> list[Found]:
    """Run steps in child processes, and return a result for each.

    Parameters
    ----------
    command
        Returns the command that runs the steps of some names and writes their results to a file.
    names
        Names of the steps, in order.
    store
        Called with all results so far when there are more.
    budget, step_limit
        Seconds of all steps together and of one step.
    """
    found: list[Found] = []
    end = time.monotonic() + budget
    while len(found) < len(names):
        if time.monotonic() >= end:
            late = f"all steps in {budget:.0f} s"
            found += [Found(name, False, late, "not run") for name in names[len(found) :]]
        else:
            before = list(found)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "found.json"
                found += _child(
                    command(names[len(before) :], file),
                    names[len(before) :],
                    file=file,
                    end=end,
                    step_limit=step_limit,
                    store=lambda new, before=before: store(before + new),  # type: ignore[misc]
                )
        store(found)
    return found


def _child(
    command: Sequence[str],
    names: Sequence[str],
    *,
    file: Path,
    end: float,
    step_limit: float,
    store: Callable[[list[Found]], None],
) -> list[Found]:
    """Run a child to its end or to the limit of its time, and return the results of its steps.

    A step that the child began and did not finish is the last of the results.
    """
    child = subprocess.Popen(command, start_new_session=True)
    found: list[Found] = []
    start, stopped = time.monotonic(), ""
    try:
        while child.poll() is None and not stopped:
            time.sleep(0.05)
            if len(new := _read(file)) > len(found):
                found, start = new, time.monotonic()
                store(found)
            now = time.monotonic()
            if len(found) < len(names) and (now >= end or now - start >= step_limit):
                stopped = f"stopped after {now - start:.0f} s"
    finally:
        # Workers of a step are in the group of the child.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    found = _read(file)
    crashed = child.returncode not in (0, 1) or not found
    if len(found) < len(names) and (stopped or crashed):
        reason = stopped or f"the process ended with exit status {child.returncode}"
        name, seconds = names[len(found)], time.monotonic() - start
        found.append(Found(name, False, "ends, in time", reason, seconds))
        print(line(found[-1]), flush=True)
    return found


def _write(file: Path, found: Sequence[Found]) -> None:
    """Write results to a file that is never seen half written."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps([asdict(one) for one in found], indent=1))
    new.replace(file)


def _read(file: Path) -> list[Found]:
    return [Found(**one) for one in json.loads(file.read_text())] if file.exists() else []


def line(one: Found) -> str:
    """Return a row of the table."""
    verdict = {True: "pass", False: "**fail**", None: "–"}[one.passed]
    return f"| {one.step} | {verdict} | {one.criterion} | {one.measured} | {one.seconds:.0f} s |"


def _arguments() -> argparse.Namespace:
    """Return the arguments of the command, with the names of the steps in ``names``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="Tiny sizes, to test the script.")
    parser.add_argument("--only", help="Steps, separated by commas.")
    parser.add_argument("--skip", default="", help="Steps to omit, separated by commas.")
    parser.add_argument("--json", type=Path, help="Also write the results to this file.")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU. Use --device cpu --toy to test the script.")
    names = args.only.split(",") if args.only else list(STEPS)
    args.names = [name for name in names if name not in args.skip.split(",")]
    if unknown := set(args.names) - STEPS.keys():
        parser.error(f"No step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}.")
    return args


def main() -> int:
    """Run the steps and print their table; return 1 if one failed."""
    args = _arguments()
    if args.child:
        found = run(args.device, TOY if args.toy else FULL, args.names, file=args.child)
    else:

        def command(names: Sequence[str], file: Path) -> list[str]:
            words = ["--device", args.device, "--only", ",".join(names), "--child", str(file)]
            words += ["--toy"] if args.toy else []
            return [sys.executable, "-m", "benchmarks.gpu", *words]

        def store(found: list[Found]) -> None:
            if args.json:
                _write(args.json, found)

        print("| step | result | criterion | measured | time |\n|---|---|---|---|---|", flush=True)
        # Toy sizes test the script, on any machine.
        limits = {"budget": math.inf, "step_limit": math.inf} if args.toy else {}
        found = supervise(command, args.names, store=store, **limits)
    return int(any(one.passed is False for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
