"""What the GPU path returns and costs, in one command of at most ten minutes on a large card.

Each step has a pass criterion and a time. A step that fails does not end the run. An error after
which CUDA refuses all further work, such as a device assert, moves the other steps to a new process.
After nine and a half minutes the running step is stopped, and it and the steps that did not start
fail; the rest of ten minutes is for imports. `--json` is written after each step. Correctness is compared
with the CPU of the same machine or with float64; speed with the bare run of the model and the
encoder. Weights are random, of the real shape. The output is a table for docs/benchmarks.md. The
exit code is 1 if a step failed.

    python -m benchmarks.gpu                        # at Gemma-2-2B's shape, on cuda
    python -m benchmarks.gpu --device cpu --toy     # the same steps in a minute, to test the script
    python -m benchmarks.gpu --only demo,probes --json out.json
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import torch

from benchmarks.gpu_steps import FULL, STEPS, TOY, Found, Size, Steps

#: Seconds after which the running step is stopped, and no further step is started.
BUDGET = 570.0


class _TimeIsOver(BaseException):
    """Raised in the running step after ``BUDGET`` seconds; no step catches it."""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise ``_TimeIsOver`` in the block after some seconds, once Python runs again."""

    def stop(*_: object) -> NoReturn:
        raise _TimeIsOver

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(
    device: str,
    size: Size,
    names: Sequence[str],
    *,
    budget: float | None = None,
    store: Callable[[list[Found]], None] = lambda _: None,
) -> list[Found]:
    """Run steps; an error in one is its result.

    Parameters
    ----------
    device, size
        The device, and the sizes of the steps.
    names
        Names of the steps, in order.
    budget
        Seconds of all steps together; ``BUDGET`` if None.
    store
        Called after each step with all results so far.
    """
    budget = BUDGET if budget is None else budget
    found: list[Found] = []
    began = time.perf_counter()
    in_time = f"all steps in {budget:.0f} s"
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(device, size, Path(folder))
        for number, name in enumerate(names):
            start = time.perf_counter()
            remaining = began + budget - start
            one = Found(name, False, in_time, "not run: the time is over")
            if remaining > 0:
                with suppress(_TimeIsOver), _limit(remaining):
                    one = replace(one, measured="stopped: the time is over")
                    one = _step(steps, name)
            one = replace(one, step=name, seconds=time.perf_counter() - start)
            print(line(one), flush=True)
            found.append(one)
            store(found)
            rest = names[number + 1 :]
            if not _usable(device) and rest:
                left = began + budget - time.perf_counter()
                found += _in_new_process(device, size, rest, budget=max(0.0, left))
                store(found)
                return found
    return found


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


def _in_new_process(device: str, size: Size, names: Sequence[str], *, budget: float) -> list[Found]:
    """Run steps in a new process, which prints their rows, and return their results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        words = ["--device", device, "--only", ",".join(names), "--json", str(file)]
        words += ["--budget", str(budget), "--rows-only", *(["--toy"] if size is TOY else [])]
        subprocess.run([sys.executable, "-m", "benchmarks.gpu", *words], check=False)
        found = json.loads(file.read_text()) if file.exists() else []
    done = [Found(**one) for one in found]
    ended = [
        Found(name, False, "no error", "the process ended before it") for name in names[len(done) :]
    ]
    for one in ended:
        print(line(one), flush=True)
    return done + ended


def _step(steps: Steps, name: str) -> Found:
    """Run a step; an error is its result."""
    try:
        return STEPS[name](steps)
    except Exception as error:  # noqa: BLE001 - the next steps still run
        reason = (str(error) or "no message").splitlines()[0]
        return Found(name, False, "no error", f"{type(error).__name__}: {reason}")


def line(one: Found) -> str:
    """Return a row of the table."""
    verdict = {True: "pass", False: "**fail**", None: "–"}[one.passed]
    return f"| {one.step} | {verdict} | {one.criterion} | {one.measured} | {one.seconds:.0f} s |"


def main() -> int:
    """Run the steps and print their table; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="Tiny sizes, to test the script.")
    parser.add_argument("--only", help="Steps, separated by commas.")
    parser.add_argument("--skip", default="", help="Steps to omit, separated by commas.")
    parser.add_argument("--json", type=Path, help="Also write the results to this file.")
    parser.add_argument("--budget", type=float, help=f"Seconds of all steps; {BUDGET:.0f}.")
    parser.add_argument("--rows-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU. Use --device cpu --toy to test the script.")
    names = args.only.split(",") if args.only else list(STEPS)
    names = [name for name in names if name not in args.skip.split(",")]
    if unknown := set(names) - STEPS.keys():
        parser.error(f"No step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}.")
    if not args.rows_only:
        print("| step | result | criterion | measured | time |\n|---|---|---|---|---|", flush=True)

    def store(found: list[Found]) -> None:
        if args.json:
            args.json.write_text(json.dumps([asdict(one) for one in found], indent=1))

    size = TOY if args.toy else FULL
    found = run(args.device, size, names, budget=args.budget, store=store)
    return int(any(one.passed is False for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
