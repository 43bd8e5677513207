"""Counterparts: planted graphs and SAEs, brute forces, ties, and errors."""

import json
from dataclasses import replace
from itertools import permutations

import altair
import igraph
import networkx
import numpy as np
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from small_ingest import model, texts, topk

from analysis.graph.coactivation_graph import CoactivationGraph, graph_of_membership
from analysis.graph_matching import report, study
from analysis.graph_matching.commands import counterparts as command
from analysis.graph_matching.evaluate import (
    METHODS,
    anchored,
    compare_with_faq,
    evaluate,
    faq,
    mispaired,
    sample_anchors,
)
from analysis.graph_matching.node_vectors import STATISTICS, embedded, local, propagated
from analysis.graph_matching.plots import draw_curve, draw_recalls
from analysis.graph_matching.ranks import first, rank
from analysis.graph_matching.report import conclusions
from analysis.graph_matching.seeded_matching import _distinct_best
from analysis.graph_matching.settings import GraphMatchingSettings
from analysis.graph_matching.study import find_counterparts, report_of, report_of_result, tables_of
from analysis.graph_matching.subject import (
    MatchedGraphs,
    activation_scores,
    correlations,
    decoder_scores,
    shared_min_count,
    shuffled,
    split,
    subject_of,
    truth_of,
)
from analysis.graph_matching.tables import (
    agreement,
    by_anchors,
    by_frequency,
    by_method,
    intervals,
    mean_agreement,
)
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest import MatchSettings, Settings, ingest
from ingest.codes.store import read_shard
from ingest.codes.topk_membership import Rule, open_membership
from ingest.match.align import align
from ingest.match.aligned_codes import CodeRows
from ingest.match.cosines import decoders
from ingest.match.inputs import open_side
from ingest.match.study import match_documents
from ingest.sae.autoencoder import open_sae
from ingest.synthetic import Planted, PlantedSettings
from ingest.text.corpus import Corpus

PLAIN = GraphMatchingSettings()


# Planted graphs


def counted_graph(pairs, count, active):
    """Return a graph over 10,000 tokens, with counts as weights."""
    graph = CoactivationGraph(pairs=pairs, count=count, active=active, tokens=10_000)
    return graph.weighted("count")


def planted(nodes=150, *, noise=0.0, seed=0, same_active=True):
    """Return two copies of a graph of power-law degrees; a share of B's edges is random instead."""
    rng = np.random.default_rng(seed)
    made = networkx.powerlaw_cluster_graph(nodes, 5, 0.3, seed=seed)
    pairs = np.sort(np.array(made.edges()), axis=1)
    weight = rng.integers(1, 50, len(pairs))
    active = rng.integers(50, 5000, nodes)
    lost = rng.random(len(pairs)) < noise
    weights = {tuple(pair): w for pair, w in zip(pairs[~lost].tolist(), weight[~lost], strict=True)}
    while len(weights) < len(pairs):
        one, two = sorted(rng.choice(nodes, 2, replace=False).tolist())
        weights.setdefault((one, two), int(rng.integers(1, 50)))
    other = active if same_active else rng.permutation(active)
    a = counted_graph(pairs, weight, active)
    b = counted_graph(np.array(list(weights)), np.array(list(weights.values())), other)
    same = np.arange(nodes)
    return shuffled(MatchedGraphs(a, b, np.column_stack([same, same])), seed=seed)


def outcomes(subject, shares=(0.1,), settings=PLAIN, **more):
    return {(o.method, o.share): o for o in evaluate(subject, settings, shares=shares, **more)}


def mean(found, method, share=0.0, *, column=0):
    return found[method, share].ranks.scores[:, column].mean()


def test_without_noise_counterparts_are_found():
    found = outcomes(planted(noise=0), shares=(0.05, 0.5))
    for method in ("structure, local", "structure, propagated", "structure, matched"):
        assert mean(found, method) > 0.97
    assert mean(found, "anchors, matched", 0.05) > 0.97
    assert mean(found, "anchors, walks alone", 0.5) > 0.97
    assert mean(found, "frequency") > 0.9


def test_recall_falls_from_one_to_chance_with_noise():
    found = [
        np.mean(
            [
                [
                    mean(one, "structure, propagated"),
                    mean(one, "anchors, matched", 0.3),
                    mean(one, "anchors, walks alone", 0.3),
                ]
                for one in (
                    outcomes(planted(noise=noise, seed=seed, same_active=False), shares=(0.3,))
                    for seed in range(3)
                )
            ],
            axis=0,
        )
        for noise in (0.0, 0.2, 1.0)
    ]
    none, some, total = found
    assert (none > 0.95).all()
    assert (some < none).all()
    assert (some[1:] > 0.3).all()
    # 3 times 105 to 150 queries at 1 in 105 to 150: three hits are expected, 11 are too many.
    assert (total < 11 / 315).all()


