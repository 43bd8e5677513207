"""Comparison of two SAEs on matched pairs: rows of values with their nulls.

Decoder rows are compared with features as points. Activations are compared twice. With
features as points, each feature is described by its activations on all tokens; RSA, neighbours
and mutual nearest neighbours are computed. With tokens as points, each token is described by
the activations of the matched features; SVCCA, CCA, CKA and Procrustes are computed. There, the
pairing of tokens is shuffled: each document of B is shifted by a random offset.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.similarity.cosines import EXACT, Cosines
from analysis.similarity.measures import (
    Similarity,
    cosine_similarities,
    shuffles,
    similarities_of_cosines,
    subspace_similarities,
)
from analysis.similarity.pairs import (
    Directions,
    MatchedPairs,
    distinct,
    frequency_strata,
    sample_like,
    subsets,
)
from analysis.similarity.settings import SimilaritySettings
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.nulls import movable, permuted_within
from analysis.statistics.permutation import permutation_p
from ingest.match.nulls import shifted

__all__ = [
    "FULL",
    "Row",
    "Spaces",
    "View",
    "comparison",
    "document_shifts",
    "row_of",
    "subset_rows",
    "token_rows",
    "views",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Row: TypeAlias = dict[str, Any]

FULL = "one-to-one"
"""Name of the set of all one-to-one pairs."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """Two SAEs with their pairs, decoder vectors and activations.

    Parameters
    ----------
    directions
        The pairs.
    decoders
        (d_sae, d_in) of either SAE; None if the weights of one are not available.
    one_space
        Whether both decoders are in one space.
    codes
        Sparse activations of either SAE, (units, d_sae), over the same units.
    lengths
        int64. Number of units of each document, in order.
    wordless
        bool, (d_sae,) of either SAE. Whether a frequent token of the feature has no letter and
        no digit.
    """

    directions: Directions
    decoders: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    one_space: bool
    codes: tuple[sparse.csc_array, sparse.csc_array]
    lengths: Ints
    wordless: tuple[Mask, Mask]

    def profiles(self, pairs: MatchedPairs) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return the activations of paired features, sparse (pairs, units) of either SAE."""
        return (
            sparse.csr_array(self.codes[0][:, pairs.a].T),
            sparse.csr_array(self.codes[1][:, pairs.b].T),
        )

    def strata(self, pairs: MatchedPairs, bins: int) -> Ints:
        """Return the frequency stratum of each pair."""
        a, b = (np.diff(one.indptr).astype(np.int64) for one in self.codes)
        return frequency_strata(a[pairs.a], b[pairs.b], bins=bins)


@dataclass(frozen=True, eq=False)
class View:
    """The features of one set of pairs as points: decoder rows, or activations.

    Parameters
    ----------
    name
        ``"decoder"`` or ``"activations"``.
    x, y
        (pairs, dimensions) of either SAE, dense or sparse.
    pairs
        The pairs.
    one_space
        Whether both sides are in one space.
    settings
        Settings of the measures.
    stratum
        int64, (pairs,). Stratum of frequency of each pair.
    shared
        Cosines of the points, if they are known already.
    """

    name: str
    x: Any
    y: Any
    pairs: MatchedPairs
    one_space: bool
    settings: SimilaritySettings
    stratum: Ints = field(repr=False)
    shared: Cosines | None = field(default=None, repr=False)

    def __getitem__(self, which: Ints) -> "View":
        """Return some of the pairs; the cosines of all are computed once, if they are not many."""
        shared = self.cosines
        return self.sample(which, shared=None if shared is None else shared[which])

    def sample(self, which: Ints, *, shared: Cosines | None = None) -> "View":
        """Return some of the pairs, without the cosines of all."""
        return View(
            self.name,
            self.x[which],
            self.y[which],
            self.pairs[which],
            self.one_space,
            self.settings,
            self.stratum[which],
            shared,
        )

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def cosines(self) -> Cosines | None:
        """Cosines of all points; None for more than ``EXACT`` points."""
        if self.shared is not None or len(self) > EXACT:
            return self.shared
        return Cosines.of(self.x, self.y, one_space=self.one_space)

    def similarities(self, orders: Sequence[Ints], which: Ints | None = None) -> list[Similarity]:
        """Return the measures of the paired points, and their values for shuffled pairings.

        Parameters
        ----------
        orders
            int64, (points,) each. The shuffled pairings.
        which
            int64. Indices of the pairs to measure; all if None.
        """
        how = self.settings
        at = slice(None) if which is None else which
        if self.cosines is None:
            found = cosine_similarities(
                self.x[at],
                self.y[at],
                orders,
                k=how.neighbours,
                seed=how.seed,
                one_space=self.one_space,
            )
        else:
            found = similarities_of_cosines(
                self.cosines if which is None else self.cosines[which],
                orders,
                k=how.neighbours,
                seed=how.seed,
                columns=(self.x.shape[1], self.y.shape[1]),
            )
        if self.name == "decoder":
            found += subspace_similarities(self.x[at], self.y[at], orders, variance=how.variance)
        return found


