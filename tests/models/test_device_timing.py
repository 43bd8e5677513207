"""Forecasts on a device do not count the first call, and wait until the device has finished."""

from pathlib import Path
from typing import Any

import pytest
import steered_atlas
import torch
from pretend_device import pretend_gpu
from random_models import random_model, small_tokenizer
from small_ingest import CONTEXT, model, texts, topk
from small_training import settings as training_settings
from small_training import texts as training_texts

from analysis.logits import study as logits
from analysis.logits.settings import LogitSettings
from analysis.steering import study as steering
from analysis.steering.settings import SteeringSettings
from atlas.disk.folder import Folder
from atlas.progress import SILENT
from atlas.studies.study import TaskContext
from ingest.device_timing import timed_on
from ingest.forward import sample
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.run import ingest
from ingest.forward.shard_runner import ShardRunner
from ingest.forward.shards import Group
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings
from ingest.train import forecast as training
from ingest.train.run import train_saes

COLD = 100.0


class Device:
    """A device whose work takes time when it is waited for; the first call of each name takes 100 s more."""

    def __init__(self) -> None:
        self.now = self.pending = 0.0
        self.seen: set[object] = set()

    def clock(self) -> float:
        return self.now

    def work(self, name: object = "work", seconds: float = 1.0) -> None:
        self.pending += seconds + (0.0 if name in self.seen else COLD)
        self.seen.add(name)

    def synchronize(self, device: object = None) -> None:
        self.now += self.pending
        self.pending = 0.0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Device()
    with pretend_gpu():
        monkeypatch.setattr(torch.cuda, "synchronize", found.synchronize)
        yield found


def test_the_first_call_is_not_counted_and_the_clock_waits(device: Device) -> None:
    device.pending = 7.0  # work that was requested before
    assert timed_on(torch.device("cuda"), device.work, clock=device.clock) == 1.0
    assert device.now == 7.0 + 2.0 + COLD


def test_the_model_and_the_steps_of_a_training_run(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    forward, steps = torch.nn.Embedding.forward, training.take_steps

    def run(self: Any, ids: torch.Tensor) -> Any:
        device.work("model", 2.0)
        return forward(self, ids)

    def take(trainer: Any, batches: Any, *, after: Any) -> None:
        batches = list(batches)
        device.work(("step", trainer.sae.cfg.d_sae), 0.5 * len(batches))
        steps(trainer, batches, after=after)

    monkeypatch.setattr(torch.nn.Embedding, "forward", run)
    monkeypatch.setattr(training, "take_steps", take)
    measure = training.measure

    def measured(jobs: Any, buffers: Any) -> Any:
        _, seconds = buffers.sample(device.clock)
        costs.append((seconds, measure(jobs, buffers, clock=device.clock)))
        return costs[-1][1]

    monkeypatch.setattr(training, "measure", measured)
    train_saes(
        tmp_path / "saes",
        model=random_model("llama"),
        tokenizer=small_tokenizer(),
        text=training_texts(120),
        settings=training_settings(steps=2, widths=(32, 64), quality_tokens=0, device="cuda"),
    )
    ((seconds, found),) = costs
    assert seconds == 2.0
    assert set(found.step.values()) == {0.5}


def test_the_sample_of_an_ingest(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sae = tmp_path / "a.atlas", open_sae(topk(), name="top")
    ingest(path, saes=[sae], text=texts(400, words=(20, 30)), model=model())
    lm = model()
    lm.base.to("cuda")
    lm = type(lm)(**{**vars(lm), "device": torch.device("cuda")})
    group = Group(lm, (sae.to("cuda"),), ContextSettings(CONTEXT, prepend_bos=True), 64)
    corpus = Corpus.open(Folder.open(path).corpus_file)
    run = type(lm).run
    shapes = []

    def recorded(self: Any, ids: torch.Tensor, *args: Any, **named: Any) -> Any:
        shapes.append(tuple(ids.shape))
        device.work(tuple(ids.shape) if len(shapes) <= 2 else "later", 3.0)
        device.seen.add("later")
        return run(self, ids, *args, **named)

    monkeypatch.setattr(type(lm), "run", recorded)
    work = ShardRunner(group, corpus, {"top": Checkpoint(tmp_path / "run")}, Settings())
    costs = sample.measure(work, folder=path, clock=device.clock)
    assert costs is not None
    assert shapes[0] == shapes[1]  # the first batch that is timed has run before
    tokens = sum(rows for rows, _ in shapes[1:]) * (CONTEXT - 1)
    assert costs.model < 2 * 3.0 * len(shapes[1:]) / tokens < COLD / tokens
    assert costs.saes["top"].encode == 0.0  # the work of the model is not counted here


@pytest.mark.parametrize("name", ["logits", "steering"])
def test_studies_of_models(name: str, device: Device, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "s.atlas"
    causal, tokenizer, saes = steered_atlas.write(path)
    more: Any = {"opened": tuple(saes), "model": causal, "tokenizer": tokenizer}
    module: Any = {"logits": logits, "steering": steering}[name]
    found = []

    def recorded(where: torch.device, work: Any) -> float:
        def counted() -> None:
            device.work(len(found))
            work()

        found.append(timed_on(where, counted, clock=device.clock))
        return found[-1]

    monkeypatch.setattr(module, "timed_on", recorded)
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    if name == "logits":
        study: Any = logits.LogitStudy(LogitSettings(features=6), device="cuda", **more)
    else:
        settings = SteeringSettings(random=2, strengths=(1.0,), neutral_tokens=64)
        study = steering.SteeringStudy(
            settings, task=steering.read_task("feelings"), device="cuda", **more
        )
    (task,) = study.tasks(at, ["last"])
    assert study.forecast(task, at).seconds < COLD
    assert found == [1.0, 1.0]