def test_wrong_pairs_of_anchors_find_no_more_than_chance():
    found = [outcomes(planted(seed=s, same_active=False), shares=(0.3,)) for s in range(3)]
    wrong = np.concatenate([o["anchors paired at random", 0.3].ranks.scores[:, 0] for o in found])
    right = np.concatenate([o["anchors, walks alone", 0.3].ranks.scores[:, 0] for o in found])
    assert wrong.mean() < 11 / 315
    assert right.mean() > 0.9


def test_results_do_not_depend_on_the_order_of_features():
    made = planted(noise=0.1, seed=3)
    others = {"given": np.random.default_rng(0).random((150, 150)).astype(np.float32)}
    made = MatchedGraphs(made.a, made.b, made.truth, others)
    one, two = (outcomes(shuffled(made, seed=seed)) for seed in (1, 2))
    assert one.keys() == two.keys() >= {("given", 0.0), ("given", 0.1)}
    for key in one:
        if key[0] == "anchors paired at random":  # of other nodes
            continue
        assert (one[key].query == two[key].query).all()
        assert np.allclose(one[key].ranks.scores, two[key].ranks.scores)


@pytest.mark.parametrize("jumps", [(1,), (1, 2), (1, 3, 7)])
def test_indistinguishable_nodes_are_found_at_random(jumps):
    nodes = 30
    ring = networkx.circulant_graph(nodes, jumps)
    a, b = (CoactivationGraph.of(ring).weighted("count") for _ in range(2))
    same = np.arange(nodes)
    for standard in ("normal", "z"):
        settings = GraphMatchingSettings(standard=standard)
        subject = shuffled(MatchedGraphs(a, b, np.column_stack([same, same])), seed=5)
        for outcome in evaluate(subject, settings, shares=()):
            assert (outcome.ranks.scores[:, 0] == 1 / nodes).all(), outcome.method
            assert not outcome.ranks.informative.any()


def test_expected_scores_of_random_ranks_are_exact():
    scores = outcomes(planted(60, noise=0.5))["chance", 0.0].ranks.scores
    assert np.allclose(scores, [1 / 60, 10 / 60, 1, np.mean(1 / np.arange(1, 61))])


# Anchors


def test_anchors_are_neither_queries_nor_candidates():
    subject = planted(80, noise=0.3)
    for (method, share), outcome in outcomes(subject, shares=(0.1, 0.5)).items():
        known = sample_anchors(subject.truth, share, seed=0)
        assert known.sum() == outcome.anchors == round(share * 80)
        assert set(outcome.query) == set(subject.truth[~known, 0])
        assert (outcome.ranks.candidates == 80 - known.sum()).all(), method
        candidates = np.setdiff1d(subject.b.live, subject.truth[known, 1])
        assert (candidates[outcome.true] == subject.truth[~known, 1]).all()
    few, many = (sample_anchors(subject.truth, share, seed=0) for share in (0.1, 0.5))
    assert (many | ~few).all()


def test_at_least_one_pair_is_an_anchor_and_one_a_query():
    truth = np.column_stack([np.arange(5)] * 2)
    assert sample_anchors(truth, 0.001, seed=0).sum() == 1
    assert sample_anchors(truth, 0.999, seed=0).sum() == 4


def test_wrong_partners_are_wrong(monkeypatch):
    import analysis.graph_matching.evaluate as methods

    subject, seen = planted(80), []
    real = methods.match
    monkeypatch.setattr(
        methods,
        "match",
        lambda a, b, *rest, **more: seen.append((a, b)) or real(a, b, *rest, **more),
    )
    mispaired(subject, PLAIN, anchors=subject.truth[:30], rng=np.random.default_rng(0))
    ((a, b),) = seen
    assert (a.anchors == subject.truth[:30, 0]).all()
    assert (b.anchors != subject.truth[:30, 1]).all()
    assert sorted(b.anchors) == sorted(subject.truth[:30, 1])
    assert not set(b.free) & set(b.anchors)


def test_wrong_partners_have_similar_frequency(monkeypatch):
    import analysis.graph_matching.evaluate as methods

    subject, seen = planted(150), []
    monkeypatch.setattr(methods, "anchored", lambda *_, anchors, **__: seen.append(anchors))
    mispaired(subject, PLAIN, anchors=subject.truth[:100], rng=np.random.default_rng(0))
    rank = subject.b.active[subject.truth[:100, 1]].argsort().argsort()
    of = dict(zip(subject.truth[:100, 1].tolist(), rank.tolist(), strict=True))
    assert max(abs(of[one] - rank[row]) for row, one in enumerate(seen[0][:, 1].tolist())) < 20