def comparison(
    spaces: Spaces, settings: SimilaritySettings, advance: Callable[[], None] = lambda: None
) -> Iterator[Row]:
    """Yield a row for each space, subset and measure.

    Parameters
    ----------
    spaces
        The SAEs.
    settings
        Draws, neighbours and sizes of samples.
    advance
        Called after each set of pairs.
    """
    pairs = spaces.directions.one_to_one
    for view in views(spaces, pairs, settings):
        yield from _full_rows(view)
        advance()
        yield from _punctuation_and_best_rows(view, spaces)
        advance()
        for name, own in (
            ("best of A", spaces.directions.a_to_b),
            ("best of B", spaces.directions.b_to_a),
        ):
            for other in views(spaces, own, settings):
                if other.name == view.name and len(other):
                    yield from _rows(_sampled(other, settings.subset_pairs), name, len(other))
            advance()
    x, y = (one.T.tocsc() for one in spaces.profiles(pairs))
    yield from token_rows((x, y), spaces.lengths, settings, space="activations")
    advance()


def views(spaces: Spaces, pairs: MatchedPairs, settings: SimilaritySettings) -> Iterator[View]:
    """Yield decoder rows and activations of pairs, without zero and duplicate points."""
    stratum = spaces.strata(pairs, settings.frequency_bins)
    if spaces.decoders is not None:
        x, y = spaces.decoders[0][pairs.a], spaces.decoders[1][pairs.b]
        retained = np.flatnonzero(distinct(x) & distinct(y))
        yield View("decoder", x, y, pairs, spaces.one_space, settings, stratum).sample(retained)
    a, b = spaces.profiles(pairs)
    retained = np.flatnonzero(distinct(a) & distinct(b))
    yield View("activations", a, b, pairs, True, settings, stratum).sample(retained)


def _full_rows(view: View) -> Iterator[Row]:
    """Yield the rows of all one-to-one pairs, with pairs shuffled within bins of frequency."""
    how, rng = view.settings, np.random.default_rng([view.settings.seed, 1])
    orders = shuffles(len(view), how.draws, seed=how.seed)
    binned = (
        [permuted_within(view.stratum, rng) for _ in range(how.frequency_draws)]
        if len(view) and movable(view.stratum)
        else []
    )
    for one in view.similarities([*orders, *binned]):
        row = row_of(one, one.draws[: how.draws], space=view.name, subset=FULL, available=len(view))
        yield row | _null("frequency", one.value, one.draws[how.draws :])


def _punctuation_and_best_rows(view: View, spaces: Spaces) -> Iterator[Row]:
    wordless = spaces.wordless[0][view.pairs.a] | spaces.wordless[1][view.pairs.b]
    for number, (name, which) in enumerate(subsets(view.pairs, wordless=wordless)):
        if len(which):
            yield from subset_rows(view, which, name=name, number=number)


def subset_rows(
    view: View, which: Ints, *, name: str, number: int, others: Ints | None = None
) -> Iterator[Row]:
    """Yield the rows of a subset of pairs, with its nulls.

    Parameters
    ----------
    view
        All one-to-one pairs as points.
    which
        int64. Indices of the pairs of the subset; at least one. At most
        ``settings.subset_pairs`` are used, sampled at random.
    name, number
        Name of the subset, and its number in the seed of the draws.
    others
        int64. Indices of pairs outside the subset. If passed, ``other_null`` draws as many
        pairs from them; it is null if they are too few.

    Yields
    ------
    The columns of ``row_of``, whose null shuffles the pairing, and those of ``matched_null``,
    random matched pairs of equal number and frequency.
    """
    how = view.settings
    rng = np.random.default_rng([how.seed, 2, number])
    chosen = _sample(which, how.subset_pairs, rng)
    rows = list(_rows(view[chosen], name, len(which)))
    draws = range(how.frequency_draws)
    nulls = {"matched": [sample_like(chosen, view.stratum, rng) for _ in draws]}
    if others is not None:
        enough = len(others) >= len(chosen)
        nulls["other"] = [
            np.sort(rng.choice(others, len(chosen), replace=False)) for _ in draws if enough
        ]
    values = {null: _values_of(view, drawn) for null, drawn in nulls.items()}
    for row in rows:
        for null, drawn in values.items():
            row |= _null(null, row["value"], drawn.get(row["measure"], np.zeros(0)))
        yield row


