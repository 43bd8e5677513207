"""Workers of studies find the GPU free, and request one on Ray."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from counting_study import CountStudy
from pretend_device import pretend_gpu
from random_models import random_model, small_tokenizer
from recording_progress import RecordingProgress
from small_ingest import model, texts, topk

from atlas.errors import BadInput, Mismatch
from atlas.studies import runner, workers
from atlas.studies.runner import run_study
from ingest.forward import workers as ingest_workers
from ingest.forward.run import ingest
from ingest.forward.shards import Group
from ingest.forward.workers import _Worker
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import ProbeStudy
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.tokenization import ContextSettings
from ingest.torch_study import TorchStudy

CUT = ContextSettings(16, True)
PROBES = ProbeSettings(splits=("document",), controls=0, draws=2, min_positives=3, iterations=5)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an atlas of two SAEs whose probes have two groups: their contexts differ in length."""
    path = tmp_path_factory.mktemp("workers") / "a.atlas"
    for name, context in (("a", 16), ("b", 12)):
        settings = Settings(context=context)
        sae = open_sae(topk(), name=name)
        ingest(path, saes=[sae], text=texts(60), model=model(), settings=settings, match=None)
    return path


class Pool:
    """Computes in this process what a pool of processes would."""

    started: ClassVar[list[Callable[[], None]]] = []

    def __init__(self, *_: Any, **__: Any) -> None:
        for call in self.started:
            call()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, work: Any, items: Any) -> Iterator[Any]:
        return map(work, items)


def test_the_driver_drops_its_models_before_workers_start(
    atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[weakref.ref[Any]] = []
    events: list[tuple[str, int]] = []
    open_model = ProbeStudy._open

    def recorded(self: ProbeStudy, *args: Any) -> Any:
        found = open_model(self, *args)
        opened.append(weakref.ref(found))
        return found

    def event(name: str) -> None:
        events.append((name, sum(ref() is not None for ref in opened)))

    monkeypatch.setattr(ProbeStudy, "_open", recorded)
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "started", [lambda: event("workers")])
    with pretend_gpu():
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: event("released"))
        study = ProbeStudy(
            PROBES, model=random_model("llama"), tokenizer=small_tokenizer(), device="cuda"
        )
        gc.disable()  # the study itself must search for cycles
        try:
            found = run_study(study, atlas, "all", workers=2, progress=RecordingProgress())
        finally:
            gc.enable()
    assert len(opened) >= 3  # at least one for the forecast, and one in each worker
    assert events == [("released", 0), ("workers", 0)]
    assert len(found) == 2


@dataclass(frozen=True)
class DeviceStudy(TorchStudy, CountStudy):
    kind: ClassVar[str] = "count"
    device: str = "auto"
    model: Any = None


def on_ray(monkeypatch: pytest.MonkeyPatch, *, gpus: int) -> list[dict[str, int]]:
    """Replace Ray by calls in this process; return the list of what tasks request."""
    requests: list[dict[str, int]] = []

    def remote(**options: int) -> Any:
        requests.append(options)
        return lambda work: SimpleNamespace(remote=work)

    ray = SimpleNamespace(
        remote=remote,
        get=lambda answer: answer,
        cluster_resources=lambda: {"CPU": 2.0} | ({"GPU": float(gpus)} if gpus else {}),
    )

    @contextmanager
    def connected(address: str) -> Iterator[tuple[Any, bool]]:
        yield ray, False

    monkeypatch.setattr(runner, "connected", connected)
    return requests


CPU_MODEL = SimpleNamespace(device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("study", "gpus", "requested"),
    [
        (CountStudy(), 2, 0),
        (DeviceStudy(device="cpu"), 2, 0),
        (DeviceStudy(), 0, 0),
        (DeviceStudy(), 2, 1),
        (DeviceStudy(model=CPU_MODEL), 2, 0),
    ],
)
def test_a_task_on_ray_requests_the_gpu_that_its_device_needs(
    study: Any, gpus: int, requested: int, atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = on_ray(monkeypatch, gpus=gpus)
    found = run_study(study, atlas, "all", ray="auto", replace=True)
    assert [row["letters"] for row in found.rows] == [1, 1]
    assert requests == [{"num_cpus": 1, "num_gpus": requested}]


def test_a_named_gpu_that_the_cluster_does_not_have_is_reported(
    atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_ray(monkeypatch, gpus=0) == []
    with pytest.raises(
        Mismatch, match=r"`atlas count` must run on a GPU.*Choose another `device`, or omit `ray`"
    ):
        run_study(DeviceStudy(device="cuda:1"), atlas, "all", ray="auto", replace=True)
    assert DeviceStudy(device="cuda:1").needs_gpu(available=True)


@dataclass(frozen=True)
class RecordedDevice(DeviceStudy):
    """A study that records on which device its tasks run."""

    ran_on: ClassVar[list[str]] = []

    def run(self, task: Any, at: Any) -> Any:
        self.ran_on.append(f"{self.device} = {self.torch_device()}")
        return super().run(task, at)


@pytest.mark.parametrize(
    ("device", "ran_on"),
    [("cuda:1", "cuda = cuda"), ("cuda", "cuda = cuda"), ("cpu", "cpu = cpu")],
)
def test_a_task_on_ray_uses_the_gpu_that_ray_assigned(
    device: str, ran_on: str, atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_ray(monkeypatch, gpus=2)
    RecordedDevice.ran_on.clear()
    study = RecordedDevice(device=device)
    with pretend_gpu():  # a worker sees one GPU
        run_study(study, atlas, "all", ray="auto", replace=True)
    assert set(RecordedDevice.ran_on) == {ran_on}
    assert study.device == device


def test_a_model_in_memory_on_the_second_gpu_is_reported_before_a_worker_reads_it(
    atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_ray(monkeypatch, gpus=2)
    second = SimpleNamespace(device=torch.device("cuda", 1))
    with pretend_gpu(), pytest.raises(BadInput, match=r"is on cuda:1.*Pass its name, or move it"):
        run_study(DeviceStudy(model=second), atlas, "all", ray="auto", replace=True)


def test_a_worker_of_an_ingest_uses_the_gpu_that_ray_assigned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    language = model()
    group = Group(replace(language, device=torch.device("cuda", 1)), (open_sae(topk()),), CUT, 64)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda answer: answer))
    with pretend_gpu():
        worker = _Worker(1)
        worker.open([group])
        assert worker._group is not None
        assert worker._group.model.device == torch.device("cuda")
        assert worker._group.model.base.device == torch.device("cuda", 0)
        assert worker._group.saes[0].device == torch.device("cuda", 0)


def test_the_driver_takes_its_gpu_memory_again_only_after_the_workers_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []

    @contextmanager
    def connected(*_: Any) -> Iterator[tuple[Any, bool]]:
        ray = SimpleNamespace(put=lambda group: group, cluster_resources=lambda: {"GPU": 1})
        events.append(f"start, model on {group.model.base.device.type}")
        yield ray, True
        events.append(f"end, model on {group.model.base.device.type}")

    monkeypatch.setattr(ingest_workers, "connected", connected)
    with pretend_gpu():
        language = model()
        language.base.to("cuda")
        group = Group(replace(language, device=torch.device("cuda")), (open_sae(topk()),), CUT, 64)
        settings, progress = Settings(workers=1), RecordingProgress()
        with ingest_workers.workers_ready(group, None, settings, progress=progress):  # type: ignore[arg-type]
            events.append("work")
        assert group.model.base.device.type == "cuda"
    assert events == ["start, model on cpu", "work", "end, model on cpu"]
