"""Run studies: check their inputs, compute their tasks, and store one part per task.

A study is a class with a ``kind``, a ``version``, settings and three methods: ``tasks`` names the
SAEs, pairs or sites, ``run`` computes one task, and ``result`` reads a part. ``run_study`` locks
the folder, checks names and inputs, skips stored results, runs the tasks here or in other
processes, and writes the parts.
"""

import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from atlas.errors import BadInput, Locked, Missing, RequestError, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import Manifest, Part, unwritten_part, write_part
from atlas.progress import SILENT, Progress, Stage
from atlas.results import Result, Results
from atlas.temp_storage import scratch

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.api import Atlas

__all__ = [
    "INPUTS",
    "Found",
    "Study",
    "Task",
    "Workplace",
    "check_inputs",
    "check_saes",
    "computed",
    "run_study",
]

INPUTS = {
    "codes": "`atlas ingest --keep-codes --replace` stores them",
    "match": "`atlas match` computes it",
    "graph": "`atlas communities` computes it",
    "probe": "`atlas probe` computes it",
}
"""Command that computes each kind of part; parts of other kinds are written by every ingest."""


#: Seconds between two reports of how many tasks are done.
_SILENCE = 10.0


@dataclass(frozen=True)
class Task:
    """One task of a study, whose result is one part.

    Parameters
    ----------
    name
        Name of the part.
    saes
        SAEs that the part describes.
    settings
        Settings of this task.
    made_from
        Keys of its input parts, ``kind/name``; the result is stale once one changes.
    reads
        Keys of further input parts, such as codes, that may be removed later.
    recorded
        Values that the manifest stores in addition to the settings.
    omitted
        Names of settings that the manifest does not store.
    group
        Tasks of one group are computed together.
    """

    name: str
    saes: tuple[str, ...]
    settings: Any
    made_from: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    recorded: Mapping[str, Any] = field(default_factory=dict)
    omitted: tuple[str, ...] = ()
    group: str = ""

    @property
    def stored_settings(self) -> dict[str, Any]:
        """The settings as the manifest stores them."""
        stored = asdict(self.settings)
        return {k: v for k, v in stored.items() if k not in self.omitted} | dict(self.recorded)

    @property
    def title(self) -> str:
        """Name of the task in messages."""
        return " and ".join(self.saes) or self.name


@dataclass(frozen=True)
class Found:
    """The result of a task: the tables of its part, and further entries of the manifest."""

    tables: "Iterable[tuple[str, pa.Table]]"
    sources: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None


class Workplace:
    """The environment of a task: the atlas, a scratch folder and the progress.

    Parameters
    ----------
    folder
        The folder of the atlas; None if the atlas is on a server.
    sound
        Sound parts of the atlas; none on a server.
    scratch
        An empty folder, removed at the end.
    progress
        Reports progress.
    server
        The open atlas, if it is on a server; only studies with an optional part support it.
    obstacle
        Reason why results cannot be stored, as a clause; None if they can.
    """

    def __init__(
        self,
        folder: Folder | None,
        sound: Sound,
        scratch: Path,
        progress: Progress,
        *,
        server: "Atlas | None" = None,
        obstacle: str | None = None,
    ) -> None:
        self._folder = folder
        self.sound = sound
        self.scratch = scratch
        self.progress = progress
        self.obstacle = obstacle
        self._server = server

    @property
    def on_server(self) -> bool:
        """Whether the atlas is on a server, which stores no parts and no codes."""
        return self._folder is None

    @property
    def folder(self) -> Folder:
        """The folder of the atlas.

        Raises
        ------
        RequestError
            If the atlas is on a server.
        """
        if self._folder is None:
            raise RequestError(
                f"{self.atlas.url} is a server; select the folder of the atlas instead."
            )
        return self._folder

    @cached_property
    def atlas(self) -> "Atlas":
        """The atlas, open for reading tables, in a folder or on a server."""
        from atlas.api import Atlas

        if self._server is not None:
            return self._server
        return Atlas(str(self.folder.path), folder=self.folder, progress=self.progress)


