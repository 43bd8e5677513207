"""Comparison of the statistics of a co-activation graph with those of null graphs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import graph_of_membership
from analysis.graph.distributions import correlate
from analysis.graph.graph_statistics import EXACT_STEPS, SOURCES, describe
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.nulls import rewired, swapped
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership

if TYPE_CHECKING:
    import igraph

__all__ = [
    "COMPARED",
    "NULLS",
    "SMALL",
    "NullSummary",
    "bipartite",
    "compare",
    "configuration",
    "numbers_of",
]

Numbers: TypeAlias = dict[str, float | None]

#: The nulls by name, with the quantities that each preserves.
NULLS = {
    "bipartite": "features swapped between tokens; preserves the number of features of each token and the "
    "number of tokens of each feature",
    "documents": "features swapped within documents; also preserves the number of tokens of each feature in "
    "each document",
    "configuration": "edges swapped; preserves the degree of each feature",
}

#: The statistics that are compared.
COMPARED = (
    "edges",
    "average_degree",
    "density",
    "components",
    "isolates",
    "largest_component",
    "average_clustering",
    "clustering_over_density",
    "transitivity",
    "assortativity",
    "k_core",
    "path_length",
    "modularity_unweighted",
    "communities",
    "degree_frequency_pearson",
    "degree_frequency_spearman",
)

#: Draws below which 2.5% of them are less than one draw.
SMALL = 39

# The same sum in a different order must not compare as different.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class NullSummary:
    """One statistic of a graph, compared with its values in null graphs.

    Parameters
    ----------
    statistic, observed
        Name and observed value.
    draws
        Number of null graphs with a value.
    mean, sd
        Mean and standard deviation of these values; ``sd`` is None for fewer than two.
    low, high
        Limits of the central 95% of these values; the lowest and the highest for fewer than
        ``SMALL`` draws, which have no 95% range.
    z
        (observed - mean) / sd; None if sd is 0.
    where
        ``"above"`` or ``"below"`` all draws, ``"within"`` their range, or ``"equal"`` to all.
    """

    statistic: str
    observed: float | None
    draws: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    z: float | None = None
    where: str | None = None


def numbers_of(
    graph: "igraph.Graph",
    active: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
    exact_steps: int = EXACT_STEPS,
    sources: int = SOURCES,
) -> Numbers:
    """Compute the statistics in ``COMPARED`` of a graph.

    Parameters
    ----------
    graph
        An undirected simple graph.
    active
        Number of active tokens of each feature; without it, correlations with frequency are
        omitted.
    seed, exact_steps, sources
        See ``describe``.
    """
    found = describe(graph, seed=seed, exact_steps=exact_steps, sources=sources)
    numbers: Numbers = {name: getattr(found, name) for name in COMPARED if hasattr(found, name)}
    if active is not None:
        r = correlate(np.array(graph.degree(), dtype=np.int64), active)
        numbers["degree_frequency_pearson"] = r.pearson
        numbers["degree_frequency_spearman"] = r.spearman
    return numbers


def bipartite(
    membership: Membership, *, within_documents: bool, min_count: int = 1
) -> Callable[[int], "igraph.Graph"]:
    """Return a function from a seed to a graph of the bipartite null; see ``swapped``."""

    def draw(seed: int) -> "igraph.Graph":
        drawn = swapped(membership, seed, within_documents=within_documents)
        return graph_of_membership(drawn, min_count=min_count).graph

    return draw


def configuration(graph: "igraph.Graph") -> Callable[[int], "igraph.Graph"]:
    """Return a function from a seed to a random simple graph with the same degrees.

    This is the weakest null: it ignores that a token links all its features to each other. See
    ``rewired``.
    """

    def draw(seed: int) -> "igraph.Graph":
        return next(rewired(graph, seed=seed))

    return draw


def compare(
    observed: Numbers,
    draw: Callable[[int], "igraph.Graph"],
    *,
    measure: Callable[["igraph.Graph", int], Numbers],
    draws: int = 10,
    seed: int = 0,
    progress: Progress = SILENT,
    title: str = "Null graphs",
) -> list[NullSummary]:
    """Compare the statistics of a graph with those of null graphs.

    Parameters
    ----------
    observed
        The statistics of the graph.
    draw, measure
        Functions that draw a graph and compute its statistics. Both take a seed, so Leiden's
        method has a new seed on every graph.
    draws
        Number of null graphs.
    seed
        Seed of the draws.
    progress, title
        Progress reporter, and the title of the stage.
    """
    drawn: list[Numbers] = []
    with progress.stage(title, total=draws, unit="draws") as stage:
        for one in _seeds(seed, draws):
            drawn.append(measure(draw(one), one))
            stage.advance()
    return [_drawn(name, observed[name], [d.get(name) for d in drawn]) for name in observed]


def _seeds(seed: int, draws: int) -> Iterator[int]:
    for each in np.random.SeedSequence(seed).generate_state(draws):
        yield int(each)


def _drawn(name: str, observed: float | None, values: Sequence[float | None]) -> NullSummary:
    null = np.array([v for v in values if v is not None], dtype=np.float64)
    if not len(null) or observed is None:
        return NullSummary(name, observed, len(null))
    mean = float(null.mean())
    share = 0.95 if len(null) >= SMALL else 1.0
    low, high = (float(limit) for limit in quantile_interval(null, share=share))
    sd = float(null.std(ddof=1)) if len(null) > 1 else None
    if sd is not None and sd <= _ROUNDING * abs(mean):
        sd = 0.0
    z = (observed - mean) / sd if sd else None
    return NullSummary(name, observed, len(null), mean, sd, low, high, z, _where(observed, null))


def _where(observed: float, null: NDArray[np.float64]) -> str:
    if all(math.isclose(observed, v, rel_tol=_ROUNDING) for v in null.tolist()):
        return "equal"
    if observed > null.max():
        return "above"
    return "below" if observed < null.min() else "within"
