"""Conversion of graphs and edge weights to igraph, and a seed for igraph's generator."""

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
    """Convert a graph to igraph, with nodes in the same order.

    Raises
    ------
    BadInput
        If it is not a graph, or is directed, or has loops or multiple edges.
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
            f"Expected a graph of igraph or networkx; a {type(graph).__name__} was passed. "
            "`Atlas.graph` returns one."
        )
    if g.is_directed():
        raise BadInput(
            "Expected an undirected graph; a directed graph was passed. "
            "Convert it first, with `graph.as_undirected()` in igraph or `graph.to_undirected()` in networkx."
        )
    if not g.is_simple():
        raise BadInput(
            "Expected a simple graph; the graph has loops or multiple edges. "
            "Simplify it first, for example with `graph.simplify()` in igraph."
        )
    return g


def checked_weights(
    graph: Any, weights: str | Sequence[float] | NDArray[np.float64] | None
) -> list[float] | None:
    """Return the edge weights of a graph as a list for igraph, or None.

    Parameters
    ----------
    graph
        A graph of igraph or networkx.
    weights
        Weights in the order of the edges, the name of an edge attribute, or None.

    Raises
    ------
    BadInput
        Unless each edge has one finite weight above 0.
    """
    if weights is None:
        return None
    edges = graph.number_of_edges() if hasattr(graph, "adj") else graph.ecount()
    found = _attribute(graph, weights) if isinstance(weights, str) else weights
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(
            f"Expected weights that are numbers, one for each of {edges:,} edges, or the name of an "
            f"edge attribute; {weights!r:.80} was passed."
        ) from None
    if values.shape != (edges,) or not np.all((values > 0) & np.isfinite(values)):
        raise BadInput(
            f"Expected finite weights above 0, one for each of {edges:,} edges; "
            f"{values.size:,} were passed, with minimum {values.min(initial=np.inf):g}."
        )
    listed: list[float] = values.tolist()
    return listed


def _attribute(graph: Any, name: str) -> list[Any]:
    """Return an attribute of all edges, in their order."""
    of_edges = (
        [data for *_, data in graph.edges(data=True)]
        if hasattr(graph, "adj")
        else [edge.attributes() for edge in graph.es]
    )
    missing = sum(name not in data for data in of_edges)
    if missing:
        known = sorted({key for data in of_edges for key in data})
        raise BadInput(
            f"{missing:,} of {len(of_edges):,} edges have no attribute {name!r}; the attributes of "
            f"edges are {', '.join(map(repr, known)) or 'none'}."
        )
    return [data[name] for data in of_edges]


@contextmanager
def seeded(seed: int | random.Random) -> Iterator[None]:
    """Seed igraph's random numbers within the context; then restore Python's generator.

    With a generator in place of a seed, its sequence continues from one context to the next.
    """
    import igraph

    generator = seed if isinstance(seed, random.Random) else random.Random(seed)
    igraph.set_random_number_generator(generator)
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)
