"""``import analysis``: names, completion, and functions of plain graphs and arrays."""

import inspect

import igraph
import networkx
import numpy as np
import pytest
from networkx.algorithms.community import modularity

import analysis
import atlas
import ingest
from atlas.errors import BadInput
from atlas.plugins import study_commands


def karate():
    graph = networkx.karate_club_graph()
    return graph, igraph.Graph(n=graph.number_of_nodes(), edges=list(graph.edges()))


@pytest.mark.parametrize("package", [analysis, ingest])
def test_every_name_is_listed_has_a_signature_and_a_docstring(package):
    assert dir(package) == sorted(package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        found = getattr(package, name)
        assert callable(found), name
        assert inspect.signature(found), name
        assert found.__doc__, name


@pytest.mark.parametrize("kind", study_commands())
def test_every_study_has_a_function_in_analysis(kind):
    if kind == "match":  # the command is in the package that all studies of ingest share
        assert analysis.match_saes is ingest.match_saes
        return
    package = f"{study_commands()[kind].package}."
    found = [
        name
        for name in analysis.__all__
        if inspect.isfunction(function := getattr(analysis, name))
        and function.__module__.startswith(package)
        and "Result" in str(inspect.signature(function).return_annotation)
    ]
    assert found, f"no function of {package} in analysis returns results"


def test_the_package_atlas_lists_its_class_and_version():
    assert dir(atlas) == ["Atlas", "__version__"]
    assert callable(atlas.Atlas)


def test_graphs_of_networkx_and_igraph_give_equal_statistics():
    one, other = (analysis.describe_graph(graph) for graph in karate())
    assert one == other
    assert one.edges == networkx.karate_club_graph().number_of_edges()
    assert one.transitivity == pytest.approx(networkx.transitivity(karate()[0]))


def test_communities_have_the_modularity_that_networkx_computes():
    graph, _ = karate()
    found = analysis.find_communities(graph)
    groups = [set(np.flatnonzero(found.labels == label)) for label in range(len(found))]
    assert found.modularity == pytest.approx(modularity(graph, groups, weight=None))
    assert analysis.partition_agreement(found.labels, found.labels) == 1


def test_node_statistics_equal_those_of_networkx():
    graph, _ = karate()
    clustering = networkx.clustering(graph)
    found = analysis.node_statistics(graph).clustering
    np.testing.assert_allclose(found, [clustering[node] for node in graph])


@pytest.mark.parametrize("library", ["networkx", "igraph"])
def test_weights_are_an_array_or_an_attribute(library):
    graph = networkx.karate_club_graph()  # its edges have the attribute weight
    expected = dict(graph.degree(weight="weight"))
    values = [weight for *_, weight in graph.edges(data="weight")]
    used = graph
    if library == "igraph":
        used = karate()[1]
        used.es["weight"] = values
    for weights in ("weight", values):
        found = analysis.node_statistics(used, weights=weights)
        np.testing.assert_allclose(found.strength, [expected[node] for node in graph])
        communities = analysis.find_communities(used, weights=weights)
        groups = [set(np.flatnonzero(communities.labels == n)) for n in range(len(communities))]
        assert communities.modularity == pytest.approx(modularity(graph, groups, weight="weight"))
    plain = analysis.node_statistics(used)
    np.testing.assert_array_equal(plain.strength, [graph.degree(node) for node in graph])
    with pytest.raises(BadInput, match=r"78 of 78 edges have no attribute 'size'; .* are 'weight'"):
        analysis.find_communities(used, weights="size")
    with pytest.raises(BadInput, match="Expected weights that are numbers"):
        analysis.find_communities(used, weights=["a"] * 78)
    with pytest.raises(BadInput, match="one for each of 78 edges; 2 were passed"):
        analysis.find_communities(used, weights=[1, 2])


def test_functions_take_plain_arrays():
    rng = np.random.default_rng(0)
    points, turn = rng.normal(size=(60, 4)), np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert analysis.procrustes(points, points @ turn) == pytest.approx(1)
    assert analysis.cca(points, points @ turn) == pytest.approx(1)
    found = analysis.spectrum_of(points).singular_values
    np.testing.assert_allclose(found, np.linalg.svd(points - points.mean(axis=0))[1])
    assert analysis.spectrum_distance(found, 3 * found) == pytest.approx(0, abs=1e-12)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'graph_statistic'"):
        _ = analysis.graph_statistic
