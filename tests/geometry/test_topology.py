"""Topology of directions: brute force, planted circles and clusters, noise, degenerate input, faults."""

import itertools

import networkx as nx
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

pytest.importorskip("ripser", reason="needs the extra [topology]")
pytest.importorskip("persim", reason="needs the extra [topology]")
pytest.importorskip("kmapper", reason="needs the extra [topology]")

from analysis.statistics.directions import unit_rows
from analysis.topology.mapper import (
    Cell,
    compare_mapper,
    grid_of,
    longest_loop,
    loops_of,
    mapper_graph,
    stability_of,
)
from analysis.topology.persistence import (
    angles,
    bottleneck_of_repeats,
    compare_persistence,
    farthest_points,
    longest_ratio,
    persistence_of,
)
from analysis.topology.settings import TopologySettings
from atlas.errors import Missing

SMALL = TopologySettings(landmarks=40, void_landmarks=12, repeats=1, draws=19)
ALL_NULLS = dict.fromkeys(("isotropic", "covariance", "permuted"), 0.05)
MAPPER = TopologySettings(
    cubes=(5,), overlap=(0.3,), eps=(1.5, 2.5), min_samples=2, mapper_draws=19, subsamples=2
)


def noise(rows=120, columns=10, *, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, columns)))


def circle(rows=120, columns=10, *, seed=0, sd=0.03, offset=1.0):
    """A small circle of the sphere: the mean direction plus a circle in two other dimensions."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi, rows)
    x = rng.normal(size=(rows, columns)) * sd
    x[:, 0] += np.cos(turn)
    x[:, 1] += np.sin(turn)
    x[:, 2] += offset
    return unit_rows(x @ np.linalg.qr(rng.normal(size=(columns, columns)))[0])


def clusters(rows=120, columns=10, *, seed=0, sd=0.08, number=4):
    rng = np.random.default_rng(seed)
    centres = unit_rows(rng.normal(size=(number, columns)))
    return unit_rows(centres[np.arange(rows) % number] + rng.normal(size=(rows, columns)) * sd)


def p_of(rows, statistic):
    return {row["null"]: row["p"] for row in rows if row["statistic"] == statistic}


# ---------------------------------------------------------------- persistent homology


def test_landmarks_are_the_farthest_points_by_brute_force():
    x = noise(30)
    distance = np.arccos(np.clip(x @ x.T, -1, 1))
    expected = [7]
    while len(expected) < 12:
        rest = [i for i in range(30) if i not in expected]
        expected.append(max(rest, key=lambda i: distance[i, expected].min()))
    assert farthest_points(x, 12, starts=[3, 7])[1].tolist() == expected
    assert sorted(farthest_points(x, 99, starts=[0])[0].tolist()) == list(range(30))
    twice = np.concatenate([x, x])
    chosen = farthest_points(twice, 30, starts=[0])[0] % 30
    assert len(set(chosen.tolist())) == 30  # duplicates come last


def test_h0_equals_single_linkage_of_scipy():
    x = noise(25)
    found = persistence_of(x, TopologySettings(landmarks=25, void_landmarks=6, repeats=1))
    deaths = np.sort(found.diagrams[0][0][:-1, 1])
    rows, columns = np.triu_indices(25, 1)
    heights = linkage(angles(x)[rows, columns], method="single")[:, 2]
    np.testing.assert_allclose(deaths, heights, atol=1e-6)
    assert found.log_ratio[0] == pytest.approx(np.log(heights.max() / np.median(heights)), abs=1e-6)


def test_h1_of_a_regular_polygon_is_known():
    turn = np.arange(12) * 2 * np.pi / 12
    x = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    found = persistence_of(x, TopologySettings(landmarks=12, void_landmarks=5, repeats=2))
    for diagrams in found.diagrams:
        (loop,) = diagrams[1]
        # Born with the sides; filled when three points at a third of the circle are joined.
        np.testing.assert_allclose(loop, [2 * np.pi / 12, 2 * np.pi / 3], atol=1e-6)
    assert found.log_ratio[1] == pytest.approx(np.log(4))
    assert bottleneck_of_repeats(found.diagrams, 1) == pytest.approx(0, abs=1e-6)


def test_h2_of_an_octahedron_is_known():
    x = np.concatenate([np.eye(3), -np.eye(3)])
    found = persistence_of(x, TopologySettings(landmarks=6, void_landmarks=6, repeats=1))
    (void,) = found.diagrams[0][2]
    np.testing.assert_allclose(void, [np.pi / 2, np.pi], atol=1e-6)


def test_planted_circle_exceeds_all_nulls_in_h1():
    rows = list(compare_persistence(circle(), SMALL))
    assert p_of(rows, "H1") == ALL_NULLS
    assert p_of(rows, "largest") == ALL_NULLS


def test_great_circle_does_not_exceed_its_covariance():
    """Unit directions of a plane lie on a circle, also if they are Gaussian."""
    x = circle(offset=0.0, sd=1e-3)
    p = p_of(compare_persistence(x, SMALL), "H1")
    assert p["isotropic"] == p["permuted"] == 0.05
    assert p["covariance"] > 0.05


def test_planted_clusters_exceed_all_nulls_in_h0():
    rows = list(compare_persistence(clusters(), SMALL))
    assert p_of(rows, "H0") == ALL_NULLS


def exceeding(seeds):
    """The share of sets of noise whose largest statistic exceeds each null at .05, and all three."""
    p = []
    for s in seeds:  # with one seed, all sets would be compared with the same isotropic draws
        settings = TopologySettings(landmarks=20, void_landmarks=8, repeats=1, draws=19, seed=s)
        p.append(p_of(compare_persistence(noise(40, 6, seed=s), settings), "largest"))
    shares = {null: np.mean([one[null] <= 0.05 for one in p]) for null in p[0]}
    return shares | {"all": np.mean([max(one.values()) <= 0.05 for one in p])}


def test_noise_rarely_exceeds_a_null():
    shares = exceeding(range(20))
    assert shares["all"] <= 0.05
    # 5% expected of each; 5 or more of 20 sets in 3 of 1,000.
    assert max(shares.values()) <= 0.2


@pytest.mark.deep
def test_noise_exceeds_the_nulls_in_at_most_5_of_100_sets():
    shares = exceeding(range(1000, 1100))
    assert shares["all"] <= 0.05
    # 5% expected of each null; three standard errors are 6.5%.
    assert max(shares.values()) <= 0.05 + 0.065


def test_degenerate_diagrams_and_directions():
    assert longest_ratio(np.empty((0, 2)), 1) == longest_ratio(np.empty((0, 2)), 0) == 1
    assert longest_ratio(np.array([[0.0, np.inf]]), 0) == 1
    assert longest_ratio(np.array([[1.0, 3.0], [2.0, 2.5]]), 1) == 3
    equal = np.tile(noise(1, 4), (6, 1))
    found = persistence_of(equal, SMALL)
    np.testing.assert_array_equal(found.log_ratio, 0)
    rows = list(compare_persistence(np.concatenate([equal, -equal]), SMALL))
    assert all(0 < row["p"] <= 1 for row in rows)
    assert bottleneck_of_repeats(found.diagrams, 1) is None
    empty = [[np.empty((0, 2))] * 2, [np.empty((0, 2)), np.array([[1.0, 3.0]])]]
    assert bottleneck_of_repeats(empty, 1) == 1


# ---------------------------------------------------------------- Mapper


def test_loops_equal_the_rank_of_the_boundary_matrices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        graph = nx.gnp_random_graph(9, 0.4, seed=int(rng.integers(1000)))
        edges = sorted(tuple(sorted(e)) for e in graph.edges)
        filled = [
            t
            for t in itertools.combinations(range(9), 3)
            if all(graph.has_edge(*e) for e in itertools.combinations(t, 2))
        ]
        first = np.zeros((9, len(edges)))
        second = np.zeros((len(edges), max(len(filled), 1)))
        for i, (a, b) in enumerate(edges):
            first[a, i], first[b, i] = -1, 1
        for j, (a, b, c) in enumerate(filled):
            for edge, sign in (((b, c), 1), ((a, c), -1), ((a, b), 1)):
                second[edges.index(edge), j] = sign
        betti = len(edges) - np.linalg.matrix_rank(first) - np.linalg.matrix_rank(second)
        assert loops_of(9, np.array(edges)) == betti
    assert loops_of(0, np.empty((0, 2), dtype=np.int64)) == 0


@pytest.mark.parametrize("length", [4, 5, 6, 7, 12, 13])
def test_longest_loop_is_a_third_of_the_longest_cycle(length):
    """Adamaszek and Adams 2017: the loop of a cycle graph is filled at a third of its length."""
    graph = nx.cycle_graph(length)
    graph.add_edges_from([(100, 101), (101, 102), (102, 103), (103, 100), (0, 200)])
    graph = nx.convert_node_labels_to_integers(graph)
    edges = np.array(graph.edges)
    assert longest_loop(len(graph), edges) == max(2, -(-length // 3))
    assert longest_loop(12, np.stack([np.zeros(11, int), np.arange(1, 12)], axis=1)) == 0
    full = np.array(list(itertools.combinations(range(6), 2)))
    assert longest_loop(6, full) == 0


def test_edges_are_pairs_of_nodes_with_a_common_direction():
    graph = mapper_graph(noise(), Cell(5, 0.5, 1.5), min_samples=2)
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(graph.members)), 2)
        if set(graph.members[i]) & set(graph.members[j])
    ]
    assert [tuple(edge) for edge in graph.edges.tolist()] == expected
    assert len(expected) > 0
    summary = graph.summary()
    retained = len(set(itertools.chain(*(m.tolist() for m in graph.members)))) / 120
    assert summary["retained"] == retained
    assert ((graph.labels >= 0).sum()) / 120 == retained


def test_mapper_finds_the_planted_circle_as_one_long_loop():
    rows = list(compare_mapper(circle(200), MAPPER))
    assert p_of(rows, "largest") == ALL_NULLS
    wide = [r for r in rows if r.get("eps") == 2.5]
    assert p_of(wide, "longest_loop") == ALL_NULLS
    assert min(p_of(wide, "components").values()) > 0.05
    graph = mapper_graph(circle(200), grid_of(MAPPER)[1], min_samples=2)
    assert graph.summary()["loops"] == 1


def test_mapper_finds_planted_clusters_as_stable_components():
    x = clusters(200)
    rows = list(compare_mapper(x, MAPPER))
    assert p_of(rows, "largest") == ALL_NULLS
    assert p_of([r for r in rows if r.get("eps") == 2.5], "components") == ALL_NULLS
    assert min(stability_of(x, MAPPER)) > 0.9


def test_equal_directions_and_few_directions_have_a_mapper_graph():
    equal = np.tile(noise(1, 4), (12, 1))
    graph = mapper_graph(equal, Cell(5, 0.3, 1.0), min_samples=3)
    assert graph.summary()["loops"] == 0
    assert graph.summary()["retained"] == 1
    two = mapper_graph(noise(2, 4), Cell(5, 0.3, 1.0), min_samples=3)
    assert set(two.summary().values()) == {0}


# ---------------------------------------------------------------- faults of the original study


def test_first_rows_miss_a_loop_that_landmarks_of_all_rows_find():
    """The original study computed homology of the first 500 rows of the decoder."""
    x = circle(400)
    x = x[np.argsort(x @ x[0])]  # features in an order that depends on their direction
    settings = TopologySettings(landmarks=40, void_landmarks=8, repeats=1)
    first, every = (persistence_of(rows, settings).log_ratio[1] for rows in (x[:100], x))
    assert every > np.log(2)
    assert first < np.log(1.5)


def test_intervals_without_overlap_have_no_edge():
    """The Mapper graph of the original study had intervals that never overlap.

    No two clusters then have a common direction, so that no edge can exist for any data. The
    settings here refuse an overlap of 0.
    """
    from atlas.errors import BadInput

    x = circle(200)
    assert len(mapper_graph(x, Cell(6, 0.0, 2.0), min_samples=3).edges) == 0
    assert len(mapper_graph(x, Cell(6, 0.3, 2.0), min_samples=3).edges) > 0
    with pytest.raises(BadInput, match=r"overlap is 0\.0"):
        TopologySettings(overlap=(0.0,))


def test_norm_of_unit_rows_is_no_lens():
    """The original study used the norm of decoder rows as a lens; it is constant."""
    norms = np.linalg.norm(circle(), axis=1)
    assert np.ptp(norms) < 1e-12
    assert np.ptp(mapper_graph(circle(), Cell(5, 0.3, 2.0), min_samples=3).lens, axis=0).min() > 0.1


def test_missing_library_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(Missing, match=r"pip install 'feature-atlas\[topology\]'"):
        persistence_of(noise(), SMALL)
