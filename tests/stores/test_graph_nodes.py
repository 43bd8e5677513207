"""Node statistics equal those of networkx on random and degenerate graphs."""

import networkx as nx
import numpy as np
import pytest

from analysis.communities.leiden import partition
from analysis.graph.node_statistics import node_statistics
from atlas.errors import BadInput


def weighted(graph, seed):
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.1, 2.0, graph.number_of_edges())
    for (a, b), value in zip(graph.edges(), w, strict=True):
        graph[a][b]["weight"] = value
    return w


def disconnected():
    graph = nx.disjoint_union(nx.cycle_graph(5), nx.star_graph(4))  # components of five nodes
    graph.add_nodes_from([10, 11])
    graph.add_edge(10, 11)
    graph.add_node(12)
    return graph


GRAPHS = {
    "no node": nx.empty_graph(0),
    "one node": nx.empty_graph(1),
    "no edge": nx.empty_graph(4),
    "one edge": nx.path_graph(2),
    "a path": nx.path_graph(3),
    "complete": nx.complete_graph(6),
    "a star": nx.star_graph(5),
    "disconnected": disconnected(),
    **{
        f"random {i}": nx.gnp_random_graph(30, p, seed=i)
        for i, p in enumerate((0.02, 0.05, 0.1, 0.3, 0.8))
    },
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("with_weights", [False, True])
def test_node_statistics_equal_networkx(name, with_weights):
    graph = GRAPHS[name].copy()
    w = weighted(graph, 1) if with_weights else None
    weight = "weight" if with_weights else None
    found = node_statistics(graph, weights=w)
    assert found.exact

    def listed(values):
        return [values[node] for node in graph]

    assert found.degree.tolist() == listed(dict(graph.degree()))
    assert found.strength == pytest.approx(listed(dict(graph.degree(weight=weight))))
    assert found.clustering == pytest.approx(listed(nx.clustering(graph)))
    ranks = nx.pagerank(graph, alpha=0.85, weight=weight, tol=1e-12, max_iter=1000)
    assert found.pagerank == pytest.approx(listed(ranks), abs=1e-9)
    assert found.core.tolist() == listed(nx.core_number(graph))
    between = nx.betweenness_centrality(graph, normalized=True)
    assert found.betweenness == pytest.approx(listed(between), abs=1e-12)
    components = sorted(nx.connected_components(graph), key=lambda c: (-len(c), min(c)))
    assert found.component.tolist() == [
        next(i for i, c in enumerate(components) if node in c) for node in graph
    ]


def test_all_sources_are_exact_and_samples_are_unbiased():
    graph = disconnected()
    graph.add_edges_from([(0, 2), (4, 5), (3, 9)])
    exact = np.array(list(nx.betweenness_centrality(graph).values()))
    linked = sum(d > 0 for _, d in graph.degree())
    same = node_statistics(graph, exact_steps=0, sources=linked)
    assert same.betweenness == pytest.approx(exact)
    draws = [node_statistics(graph, exact_steps=0, sources=3, seed=s) for s in range(1500)]
    assert not draws[0].exact
    assert draws[0].sources == 3
    means = np.array([d.betweenness for d in draws])
    error = means.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(means.mean(axis=0) - exact) <= 4 * error + 1e-12).all()
    again = node_statistics(graph, exact_steps=0, sources=3, seed=0)
    assert (again.betweenness == draws[0].betweenness).all()


def test_sampled_betweenness_approximates_the_exact_one():
    graph = nx.barabasi_albert_graph(400, 3, seed=0)
    exact = np.array(list(nx.betweenness_centrality(graph).values()))
    found = node_statistics(graph, exact_steps=0, sources=100, seed=1)
    assert np.corrcoef(found.betweenness, exact)[0, 1] > 0.95
    assert found.betweenness.sum() == pytest.approx(exact.sum(), rel=0.05)


def test_bad_input_is_refused():
    graph = nx.path_graph(3)
    with pytest.raises(BadInput, match="one for each of 2 edges"):
        node_statistics(graph, weights=np.ones(3))
    with pytest.raises(BadInput, match="above 0"):
        node_statistics(graph, weights=np.array([1.0, 0.0]))
    for wrong in (np.ones(3), np.array([1.0, -1.0]), np.array([1.0, np.nan])):
        with pytest.raises(BadInput, match="weights above 0"):
            partition(graph, weights=wrong)
    with pytest.raises(BadInput, match="directed"):
        node_statistics(nx.DiGraph([(0, 1)]))
    with pytest.raises(BadInput, match="2 source nodes or more"):
        node_statistics(graph, sources=1)
