"""What chance gives: the statistics of graphs drawn with the counts of tokens and features, or the degrees, kept."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.graph.distributions import correlate
from analysis.graph.graph_statistics import EXACT_STEPS, SOURCES, describe
from analysis.graph.igraph_conversion import as_igraph, seeded
from analysis.statistics.bipartite_null import swapped
from atlas.progress import SILENT, Progress
from ingest.codes.topk_membership import Membership, edges

if TYPE_CHECKING:
    import igraph

__all__ = ["COMPARED", "NULLS", "Drawn", "bipartite", "compare", "configuration", "numbers_of"]

Numbers: TypeAlias = dict[str, float | None]

#: The nulls by name, each with what it keeps.
NULLS = {
    "bipartite": "features swapped between tokens: each token's number of features and each "
    "feature's number of tokens kept",
    "documents": "the same within each document, so each feature's number of tokens there is kept too",
    "configuration": "edges swapped: each feature's degree kept",
}

#: The statistics that are compared.
COMPARED = (
    "edges", "average_degree", "density", "components", "isolates", "largest_component",
    "average_clustering", "clustering_over_density", "transitivity", "assortativity", "k_core", "path_length",
    "modularity", "communities", "degree_frequency_pearson", "degree_frequency_spearman",
)  # fmt: skip

_SWAPS = 10  # of edges, for each edge

# The same number summed in another order must not count as another one.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Drawn:
    """One statistic of a graph beside that of the graphs drawn.

    Parameters
    ----------
    statistic, observed
        Its name and its value.
    draws
        Drawn graphs that have a value.
    mean, sd
        Over these; ``sd`` is None for fewer than two.
    low, high
        The range that holds the middle 95% of these (of few draws, nearly all).
    z
        (observed - mean) / sd; None where sd is 0.
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
    """Return the statistics of ``COMPARED`` of a graph.

    Parameters
    ----------
    graph
        Undirected and simple.
    active
        On how many tokens each feature is active; without it, nothing of frequency is told.
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
    """Return what draws the graph of a swapped table, given a seed; see ``swapped``."""
    import igraph

    def draw(seed: int) -> "igraph.Graph":
        pairs, _ = edges(
            swapped(membership, seed, within_documents=within_documents), min_count=min_count
        )
        return igraph.Graph(n=membership.d_sae, edges=pairs)

    return draw


def configuration(graph: "igraph.Graph") -> Callable[[int], "igraph.Graph"]:
    """Return what draws a simple graph of the same degrees, given a seed.

    Edges a–b and c–d become a–d and c–b, unless these are there already; ten tries for
    each edge. It is the least of the nulls: a token links all its features to each other,
    and the degrees know nothing of that.
    """
    given = as_igraph(graph)

    def draw(seed: int) -> "igraph.Graph":
        g = given.copy()
        if g.ecount() > 1:
            with seeded(seed):
                g.rewire(n=_SWAPS * g.ecount())
        return g

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
) -> list[Drawn]:
    """Draw graphs, measure each, and say where the observed one stands.

    Parameters
    ----------
    observed
        The statistics of the graph.
    draw, measure
        What draws a graph and what measures it; both take a seed, so that Leiden's method
        is run anew on every graph.
    draws
        How many.
    seed
        Draw i takes a seed made of this and i.
    progress, title
        Told how far it is.
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


def _drawn(name: str, observed: float | None, given: Sequence[float | None]) -> Drawn:
    null = np.array([v for v in given if v is not None], dtype=np.float64)
    if not len(null) or observed is None:
        return Drawn(name, observed, len(null))
    mean = float(null.mean())
    low, high = (float(np.quantile(null, q)) for q in (0.025, 0.975))
    sd = float(null.std(ddof=1)) if len(null) > 1 else None
    if sd is not None and sd <= _ROUNDING * abs(mean):
        sd = 0.0
    z = (observed - mean) / sd if sd else None
    return Drawn(name, observed, len(null), mean, sd, low, high, z, _where(observed, null))


def _where(observed: float, null: NDArray[np.float64]) -> str:
    if all(math.isclose(observed, v, rel_tol=_ROUNDING) for v in null.tolist()):
        return "equal"
    if observed > null.max():
        return "above"
    return "below" if observed < null.min() else "within"
