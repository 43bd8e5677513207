"""Mapper graphs of directions over a grid of settings, their stability, and null graphs.

The lens is the projection onto the first two principal components. The norm of decoder rows is
no lens, because SAEs scale their rows to one length. A cell of the grid covers the lens by
overlapping squares, and clusters the directions of each square by DBSCAN in angular distance.
Each cluster is a node; clusters with a common direction have an edge.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import shortest_path
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from analysis.statistics.direction_nulls import NULLS, draw_directions
from analysis.statistics.permutation import max_statistic_p, permutation_p
from analysis.topology.extra import library
from analysis.topology.persistence import ALL, angles
from analysis.topology.settings import TopologySettings

__all__ = [
    "MAPPER_STATISTICS",
    "Cell",
    "MapperGraph",
    "compare_mapper",
    "grid_of",
    "longest_loop",
    "loops_of",
    "mapper_graph",
    "stability_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAPPER_STATISTICS = ("longest_loop", "components")
"""Numbers of a Mapper graph that are compared with null graphs."""

_LARGE = 0.05  # smallest share of the directions of a component that is counted
_SUBSAMPLE = 0.8
_ROUNDING = 1e-9  # radians; smaller differences are rounding error


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: intervals in each dimension, their overlap, and the multiple for eps."""

    cubes: int
    overlap: float
    eps: float


@dataclass(frozen=True, eq=False)
class MapperGraph:
    """A Mapper graph.

    Parameters
    ----------
    points
        Number of directions.
    members
        For each node, int64: the directions in it, ascending.
    edges
        int64, (edges, 2). Pairs of nodes with a common direction.
    lens
        float64, (points, 2).
    """

    points: int
    members: list[Ints]
    edges: Ints
    lens: Floats

    @property
    def graph(self) -> "nx.Graph[int]":
        """The nodes and edges."""
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from(range(len(self.members)))
        graph.add_edges_from(self.edges.tolist())
        return graph

    @property
    def labels(self) -> Ints:
        """int64, (points,). Component of each direction, -1 for noise; the largest if several."""
        found = np.full(self.points, -1)
        parts = [self._points_of(nodes) for nodes in nx.connected_components(self.graph)]
        for number, part in enumerate(sorted(parts, key=lambda p: (len(p), p.min()))):
            found[part] = number
        return found

    def summary(self) -> dict[str, Any]:
        """Return the numbers of nodes, edges, loops and components, and the share of points."""
        retained = np.unique(np.concatenate([np.empty(0, np.int64), *self.members]))
        parts = [self._points_of(nodes) for nodes in nx.connected_components(self.graph)]
        return {
            "nodes": len(self.members),
            "edges": len(self.edges),
            "loops": loops_of(len(self.members), self.edges),
            "longest_loop": longest_loop(len(self.members), self.edges),
            "components": sum(len(part) >= _LARGE * self.points for part in parts),
            "retained": len(retained) / self.points,
        }

    def _points_of(self, nodes: set[int]) -> Ints:
        points: Ints = np.unique(np.concatenate([self.members[node] for node in nodes]))
        return points


def grid_of(settings: TopologySettings) -> list[Cell]:
    """Return the cells of the grid."""
    return [Cell(*one) for one in product(settings.cubes, settings.overlap, settings.eps)]


def mapper_graph(directions: Floats, cell: Cell, *, min_samples: int) -> MapperGraph:
    """Compute the Mapper graph of directions.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length; at least two.
    cell
        The cover, and the angle of DBSCAN as a multiple of the median angle of core points.
    min_samples
        Directions within this angle, the own one included, that make a core point.

    Raises
    ------
    Missing
        If kmapper is not installed.
    """
    return _Prepared(directions, min_samples).graph(cell)


def loops_of(nodes: int, edges: Ints) -> int:
    """Return the number of independent loops of a graph whose cliques are filled.

    Four overlapping squares of a cover make a clique, which is no loop.

    Parameters
    ----------
    nodes
        Number of nodes.
    edges
        int64, (edges, 2).

    Examples
    --------
    >>> loops_of(4, np.array([[0, 1], [1, 2], [2, 3], [0, 3]]))
    1
    >>> loops_of(3, np.array([[0, 1], [1, 2], [0, 2]]))
    0
    """
    if len(edges) < 4:
        return 0
    ends = np.sort(edges, axis=1)
    near = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(nodes, nodes))
    loops = library("ripser").ripser(near, maxdim=1, distance_matrix=True)["dgms"][1]
    return int(np.isinf(loops[:, 1]).sum())


def longest_loop(nodes: int, edges: Ints) -> int:
    """Return a third of the length of the longest loop of a graph, rounded up; 0 without loops.

    Noise gives many short loops, and a circle gives one long loop. The number is the distance,
    in edges, at which the last loop of the graph's shortest-path distances is filled.

    Parameters
    ----------
    nodes
        Number of nodes.
    edges
        int64, (edges, 2).

    Examples
    --------
    >>> cycle = np.stack([np.arange(12), (np.arange(12) + 1) % 12], axis=1)
    >>> longest_loop(12, cycle)
    4
    """
    if len(edges) < 4:
        return 0
    near = sparse.csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (nodes, nodes))
    hops = shortest_path(near, method="D", directed=False, unweighted=True)
    hops[np.isinf(hops)] = nodes
    loops = library("ripser").ripser(hops, maxdim=1, distance_matrix=True)["dgms"][1]
    inside = loops[loops[:, 1] < nodes]
    return int(inside[:, 1].max(initial=0))


