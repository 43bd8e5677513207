"""Forecast of a comparison of two SAEs, from the times of its measures on small random samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from analysis.similarity.measures import cosine_similarities, shuffles, subspace_similarities
from analysis.similarity.neighbours import EXACT
from analysis.similarity.settings import SimilaritySettings
from atlas.studies.forecast import Cost, timed

__all__ = ["PairSize", "pair_cost"]

Timer: TypeAlias = Callable[[Callable[[], object]], float]

#: Pairs and tokens of a sample.
_PAIRS, _TOKENS = 256, 4096

#: Shuffled pairings that are timed: of measures of cosines, and of subspaces, which take longer.
_OF_COSINES, _OF_SUBSPACES = 16, 2

#: Seconds below which a measurement is repeated, since other processes can interrupt it.
_SHORT = 0.05

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
class _Growth:
    """Seconds for n points: a fixed part, and a part that grows with a power of n.

    ``base`` has both parts of one measurement, ``draw`` of each shuffled pairing.
    """

    power: int
    base: tuple[float, float]
    draw: tuple[float, float]

    def of(self, n: int, *, bases: int = 1, draws: int = 0) -> float:
        growth = float(n) ** self.power
        each = (fixed + slope * growth for fixed, slope in (self.base, self.draw))
        return bases * next(each) + draws * next(each)


def pair_cost(size: PairSize, settings: SimilaritySettings, *, timer: Timer = timed) -> Cost:
    """Return the cost of comparing one pair of SAEs, without the runs of models for ``raw``.

    Measures of cosines grow with the square of the points. Subspaces have a part that depends on
    their dimensions only, and one that grows with the points.

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
    views = []
    if size.width:
        x, y = rng.standard_normal((2, some, size.width))
        views.append(_cosines(x, y, timer))
        views.append(_subspaces(size.width, min(size.pairs, 4 * size.width), timer))
    density = min(1.0, size.active / size.tokens)
    a, b = (
        sparse.random_array((some, size.tokens), density=density, rng=rng, format="csr")
        for _ in range(2)
    )
    views.append(_cosines(a, b, timer))
    columns = min(settings.columns, size.pairs)
    tokens = _subspaces(columns, min(size.tokens, max(4 * columns, _TOKENS)), timer)
    sides = 1 if settings.raw is None else 3
    seconds = sum(_of_view(view, size.pairs, settings) for view in views)
    seconds += sides * tokens.of(size.tokens, draws=settings.draws)
    return Cost(seconds, bytes=_bytes(size, columns))


def _times(
    measure: Callable[..., object], sides: tuple[Any, Any], draws: int, timer: Timer
) -> tuple[float, float]:
    """Return the seconds of one measurement, and of each shuffled pairing."""
    orders = shuffles(sides[0].shape[0], draws, seed=0)
    base = _seconds(lambda: measure(*sides, []), timer)
    return base, max(_seconds(lambda: measure(*sides, orders), timer) - base, 0.0) / draws


def _seconds(work: Callable[[], object], timer: Timer) -> float:
    first = timer(work)
    return first if first > _SHORT else min(first, timer(work), timer(work))


def _cosines(x: Any, y: Any, timer: Timer) -> _Growth:
    cosine_similarities(x[:3], y[:3], shuffles(3, 1, seed=0))  # compiles loops
    times = _times(cosine_similarities, (x, y), _OF_COSINES, timer)
    base, draw = (each / x.shape[0] ** 2 for each in times)
    return _Growth(2, (0.0, base), (0.0, draw))


def _subspaces(columns: int, points: int, timer: Timer) -> _Growth:
    x, y = np.random.default_rng(0).standard_normal((2, points, columns))
    half = max(1, points // 2)
    small = _times(subspace_similarities, (x[:half], y[:half]), _OF_SUBSPACES, timer)
    large = _times(subspace_similarities, (x, y), _OF_SUBSPACES, timer)
    base, draw = (
        _line((half, one), (points, other)) for one, other in zip(small, large, strict=True)
    )
    return _Growth(1, base, draw)


def _line(one: tuple[int, float], other: tuple[int, float]) -> tuple[float, float]:
    """Return the fixed part and the slope through two measurements, neither below 0."""
    (n, small), (m, large) = one, other
    slope = max(large - small, 0.0) / (m - n) if m > n else 0.0
    return max(large - slope * m, 0.0), slope


def _of_view(view: _Growth, pairs: int, settings: SimilaritySettings) -> float:
    """Return the seconds of the complete set of pairs, its subsets and the best partners."""
    draws, frequency = settings.draws, settings.frequency_draws
    part = min(settings.subset_pairs, pairs)
    full = view.of(pairs, draws=draws + frequency)
    subset = view.of(part, bases=1 + frequency, draws=draws)
    return full + _SUBSETS * subset + _DIRECTIONS * view.of(part, draws=draws)


def _bytes(size: PairSize, columns: int) -> int:
    """Return the bytes of the cosines of all pairs, of the dense columns and of the codes."""
    cells = size.pairs**2
    cosines = 3 * 8 * cells if size.pairs <= EXACT else 2 * cells
    dense = 4 * 8 * size.tokens * columns
    return int(cosines + dense + 4 * 12 * size.pairs * size.active)
