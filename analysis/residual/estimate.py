"""Estimate the training time of a study's SAEs before training starts."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from analysis.residual.activations import Activations
from analysis.residual.split import Divided
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, read_inputs, train
from atlas.amounts import counted
from atlas.progress import duration
from ingest.text.tokenization import tokenize

__all__ = ["report_estimate"]

#: Steps in the measurement of training time; the median excludes the slower first step.
STEPS = 6


def report_estimate(study: StudyContext, divided: Divided, *, saes: int, after: str) -> None:
    """Report the time for activations and training, from one batch of text and a few steps."""
    reader, settings = study.reader, study.settings
    text = tokenize(
        divided.corpora["training"].block(0),
        reader.model.tokenizer,
        settings=reader.contexts,
        batch_tokens=reader.batch_tokens,
    )
    if not text.batches:
        return
    batch = text.batches[-1]
    ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
    hooks = [settings.source, settings.target]
    for _ in range(2):  # the first call loads kernels
        began = time.perf_counter()
        read = reader.model.run(ids, mask, hooks=hooks)
        for value in read.values():
            float(value[0, 0, 0])  # waits for the device
        passes = (time.perf_counter() - began) / max(int(batch.keep.sum()), 1)
    passes *= divided.tokens["map"] + divided.tokens["training"]
    steps = settings.steps(divided.tokens["training"])
    training = _step_time(study) * steps * saes
    width = reader.model.site(settings.target).width
    study.progress.report(
        f"Training {counted(saes, 'SAE')} of {settings.features(width):,} features for {counted(steps, 'step')} each takes "
        f"about {duration(passes)} for the activations and {duration(training)} for the steps. {after}"
    )


def _step_time(study: StudyContext) -> float:
    """Return the seconds of a training step, measured on random numbers."""

    width = study.reader.model.site(study.settings.target).width
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((study.settings.batch, width), dtype=np.float32)
    zeros = np.zeros(len(noise), dtype=np.int64)
    few = Activations(noise, noise, zeros, zeros)
    settings = replace(study.settings, train_tokens=STEPS * len(noise))
    arm, clock = Arm("baseline", 0), _Clock([])
    train(
        arm,
        few,
        settings,
        read=read_inputs([arm], few, settings)[arm.label],
        metadata={},
        stage=clock,
        device=study.reader.model.device,
    )
    return float(np.median(np.diff(clock.times)))


@dataclass(frozen=True)
class _Clock:
    """A progress stage that records the time of each step."""

    times: list[float]

    def advance(self, by: float = 1) -> None:
        """Record the time."""
        self.times.append(time.perf_counter())
