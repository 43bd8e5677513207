"""The SAEs that a study uses if none is named: the first that it can use, or the first pair."""

from collections.abc import Sequence
from dataclasses import dataclass

from atlas.amounts import listed
from atlas.plugins import ALL
from atlas.progress import SILENT
from atlas.studies.floors import is_floor
from atlas.studies.study import Study, Task, TaskContext

__all__ = ["Unnamed", "unnamed_saes"]

_MOST = 8
"""Number of other SAEs that a message names."""


@dataclass(frozen=True)
class Unnamed:
    """The SAEs of a study for which no SAE was named.

    Parameters
    ----------
    saes
        Names of the SAEs that are used.
    others
        Names of the other SAEs of the tasks of the study, without tasks that were skipped.
    """

    saes: tuple[str, ...]
    others: tuple[str, ...]

    def __str__(self) -> str:
        pair = len(self.saes) > 1
        first = f"{' and '.join(self.saes)} ({'the first pair' if pair else 'the first'})"
        return (
            f"No SAE was named, so {first} {'are' if pair else 'is'} used. Others: {listed(self.others, _MOST)}. "
            f"For all, pass `saes='{ALL}'`."
        )


def unnamed_saes(study: Study, at: TaskContext) -> Unnamed | None:
    """Return the SAEs that a study uses if none is named.

    These are the SAEs of its first task. Preferred are tasks whose inputs are stored, then trained
    SAEs instead of floors, then pairs of one model and site.

    Parameters
    ----------
    study
        The study.
    at
        The atlas.

    Returns
    -------
    None if the study uses all SAEs, if there is only one SAE or pair, or if none can be used.
    """
    number = study.unnamed
    if not number:
        return None
    choices: dict[tuple[str, ...], Task] = {}
    for task in _tasks_of_all(study, at):
        choices.setdefault(task.saes[:number], task)
    if len(choices) < 2:
        return None
    rows = at.sound.sae_rows

    def rank(task: Task) -> tuple[bool, bool, bool]:
        known = [rows[name] for name in task.saes[:number] if name in rows]
        missing = any(key not in at.sound.parts for key in (*task.made_from, *task.reads))
        sites = {(row["model"], row["hook"]) for row in known}
        return missing and not at.on_server, any(map(is_floor, known)), len(sites) > 1

    # Whether a task can be computed may need the weights of its SAEs, so not all are examined.
    skipped: set[tuple[str, ...]] = set()
    for task in sorted(choices.values(), key=rank):
        reason = study.unavailable([task], at).get(task.name)
        if reason is None:
            first = task.saes[:number]
            every = dict.fromkeys(n for names in choices if names not in skipped for n in names)
            return Unnamed(first, tuple(name for name in every if name not in first))
        skipped.add(task.saes[:number])
        at.progress.report(f"Skipped {task.title}: {reason}")
    return None


def _tasks_of_all(study: Study, at: TaskContext) -> Sequence[Task]:
    """Return the tasks of all SAEs; messages about them are discarded."""
    progress, at.progress = at.progress, SILENT
    try:
        return study.tasks(at, None)
    finally:
        at.progress = progress
