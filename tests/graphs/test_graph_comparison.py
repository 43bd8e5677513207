"""Comparison of graphs: distances equal scipy's, conserved edges equal a brute force, nulls have their error rate."""

import itertools
import json
import math
import random
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from shutil import rmtree

import networkx as nx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_progress import RecordingProgress
from scipy import stats
from scipy.spatial.distance import jensenshannon
from served_atlas import Served
from small_ingest import jumprelu, model, named, run, texts, topk

from analysis.graph.coactivation_graph import CoactivationGraph, at_equal_tokens
from analysis.graph_comparison import communities, conserved, study
from analysis.graph_comparison.commands import compare
from analysis.graph_comparison.comparison import RANGE, Row, range_of
from analysis.graph_comparison.distances import bins_of, bootstrap, distances
from analysis.graph_comparison.matched_features import Partners, read_partners
from analysis.graph_comparison.metrics import distance_rows
from analysis.graph_comparison.plots import draw_comparisons
from analysis.graph_comparison.report import (
    check_names,
    check_some_matched,
    compare_pairs,
    conclude,
)
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.graph_comparison.study import compare_graphs, comparison_of
from analysis.graph_comparison.subjects import ComparedGraph, read_subjects
from analysis.statistics.document_splits import document_subset, halve
from analysis.statistics.nulls import (
    movable,
    permuted_within,
    rewired,
    rewired_bytes,
    rewired_edges,
    strata,
)
from analysis.statistics.permutation import exceedance_p, permutation_p
from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest import MatchSettings, match_saes
from ingest.codes.topk_membership import Membership, edges
from ingest.settings import Settings

BINS = 4


# Distances


def at_or_below(sample, x):
    return sum(v <= x for v in sample) / len(sample)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(1, 6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_distances_equal_their_definitions(x, y, bars, log):
    a, b = np.array(x, float), np.array(y, float)
    ends = bins_of(a, b, bars=bars, log=log)
    found = distances(a, b, ends=ends)
    gaps = [abs(at_or_below(x, v) - at_or_below(y, v)) for v in range(10)]
    assert found.ks == pytest.approx(max(gaps))
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(a, b))
    assert found.wasserstein == pytest.approx(
        sum(gaps)
    )  # all values are integers, so steps are 1 wide
    bin_of = [[sum(v >= e for e in ends) for v in one] for one in (x, y)]
    p, q = (np.array([of.count(i) / len(of) for i in range(len(ends) + 1)]) for of in bin_of)
    middle = (p + q) / 2
    divergence = (stats.entropy(p, middle) + stats.entropy(q, middle)) / 2
    assert found.js_divergence == pytest.approx(divergence, abs=1e-12)
    assert found.js_distance == pytest.approx(math.sqrt(abs(divergence)), abs=1e-7)
    if divergence > 1e-6:
        assert found.js_distance == pytest.approx(jensenshannon(p, q))
    assert found.js_divergence <= math.log(2) + 1e-12


def test_distances_equal_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2, 1, 300), rng.gamma(3, 1, 200)
    found = distances(x, y, ends=bins_of(x, y, bars=20, log=True))
    assert found.ks == pytest.approx(stats.ks_2samp(x, y).statistic)
    ends = np.concatenate([[-1, 0], np.geomspace(*np.quantile(np.append(x, y), [0, 1]), 21)[1:]])
    p, q = (np.histogram(one, ends)[0] for one in (x, y))
    assert found.js_distance == pytest.approx(jensenshannon(p, q))


def test_distances_of_equal_disjoint_and_empty_samples():
    x = np.array([0.0, 1.0, 2.0])
    ends = bins_of(x, x, bars=5, log=True)
    assert distances(x, x, ends=ends) == distances(x[::-1], x, ends=ends)
    assert vars(distances(x, x, ends=ends)) == dict.fromkeys(vars(distances(x, x, ends=ends)), 0.0)
    zeros = np.zeros(4)
    apart = distances(
        zeros, np.full(3, 7.0), ends=bins_of(zeros, np.full(3, 7.0), bars=9, log=True)
    )
    assert (apart.ks, apart.wasserstein) == (1.0, 7.0)
    assert apart.js_divergence == pytest.approx(math.log(2))
    assert distances(zeros, zeros, ends=bins_of(zeros, zeros, bars=9, log=False)).ks == 0
    assert distances(zeros, np.zeros(0), ends=ends) is None
    assert bootstrap(zeros, np.zeros(0), ends=ends, draws=2, seed=0) is None


def test_a_distance_has_its_standard_error_on_either_side():
    rng = np.random.default_rng(0)
    errors = []
    for seed in range(40):
        x, y = rng.normal(5, 1, 200), rng.normal(6, 1, 200)
        ends = bins_of(x, y, bars=10, log=False)
        found = distances(x, y, ends=ends)
        low, high = bootstrap(x, y, ends=ends, draws=40, seed=seed)
        for name, value in vars(found).items():
            assert 0 <= getattr(low, name) <= value <= getattr(high, name)
        errors.append((high.wasserstein - low.wasserstein) / 2)
    # So far apart, the distance is nearly the difference of the means.
    assert np.mean(errors) == pytest.approx(math.sqrt(2 / 200), rel=0.1)


# Conserved edges


def linked(g, weight=None):
    return CoactivationGraph.of(g, weight=weight)


def with_edges(nodes, pairs):
    """Return an unweighted graph."""
    ones = np.ones(len(pairs), dtype=np.int64)
    active = np.ones(nodes, dtype=np.int64)
    return CoactivationGraph(pairs=pairs, count=ones, active=active, tokens=1)