def _values_of(view: View, drawn: Sequence[Ints]) -> dict[str, Floats]:
    """Return the value of each measure for each drawn set of pairs; NaN where undefined."""
    found: dict[str, list[float]] = {}
    for which in drawn:
        for one in view.similarities([], which):
            found.setdefault(one.measure, []).append(np.nan if one.value is None else one.value)
    return {measure: np.array(values) for measure, values in found.items()}


def _rows(view: View, subset: str, available: int) -> Iterator[Row]:
    orders = shuffles(len(view), view.settings.draws, seed=view.settings.seed)
    for one in view.similarities(orders):
        yield row_of(one, one.draws, space=view.name, subset=subset, available=available)


def _sampled(view: View, most: int) -> View:
    rng = np.random.default_rng([view.settings.seed, 3])
    return view.sample(_sample(np.arange(len(view)), most, rng))


def _sample(which: Ints, most: int, rng: np.random.Generator) -> Ints:
    return which if len(which) <= most else np.sort(rng.choice(which, size=most, replace=False))


def document_shifts(lengths: Ints, draws: int, *, seed: int) -> list[Ints]:
    """Return the order of the units after each document is shifted by a random offset."""
    rng = np.random.default_rng([seed, 4])
    return [shifted(lengths, rng) for _ in range(draws)]


def token_rows(
    sides: tuple[Any, Any],
    lengths: Ints,
    settings: SimilaritySettings,
    *,
    space: str,
    subset: str = FULL,
) -> Iterator[Row]:
    """Yield the rows with tokens as points.

    Parameters
    ----------
    sides
        (units, pairs) each, dense or sparse. Column i of one is paired with column i of the other.
    lengths
        int64. Number of units of each document.
    settings
        Draws and the largest number of columns.
    space, subset
        Names for the rows.
    """
    units, available = sides[0].shape
    if not available or not units:
        return
    chosen = _sample(
        np.arange(available), settings.columns, np.random.default_rng([settings.seed, 5])
    )
    x, y = (one[:, chosen] for one in sides)
    orders = document_shifts(lengths, settings.draws, seed=settings.seed)
    for one in subspace_similarities(x, y, orders, variance=settings.variance):
        yield row_of(one, one.draws, space=space, subset=subset, available=available) | {
            "points": "tokens",
            "pairs": len(chosen),
        }


def row_of(one: Similarity, draws: Floats, *, space: str, subset: str, available: int) -> Row:
    """Return a row of the table ``rows``.

    Parameters
    ----------
    one
        The measure.
    draws
        Its values for shuffled pairings.
    space, subset
        Names of the space and of the set of pairs.
    available
        Number of pairs from which those of the measure were sampled.
    """
    return {
        "space": space,
        "subset": subset,
        "points": "features",
        "measure": one.measure,
        "pairs": one.n,
        "available": available,
        "n": one.n,
        "columns_a": one.columns[0],
        "columns_b": one.columns[1],
        "value": one.value,
        **_null("", one.value, draws),
        "note": one.note or None,
    }


def _null(name: str, value: float | None, draws: Floats) -> Row:
    """Return the mean, the 95% range and p of the draws of a null; None without finite draws.

    Parameters
    ----------
    name
        Prefix of the columns; empty for none.
    value
        The observed value.
    draws
        float64, (draws,). NaN where undefined.
    """
    prefix = f"{name}_" if name else ""
    finite = draws[np.isfinite(draws)]
    if value is None or not len(finite):
        return {f"{prefix}{key}": None for key in ("null", "null_low", "null_high", "p")}
    low, high = quantile_interval(finite)
    return {
        f"{prefix}null": float(finite.mean()),
        f"{prefix}null_low": float(low),
        f"{prefix}null_high": float(high),
        f"{prefix}p": permutation_p(value, finite),
    }
