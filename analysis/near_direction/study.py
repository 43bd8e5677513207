"""The study of nearest directions: features whose decoder rows have the highest cosine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from scipy.stats import false_discovery_control

from analysis.feature_map.features import FeatureRows, decoder_rows
from analysis.near_direction.null import QUERIES, direction_p, frequency_groups, random_rows
from analysis.near_direction.settings import DirectionSettings
from analysis.statistics.directions import Floats, nearest, row_cosines
from analysis.statistics.live_directions import without_weights
from analysis.statistics.threads import one_thread_if_small
from atlas.disk.parts import Part
from atlas.errors import AtlasError
from atlas.graphs import edge_ends
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.match.cosines import one_space
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.torch_study import TorchStudy

__all__ = ["SIGNIFICANT", "DirectionStudy", "nearest_directions"]

#: Largest q of a direction that is nearer than random ones.
SIGNIFICANT = 0.05

_READS = ("sae", "statistics")

#: Least rows that are compared for the forecast, and products of numbers for which there may be more.
_SOME, _PRODUCTS = 64, 2e8

#: Pairs of features that are active together whose cosines are computed for the forecast.
_SOME_EDGES = 20_000

_SUMMARY = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("features", pa.int64()),
        ("candidates", pa.int64()),
        ("excluded", pa.int64()),
        ("neighbours", pa.int64()),
        ("median_cosine", pa.float64()),
        ("null_cosine", pa.float64()),
        ("significant", pa.int64()),
    ]
)


@dataclass(frozen=True)
class DirectionStudy(TorchStudy):
    """Find the nearest directions of the features of SAEs, within an SAE and across SAEs.

    The results are edges NEAR_DIRECTION, and the decoder cosine of edges CO_ACTIVATES.

    Parameters
    ----------
    settings
        Settings of the search.
    opened
        SAEs that were in memory at ingest.
    """

    kind: ClassVar[str] = "near_direction"
    command: ClassVar[str] = "directions"
    version: ClassVar[int] = 3
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "numbers of edges, and their null",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "median_cosine": "Median cosine of the nearest direction",
    }
    sorted_pairs: ClassVar[bool] = True

    settings: DirectionSettings
    opened: tuple[Autoencoder, ...] = ()

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE, and for each pair of SAEs that share a space."""
        names = selected_saes(at, saes, _READS, what="A search for nearest directions")
        groups: list[tuple[str, ...]] = [(name,) for name in names]
        if self.settings.across:
            row = {name: open_sae_record(at.sound, name).row for name in names}
            groups += [
                (a, b) for a, b in combinations(sorted(names), 2) if one_space(row[a], row[b])
            ]
        return [
            Task(
                "+".join(group),
                group,
                self.settings,
                omitted=("across",),
                made_from=(
                    *(f"{kind}/{name}" for name in group for kind in _READS),
                    *([f"coactivation/{group[0]}"] if len(group) == 1 else ()),
                ),
            )
            for group in groups
        ]

    def unavailable(self, tasks: Sequence[Task], at: TaskContext) -> dict[str, AtlasError]:
        """Return the tasks of SAEs whose weights are not available."""
        return without_weights(tasks, at, opened=self.opened)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one task, from the comparison of some rows with all."""
        a, b = self._sides(task, at)
        if not len(a) or not len(b):
            return Cost(0.0)
        with one_thread_if_small(a.rows.shape[1]):
            seconds = self._seconds(a, b)
            if a is b:
                edges = _edges_of(a, at)
                some = edges.slice(0, _SOME_EDGES)
                together = timed(lambda: _active_together(a, some))
                seconds += together * max(1.0, edges.num_rows / _SOME_EDGES)
        opening = timed(lambda: self._sides(task, at))
        return Cost(opening + seconds, bytes=64 * self.settings.neighbours * len(a))

    def _seconds(self, a: FeatureRows, b: FeatureRows) -> float:
        """Return the seconds of the edges, in each direction of a pair."""
        some = a.rows[: max(_SOME, int(_PRODUCTS / b.rows.size))]
        k, draws = self.settings.neighbours, self.settings.draws
        nearest(some, b.rows, k=k)  # what the first call alone costs
        seconds = timed(lambda: nearest(some, b.rows, k=k)) * len(a) / len(some)
        if draws:
            groups = frequency_groups(b.frequency, width=b.rows.shape[1])
            rng = np.random.default_rng(0)
            compared = timed(lambda: (some @ b.rows.T).max(axis=1)) / len(some)
            drawn = timed(lambda: random_rows(b.rows, groups, rng))
            seconds += draws * (drawn + compared * min(len(a), QUERIES))
        return (1 if a is b else 2) * seconds

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the edges of one SAE or pair."""
        a, b = self._sides(task, at)
        sides = [(a, None)] if a is b else [(a, b), (b, a)]
        with one_thread_if_small(a.rows.shape[1]):
            found = []
            for number, (one, other) in enumerate(sides, 1):
                title = f"{task.title}: nearest directions and nulls, {number} of {len(sides)}"
                with at.progress.stage(title):
                    found.append(_edges(one, other, self.settings))
        active = [("CO_ACTIVATES", _active_together(a, _edges_of(a, at)))] if a is b else []
        return Found(
            [
                *active,
                ("NEAR_DIRECTION", pa.concat_tables([edges for edges, _ in found])),
                ("summary", pa.Table.from_pylist([row for _, row in found], schema=_SUMMARY)),
            ]
        )

    def _sides(self, task: Task, at: TaskContext) -> tuple[FeatureRows, FeatureRows]:
        sides = [decoder_rows(at, name, self.opened) for name in task.saes]
        return sides[0], sides[-1]

    def result(self, part: Part) -> Result:
        """Return the numbers of features and significant neighbours, in each direction."""
        rows = part.table("summary").to_pylist()
        summary: dict[str, Any] = {
            "saes": " and ".join(part.manifest.saes),
            **rows[0],
            "significant_back": rows[1]["significant"] if len(rows) > 1 else None,
        }
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=[_verdict(row) for row in rows],
            tables=(part.manifest.tables, part.table),
        )