def brute(ga, gb, partners):
    """Return shares and the Jaccard index from sets, NaN without an edge."""
    to_b = dict(zip(partners.a.tolist(), partners.b.tolist(), strict=True))
    a = {frozenset((to_b[u], to_b[v])) for u, v in ga.edges if u in to_b and v in to_b}
    b = {frozenset(e) for e in gb.edges if set(e) <= set(to_b.values())}
    r = dict(zip(partners.b.tolist(), partners.r.tolist(), strict=True))
    low = {e: min(r[i] for i in e) for e in a | b}

    def share(part, total):
        return len(part) / len(total) if total else math.nan

    by_r = [
        [
            share({e for e in a & b if inside(low[e], i)}, {e for e in of if inside(low[e], i)})
            for i in range(BINS)
        ]
        for of in (a, b)
    ]
    return [share(a & b, a), share(a & b, b), share(a & b, a | b)], by_r


def inside(r, i):
    return min(max(int(r * BINS), 0), BINS - 1) == i


def some_partners(rng, n_a, n_b, matches):
    return Partners(
        rng.permutation(n_a)[:matches],
        rng.permutation(n_b)[:matches],
        rng.uniform(-0.1, 1, matches),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_conserved_edges_equal_brute_force(seed, n_a, n_b, p):
    rng = np.random.default_rng(seed)
    ga, gb = (nx.gnp_random_graph(n, p, seed=seed + n) for n in (n_a, n_b))
    partners = some_partners(rng, n_a, n_b, int(rng.integers(0, min(n_a, n_b) + 1)))
    wa, wb = (rng.random(g.number_of_edges()) for g in (ga, gb))
    panel = conserved.panel(linked(ga, wa), linked(gb, wb), partners)
    found = conserved.measure([panel], r_bins=BINS)
    total, by_r = brute(ga, gb, partners)
    np.testing.assert_allclose(found.total[:3], total)
    np.testing.assert_allclose(found.by_r, by_r)
    to_b = dict(zip(partners.a.tolist(), partners.b.tolist(), strict=True))
    weight = {frozenset(e): w for e, w in zip(gb.edges, wb, strict=True)}
    both = [
        (w, weight[frozenset((to_b[u], to_b[v]))])
        for (u, v), w in zip(ga.edges, wa, strict=True)
        if u in to_b and v in to_b and frozenset((to_b[u], to_b[v])) in weight
    ]
    if len(both) > 2:
        assert found.total[3] == pytest.approx(stats.spearmanr(*zip(*both, strict=True))[0])
    else:
        assert math.isnan(found.total[3])
    share = conserved.covered(linked(ga), partners.a)
    inner = sum(u in to_b and v in to_b for u, v in ga.edges)
    assert share == (pytest.approx(inner / ga.number_of_edges()) if ga.number_of_edges() else None)
    # Several pairs of graphs are pooled, so the same pair twice has the same result.
    np.testing.assert_allclose(conserved.measure([panel, panel], r_bins=BINS).flat, found.flat)


def test_resampled_features_count_as_copies():
    rng = np.random.default_rng(3)
    ga, gb = (nx.gnp_random_graph(9, 0.6, seed=s) for s in (1, 2))
    partners = Partners(np.arange(9), rng.permutation(9), np.full(9, 0.5))
    times = np.array([0, 2, 1, 3, 0, 1, 1, 0, 1])
    panel = conserved.panel(linked(ga), linked(gb), partners)
    found = conserved.measure([panel], r_bins=1, times=times.astype(float))
    copies = np.repeat(np.arange(9), times)
    to_b = partners.b.tolist()
    n_a = n_b = both = 0
    for i, j in itertools.combinations(copies.tolist(), 2):
        a, b = ga.has_edge(i, j), gb.has_edge(to_b[i], to_b[j])
        n_a, n_b, both = n_a + a, n_b + b, both + (a and b)
    assert found.total[:3] == pytest.approx([both / n_a, both / n_b, both / (n_a + n_b - both)])
    assert math.isnan(found.total[3])  # no weights


def test_the_vertex_bootstrap_covers_the_true_share():
    """Whether an edge is conserved depends on both of its features."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = 60
        rate = rng.uniform(0.3, 1, n)
        pairs = np.array([e for e in itertools.combinations(range(n), 2) if rng.random() < 0.3])
        retained = rng.random(len(pairs)) < rate[pairs[:, 0]] * rate[pairs[:, 1]]
        same = Partners(np.arange(n), np.arange(n), np.ones(n))
        panel = conserved.panel(with_edges(n, pairs), with_edges(n, pairs[retained]), same)
        drawn = conserved.intervals([panel], r_bins=1, draws=100, seed=seed)[:, 0]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= 0.65**2 <= high
    assert covered >= 34


def graph_of_seed(seed, n=80):
    """Return a graph with hubs, the sizes of its nodes and the generator."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0, 0.8, n)
    chance = 1 - np.exp(-0.08 * np.outer(size, size))
    pairs = np.array([e for e in itertools.combinations(range(n), 2) if rng.random() < chance[e]])
    return with_edges(n, pairs), size, rng


def noisy_copy(a, rng, noise):
    """Return A with nodes renamed and a share of edges replaced by random ones, and the names."""
    name = rng.permutation(a.features)
    retained = a.pairs[rng.random(len(a.pairs)) >= noise]
    free = sorted(
        set(itertools.combinations(range(a.features), 2)) - set(map(tuple, retained.tolist()))
    )
    more = rng.choice(free, len(a.pairs) - len(retained), replace=False).reshape(-1, 2)
    pairs = np.concatenate([retained, more])
    return with_edges(a.features, np.sort(name[pairs], axis=1)), name


def edges_of(graph):
    return np.sort(np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2), axis=1)


def planted(seed, noise, *, draws=39, same_degrees=False):
    a, size, rng = graph_of_seed(seed)
    if same_degrees:
        name = rng.permutation(a.features)
        drawn = edges_of(next(rewired(a.graph, seed=seed)))
        b = with_edges(a.features, np.sort(name[drawn], axis=1))
    else:
        b, name = noisy_copy(a, rng, noise)
    partners = Partners(np.arange(a.features), name, rng.random(a.features))
    frequency = np.rint(100 * size).astype(int)
    stratum = strata(frequency, b.degree[name], frequency_bins=2, degree_bins=10)
    panels = [conserved.panel(a, b, partners)]
    how = {"r_bins": 1, "draws": draws, "seed": seed}
    return (
        conserved.measure(panels, r_bins=1).total[0],
        conserved.permute(panels, stratum, **how)[:, 0],
        conserved.rewire(panels, partners.r, **how)[:, 0],
    )


