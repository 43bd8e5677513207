"""Forecast of a comparison of two SAEs, from the times of its measures on small random samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from analysis.similarity.measures import cosine_similarities, shuffles, subspace_similarities
from analysis.similarity.neighbours import EXACT
from analysis.similarity.settings import SimilaritySettings
from atlas.studies.forecast import Cost, timed

__all__ = ["PairSize", "pair_cost"]

Timer: TypeAlias = Callable[[Callable[[], object]], float]

#: Pairs and tokens of a sample, and shuffled pairings that are timed on it.
_PAIRS, _TOKENS, _ORDERS = 256, 2048, 4

#: Subsets of the one-to-one pairs, and directions in which best partners are compared.
_SUBSETS, _DIRECTIONS = 4, 2


@dataclass(frozen=True)
class PairSize:
    """The size of a comparison.

    Parameters
    ----------
    pairs
        Number of one-to-one pairs.
    width
        Number of dimensions of the decoder rows; 0 if they are not compared.
    tokens
        Number of tokens or words.
    active
        Mean number of tokens on which a feature is active.
    """

    pairs: int
    width: int
    tokens: int
    active: float


@dataclass(frozen=True)
class _Time:
    """Seconds of one measurement at the size of the sample, and of each shuffled pairing."""

    base: float
    draw: float

    def of(self, scale: float, *, bases: int = 1, draws: int = 0) -> float:
        return scale * (bases * self.base + draws * self.draw)


def pair_cost(size: PairSize, settings: SimilaritySettings, *, timer: Timer = timed) -> Cost:
    """Return the cost of comparing one pair of SAEs, without the runs of models for ``raw``.

    Measures of cosines grow with the square of the pairs, and others with the number of points.

    Parameters
    ----------
    size
        The size.
    settings
        Settings of the comparison.
    timer
        Function that returns the seconds of a call.
    """
    if not size.pairs or not size.tokens:
        return Cost(0.0)
    some, rng = min(size.pairs, _PAIRS), np.random.default_rng(0)
    seconds = 0.0
    if size.width:
        x, y = rng.standard_normal((2, some, size.width))
        seconds += _of_view(_time(cosine_similarities, x, y, timer), size.pairs, some, settings)
        linear = _time(subspace_similarities, x, y, timer)
        seconds += _of_view(linear, size.pairs, some, settings, power=1)
    density = min(1.0, size.active / size.tokens)
    a, b = (
        sparse.random_array((some, size.tokens), density=density, rng=rng, format="csr")
        for _ in range(2)
    )
    seconds += _of_view(_time(cosine_similarities, a, b, timer), size.pairs, some, settings)
    columns, tokens = min(settings.columns, size.pairs), min(size.tokens, _TOKENS)
    points = _time(subspace_similarities, *rng.standard_normal((2, tokens, columns)), timer)
    sides = 1 if settings.raw is None else 3
    seconds += sides * points.of(size.tokens / tokens, draws=settings.draws)
    return Cost(seconds, bytes=_bytes(size, columns))


def _time(measure: Callable[..., object], x: object, y: object, timer: Timer) -> _Time:
    points: int = x.shape[0]  # type: ignore[attr-defined]
    measure(x[:3], y[:3], shuffles(3, 1, seed=0))  # type: ignore[index]  # compiles loops
    orders = shuffles(points, _ORDERS, seed=0)
    base = timer(lambda: measure(x, y, []))
    draw = max(timer(lambda: measure(x, y, orders)) - base, 0.0) / _ORDERS
    return _Time(base, draw)


def _of_view(
    time: _Time, pairs: int, some: int, settings: SimilaritySettings, *, power: int = 2
) -> float:
    """Return the seconds of the complete set of pairs, its subsets and the best partners."""
    draws, frequency = settings.draws, settings.frequency_draws
    full = time.of((pairs / some) ** power, draws=draws + frequency)
    scale = (min(settings.subset_pairs, pairs) / some) ** power
    subset = time.of(scale, bases=1 + frequency, draws=draws)
    return full + _SUBSETS * subset + _DIRECTIONS * time.of(scale, draws=draws)


def _bytes(size: PairSize, columns: int) -> int:
    """Return the bytes of the cosines of all pairs, of the dense columns and of the codes."""
    cells = size.pairs**2
    cosines = 3 * 8 * cells if size.pairs <= EXACT else 2 * cells
    dense = 4 * 8 * size.tokens * columns
    return int(cosines + dense + 4 * 12 * size.pairs * size.active)
