"""The study of graph statistics, which stores one part per SAE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from analysis.graph import report
from analysis.graph.coactivation_graph import CoactivationGraph, equal_scale, has_codes, read_graph
from analysis.graph.draw_cost import TokenSample
from analysis.graph.null_comparison import NULLS, configuration, numbers_of
from analysis.graph.settings import GraphStatisticsSettings
from atlas.api import Atlas
from atlas.disk.parts import Part
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, usable_saes

if TYPE_CHECKING:
    import igraph

__all__ = ["GraphStatisticsStudy", "all_rows", "graph_statistics", "verdict_of"]

_READS = ("sae", "statistics", "coactivation")

_COUNTS = pa.map_(pa.int64(), pa.int64())
_MODES = pa.struct({"n": pa.int64(), "zeros": pa.int64(), "dip": pa.float64(), "p": pa.float64()})

#: Types of the columns of the table ``summary``; all other columns are integers.
_TYPES = {
    "sae": pa.string(),
    "component_sizes": _COUNTS,
    "cores": _COUNTS,
    "modes": pa.map_(pa.string(), _MODES),
    "notes": pa.map_(pa.string(), pa.string()),
    **dict.fromkeys(
        (
            "average_degree",
            "density",
            "average_clustering",
            "clustering_over_density",
            "transitivity",
            "assortativity",
            "path_length",
            "path_length_error",
            "modularity_unweighted",
            "degree_frequency_pearson",
            "degree_frequency_spearman",
        ),
        pa.float64(),
    ),
}

_MAPS = ("component_sizes", "cores", "modes", "notes")

_NULL_ROWS = pa.schema(
    [
        *((name, pa.string()) for name in ("sae", "null", "statistic")),
        ("observed", pa.float64()),
        ("draws", pa.int64()),
        *((name, pa.float64()) for name in ("mean", "sd", "low", "high", "z")),
        ("where", pa.string()),
    ]
)

_CURVE_ROWS = pa.schema(
    [
        ("sae", pa.string()),
        *((name, pa.int64()) for name in ("tokens", "edges", "isolates")),
        ("average_clustering", pa.float64()),
    ]
)


@dataclass(frozen=True)
class GraphStatisticsStudy(Study):
    """Describe the co-activation graph of each SAE, and compare it with null graphs.

    Parameters
    ----------
    settings
        Settings of the statistics. ``tokens`` and ``min_count`` of a part are the values at
        which all selected SAEs can be compared.
    """

    kind: ClassVar[str] = "graph_statistics"
    command: ClassVar[str] = "graph-stats"
    version: ClassVar[int] = 2
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "the statistics of the graph",
        "nulls": "each statistic compared with null graphs",
        "curves": "the graph over growing text, if requested",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "clustering_over_density": "Clustering over density",
        "modularity_unweighted": "Modularity without weights",
    }
    codes_removable: ClassVar[bool] = True
    optional_part: ClassVar[bool] = True

    settings: GraphStatisticsSettings

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = list(dict.fromkeys(saes or ())) or self._usable(at)
        tokens, min_count = equal_scale(
            at.atlas, names, min_count=self.settings.min_count, tokens=self.settings.tokens
        )
        settings = replace(self.settings, tokens=tokens, min_count=min_count)
        return [
            Task(
                name,
                (name,),
                settings,
                made_from=tuple(f"{kind}/{name}" for kind in _READS),
                recorded={"codes": self._needs_codes and has_codes(at.atlas, name)},
            )
            for name in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from its own statistics and null graphs over few tokens."""
        how, folder = task.settings, at.folder
        graphs: list[CoactivationGraph] = []
        seconds = timed(
            lambda: graphs.append(
                read_graph(
                    folder, task.name, min_count=how.min_count, tokens=how.tokens, codes=False
                )
            )
        )
        (of,) = graphs
        seconds += timed(lambda: report.summary(of, seed=how.seed))
        nulls = [] if how.nulls == "none" or not len(of.pairs) else [how.nulls or "all"]
        nulls = list(NULLS) if nulls == ["all"] else nulls
        if not nulls and not how.curves:
            return Cost(seconds, of.pairs.nbytes)

        def measure(graph: "igraph.Graph") -> object:
            return numbers_of(graph, of.active, seed=how.seed)

        measured = timed(lambda: measure(of.graph))
        if "configuration" in nulls:
            draw = configuration(of.graph)
            seconds += how.draws * (timed(lambda: draw(1)) + measured)
        if not (self._needs_codes and has_codes(folder, task.name)):
            return Cost(seconds + measured, of.pairs.nbytes)
        sample = TokenSample(folder, task.name, tokens=of.tokens, min_count=of.min_count)
        for name, within in (("bipartite", False), ("documents", True)):
            if name in nulls:
                drawn = sample.draw(within_documents=within, measure=measure)
                seconds += how.draws * drawn.seconds
        if how.curves:  # all tokens, a half, a quarter and so on
            seconds += 2 * sample.draw(within_documents=True, measure=lambda g: g.degree()).seconds
        return Cost(seconds + measured + sample.reading, sample.bytes + of.pairs.nbytes)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the statistics of one SAE."""
        how = task.settings
        of = read_graph(
            at.atlas, task.name, min_count=how.min_count, tokens=how.tokens, codes=self._needs_codes
        )
        summary = report.summary(of, seed=how.seed)
        nulls = report.null_rows(
            of,
            _nulls(of, how.nulls, at.progress),
            draws=how.draws,
            seed=how.seed,
            progress=at.progress,
        )
        tables = [
            ("summary", _as_table(summary)),
            ("nulls", pa.Table.from_pylist(nulls, _NULL_ROWS)),
        ]
        if how.curves:
            tables.append(("curves", pa.Table.from_pylist(report.growth_rows(of), _CURVE_ROWS)))
        return Found(tables)

    def result(self, part: Part) -> Result:
        """Return the statistics, and how clustering and modularity compare with each null."""
        (row,) = part.table("summary").to_pylist()
        summary = {name: dict(row[name]) if name in _MAPS else row[name] for name in row}
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary, part.table("nulls").to_pylist()),
            tables=(part.manifest.tables, part.table),
        )

    @property
    def _needs_codes(self) -> bool:
        return self.settings.curves or self.settings.nulls not in ("none", "configuration")

    def _usable(self, at: TaskContext) -> list[str]:
        if at.on_server:
            return at.atlas.saes
        kinds = ("statistics", "coactivation")
        return list(usable_saes(at.sound, kinds, what="A graph", progress=at.progress))


def graph_statistics(
    atlas: str | Path | Atlas,
    saes: Sequence[str] | None = None,
    *,
    settings: GraphStatisticsSettings = GraphStatisticsSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Describe the co-activation graphs of SAEs at equal numbers of tokens.

    The results are stored in the folder of the atlas. On a server, or if the folder cannot be
    written, they are returned without being stored.

    Parameters
    ----------
    atlas
        The folder of the atlas, the URL of a server, or an open atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Settings of the statistics.
    replace
        Recompute results that are stored with these settings.
    workers, ray
        See ``atlas.studies.runner.run_study``.
    progress
        Progress reporter.

    Returns
    -------
    A result for each SAE: the statistics of its graph, with the tables ``nulls`` and ``curves``.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If edges or statistics are missing, or codes that the settings need.
    BadInput
        If an SAE has fewer tokens than requested.
    Mismatch
        If an SAE was counted over more tokens than another and its codes are not stored.

    Examples
    --------
    >>> from analysis import GraphStatisticsSettings, graph_statistics
    >>> settings = GraphStatisticsSettings(nulls="none")
    >>> (result,) = graph_statistics("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result["nodes"]
    512
    """
    study = GraphStatisticsStudy(settings)
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