class Study(ABC):
    """Base class of studies: defines the tasks, computes one, and interprets its result."""

    kind: ClassVar[str]
    """Kind of the parts that store its results."""
    version: ClassVar[int]
    """Version of the computation; increase it when the same inputs give other tables."""
    optional_part: ClassVar[bool] = False
    """Whether results are also returned where they cannot be stored.

    Results cannot be stored on a server, in a folder that another process writes, and in a
    read-only folder.
    """

    @contextmanager
    def opening(self, path: Path) -> Iterator[Folder]:
        """Open the atlas and hold its write lock.

        A study that can create an atlas overrides this.
        """
        folder = Folder.open(path)
        with folder.writing():
            yield folder

    @abstractmethod
    def tasks(self, at: Workplace, saes: Sequence[str] | None) -> Sequence[Task]:
        """Return the tasks: one for each part.

        Parameters
        ----------
        at
            The atlas.
        saes
            Names of SAEs; all that can be used, if None.
        """

    def check(self, tasks: Sequence[Task], at: Workplace) -> None:  # noqa: B027 - optional
        """Check the inputs before any computation.

        Parameters
        ----------
        tasks
            The tasks that will be computed; none if all are stored.
        at
            The atlas.
        """

    def run(self, task: Task, at: Workplace) -> Found:
        """Compute one task."""
        raise NotImplementedError(f"The study {self.kind} has neither run nor run_group.")

    def groups(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Return the tasks in groups that are computed together, such as by one run of a model."""
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.group or task.name, []).append(task)
        return list(groups.values())

    def run_group(self, tasks: Sequence[Task], at: Workplace) -> "Iterator[tuple[Task, Found]]":
        """Compute the tasks of a group; each is stored as soon as it is yielded."""
        for task in tasks:
            yield task, self.run(task, at)

    @abstractmethod
    def result(self, part: Part) -> Result:
        """Return the result that a part stores."""

    def is_current(self, part: Part, task: Task) -> bool:
        """Return whether a sound part is what the task would compute."""
        stored = part.manifest
        return (
            stored.version == self.version
            and dict(stored.settings) == _as_json(task.stored_settings)
            and set(stored.made_from) == set(task.made_from)
        )


def run_study(
    study: Study,
    atlas: "str | Path | Atlas",
    saes: Sequence[str] | None = None,
    *,
    replace: bool = False,
    keep: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Run a study on an atlas; stored results are read, not computed again.

    Parameters
    ----------
    study
        The study.
    atlas
        The folder of the atlas; a study with an optional part also accepts a server.
    saes
        Names of SAEs; all that the study can use, if None.
    replace
        Recompute results that are stored with the same settings.
    keep
        Return results that are stored with other settings, instead of replacing them.
    workers
        Number of worker processes; 0 computes in this process. Results do not depend on it.
    ray
        Address of a Ray cluster that computes the tasks instead of local processes; its
        machines must see the folder under the same path.
    progress
        Reports progress.

    Returns
    -------
    A result for each task.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If an input part of a task is missing.
    Locked
        If another process writes into the folder, unless the part is optional.
    """
    with _workplace(study, atlas, progress) as at:
        tasks = _tasks(study, at, saes)
        parts = {t.name: _stored(study, t, at, replace=replace, keep=keep) for t in tasks}
        missing = [task for task in tasks if parts[task.name] is None]
        study.check(missing, at)
        todo = study.groups(missing)
        if todo and at.obstacle is not None:
            progress.report(f"{at.obstacle}, so the results are not stored.")
        for task, found in computed(study, todo, at, workers=workers, ray=ray):
            parts[task.name] = _part(study, task, found, at)
    return Results([study.result(part) for part in parts.values() if part is not None])


def check_saes(sound: Sound, saes: Sequence[str]) -> list[str]:
    """Return names of SAEs without repetitions.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    """
    for name in saes:
        if name not in sound.saes:
            raise UnknownName("SAE", name, known=sound.saes, hint="`atlas list` shows them.")
    return list(dict.fromkeys(saes))


def check_inputs(keys: Iterable[str], sound: Sound, *, what: str) -> None:
    """Check that parts are stored and sound.

    Raises
    ------
    Missing
        If a part is missing; the message names the command that computes it.
    """
    for key in keys:
        if key not in sound.parts:
            kind, _, name = key.partition("/")
            remedy = INPUTS.get(kind, "`atlas ingest --replace` computes it")
            state = f"stale ({sound.stale[key]})" if key in sound.stale else "missing"
            raise Missing(f"{what} needs the {kind} of {name}, which is {state}; {remedy}.")


def usable_saes(
    sound: Sound, kinds: Sequence[str], *, what: str, progress: Progress
) -> Iterator[str]:
    """Yield the SAEs that have parts of all these kinds; report skipped SAEs.

    Raises
    ------
    BadInput
        If no SAE has them.
    """
    any_usable = False
    for name in sound.saes:
        missing = [kind for kind in kinds if f"{kind}/{name}" not in sound.parts]
        if missing:
            remedy = INPUTS.get(missing[0], "`atlas ingest --replace` computes it")
            progress.report(f"Skipped {name}: it has no {' and no '.join(missing)}; {remedy}.")
        else:
            any_usable = True
            yield name
    if not any_usable:
        raise BadInput(f"{what} needs an SAE with {' and '.join(kinds)}; this atlas has none.")


def computed(
    study: Study,
    groups: Sequence[Sequence[Task]],
    at: Workplace,
    *,
    workers: int = 0,
    ray: str | None = None,
) -> "Iterator[tuple[Task, Found]]":
    """Yield each task with its result, computed in this process or by workers."""
    if len(groups) > 1 and (workers or ray is not None):
        yield from _computed_by_workers(study, groups, at, workers=workers, ray=ray)
        return
    began = reported = time.monotonic()
    for number, group in enumerate(groups):
        yield from study.run_group(group, at)
        now = time.monotonic()
        if number + 1 < len(groups) and now - reported > _SILENCE:
            rest = (now - began) / (number + 1) * (len(groups) - number - 1)
            at.progress.report(
                f"{study.kind}: {number + 1} of {len(groups)} done, about {rest / 60:.1f} minutes remain."
            )
            reported = now


def _computed_by_workers(
    study: Study, groups: Sequence[Sequence[Task]], at: Workplace, *, workers: int, ray: str | None
) -> Iterator[tuple[Task, Found]]:
    """Yield each task with its result, in the order of the groups.

    A worker opens the folder itself and returns tables. Only the process that holds the lock
    writes parts, so they do not depend on the worker. The study must be picklable.
    """
    work = [(study, list(group), at.folder.path) for group in groups]
    with at.progress.stage(f"{study.kind} on workers", total=len(work), unit="groups") as stage:
        if ray is not None:
            yield from _on_ray(work, ray, stage)
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(work)), mp_context=spawn) as pool:
            for done in pool.map(_compute, work):
                yield from done
                stage.advance()


