"""Graphs drawn at random among those of the same degrees: edges swapped, two at a time."""

import numpy as np
from numpy.typing import NDArray

from ingest.compilation import compiled

__all__ = ["Rewired"]

SWAPS = 5  # of edges, for each edge and draw
FIRST = 10  # more of them before the first draw, which would otherwise resemble the original graph


class Rewired:
    """Draws simple graphs with the degrees of a graph, one after the other.

    A swap takes edges a–b and c–d at random and makes them a–d and c–b, unless one of these is
    there or joins a node to itself. A refused swap counts as a step, so after many steps all
    graphs with these degrees are equally likely. Each draw goes on from the last one.

    Held are ``nodes`` squared bytes: 270 MB for 16,384 nodes. A comparison holds one of these for
    each halving at once, whose nodes are the matched features.

    Parameters
    ----------
    ends
        int64, (edges, 2). The edges of the graph, each once.
    nodes
        How many nodes.
    seed
        Of the draws.
    """

    def __init__(self, ends: NDArray[np.int64], nodes: int, *, seed: int) -> None:
        self._ends = np.sort(ends, axis=1)
        self._there = np.zeros((nodes, nodes), dtype=np.bool_)
        self._there[self._ends[:, 0], self._ends[:, 1]] = True
        self._rng = np.random.default_rng(seed)
        self._swap(FIRST)

    def draw(self) -> NDArray[np.int64]:
        """Return the edges of the next graph, lower node first; (edges, 2)."""
        self._swap(SWAPS)
        return self._ends.copy()

    def _swap(self, swaps: int) -> None:
        if len(self._ends) > 1:
            _swap_all(self._rng, self._ends, self._there, swaps)


@compiled
def _swap_all(
    rng: np.random.Generator, ends: NDArray[np.int64], there: NDArray[np.bool_], swaps: int
) -> None:
    edges = len(ends)
    for _ in range(swaps * edges):
        e, f = int(rng.random() * edges), int(rng.random() * edges)
        a, b, c, d = ends[e, 0], ends[e, 1], ends[f, 0], ends[f, 1]
        if rng.random() < 0.5:
            c, d = d, c
        if a == d or b == c:
            continue
        p, q, r, s = min(a, d), max(a, d), min(b, c), max(b, c)
        # Edges that meet in a node swap into each other; one of the new ones is then there.
        if there[p, q] or there[r, s]:
            continue
        there[min(a, b), max(a, b)] = False
        there[min(c, d), max(c, d)] = False
        there[p, q] = True
        there[r, s] = True
        ends[e, 0], ends[e, 1], ends[f, 0], ends[f, 1] = p, q, r, s
