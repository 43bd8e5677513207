"""Spectra of the decoder and the encoder of SAEs, and of the model's own matrix at their site."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.spectra.settings import SpectrumSettings
from analysis.spectra.spectrum import (
    FEWEST,
    Spectrum,
    compare_with_nulls,
    distance_of_halves,
    draw_some,
    spectrum_distance,
    spectrum_of,
)
from analysis.spectra.verdict import verdict_of
from analysis.statistics.direction_nulls import NULLS
from analysis.statistics.directions import directed_rows
from analysis.statistics.live_directions import live_directions, without_weights
from analysis.statistics.threads import one_thread_if_small
from atlas import schema
from atlas.disk.parts import Part
from atlas.errors import AtlasError
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.model.own_matrix import own_matrix
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_model, written_hook
from ingest.statistics.discoveries import q_values
from ingest.torch_study import TorchStudy

__all__ = ["MATRICES", "SpectrumStudy", "measure_spectra"]

Floats = NDArray[np.float64]

MATRICES = ("decoder", "encoder", "model")
"""Matrices of which the spectra are computed; the last is the model's own at the site."""

WHAT = "A study of spectra"

_SAMPLE = 2

# Decoder, encoder, and the matrix of the model that writes to the site.
_MATRICES_OF_AN_SAE = 3
"""Draws of the sample of a forecast."""


@dataclass(frozen=True)
class SpectrumStudy(TorchStudy):
    """Measure the spectra of the weights of one SAE at a time."""

    kind: ClassVar[str] = "spectra"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "spectra": "singular values of each matrix",
        "matrices": "measures of each matrix",
        "nulls": "each measure compared with random directions",
        "distances": "distances between the spectra of the matrices",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "participation_ratio": "Participation ratio of the decoder",
    }

    settings: SpectrumSettings
    opened: tuple[Autoencoder, ...] = ()

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes, ("statistics",), what=WHAT)
        return [
            Task(n, (n,), self.settings, made_from=(f"sae/{n}", f"statistics/{n}")) for n in names
        ]

    def unavailable(self, tasks: Sequence[Task], at: TaskContext) -> dict[str, AtlasError]:
        """Return the tasks of SAEs whose weights are not available."""
        return without_weights(tasks, at, opened=self.opened)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from a few draws of each null of its decoder."""
        # The SAE is opened before the forecast, since the libraries that read it load for seconds.
        rows, _ = directed_rows(live_directions(at.sound, task.name, opened=self.opened).decoder)
        if len(rows) < 2 * FEWEST:
            return Cost(0.0)
        sample = partial(draw_some, fit=self.settings.fit, seed=self.settings.seed)
        with one_thread_if_small(min(rows.shape)):
            sample(rows[: 2 * FEWEST], draws=1)  # what the first call alone costs
            draw = timed(lambda: sample(rows, draws=_SAMPLE)) / _SAMPLE
        # The encoder has the size of the decoder; the model's matrix has four rows per dimension.
        matrices = 2 + min(1.0, 4 * rows.shape[1] / len(rows))
        return Cost(draw * self.settings.draws * matrices, bytes=4 * rows.nbytes)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the tables of one SAE."""
        found = {}
        with at.progress.stage(
            f"{task.title}: spectra and nulls", total=_MATRICES_OF_AN_SAE, unit="matrices"
        ) as stage:
            for name, source, rows in self._matrices(task.name, at):
                found[name] = _measured(name, source, rows, self.settings)
                stage.advance()
        nulls = [row for one in found.values() for row in one.nulls]
        for row, q in zip(nulls, q_values([row["p"] for row in nulls]), strict=True):
            row["q"] = q
        summary = {one.row["matrix"]: one.row for one in found.values()}
        return Found(
            [
                ("SAE", _graph_row(task.name, summary["decoder"], nulls)),
                ("matrices", pa.Table.from_pylist(list(summary.values()), schema=_MATRICES)),
                ("nulls", pa.Table.from_pylist(nulls, schema=_NULLS)),
                ("spectra", pa.concat_tables([one.table for one in found.values()])),
                ("distances", pa.Table.from_pylist(list(_between(found)), schema=_DISTANCES)),
            ]
        )

    def result(self, part: Part) -> Result:
        """Return the numbers of the decoder, and its distances from the other matrices."""
        rows = {row["matrix"]: row for row in part.table("matrices").to_pylist()}
        nulls = part.table("nulls").to_pylist()
        distances = part.table("distances").to_pylist()
        sae = part.manifest.saes[0]
        own = rows["decoder"]
        summary: dict[str, Any] = {
            "sae": sae,
            "directions": own["rows"],
            "dimensions": own["columns"],
        }
        summary |= {
            name: own[name]
            for name in (
                "participation_ratio",
                "stable_rank",
                "slope",
                "fit_first",
                "fit_last",
                "mean_share",
            )
        }
        summary |= {
            f"{row['null']}_p": row["p"]
            for row in nulls
            if row["matrix"] == "decoder" and row["statistic"] == "distance"
        }
        for name in ("encoder", "model"):
            summary[f"{name}_participation_ratio"] = rows[name]["participation_ratio"]
            summary[f"{name}_distance"] = next(
                (
                    row["distance"]
                    for row in distances
                    if {row["one"], row["other"]} == {"decoder", name}
                ),
                None,
            )
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(sae, rows, nulls),
            tables=(part.manifest.tables, part.table),
        )

    def _matrices(self, sae: str, at: TaskContext) -> Iterator[tuple[str, str, Floats | str]]:
        """Yield name, source and rows of each matrix; instead of missing rows, the reason."""
        live = live_directions(at.sound, sae, opened=self.opened)
        yield "decoder", "W_dec", live.decoder
        yield "encoder", "W_enc", live.encoder if live.encoder is not None else "It has none."
        record = open_sae_record(at.sound, sae)
        hook = written_hook(record.row)
        try:
            source, rows = own_matrix(reopen_model(record, hooks=[hook], device="cpu"), hook)
        except AtlasError as error:
            at.progress.report(f"{sae} is not compared with the model's own matrix. {error}")
            yield "model", "", str(error)
        else:
            yield "model", source, rows


