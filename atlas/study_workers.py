"""Tasks of a study shared by several processes, on this machine or on a Ray cluster.

A worker opens the folder itself, computes a group of tasks and returns the tables; only the
process that holds the lock writes parts. So the parts are the same whoever computed them.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atlas.errors import Missing
from atlas.folder import Folder
from atlas.progress import SILENT, Stage
from atlas.study import Found, Study, Task, Workplace

__all__ = ["computed_by_workers"]


def computed_by_workers(
    study: Study, groups: Sequence[Sequence[Task]], at: Workplace, *, workers: int, ray: str | None
) -> Iterator[tuple[Task, Found]]:
    """Yield each task with what it found, in the order of the groups.

    Parameters
    ----------
    study
        The study; it must be picklable, so it holds names of models and not models.
    groups
        The tasks that are computed together.
    at
        The atlas.
    workers
        Processes on this machine, if ``ray`` is None.
    ray
        Address of a Ray cluster.

    Raises
    ------
    Missing
        If Ray is not installed.
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
            "Ray is not installed; `pip install 'feature-atlas[ray]'` installs it, and --workers needs none."
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
