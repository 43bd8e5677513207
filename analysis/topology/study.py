"""Topology of the live decoder directions of SAEs: homology and Mapper graphs, with nulls."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.statistics.direction_nulls import NULLS
from analysis.statistics.directions import directed_rows, unit_rows
from analysis.statistics.live_directions import live_directions, without_weights
from analysis.topology.extra import check_extra
from analysis.topology.mapper import (
    MapperGraph,
    compare_mapper,
    grid_of,
    mapper_graph,
    shared_members,
    stability_of,
)
from analysis.topology.persistence import (
    ALL,
    DIMENSIONS,
    Persistence,
    bottleneck_of_repeats,
    compare_persistence,
    persistence_of,
)
from analysis.topology.settings import TopologySettings
from analysis.topology.verdict import verdict_of
from atlas import schema
from atlas.disk.parts import Part
from atlas.errors import AtlasError
from atlas.progress import SILENT, Progress, Stage
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.torch_study import TorchStudy

__all__ = ["FEWEST", "TopologyStudy", "measure_topology"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 10
"""Fewest directions of which the topology is computed."""

WHAT = "A study of topology"

_MOST_LOST = 0.5  # largest share of directions that the shown Mapper graph excludes


@dataclass(frozen=True)
class TopologyStudy(TorchStudy):
    """Measure the topology of the decoder directions of one SAE at a time."""

    kind: ClassVar[str] = "topology"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "sizes and measures",
        "tests": "each measure compared with its null",
        "diagrams": "birth and death of each topological feature",
        "mapper_*": "nodes and edges of a Mapper graph, and the graphs of other settings",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "h1": "Longest death / birth in H1",
    }

    settings: TopologySettings
    opened: tuple[Autoencoder, ...] = ()

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes, ("statistics",), what=WHAT)
        return [
            Task(n, (n,), self.settings, made_from=(f"sae/{n}", f"statistics/{n}")) for n in names
        ]

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:
        """Check that the libraries are installed, before any computation."""
        if tasks:
            check_extra()

    def unavailable(self, tasks: Sequence[Task], at: TaskContext) -> dict[str, AtlasError]:
        """Return the tasks of SAEs whose weights are not available."""
        return without_weights(tasks, at, opened=self.opened)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from one random set of directions."""
        row = open_sae_record(at.sound, task.name).row
        rows, columns = int(row["d_sae"]), int(row["d_in"])
        settings = self.settings
        rng = np.random.default_rng(0)
        some = unit_rows(rng.standard_normal((min(rows, 10 * settings.landmarks), columns)))
        homology = timed(lambda: persistence_of(some, settings))
        drawing = timed(lambda: unit_rows(rng.standard_normal(some.shape))) * rows / len(some)
        sample, cells = some[: settings.points], grid_of(settings)
        cell = timed(lambda: mapper_graph(sample, cells[-1], min_samples=settings.min_samples))
        grids = len(NULLS) * settings.mapper_draws + settings.subsamples + 2
        seconds = len(NULLS) * settings.draws * (homology + drawing) + grids * len(cells) * cell
        return Cost(seconds, bytes=3 * 8 * rows * columns)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the tables of one SAE."""
        live = live_directions(at.sound, task.name, opened=self.opened)
        directions, directed = directed_rows(live.decoder)
        features = live.features[directed]
        tests: list[dict[str, Any]] = []
        grid: list[dict[str, Any]] = []
        homology, shown = None, None
        sampled = np.empty(0, dtype=np.int64)
        if len(directions) >= FEWEST:
            homology = persistence_of(directions, self.settings)
            with self._draws(at, task, "persistent homology", self.settings.draws) as stage:
                tests += [
                    {"method": "homology", **row}
                    for row in compare_persistence(directions, self.settings, advance=stage.advance)
                ]
            rng = np.random.default_rng(self.settings.seed)
            size = min(self.settings.points, len(directions))
            sampled = np.sort(rng.choice(len(directions), size, replace=False))
            some = directions[sampled]
            with self._draws(at, task, "Mapper graphs", self.settings.mapper_draws) as stage:
                tests += [
                    {"method": "mapper", **row}
                    for row in compare_mapper(some, self.settings, advance=stage.advance)
                ]
            grid, shown = _grid(some, self.settings)
        summary = _summary(task.name, directions, homology, tests)
        return Found(
            [
                ("SAE", _graph_row(summary)),
                ("summary", pa.Table.from_pylist([summary], schema=_SUMMARY)),
                ("tests", pa.Table.from_pylist(tests, schema=_TESTS)),
                ("diagrams", _diagrams(homology)),
                ("mapper_grid", pa.Table.from_pylist(grid, schema=_GRID)),
                *_graph_tables(shown, features[sampled]),
            ]
        )

    def _draws(
        self, at: TaskContext, task: Task, what: str, draws: int
    ) -> AbstractContextManager[Stage]:
        """Begin the stage of the draws from all nulls."""
        title = f"{task.title}: draws of {what}"
        return at.progress.stage(title, total=len(NULLS) * draws, unit="draws")

    def result(self, part: Part) -> Result:
        """Return the statistics, the p of each null, and the shown Mapper graph."""
        (summary,) = part.table("summary").to_pylist()
        tests = part.table("tests").to_pylist()
        grid = part.table("mapper_grid").to_pylist()
        for row in tests:
            if row["statistic"] == ALL:
                summary[f"{row['method']}_{row['null']}_p"] = row["p"]
        shown = next((row for row in grid if row["shown"]), None)
        for name in ("loops", "components", "retained", "stability"):
            summary[f"mapper_{name}"] = shown[name] if shown else None
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary, tests, grid, settings=part.manifest.settings),
            tables=(part.manifest.tables, part.table),
        )


def measure_topology(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: TopologySettings = TopologySettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Test decoder directions for clusters, loops and voids.

    The directions of live features have unit length, and their distance is the angle.
    Persistent homology is computed on landmarks, and Mapper graphs on a random sample over a
    grid of settings. Both are compared with isotropic directions, Gaussian directions of equal
    mean and covariance, and directions with permuted columns.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Landmarks, repeats, draws and the grid.
    opened
        SAEs that were in memory when they were ingested, open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``tests`` has a row for each null and statistic,
    ``diagrams`` the persistence diagrams, ``mapper_grid`` a row for each cell of the grid, and
    ``mapper_nodes`` and ``mapper_edges`` the graph of the most stable cell that retains half of
    the directions.

    Raises
    ------
    Missing
        If the extra ``topology`` is not installed.

    Examples
    --------
    >>> from analysis import TopologySettings, measure_topology
    >>> settings = TopologySettings(
    ...     landmarks=12, void_landmarks=8, repeats=1, points=30, cubes=(5,), subsamples=1
    ... )
    >>> (result,) = measure_topology("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result.kind
    'topology'
    """
    return run_study(
        TopologyStudy(settings, tuple(opened)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def _summary(
    sae: str, directions: Floats, homology: Persistence | None, tests: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sae": sae,
        "directions": len(directions),
        "dimensions": directions.shape[1],
    }
    if homology is None:
        return found
    found |= {f"h{k}": float(np.exp(homology.log_ratio[k])) for k in DIMENSIONS}
    found["h1_bottleneck"] = bottleneck_of_repeats(homology.diagrams, 1)
    lengths = np.concatenate([np.diff(one[1], axis=1).ravel() for one in homology.diagrams])
    found["h1_longest"] = float(lengths[np.isfinite(lengths)].max(initial=0.0))
    for method in ("homology", "mapper"):
        found[f"{method}_p"] = max(
            row["p"] for row in tests if (row["method"], row["statistic"]) == (method, ALL)
        )
    return found


def _graph_row(summary: Mapping[str, Any]) -> pa.Table:
    row = {
        "name": summary["sae"],
        "homology_p": summary.get("homology_p"),
        "mapper_p": summary.get("mapper_p"),
    }
    row |= {f"homology_h{k}": summary.get(f"h{k}") for k in DIMENSIONS}
    return pa.Table.from_pylist([row], schema=schema.arrow_schema("SAE", "topology"))


def _grid(
    directions: Floats, settings: TopologySettings
) -> tuple[list[dict[str, Any]], MapperGraph]:
    """Return a row for each cell, and the graph of the shown one."""
    cells = grid_of(settings)
    graphs = [mapper_graph(directions, c, min_samples=settings.min_samples) for c in cells]
    rows = [
        {**vars(cell), **graph.summary(), "stability": stability, "shown": False}
        for cell, graph, stability in zip(
            cells, graphs, stability_of(directions, settings), strict=True
        )
    ]
    best = max(
        range(len(rows)),
        key=lambda i: (
            rows[i]["retained"] >= 1 - _MOST_LOST,
            rows[i]["stability"] if rows[i]["stability"] is not None else -1.0,
            rows[i]["retained"],
        ),
    )
    rows[best]["shown"] = True
    return rows, graphs[best]


def _diagrams(homology: Persistence | None) -> pa.Table:
    rows = [
        {
            "repeat": repeat,
            "dimension": k,
            "birth": float(birth),
            "death": float(death) if np.isfinite(death) else None,
        }
        for repeat, one in enumerate(homology.diagrams if homology else [])
        for k in DIMENSIONS
        for birth, death in one[k]
    ]
    return pa.Table.from_pylist(rows, schema=_DIAGRAMS)


def _graph_tables(graph: MapperGraph | None, features: Ints) -> list[tuple[str, pa.Table]]:
    nodes = [
        {
            "node": number,
            "size": len(members),
            "x": float(graph.lens[members, 0].mean()),
            "y": float(graph.lens[members, 1].mean()),
            "features": features[members].tolist(),
        }
        for number, members in enumerate(graph.members if graph else [])
        if graph is not None
    ]
    edges = [
        {"source": one, "target": other, "shared": shared}
        for one, other, shared in (shared_members(graph) if graph else ())
    ]
    return [
        ("mapper_nodes", pa.Table.from_pylist(nodes, schema=_NODES)),
        ("mapper_edges", pa.Table.from_pylist(edges, schema=_EDGES)),
    ]


_SUMMARY = pa.schema(
    [("sae", pa.string()), ("directions", pa.int64()), ("dimensions", pa.int64())]
    + [
        (name, pa.float64())
        for name in ("h0", "h1", "h2", "h1_bottleneck", "h1_longest", "homology_p", "mapper_p")
    ]
)
_TESTS = pa.schema(
    [(name, pa.string()) for name in ("method", "null", "statistic")]
    + [("cubes", pa.int64())]
    + [
        (name, pa.float64())
        for name in ("overlap", "eps", "observed", "null_mean", "null_low", "null_high", "p")
    ]
)
_DIAGRAMS = pa.schema(
    [
        ("repeat", pa.int64()),
        ("dimension", pa.int64()),
        ("birth", pa.float64()),
        ("death", pa.float64()),
    ]
)
_GRID = pa.schema(
    [("cubes", pa.int64()), ("overlap", pa.float64()), ("eps", pa.float64())]
    + [(name, pa.int64()) for name in ("nodes", "edges", "loops", "longest_loop", "components")]
    + [("retained", pa.float64()), ("stability", pa.float64()), ("shown", pa.bool_())]
)
_NODES = pa.schema(
    [
        ("node", pa.int64()),
        ("size", pa.int64()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("features", pa.list_(pa.int64())),
    ]
)
_EDGES = pa.schema([(name, pa.int64()) for name in ("source", "target", "shared")])