def test_conserved_share_falls_from_one_to_the_nulls_with_noise():
    shares = []
    for noise in (0.0, 0.3, 0.7, 1.0):
        share, permuted_, rewired_ = planted(5, noise)
        shares.append(share)
        if noise < 1:
            assert permutation_p(share, permuted_) == permutation_p(share, rewired_) == 1 / 40
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(permuted_.mean(), abs=4 * permuted_.std())
    assert shares[-1] == pytest.approx(rewired_.mean(), abs=4 * rewired_.std())


def test_nulls_are_calibrated_for_unrelated_graphs():
    p = np.array(
        [
            [permutation_p(s, one) for one in nulls]
            for s, *nulls in (planted(i, 1.0) for i in range(60))
        ]
    )
    for level in (0.1, 0.25, 0.5):
        room = 3 * math.sqrt(level * (1 - level) / len(p))
        assert np.all((p <= level).mean(axis=0) <= level + room)
    assert np.all((p <= 0.5).mean(axis=0) >= 0.25)  # nor are they conservative


def test_rewired_null_ignores_degrees():
    found = [planted(i, 1.0, same_degrees=True) for i in range(40)]
    p = np.array([permutation_p(share, drawn) for share, _, drawn in found])
    for level in (0.1, 0.25, 0.5):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / len(p))
    # Strata preserve most of the effect of degrees: the permuted share is near, often slightly below.
    near = np.mean([share - drawn.mean() for share, drawn, _ in found])
    assert 0 < near < 0.03


def test_rewired_graphs_are_simple_with_the_same_degrees():
    a, _, _ = graph_of_seed(1)
    chain = rewired(a.graph, seed=0)
    drawn = [with_edges(a.features, edges_of(next(chain))) for _ in range(3)]
    for g in drawn:
        assert np.array_equal(g.degree, a.degree)
        assert len(np.unique(g.pairs, axis=0)) == len(a.pairs)
        assert np.all(g.pairs[:, 0] < g.pairs[:, 1])
    assert not np.array_equal(drawn[0].pairs, drawn[1].pairs)
    again = rewired(a.graph, seed=0)
    state = random.getstate()
    for one in drawn:
        assert np.array_equal(edges_of(next(again)), one.pairs)
    assert random.getstate() == state
    for few in ([], [(0, 1)]):
        graph = with_edges(3, np.array(few, dtype=np.int64).reshape(-1, 2)).graph
        assert next(rewired(graph, seed=0)).get_edgelist() == few


def test_rewired_graphs_are_uniform():
    pairs = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)])  # the cycles of five: twelve
    chain = rewired(with_edges(5, pairs).graph, seed=0)
    seen = [
        tuple(map(tuple, np.unique(edges_of(next(chain)), axis=0).tolist())) for _ in range(2400)
    ]
    times = [seen.count(one) for one in set(seen)]
    assert len(times) == 12
    assert stats.chisquare(times).pvalue > 1e-3


def drawn_edges(ends, nodes, seed=0):
    """Return each graph of the chain of arrays, with the lower end first, in order."""
    for one in rewired_edges(np.array(ends, dtype=np.int64), nodes=nodes, seed=seed):
        yield np.unique(np.sort(one, axis=1), axis=0)


@pytest.mark.parametrize("marked", [8192, 0])
def test_rewired_edges_are_simple_with_the_same_degrees(monkeypatch, marked):
    monkeypatch.setattr("analysis.statistics.nulls._MARKED", marked)
    a, _, _ = graph_of_seed(1)
    before = a.pairs.copy()
    chain, again = (drawn_edges(a.pairs, a.features) for _ in range(2))
    drawn = [next(chain) for _ in range(3)]
    for one in drawn:
        assert len(one) == len(a.pairs)  # none twice
        assert np.all(one[:, 0] < one[:, 1])
        assert np.array_equal(np.bincount(one.ravel(), minlength=a.features), a.degree)
        assert np.array_equal(next(again), one)
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(a.pairs, before)
    for few in ([], [(0, 1)]):
        assert next(drawn_edges(np.array(few).reshape(-1, 2), 3)).tolist() == list(map(list, few))


def test_an_open_chain_holds_the_bytes_of_its_forecast():
    nodes = 2000
    ends = np.array([[0, 1], [2, 3]])
    next(rewired_edges(ends, nodes=nodes, seed=0))  # compiled
    tracemalloc.start()
    chain = rewired_edges(ends, nodes=nodes, seed=0)
    next(chain)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rewired_bytes(nodes) <= held < 1.01 * rewired_bytes(nodes)
    assert rewired_bytes(8193) == 0  # by igraph


def test_the_forecast_of_a_pair_counts_a_chain_for_each_halving(path):
    from analysis.graph_comparison.forecast import comparison_cost
    from atlas.disk.folder import Folder

    partners = Partners(np.arange(8), np.arange(8), np.ones(8))
    how = {"tokens": 200, "min_count": 1}
    settings = ComparisonSettings(halves=3, draws=3, null_graphs=1, leiden_runs=1)
    pair = ("one", "two")
    _, cost = comparison_cost(Folder.open(path), pair, settings, partners=partners, **how)
    assert cost.bytes == 3 * 8 * 8
    _, cost = comparison_cost(Folder.open(path), pair, settings, partners=None, **how)
    assert cost.bytes == 0


