"""Forecast of a map, from the times of its steps on small samples."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.feature_map.settings import MapSettings
from analysis.statistics.directions import Rows, is_sparse, nearest, unit_rows
from atlas.studies.forecast import Cost, timed
from ingest.compilation import compiled

__all__ = ["map_cost", "random_sample"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Timer: TypeAlias = Callable[[Callable[[], object]], float]

#: Rows that are compared with all others.
_SOME = 64

#: Rows of a random sample.
_SAMPLE = 1024

#: Iterations of the solver of two principal components, as ARPACK needs on decoders.
_ITERATIONS = 100

#: As in umap-learn: epochs, the size from which the smaller number applies, and negative samples.
_EPOCHS, _LARGE, _NEGATIVE = (500, 200), 10_000, 5

#: Updates of an edge per epoch, as a share of the neighbours. UMAP updates an edge in proportion to
#: its weight.
_UPDATED = 0.6

#: Seconds in which umap-learn compiles its loops, once in each process.
_COMPILING = 10.0


def map_cost(
    rows: int, sample: Rows, settings: MapSettings, *, maps: int = 1, timer: Timer = timed
) -> Cost:
    """Return the cost of one map.

    Parameters
    ----------
    rows
        Number of rows of the map.
    sample
        Some of the rows, or random rows of the same dimensions.
    settings
        Settings of the map.
    maps
        Number of sets of rows that are placed; 2 for an aligned map.
    timer
        Function that returns the seconds of a call.
    """
    if rows < 2 or not sample.shape[0]:
        return Cost(0.0)
    some = min(_SOME, sample.shape[0])
    scale = rows / some * (rows / sample.shape[0])
    compared = timer(lambda: nearest(sample[:some], sample, k=settings.neighbours)) * scale
    vector = np.ones(sample.shape[1])
    product = timer(lambda: sample.T @ (sample @ vector)) * rows / sample.shape[0]
    epochs = _EPOCHS[rows > _LARGE]
    placing = _seconds_of_update(timer) * _UPDATED * settings.neighbours * rows * epochs
    # Trustworthiness ranks all rows for some of them.
    quality = compared * min(1.0, 4096 / rows)
    seconds = compared + quality + _ITERATIONS * product
    seconds += maps * (1 + settings.repeats) * placing
    size = sample.data.nbytes if is_sparse(sample) else sample.nbytes
    return Cost(seconds, bytes=int(3 * size * rows / sample.shape[0]) + (1 << 27), once=_COMPILING)


def random_sample(width: int, *, density: float | None = None) -> Rows:
    """Return random unit rows: dense, or sparse with this share of entries above 0.

    Parameters
    ----------
    width
        Number of dimensions.
    density
        Share of entries above 0 of sparse rows; None for dense rows.
    """
    rng = np.random.default_rng(0)
    rows: Any
    if density is None:
        rows = rng.standard_normal((_SAMPLE, width))
    else:
        rows = sparse.random_array((_SAMPLE, width), density=density, rng=rng, format="csr")
    return unit_rows(rows, dtype=np.float32)


def _seconds_of_update(timer: Timer) -> float:
    """Return the seconds of one update of an edge and its negative samples."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((4096, 2))
    ends = rng.integers(0, len(points), (2 + _NEGATIVE, 20_000))
    _move(points.copy(), ends[:, :1].copy())  # compiles for contiguous arrays, as below
    seconds: float = timer(lambda: _move(points, ends)) / ends.shape[1]
    return seconds


@compiled
def _move(points: Floats, ends: Ints) -> None:
    """Attract the ends of each edge, and repel the first end from the negative samples.

    These are the arithmetic and the accesses to memory of one update of UMAP, not its result.
    """
    for edge in range(ends.shape[1]):
        own = ends[0, edge]
        for other in range(1, ends.shape[0]):
            at = ends[other, edge]
            dx = points[own, 0] - points[at, 0]
            dy = points[own, 1] - points[at, 1]
            square = dx * dx + dy * dy
            power = square**0.9
            pull = power / (1.0 + 1.6 * power) if other == 1 else -1.0 / (0.001 + power)
            step = 1e-3 * max(-4.0, min(4.0, pull))
            points[own, 0] -= step * dx
            points[own, 1] -= step * dy
            if other == 1:
                points[at, 0] += step * dx
                points[at, 1] += step * dy