def all_rows(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all SAEs as `atlas graph-stats --json` prints them.

    Parameters
    ----------
    results
        The results of ``graph_statistics``.
    """
    rows = {"saes": results.rows}
    rows["nulls"] = [
        # A column has one type, which makes counts floats; the summary has them as integers.
        {**row, "observed": one[row["statistic"]]}
        for one in results
        for row in one.table("nulls").to_pylist()
    ]
    if results and "curves" in results[0].tables:
        rows["curves"] = [row for one in results for row in one.table("curves").to_pylist()]
    return rows


def _as_table(summary: Mapping[str, Any]) -> pa.Table:
    row = {name: list(v.items()) if name in _MAPS else v for name, v in summary.items()}
    schema = pa.schema([(name, _TYPES.get(name, pa.int64())) for name in row])
    return pa.Table.from_pylist([row], schema)


def _nulls(of: CoactivationGraph, requested: str | None, progress: Progress) -> list[str]:
    """Return the nulls to draw: the requested ones, or by default all available ones."""
    if requested == "none":
        return []
    if not len(of.pairs):
        progress.report(f"{of.sae} has no edges, so no null graph is drawn.")
        return []
    if requested == "all":
        return list(NULLS)
    if requested is not None:
        return [requested]
    possible = report.drawable(of)
    if len(possible) < len(NULLS):
        progress.report(
            f"The codes of {of.sae} are not stored, so features cannot be swapped between tokens; "
            "`atlas ingest --keep-codes --replace` stores them."
        )
    return possible


#: Position of an observed value among the draws, before the names of the nulls.
_WHERE = {
    "above": "above every draw of",
    "within": "within the range of the draws of",
    "equal": "equal to every draw of",
    "below": "below every draw of",
}


def verdict_of(row: Mapping[str, Any], nulls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare the clustering and modularity of a graph with every null, and state its size.

    Clustering is over density, since average clustering grows with density and most nulls are denser
    than the graph.

    Parameters
    ----------
    row
        The summary of a result.
    nulls
        Rows of its table ``nulls``.
    """
    edges, nodes, isolates = row["edges"], row["nodes"], row["isolates"]
    without = f", {isolates:,} of them without an edge," if edges and isolates else ""
    size = f"{edges:,} edges among {nodes:,} features{without} over {row['tokens']:,} tokens."
    if not edges:
        return [f"{row['sae']}: {size}"]
    found = []
    for statistic, name in (
        ("clustering_over_density", "clustering over density"),
        ("modularity_unweighted", "modularity of the edges without weights"),
    ):
        drawn = _of(nulls, statistic)
        if drawn:
            more = _denser(_of(nulls, "density")) if statistic.endswith("over_density") else ""
            found.append(f"{row['sae']}: {name} is {_compared(drawn)}.{more}")
    if not found:
        shown = (
            f"clustering over density is {row['clustering_over_density']:.3f}; no null was drawn."
        )
        found = [f"{row['sae']}: {shown}"]
    return [*found, f"The graph has {size}"]


def _of(nulls: Sequence[Mapping[str, Any]], statistic: str) -> list[Mapping[str, Any]]:
    return [one for one in nulls if one["statistic"] == statistic and one["mean"] is not None]


def _denser(density: Sequence[Mapping[str, Any]]) -> str:
    """State which nulls are denser than the graph, and how that bounds clustering over density."""
    denser = [one for one in density if one["where"] == "below"]
    if not denser:
        return ""
    nulls, highest = _named(denser), 1 / min(one["mean"] for one in denser)
    are = "is" if len(denser) == 1 else "are"
    return (
        f" The density of the graph is {denser[0]['observed']:.3f}; {nulls} {are} denser, which limits "
        f"their clustering over density to {highest:.2f} (1 / density)."
    )


def _compared(drawn: Sequence[Mapping[str, Any]]) -> str:
    """Return an observed value, and each null with its mean: those it is above first."""
    groups = []
    for where, words in _WHERE.items():
        some = [one for one in drawn if one["where"] == where]
        if some:
            groups.append(f"{words} {_named(some)}")
    draws = sorted({one["draws"] for one in drawn})
    number = " to ".join(f"{n:,}" for n in (draws[0], draws[-1])[: len(draws)])
    plural = "draw" if draws == [1] else "draws"
    return f"{drawn[0]['observed']:.3f}, {', and '.join(groups)} (mean of {number} {plural})"


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of nulls with their means, such as "the nulls a (0.100), b (0.200) and c (0.300)"."""
    *others, last = [f"{one['null']} ({one['mean']:.3f})" for one in rows]
    return f"the nulls {', '.join(others)} and {last}" if others else f"the null {last}"