def test_rewired_edges_are_uniform():
    """All graphs with these degrees, listed by brute force, are as frequent as each other."""
    cases = {
        "cycles of five": [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)],
        "unequal degrees": [(0, 1), (0, 2), (0, 3), (1, 2), (3, 4), (4, 5)],
    }
    for name, pairs in cases.items():
        degrees = np.bincount(np.ravel(pairs), minlength=6)
        every = [
            found
            for found in itertools.combinations(itertools.combinations(range(6), 2), len(pairs))
            if np.array_equal(np.bincount(np.ravel(found), minlength=6), degrees)
        ]
        chain = drawn_edges(pairs, 6)
        seen = Counter(tuple(map(tuple, next(chain).tolist())) for _ in range(100 * len(every)))
        assert set(seen) == set(every), name
        assert stats.chisquare([seen[one] for one in every]).pvalue > 1e-3, name


def test_permutations_within_strata_preserve_frequency_and_degree():
    rng = np.random.default_rng(0)
    frequency = rng.integers(1, 1000, 400)
    degree = rng.integers(0, 30, 400)
    stratum = strata(frequency, degree, frequency_bins=4, degree_bins=5)
    spans = [
        (frequency[stratum // 5 == i].min(), frequency[stratum // 5 == i].max()) for i in range(4)
    ]
    assert all(one[1] < two[0] for one, two in itertools.pairwise(spans))
    for one in np.unique(stratum // 5):
        here = [degree[stratum == 5 * one + i] for i in range(5)]
        assert all(x.max() < y.min() for x, y in itertools.pairwise(h for h in here if len(h)))
    moved = permuted_within(stratum, np.random.default_rng(1))
    assert np.array_equal(stratum[moved], stratum)
    assert sorted(moved.tolist()) == list(range(400))
    assert np.mean(moved == np.arange(400)) < 0.2
    equal = strata(np.ones(7, int), np.ones(7, int), frequency_bins=3, degree_bins=3)
    assert len(np.unique(equal)) == 1
    assert len(strata(np.zeros(0, int), np.zeros(0, int), frequency_bins=2, degree_bins=2)) == 0
    # All orders of a stratum are equally likely.
    seen = [tuple(permuted_within(np.zeros(3, int), rng).tolist()) for _ in range(1200)]
    assert stats.chisquare([seen.count(o) for o in itertools.permutations(range(3))]).pvalue > 1e-3


def test_few_matches_have_few_strata_and_are_not_movable():
    frequency = np.arange(100)
    degree = np.random.default_rng(0).integers(0, 1000, 100)
    for n, most in ((3, 1), (10, 2), (40, 8), (100, 20)):
        stratum = strata(frequency[:n], degree[:n], frequency_bins=4, degree_bins=10)
        assert len(np.unique(stratum)) <= most
    assert movable(np.zeros(4, int))  # 24 orders
    assert not movable(np.zeros(3, int))  # 6
    assert movable(np.arange(10) // 2)  # 32
    assert not movable(np.append(np.zeros(9, int), np.arange(1, 12)))
    assert not movable(np.zeros(0, int))


def test_partners_are_one_to_one():
    with pytest.raises(BadInput, match="two partners"):
        Partners(np.array([0, 0]), np.array([1, 2]), np.ones(2))
    with pytest.raises(BadInput, match="were passed"):
        Partners(np.array([0]), np.array([1, 2]), np.ones(2))


def test_graphs_of_either_library_and_weights_that_fit():
    g = nx.relabel_nodes(nx.path_graph(4), dict(enumerate("dabc")))
    one = linked(g, np.array([1.0, 2.0, 4.0]))
    assert one.degree.tolist() == [1, 2, 2, 1]
    assert one.strength.tolist() == [1, 3, 6, 4]
    assert one.clustering.tolist() == [0, 0, 0, 0]
    with pytest.raises(BadInput, match="2 weights and 3 edges"):
        linked(g, np.ones(2))
    none = linked(nx.empty_graph(3))
    for name in ("degree", "clustering", "core", "strength"):
        assert getattr(none, name).tolist() == [0.0] * 3


def subject_of(pairs, active):
    """Return a subject without halves or nulls."""
    edges_, active = np.array(pairs, dtype=np.int64), np.array(active)
    ones = np.ones(len(edges_), dtype=np.int64)
    of = CoactivationGraph(pairs=edges_, count=ones, active=active, tokens=10, counted=10, sae="x")
    return ComparedGraph(of, of, [], [], [], [], ComparisonSettings(draws=3))


def test_dead_features_change_no_distance():
    pairs = [(0, 1), (1, 2), (2, 3), (1, 3)]
    rows = distance_rows(subject_of(pairs, [1] * 4), subject_of(pairs, [1] * 4 + [0] * 6))
    assert {row.measure.split(":")[0] for row in rows} == {
        "degree",
        "degree over mean",
        "clustering",
        "core",
    }
    assert {row.value for row in rows} == {0.0}
    more = distance_rows(subject_of(pairs, [1] * 4), subject_of(pairs, [1] * 5))
    # Degrees 1 3 2 2 over 2, and these with a 0 over 1.6.
    x, y = np.array([1, 3, 2, 2]) / 2, np.array([1, 3, 2, 2, 0]) / 1.6
    (found,) = [r for r in more if r.measure == "degree over mean: 1-Wasserstein"]
    assert found.value == pytest.approx(stats.wasserstein_distance(x, y))


# Communities


def blocks(n, groups, seed):
    return linked(nx.planted_partition_graph(groups, n, 0.7, 0.03, seed=seed))


def test_overlap_detects_equal_but_not_shuffled_blocks():
    n = 80
    a = communities.communities(blocks(20, 4, 1), runs=2, seed=0)
    b = communities.communities(blocks(20, 4, 2), runs=2, seed=0)
    assert communities.overlap(a, b) == pytest.approx(1)
    assert communities.own_overlap(a) == pytest.approx(1)
    null = communities.overlap_null([(a, b)], np.zeros(n, int), draws=60, seed=0)
    assert abs(null.mean()) < 4 * null.std() / math.sqrt(60)
    assert permutation_p(1.0, null) == 1 / 61
    low, high = communities.jackknife(a, b, seed=0)
    assert low == high == pytest.approx(1)
    shuffled = [np.random.default_rng(0).permutation(one) for one in b]
    low, high = communities.jackknife(a, shuffled, seed=0)
    assert low < 0.1 < 0.9
    assert low <= communities.overlap(a, shuffled) <= high


@pytest.mark.slow
def test_p_values_of_unrelated_halvings_are_calibrated():
    """Labels of one SAE are similar in all halvings, so their mean is as uncertain as one halving."""
    low, trials, n = 0, 40, 40
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 4, (2, n))
        pairs = []
        for _ in range(3):
            x, y = (np.where(rng.random(n) < 0.05, -1, one) for one in (a, b))
            pairs.append(([x], [y]))
        seen = np.mean([communities.overlap(x, y) for x, y in pairs])
        null = communities.overlap_null(pairs, np.zeros(n, int), draws=19, seed=seed)
        low += permutation_p(seen, null) <= 0.05
        if not seed:  # all halvings share a permutation, so repeating one changes nothing
            one, again = (
                communities.overlap_null(pairs[:1] * times, np.zeros(n, int), draws=3, seed=0)
                for times in (1, 3)
            )
            np.testing.assert_allclose(one, again)
    assert low / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_overlap_without_community_structure():
    one = [np.zeros(30, int)]
    two = [np.arange(30) % 2]
    no_edge = [np.full(30, -1)]
    for a, b in ((one, two), (two, no_edge), ([np.zeros(0, int)], [np.zeros(0, int)])):
        assert communities.overlap(a, b) is None
        assert communities.jackknife(a, b, seed=0) is None
        assert np.isnan(
            communities.overlap_null([(a, b)], np.zeros(len(a[0]), int), draws=2, seed=0)
        ).all()
    assert communities.own_overlap(two) is None


# Halves


def table(documents=12, seed=0):
    """Return tokens with up to three of ten features each, in documents of random lengths."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), rng.integers(1, 9, documents))
    rows = [np.sort(rng.choice(10, rng.integers(0, 4), replace=False)) for _ in document]
    indptr = np.cumsum([0, *map(len, rows)])
    features = np.concatenate(rows).astype(np.int32)
    return Membership(indptr, features, document, np.bincount(features, minlength=11)), rows


def test_halves_share_no_document_and_are_of_equal_tokens():
    one, two = table(seed=0)[0], table(seed=1)[0]
    found = halve([one.document, two.document], 6, seed=3)
    for halvings in found:
        assert len(halvings) == 6
        for first, second in halvings:
            assert not set(first.tolist()) & set(second.tolist())
    sizes = np.array(
        [
            [np.isin(m.document, side).sum() for side in h]
            for m, of in zip((one, two), found, strict=True)
            for h in of
        ]
    ).reshape(2, 6, 2)
    # A document has up to eight tokens.
    assert np.all(sizes.max(axis=(0, 2)) - sizes.min(axis=(0, 2)) < 8)
    again = halve([one.document, two.document], 6, seed=3)
    assert all(
        np.array_equal(x, y)
        for a, b in zip(found[0], again[0], strict=True)
        for x, y in zip(a, b, strict=True)
    )
    assert not np.array_equal(found[0][0][0], found[0][1][0])
    assert halve([np.zeros(9, int), np.zeros(4, int)], 2, seed=0) == [[], []]
    assert halve([np.zeros(0, int)], 2, seed=0) == [[]]


def test_halves_are_balanced_despite_a_long_document():
    some = np.repeat(np.arange(11), [50, *[10] * 10])
    for first, second in halve([some], 8, seed=0)[0]:
        sizes = [np.isin(some, side).sum() for side in (first, second)]
        assert 40 <= max(sizes) <= 2 * min(sizes)
    # One document is longer than all others: no halves can have similar sizes.
    assert halve([np.repeat(np.arange(11), [900, *[10] * 10])], 3, seed=0) == [[]]
    assert halve([np.arange(3)], 3, seed=0) == [[]]


def test_document_subset_equals_the_rows_of_its_documents():
    m, rows = table()
    wanted = np.array([3, 7, 0])
    found = document_subset(m, wanted)
    retained = [r.tolist() for r, d in zip(rows, m.document, strict=True) if d in wanted]
    assert [found.features[a:b].tolist() for a, b in itertools.pairwise(found.indptr)] == retained
    met = {p for r in retained for p in itertools.combinations(r, 2)}
    assert set(map(tuple, edges(found)[0].tolist())) == met
    assert len(document_subset(m, np.zeros(0, int))) == 0


# Rows and conclusions


def test_draws_by_hand():
    drawn = np.array([1.0, 2.0, 3.0, math.nan])
    assert permutation_p(3.0, drawn) == 2 / 4
    assert permutation_p(4.0, drawn) == 1 / 4
    assert exceedance_p(0, 3) == 1 / 4
    assert exceedance_p(np.array([0, 3, 1]), 3).tolist() == [0.25, 1.0, 0.5]
    assert permutation_p(math.nan, drawn) is None
    assert permutation_p(1.0, np.array([math.nan])) is None
    assert range_of("x", drawn) == {
        "x_mean": 2.0,
        "x_low": pytest.approx(1.05),
        "x_high": pytest.approx(2.95),
    }
    assert set(range_of("x", drawn[3:]).values()) == {None}


def test_the_conclusion_follows_from_the_numbers():
    share = Row(
        "conserved",
        "share of A's edges",
        text="halves",
        value=0.5,
        low=0.45,
        high=0.55,
        itself_mean=0.8,
        itself_low=0.78,
        itself_high=0.82,
        null_mean=0.3,
        rewired_mean=0.31,
        p=0.005,
        rewired_p=0.005,
    )
    other = replace(share, measure="share of B's edges", itself_mean=0.75)
    far = Row(
        "distance",
        "degree: Kolmogorov-Smirnov",
        text="halves",
        value=0.1,
        low=0.08,
        high=0.12,
        limits=RANGE,
        halvings=5,
        itself_mean=0.02,
        itself_low=0.01,
        itself_high=0.03,
        null_mean=0.7,
        null_low=0.6,
    )

    def conclusion(*rows, draws=200):
        return conclude("x", "y", rows, draws=draws)

    all_ = conclusion(far, share, other)
    for words in (
        "more than between halves of one SAE (0.020), less than from the bipartite null (0.700)",
        "50.0% of A's and 50.0% of B's are conserved over other documents, more than under both nulls",
        "and less than between halves of one SAE (80.0% and 75.0%)",
        "Communities cannot be compared.",
    ):
        assert words in all_
    # One null that is not cleared is enough, on either side.
    for one, two in (({"p": 0.2}, {}), ({"rewired_p": 0.2}, {}), ({}, {"p": 0.2})):
        assert ", not clearly more than under both nulls" in conclusion(
            replace(share, **one), replace(other, **two)
        )
    # And nulls that cannot reject give no conclusion.
    assert "needs 19 draws or more instead of 3" in conclusion(share, other, draws=3)
    assert "not tested against a null, because permutations" in conclusion(
        share, replace(other, p=None)
    )
    assert "and not clearly less than between halves" in conclusion(
        *(replace(r, high=0.79) for r in (share, other))
    )
    assert "not clearly less of A's and less of B's" in conclusion(replace(share, high=0.79), other)
    near = conclusion(replace(far, low=0.025, high=0.65))
    assert "not clearly more than between halves" in near
    assert "not clearly less than from the bipartite null" in near
    few = conclusion(replace(far, halvings=2))
    assert "0.020 between halves of one SAE; fewer than 3 halvings" in few
    assert "than between halves" not in few
    # What the matches cover, and which nulls they exceed, follows the edges.
    cover = [
        Row("coverage", f"share of {side}'s {what} matched", of=of, value=value)
        for side, what, of, value in (
            ("A", "live features", "features", 0.593),
            ("B", "live features", "features", 0.5),
            ("A", "edges with both ends", "edges", 0.426),
            ("B", "edges with both ends", "edges", 0.3),
        )
    ]
    covered = "cover 59% and 50% of the active features of A and B, and 43% and 30% of their edges"
    both = conclusion(far, share, other, *cover)
    assert both.index("are conserved") < both.index(covered) < both.index("Communities")
    assert "exceed two of three nulls" in both
    mutual = conclude("x", "y", [far, share, other, *cover], draws=200, matches="mutual")
    assert "need not exceed any null" in mutual
    assert "cover" not in conclusion(far, share, other, *cover[1:])


# A complete atlas


def renamed(seed=0, order=None):
    """Return an SAE with its features in another order."""
    sae = topk(k=6, seed=seed)
    if order is not None:
        with torch.no_grad():
            for parameter in (sae.W_dec, sae.b_enc):
                parameter.copy_(parameter[order].clone())
            sae.W_enc.copy_(sae.W_enc[:, order].clone())
    return sae


ORDER = np.random.default_rng(4).permutation(40)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("alike") / "a.atlas"
    dead = jumprelu()
    with torch.no_grad():
        dead.threshold.fill_(1e9)
    saes = [
        named(renamed(), "one"),
        named(renamed(order=torch.tensor(ORDER)), "copy"),
        named(renamed(seed=1), "two"),
        named(dead, "dead"),
    ]
    run(made, model(), saes, texts(60), match=MatchSettings(draws=5, min_joint=3))
    return made


FEW = ComparisonSettings(
    draws=9,
    halves=2,
    null_graphs=1,
    leiden_runs=2,
    matches="one-to-one",
    frequency_bins=2,
    degree_bins=2,
)


def compare_saes(atlas, saes, *, settings=None):
    """Compare all pairs of SAEs, without the storage of the study."""
    chosen, names = settings or ComparisonSettings(), check_names(atlas, saes)
    check_some_matched(atlas, names, chosen)
    return list(compare_pairs(atlas, list(itertools.combinations(names, 2)), chosen, names=names))


def compare_two(atlas, a, b, *, settings=None):
    (found,) = compare_saes(atlas, [a, b], settings=settings)
    return found


def pick(found, kind, measure, text="all"):
    (row,) = [r for r in found.rows if (r.kind, r.measure, r.text) == (kind, measure, text)]
    return row


def test_a_copy_with_features_in_another_order_is_the_same_graph(path):
    with Atlas.open(path) as atlas:
        found = compare_two(atlas, "one", "copy", settings=FEW)
        partners = read_partners(atlas, "one", "copy", matches="one-to-one")
        other_way = read_partners(atlas, "copy", "one", matches="one-to-one")
    assert np.array_equal(ORDER[partners.b], partners.a)
    assert np.array_equal(np.sort(other_way.a), np.sort(partners.b))
    for measure in ("share of A's edges", "share of B's edges", "Jaccard"):
        row = pick(found, "conserved", measure)
        assert row.value == 1
        assert row.low == row.high == 1
    assert pick(found, "conserved", "rank correlation of weights").value == pytest.approx(1)
    for what in ("degree", "clustering", "core"):
        assert pick(found, "distance", f"{what}: Kolmogorov-Smirnov").value == pytest.approx(0)
    # Over halves that share no text, the copy agrees with the SAE as much as the SAE with itself.
    row = pick(found, "conserved", "share of A's edges", "halves")
    assert row.value == pytest.approx(row.itself_mean, abs=0.02)
    assert row.same_text == 1
    own = pick(found, "communities", "adjusted mutual information", "halves")
    assert own.value == pytest.approx(own.itself_mean, abs=0.35)


def test_rows_have_no_nan_and_are_deterministic(path):
    with Atlas.open(path) as atlas:
        found = compare_two(atlas, "one", "two", settings=FEW)
        again = compare_two(atlas, "one", "two", settings=FEW)
        edges_of_one = atlas.graph("one").ecount()
    assert found.reported == again.reported
    assert "nan" not in json.dumps(found.reported).lower()
    row = pick(found, "coverage", "share of A's edges with both ends matched")
    assert row.n == edges_of_one
    assert any("that are alone in a stratum" in note for note in found.notes)
    assert all(row.note for row in found.rows if row.value is None)
    text = draw_comparisons([found])
    assert "Conserved edges" in json.dumps(text.to_dict())


def run_command(path, *words):
    """Return the exit code and the output of `atlas compare-graphs`."""
    done = CliRunner().invoke(compare, [*words, "--atlas", str(path)], standalone_mode=False)
    if done.exception is not None:
        return done.exception, ""
    return 0, done.stdout


QUICK = ("--draws", "3", "--halves", "1", "--matches", "one-to-one")


@pytest.mark.slow
def test_the_command_prints_tables_json_and_plots(path, tmp_path):
    outs = [tmp_path / "p.svg", tmp_path / "p.html"]
    code, out = run_command(
        path, "one", "copy", "two", *QUICK, "-o", str(outs[0]), "-o", str(outs[1]), "-q"
    )
    assert code == 0
    for expected in (
        "degree: Kolmogorov-Smirnov",
        "share of A's edges",
        "one (A) and copy (B): ",
        "copy (A) and two",
    ):
        assert expected in out
    drawn = outs[0].read_text("utf-8")
    for expected in (
        "Degree of features",
        "Conserved edges under the matches",
        "Overlap of communities",
    ):
        assert expected in drawn
    assert "NaN" not in drawn
    code, out = run_command(path, "one", "two", *QUICK, "--json", "-q", "-o", str(outs[1]))
    assert outs[1].stat().st_size > 10_000
    (one,) = json.loads(out)["result"]["comparisons"]
    assert (one["a"], one["b"]) == ("one", "two")
    assert one["half_tokens"] * 2 <= one["tokens"]


@pytest.mark.slow
def test_a_narrow_terminal_shows_the_values_of_the_verdict(path, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    code, out = run_command(path, "one", "two", *QUICK, "-q")
    assert code == 0
    styles = r"\x1b\[[0-9;]*m"
    shown = re.sub(styles, "", out).splitlines()
    header = next(line.split() for line in shown if re.match("measure ", line))
    assert header[:4] == ["measure", "value", "SAE", "null"]  # "same SAE" takes two lines
    assert "Wasserstein" not in out
    assert "p null, p swapped: share of the draws" in out
    omitted = " ".join(out.split()).partition("Omitted: ")[2]
    assert "by r, which include low r" in omitted.partition(". --rows prints them.")[0]
    assert "need not exceed any null" in " ".join(re.sub(styles, "", out).split())
    _, full = run_command(path, "one", "two", *QUICK, "-q", "--rows")
    assert "Wasserstein" in full
    _, three = run_command(path, "one", "copy", "two", *QUICK, "-q", "--wide")
    assert re.search(r"^A +B +measure +value", re.sub(styles, "", three), re.MULTILINE)


def test_an_sae_that_is_all_dead_and_one_without_edges(path, tmp_path):
    with Atlas.open(path) as atlas:
        found = compare_two(atlas, "one", "dead", settings=FEW)
        assert any("No feature of dead is ever active" in note for note in found.notes)
        assert "No match of one and dead is one to one" in " ".join(found.notes)
        assert {row.value for row in found.rows} == {None}
        assert all(row.note == "no live feature on one side" for row in found.rows)
        draw_comparisons([found])
        bare = compare_two(atlas, "one", "two", settings=replace(FEW, min_count=10**6))
    assert any("no edges at a count of 1,000,000" in note for note in bare.notes)
    assert pick(bare, "conserved", "share of A's edges").value is None
    assert "so conservation is not measured" in bare.conclusion
    draw_comparisons([bare])
    assert "nan" not in json.dumps([found.reported, bare.reported]).lower()


@pytest.mark.slow
def test_every_kind_of_weight_is_compared(path):
    with Atlas.open(path) as atlas:
        for weight in ("count", "weight", "none"):
            found = compare_two(atlas, "one", "copy", settings=replace(FEW, weight=weight))
            row = pick(found, "conserved", "rank correlation of weights")
            if weight == "none":
                assert (row.value, row.note) == (None, "edges have no weights")
            else:
                assert row.value == pytest.approx(1)


def test_missing_matches_report_the_command(tmp_path):
    made = tmp_path / "b.atlas"
    saes = [named(topk(seed=s), n) for s, n in ((0, "one"), (1, "two"), (2, "three"))]
    run(made, model(), saes, texts(10), match=None, settings=Settings(keep_codes=True))
    with Atlas.open(made) as atlas, pytest.raises(Missing, match="run `atlas match one two`"):
        compare_two(atlas, "one", "two")
    error, _ = run_command(made, "one", "two", "three")
    assert "run `atlas match one two`" in str(error)


def test_pairs_without_matches_among_others_have_their_distances(tmp_path):
    made = tmp_path / "c.atlas"
    saes = [named(topk(seed=s), n) for s, n in ((0, "one"), (1, "two"))]
    run(made, model(), saes, texts(10), match=MatchSettings(draws=0, min_joint=3))
    run(made, model(), [named(topk(seed=2), "three")], texts(10), match=None)
    with Atlas.open(made) as atlas:
        with pytest.raises(Missing, match="--draws 20 --replace"):
            compare_two(atlas, "one", "two")
        found = compare_saes(atlas, ["one", "two", "three"], settings=FEW)
    assert [any(r.kind == "conserved" for r in one.rows) for one in found] == [True, False, False]
    assert "run `atlas match one three`" in " ".join(found[1].notes)
    assert all(any(r.kind == "distance" for r in one.rows) for one in found)


def test_without_codes_a_note_reports_missing_halves(tmp_path):
    made = tmp_path / "d.atlas"
    saes = [named(topk(seed=s), n) for s, n in ((0, "one"), (1, "two"))]
    run(made, model(), saes, texts(20), match=MatchSettings(draws=0, min_joint=3))
    for codes in (made / "codes", made / "parts" / "codes"):
        if codes.exists():
            rmtree(codes)
    with Atlas.open(made) as atlas:
        found = compare_two(atlas, "one", "two", settings=FEW)
    assert {row.text for row in found.rows} == {"all"}
    assert "The codes of one are not available" in " ".join(found.notes)
    assert pick(found, "conserved", "Jaccard").value is not None
    draw_comparisons([found])


def test_graphs_of_other_k_are_refused_and_the_largest_min_count_is_used(tmp_path):
    made = tmp_path / "k.atlas"
    for name, k, count in (("one", 4, 1), ("two", 3, 2)):
        how = Settings(keep_codes=True, k=k, min_count=count)
        run(made, model(), [named(topk(seed=k), name)], texts(10), match=None, settings=how)
    with Atlas.open(made) as atlas:
        assert [of.min_count for of in at_equal_tokens(atlas, ["one", "two"])] == [2, 2]
        with pytest.raises(Mismatch, match="two joins the 3 most active"):
            read_subjects(atlas, ["one", "two"], FEW)


def test_bad_input(path):
    with Atlas.open(path) as atlas:
        with pytest.raises(BadInput, match="Two SAEs or more"):
            compare_saes(atlas, ["one", "one"])
        with pytest.raises(UnknownName, match="'tow'"):
            compare_saes(atlas, ["one", "tow"])
    for bad in ({"draws": 0}, {"seed": -1}, {"level": 2}, {"matches": "any"}, {"weight": "lift"}):
        with pytest.raises(BadInput, match="expected"):
            ComparisonSettings(**bad)
    with pytest.raises(BadInput, match="No comparison"):
        draw_comparisons([])


# The part that stores a comparison


def compared(path, *saes, **how):
    """Return results and the messages of the progress."""
    recorded = RecordingProgress()
    return compare_graphs(
        path, saes, settings=replace(FEW, **how), progress=recorded
    ), recorded.messages


def test_a_second_run_reads_the_part(path, monkeypatch):
    (first,), _ = compared(path, "two", "one")
    with Atlas.open(path) as atlas:
        expected = compare_two(atlas, "two", "one", settings=FEW)
    assert comparison_of(first).reported == expected.reported
    assert first.verdict == (expected.conclusion,)
    part = Folder.open(path).sound().parts["graph_comparison/two+one"]
    assert {"match/one+two", "sae/one", "statistics/two", "coactivation/one"} <= set(
        part.manifest.made_from
    )
    assert part.manifest.settings["codes"] == ["one", "two"]
    monkeypatch.setattr(study, "compare_pairs", None)  # nothing is computed
    (again,), spoken = compared(path, "two", "one")
    assert any("already stored with the same settings" in line for line in spoken)
    assert comparison_of(again).reported == expected.reported
    assert again.plot().to_dict() == first.plot().to_dict()
    assert again.to_pandas("rows").equals(first.to_pandas("rows"))


def test_pairs_do_not_depend_on_other_saes(path):
    (alone,), _ = compared(path, "one", "copy", seed=5)
    together, spoken = compared(path, "one", "copy", "two", seed=5)
    assert [one.name for one in together] == ["one+copy", "one+two", "copy+two"]
    assert sum("the same settings" in line for line in spoken) == 1
    with Atlas.open(path) as atlas:
        found = compare_saes(atlas, ["one", "copy", "two"], settings=replace(FEW, seed=5))
    assert comparison_of(alone).reported == found[0].reported
    assert [comparison_of(one).reported for one in together] == [one.reported for one in found]


def test_other_settings_are_computed_again(path):
    (first,), _ = compared(path, "one", "two", seed=3)
    (other,), spoken = compared(path, "one", "two", seed=4)
    assert any("other settings (" in line and line.endswith("; it is replaced.") for line in spoken)
    assert comparison_of(first).reported != comparison_of(other).reported


def test_a_changed_match_makes_it_stale_and_removed_codes_change_its_settings(tmp_path):
    made = tmp_path / "e.atlas"
    saes = [named(topk(seed=s), n) for s, n in ((0, "one"), (1, "two"))]
    run(made, model(), saes, texts(20), match=MatchSettings(draws=0, min_joint=3))
    (first,), _ = compared(made, "one", "two")
    match_saes(made, ["one", "two"], settings=MatchSettings(draws=0, min_joint=5))
    sound = Folder.open(made).sound()
    assert "match/one+two" in sound.stale["graph_comparison/one+two"]
    (again,), spoken = compared(made, "one", "two")
    assert not [line for line in spoken if "other settings" in line]
    assert "graph_comparison/one+two" in Folder.open(made).sound().parts
    assert comparison_of(first).matches > comparison_of(again).matches
    rmtree(made / "codes")
    (without,), spoken = compared(made, "one", "two")
    assert any("other settings" in line for line in spoken)
    assert "half" not in {row.text[:4] for row in comparison_of(without).rows}
    part = Folder.open(made).sound().parts["graph_comparison/one+two"]
    assert part.manifest.settings["codes"] == []


def test_nothing_is_stored_for_a_server(path):
    folder = Folder.open(path)
    keys = folder.sound().parts.keys()
    with Atlas.open(path) as atlas:
        (part,), spoken = compared(Served(folder), "two", "copy")
        assert any("is a server, so the results are not stored" in line for line in spoken)
        found = comparison_of(part)
        assert {row.text for row in found.rows} == {"all"}
        assert found.matches == len(read_partners(atlas, "two", "copy", matches="one-to-one"))
    part.plot()
    assert folder.sound().parts.keys() == keys