def measure_spectra(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: SpectrumSettings = SpectrumSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Measure how many dimensions the directions of SAEs span.

    Random directions are the null.

    Rows of the decoder, columns of the encoder and rows of the model's own matrix at the site
    (of the last MLP, in a residual stream) are scaled to unit length and centred. Features that
    are never active are excluded.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Number of draws from the nulls, and the range in which the slope is fitted.
    opened
        SAEs that were in memory when they were ingested, open.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``matrices`` has a row for each matrix, ``nulls`` one for
    each matrix, null and statistic, with p and q (Benjamini-Hochberg over the SAE), ``spectra``
    the singular values, and ``distances`` the Wasserstein distances between the normalised
    spectra. ``analysis.spectra.distances.compare_spectra`` compares SAEs.

    Examples
    --------
    >>> from analysis import SpectrumSettings, measure_spectra
    >>> settings = SpectrumSettings(draws=39)
    >>> (result,) = measure_spectra("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result.kind
    'spectra'
    """
    return run_study(
        SpectrumStudy(settings, tuple(opened)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class _Measured:
    """A matrix: its row of the table ``matrices``, its tests, singular values and table."""

    row: dict[str, Any]
    nulls: list[dict[str, Any]]
    spectrum: Spectrum | None
    table: pa.Table


def _measured(
    matrix: str, source: str, rows: Floats | str, settings: SpectrumSettings
) -> _Measured:
    row: dict[str, Any] = {"matrix": matrix, "source": source}
    if isinstance(rows, str):
        return _Measured(row | {"missing": rows}, [], None, _SPECTRA.empty_table())
    unit, _ = directed_rows(rows)
    row |= {"rows": len(unit), "columns": unit.shape[1]}
    if len(unit) < FEWEST:
        reason = f"A spectrum needs {FEWEST} directions or more."
        return _Measured(row | {"missing": reason}, [], None, _SPECTRA.empty_table())
    spectrum = spectrum_of(unit, fit=settings.fit)
    nulls, means = compare_with_nulls(
        unit, draws=settings.draws, seed=settings.seed, fit=settings.fit
    )
    law = spectrum.power_law
    row |= spectrum.summary()
    row["sampling"] = distance_of_halves(unit, draws=settings.draws, seed=settings.seed)
    row |= {"slope_r2": law[1] if law else None}
    row |= dict(zip(("fit_first", "fit_last"), spectrum.fitted, strict=True))
    size = len(spectrum.singular_values)
    columns: dict[str, Any] = {
        "matrix": [matrix] * size,
        "rank": np.arange(1, size + 1),
        "singular_value": spectrum.singular_values,
        "normalised": spectrum.normalised,
    }
    for null in NULLS:
        # A draw with a row of zeros has one singular value less.
        columns[null] = np.concatenate([means[null], np.zeros(size - len(means[null]))])
    tests = [{"matrix": matrix, **test} for test in nulls]
    return _Measured(row, tests, spectrum, pa.table(columns, schema=_SPECTRA))


def _between(found: Mapping[str, _Measured]) -> Iterator[dict[str, Any]]:
    for one, other in combinations(MATRICES, 2):
        a, b = found[one].spectrum, found[other].spectrum
        if a is not None and b is not None:
            distance = spectrum_distance(a.singular_values, b.singular_values)
            yield {"one": one, "other": other, "distance": distance}


def _graph_row(
    sae: str, decoder: Mapping[str, Any], nulls: Sequence[Mapping[str, Any]]
) -> pa.Table:
    names = ("participation_ratio", "stable_rank", "slope", "mean_share")
    row = {"name": sae} | {f"decoder_{name}": decoder.get(name) for name in names}
    row["decoder_participation_p"] = next(
        (
            test["p"]
            for test in nulls
            if (test["matrix"], test["null"], test["statistic"])
            == ("decoder", "isotropic", "participation_ratio")
        ),
        None,
    )
    return pa.Table.from_pylist([row], schema=schema.arrow_schema("SAE", "spectra"))


_MATRICES = pa.schema(
    [("matrix", pa.string()), ("source", pa.string()), ("missing", pa.string())]
    + [(name, pa.int64()) for name in ("rows", "columns", "fit_first", "fit_last")]
    + [
        (name, pa.float64())
        for name in (
            "participation_ratio",
            "stable_rank",
            "slope",
            "slope_r2",
            "mean_share",
            "sampling",
        )
    ]
)
_NULLS = pa.schema(
    [(name, pa.string()) for name in ("matrix", "null", "statistic")]
    + [
        (name, pa.float64())
        for name in ("observed", "null_mean", "null_low", "null_high", "p", "q")
    ]
)
_SPECTRA = pa.schema(
    [("matrix", pa.string()), ("rank", pa.int64())]
    + [(name, pa.float64()) for name in ("singular_value", "normalised", *NULLS)]
)
_DISTANCES = pa.schema([("one", pa.string()), ("other", pa.string()), ("distance", pa.float64())])
