"""The graph and the weights that were given, as igraph holds them, and igraph's generator with a seed."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput

if TYPE_CHECKING:
    import igraph

__all__ = ["as_igraph", "checked_weights", "seeded"]


def as_igraph(graph: Any) -> "igraph.Graph":
    """Return a graph as igraph holds it, nodes in the order of the given one.

    Raises
    ------
    BadInput
        If it is no graph, directed, or has loops or double edges.
    """
    import igraph

    if isinstance(graph, igraph.Graph):
        g = graph
    elif hasattr(graph, "adj") and hasattr(graph, "number_of_nodes"):  # networkx, not imported
        number = {node: i for i, node in enumerate(graph)}
        ends = [(number[a], number[b]) for a, b in graph.edges()]
        g = igraph.Graph(n=len(number), edges=ends, directed=graph.is_directed())
    else:
        raise BadInput(
            f"A graph of igraph or networkx is expected, and a {type(graph).__name__} was given; "
            "`Atlas.graph` makes one."
        )
    if g.is_directed():
        raise BadInput(
            "A directed graph was given, and co-activation has no direction; "
            "give one without, such as `graph.as_undirected()` in igraph."
        )
    if not g.is_simple():
        raise BadInput(
            "The graph has loops or several edges between two nodes, which these statistics do not "
            "count alike everywhere; give a simple one, such as `graph.simplify()` in igraph."
        )
    return g


def checked_weights(
    graph: "igraph.Graph", weights: Sequence[float] | NDArray[np.float64] | None
) -> list[float] | None:
    """Return the weights of a graph's edges as igraph takes them; None for none.

    Raises
    ------
    BadInput
        If there is not one finite weight above 0 for each edge.
    """
    if weights is None:
        return None
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (graph.ecount(),) or not np.all((given > 0) & np.isfinite(given)):
        raise BadInput(
            f"Weights above 0 are expected, one for each of {graph.ecount():,} edges; "
            f"{given.size:,} were given, the least of them {given.min(initial=np.inf):g}."
        )
    listed: list[float] = given.tolist()
    return listed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let igraph draw what this seed gives; afterwards as before, from Python's own generator."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)