def nearest_directions(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: DirectionSettings = DirectionSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Find the features with the nearest decoder directions, by comparing all pairs.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Number of neighbours, and the random rows for p.
    opened
        SAEs that were in memory at ingest; others are opened from their stored source.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE, and for each pair of SAEs at one site or in one residual stream. Its
    table ``NEAR_DIRECTION`` has the edges. Within an SAE, ``CO_ACTIVATES`` has the decoder cosine of
    each pair of features that are active together.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    BadInput, Mismatch
        If the weights of an SAE are not available, or are not those that were ingested.

    Examples
    --------
    >>> from analysis import nearest_directions
    >>> (result,) = nearest_directions("demo.atlas", ["tiny-a-l1-s0"])
    >>> result.kind
    'near_direction'
    """
    study = DirectionStudy(settings, tuple(opened))
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


def _edges(
    a: FeatureRows, b: FeatureRows | None, settings: DirectionSettings
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the edges from A to B (to A, if None), and their summary."""
    others = a if b is None else b
    near = nearest(a.rows, None if b is None else b.rows, k=settings.neighbours)
    p, null = direction_p(
        a.rows,
        others.rows,
        near.cosine,
        groups=frequency_groups(others.frequency, width=others.rows.shape[1]),
        draws=settings.draws,
        seed=settings.seed,
        within=b is None,
    )
    q = _q(p)
    n, k = near.index.shape
    columns = {
        "source": np.repeat(a.ids, k),
        "target": others.ids[near.index.ravel()],
        "cosine": near.cosine.ravel(),
        "rank": np.tile(np.arange(k), n),
        "p": p.ravel(),
        "q": q.ravel(),
    }
    wanted = arrow_schema("NEAR_DIRECTION")
    table = pa.Table.from_arrays(
        [pa.array(columns[f.name], f.type, from_pandas=True) for f in wanted], schema=wanted
    )
    sides = [a] if b is None else [a, b]
    return table, {
        "source": a.sae,
        "target": others.sae,
        "features": n,
        "candidates": max(len(others) - (b is None), 0),
        "excluded": sum(side.features - len(side) for side in sides),
        "neighbours": k,
        "median_cosine": float(np.median(near.cosine[:, 0])) if n and k else None,
        "null_cosine": None if np.isnan(null) else null,
        "significant": int((q[:, 0] <= SIGNIFICANT).sum()) if k and settings.draws else None,
    }


def _edges_of(side: FeatureRows, at: TaskContext) -> pa.Table:
    """Return the pairs of features that are active together."""
    return at.sound.parts[f"coactivation/{side.sae}"].table("CO_ACTIVATES")


def _active_together(side: FeatureRows, edges: pa.Table) -> pa.Table:
    """Return the decoder cosine of pairs of features that are active together."""
    row = np.full(side.features, -1)
    row[side.idx] = np.arange(len(side))
    one, other = row[edge_ends(edges)].T
    known = (one >= 0) & (other >= 0)
    cosine = np.full(len(one), np.nan)
    cosine[known] = row_cosines(side.rows, side.rows, (one[known], other[known]))
    wanted = arrow_schema("CO_ACTIVATES", "near_direction")
    columns = [edges["source"], edges["target"], pa.array(cosine, from_pandas=True)]
    return pa.Table.from_arrays(columns, schema=wanted)


def _q(p: Floats) -> Floats:
    """Return Benjamini-Hochberg values over the edges of each rank; NaN without a p."""
    if not p.size or np.isnan(p).any():
        return np.full(p.shape, np.nan)
    q: Floats = false_discovery_control(p, axis=0)
    return q


def _verdict(row: dict[str, Any]) -> str:
    pair = (
        row["source"] if row["source"] == row["target"] else f"{row['source']} to {row['target']}"
    )
    if not row["features"] or not row["neighbours"]:
        return f"{pair}: too few live features with a direction for a nearest direction."
    start = f"{pair}: the median cosine of the nearest direction is {row['median_cosine']:.3f}"
    if row["significant"] is None:
        return f"{start}; no null was drawn."
    return (
        f"{start}, and {row['null_cosine']:.3f} for random directions of the same covariance; "
        f"{row['significant']:,} of {row['features']:,} features have one nearer "
        f"than random directions (q ≤ {SIGNIFICANT})."
    )
