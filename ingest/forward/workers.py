"""Workers on Ray: processes or machines that compute shards and return them to the driver.

The driver puts the group (the model and SAEs in memory) into Ray's object store once,
and each worker copies it from there. All workers therefore have the same weights, and
models that exist only in memory work. The machines of a cluster need this package, but
neither a shared file system nor access to the hub. The driver sends the documents of a
shard (about half a MiB) to a worker, and receives its codes and states. Each worker
computes one shard at a time, so memory is bounded. If a worker dies, another worker
computes its shard.

A shard depends on its blocks alone, so it does not matter which worker computes it. On
CPUs the last bits of a matrix product may depend on the kind of CPU and, if the inner
dimension is long, on the number of threads. On the same machine and with the same
number of threads per worker as the serial run, the codes are bitwise equal. With fewer
threads they agree to float32 rounding.
"""

import pickle
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from atlas.amounts import counted
from atlas.errors import AtlasError, BadInput, Mismatch, OutOfSpace
from atlas.progress import SILENT, Progress, Stage
from atlas.ray_connection import connected, last_line
from ingest.device_memory import release_cache
from ingest.error_translation import memory_errors
from ingest.forward.overlap import prefetched
from ingest.forward.shards import Compute, Group, Results, Shard, compute_shard, tokenized
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from ingest.settings import Settings
    from ingest.text.corpus import Corpus, Document

__all__ = ["workers_ready"]

#: Deaths of workers on one shard, or while opening the model, after which the run fails.
DEATHS = 3


#: Seconds without a worker after which the wait is reported.
PATIENCE = 30.0


@contextmanager
def workers_ready(
    group: Group, corpus: "Corpus", settings: "Settings", *, progress: Progress
) -> Iterator[Compute]:
    """Start Ray or connect to it, and yield the function that computes shards there.

    If this function started Ray, it stops Ray at the end. It disconnects from a cluster,
    which keeps running. An existing connection of this process is used and retained.

    Parameters
    ----------
    group
        The model and its SAEs; moved to the CPU, and back to their device at the end.
    corpus
        The text.
    settings
        ``workers`` and ``ray`` select the number of workers and the cluster.
    progress
        Reports workers that died, and a cluster smaller than requested.

    Raises
    ------
    BadInput
        If ``workers`` is below 0, or the model or an SAE cannot be sent.
    Mismatch
        If the cluster has no GPU and the model must run on one.
    Missing
        If Ray is not installed, or does not respond at the address.
    OutOfSpace
        If the model and the SAEs do not fit into Ray's object store.
    """
    if settings.workers < 0:
        raise BadInput(f"{settings.workers} workers were requested; request 1 or more.")
    # The group returns to its GPU only after the workers that used the memory have ended.
    with _on_cpu(group), connected(settings.ray, settings.workers) as (ray, started):
        cpus = torch.get_num_threads() if started else _available(ray, "CPU")
        kind = "GPU" if group.model.device.type == "cuda" else "CPU"
        count = _count(ray, settings.workers, kind=kind, progress=progress)
        threads = max(1, cpus // count)  # the threads of all workers together equal the CPUs
        yield _Team(ray, _put(ray, group), corpus, count, threads, kind, progress).compute


class _Worker:
    """One process: its copy of the model and the SAEs, and one shard at a time."""

    def __init__(self, threads: int) -> None:
        # Ray would set one thread per CPU of the worker.
        torch.set_num_threads(threads)
        self._group: Group | None = None

    def open(self, group: "list[Any]") -> None:
        """Copy the group from the object store, and move it to its original kind of device."""
        import ray

        copy: Group = ray.get(group[0])
        # Ray assigns a GPU; torch calls it the first one, whatever its number in the driver.
        device = torch.device(copy.model.device.type)
        with memory_errors(f"the model {copy.model.name} in a worker"):
            _move(copy, device)
        self._group = replace(copy, model=replace(copy.model, device=device))

    @ieee_float32()
    def compute(
        self, shard: Shard, blocks: "list[tuple[int, Sequence[Document]]]"
    ) -> dict[str, Any]:
        """Compute a shard."""
        if self._group is None:
            raise RuntimeError("A shard was assigned to a worker that has not opened the model.")
        group = self._group.only(shard.saes)
        with SILENT.stage("") as stage:
            text = prefetched(tokenized(group, blocks))
            return dict(compute_shard(group, text, shard=shard.number, stage=stage))


@dataclass
class _Team:
    """The workers, and the current task of each."""

    ray: Any
    group: Any
    corpus: "Corpus"
    count: int
    threads: int
    kind: str
    progress: Progress
    tasks: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)
    deaths: Counter[int | None] = field(default_factory=Counter)

    def compute(self, shards: Sequence[Shard], stage: Stage) -> Iterator[tuple[Shard, Results]]:
        """Compute shards, and yield each when it is finished."""
        waiting = deque(shards)
        for _ in range(min(self.count, len(waiting))):
            self._start_worker()
        while waiting or self._busy():
            ended = self._next()
            worker, shard = self.tasks.pop(ended)
            try:
                results = self._result(ended, shard)
            except self.ray.exceptions.RayError as error:  # it died, or its result is lost
                self._count_death(shard, error)
                if shard is not None:
                    waiting.appendleft(shard)
                self._start_worker()
                continue
            if waiting:
                self._assign(worker, waiting.popleft())
            if shard is not None:
                yield shard, results
                stage.advance(len(shard.blocks))

    def _start_worker(self) -> None:
        """Request a worker. It gets a shard once it is ready, since the cluster may have no room."""
        gpus = int(self.kind == "GPU")
        kind = self.ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
        worker = kind.remote(self.threads)
        # In a list, so that the worker itself fetches the group, and reports errors of that.
        self.tasks[worker.open.remote([self.group])] = (worker, None)

    def _assign(self, worker: Any, shard: Shard) -> None:
        blocks = [(n, self.corpus.block(n)) for n in shard.blocks]
        self.tasks[worker.compute.remote(shard, blocks)] = (worker, shard)

    def _busy(self) -> bool:
        """Return whether a worker is computing a shard."""
        return any(shard is not None for _, shard in self.tasks.values())

    def _next(self) -> Any:
        """Wait for the next task to end and return it."""
        ended, _ = self.ray.wait(list(self.tasks), timeout=None if self._busy() else PATIENCE)
        if not ended:
            self.progress.report(
                f"Still waiting for a worker: each needs a free {self.kind}, and must load the model."
            )
            ended, _ = self.ray.wait(list(self.tasks))
        return ended[0]

    def _result(self, ended: Any, shard: Shard | None) -> Results:
        """Return the result of a task, or raise the error that the worker raised."""
        try:
            return self.ray.get(ended) or {}
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if shard is None and not isinstance(cause, AtlasError):
                _cannot_open(cause)
            raise cause from error

    def _count_death(self, shard: Shard | None, error: Exception) -> None:
        """Count the death of a worker, and fail after ``DEATHS`` on the same task."""
        number = None if shard is None else shard.number
        self.deaths[number] += 1
        if self.deaths[number] < DEATHS:
            task = "opening the model" if shard is None else f"computing shard {number}"
            self.progress.report(f"A worker died while {task}; another takes over.")
            return
        if shard is None:
            if getattr(error, "actor_init_failed", False):
                _cannot_open(error)
            task = "opened the model"
        else:
            task = f"computed shard {number}"
        raise AtlasError(
            f"{DEATHS} workers died while they {task}. The usual cause is too little memory: use fewer "
            "workers, or machines with more memory. Finished shards are stored, and the same command "
            "resumes from them."
        ) from error


