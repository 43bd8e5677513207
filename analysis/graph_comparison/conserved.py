"""Edges conserved under matches: both ends are matched, and the partners have an edge too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_comparison.matched_features import Partners
from analysis.statistics.nulls import permuted_within, rewired_edges
from atlas.progress import SILENT, Progress

__all__ = [
    "MEASURED",
    "Induced",
    "Measured",
    "Panel",
    "covered",
    "induced",
    "intervals",
    "measure",
    "panel",
    "permute",
    "rewire",
]

#: Conserved shares of A's edges and of B's edges, their Jaccard index, and the rank correlation
#: of the weights of conserved edges.
MEASURED = ("share_ab", "share_ba", "jaccard", "weights")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Induced:
    """The edges of a graph between matched features, which are numbered by match.

    Parameters
    ----------
    features
        Number of matched features.
    ends
        int64, (edges, 2). Lower number first.
    r
        float64, (edges,). The lower of the match correlations at the two ends.
    weight
        float64, (edges,), or None.
    """

    features: int
    ends: NDArray[np.int64]
    r: Floats
    weight: Floats | None

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def key(self) -> NDArray[np.int64]:
        """A unique number per edge; (edges,)."""
        return self.ends[:, 0] * self.features + self.ends[:, 1]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Indices that sort the edges by number; (edges,)."""
        return np.argsort(self.key)

    @cached_property
    def sorted_key(self) -> NDArray[np.int64]:
        """The sorted numbers; (edges,)."""
        return self.key[self.order]

    def renumbered(self, number: NDArray[np.int64]) -> "Induced":
        """Renumber feature i to ``number[i]``, with the same correlations and weights."""
        return replace(self, ends=_sorted(number[self.ends]))


@dataclass(frozen=True, eq=False)
class Panel:
    """The edges of two graphs between matched features.

    Parameters
    ----------
    a, b
        Edges of each graph.
    """

    a: Induced
    b: Induced

    @cached_property
    def shared(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the shared edges in A and in B."""
        a, b = self.a, self.b
        if not len(a):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        at = np.searchsorted(a.sorted_key, b.key)
        at[at == len(a)] = 0
        hit = a.sorted_key[at] == b.key
        return a.order[at[hit]], np.flatnonzero(hit)

    @cached_property
    def ranks(self) -> tuple[Floats, Floats] | None:
        """Ranks of the weights of the shared edges in A and in B; None without weights."""
        if self.a.weight is None or self.b.weight is None:
            return None
        in_a, in_b = self.shared
        return rankdata(self.a.weight[in_a]), rankdata(self.b.weight[in_b])


@dataclass(frozen=True, eq=False)
class Measured:
    """Conserved shares of edges; NaN where there is no edge.

    Parameters
    ----------
    total
        float64, (4,). See ``MEASURED``.
    by_r
        float64, (2, bins). Conserved shares of A's and of B's edges, by r.
    """

    total: Floats
    by_r: Floats

    @property
    def flat(self) -> Floats:
        """All numbers as one array."""
        return np.concatenate([self.total, self.by_r.ravel()])


def induced(graph: CoactivationGraph, features: NDArray[np.int64], r: Floats) -> Induced:
    """Return the edges of a graph with both ends matched.

    Parameters
    ----------
    graph
        The graph.
    features
        int64, (matches,). The node of each match in the graph.
    r
        float64, (matches,). Correlation of each match.
    """
    number = np.full(graph.features, -1, dtype=np.int64)
    number[features] = np.arange(len(features))
    ends = number[graph.pairs]
    both = (ends >= 0).all(axis=1)
    ends = _sorted(ends[both])
    weight = None if graph.weight is None else graph.weight[both]
    return Induced(len(features), ends, _lower(r, ends), weight)


def measure(panels: Sequence[Panel], *, r_bins: int, times: Floats | None = None) -> Measured:
    """Measure the conserved shares of edges between matched features.

    Parameters
    ----------
    panels
        The edges of A and B. With several pairs of graphs, such as one per halving, edges are
        pooled, and the rank correlation is averaged.
    r_bins
        Number of equal bins of r from 0 to 1; the first includes r below 0.
    times
        (matches,). Multiplicity of each feature in a resample; None for 1. The multiplicity of
        an edge is the product of those of its ends.
    """
    counted = [counts(one, r_bins=r_bins, times=times) for one in panels]
    part, total = np.sum([c[:2] for c in counted], axis=0)
    ranks = [_rank(one, times) for one in panels]
    shares = np.divide(part, total, out=np.full(len(part), np.nan), where=total > 0)
    return Measured(np.append(shares[:3], np.mean(ranks)), shares[3:].reshape(2, r_bins))


def counts(panel: Panel, *, r_bins: int, times: Floats | None = None) -> Floats:
    """Count the conserved edges and all edges.

    Parameters
    ----------
    panel
        The edges of A and B.
    r_bins, times
        See ``measure``.

    Returns
    -------
    counts
        float64, (2, 3 + 2 · r_bins). Numerators and denominators of the shares of A's and of B's
        edges, of the Jaccard index, and of the shares by r.
    """
    in_a, in_b = panel.shared
    n_a, n_b = _copies(panel.a, times), _copies(panel.b, times)
    both, of_a, of_b = n_b[in_b].sum(), n_a.sum(), n_b.sum()
    bins = [np.clip((x.r * r_bins).astype(np.int64), 0, r_bins - 1) for x in (panel.a, panel.b)]

    def by_r(which: NDArray[np.int64], copies: Floats) -> Floats:
        return np.bincount(which, weights=copies, minlength=r_bins).astype(np.float64)

    part = [np.full(3, both), by_r(bins[0][in_a], n_a[in_a]), by_r(bins[1][in_b], n_b[in_b])]
    total = [np.array([of_a, of_b, of_a + of_b - both]), by_r(bins[0], n_a), by_r(bins[1], n_b)]
    return np.stack([np.concatenate(part), np.concatenate(total)])


def permute(
    panels: Sequence[Panel],
    stratum: NDArray[np.int64],
    *,
    r_bins: int,
    draws: int,
    seed: int,
    progress: Progress = SILENT,
) -> Floats:
    """Measure with matches permuted within strata, one permutation per draw for all graphs.

    Parameters
    ----------
    panels
        Pairs of graphs on the same matches, see ``measure``.
    stratum
        int64, (matches,).
    r_bins
        See ``measure``.
    draws, seed, progress
        Number of draws, their seed, and the progress reporter.

    Returns
    -------
    measured
        float64, (draws, 4 + 2 · r_bins).
    """
    rng = np.random.default_rng(seed)

    def resample() -> Floats:
        number = permuted_within(stratum, rng)
        return measure([Panel(x.a, x.b.renumbered(number)) for x in panels], r_bins=r_bins).flat

    return _repeat(resample, draws, "Matches permuted", progress)


def rewire(
    panels: Sequence[Panel],
    r: Floats,
    *,
    r_bins: int,
    draws: int,
    seed: int,
    progress: Progress = SILENT,
) -> Floats:
    """Measure with B's edges between matched features swapped, which preserves degrees.

    Strata group features of similar degree. This null preserves each degree exactly, and does
    not change the matches.

    Parameters
    ----------
    panels, r_bins, draws, seed, progress
        See ``permute``.
    r
        float64, (matches,).

    Returns
    -------
    measured
        float64, (draws, 4 + 2 · r_bins); NaN for the rank correlation, since swapped edges have
        no weights.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(panels)).tolist()
    chains = [
        rewired_edges(x.b.ends, nodes=x.b.features, seed=one)
        for x, one in zip(panels, seeds, strict=True)
    ]

    def resample() -> Floats:
        drawn = []
        for x, chain in zip(panels, chains, strict=True):
            ends = _sorted(next(chain))
            drawn.append(Panel(x.a, Induced(x.b.features, ends, _lower(r, ends), None)))
        return measure(drawn, r_bins=r_bins).flat

    return _repeat(resample, draws, "Edges swapped", progress)


