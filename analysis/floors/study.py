"""Which statistics distinguish trained SAEs from their floors.

A family is the trained SAEs of one site, architecture, width and k, which differ in their seed,
with their floors. For each statistic that the atlas stores, the study reports its mean on the
trained SAEs and on the floors of each role, and the AUC with which it separates their features.
A statistic whose AUC is near 0.5 describes what any SAE of that shape shows, trained or not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from analysis.floors.names import statistic_name
from analysis.floors.sae_values import SaeValues, input_keys, sae_values
from analysis.floors.separation import Mean, mean_over_seeds
from analysis.floors.settings import FloorSettings
from analysis.statistics.ranks import auc
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.floors import floors_of, is_floor, role_shown
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, check_saes
from ingest.sae.info import slug

__all__ = ["FloorStudy", "compare_with_floors", "separated"]

#: What trained SAEs of one family have in common.
_COMMON = ("model", "hook", "architecture", "d_sae", "k", "less")

_SHOWN = 6

#: Statistics of the scale of activations, which is no evidence about features: named last.
_SCALE = ("mean_activation", "std_activation", "max_activation")

_ROWS = pa.schema(
    [
        *((name, pa.string()) for name in ("statistic", "of", "role")),
        *(
            (name, pa.float64())
            for name in (
                "trained",
                "trained_low",
                "trained_high",
                "floor",
                "floor_low",
                "floor_high",
                "auc",
                "auc_low",
                "auc_high",
            )
        ),
        ("trained_seeds", pa.int64()),
        ("floor_seeds", pa.int64()),
    ]
)

_AREAS = pa.schema(
    [*((name, pa.string()) for name in ("statistic", "role", "sae")), ("auc", pa.float64())]
)

Row = dict[str, Any]


@dataclass(frozen=True)
class FloorStudy(Study):
    """Compare the statistics of trained SAEs with those of their floors, for each family."""

    kind: ClassVar[str] = "floors"
    version: ClassVar[int] = 6
    part_names: ClassVar[str] = "by site, architecture and width"
    tables: ClassVar[Mapping[str, str]] = {
        "statistics": "each statistic of trained SAEs and floors",
        "areas": "AUC of each trained SAE",
    }

    settings: FloorSettings

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """All SAEs are used if none is named: a task compares a family with its floors."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each family with a floor."""
        if saes is not None:
            check_saes(at.sound, saes)
        rows = list(at.sound.sae_rows.values())
        families = _families(rows, saes)
        named = [row for row in rows if row["name"] in (saes or ()) and is_floor(row)]
        if named:
            raise BadInput(
                f"{named[0]['name']} is a floor ({role_shown(named[0])}); name the trained SAEs. Their floors are "
                "found by SAE.floor_of."
            )
        if not families:
            raise BadInput(
                "No selected SAE has a floor in this atlas. Train floors with `atlas train --baseline`, or state "
                "the role of an SAE with `atlas ingest --role ROLE --floor-of SAE`."
            )
        return [self._task(at, trained, floors) for trained, floors in families]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one family, from the statistics of its first SAE."""
        trained: Sequence[str] = task.recorded["trained"]
        floors: Mapping[str, Mapping[str, Sequence[str]]] = task.recorded["floors"]
        sae = task.saes[0]
        read = partial(sae_values, at.atlas, at.sound, sae, others=_others(sae, trained, floors))
        values = dict.fromkeys(task.saes, read())
        reading = timed(read)  # the first call also opens the graph of the atlas
        compared = sum(len(names) for of in floors.values() for names in of.values())
        of = {sae: (sae,)}
        return Cost(len(task.saes) * reading + compared * timed(lambda: _areas(of, values)))

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compare one family."""
        trained: Sequence[str] = task.recorded["trained"]
        floors: Mapping[str, Mapping[str, Sequence[str]]] = task.recorded["floors"]
        values = {}
        with at.progress.stage(
            f"{task.title}: reading statistics", total=len(task.saes), unit="SAEs"
        ) as stage:
            for sae in task.saes:
                others = _others(sae, trained, floors)
                values[sae] = sae_values(at.atlas, at.sound, sae, others=others)
                stage.advance()
        rows, areas = [], []
        for role, of in floors.items():
            by_sae = _areas(of, values)
            rows += _compared(role, of, values, by_sae=by_sae, level=self.settings.level)
            areas += [
                {"statistic": name, "role": role, "sae": sae, "auc": area}
                for name, found in by_sae.items()
                for sae, area in found.items()
            ]
        return Found(
            [
                ("statistics", pa.Table.from_pylist(rows, schema=_ROWS)),
                ("areas", pa.Table.from_pylist(areas, schema=_AREAS)),
            ]
        )

    def result(self, part: Part) -> Result:
        """Return the number of statistics that separate each role, by role."""
        rows = part.table("statistics").to_pylist()
        stored = part.manifest.settings
        summary = {
            "family": part.manifest.name,
            "trained": list(stored["trained"]),
            "floors": {
                r: sorted({f for fs in of.values() for f in fs})
                for r, of in stored["floors"].items()
            },
            "statistics": len({(row["of"], row["statistic"]) for row in rows}),
            "separating": {role: len(separated(rows, role)) for role in stored["floors"]},
        }
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary, rows, stored["floors"]),
            tables=(part.manifest.tables, part.table),
        )

    def _task(
        self, at: TaskContext, trained: Sequence[Row], floors: Mapping[str, Mapping[str, list[str]]]
    ) -> Task:
        names = [row["name"] for row in trained]
        every = sorted({*names, *(f for of in floors.values() for fs in of.values() for f in fs)})
        keys = {
            key
            for sae in every
            for key in input_keys(at.sound, sae, others=_others(sae, names, floors))
        }
        common = "-".join(
            f"{'k' if key == 'k' else ''}{trained[0][key]}"
            for key in _COMMON
            if trained[0].get(key) is not None  # parts of older atlases have fewer columns
        )
        return Task(
            slug(common),
            tuple(every),
            self.settings,
            made_from=tuple(sorted(keys)),
            recorded={"trained": names, "floors": floors},
        )


