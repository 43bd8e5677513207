"""The study of graph matching, which stores one part per ordered pair of SAEs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from analysis.graph_matching.report import check_chosen_on, counterparts
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.stored_report import report_of, tables_of
from atlas.api import Atlas
from atlas.errors import BadInput
from atlas.parts import Part
from atlas.progress import SILENT, Progress
from atlas.results import Result, Results
from atlas.study import (
    Found,
    Study,
    Task,
    TaskContext,
    check_saes,
    usable_saes,
)
from atlas.study_runner import run_study

__all__ = ["GraphMatchingStudy", "find_counterparts", "report_of_result"]

_INPUTS = ("sae", "tokens", "coactivation")


@dataclass(frozen=True)
class GraphMatchingStudy(Study):
    """Find the counterparts of the features of one SAE in another by graph structure.

    A part stores one ordered pair: the counterparts of A's features in B.

    Parameters
    ----------
    settings
        Settings of the matching.
    """

    kind: ClassVar[str] = "graph_matching"
    version: ClassVar[int] = 1
    optional_part: ClassVar[bool] = True

    settings: GraphMatchingSettings

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair of SAEs, in the order of selection.

        Raises
        ------
        UnknownName
            If the atlas has no SAE of a name.
        BadInput
            If fewer than two SAEs are selected, an SAE is repeated, or settings are chosen on the
            same pair.
        """
        if saes is None:
            kinds = (*_INPUTS, "codes")
            saes = list(usable_saes(at.sound, kinds, what="A matching", progress=at.progress))
        check_saes(at.sound, saes)
        if len(set(saes)) < max(len(saes), 2):
            twice = sorted(n for n in {*saes} if list(saes).count(n) > 1)
            raise BadInput(
                f"{twice[0]} was named twice; select two different SAEs. "
                "Run `atlas list` to see the SAEs of the atlas."
                if twice
                else f"Counterparts are searched between two SAEs or more; {len(saes)} was selected."
            )
        if self.settings.chosen_on is not None:
            check_saes(at.sound, self.settings.pair)
        return [self._task(a, b) for a, b in combinations(saes, 2)]

    def run(self, task: Task, at: TaskContext) -> Found:
        """Find the counterparts of one pair."""
        a, b = task.saes
        found = counterparts(at.folder, a, b, settings=task.settings, progress=at.progress)
        return Found(tables_of(found).items())

    def result(self, part: Part) -> Result:
        """Return the sizes and settings, with recalls, gains and agreements as tables."""
        return _result({name: part.table(name) for name in part.manifest.tables})

    def _task(self, a: str, b: str) -> Task:
        check_chosen_on(a, b, self.settings)
        read = dict.fromkeys([a, b, *(self.settings.pair if self.settings.chosen_on else ())])
        return Task(
            f"{a}+{b}", (a, b), self.settings,
            made_from=tuple(f"{kind}/{name}" for name in read for kind in _INPUTS),
            reads=tuple(f"codes/{name}" for name in read),
        )  # fmt: skip


def find_counterparts(
    atlas: str | Path | Atlas,
    saes: Sequence[str] | None = None,
    *,
    settings: GraphMatchingSettings = GraphMatchingSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Find the counterparts of the features of SAEs in other SAEs by graph structure.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two or more SAEs. For each pair in this order, counterparts of the features of the
        first are searched in the second. Default: all SAEs with stored codes.
    settings
        Settings of the matching.
    replace
        Recompute results that are stored with these settings.
    progress
        Progress reporter.

    Returns
    -------
    A result for each pair, with tables of recalls (``methods``), gains and agreements.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the codes of an SAE are not stored.
    Mismatch
        If the graphs have different numbers of features per token (k).
    BadInput
        If an SAE is repeated, there are too few documents, no match is significant under both
        nulls, or settings are chosen on the same pair.
    """
    study = GraphMatchingStudy(settings)
    return run_study(study, atlas, saes, replace=replace, progress=progress)


def report_of_result(result: Result) -> dict[str, object]:
    """Return the complete report of a result, as printed by `atlas counterparts --json`."""
    return report_of(result.table)


def _result(tables: dict[str, pa.Table]) -> Result:
    found = report_of(tables.__getitem__)

    summary = {
        name: found[name]
        for name in ("a", "b", "repeats", "truth", "left_out", "table_share", "min_count")
    }
    return Result(
        GraphMatchingStudy.kind, f"{found['a']}+{found['b']}", summary, verdict=found["sentences"],
        tables=(tables, tables.__getitem__),
    )  # fmt: skip