def test_a_single_anchor_is_never_paired_wrongly():
    found = outcomes(planted(30), shares=(0.01, 0.1))
    assert ("anchors, matched", 0.01) in found
    assert ("anchors paired at random", 0.01) not in found
    assert ("anchors paired at random", 0.1) in found


def test_pairs_that_tie_in_a_row_or_a_column_are_not_distinct():
    clear = np.eye(3, dtype=np.float32)
    assert [x.tolist() for x in _distinct_best(clear, share=1, most=9)] == [[0, 1, 2], [0, 1, 2]]
    row, column = clear.copy(), clear.copy()
    row[0, 1] = 0.999999  # equal to the best of row 0 within the tolerance
    column[1, 0] = 0.999999  # of column 0
    column[1, 1] = 2
    for scores in (row, column):
        assert 0 not in _distinct_best(scores, share=1, most=9)[0]
        assert 2 in _distinct_best(scores, share=1, most=9)[0]


def test_walks_equal_a_brute_force():
    subject = planted(25, noise=0.2)
    known = subject.truth[:6]
    free_a, free_b = (np.setdiff1d(np.arange(25), known[:, side]) for side in (0, 1))
    total = 0
    for walk in (1, 2):
        profiles = []
        for g, anchors, free in (
            (subject.a, known[:, 0], free_a),
            (subject.b, known[:, 1], free_b),
        ):
            w = np.zeros((25, 25))
            for (i, j), x in zip(g.pairs, g.weight, strict=True):
                w[i, j] = w[j, i] = x
            reached = np.linalg.matrix_power(w / w.sum(1, keepdims=True), walk)
            lift = np.log1p(reached[np.ix_(free, anchors)] / (w.sum(1) / w.sum())[anchors])
            lift = lift - lift.mean(0)
            profiles.append(lift / np.linalg.norm(lift, axis=1, keepdims=True))
        total = total + profiles[0] @ profiles[1].T / 2
    near_a, near_b = (
        np.sort(total, axis=k)[:, -10:].mean(1) if k else np.sort(total, axis=0)[-10:].mean(0)
        for k in (1, 0)
    )
    expected = 2 * total - near_a[:, None] - near_b[None]
    found = anchored(subject, GraphMatchingSettings(walks=2), anchors=known, alone=True)
    queries = [q for q in subject.truth[:, 0] if q not in known[:, 0]]
    assert np.allclose(found, expected[np.searchsorted(free_a, queries)], atol=1e-4)


# Ranks


def test_ties_are_scored_by_expectation():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (12, 5)).astype(float)
    true = rng.integers(0, 5, 12)
    found = rank(scores, true).scores
    for row, at, got in zip(scores, true, found, strict=True):
        drawn = []
        for order in permutations(range(5)):  # every order of candidates, ties as they come
            true_rank = sorted(order, key=lambda j: -row[j]).index(at) + 1
            drawn.append([true_rank <= 1, true_rank <= 10, true_rank <= 100, 1 / true_rank])
        assert np.allclose(got, np.mean(drawn, axis=0))


def test_ranks_of_many_candidates_equal_a_sort():
    rng = np.random.default_rng(1)
    scores, true = rng.random((40, 300)), rng.integers(0, 300, 40)
    true_rank = (scores > scores[np.arange(40), true][:, None]).sum(1) + 1
    expected = np.column_stack([true_rank <= 1, true_rank <= 10, true_rank <= 100, 1 / true_rank])
    assert np.allclose(rank(scores, true).scores, expected)
    assert (rank(np.zeros((2, 7)), np.array([0, 3])).scores[:, 0] == 1 / 7).all()
    assert len(rank(np.zeros((0, 7)), np.zeros(0, int)).scores) == 0


def test_ties_share_the_first_rank():
    assert first(np.array([[1.0, 1, 0], [0, 2, 1]])).tolist() == [[0.5, 0.5, 0], [0, 1, 0]]


# Vectors


def test_statistics_equal_networkx():
    g = planted(60).a
    ours = dict(zip(STATISTICS, local(g).T, strict=True))
    other = networkx.Graph()
    other.add_nodes_from(range(60))
    other.add_weighted_edges_from((i, j, w) for (i, j), w in zip(g.pairs, g.weight, strict=True))
    degree = dict(other.degree())
    core, pagerank = networkx.core_number(other), networkx.pagerank(other, tol=1e-12, weight=None)
    clustering, strength = networkx.clustering(other), dict(other.degree(weight="weight"))
    for i in range(60):
        near = [(np.log1p(degree[j]), other[i][j]["weight"] / strength[i]) for j in other[i]]
        logs, shares = np.array(near).T
        expected = [
            np.log1p(degree[i]),
            np.log1p(strength[i]),
            clustering[i],
            np.log1p(core[i]),
            np.log(pagerank[i]),
            logs.mean(),
            logs.std(),
            shares @ logs,
            -shares @ np.log(shares),
            shares.max(),
        ]
        assert np.allclose([column[i] for column in ours.values()], expected, atol=1e-6)