def intervals(panels: Sequence[Panel], *, r_bins: int, draws: int, seed: int) -> Floats:
    """Measure with resampled matched features (vertex bootstrap).

    Features are drawn with replacement, and two copies have an edge if their features have one
    (Snijders & Borgatti 1999). Pairs of copies of one feature are excluded. Ranks of weights
    are those over all edges.

    Parameters
    ----------
    panels, r_bins, draws, seed
        See ``permute``.

    Returns
    -------
    measured
        float64, (draws, 4 + 2 · r_bins).
    """
    rng = np.random.default_rng(seed)
    n = panels[0].a.features

    def resample() -> Floats:
        times = np.bincount(rng.integers(0, max(n, 1), n), minlength=n).astype(np.float64)
        return measure(panels, r_bins=r_bins, times=times).flat

    return _repeat(resample, draws, "Features resampled", SILENT)


def covered(graph: CoactivationGraph, features: NDArray[np.int64]) -> float | None:
    """Return the share of a graph's edges with both ends matched; None without edges."""
    if not len(graph.pairs):
        return None
    return float(np.isin(graph.pairs, features).all(axis=1).mean())


def panel(a: CoactivationGraph, b: CoactivationGraph, partners: Partners) -> Panel:
    """Return the edges of two graphs between matched features."""
    return Panel(induced(a, partners.a, partners.r), induced(b, partners.b, partners.r))


def _repeat(resample: Callable[[], Floats], draws: int, title: str, progress: Progress) -> Floats:
    found = []
    with progress.stage(title, total=draws, unit="draws") as stage:
        for _ in range(draws):
            found.append(resample())
            stage.advance()
    return np.array(found)


def _rank(panel: Panel, times: Floats | None) -> float:
    """Return the Spearman correlation of the weights of shared edges, or NaN."""
    if panel.ranks is None:
        return np.nan
    n = _copies(panel.b, times)[panel.shared[1]]
    if np.count_nonzero(n) < 3:
        return np.nan
    x, y = (ranks - np.average(ranks, weights=n) for ranks in panel.ranks)
    spread = (n @ (x * x)) * (n @ (y * y))
    return float(n @ (x * y) / np.sqrt(spread)) if spread > 0 else np.nan


def _lower(r: Floats, ends: NDArray[np.int64]) -> Floats:
    return np.minimum(r[ends[:, 0]], r[ends[:, 1]])


def _sorted(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put the lower end of each edge first; faster than sorting rows of two."""
    return np.stack([ends.min(axis=1), ends.max(axis=1)], axis=1)


def _copies(edges: Induced, times: Floats | None) -> Floats:
    return np.ones(len(edges)) if times is None else times[edges.ends].prod(axis=1)
