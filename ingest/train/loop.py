"""The loop of a training run: one run of the model fills a buffer, on which all SAEs take their steps."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas.amounts import counted
from atlas.progress import Pace, Progress, Stage, duration
from ingest.train import forecast
from ingest.train.buffer import Buffers
from ingest.train.job import Job, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from ingest.model.language_model import LanguageModel
    from ingest.text.tokenization import ContextSettings
    from ingest.train.text import TrainingText

__all__ = ["train_all"]

#: Seconds after which a checkpoint of an SAE is written, at the end of a buffer.
CHECKPOINT_SECONDS = 20.0

#: Seconds between two reports of losses.
REPORT_SECONDS = 10.0


def train_all(
    todo: Sequence[Job],
    model: "LanguageModel",
    text: "TrainingText",
    *,
    contexts: "ContextSettings",
    progress: Progress,
) -> None:
    """Train SAEs, buffer by buffer, from their checkpoints to their folders.

    Parameters
    ----------
    todo
        The SAEs, which have a plan in common.
    model, text, contexts
        The source of the activations.
    progress
        Receives the forecast, the losses and the remaining time.

    Raises
    ------
    BadActivations
        If the training of an SAE reaches NaN or Inf.
    OutOfSpace
        If the disk or the memory is full.
    """
    plan = todo[0].plan
    settings = plan.settings
    per_buffer = max(1, settings.buffer // settings.batch)
    size = min(per_buffer, plan.steps) * settings.batch
    buffers = Buffers(
        model,
        text,
        tuple(dict.fromkeys(j.spec.site for j in todo)),
        contexts=contexts,
        batch_tokens=settings.batch_tokens,
        size=size,
        total=plan.steps * settings.batch,
    )
    resumed = sum(job.resume() for job in todo)
    if resumed:
        first = min(j.done for j in todo)
        progress.report(
            f"Continuing from the checkpoints of {counted(resumed, 'SAE')}, the earliest at step {first:,} of {plan.steps:,}."
        )
    numbers = [
        n for n in range(len(buffers)) if any(_needs(j, n, size, settings.batch) for j in todo)
    ]
    costs = forecast.measure(todo, buffers)
    seconds = forecast.report(
        todo, costs, buffers, tokens=sum(map(buffers.rows, numbers)), progress=progress
    )
    pace = Pace(seconds, progress=progress)
    total = sum(j.steps - j.done for j in todo)
    run = _Run(todo, plan, pace, costs, progress)
    with progress.stage(
        f"Training {counted(len(todo), 'SAE')}", total=total, unit="steps"
    ) as stage:
        for number in numbers:
            pace.skip()
            filled = buffers.fill(number)
            pace.lap("model", costs.token * buffers.rows(number))
            run.buffer(number, size=size, filled=filled, stage=stage)


def _needs(job: Job, number: int, size: int, batch: int) -> bool:
    """Return whether an SAE has steps to take on a buffer, or takes its initial weights from it."""
    begins = number * size // batch
    return (not job.begun and number == 0) or (job.done <= begins < job.steps)


class _Run:
    """The loop over the SAEs of a buffer: steps, checkpoints, reports and finished folders."""

    def __init__(
        self,
        jobs: Sequence[Job],
        plan: Plan,
        pace: Pace,
        costs: forecast.Costs,
        progress: Progress,
    ) -> None:
        self._jobs, self._plan, self._pace = list(jobs), plan, pace
        self._costs, self._progress = costs, progress
        now = time.monotonic()
        self._saved = dict.fromkeys((j.spec.name for j in jobs), now)
        self._reported = now

    def buffer(self, number: int, *, size: int, filled: "dict[str, Tensor]", stage: Stage) -> None:
        """Train all SAEs on a buffer."""
        batch = self._plan.settings.batch
        for job in self._jobs:
            if not _needs(job, number, size, batch):
                continue
            x = filled[job.spec.site]
            if not job.begun:
                job.begin(x)
            before = job.done
            if job.steps:
                job.take(x, number, stage.advance)
            if job.done == job.steps:
                job.finish()
                self._lap(job, job.steps - before)
                continue
            self._lap(job, job.done - before)
            self._save(job)
        self._report((number * size + len(next(iter(filled.values())))) // batch)

    def _lap(self, job: Job, steps: int) -> None:
        self._pace.lap("train", steps * self._costs.step[job.spec.name])

    def _save(self, job: Job) -> None:
        now = time.monotonic()
        if now - self._saved[job.spec.name] >= CHECKPOINT_SECONDS:
            job.save()
            self._saved[job.spec.name] = now

    def _report(self, step: int) -> None:
        """Report losses and the remaining time, at most once in some seconds."""
        now = time.monotonic()
        found = [j.last for j in self._jobs if j.last is not None]
        if not found or (now - self._reported < REPORT_SECONDS and step < self._plan.steps):
            return
        self._reported = now
        fvu = sorted(last.fvu for last in found)
        l0, dead = (
            sum(getattr(last, name) for last in found) / len(found) for name in ("l0", "dead_share")
        )
        left = (
            ""
            if step == self._plan.steps
            else f"; about {duration(self._pace.seconds_remaining)} remain"
        )
        self._progress.report(
            f"Step {step:,} of {self._plan.steps:,}: FVU {fvu[0]:.3f} to {fvu[-1]:.3f}, mean L0 {l0:.1f}, mean dead "
            f"share {dead:.1%}{left}."
        )
