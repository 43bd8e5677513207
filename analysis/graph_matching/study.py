"""The study of graph matching, which stores one part per ordered pair of SAEs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from analysis.graph_matching.evaluate import METHODS
from analysis.graph_matching.forecast import matching_cost
from analysis.graph_matching.ranks import MEASURES
from analysis.graph_matching.report import check_chosen_on, counterparts
from analysis.graph_matching.settings import GraphMatchingSettings
from atlas.api import Atlas
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import (
    Found,
    Study,
    Task,
    TaskContext,
    check_saes,
    usable_saes,
)

__all__ = ["GraphMatchingStudy", "find_counterparts", "report_of", "report_of_result", "tables_of"]

_TEXT, _INTEGER, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(text: str = "", integer: str = "", real: str = "") -> pa.Schema:
    """Return a schema from comma-separated column names of each type."""
    kinds = ((text, _TEXT), (integer, _INTEGER), (real, _REAL))
    return pa.schema([(n.strip(), kind) for names, kind in kinds for n in names.split(",") if n])


_SCORES = ",".join(f"{name},{name} low,{name} high" for name in MEASURES)
_METHOD = (
    ("standard", _TEXT),
    ("depth", _INTEGER),
    ("walks", _INTEGER),
    ("rounds", _INTEGER),
    ("prior", _REAL),
    ("doubt", _REAL),
    ("most", _INTEGER),
)

#: Schemas of the tables of a report.
_SCHEMAS = {
    "graphs": _schema("side", "repeat,tokens,live,edges,isolates"),
    "methods": _schema("method", "repeats", f"share,anchors,queries,candidates,coverage,{_SCORES}"),
    "by_anchors": _schema("", "", f"share,anchors,{_SCORES}"),
    "by_frequency": _schema(
        "method", "bin,active from,to,queries", "frequency alone,gain,low,high"
    ),
    "agreement": _schema(
        "one,two", "", "same_first,by_chance,both_right,both_right_if_independent"
    ),
    "faq": _schema(
        "",
        "repeats",
        "share,nodes,anchors,chance,faq,faq least,faq most,matching,matching least,matching most",
    ),
}
_CHOSEN = _schema("what,standard", "depth,walks", "prior,mrr")
_SUMMARY = pa.schema(
    [
        ("a", _TEXT),
        ("b", _TEXT),
        ("seed", _INTEGER),
        ("draws", _INTEGER),
        ("min_count", _INTEGER),
        ("repeats", _INTEGER),
        ("truth", pa.list_(_INTEGER)),
        ("left_out", pa.list_(_INTEGER)),
        ("table_share", _REAL),
        ("chosen_on", pa.list_(_TEXT)),
        *_METHOD,
        ("sentences", pa.list_(_TEXT)),
    ]
)


def tables_of(found: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Convert a report to tables.

    Parameters
    ----------
    found
        A report; see ``analysis.graph_matching.report``.
    """
    chosen = found["chosen"] or {"on": None, "tried": []}
    summary = {name: found[name] for name in _SUMMARY.names if name in found}
    summary |= {"chosen_on": chosen["on"], **found["settings"]}
    tables = {
        name: pa.Table.from_pylist(found[name], schema=schema) for name, schema in _SCHEMAS.items()
    }
    tables["chosen"] = pa.Table.from_pylist(chosen["tried"], schema=_CHOSEN)
    tables["summary"] = pa.Table.from_pylist([summary], schema=_SUMMARY)
    return tables


def report_of(table: Callable[[str], pa.Table]) -> dict[str, Any]:
    """Read a report from its tables.

    Parameters
    ----------
    table
        Function that returns a table by name.
    """
    summary: dict[str, Any] = table("summary").to_pylist()[0]
    on = summary.pop("chosen_on")
    settings = {name: summary.pop(name) for name, _ in _METHOD}
    tried = [
        {name: value for name, value in row.items() if value is not None}
        for row in table("chosen").to_pylist()
    ]
    return summary | {
        "settings": settings,
        "chosen": None if on is None else {"on": on, "tried": tried},
        "meaning": METHODS,
        **{name: table(name).to_pylist() for name in _SCHEMAS},
    }


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
    command: ClassVar[str] = "match-graphs"
    version: ClassVar[int] = 1
    part_names: ClassVar[str] = "`a+b`, counterparts of the features of a in b"
    tables: ClassVar[Mapping[str, str]] = {
        "methods": "recalls and gains of each method",
        "by_anchors": "recalls by number of anchors",
        "by_frequency": "recalls by frequency",
        "agreement": "agreement of methods",
        "faq": "recalls of seeded graph matching",
        "graphs": "sizes",
        "chosen": "candidate settings",
        "summary": "settings and conclusions",
    }
    optional_part: ClassVar[bool] = True

    settings: GraphMatchingSettings

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One pair is used if no SAE is named."""
        return 2

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

    def forecast(self, task: Task, at: TaskContext) -> Cost | None:
        """Return the cost of one pair, from one share of anchors of one repeat."""
        return matching_cost((task.saes[0], task.saes[1]), task.settings, at)

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
            f"{a}+{b}",
            (a, b),
            self.settings,
            made_from=tuple(f"{kind}/{name}" for name in read for kind in _INPUTS),
            reads=tuple(f"codes/{name}" for name in read),
        )


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
        first are searched in the second. ``"all"`` for all SAEs with stored codes. Default: the
        first pair.
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

    Examples
    --------
    >>> from analysis import GraphMatchingSettings, find_counterparts
    >>> settings = GraphMatchingSettings(anchors=(0.1,), repeats=1, rounds=1)
    >>> (result,) = find_counterparts("demo.atlas", ["tiny-a-l1-s0", "tiny-a-l1-s1"], settings=settings)
    >>> "methods" in result.tables
    True
    """
    study = GraphMatchingStudy(settings)
    return run_study(study, atlas, saes, replace=replace, progress=progress)


def report_of_result(result: Result) -> dict[str, object]:
    """Return the complete report of a result, as printed by `atlas match-graphs --json`."""
    return report_of(result.table)


def _result(tables: dict[str, pa.Table]) -> Result:
    found = report_of(tables.__getitem__)

    summary = {
        name: found[name]
        for name in ("a", "b", "repeats", "truth", "left_out", "table_share", "min_count")
    }
    return Result(
        GraphMatchingStudy.kind,
        f"{found['a']}+{found['b']}",
        summary,
        verdict=found["sentences"],
        tables=(tables, tables.__getitem__),
    )
