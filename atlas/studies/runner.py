"""Run a study: lock the folder, check inputs, skip stored results, compute, write parts."""

import shlex
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from atlas.amounts import listed
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Manifest, Part, unwritten_part, write_part
from atlas.disk.temp_storage import scratch
from atlas.errors import BadInput, Locked, Mismatch, RequestError
from atlas.plugins import ALL
from atlas.progress import SILENT, Progress, Stage, report_remark
from atlas.ray_connection import connected
from atlas.studies.collected_provenance import collect
from atlas.studies.floor_values import add_floor_values, no_floor_is_stated
from atlas.studies.floors import floor_parts, floors_of, is_floor, role_shown, stored_floors
from atlas.studies.forecast import Forecast
from atlas.studies.provenance import provenance_of
from atlas.studies.results import Result, Results
from atlas.studies.settings import declared_settings
from atlas.studies.study import Found, Study, Task, TaskContext, check_inputs
from atlas.studies.unnamed import unnamed_saes
from atlas.studies.workers import worker_answers

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["computed", "run_locked", "run_study"]

_MOST_PAIRS = 3
"""Number of commands for pairs with a floor that a message names."""


def run_study(
    study: Study,
    atlas: "str | Path | Atlas",
    saes: Sequence[str] | None = None,
    *,
    replace: bool = False,
    reuse: bool = False,
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
        Names of SAEs, or one name. If none is named, the first SAE that the study can use, or the
        first pair (see ``atlas.studies.unnamed``). ``"all"`` for all that the study can use.
    replace
        Recompute results that are stored with the same settings.
    reuse
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
    A result for each task, then the stored results of this study for the floors of its SAEs; these
    have ``floor`` true, the keys ``role`` and ``floor_of`` in their summary, and a sentence more.
    ``others`` has the names of the SAEs that are not used because none was named.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If an input part of a task is missing.
    Locked
        If another process writes into the folder, unless the part is optional.
    """
    every = isinstance(saes, str) and saes == ALL
    if isinstance(saes, str):  # which is a sequence of letters
        saes = None if every else (saes,)
    for name in saes or ():
        if not isinstance(name, str):
            raise BadInput(f"An SAE is {name!r}; expected its name.")
    with _environment(study, atlas, progress) as at:
        unnamed = unnamed_saes(study, at) if saes is None and not every else None
        if unnamed is not None:
            at.progress.report(str(unnamed))
            saes = unnamed.saes
        parts = _run(study, at, saes, replace=replace, reuse=reuse, workers=workers, ray=ray)
        found = _results(study, parts, at)
        rows = stored_floors(at.sound) if parts and study.floors != "none" else []
        floors, missing = _floors(study, parts, at, rows)
        found.extend(floors)
        others = add_floor_values(study, found, rows)
        if missing:
            how = _how_to_compare(study, parts, rows, missing)
            stated = any(no_floor_is_stated(result) for result in found)
            absent = f"The atlas has floors without this result: {', '.join(missing)}. "
            report_remark(at.progress, how if stated else absent + how)
        if others:
            report_remark(at.progress, _how_to_equal_settings(study, others))
        found.others = unnamed.others if unnamed is not None else ()
        collect(found)
        return found


def run_locked(
    study: Study,
    folder: Folder,
    saes: Sequence[str] | None = None,
    *,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Run a study in a folder whose write lock is held, such as within another study.

    Parameters
    ----------
    study
        The study.
    folder
        The folder of the atlas; the caller holds its lock.
    saes, replace, progress
        See ``run_study``.

    Returns
    -------
    A result for each task.
    """
    with scratch(folder, _scratch_name(study)) as room:
        at = TaskContext(folder, folder.sound(), room, progress)
        return _results(study, _run(study, at, saes, replace=replace), at)


def _run(
    study: Study,
    at: TaskContext,
    saes: Sequence[str] | None,
    *,
    replace: bool = False,
    reuse: bool = False,
    workers: int = 0,
    ray: str | None = None,
) -> list[Part]:
    """Run the tasks that are not stored, and return the parts of all."""
    tasks = _tasks(study, at, saes)
    parts = {t.name: _stored(study, t, at, replace=replace, reuse=reuse) for t in tasks}
    missing = [task for task in tasks if parts[task.name] is None]
    if saes is None:
        missing = _without_unavailable(study, missing, at, needed=len(missing) == len(tasks))
    study.check(missing, at)
    todo = study.groups(missing)
    if todo and at.obstacle is not None:
        at.progress.report(f"{at.obstacle}, so the results are not stored.")
    with study.computing() if todo else nullcontext():
        forecast = _forecast(study, todo, at, processes=workers if ray is None else 1)
        # Closed, so that workers end before their scratch folder is removed.
        with closing(
            computed(study, todo, at, workers=workers, ray=ray, forecast=forecast)
        ) as results:
            for task, found in results:
                parts[task.name] = _part(study, task, found, at)
    return [part for part in parts.values() if part is not None]


def _without_unavailable(
    study: Study, tasks: Sequence[Task], at: TaskContext, *, needed: bool
) -> list[Task]:
    """Return the tasks that can be computed, and report the others.

    If a task is needed and none can be computed, the error of the first is raised.
    """
    skipped = study.unavailable(tasks, at) if tasks else {}
    rest = [task for task in tasks if task.name not in skipped]
    if needed and skipped and not rest:
        raise next(iter(skipped.values()))
    for task in tasks:
        if task.name in skipped:
            at.progress.report(f"Skipped {task.title}: {skipped[task.name]}")
    return rest


def _results(study: Study, parts: Sequence[Part], at: TaskContext) -> Results:
    results = Results([study.result(part) for part in parts])
    for result, part in zip(results, parts, strict=True):
        result.atlas, result.saes = at.url, part.manifest.saes
        result.settings = part.manifest.settings
        result.provenance = provenance_of(part, at)
        study.complete(result, at)
    return results


def _scratch_name(study: Study) -> str:
    """Return the name of a scratch folder, which differs from those of the views ``graph-*``."""
    return f"study-{study.kind}"


def computed(
    study: Study,
    groups: Sequence[Sequence[Task]],
    at: TaskContext,
    *,
    workers: int = 0,
    ray: str | None = None,
    forecast: Forecast | None = None,
) -> Generator[tuple[Task, Found], None, None]:
    """Yield each task with its result, computed in this process or by workers."""
    forecast = forecast or Forecast(
        study.command or study.kind, None, groups=len(groups), progress=at.progress
    )
    forecast.begin()
    if len(groups) > 1 and (workers or ray is not None):
        done: Iterable[Iterable[tuple[Task, Found]]] = _computed_by_workers(
            study, groups, at, workers=workers, ray=ray
        )
    else:
        done = (_group_computed(study, group, at) for group in groups)
    for number, group in enumerate(done):
        for task, result in enumerate(group):
            forecast.task_done(number, task)
            yield result
        forecast.group_done()


def _forecast(
    study: Study, groups: Sequence[Sequence[Task]], at: TaskContext, *, processes: int
) -> Forecast | None:
    """Return the forecast of a study; None if nobody reads it or the atlas has no folder."""
    if not groups or at.on_server or at.progress is SILENT:
        return None
    return Forecast.measured(
        study.command or study.kind,
        lambda number: study.forecast_group(groups[number], at),
        sizes=[len(group) for group in groups],
        least=study.forecasts,
        processes=processes,
        progress=at.progress,
    )


def _computed_by_workers(
    study: Study,
    groups: Sequence[Sequence[Task]],
    at: TaskContext,
    *,
    workers: int,
    ray: str | None,
) -> Iterator[list[tuple[Task, Found]]]:
    """Yield the tasks of each group with their results.

    A worker opens the folder itself and returns tables. Only the process that holds the lock
    writes parts, so they do not depend on the worker. The study must be picklable.
    """
    study.release()
    scratch = at.scratch if ray is None else None  # Ray may compute on another machine
    work = [(study, list(group), at.folder.path, scratch) for group in groups]
    with at.progress.stage(
        f"{study.command or study.kind} on workers", total=len(work), unit="groups"
    ) as stage:
        if ray is not None:
            yield from _on_ray(study, work, ray, stage)
            return
        for done in worker_answers(_compute, work, workers=workers):
            yield done
            stage.advance()


def _on_ray(
    study: Study, work: Sequence[Any], address: str, stage: Stage
) -> Iterator[list[tuple[Task, Found]]]:
    with connected(address) as (ray, _):
        available = ray.cluster_resources().get("GPU", 0) >= 1
        needed = study.needs_gpu(available=available)
        if needed and not available:
            raise Mismatch(
                f"`atlas {study.command or study.kind}` must run on a GPU, and the machines of this Ray "
                "cluster have none. Choose another `device`, or omit `ray`."
            )
        remote = ray.remote(num_cpus=1, num_gpus=int(needed))(_compute)
        # The driver's number of a GPU means nothing in a worker, which sees one GPU as the first.
        work = [(study.on_assigned_gpu(), *rest) for study, *rest in work] if needed else work
        for answer in [remote.remote(item) for item in work]:
            yield ray.get(answer)
            stage.advance()


def _compute(work: tuple[Study, list[Task], Path, Path | None]) -> list[tuple[Task, Found]]:
    study, tasks, path, scratch = work
    folder = Folder.open(path)
    with TemporaryDirectory(prefix=f"atlas-{study.kind}-", dir=scratch) as room, study.computing():
        at = TaskContext(folder, folder.sound(), Path(room), SILENT)
        return [
            (task, replace(found, tables=list(found.tables)))
            for task, found in _group_computed(study, tasks, at)
        ]


def _group_computed(
    study: Study, tasks: Sequence[Task], at: TaskContext
) -> Iterator[tuple[Task, Found]]:
    """Yield the tasks of a group with their results, which record the arithmetic."""
    for task, found in study.run_group(tasks, at):
        yield task, replace(found, versions={**study.arithmetic(), **found.versions})


@contextmanager
def _environment(
    study: Study, atlas: "str | Path | Atlas", progress: Progress
) -> Iterator[TaskContext]:
    """Yield the environment of a study.

    This is a locked folder; for a study with an optional part, also a server or a folder that
    cannot be written.
    """
    from atlas.api import Atlas
    from atlas.stores.opening import is_server

    if not isinstance(atlas, str | Path | Atlas):
        raise BadInput(f"The atlas is {atlas!r}; expected its folder, or an open `Atlas`.")
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
            yield TaskContext(None, Sound({}), room, progress, server=atlas, obstacle=reason)
            return
        path = Path(atlas.url if isinstance(atlas, Atlas) else atlas)
        obstacle = None
        try:
            folder = stack.enter_context(study.opening(path))
            room = stack.enter_context(scratch(folder, _scratch_name(study)))
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
        yield TaskContext(folder, folder.sound(), room, progress, obstacle=obstacle)


def _tasks(study: Study, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
    """Return the tasks of a study, and check that their inputs are stored."""
    tasks = list(study.tasks(at, saes))
    if at.on_server:
        return [replace(task, made_from=(), reads=()) for task in tasks]
    for task in tasks:
        keys = [*task.made_from, *task.reads]
        check_inputs(
            keys, at.sound, what=f"The study {study.command or study.kind} of {task.title}"
        )
    return tasks


def _stored(
    study: Study, task: Task, at: TaskContext, *, replace: bool, reuse: bool
) -> Part | None:
    """Return the stored part of a task; None if it must be computed."""
    part = at.sound.parts.get(f"{study.kind}/{task.name}")
    if part is None or replace or study.resumes or part.manifest.version != study.version:
        return None
    what = study.kind.replace("_", " ")
    many = what.endswith(("s", "spectra"))
    stored = f"The {what} of {task.title} {'are' if many else 'is'} already stored with"
    if study.is_current(part, task):
        at.progress.report(f"{stored} {_same(study, part, task)}.")
        return part
    replaced = f"; {'they are' if many else 'it is'} replaced"
    at.progress.report(
        f"{stored} {study.difference(part, task)}{'' if reuse or at.obstacle else replaced}."
    )
    return part if reuse else None


def _same(study: Study, part: Part, task: Task) -> str:
    """Return what a stored result that is read has in common with the task, and how to measure again."""
    draws = study.other_draws(part, task)
    if not draws:
        return "the same settings"
    numbers = [_number(value, name) for name, value in draws.items()]
    passed = [f"`{name}={getattr(task.settings, name)}`" for name in draws]
    return f"{' and '.join(numbers)}; {' '.join(passed)} measures again"


def _number(value: int, name: str) -> str:
    """Return a number of draws in words, such as ``10 draws``."""
    words = name.replace("_", " ")
    return f"{value:,} {words}" if words.endswith("s") else f"{words} {value:,}"


def _floors(
    study: Study, parts: Sequence[Part], at: TaskContext, rows: Sequence[dict[str, Any]]
) -> tuple[list[Result], Sequence[str]]:
    """Return the stored results for the floors of the SAEs, and the floors that have none."""
    by_name = {row["name"]: row for row in rows}
    if not rows:
        return [], []
    results = []
    found, missing = floor_parts(
        at.sound,
        parts,
        rows,
        first_only=study.floors == "first",
        any_order=study.sorted_pairs,
    )
    for _, part in sorted(found.items()):
        (result,) = _results(study, [part], at)
        floors = [by_name[sae] for sae in part.manifest.saes if is_floor(by_name[sae])]
        if not study.names_floors:
            sentences = [f"{row['name']} is a floor ({role_shown(row)})." for row in floors]
            result.verdict = (*sentences, *result.verdict)
        result.floor = True
        result.summary["role"] = "; ".join(str(role_shown(row)) for row in floors)
        result.summary["floor_of"] = "; ".join(row["floor_of"] or "" for row in floors)
        results.append(result)
    return results, missing


def _how_to_compare(
    study: Study, parts: Sequence[Part], rows: Sequence[Mapping[str, Any]], missing: Sequence[str]
) -> str:
    """Return how to compute the result for missing floors, as commands; for pairs, one for each pair."""
    pairs = []
    for saes in (part.manifest.saes for part in parts if len(part.manifest.saes) == 2):
        for i in range(1 if study.floors == "first" else 2):
            own = [name for name in floors_of(rows, saes[i]) if name in missing]
            pairs += [(*saes[:i], name, *saes[i + 1 :]) for name in own]
    if not pairs:
        return f"To compare, run with the same settings: {_command_of(study, missing)}."
    name = study.command or study.kind
    shown = [f"`atlas {name} {shlex.join(pair)}`" for pair in dict.fromkeys(pairs)]
    return f"To compare, run with the same settings: {listed(shown, _MOST_PAIRS)}."


def _how_to_equal_settings(
    study: Study, others: Sequence[tuple[Sequence[str], Result, Result]]
) -> str:
    """Return how to compute results of floors that have other settings again, with equal settings."""
    commands = []
    for names, result, floor in others:
        wanted, stored = result.settings, floor.settings
        passed = [
            f"`{one.name}={wanted[one.name]!r}`"
            for one in declared_settings(type(getattr(study, "settings", None)))
            if one.flag
            and one.name in wanted
            and not wanted[one.name] == one.default == stored.get(one.name)
        ]
        command = f"`atlas {study.command or study.kind} {shlex.join(names)}`"
        commands.append(f"{command} with {' '.join(passed)}" if passed else command)
    shown = listed(list(dict.fromkeys(commands)), _MOST_PAIRS)
    return f"To compare with the floor at equal settings, run {shown}."


def _command_of(study: Study, saes: Sequence[str]) -> str:
    """Return the typed command for other SAEs; in Python, the command of a study of single SAEs."""
    from atlas.plugins import study_commands

    name = study.command or study.kind
    command = study_commands().get(study.kind)
    if command is not None and (written := command.with_saes(saes)):
        return f"`{written}`"
    if command is None or command.example == f"atlas {name} A":
        return f"`atlas {name} {shlex.join(saes)}`"
    return f"the same study of {', '.join(saes)}"


def _part(study: Study, task: Task, found: Found, at: TaskContext) -> Part:
    """Store the result of a task as a part; in memory only if it cannot be written."""
    inputs = at.folder.sound().parts if found.made_from else at.sound.parts
    manifest = Manifest(
        kind=study.kind,
        name=task.name,
        version=study.version,
        saes=task.saes,
        settings=task.stored_settings,
        seed=found.seed if found.seed is not None else getattr(task.settings, "seed", None),
        sources=found.sources,
        dtypes=found.dtypes,
        versions=found.versions,
        made_from={key: inputs[key].manifest.hash for key in (*task.made_from, *found.made_from)},
    )
    if at.obstacle is not None:
        return unwritten_part(manifest, found.tables)
    return write_part(at.folder.part(study.kind, task.name), manifest, found.tables)