def test_propagation_equals_a_loop():
    g = planted(40, noise=0.6).b
    found = propagated(g, depth=2, standard="z", frequency=True)
    columns = np.column_stack([local(g), np.log(g.active)])
    steps = g.matrix.toarray() / g.matrix.toarray().sum(1, keepdims=True)
    expected = []
    for _ in range(3):
        columns = (columns - columns.mean(0)) / columns.std(0)
        expected.append(columns)
        columns = steps @ columns
    assert found.shape == (40, 33)
    assert np.allclose(found, np.hstack(expected), atol=1e-6)


def test_normal_scores_depend_on_ranks_only():
    g = planted(40).a
    heavier = replace(g, active=g.active**2)
    one, two = (propagated(x, depth=0, standard="normal", frequency=True) for x in (g, heavier))
    assert np.allclose(one, two)


def test_vectors_of_empty_graphs():
    empty = counted_graph(np.zeros((0, 2), int), np.zeros(0, int), np.array([3, 0, 4]))
    for standard in ("normal", "z"):
        found = propagated(empty, depth=2, standard=standard)
        assert (found == 0).all()
    one, two = embedded(found, found)
    assert (one == 0).all()
    assert (two == 0).all()
    subject = MatchedGraphs(empty, empty, np.array([[0, 0], [2, 2]]))
    for outcome in evaluate(subject, PLAIN, shares=(0.5,)):
        if "frequency" not in outcome.method and not outcome.share:
            assert (outcome.ranks.scores[:, 0] == 0.5).all()


def test_plain_graphs_are_accepted():
    made = igraph.Graph(n=4, edges=[(0, 1), (1, 2)])
    made.es["count"] = [2, 5]
    of = CoactivationGraph.of
    g = of(made).weighted("count")
    assert g.strength.tolist() == [2, 7, 5, 0]
    assert of(networkx.path_graph(3)).strength.tolist() == [1, 2, 1]
    for wrong in (0, 0.5, -1, float("inf")):
        made.es["count"] = [2, wrong]
        with pytest.raises(BadInput, match="whole number above 0"):
            of(made)
    made.es["count"] = [2, 5]
    with pytest.raises(BadInput, match="4 nodes"):
        of(made, active=np.ones(3))
    with pytest.raises(BadInput, match="never active"):
        MatchedGraphs(of(made, active=np.array([1, 0, 1, 1])), g, np.array([[1, 1]]))


def test_subgraphs_and_relabelled_graphs_equal_their_matrices():
    g = planted(30).a
    nodes = np.array([2, 3, 5, 7, 11, 13])
    dense = g.matrix.toarray()[np.ix_(nodes, nodes)]
    assert (g.among(nodes).matrix.toarray() == dense).all()
    label = np.random.default_rng(0).permutation(30)
    assert (g.relabelled(label).matrix.toarray()[np.ix_(label, label)] == g.matrix.toarray()).all()


# FAQ, intervals, tables


def test_faq_finds_a_copy():
    subject = planted(40)
    truth = subject.truth
    found = faq(subject.a, subject.b, anchors=truth[:10])
    assert np.mean(found[truth[:, 0]] == truth[:, 1]) > 0.9
    both = compare_with_faq(subject, PLAIN, share=0.25, rng=np.random.default_rng(0))
    assert (both.nodes, both.anchors, both.chance) == (40, 10, 1 / 30)
    assert both.faq > 0.9
    assert both.matching > 0.9
    few = replace(subject, truth=truth[:4])
    one = compare_with_faq(few, PLAIN, share=0.99, rng=np.random.default_rng(0))
    assert (one.nodes, one.anchors, one.chance) == (4, 3, 1)


def test_intervals_equal_those_of_a_mean():
    values = np.random.default_rng(0).normal(size=(500, 2))
    low, high = intervals(values, query=np.arange(500), repeat=np.zeros(500, int), draws=1000)
    half = 1.96 * values.std(0) / 500**0.5
    assert np.allclose(low, values.mean(0) - half, atol=0.15 * half)
    assert np.allclose(high, values.mean(0) + half, atol=0.15 * half)


