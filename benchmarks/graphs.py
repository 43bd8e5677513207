"""The table of `atlas graph-stats` without nulls at the size of the original study, compared with networkx.

    python -m benchmarks.graphs                      16,384 nodes, 800,000 edges
    python -m benchmarks.graphs --nodes 4096 --edges 100000
    python -m benchmarks.graphs --without-networkx

The graph is made here: communities of equal size, and in them nodes of Zipf-like degrees; as
in the original study, more than half of the nodes have no edge. Each number is timed alone, one run;
networkx computes the same number of distances from the same nodes; it has no Leiden, so its
Louvain stands in.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import igraph
import networkx
import numpy as np

from analysis.graph.graph_statistics import SOURCES, describe

COMMUNITIES = 32
LINKED = 0.43  # of the nodes, as in the source's table
INSIDE = 0.7  # of the edges


def main() -> None:
    """Make the graph, time the complete table, then each number in both libraries."""
    args = arguments()
    graph = planted(args.nodes, args.edges, seed=args.seed)
    began = time.perf_counter()
    found = describe(graph, seed=args.seed)
    took = time.perf_counter() - began
    print(f"{found.nodes:,} nodes, {found.edges:,} edges: the complete table in {took:.1f} s")
    print(
        f"clustering {found.average_clustering:.4f}, modularity {found.modularity_unweighted:.4f}, path length "
        f"{found.path_length:.4f} ± {found.path_length_error or 0:.1g} from {found.path_sources:,} nodes"
    )
    if args.without_networkx:
        return
    other: networkx.Graph[int] = networkx.Graph()
    other.add_nodes_from(range(found.nodes))
    other.add_edges_from(graph.get_edgelist())
    print(f"{'':24}{'igraph s':>10}{'networkx s':>12}{'ratio':>8}  values")
    for name, ours, theirs in measures(graph, other, args.seed):
        (a, one), (b, two) = timed(ours), timed(theirs)
        print(f"{name:24}{a:10.3f}{b:12.3f}{b / a:8.1f}  {one:.6g}, {two:.6g}")


def planted(nodes: int, edges: int, *, seed: int) -> igraph.Graph:
    """Return a graph with communities, hubs, and nodes without an edge."""
    rng = np.random.default_rng(seed)
    linked = int(LINKED * nodes)
    size = linked // COMMUNITIES
    weight = 1 / np.sqrt(np.arange(1, size + 1))
    weight /= weight.sum()
    pairs = np.zeros((0, 2), dtype=np.int64)
    while len(pairs) < edges:
        one = rng.integers(COMMUNITIES, size=edges)
        same = rng.random(edges) < INSIDE
        two = np.where(same, one, rng.integers(COMMUNITIES, size=edges))
        ends = rng.choice(size, size=(edges, 2), p=weight)
        drawn = np.sort(ends + size * np.stack([one, two], axis=1), axis=1)
        drawn = drawn[drawn[:, 0] < drawn[:, 1]]
        pairs = np.unique(np.concatenate([pairs, drawn]), axis=0)
    chosen = np.sort(rng.choice(len(pairs), size=edges, replace=False))
    return igraph.Graph(n=nodes, edges=pairs[chosen])


def measures(
    graph: igraph.Graph, other: "networkx.Graph[int]", seed: int
) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Return, for each number, its name and what computes it in either library."""
    giant = graph.connected_components().giant()
    largest = other.subgraph(max(networkx.connected_components(other), key=len)).copy()
    sources = np.random.default_rng(seed).choice(giant.vcount(), SOURCES, replace=False).tolist()
    names = sorted(largest)

    def paths() -> float:
        walked = [networkx.single_source_shortest_path_length(largest, names[s]) for s in sources]
        return sum(sum(one.values()) for one in walked) / len(sources) / (len(largest) - 1)

    def louvain() -> float:
        found = networkx.community.louvain_communities(other, seed=seed)
        return networkx.community.modularity(other, found)

    return [
        (
            "components",
            lambda: len(graph.connected_components()),
            lambda: networkx.number_connected_components(other),
        ),
        (
            "average clustering",
            lambda: graph.transitivity_avglocal_undirected(mode="zero"),
            lambda: networkx.average_clustering(other),
        ),
        (
            "transitivity",
            lambda: graph.transitivity_undirected(mode="zero"),
            lambda: networkx.transitivity(other),
        ),
        (
            "assortativity",
            lambda: graph.assortativity_degree(directed=False),
            lambda: networkx.degree_assortativity_coefficient(other),
        ),
        (
            "k-core",
            lambda: max(graph.coreness()),
            lambda: max(networkx.core_number(other).values()),
        ),
        (
            f"paths, {SOURCES} sources",
            lambda: (
                np.array(giant.distances(source=sources)).sum(axis=1).mean() / (giant.vcount() - 1)
            ),
            paths,
        ),
        (
            "Leiden, Louvain",
            lambda: (
                graph.community_leiden(objective_function="modularity", n_iterations=-1).modularity
            ),
            louvain,
        ),
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that work took, and what it found."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=16_384)
    parser.add_argument("--edges", type=int, default=800_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-networkx", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
