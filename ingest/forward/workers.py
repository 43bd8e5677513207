"""Shards on Ray: computed by several processes or machines, and given back to the one that writes.

The driver puts the group (model and SAEs, as they are in memory) into Ray's object
store once; each worker takes its copy from there. So all have the same weights,
models that exist only in memory work, and the machines of a cluster need neither a
shared file system nor the hub, only this package. A shard's documents (about half a
MiB) go to a worker, its codes and states come back. One shard a worker is under way,
so memory is bounded; a worker that dies costs its shard, which another is given.

What holds of the numbers: a shard depends on its blocks alone, so it does not matter
which worker computes it. On CPUs the last bits of a matrix product may depend on the
number of threads (seen where the inner dimension is long) and on the kind of CPU:
with as many threads a worker as the serial run has, on the same machine, the codes
are the same bit for bit; with fewer they agree to float32 rounding.
"""

import logging
import os
import pickle
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from atlas.errors import AtlasError, BadInput, Mismatch, Missing, OutOfRoom
from atlas.progress import SILENT, Progress, Stage
from ingest.error_translation import memory_errors
from ingest.forward.shards import Compute, Group, Results, Shard, compute_shard

if TYPE_CHECKING:
    from ingest.settings import Settings
    from ingest.text.corpus import Corpus, Document

__all__ = ["workers_ready"]

#: Workers that may die over one shard, or while they open the model, before it is given up.
DEATHS = 3

#: Seconds after which a machine that does not take a connection counts as not there.
REACH = 5.0

#: Seconds without a worker after which it is told that one is waited for.
PATIENCE = 30.0


