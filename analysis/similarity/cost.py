"""Forecast of a comparison of two SAEs, from the times of its measures on small random samples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from analysis.similarity.cosines import EXACT, Cosines
from analysis.similarity.measures import (
    cosine_similarities,
    shuffles,
    similarities_of_cosines,
    subspace_similarities,
)
from analysis.similarity.rank_correlations import BYTES
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

#: Share of the one-to-one pairs in each subset; that with and without punctuation is a guess.
_SUBSETS = (0.5, 0.1, 0.5, 0.5)

#: Directions in which best partners are compared.
_DIRECTIONS = 2


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

    ``product`` has both parts of the cosines of all points, ``base`` of the measures of cosines or of
    subspaces, ``draw`` of each shuffled pairing.
    """

    power: int
    base: tuple[float, float]
    draw: tuple[float, float]
    product: tuple[float, float] = (0.0, 0.0)

    def of(self, n: float, *, bases: int = 1, draws: int = 0, products: int = 0) -> float:
        growth = float(n) ** self.power
        counts = ((self.base, bases), (self.draw, draws), (self.product, products))
        return sum(count * (fixed + slope * growth) for (fixed, slope), count in counts)


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
    exact = size.pairs <= EXACT
    views = []
    if size.width:
        x, y = rng.standard_normal((2, some, size.width))
        views.append(_cosines(x, y, timer, exact=exact))
        points = min(size.pairs, 4 * size.width)
        x, y = rng.standard_normal((2, points, size.width))
        views.append(_subspaces(x, y, timer))
    density = min(1.0, size.active / size.tokens)
    a, b = (_codes(some, size.tokens, density, rng) for _ in range(2))
    views.append(_cosines(a, b, timer, exact=exact))
    columns = min(settings.columns, size.pairs)
    points = min(size.tokens, max(4 * columns, _TOKENS))
    a, b = (_codes(points, columns, density, rng) for _ in range(2))
    tokens = [_subspaces(a, b, timer)]
    if settings.raw is not None:  # the features again, and the dimensions of the models
        x, y = rng.standard_normal((2, points, columns))
        tokens += [tokens[0], _subspaces(x, y, timer)]
    seconds = sum(_of_view(view, size.pairs, settings) for view in views)
    seconds += sum(one.of(size.tokens, draws=settings.draws) for one in tokens)
    return Cost(seconds, bytes=_bytes(size, columns))


def _codes(rows: int, columns: int, density: float, rng: np.random.Generator) -> sparse.csr_array:
    return sparse.csr_array(sparse.random_array((rows, columns), density=density, rng=rng))


def _times(
    measure: Callable[[list[Any]], object], n: int, draws: int, timer: Timer
) -> tuple[float, float]:
    """Return the seconds of one measurement, and of each shuffled pairing."""
    orders = shuffles(n, draws, seed=0)
    base = _seconds(lambda: measure([]), timer)
    return base, max(_seconds(lambda: measure(orders), timer) - base, 0.0) / draws


def _seconds(work: Callable[[], object], timer: Timer) -> float:
    first = timer(work)
    return first if first > _SHORT else min(first, timer(work), timer(work))


def _cosines(x: Any, y: Any, timer: Timer, *, exact: bool) -> _Growth:
    """Time measures of cosines that are in memory, or of blocks of them."""
    n, product = x.shape[0], 0.0
    if exact:
        product = _seconds(lambda: Cosines.of(x, y, one_space=True), timer)
        cosines = Cosines.of(x, y, one_space=True)

        def measure(orders: list[Any]) -> object:
            return similarities_of_cosines(cosines, orders, columns=(1, 1))
    else:

        def measure(orders: list[Any]) -> object:
            return cosine_similarities(x, y, orders, exact=0)

    measure(shuffles(n, 1, seed=0))  # compiles loops
    base, draw = _times(measure, n, _OF_COSINES, timer)
    product, base, draw = (each / n**2 for each in (product, base, draw))
    return _Growth(2, (0.0, base), (0.0, draw), (0.0, product))


def _subspaces(x: Any, y: Any, timer: Timer) -> _Growth:
    n = x.shape[0]
    half = max(1, n // 2)
    subspace_similarities(x[:half], y[:half], shuffles(half, 1, seed=0))  # compiles loops
    small, large = (
        _times(partial(subspace_similarities, x[:m], y[:m]), m, _OF_SUBSPACES, timer)
        for m in (half, n)
    )
    base, draw = (_line((half, one), (n, other)) for one, other in zip(small, large, strict=True))
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
    total = view.of(pairs, draws=draws + frequency, products=1)
    for share in _SUBSETS:
        total += view.of(min(part, share * pairs), bases=1 + frequency, draws=draws)
    return total + _DIRECTIONS * view.of(part, draws=draws, products=1)


def _bytes(size: PairSize, columns: int) -> int:
    """Return the bytes of the cosines of all pairs, of the dense columns and of the codes."""
    cells = size.pairs**2
    cosines = 6 * 8 * cells if size.pairs <= EXACT else min(2 * cells, BYTES)
    rows = 2 * 8 * size.pairs * size.width
    dense = 3 * 8 * size.tokens * columns
    return int(cosines + rows + dense + 4 * 12 * size.pairs * size.active)