def _on_ray(work: Sequence[Any], address: str, stage: Stage) -> Iterator[tuple[Task, Found]]:
    try:
        import ray
    except ImportError:
        raise Missing(
            "Ray is not installed; run `pip install 'feature-atlas[ray]'`, or use --workers instead."
        ) from None
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    remote = ray.remote(_compute)
    for answer in [remote.remote(item) for item in work]:
        yield from ray.get(answer)
        stage.advance()


def _compute(work: tuple[Study, list[Task], Path]) -> list[tuple[Task, Found]]:
    study, tasks, path = work
    folder = Folder.open(path)
    with TemporaryDirectory(prefix=f"atlas-{study.kind}-") as room:
        at = Workplace(folder, folder.sound(), Path(room), SILENT)
        return [
            (task, replace(found, tables=list(found.tables)))
            for task, found in study.run_group(tasks, at)
        ]


@contextmanager
def _workplace(
    study: Study, atlas: "str | Path | Atlas", progress: Progress
) -> Iterator[Workplace]:
    """Yield the environment of a study.

    This is a locked folder; for a study with an optional part, also a server or a folder that
    cannot be written.
    """
    from atlas.api import Atlas
    from atlas.stores.opening import is_server

    with ExitStack() as stack:
        if not isinstance(atlas, Atlas) and study.optional_part and is_server(str(atlas)):
            atlas = stack.enter_context(Atlas.open(str(atlas), progress=progress))
        if isinstance(atlas, Atlas) and atlas.folder is None:
            if not study.optional_part:
                raise RequestError(
                    f"{atlas.url} is a server; select the folder of the atlas instead."
                )
            room = Path(stack.enter_context(TemporaryDirectory(prefix=f"atlas-{study.kind}-")))
            reason = f"{atlas.url} is a server"
            yield Workplace(None, Sound({}), room, progress, server=atlas, obstacle=reason)
            return
        path = Path(atlas.url if isinstance(atlas, Atlas) else atlas)
        obstacle = None
        try:
            folder = stack.enter_context(study.opening(path))
            room = stack.enter_context(scratch(folder, study.kind))
        except (Locked, OSError) as error:
            if not study.optional_part:
                raise
            folder = Folder.open(path)
            room = Path(stack.enter_context(TemporaryDirectory(prefix=f"atlas-{study.kind}-")))
            obstacle = (
                f"Another process is writing {folder.path}"
                if isinstance(error, Locked)
                else f"No file can be written in {folder.path}"
            )
        yield Workplace(folder, folder.sound(), room, progress, obstacle=obstacle)


def _tasks(study: Study, at: Workplace, saes: Sequence[str] | None) -> list[Task]:
    """Return the tasks of a study, and check that their inputs are stored."""
    tasks = list(study.tasks(at, saes))
    if at.on_server:
        return [replace(task, made_from=(), reads=()) for task in tasks]
    for task in tasks:
        keys = [*task.made_from, *task.reads]
        check_inputs(keys, at.sound, what=f"The {study.kind} of {task.title}")
    return tasks


def _stored(study: Study, task: Task, at: Workplace, *, replace: bool, keep: bool) -> Part | None:
    """Return the stored part of a task; None if it must be computed."""
    part = at.sound.parts.get(f"{study.kind}/{task.name}")
    if part is None or replace or part.manifest.version != study.version:
        return None
    stored = f"The {study.kind} of {task.title} is already stored with"
    if study.is_current(part, task):
        at.progress.report(f"{stored} the same settings.")
        return part
    replaced = "" if keep or at.obstacle else "; it is replaced"
    at.progress.report(f"{stored} other settings{replaced}.")
    return part if keep else None


def _part(study: Study, task: Task, found: Found, at: Workplace) -> Part:
    """Store the result of a task as a part; in memory only if it cannot be written."""
    manifest = Manifest(
        kind=study.kind,
        name=task.name,
        version=study.version,
        saes=task.saes,
        settings=task.stored_settings,
        seed=found.seed if found.seed is not None else getattr(task.settings, "seed", None),
        sources=found.sources,
        dtypes=found.dtypes,
        made_from={key: at.sound.parts[key].manifest.hash for key in task.made_from},
    )
    if at.obstacle is not None:
        return unwritten_part(manifest, found.tables)
    return write_part(at.folder.part(study.kind, task.name), manifest, found.tables)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as read from a manifest, with tuples as lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
