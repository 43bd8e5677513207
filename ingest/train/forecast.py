"""Time, disk and memory of a training run, measured on a few steps before it begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from atlas.amounts import byte_size, counted
from atlas.disk.temp_storage import check_space
from atlas.progress import Clock, Progress, duration
from ingest.device_timing import wait_for
from ingest.train.buffer import Buffers
from ingest.train.job import Job
from ingest.train.saes import freeze, new_sae
from ingest.train.specs import SaeSpec
from ingest.train.trainer import new_trainer, take_steps

if TYPE_CHECKING:
    from ingest.train.job import Plan

__all__ = ["Costs", "measure", "report"]

#: Steps that are measured, after one that is not.
MEASURED = 3


@dataclass(frozen=True)
class Costs:
    """Seconds of a run.

    Parameters
    ----------
    token
        Per token, to compute the activations of all sites.
    step
        Per step of each SAE, by its name.
    """

    token: float
    step: dict[str, float]


def measure(jobs: Sequence[Job], buffers: Buffers, *, clock: Clock = time.perf_counter) -> Costs:
    """Measure the model on a batch, and one SAE of each shape on a few steps.

    Parameters
    ----------
    jobs
        The SAEs to train.
    buffers
        The source of activations.
    clock
        Returns the time in seconds.
    """
    plan = jobs[0].plan
    rows, seconds = buffers.sample(clock)
    number = max(1, len(next(iter(rows.values()))))
    steps: dict[tuple[object, ...], float] = {}
    by_name = {}
    for job in jobs:
        spec = job.spec
        key = spec.architecture, spec.width, spec.k, spec.d_in, spec.role
        if key not in steps:
            steps[key] = _seconds_of_step(spec, plan, rows[spec.site], clock)
        by_name[spec.name] = steps[key]
    return Costs(seconds / number, by_name)


def _seconds_of_step(spec: SaeSpec, plan: "Plan", x: torch.Tensor, clock: Clock) -> float:
    """Train a copy of an SAE for a few steps; the result is discarded."""
    batch = plan.settings.batch
    sae = new_sae(replace(spec, draw=0), sparsity=None, steps=plan.steps, metadata={})
    sae.to(plan.device)
    freeze(sae, spec)
    trainer = new_trainer(sae, steps=max(plan.steps, 2 * MEASURED), batch=batch, learning_rate=1e-4)
    repeated = x[torch.arange(batch) % len(x)]
    repeated = repeated / repeated.norm(dim=1).mean() * x.shape[1] ** 0.5
    take_steps(trainer, [repeated], after=_ignore)
    wait_for(plan.device)
    began = clock()
    take_steps(trainer, [repeated] * MEASURED, after=_ignore)
    wait_for(plan.device)
    return (clock() - began) / MEASURED


def _ignore(_: Any) -> None:
    pass


def report(
    jobs: Sequence[Job],
    costs: Costs,
    buffers: Buffers,
    *,
    tokens: int,
    progress: Progress,
) -> dict[str, float]:
    """Report the forecast of a run, and check that the disk has room for it.

    Parameters
    ----------
    jobs
        The SAEs to train.
    costs
        The measured costs.
    buffers
        The source of activations.
    tokens
        Tokens that the model still has to read.
    progress
        Receives the forecast.

    Returns
    -------
    dict
        Forecast seconds of the kinds of work ``model`` and ``train``.

    Raises
    ------
    OutOfSpace
        If the disk has less room than the run needs.
    """
    plan = jobs[0].plan
    seconds = {
        "model": costs.token * tokens,
        "train": sum(costs.step[j.spec.name] * (j.steps - j.done) for j in jobs),
    }
    final = sum(4 * (2 * j.spec.d_in * j.spec.width + 2 * j.spec.width) for j in jobs)
    disk, memory = 4 * final, buffers.bytes + 5 * final  # weights, two moments, and the new SAE
    progress.report(
        f"Forecast for {counted(len(jobs), 'SAE')} of {plan.steps:,} steps ({buffers.total:,} tokens): about "
        f"{duration(sum(seconds.values()))}, of which {duration(seconds['model'])} for the model; "
        f"{byte_size(disk)} of disk during the training and {byte_size(final)} after it; {byte_size(memory)} of memory."
    )
    check_space(
        plan.out,
        disk,
        what=f"{counted(len(jobs), 'SAE')} and their checkpoints",
        todo="free some space, train fewer SAEs at once, or name a folder on another disk with `out`",
    )
    return seconds
