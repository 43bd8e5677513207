"""The study of graph comparisons, which stores one part per pair of SAEs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import ClassVar, Literal

from analysis.graph.coactivation_graph import equal_scale
from analysis.graph_comparison.comparison import Comparison
from analysis.graph_comparison.forecast import comparison_cost
from analysis.graph_comparison.matched_features import read_partners
from analysis.graph_comparison.report import (
    check_names,
    check_some_matched,
    compare_pairs,
    conclude,
    unmatched,
)
from analysis.graph_comparison.settings import ComparisonSettings
from atlas.api import Atlas
from atlas.disk.folder import Sound
from atlas.disk.parts import Part
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, usable_saes
from ingest.codes.topk_membership import rule_of
from ingest.match.study import match_name

__all__ = ["GraphComparisonStudy", "compare_graphs", "comparison_of"]

_INPUTS = ("sae", "statistics", "coactivation")


@dataclass(frozen=True)
class GraphComparisonStudy(Study):
    """Compare the graphs of all pairs of SAEs at equal numbers of tokens.

    A part stores one pair in the order of selection, since the rows distinguish A and B.

    Parameters
    ----------
    settings
        Settings of the comparison.
    """

    kind: ClassVar[str] = "graph_comparison"
    command: ClassVar[str] = "compare-graphs"
    version: ClassVar[int] = 2
    part_names: ClassVar[str] = "`a+b`, the SAEs in the order of the command"
    tables: ClassVar[Mapping[str, str]] = {
        "rows": "each number with its controls",
        "curves": "distribution functions of degree and clustering",
        "summary": "tokens, notes and conclusion",
    }
    optional_part: ClassVar[bool] = True

    settings: ComparisonSettings

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One pair is used if no SAE is named."""
        return 2

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair.

        Raises
        ------
        BadInput
            If fewer than two SAEs are selected.
        UnknownName
            If the atlas has no SAE of a name.
        Missing
            If no pair of them is matched.
        """
        if saes is None and at.on_server:
            saes = at.atlas.saes
        elif saes is None:
            saes = list(usable_saes(at.sound, _INPUTS, what="A comparison", progress=at.progress))
        names = check_names(at.atlas, saes)
        check_some_matched(at.atlas, names, self.settings)
        among = [] if at.on_server else _among(at, names)
        return [_task(at.sound, a, b, among, self.settings) for a, b in combinations(names, 2)]

    def forecast_group(self, tasks: Sequence[Task], at: TaskContext) -> list[Cost]:
        """Return the cost of each pair, from few draws on the graphs of the first matched pair.

        The graphs of all SAEs are computed before the first pair.
        """
        s, names = self.settings, _names(tasks)
        pairs = [(task.saes[0], task.saes[1]) for task in tasks]
        matched = [pair for pair in pairs if pair not in unmatched(at.atlas, pairs, s)]
        partners = None
        if matched:
            partners = read_partners(at.atlas, *matched[0], matches=s.matches, level=s.level)
        tokens, min_count = equal_scale(at.atlas, names, min_count=s.min_count)
        pair = (matched or pairs)[0]
        graphs, one = comparison_cost(
            at.folder, pair, s, partners=partners, tokens=tokens, min_count=min_count
        )
        size = len(names) * graphs.bytes + one.bytes
        costs = [Cost(one.seconds, size) for _ in tasks]
        costs[0] = Cost(len(names) * graphs.seconds + one.seconds, size)
        return costs

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Compare the pairs."""
        pairs = [(task.saes[0], task.saes[1]) for task in tasks]
        found = compare_pairs(
            at.atlas, pairs, self.settings, names=_names(tasks), progress=at.progress
        )
        for task, one in zip(tasks, found, strict=True):
            yield task, Found(one.tables.items())

    def result(self, part: Part) -> Result:
        """Return the numbers of tokens, the notes and the conclusion; the rows are a table."""
        tables = {name: part.table(name) for name in part.manifest.tables}
        a, b = part.manifest.saes
        read = Comparison.read(a, b, tables.__getitem__)
        own = part.manifest.settings
        conclusion = conclude(a, b, read.rows, draws=own["draws"], matches=own["matches"])
        return _result(replace(read, conclusion=conclusion))


def compare_graphs(
    atlas: str | Path | Atlas,
    saes: Sequence[str] | None = None,
    *,
    settings: ComparisonSettings = ComparisonSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Compare the co-activation graphs of pairs of SAEs.

    Parameters
    ----------
    atlas
        The folder of an atlas, which stores the results, the URL of a server, which does not, or
        an open atlas.
    saes
        Names of two or more SAEs, or ``"all"``. Default: the first pair.
    settings
        Settings of the comparison.
    replace
        Recompute results that are stored with these settings.
    progress
        Progress reporter.

    Returns
    -------
    A result for each pair. Its table ``rows`` has one row for each number, and its verdict is
    the conclusion.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If no pair of them is matched.
    Mismatch
        If an SAE was counted over more tokens than another and its codes are not stored, or if
        the graphs have different numbers of features per token (k).
    BadInput
        If fewer than two SAEs are selected.

    Examples
    --------
    >>> from analysis import ComparisonSettings, compare_graphs
    >>> settings = ComparisonSettings(draws=20, halves=1, matches="one-to-one")
    >>> (result,) = compare_graphs("demo.atlas", ["tiny-a-l1-s0", "tiny-a-l1-s1"], settings=settings)
    >>> "rows" in result.tables
    True
    """
    study = GraphComparisonStudy(settings)
    return run_study(study, atlas, saes, replace=replace, progress=progress)


def comparison_of(result: Result) -> Comparison:
    """Return the comparison that a result contains."""
    read = Comparison.read(result["a"], result["b"], result.table)
    return replace(read, conclusion=result["conclusion"])


def _result(one: Comparison) -> Result:
    tables = one.tables
    return Result(
        GraphComparisonStudy.kind,
        f"{one.a}+{one.b}",
        one.summary,
        verdict=[one.conclusion],
        tables=(tables, tables.__getitem__),
    )


def _task(sound: Sound, a: str, b: str, among: Sequence[str], settings: ComparisonSettings) -> Task:
    names = list(dict.fromkeys([a, b, *among]))
    match = f"match/{match_name(a, b)}"
    codes = [name for name in names if f"codes/{name}" in sound.parts]
    return Task(
        f"{a}+{b}",
        (a, b),
        settings,
        made_from=(
            *(f"{kind}/{name}" for name in names for kind in _INPUTS),
            *([match] if match in sound.parts else []),
        ),
        reads=tuple(f"codes/{name}" for name in codes),
        recorded={"codes": sorted(codes), "among": list(among)},
        group="all pairs",  # they share the halves and the nulls of their SAEs
    )


def _names(tasks: Sequence[Task]) -> list[str]:
    """Return the SAEs whose graphs are needed."""
    saes = [name for task in tasks for name in task.saes]
    return list(dict.fromkeys([*saes, *(n for task in tasks for n in task.recorded["among"])]))


def _among(at: TaskContext, names: Sequence[str]) -> list[str]:
    """Return the SAEs that determine the number of tokens and the smallest count of a pair.

    The list is empty if all SAEs have the same tokens and the same smallest count. The result of
    a pair then does not depend on the other selected SAEs.
    """
    rules = set()
    for name in names:
        (row,) = at.atlas.table("SAE", sae=name).to_pylist()
        (model,) = at.sound.parts[f"sae/{name}"].table("Model").to_pylist()
        rules.add((row["tokens"], model["tokenizer"], rule_of(at.folder, name).min_count))
    return sorted(names) if len(rules) > 1 else []