def compare_mapper(
    directions: Floats, settings: TopologySettings, *, advance: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """Compare the Mapper graphs of directions with those of draws from the nulls.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    settings
        The grid and the draws.
    advance
        Called after each draw.

    Yields
    ------
    dict
        For each null, statistic and cell: ``null``, ``statistic``, the fields of the cell,
        ``observed``, ``null_mean`` and the one-sided ``p``. For each null, one row more with the
        statistic ``largest``: the largest of all in standard deviations, whose p corrects for
        the numbers of statistics and cells.
    """
    cells = grid_of(settings)
    observed = _over_grid(directions, cells, settings.min_samples)
    for null in NULLS:
        drawn = draw_directions(directions, null, draws=settings.mapper_draws, seed=settings.seed)
        found = []
        for one in drawn:
            found.append(_over_grid(one, cells, settings.min_samples))
            advance()
        samples = np.stack(found)
        for (s, statistic), (c, cell) in product(enumerate(MAPPER_STATISTICS), enumerate(cells)):
            yield {
                "null": null,
                "statistic": statistic,
                **vars(cell),
                "observed": float(observed[s, c]),
                "null_mean": float(samples[:, s, c].mean()),
                "p": permutation_p(observed[s, c], samples[:, s, c]),
            }
        p, standardised = max_statistic_p(observed.ravel(), samples.reshape(len(samples), -1))
        yield {"null": null, "statistic": ALL, "observed": float(standardised.max()), "p": p}


def stability_of(directions: Floats, settings: TopologySettings) -> list[float | None]:
    """Return how stable the components of each cell are under random samples of the directions.

    Parameters
    ----------
    directions
        float64, (rows, columns). Rows of unit length.
    settings
        The grid, and the number of samples.

    Returns
    -------
    list of float or None
        For each cell of ``grid_of``: the adjusted Rand index of the components of the graph and
        those of the graph of 80% of the directions, over the directions that both retain; mean
        over samples. None if both have at most one component in all samples, which agrees with
        any data.
    """
    cells = grid_of(settings)
    rng = np.random.default_rng(settings.seed)
    labels = [one.labels for one in _graphs(directions, cells, settings.min_samples)]
    found: list[list[float]] = [[] for _ in cells]
    for _ in range(settings.subsamples):
        size = round(_SUBSAMPLE * len(directions))
        sample = np.sort(rng.choice(len(directions), size, replace=False))
        graphs = _graphs(directions[sample], cells, settings.min_samples)
        for scores, own, graph in zip(found, labels, graphs, strict=True):
            both = (own[sample] >= 0) & (graph.labels >= 0)
            a, b = own[sample][both], graph.labels[both]
            if len(a) and (len(np.unique(a)) > 1 or len(np.unique(b)) > 1):
                scores.append(float(adjusted_rand_score(a, b)))
    return [float(np.mean(scores)) if scores else None for scores in found]


class _Prepared:
    """Directions with their lens and angles, which all cells of a grid share."""

    def __init__(self, directions: Floats, min_samples: int) -> None:
        self._min_samples = min_samples
        self._angles = angles(directions)
        # The signs of components are arbitrary; a reflection changes no graph.
        dimensions = min(2, *directions.shape)
        lens = PCA(dimensions, svd_solver="full").fit_transform(directions)
        self._lens = np.pad(lens, ((0, 0), (0, 2 - dimensions)))
        at = min(min_samples, len(directions)) - 1
        self._core_angle = float(np.median(np.partition(self._angles, at, axis=1)[:, at]))

    def graph(self, cell: Cell) -> MapperGraph:
        kmapper = library("kmapper")
        # DBSCAN needs an eps above 0, also for equal directions.
        eps = max(cell.eps * self._core_angle, _ROUNDING)
        # With these limits, rounding excludes no direction at the border.
        limits = np.stack([self._lens.min(axis=0) - _ROUNDING, self._lens.max(axis=0) + _ROUNDING])
        found = kmapper.KeplerMapper(verbose=0).map(
            self._lens,
            self._angles,
            clusterer=DBSCAN(eps=eps, min_samples=self._min_samples, metric="precomputed"),
            cover=kmapper.Cover(cell.cubes, cell.overlap, limits=limits.T),
            precomputed=True,
        )
        members = [np.unique(np.array(each, dtype=np.int64)) for each in found["nodes"].values()]
        number = {name: i for i, name in enumerate(found["nodes"])}
        pairs = {
            tuple(sorted((number[one], number[other])))
            for one, others in found["links"].items()
            for other in others
        }
        edges = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        return MapperGraph(len(self._angles), members, edges, self._lens)


def _graphs(directions: Floats, cells: Sequence[Cell], min_samples: int) -> Iterator[MapperGraph]:
    prepared = _Prepared(directions, min_samples)
    return (prepared.graph(cell) for cell in cells)


def _over_grid(directions: Floats, cells: Sequence[Cell], min_samples: int) -> Floats:
    """Return the statistics of each cell; (statistics, cells)."""
    rows = [graph.summary() for graph in _graphs(directions, cells, min_samples)]
    return np.array([[row[name] for row in rows] for name in MAPPER_STATISTICS], dtype=np.float64)


def shared_members(graph: MapperGraph) -> Iterator[tuple[int, int, int]]:
    """Yield each edge with its number of common directions."""
    for one, other in graph.edges.tolist():
        yield one, other, len(np.intersect1d(graph.members[one], graph.members[other]))