@contextmanager
def workers_ready(
    group: Group, corpus: "Corpus", settings: "Settings", *, progress: Progress
) -> Iterator[Compute]:
    """Start or reach Ray, and give what computes shards there.

    A Ray that was started here is stopped at the end; a cluster is left. A Ray that
    this process is connected to already is used, and left connected.

    Parameters
    ----------
    group
        The model and its SAEs; on the CPU meanwhile, and moved back in the end.
    corpus
        The text.
    settings
        ``workers`` and ``ray`` say where.
    progress
        Told of workers that died, and of a cluster smaller than what was asked for.

    Raises
    ------
    BadInput
        If ``workers`` is below 0, or the model or an SAE cannot be sent.
    Mismatch
        If the cluster has no GPU and the model is to run on one.
    Missing
        If Ray is not installed, or does not answer at the address.
    OutOfRoom
        If the model and the SAEs do not fit into Ray's object store.
    """
    if settings.workers < 0:
        raise BadInput(f"{settings.workers} workers were asked for; ask for 1 or more.")
    with _connected(settings) as (ray, cpus), _on_cpu(group):
        kind = "GPU" if group.model.device.type == "cuda" else "CPU"
        count = _count(ray, settings.workers, kind=kind, progress=progress)
        threads = max(1, cpus // count)  # so that all together take the CPUs once
        yield _Team(ray, _put(ray, group), corpus, count, threads, kind, progress).compute


class _Worker:
    """One process: its copy of the model and the SAEs, and one shard at a time."""

    def __init__(self, threads: int) -> None:
        # Ray would have it that one CPU is one thread.
        torch.set_num_threads(threads)
        self._group: Group | None = None

    def open(self, group: "list[Any]") -> None:
        """Take the group out of the object store and move it to the device it was on."""
        import ray

        kept: Group = ray.get(group[0])
        device = torch.device(kept.model.device.type)  # of GPUs it sees its own alone
        with memory_errors(f"the model {kept.model.name} in a worker"):
            _move(kept, device)
        self._group = replace(kept, model=replace(kept.model, device=device))

    def compute(
        self, shard: Shard, blocks: "list[tuple[int, Sequence[Document]]]"
    ) -> dict[str, Any]:
        """Compute a shard."""
        if self._group is None:
            raise RuntimeError("A shard was given to a worker that has not opened the model.")
        group = self._group.only(shard.saes)
        with SILENT.stage("") as stage:
            return dict(compute_shard(group, blocks, shard=shard.number, stage=stage))


@dataclass
class _Team:
    """The workers, and who is doing what."""

    ray: Any
    group: Any
    corpus: "Corpus"
    count: int
    threads: int
    kind: str
    progress: Progress
    doing: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)
    deaths: Counter[int | None] = field(default_factory=Counter)

    def compute(self, shards: Sequence[Shard], stage: Stage) -> Iterator[tuple[Shard, Results]]:
        """Compute shards, and yield each as it is finished."""
        waiting = deque(shards)
        for _ in range(min(self.count, len(waiting))):
            self._hire()
        while waiting or self._busy():
            ended = self._next()
            worker, shard = self.doing.pop(ended)
            try:
                results = self._result(ended, shard)
            except self.ray.exceptions.RayError as error:  # it died, or its result is lost
                self._bury(shard, error)
                if shard is not None:
                    waiting.appendleft(shard)
                self._hire()
                continue
            if waiting:
                self._give(worker, waiting.popleft())
            if shard is not None:
                yield shard, results
                stage.advance(len(shard.blocks))

    def _hire(self) -> None:
        """Ask for a worker. It gets a shard when it is ready: the cluster may never have room for it."""
        gpus = int(self.kind == "GPU")
        kind = self.ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
        worker = kind.remote(self.threads)
        # In a list, so that the worker itself takes it out, and tells what goes wrong there.
        self.doing[worker.open.remote([self.group])] = (worker, None)

    def _give(self, worker: Any, shard: Shard) -> None:
        blocks = [(n, self.corpus.block(n)) for n in shard.blocks]
        self.doing[worker.compute.remote(shard, blocks)] = (worker, shard)

    def _busy(self) -> bool:
        """Say whether a shard is under way."""
        return any(shard is not None for _, shard in self.doing.values())

    def _next(self) -> Any:
        """Return what ends next."""
        ended, _ = self.ray.wait(list(self.doing), timeout=None if self._busy() else PATIENCE)
        if not ended:
            self.progress.report(
                f"Still waiting for a worker: each needs a {self.kind} that is free, and has to load "
                "the model."
            )
            ended, _ = self.ray.wait(list(self.doing))
        return ended[0]

    def _result(self, ended: Any, shard: Shard | None) -> Results:
        """Return what a worker gave; an error that came up in it is raised as it was there."""
        try:
            return self.ray.get(ended) or {}
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if shard is None and not isinstance(cause, AtlasError):
                _cannot_open(cause)
            raise cause from error

    def _bury(self, shard: Shard | None, error: Exception) -> None:
        """Count a death, and give up what has cost too many."""
        number = None if shard is None else shard.number
        self.deaths[number] += 1
        if self.deaths[number] < DEATHS:
            doing = "opening the model" if shard is None else f"computing shard {number}"
            self.progress.report(f"A worker died while {doing}; another takes over.")
            return
        if shard is None:
            if getattr(error, "actor_init_failed", False):
                _cannot_open(error)
            what = f"{DEATHS} workers died while they opened the model"
        else:
            what = f"{DEATHS} workers died while they computed shard {number}"
        raise AtlasError(
            f"{what}. Mostly it is memory: take fewer workers, or machines with more. Finished shards "
            "are kept, and the same command goes on from there."
        ) from error


def _cannot_open(error: BaseException) -> NoReturn:
    raise Mismatch(
        f"A worker could not open the model and the SAEs ({_last_line(error)}): every machine of the "
        "cluster needs the same versions of feature-atlas, torch, transformers and sae-lens."
    ) from error


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _connected(settings: "Settings") -> Iterator[tuple[Any, int]]:
    """Give Ray and the CPUs it may take; it is left as it was found in the end."""
    address = settings.ray
    if address:
        # Else Ray tries for minutes; it reads this when it is imported.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    ray = _import_ray()
    if ray.is_initialized():
        if address:
            raise BadInput(
                f"The Ray cluster {address} was named, but this process is connected to Ray already: "
                "leave ray= out to use that, or call ray.shutdown() first."
            )
        yield ray, _there(ray, "CPU")
        return
    with _hushed(ray):
        try:
            if address:
                _reach(ray, address)
                yield ray, _there(ray, "CPU")
            else:
                _start(ray, settings.workers)
                yield ray, torch.get_num_threads()
        finally:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise Missing(
            "Workers run on Ray, which is not installed: `pip install 'feature-atlas[ray]'`, or leave "
            "--workers and --ray out."
        ) from error