def test_repeats_of_a_query_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=(100, 1))
    once = intervals(values, query=np.arange(100), repeat=np.zeros(100, int), draws=1000)
    again = intervals(
        np.tile(values, (5, 1)),
        query=np.tile(np.arange(100), 5),
        repeat=np.repeat(np.arange(5), 100),
        draws=1000,
    )
    assert (again[1] - again[0])[0] == pytest.approx((once[1] - once[0])[0], rel=0.1)
    assert np.isnan(intervals(np.zeros((0, 1)), query=np.zeros(0, int), repeat=np.zeros(0, int))[0])


def test_tables_are_means_over_outcomes():
    subject = planted(60, noise=0.3)
    found = list(evaluate(subject, PLAIN, shares=(0.1,), first_ranks_at=0.1))
    by = {(o.method, o.share): o for o in found}
    for row in by_method(found):
        scores = by[row["method"], row["share"]].ranks.scores
        assert row["recall@10"] == pytest.approx(scores[:, 1].mean())
        assert row["recall@10 low"] <= row["recall@10"] <= row["recall@10 high"]
    rows = [row for row in by_frequency(found) if row["method"] == "structure, matched"]
    gain = mean(by, "structure, matched", column=1) - mean(by, "frequency", column=1)
    assert sum(row["gain"] * row["queries"] for row in rows) / 60 == pytest.approx(gain)
    assert sum(row["queries"] for row in rows) == 60
    for row in agreement(found):
        one, two = (by[row[name], 0.1].first_ranks.toarray() for name in ("one", "two"))
        same = [float(x @ y) for x in one for y in two]
        assert row["same_first"] == pytest.approx(
            np.mean([x @ y for x, y in zip(one, two, strict=True)])
        )
        assert row["by_chance"] == pytest.approx(np.mean(same))


def test_anchor_gain_uses_the_same_queries_and_candidates():
    found = [
        o
        for r in range(2)
        for o in evaluate(planted(60, noise=0.5), PLAIN, shares=(0.1, 0.5), repeat=r)
    ]
    by = {(o.method, o.share, o.repeat): o.ranks for o in found}
    for row in by_anchors(found):
        differences = [
            by["anchors, matched", row["share"], r].scores[:, 1]
            - by["structure, matched", row["share"], r].scores[:, 1]
            for r in range(2)
        ]
        assert row["recall@10"] == pytest.approx(np.concatenate(differences).mean())
        assert row["recall@10 low"] <= row["recall@10"] <= row["recall@10 high"]


def test_a_difference_that_is_always_one_has_no_width():
    # Every query is found with anchors and none without, but queries are few.
    none = next(evaluate(planted(60), PLAIN, shares=()))
    worst = replace(none.ranks, better=none.ranks.equal - 1, equal=np.ones(60, int))
    best = replace(worst, better=np.zeros(60, int))
    (row,) = by_anchors(
        [
            replace(none, method="structure, matched", share=0.1, ranks=worst),
            replace(none, method="anchors, matched", share=0.1, ranks=best),
        ]
    )
    assert (row["recall@10 low"], row["recall@10"], row["recall@10 high"]) == (1, 1, 1)


def test_agreement_is_a_mean_over_repeats():
    one = {"same_first": 0.2, "by_chance": 0, "both_right": 0.1, "both_right_if_independent": 0}
    two = {"same_first": 0.6, "by_chance": 1, "both_right": 0.3, "both_right_if_independent": 0}
    (row,) = mean_agreement([[{"one": "x", "two": "y"} | one], [{"one": "x", "two": "y"} | two]])
    assert (row["one"], row["two"], row["by_chance"]) == ("x", "y", 0.5)
    assert row["same_first"] == pytest.approx(0.4)


def test_settings_are_chosen_by_the_highest_mrr():
    best, tried = report.choose(planted(60, noise=0.2), PLAIN)
    walks = [row for row in tried if row["what"] == "walks"]
    vectors = [row for row in tried if row["what"] == "vectors"]
    assert (len(vectors), len(walks)) == (6, 6)
    top = max(vectors, key=lambda row: row["mrr"])
    assert (best.standard, best.depth) == (top["standard"], top["depth"])
    top = max(walks, key=lambda row: row["mrr"])
    assert (best.walks, best.prior) == (top["walks"], top["prior"])


# Atlases


@pytest.fixture(scope="module")
def planted_saes():
    return Planted(
        PlantedSettings(
            saes=("one", "two"),
            documents=180,
            document_length=60,
            shared=30,
            context=4,
            private=6,
            token=2,
            position=1,
            bursty=1,
            rate=0.06,
            spread=0.4,
            noise=0.2,
        )
    )


