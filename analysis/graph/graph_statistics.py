"""Statistics of one graph: size, components, clustering, cores, distances and communities.

The numbers are computed by igraph and equal those of networkx. An undefined number, such as
the assortativity of a graph without edges, is None, and a note gives the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.communities.leiden import partition
from analysis.graph.igraph_conversion import as_igraph

if TYPE_CHECKING:
    import igraph

__all__ = ["GraphStatistics", "describe"]

#: Largest nodes × edges of the largest component for exact distances (some seconds), and the
#: number of random source nodes beyond that.
EXACT_STEPS = 500_000_000
SOURCES = 256

_CHUNK = 32  # sources per call to igraph


@dataclass(frozen=True)
class GraphStatistics:
    """Statistics of an undirected, unweighted graph.

    Parameters
    ----------
    nodes, edges
        Number of nodes and of edges.
    average_degree
        2 · edges / nodes.
    density
        Share of all pairs of nodes that have an edge; 0 for fewer than two nodes.
    components
        Number of connected components, including nodes without edges.
    isolates
        Number of nodes without edges.
    largest_component
        Number of nodes in the largest component.
    component_sizes
        Number of components of each size.
    average_clustering
        Mean over all nodes of the share of pairs of neighbours with an edge; 0 for nodes of
        degree 0 and 1.
    clustering_over_density
        Average clustering divided by density, its expected value with random edges. The ratio
        reduces the effect of the number of edges, but it cannot be large in a dense graph.
    transitivity
        Share of paths of two edges that a third edge closes; 0 if there are none.
    assortativity
        Pearson correlation of the degrees at both ends of an edge.
    k_core
        The largest k with a nonempty k-core.
    cores
        Number of nodes of each core number.
    path_length
        Mean distance between two nodes of the largest component, in edges.
    path_length_error
        Standard error of the path length over sampled sources; None if it is exact.
    path_sources
        Number of nodes from which distances were computed.
    modularity_unweighted
        Modularity (resolution 1) of the communities that Leiden's method finds.
    communities
        Number of these communities, without isolated nodes.
    notes
        For each number without a value, the reason.
    """

    nodes: int
    edges: int
    average_degree: float | None
    density: float
    components: int
    isolates: int
    largest_component: int
    component_sizes: Mapping[int, int]
    average_clustering: float | None
    clustering_over_density: float | None
    transitivity: float
    assortativity: float | None
    k_core: int
    cores: Mapping[int, int]
    path_length: float | None
    path_length_error: float | None
    path_sources: int
    modularity_unweighted: float | None
    communities: int
    notes: Mapping[str, str] = field(default_factory=dict)


def describe(
    graph: Any, *, seed: int = 0, exact_steps: int = EXACT_STEPS, sources: int = SOURCES
) -> GraphStatistics:
    """Compute the statistics of a graph.

    Parameters
    ----------
    graph
        An undirected graph of igraph or networkx, without loops or multiple edges. Weights are
        ignored.
    seed
        Seed of Leiden's method and of the sampled sources.
    exact_steps
        Largest nodes × edges of the largest component for an exact mean distance.
    sources
        Number of sampled source nodes beyond that.

    Raises
    ------
    BadInput
        If the graph is directed, or has loops or multiple edges.
    """
    g = as_igraph(graph)
    n, m = g.vcount(), g.ecount()
    parts = g.connected_components(mode="weak")
    sizes = np.array(parts.sizes(), dtype=np.int64)
    notes = {} if n else dict.fromkeys(("average_degree", "average_clustering"), "there is no node")
    assortativity = _assortativity(g, notes)
    path = _path_length(parts, seed=seed, exact_steps=exact_steps, sources=sources)
    if path[0] is None:
        notes["path_length"] = "no two nodes are connected"
    found = partition(g, seed=seed)
    if found.modularity is None:
        notes["modularity_unweighted"] = "there is no edge"
        notes["clustering_over_density"] = "there is no edge"
    clustering = g.transitivity_avglocal_undirected(mode="zero") if n else None
    density = 2 * m / (n * (n - 1)) if n > 1 else 0.0
    cores = np.array(g.coreness(), dtype=np.int64)
    return GraphStatistics(
        nodes=n,
        edges=m,
        average_degree=2 * m / n if n else None,
        density=density,
        components=len(sizes),
        isolates=int(np.sum(sizes == 1)),
        largest_component=int(sizes.max(initial=0)),
        component_sizes=_numbers(sizes),
        average_clustering=clustering,
        clustering_over_density=clustering / density if clustering is not None and m else None,
        transitivity=g.transitivity_undirected(mode="zero"),
        assortativity=assortativity,
        k_core=int(cores.max(initial=0)),
        cores=_numbers(cores),
        path_length=path[0],
        path_length_error=path[1],
        path_sources=path[2],
        modularity_unweighted=found.modularity,
        communities=len(found),
        notes=notes,
    )


def _numbers(values: NDArray[np.int64]) -> dict[int, int]:
    found, times = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), times.tolist(), strict=True))


def _assortativity(g: "igraph.Graph", notes: dict[str, str]) -> float | None:
    """Return the correlation of degrees over edges, from sums of integers.

    Integer sums detect constant degrees exactly; a floating-point variance may not round to 0.
    """
    degree = np.array(g.degree(), dtype=np.int64)
    ends = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    both = degree[ends]
    if not len(both) or both.min() == both.max():
        notes["assortativity"] = (
            "the ends of all edges have one degree" if len(both) else "there is no edge"
        )
        return None
    x, y = np.concatenate([both, both[:, ::-1]]).T.astype(np.float64)
    return float(np.corrcoef(x, y)[0, 1])


def _path_length(
    parts: Any, *, seed: int, exact_steps: int, sources: int
) -> tuple[float | None, float | None, int]:
    """Return the mean distance in the largest component, its error, and the number of sources."""
    if not len(parts) or max(parts.sizes()) < 2:
        return None, None, 0
    g = parts.giant()
    n = g.vcount()
    if n * g.ecount() <= exact_steps or sources >= n:
        return float(g.average_path_length()), None, n
    chosen = np.random.default_rng(seed).choice(n, size=sources, replace=False).tolist()
    means = np.concatenate(
        [
            np.array(g.distances(source=chosen[at : at + _CHUNK])).sum(axis=1) / (n - 1)
            for at in range(0, sources, _CHUNK)
        ]
    )
    error = means.std(ddof=1) / np.sqrt(sources) * np.sqrt(1 - sources / n) if sources > 1 else None
    return float(means.mean()), None if error is None else float(error), sources