def compare_with_floors(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: FloorSettings = FloorSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Report which statistics distinguish SAEs from their floors.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of trained SAEs. Default: all that have a floor. SAEs of one model, site,
        architecture, width and k are seeds of one family; select them if they differ otherwise.
    settings
        Confidence level.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each family. Its table ``statistics`` has a row for each statistic and role of
    floor: the means over seeds on trained SAEs and floors, the AUC, and their intervals. Its table
    ``areas`` has the AUC of each statistic of features for each trained SAE.

    Raises
    ------
    BadInput
        If no selected SAE has a floor.

    Notes
    -----
    The AUC of a statistic of features is computed for each trained SAE and each of its floors, on
    live features. Its mean over the floors of an SAE is one value per seed. The AUC of a
    statistic of SAEs ranks the seeds themselves, and needs two trained SAEs and two floors.
    Frozen decoders are a strong floor [1]_; so are models with random weights [2]_.

    References
    ----------
    .. [1] "Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?", 2026,
       arXiv:2602.14111.
    .. [2] T. Heap et al., "Sparse Autoencoders Can Interpret Randomly Initialized Transformers",
       2025, arXiv:2501.17727.

    Examples
    --------
    >>> from analysis import compare_with_floors
    >>> (result,) = compare_with_floors("demo.atlas")
    >>> "statistics" in result.tables
    True
    """
    return run_study(
        FloorStudy(settings),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def separated(rows: Sequence[Mapping[str, Any]], role: str) -> list[Mapping[str, Any]]:
    """Return the statistics whose interval of the AUC excludes 0.5, the farthest from 0.5 first.

    Parameters
    ----------
    rows
        Rows of the table ``statistics``.
    role
        Role of the floors.
    """
    found = [
        row
        for row in rows
        if row["role"] == role
        and row["auc_low"] is not None
        and not row["auc_low"] <= 0.5 <= row["auc_high"]
    ]
    return sorted(found, key=lambda row: -abs(row["auc"] - 0.5))


def _families(
    rows: Sequence[Row], saes: Sequence[str] | None
) -> list[tuple[list[Row], dict[str, dict[str, list[str]]]]]:
    """Return the trained SAEs of each family, and by role the floors of each."""
    by_name = {row["name"]: row for row in rows}
    families: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if not is_floor(row) and (saes is None or row["name"] in saes):
            families.setdefault(tuple(row.get(key) for key in _COMMON), []).append(row)
    found = []
    for trained in families.values():
        by_role: dict[str, dict[str, list[str]]] = {}
        for row in trained:
            for floor in floors_of(rows, row["name"]):
                role = str(role_shown(by_name[floor]))
                by_role.setdefault(role, {}).setdefault(row["name"], []).append(floor)
        if by_role:
            found.append((trained, by_role))
    return found


def _others(
    sae: str, trained: Sequence[str], floors: Mapping[str, Mapping[str, Sequence[str]]]
) -> list[str]:
    """Return the SAEs that have the role of an SAE: its other seeds."""
    groups = [list(trained), *([f for fs in of.values() for f in fs] for of in floors.values())]
    return sorted({name for group in groups if sae in group for name in group} - {sae})


def _areas(
    of: Mapping[str, Sequence[str]], values: Mapping[str, SaeValues]
) -> dict[str, dict[str, float]]:
    """Return by statistic of features, and by trained SAE, the mean AUC over its floors."""
    every = [*of, *sorted({floor for names in of.values() for floor in names})]
    found: dict[str, dict[str, float]] = {}
    for name in _statistics([values[sae].features for sae in every]):
        found[name] = {}
        for sae, floors in of.items():
            areas = [_area(values[sae], values[floor], name) for floor in floors]
            known = [area for area in areas if area is not None]
            if known:
                found[name][sae] = float(np.mean(known))
    return found


def _compared(
    role: str,
    of: Mapping[str, Sequence[str]],
    values: Mapping[str, SaeValues],
    *,
    by_sae: Mapping[str, Mapping[str, float]],
    level: float,
) -> list[Row]:
    """Return a row for each statistic, for the floors of one role."""
    trained = list(of)
    floors = sorted({floor for names in of.values() for floor in names})
    rows = []
    for name, areas in by_sae.items():
        means = [
            [float(values[s].features[name].mean()) for s in saes if name in values[s].features]
            for saes in (trained, floors)
        ]
        over_seeds = mean_over_seeds(list(areas.values()), level=level, least=0, most=1)
        rows.append(_row(name, "features", role, means, over_seeds, level=level))
    for name in _statistics([values[sae].sae for sae in (*trained, *floors)]):
        both = [
            [values[s].sae[name] for s in saes if name in values[s].sae]
            for saes in (trained, floors)
        ]
        enough = min(map(len, both)) >= 2
        ranked = auc(np.array(both[0]), np.array(both[1])) if enough else None
        rows.append(
            _row(name, "SAE", role, both, Mean(ranked, None, None, len(both[0])), level=level)
        )
    return rows


def _area(trained: SaeValues, floor: SaeValues, name: str) -> float | None:
    none = np.empty(0)
    return auc(trained.features.get(name, none), floor.features.get(name, none))


def _statistics(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in values for name in one))


def _row(
    name: str, of: str, role: str, both: Sequence[Sequence[float]], area: Mean, *, level: float
) -> Row:
    trained, floor = (
        mean_over_seeds([v for v in values if math.isfinite(v)], level=level) for values in both
    )
    return {
        "statistic": name,
        "of": of,
        "role": role,
        "trained": trained.value,
        "trained_low": trained.low,
        "trained_high": trained.high,
        "floor": floor.value,
        "floor_low": floor.low,
        "floor_high": floor.high,
        "auc": area.value,
        "auc_low": area.low,
        "auc_high": area.high,
        "trained_seeds": trained.seeds,
        "floor_seeds": floor.seeds,
    }


def _verdict(
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    floors: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[str]:
    """Return sentences for each role; ``floors`` has by role the floors of each trained SAE."""
    sentences = []
    for role, by_sae in floors.items():
        of = [
            r for r in rows if r["role"] == role and r["of"] == "features" and r["auc"] is not None
        ]
        title = f"{summary['family']}, floors {role!r}"
        if not of:
            sentences.append(f"{title}: no statistic of features is stored for both.")
            continue
        nearest = min(of, key=lambda row: abs(row["auc"] - 0.5))
        if max(row["trained_seeds"] for row in of) < 2:
            farthest = max(of, key=lambda row: (not _is_scale(row), abs(row["auc"] - 0.5)))
            sentences.append(
                f"{title}: the AUC farthest from 0.5 is that of {_named(farthest)}, the "
                f"nearest that of {statistic_name(nearest['statistic'])} ({nearest['auc']:.2f}). No interval: "
                f"{_one_seed(summary['trained'], by_sae)}"
            )
            continue
        clear = sorted(separated(rows, role), key=_is_scale)
        named = ", ".join(map(_named, clear[:_SHOWN]))
        sentences.append(
            f"{title}: {len(clear)} of {len(of)} statistics of features have an AUC whose interval excludes "
            f"0.5{': ' + named if named else ''}. The AUC nearest 0.5 is that of "
            f"{statistic_name(nearest['statistic'])} ({nearest['auc']:.2f})."
        )
    return sentences


def _is_scale(row: Mapping[str, Any]) -> bool:
    return row["statistic"] in _SCALE


def _named(row: Mapping[str, Any]) -> str:
    name = statistic_name(row["statistic"])
    return f"{name} ({row['auc']:.2f}{', scale' if _is_scale(row) else ''})"


def _one_seed(trained: Sequence[str], by_sae: Mapping[str, Sequence[str]]) -> str:
    """Return why one seed is compared, and what to do."""
    without = [sae for sae in trained if sae not in by_sae]
    if not without and len(trained) > 1:
        return "each statistic is stored for one trained SAE."
    if not without:
        return "there is one trained seed. Train another with `atlas train --seed`, and its floor."
    return (
        f"{len(by_sae)} of {len(trained)} trained SAEs has this floor. Train a floor of {without[0]} with "
        "`atlas train --baseline`."
    )