def _cannot_open(error: BaseException) -> NoReturn:
    raise Mismatch(
        f"A worker could not open the model and the SAEs ({last_line(error)}). Install the same versions "
        "of feature-atlas, torch, transformers and sae-lens on every machine of the cluster."
    ) from error


@contextmanager
def _on_cpu(group: Group) -> Iterator[None]:
    """Move the group to the CPU for the run: workers need the GPU memory, and may see other GPUs."""
    device = group.model.device
    _move(group, torch.device("cpu"))
    try:
        yield
    finally:
        _move(group, device)


def _move(group: Group, device: torch.device) -> None:
    group.model.base.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides the types
    for sae in group.saes:
        sae.to(device)
    if device.type == "cpu":
        release_cache()  # otherwise this process reserves the memory that the workers need


def _put(ray: Any, group: Group) -> Any:
    try:
        return ray.put(group)
    except ray.exceptions.RayError as error:
        raise OutOfSpace(
            f"The model and the SAEs do not fit into Ray's object store ({last_line(error)}). Ingest "
            "fewer SAEs at a time, or omit `workers`."
        ) from error
    except (TypeError, AttributeError, ValueError, RuntimeError, pickle.PicklingError) as error:
        reason = last_line(error.__cause__ or error)
        raise BadInput(
            f"The model or an SAE cannot be sent to workers ({reason}). Pass names instead of objects, or "
            "omit workers= and ray=."
        ) from error


def _available(ray: Any, kind: str) -> int:
    return int(ray.cluster_resources().get(kind, 0))


def _count(ray: Any, requested: int, *, kind: str, progress: Progress) -> int:
    """Return the number of workers: as requested, at most one per CPU or GPU of the cluster."""
    available = _available(ray, kind)
    if not available:
        raise Mismatch(
            f"The model must run on a {kind}, and the machines of this Ray cluster have none. Choose "
            "another `device`, or omit `workers` and `ray`."
        )
    if requested > available:
        progress.report(
            f"Ray has {counted(available, kind)}: using {counted(available, 'worker')} instead of {requested}."
        )
    return min(requested, available) if requested else available