@pytest.fixture(scope="module")
def made(planted_saes, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "p.atlas"
    planted_saes.write(path).close()
    return Folder.open(path)


def test_truth_equals_planted_matches(made, planted_saes):
    found = truth_of(made, "one", "two", documents=np.arange(180), settings=MatchSettings(draws=10))
    real = {tuple(pair) for pair in planted_saes.truth.tolist()}
    assert len(found) >= 20
    assert sum(tuple(pair) in real for pair in found.tolist()) >= 0.95 * len(found)
    turned = truth_of(
        made, "two", "one", documents=np.arange(180), settings=MatchSettings(draws=10)
    )
    assert {tuple(pair) for pair in turned[:, ::-1].tolist()} == {
        tuple(pair) for pair in found.tolist()
    }


def test_graphs_and_truth_are_of_disjoint_documents(made):
    sets = split(180, seed=4, repeat=1)
    assert sorted(np.concatenate(sets).tolist()) == list(range(180))
    subject = subject_of(made, "one", "two", seed=4, repeat=1, draws=20)
    a = graph_of_membership(open_membership(made, "one", documents=sets.a)).weighted("count")
    b = graph_of_membership(open_membership(made, "two", documents=sets.b)).weighted("count")
    assert (subject.a.pairs == a.pairs).all()
    assert (subject.a.active == a.active).all()
    assert sorted(subject.b.active.tolist()) == sorted(b.active.tolist())
    assert (subject.b.active != b.active).any()
    truth = truth_of(
        made, "one", "two", documents=sets.truth, settings=MatchSettings(draws=20, seed=4)
    )
    assert (subject.truth[:, 0] == truth[:, 0]).all()
    assert (subject.b.active[subject.truth[:, 1]] == b.active[truth[:, 1]]).all()
    assert (subject.b.strength[subject.truth[:, 1]] == b.strength[truth[:, 1]]).all()


def test_activations_are_correlated_on_the_requested_documents(made, planted_saes):
    some = np.arange(0, 180, 3)
    features = planted_saes.truth[:5, 0]
    found = activation_scores(made, "one", "two", features=features, documents=some)
    dense = []
    for name in ("one", "two"):
        blocks = [b for s in sorted(made.codes(name).glob("*.arrow")) for b in read_shard(s)]
        rows = []
        for block in blocks:
            codes = np.zeros((len(block), block.d_sae))
            codes[block.rows, block.indices] = block.values
            rows.append(codes[np.isin(block.tokens.document, some)])
        dense.append(np.concatenate(rows))
    x, y = dense
    joint = (x > 0).T.astype(float) @ (y > 0)
    r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    expected = np.where(joint >= 10, r, -1)[features]
    assert np.allclose(found, expected, atol=1e-5)
    assert (found.argmax(1) == planted_saes.truth[:5, 1]).all()


def test_features_that_are_never_active_have_no_correlation():
    none = CodeRows(np.zeros(4, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32), 3)
    assert (correlations(none, none, np.array([0, 2])) == -1).all()


def test_a_match_of_all_documents_equals_the_stored_match(made, planted_saes, tmp_path):
    from ingest import match_saes

    settings = MatchSettings(draws=5)
    complete = match_documents(made, "two", "one", documents=np.arange(180), settings=settings)
    path = tmp_path / "p.atlas"
    planted_saes.write(path).close()
    match_saes(path, "all", settings=settings)
    part = Folder.open(path).sound().parts["match/one+two"]
    assert complete.equals(part.table("MATCHES"))
    assert "match/one+two" not in made.sound().parts


@pytest.mark.slow
def test_a_match_of_some_documents_has_their_counts(made):
    some = np.arange(10, 60)
    table = match_documents(made, "one", "two", documents=some, settings=MatchSettings(draws=0))
    a, b = (open_side(made, made.sound(), name) for name in ("one", "two"))
    corpus = Corpus.open(made.corpus_file)
    complete = align(a.shards, b.shards, corpus, how="tokens")
    selected = np.isin(complete.units.document, some)
    for how in ("tokens", "words"):
        part = align(a.shards, b.shards, corpus, how=how, documents=some)
        assert set(part.units.document) <= set(some)
        if how == "tokens":
            assert (part.units.document == complete.units.document[selected]).all()
    on = []
    for rows in (complete.a, complete.b):
        codes = np.zeros((len(rows), rows.d_sae))
        codes[np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), rows.indices] = 1
        on.append(codes[selected])
    joint = on[0].T @ on[1]
    for row in table.to_pylist():
        i, j = (int(row[end].split("/")[1]) for end in ("source", "target"))
        assert row["joint_count"] == joint[i, j]


@pytest.fixture(scope="module")
def opened():
    return [open_sae(topk(seed=s, d_sae=d), name=n) for n, s, d in (("one", 0, 40), ("two", 1, 30))]


