"""Modularity of random graphs with the degrees and the edge weights of a graph."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.communities.leiden import partition
from analysis.graph.null_comparison import NullSummary, Numbers, compare, configuration
from atlas.progress import SILENT, Progress

if TYPE_CHECKING:
    import igraph

__all__ = ["modularity_null"]


def modularity_null(
    graph: "igraph.Graph",
    weights: NDArray[np.float64],
    modularity: float | None,
    *,
    draws: int = 5,
    seed: int = 0,
    progress: Progress = SILENT,
    title: str = "Modularity of random graphs",
) -> NullSummary:
    """Compare the modularity of a graph with that of random graphs of the same degrees.

    The edges of a random graph are rewired (see ``analysis.statistics.nulls.rewired``) and have
    the weights of the graph in random order. Each has its own partition by Leiden's method. The
    degree of each node and the set of weights are preserved. The sum of the weights of a node
    and the triangles are not.

    Parameters
    ----------
    graph
        An undirected graph, without loops or multiple edges.
    weights
        float64, (edges,). Edge weights above 0, in the order of the edges.
    modularity
        Modularity of the graph with these weights; None without an edge.
    draws
        Number of random graphs.
    seed
        Seed of the draws.
    progress, title
        Progress reporter, and the title of the stage.

    Returns
    -------
    The summary of the random graphs; without values if the graph has no edge.

    Examples
    --------
    >>> import igraph
    >>> two = igraph.Graph.Full(5).disjoint_union(igraph.Graph.Full(5))
    >>> null = modularity_null(two, np.ones(20), 0.5, seed=1)
    >>> null.draws, null.where, null.mean < 0.5
    (5, 'above', True)
    """
    if modularity is None:
        return NullSummary("modularity", None, 0)

    def measure(drawn: "igraph.Graph", one: int) -> Numbers:
        order = np.random.default_rng(one).permutation(weights)
        return {"modularity": partition(drawn, weights=order, seed=one).modularity}

    (found,) = compare(
        {"modularity": modularity},
        configuration(graph),
        measure=measure,
        draws=draws,
        seed=seed,
        progress=progress,
        title=title,
    )
    return found