def _start(ray: Any, workers: int) -> None:
    """Start Ray on this machine alone, without telemetry and dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else workers have to wait for whatever else runs here, as this process does not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # The wording of a change to come that Ray announces on stderr, and that does not concern us.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **_QUIET)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise Missing(
            f"Ray could not be started on this machine ({_last_line(error)}); leave --workers out."
        ) from error


def _reach(ray: Any, address: str) -> None:
    """Connect to a cluster, soon or not at all."""
    client = address.startswith("ray://")
    where = address.removeprefix("ray://")
    if address != "auto":
        _check_address(where)
    try:
        # Ray's core writes what it tries straight to stderr.
        with _no_stderr():
            ray.init(address=address, **_QUIET)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError, ImportError) as error:
        if client and "ray[client]" in str(error):
            raise Missing(
                f"{address} is reached by Ray's client, which is not installed: "
                "`pip install 'ray[client]'`."
            ) from error
        raise Missing(
            f"No Ray cluster was reached at {address} ({_last_line(error)}): check the address, that "
            "Python and Ray are of the same versions there, and set RAY_AUTH_MODE=token if the "
            "cluster asks for a token."
        ) from error


def _check_address(where: str) -> None:
    """See whether anything listens there, since Ray takes minutes to find that out."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(
            f"{where!r} is no address of a Ray cluster: 'auto', HOST:PORT or ray://HOST:PORT is expected."
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise Missing(
            f"No Ray cluster was reached at {where} ({_last_line(error)}): check the address, and that "
            "the cluster runs (`ray status` there)."
        ) from error


_QUIET = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "feature-atlas"}


@contextmanager
def _hushed(ray: Any) -> Iterator[None]:
    """Keep Ray from telling of dead workers on stdout, which is for results; no setting of its does."""
    private: Any = getattr(getattr(ray, "_private", None), "worker", None)
    told = getattr(private, "print_to_stdstream", None)
    if told is None:  # not this version
        yield
        return
    private.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        private.print_to_stdstream = told


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Close the process's stderr for a moment, to code that is not Python's too."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _on_cpu(group: Group) -> Iterator[None]:
    """Hold the group on the CPU: workers need the memory of GPUs, and may see other ones."""
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


def _put(ray: Any, group: Group) -> Any:
    try:
        return ray.put(group)
    except ray.exceptions.RayError as error:
        raise OutOfRoom(
            f"The model and the SAEs do not fit into Ray's object store ({_last_line(error)}): take "
            "fewer SAEs at a time, or leave --workers out."
        ) from error
    except (TypeError, AttributeError, ValueError, RuntimeError, pickle.PicklingError) as error:
        reason = _last_line(error.__cause__ or error)
        raise BadInput(
            f"The model or an SAE cannot be sent to workers ({reason}): name what is loaded, or leave "
            "workers= and ray= out."
        ) from error


def _there(ray: Any, kind: str) -> int:
    return int(ray.cluster_resources().get(kind, 0))


def _count(ray: Any, asked: int, *, kind: str, progress: Progress) -> int:
    """Return how many workers there will be: as asked, or as many as there are CPUs or GPUs."""
    there = _there(ray, kind)
    if not there:
        raise Mismatch(
            f"The model is to run on a {kind}, and the machines that Ray has here have none: choose "
            "another --device, or leave --workers and --ray out."
        )
    if asked > there:
        progress.report(f"Ray has {there} {kind}(s) here: {there} worker(s), not {asked}.")
    return min(asked, there) if asked else there