@pytest.fixture(scope="module")
def small(tmp_path_factory, opened):
    path = tmp_path_factory.mktemp("small") / "a.atlas"
    ingest(path, saes=opened, text=texts(20), model=model(), settings=Settings(context=16)).close()
    return Folder.open(path)


def test_decoder_vectors_equal_those_of_the_saes(small, opened, made):
    from atlas.progress import SILENT

    sides = tuple(open_side(small, small.sound(), name) for name in ("one", "two"))
    found = decoders(sides, opened=opened, progress=SILENT)
    for got, sae in zip(found, opened, strict=True):
        assert np.allclose(got, sae.sae.W_dec.detach().numpy())
    # The SAEs were in memory, so their vectors are not available later.
    assert decoder_scores(small, "one", "two", features=np.arange(3)) is None


def test_a_report_from_codes_alone(made):
    settings = GraphMatchingSettings(repeats=2, draws=20, anchors=(0.2, 0.5))
    found = report.counterparts(made, "one", "two", settings=settings)
    methods = {row["method"] for row in found["methods"]}
    assert methods == set(METHODS) - {"decoder cosine"}
    rows = {(row["method"], row["share"]): row for row in found["methods"]}
    assert rows["activation correlation", 0.0]["recall@1"] > 0.9
    assert found["table_share"] == 0.2
    assert {row["share"] for row in found["faq"]} == {0, 0.2, 0.5}
    assert all(row["faq least"] <= row["faq"] <= row["faq most"] for row in found["faq"])
    assert [row["share"] for row in found["by_anchors"]] == [0.2, 0.5]
    sentences = " ".join(found["sentences"])
    assert "Settings were not chosen on another pair" in sentences
    assert "Decoder vectors are not compared" in sentences
    assert "wrong for" in sentences
    assert sentences.count("for the same queries") == 2
    assert sentences.count("each paired wrongly") == 2
    for low, high, word in (
        (0.1, 0.3, "more than"),
        (-0.3, -0.1, "less than"),
        (-0.1, 0.1, "not clearly more than"),
    ):
        gain = found["by_anchors"][0] | {"recall@10 low": low, "recall@10 high": high}
        assert f"That is {word} 0." in " ".join(conclusions(found | {"by_anchors": [gain]}))
    assert json.dumps(found)


@pytest.mark.slow
def test_the_command_prints_tables_and_sentences_and_draws_plots(made, tmp_path):
    out = tmp_path / "curve.svg"
    words = [
        "one",
        "two",
        "--atlas",
        str(made.path),
        "--repeats",
        "1",
        "--anchor",
        "0.2",
        "-q",
    ]
    done = CliRunner().invoke(command, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "All methods; the 20% known" in done.output
    assert "Settings were not chosen on another pair" in done.output
    assert out.read_text("utf-8").startswith("<svg")
    done = CliRunner().invoke(command, [*words, "--json"])
    result = json.loads(done.output)["result"]
    assert result["a"] == "one"
    assert isinstance(draw_recalls(result), altair.HConcatChart)
    assert isinstance(draw_curve(result, measure="mrr"), altair.LayerChart)
    done = CliRunner().invoke(command, [*words[:-3], "--anchor", "0"])
    assert done.exit_code == 0
    assert "All methods" not in done.output


# The part that stores a matching


QUICK = GraphMatchingSettings(repeats=1, anchors=(0.2,), draws=5)


def test_a_second_run_reads_the_part(planted_saes, tmp_path, monkeypatch):
    path = tmp_path / "s.atlas"
    planted_saes.write(path).close()
    expected = report.counterparts(Folder.open(path), "two", "one", settings=QUICK)
    (first,) = find_counterparts(path, ["two", "one"], settings=QUICK)
    assert report_of_result(first) == expected
    assert list(first.verdict) == expected["sentences"]
    part = Folder.open(path).sound().parts["graph_matching/two+one"]
    assert part.manifest.made_from.keys() == {
        f"{kind}/{name}" for kind in ("sae", "tokens", "coactivation") for name in ("one", "two")
    }
    computed = []
    monkeypatch.setattr(
        study, "counterparts", lambda *a, **more: computed.append(a[1:]) or expected | {"b": "x"}
    )
    (again,) = find_counterparts(path, ["two", "one"], settings=QUICK)
    assert not computed
    assert report_of_result(again) == expected
    assert again.plot().to_dict() == first.plot().to_dict()
    # The other direction is another part; other settings are computed again.
    find_counterparts(path, ["one", "two"], settings=QUICK)
    find_counterparts(path, ["two", "one"], settings=replace(QUICK, seed=1))
    assert computed == [("one", "two"), ("two", "one")]
    assert {p.manifest.name for p in Folder.open(path).sound().of("graph_matching")} == {
        "one+two",
        "two+one",
    }


def test_settings_chosen_on_another_pair_are_stored(made):
    settings = replace(QUICK, chosen_on="one+two", depth=1)
    found = report.counterparts(made, "one", "two", settings=QUICK)
    tried = [
        {"what": "vectors", "standard": "z", "depth": 2, "mrr": 0.5},
        {"what": "walks", "walks": 2, "prior": 0.1, "mrr": 0.5},
    ]
    found |= {"chosen": {"on": list(settings.pair), "tried": tried}, "settings": settings.method}
    assert report_of(tables_of(found).__getitem__) == found


# Bad input


def test_bad_input(made, small):
    with pytest.raises(BadInput, match="named twice"):
        subject_of(made, "one", "one")
    with pytest.raises(UnknownName):
        subject_of(made, "one", "three")
    with pytest.raises(BadInput, match="2 documents"):
        split(2, seed=0)
    with pytest.raises(BadInput, match="0 or more"):
        GraphMatchingSettings(seed=-1)
    done = CliRunner().invoke(command, ["one", "two", "--seed", "-1"])
    assert done.exit_code == 2
    with pytest.raises(BadInput, match="too few true counterparts"):
        subject_of(small, "one", "two", draws=3)
    same = GraphMatchingSettings(chosen_on="two+one")
    for search in (
        find_counterparts,
        lambda path, *a, **more: report.counterparts(made, *a[0], **more),
    ):
        with pytest.raises(BadInput, match="on another pair"):
            search(made.path, ["one", "two"], settings=same)
    with pytest.raises(BadInput, match="named twice"):
        find_counterparts(made.path, ["one", "one"])
    with pytest.raises(BadInput, match="between two SAEs"):
        find_counterparts(made.path, ["one"])
    with pytest.raises(UnknownName):
        find_counterparts(made.path, ["one", "three"])
    with pytest.raises(UnknownName):
        find_counterparts(
            made.path, ["one", "two"], settings=GraphMatchingSettings(chosen_on="one+x")
        )
    for wrong in (
        {"depth": -1},
        {"walks": 0},
        {"rounds": -1},
        {"doubt": 0.0},
        {"prior": -0.1},
        {"anchors": (0.1, 1.0)},
        {"chosen_on": "one"},
    ):
        with pytest.raises(BadInput, match="expected"):
            GraphMatchingSettings(**wrong)
    for share in ("1", "a", "-1"):
        done = CliRunner().invoke(command, ["one", "two", "--anchor", share])
        assert done.exit_code == 2
        assert "--anchor" in done.output


def test_graphs_of_another_rule_are_refused_and_the_larger_min_count_is_used(made, monkeypatch):
    import analysis.graph_matching.subject as subject

    rules = {"one": Rule(4, 2), "two": Rule(4, 3)}
    monkeypatch.setattr(subject, "rule_of", lambda _, name: rules[name])
    assert shared_min_count(made, "one", "two") == 3
    assert shared_min_count(made, "one", "two", at_least=7) == 7
    rules["two"] = Rule(8, 1)
    with pytest.raises(Mismatch, match="4 most active features"):
        subject_of(made, "one", "two")


def test_codes_are_needed(planted_saes, tmp_path):
    from shutil import rmtree

    planted_saes.write(tmp_path / "p.atlas").close()
    folder = Folder.open(tmp_path / "p.atlas")
    rmtree(folder.codes("two"))
    with pytest.raises(Missing, match="--keep-codes"):
        subject_of(folder, "one", "two")


def test_a_brief_match_has_the_same_matches_and_first_two_nulls(made):
    """The truth needs neither the null within documents nor the cosines."""
    how = {"documents": np.arange(180), "settings": MatchSettings(draws=3)}
    full = match_documents(made, "one", "two", **how)
    brief = match_documents(made, "one", "two", brief=True, **how)
    omitted = {n for n in full.column_names if n.startswith("token_document_")}
    omitted |= {"decoder_cosine", "encoder_cosine"}
    assert brief.drop(list(omitted)).equals(full.drop(list(omitted)))
    assert all(brief[name].null_count == len(brief) for name in omitted)
    assert full["token_document_q"].null_count < len(full)


def test_without_draws_there_is_no_truth(made):
    table = match_documents(
        made, "one", "two", documents=np.arange(180), settings=MatchSettings(draws=0)
    )
    assert pc.all(pc.is_null(table["q"])).as_py()
    with pytest.raises(BadInput, match="clear both nulls"):
        truth_of(made, "one", "two", documents=np.arange(180), settings=MatchSettings(draws=0))
