"""Communities, their stability and names, partners conditional on frequency, and the part that stores them."""

import itertools
import json
import shutil
from collections import Counter
from dataclasses import asdict, replace

import click
import igraph
import networkx as nx
import numpy as np
import pytest
from click.testing import CliRunner
from random_codes import random_blocks
from recording_progress import RecordingProgress
from scipy import stats
from small_ingest import model, named, run, texts, topk

import queries
from analysis.communities import detection as c
from analysis.communities.commands import _show, plot_communities
from analysis.communities.commands import communities as command
from analysis.communities.leiden import partition
from analysis.communities.modularity_null import modularity_null
from analysis.communities.partner_diversity import (
    PartnerCounts,
    conclusion_of,
    diversity_test,
    null_diversity,
    partner_diversity,
    partners_among,
)
from analysis.communities.settings import CommunitySettings
from analysis.communities.stability import Stability, stability
from analysis.communities.study import graph_features, verdict_of
from analysis.graph.coactivation_graph import (
    CoactivationGraph,
    graph_of_documents,
    graph_of_membership,
)
from analysis.graph.igraph_conversion import as_igraph
from analysis.statistics.document_splits import split
from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Missing, UnknownName
from atlas.progress import SILENT
from ingest.codes.store import read_shard
from ingest.codes.topk_membership import Membership, edges, open_membership, read_membership
from ingest.settings import Settings

A_BIN = dict.fromkeys(
    ("active_from", "active_to", "among", "among_by_chance", "among_within_documents"), 1
)
FEW = CommunitySettings(runs=2, splits=2, draws=2)


def ends(graph):
    return np.array(graph.edges(), dtype=np.int64).reshape(-1, 2)


def blocks_graph(sizes, inside, between, seed):
    p = [[inside if i == j else between for j in range(len(sizes))] for i in range(len(sizes))]
    return nx.stochastic_block_model(sizes, p, seed=seed)


def blocks_membership(rng, *, blocks, features, tokens, mixed, documents=40):
    """Return tokens with four features each: of one block, or, with probability ``mixed``, of any."""
    block = rng.integers(blocks, size=tokens)
    rows = []
    for b in block:
        of = np.arange(features) if rng.random() < mixed else np.arange(features)[b::blocks]
        rows.append(np.sort(rng.choice(of, 4, replace=False)))
    found = np.concatenate(rows).astype(np.int32)
    return Membership(
        np.arange(tokens + 1) * 4,
        found,
        np.sort(rng.integers(documents, size=tokens)),
        np.bincount(found, minlength=features),
    )


def half_agreement(m, documents):
    labels = []
    for half in documents:
        selected = np.isin(m.document, half)
        some = Membership(
            np.arange(selected.sum() + 1) * 4,
            m.features[np.repeat(selected, 4)],
            m.document[selected],
            m.active,
        )
        pairs, count = edges(some)
        labels.append(partition(igraph.Graph(n=m.d_sae, edges=pairs), weights=count).labels)
    return c.agreement(*labels), labels


# Communities


def test_leiden_recovers_planted_blocks():
    sizes = (40, 30, 20)
    truth = np.repeat(np.arange(3), sizes)
    found = partition(blocks_graph(sizes, 0.4, 0.02, 0))
    assert c.agreement(found.labels, truth) > 0.95
    assert (c.best_overlap(found.labels, truth) > 0.9).all()
    # Without blocks, Leiden finds communities too, and they are unrelated to the truth.
    nothing = partition(blocks_graph(sizes, 0.15, 0.15, 0))
    assert len(nothing) > 1
    assert abs(c.agreement(nothing.labels, truth)) < 0.1


def test_planted_blocks_are_stable_over_halves_and_random_ones_are_not():
    rng = np.random.default_rng(0)
    halves = split(np.arange(40), 2, seed=0)
    made = blocks_membership(rng, blocks=4, features=80, tokens=3000, mixed=0.2)
    found, labels = half_agreement(made, halves)
    assert found > 0.95
    truth = np.arange(80) % 4
    assert c.agreement(labels[0], truth) > 0.95
    without, labels = half_agreement(
        blocks_membership(rng, blocks=4, features=80, tokens=3000, mixed=1.0), halves
    )
    null = [c.agreement(c.permuted(labels[0], rng), labels[1]) for _ in range(50)]
    assert min(null) <= without <= max(null)
    assert abs(np.mean(null)) < 0.02


def heavy(rng, edges):
    """Draw weights with a heavy tail, as those of frequent pairs."""
    return np.exp(rng.normal(0, 1.5, edges))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_modularity_of_random_graphs_is_that_of_networkx(weighted):
    rng = np.random.default_rng(3)
    graph = nx.gnm_random_graph(60, 300, seed=3)
    weights = heavy(rng, 300) if weighted else np.ones(300)
    values = []
    for seed in range(20):
        other = nx.double_edge_swap(graph.copy(), nswap=1500, max_tries=10**6, seed=seed)
        drawn = rng.permutation(weights).tolist()
        nx.set_edge_attributes(other, dict(zip(other.edges, drawn, strict=True)), "weight")
        values.append(
            max(
                nx.community.modularity(other, nx.community.louvain_communities(other, seed=i))
                for i in range(5)
            )
        )
    found = modularity_null(as_igraph(graph), weights, 0.0, draws=20, seed=1)
    assert found.draws == 20
    error = np.hypot(np.std(values, ddof=1), found.sd) / np.sqrt(20)
    # Two methods for the best partition; each finds a maximum that is at most a little lower.
    assert found.mean == pytest.approx(np.mean(values), abs=4 * error + 0.005)
    assert found.low <= found.mean <= found.high


def test_random_graphs_have_the_degrees_and_weights_of_the_graph(monkeypatch):
    from analysis.communities import modularity_null as module

    rng = np.random.default_rng(5)
    graph = as_igraph(blocks_graph([20, 15, 5], 0.5, 0.05, 1))
    weights = heavy(rng, graph.ecount())
    values = []

    def recorded(drawn, *, weights, seed):
        found = partition(drawn, weights=weights, seed=seed)
        assert drawn.degree() == graph.degree()
        assert drawn.is_simple()
        assert sorted(weights) == sorted(given)
        other = nx.Graph()
        other.add_weighted_edges_from(
            (*ends, weight) for ends, weight in zip(drawn.get_edgelist(), weights, strict=True)
        )
        groups = [set(np.flatnonzero(found.labels == n).tolist()) for n in range(len(found))]
        values.append(nx.community.modularity(other, groups))
        return found

    given = weights.tolist()
    monkeypatch.setattr(module, "partition", recorded)
    found = modularity_null(graph, weights, 0.9, draws=7, seed=2)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert len(set(values)) == 7


def test_modularity_is_above_the_null_for_planted_blocks_only():
    blocks = as_igraph(blocks_graph([25, 25, 25], 0.5, 0.05, 7))
    even = np.ones(blocks.ecount())
    planted = modularity_null(blocks, even, partition(blocks).modularity, draws=19)
    assert planted.where == "above"
    assert planted.z > 5
    inside = 0
    for seed in range(10):
        random = igraph.Graph.Adjacency(
            np.triu(np.random.default_rng(seed).random((60, 60)) < 0.2, 1)
        )
        random.to_undirected()
        weights = heavy(np.random.default_rng(seed), random.ecount())
        own = partition(random, weights=weights).modularity
        inside += modularity_null(random, weights, own, draws=19, seed=seed).where == "within"
    assert inside >= 7  # 9 of 10 under the null, on average


def test_the_modularity_null_of_degenerate_graphs():
    none = modularity_null(igraph.Graph(4), np.ones(0), None)
    assert (none.draws, none.mean, none.where) == (0, None, None)
    # No other graph has these degrees, and the complete graph is one community.
    for graph in (igraph.Graph.Full(6), igraph.Graph.Star(6), igraph.Graph(n=3, edges=[(0, 1)])):
        own = partition(graph).modularity
        found = modularity_null(graph, np.ones(graph.ecount()), own, draws=3)
        assert found.where == "equal"
        assert found.mean == pytest.approx(own)
    assert partition(igraph.Graph.Full(6)).modularity == pytest.approx(0)


def test_shapes_equal_networkx():
    for seed in range(3):
        graph = blocks_graph((15, 10, 5), 0.5, 0.1, seed)
        graph.add_nodes_from([30, 31])  # without an edge
        w = np.random.default_rng(seed).uniform(0.1, 2, graph.number_of_edges())
        for (a, b), value in zip(graph.edges(), w, strict=True):
            graph[a][b]["weight"] = value
        labels = partition(graph, weights=w).labels
        assert (labels[30:] == -1).all()
        found = c.shape(labels, ends(graph), w)
        degree, share = c.inner_edges(labels, ends(graph), w)
        for i in range(len(found.size)):
            own = set(np.flatnonzero(labels == i).tolist())
            within = graph.subgraph(own)
            assert found.size[i] == len(own)
            assert found.edges[i] == within.number_of_edges()
            weight = within.size(weight="weight")
            assert found.inner_share[i] == pytest.approx(
                2 * weight / nx.volume(graph, own, weight="weight")
            )
            assert found.conductance[i] == pytest.approx(
                nx.conductance(graph, own, weight="weight")
            )
            for node in own:
                assert degree[node] == within.degree(node)
                assert share[node] == pytest.approx(
                    within.degree(node, weight="weight") / graph.degree(node, weight="weight")
                )
        assert np.isnan(share[30:]).all()


def test_shapes_of_nearly_empty_graphs():
    none = np.zeros((0, 2), dtype=np.int64)
    empty = c.shape(np.full(3, -1), none, np.zeros(0))
    assert all(len(value) == 0 for value in vars(empty).values())
    degree, share = c.inner_edges(np.full(3, -1), none, np.zeros(0))
    assert degree.tolist() == [0, 0, 0]
    assert np.isnan(share).all()
    one = c.shape(np.array([0, 0, -1]), np.array([[0, 1]]), np.ones(1))
    assert (one.size.tolist(), one.inner_share.tolist()) == ([2], [1.0])
    assert np.isnan(one.conductance).all()
    two = c.shape(np.array([0, 0, 1, 1]), np.array([[0, 1], [2, 3]]), np.ones(2))
    assert two.conductance.tolist() == [0.0, 0.0]


def test_agreement_and_overlap_by_hand():
    a = np.array([0, 0, 0, 1, 1, -1, 2])
    assert c.agreement(a, a) == pytest.approx(1)
    b = np.array([1, 1, 0, 0, 0, 0, -1])
    assert c.best_overlap(a, b)[:2] == pytest.approx([2 / 3, 2 / 3])
    assert np.isnan(c.best_overlap(a, b)[2])
    assert c.mean_overlap(a, [a, b])[:2] == pytest.approx([(1 + 2 / 3) / 2] * 2)
    assert c.mean_overlap(a, [a, b])[2] == 1
    assert c.agreement(np.zeros(3, int), np.zeros(3, int)) is None
    assert c.agreement(np.full(3, -1), np.arange(3)) is None
    assert c.agreement(np.zeros(4, int), np.arange(4) // 2) is None
    rng = np.random.default_rng(0)
    drawn = c.permuted(a, rng)
    assert sorted(drawn) == sorted(a)
    assert (drawn < 0).tolist() == (a < 0).tolist()


def test_edge_weights():
    graph = CoactivationGraph(
        pairs=np.array([[0, 1], [1, 2]]),
        count=np.array([1, 4]),
        active=np.array([5, 6, 7]),
        tokens=9,
        weight=np.array([0.5, 0.25]),
    )
    wanted = {
        "total": [0.5, 1.0],
        "weight": [0.5, 0.25],
        "count": [1.0, 4.0],
        "none": [1.0, 1.0],
    }
    assert {by: graph.edge_weights(by).tolist() for by in wanted} == wanted
    assert graph.weighted("total").weight.tolist() == wanted["total"]
    assert graph.weighted("none").weight is None
    without = replace(graph, weight=None)
    assert without.edge_weights("weight").tolist() == [1.0, 1.0]
    assert without.edge_weights("total").tolist() == [1.0, 4.0]


def test_halves_share_no_document():
    documents = np.array([3, 5, 8, 9, 11])
    splits = [split(documents, 2, seed=1, repeat=i) for i in range(8)]
    for one, two in splits:
        assert sorted([*one, *two]) == documents.tolist()
        assert (len(one), len(two)) == (3, 2)
        assert (np.diff(one) > 0).all()
        assert (np.diff(two) > 0).all()
    assert len({tuple(one) for one, _ in splits}) > 1
    again = [split(documents, 2, seed=1, repeat=i) for i in range(8)]
    assert [a.tolist() for a, _ in again] == [a.tolist() for a, _ in splits]


# Names


def test_planted_tokens_name_their_community():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, -1], [60, 40, 5])
    rows = []
    for feature, label in enumerate(labels):
        for token in range(20):  # common to all
            rows.append((feature, token, 0.03 + 0.01 * rng.random()))
        for token in {0: (30, 31), 1: (40,), -1: (50,)}[int(label)]:
            rows.append((feature, token, 0.15))
    feature, token, share = (np.array(column) for column in zip(*rows, strict=True))
    named = c.distinguishing_tokens(labels, feature, token, share=share)
    assert [sorted(names[:2]) for names in named[:1]] == [[30, 31]]
    assert named[1][0] == 40
    assert all(50 not in names for names in named)
    assert all(len(names) <= 3 for names in named)  # common tokens name none
    assert c.distinguishing_tokens(labels, feature, token, share=share, most=1) == [
        named[0][:1],
        [40],
    ]


def test_no_characteristic_tokens():
    none = np.zeros(0, dtype=np.int64)
    assert c.distinguishing_tokens(np.full(3, -1), none, none, share=np.zeros(0)) == []
    assert c.distinguishing_tokens(np.array([0, 0, 1]), none, none, share=np.zeros(0)) == [[], []]
    one = c.distinguishing_tokens(np.array([0, 1]), np.array([0]), np.array([0]), share=np.ones(1))
    assert one == [[], []]  # a token that every feature has distinguishes none


def test_log_odds_equal_the_paper():
    own, others, prior = (
        np.array([3.0, 1.0, 0.0]),
        np.array([2.0, 4.0, 0.0]),
        np.array([0.5, 0.5, 0.0]),
    )
    found = c._log_odds(own, others, prior)
    for w in (0, 1):
        a0, n1, n2 = prior.sum(), own.sum(), others.sum()
        one = np.log((own[w] + prior[w]) / (n1 + a0 - own[w] - prior[w]))
        two = np.log((others[w] + prior[w]) / (n2 + a0 - others[w] - prior[w]))
        variance = 1 / (own[w] + prior[w]) + 1 / (others[w] + prior[w])
        assert found[w] == pytest.approx((one - two) / np.sqrt(variance))
    assert found[2] == 0


# Partners conditional on frequency


def test_partner_diversity_equals_the_entropy_of_scipy():
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [4, 5]])
    count = np.array([5, 1, 2, 4, 3])
    found = partner_diversity(pairs, count, nodes=7)
    met = {0: [5, 1, 2], 1: [5, 4], 2: [1, 4]}
    for feature, times in met.items():
        assert found[feature] == pytest.approx(stats.entropy(times) / np.log(len(times)))
    assert np.isnan(found[3:]).all()
    none = np.zeros((0, 2), dtype=np.int64)
    assert np.isnan(partner_diversity(none, np.zeros(0, np.int64), nodes=3)).all()


def test_partners_among_meetings_are_the_mean_over_all_ways_to_draw_them():
    pairs, count = np.array([[0, 1], [0, 2], [0, 3], [2, 3]]), np.array([3, 2, 1, 2])
    for meetings in (1, 2, 4):
        found = partners_among(pairs, count, nodes=5, meetings=meetings)
        for feature in range(5):
            met = [
                (set(p) - {feature}).pop()
                for p, n in zip(pairs.tolist(), count, strict=True)
                if feature in p
                for _ in range(n)
            ]
            ways = [len(set(way)) for way in itertools.combinations(met, meetings)]
            if ways:
                assert found[feature] == pytest.approx(np.mean(ways))
            else:
                assert np.isnan(found[feature])


def narrow_or_broad(rng, *, rare_broad, tokens=6000, features=120):
    """Return tokens where rare features co-occur with all others or with one group, and frequent ones the reverse."""
    weight = np.linspace(1, 8, features)
    rows = []
    for _ in range(tokens):
        first = rng.choice(features, p=weight / weight.sum())
        broad = (first < features // 2) == rare_broad
        of = np.arange(features) if broad else np.arange(first % 15, features, 15)
        p = weight[of] * (of != first)
        rows.append(np.sort([first, *rng.choice(of, 3, replace=False, p=p / p.sum())]))
    found = np.concatenate(rows).astype(np.int32)
    return Membership(
        np.arange(tokens + 1) * 4,
        found,
        np.zeros(tokens, np.int64),
        np.bincount(found, minlength=features),
    )


def diversity_of(m):
    pairs, count = edges(m)
    return diversity_test(
        m.active,
        np.bincount(pairs.ravel(), minlength=m.d_sae),
        partners_among(pairs, count, nodes=m.d_sae),
        null=null_diversity(m, draws=3),
        within=null_diversity(m, draws=3, within_documents=True),
        seed=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("rare_broad", [True, False])
def test_planted_diversity_is_detected(rare_broad):
    found = diversity_of(narrow_or_broad(np.random.default_rng(0), rare_broad=rare_broad))
    assert found.conclusion.startswith("Rare" if rare_broad else "Frequent")
    assert "guess" not in found.conclusion
    assert (found.rho < 0) == rare_broad
    assert found.low < found.rho < found.high
    assert abs(found.null_low) < 0.3
    assert found.features + found.left_out == 120
    assert sum(row["features"] for row in found.bins) == found.features
    assert [row["group"] for row in found.bins] == [f"bin {i} of 5" for i in range(1, 6)]
    first, last = found.bins[0], found.bins[-1]
    assert first["active_to"] < last["active_from"]
    assert (first["among"] > last["among"]) == rare_broad
    above, below = found.off_line
    assert above["features"] == below["features"] == found.features // 5
    assert above["among"] > below["among"]


def test_independent_features_are_undecided():
    rng = np.random.default_rng(1)
    blocks = random_blocks(rng, [[300] * 10], d_sae=60, l0=6.0)
    assert diversity_of(read_membership(blocks, d_sae=60, k=4)).conclusion.startswith(
        "It is undecided"
    )


def in_bursts(rng, *, features=120, documents=60, tokens=120):
    """Return independent features that are in few documents if rare and in many if frequent."""
    chance = np.linspace(0.03, 0.25, features)
    rows, document = [], []
    for number in range(documents):
        here = np.flatnonzero(rng.random(features) < chance)
        for _ in range(tokens):
            rows.append(np.sort(rng.choice(here, 4, replace=False)))
            document.append(number)
    found = np.concatenate(rows).astype(np.int32)
    return Membership(
        np.arange(len(rows) + 1) * 4,
        found,
        np.array(document),
        np.bincount(found, minlength=features),
    )


def test_bursty_features_are_undecided():
    found = diversity_of(in_bursts(np.random.default_rng(2)))
    assert found.low > max(0.0, found.null_high)  # the bipartite null alone would show an increase
    assert found.documents_low > 0.5
    assert "rare ones: the interval" in found.conclusion


def test_meetings_include_pairs_below_min_count():
    m = in_bursts(np.random.default_rng(3), documents=20, tokens=30)
    one, more = (null_diversity(m, min_count=n, draws=2) for n in (1, 6))
    np.testing.assert_array_equal(one.among, more.among)
    assert (more.degree < one.degree).any()


def test_conclusion_reports_an_interval_below_the_null():
    conclusion = conclusion_of((0.1, 0.05, 0.15), (0.4, 0.5), (0.3, 0.4), bins=[A_BIN, A_BIN])
    assert "undecided whether frequent" in conclusion
    assert "the interval lies below both nulls but not below 0" in conclusion
    conclusion = conclusion_of((0.1, -0.05, 0.15), (-0.1, 0.1), (-0.1, 0.1), bins=[A_BIN, A_BIN])
    assert "the interval overlaps the range of the nulls" in conclusion


def test_a_conclusion_has_the_medians_in_the_order_of_its_words():
    rare = {"active_from": 10, "active_to": 2000, "among": 30.2, "among_by_chance": 84.1}
    frequent = {"active_from": 3000, "active_to": 4000, "among": 45.4, "among_by_chance": 85.2}
    bins = [rare | {"among_within_documents": 83.0}, frequent | {"among_within_documents": 82.0}]
    higher = conclusion_of((0.4, 0.3, 0.5), (-0.1, 0.1), (-0.2, 0.1), bins=bins)
    assert higher.startswith(
        "Frequent features have more different partners in 100 meetings than rare ones, by more than under "
        "both nulls: medians are 45 and 30 (bipartite null 85 and 84, within documents 82 and 83). "
    )
    assert higher.endswith(
        "Medians are of features active on 10 to 2,000 tokens (rare) and on 3,000 to 4,000 (frequent)."
    )
    lower = conclusion_of((-0.4, -0.5, -0.3), (-0.1, 0.1), (-0.2, 0.1), bins=bins)
    assert (
        "nulls: medians are 30 and 45 (bipartite null 84 and 85, within documents 83 and 82)."
        in lower
    )


def test_partners_of_few_features_or_none():
    null = PartnerCounts(np.zeros((2, 3), np.int64), np.full((2, 3), np.nan))
    found = diversity_test(
        np.array([4, 0, 1]), np.zeros(3, np.int64), np.full(3, np.nan), null=null, within=null
    )
    assert (found.features, found.left_out, found.rho, found.bins) == (0, 2, None, [])
    assert found.off_line == []
    assert found.conclusion.startswith("Too few features")


# Codes of some documents


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("communities") / "a.atlas"
    run(path, model(), [named(topk(k=8), "top"), named(topk(k=8, seed=1), "two")], texts(30))
    return path


@pytest.fixture
def path(made, tmp_path):
    copied = tmp_path / "a.atlas"
    shutil.copytree(made, copied)
    return copied


def test_membership_of_some_documents_equals_their_rows(made):
    folder = Folder.open(made)
    complete = open_membership(folder, "top")
    some = np.unique(complete.document)[::3]
    m = open_membership(folder, "top", documents=some)
    selected = np.isin(complete.document, some)
    assert m.document.tolist() == complete.document[selected].tolist()
    rows = [complete.features[a:b].tolist() for a, b in itertools.pairwise(complete.indptr)]
    wanted = [row for row, retained in zip(rows, selected, strict=True) if retained]
    assert [m.features[a:b].tolist() for a, b in itertools.pairwise(m.indptr)] == wanted
    active = Counter()
    for shard in sorted(folder.codes("top").glob("*.arrow")):
        for block in read_shard(shard):
            of = np.isin(block.tokens.document[block.rows], some)
            active.update(block.indices[of].tolist())
    assert m.active.tolist() == [active[i] for i in range(40)]
    assert len(open_membership(folder, "top", documents=some, tokens=5)) == 5
    assert len(open_membership(folder, "top", documents=np.array([10**9]))) == 0
    with pytest.raises(BadInput, match="request fewer"):
        open_membership(folder, "top", documents=some, tokens=len(complete))


def test_weights_of_all_documents_equal_those_of_the_atlas(made):
    with Atlas.open(made) as atlas:
        table = atlas.table("CO_ACTIVATES", sae="top")
    found = graph_of_documents(Folder.open(made), "top")
    wanted = {
        (e["source"], e["target"]): (e["count"], pytest.approx(e["weight"], rel=1e-12))
        for e in table.to_pylist()
    }
    values = zip(found.count.tolist(), found.weight.tolist(), strict=True)
    ids = [(f"top/{i}", f"top/{j}") for i, j in found.pairs.tolist()]
    assert dict(zip(ids, values, strict=True)) == wanted


def test_weights_of_some_documents_by_brute_force(made):
    folder = Folder.open(made)
    some = np.unique(open_membership(folder, "top").document)[1::2]
    found = graph_of_documents(folder, "top", documents=some)
    count, total = Counter(), Counter()
    for shard in sorted(folder.codes("top").glob("*.arrow")):
        for block in read_shard(shard):
            z = np.zeros((len(block), 40))
            z[block.rows, block.indices] = block.values
            z = z[np.isin(block.tokens.document, some)]
            norm = np.sqrt((z**2).sum(axis=0))
            n = Counter()
            for row in z:
                best = sorted(np.flatnonzero(row), key=lambda i: (-row[i], i))[:4]
                n.update(itertools.combinations(sorted(int(i) for i in best), 2))
            for (i, j), times in n.items():
                total[i, j] += times * (z[:, i] @ z[:, j]) / (norm[i] * norm[j])
            count.update(n)
    assert [tuple(p) for p in found.pairs.tolist()] == sorted(count)
    assert found.count.tolist() == [count[p] for p in sorted(count)]
    subset = open_membership(folder, "top", documents=some)
    assert found.active.tolist() == subset.active.tolist()
    assert found.tokens == len(subset)
    np.testing.assert_allclose(found.weight, [total[p] / count[p] for p in sorted(count)])


def test_stability_has_its_nulls(made):
    folder = Folder.open(made)
    m = open_membership(folder, "top")
    pairs, count = edges(m)
    labels = partition(igraph.Graph(n=40, edges=pairs), weights=count.astype(float)).labels
    graph = CoactivationGraph(
        pairs=pairs, count=count, active=m.active, tokens=len(m), sae="top", membership=m
    )
    settings = replace(FEW, weight="count")
    found = stability(labels, graph, settings=settings, folder=folder)
    assert len(found.runs) == len(found.halves) == len(found.null) == labels.max() + 1
    assert ((found.runs > 0) & (found.runs <= 1)).all()
    assert len(found.ami_runs) == len(found.ami_halves) == 2
    halved = []
    for half in split(np.unique(m.document), 2, seed=0):
        some, times = edges(open_membership(folder, "top", documents=half))
        halved.append(partition(igraph.Graph(n=40, edges=some), weights=times).labels)
    assert found.ami_halves[0] == pytest.approx(c.agreement(*halved))
    recorded = found.summary()
    assert recorded["ami_halves_low"] <= recorded["ami_halves"] <= recorded["ami_halves_high"]
    without = stability(labels, replace(graph, membership=None), settings=settings, folder=folder)
    assert without.halves is without.null is without.null_high is None
    assert without.summary()["ami_halves"] is None


def of_table(m, monkeypatch, *, progress=SILENT):
    """Return the stability of a membership without an atlas; the cosines of its edges count as 1."""

    def of_documents(folder, sae, *, documents, min_count):
        selected = np.isin(m.document, documents)
        sizes = np.diff(m.indptr)
        some = Membership(
            np.append(0, np.cumsum(sizes[selected])),
            m.features[np.repeat(selected, sizes)],
            m.document[selected],
            m.active,
        )
        return graph_of_membership(some)

    monkeypatch.setattr("analysis.communities.stability.graph_of_documents", of_documents)
    graph = replace(graph_of_membership(m), sae="x", membership=m)
    labels = partition(graph.graph, weights=graph.count).labels
    return stability(
        labels,
        graph,
        settings=replace(FEW, weight="count", splits=4),
        folder=None,
        progress=progress,
    )


def test_random_communities_are_as_stable_as_the_null(monkeypatch):
    rng = np.random.default_rng(4)
    shape = {"blocks": 4, "features": 80, "tokens": 3000}
    nothing = of_table(blocks_membership(rng, **shape, mixed=1.0), monkeypatch)
    assert np.mean(nothing.halves) > 0.15  # halves are subsets of all documents
    assert np.mean(nothing.halves) == pytest.approx(np.mean(nothing.null), abs=0.04)
    blocks = of_table(blocks_membership(rng, **shape, mixed=0.2), monkeypatch)
    assert blocks.halves.min() > 0.9
    assert blocks.null.max() < 0.5
    # Planted communities exceed every null graph; most of those of a random table do not.
    assert (blocks.halves > blocks.null_high).all()
    assert np.mean(nothing.halves > nothing.null_high) < 0.5
    for found in (nothing, blocks):
        assert (found.null_high >= found.null).all()


@pytest.mark.parametrize("documents", [1, 9])
def test_few_documents_have_no_halves(monkeypatch, documents):
    rng = np.random.default_rng(5)
    recorded = RecordingProgress()
    m = blocks_membership(rng, blocks=2, features=20, tokens=400, mixed=0.2, documents=documents)
    found = of_table(m, monkeypatch, progress=recorded)
    assert found.halves is found.null is None
    row = found.summary()
    assert row["ami_halves"] is row["ami_null"] is row["ami_documents"] is None
    assert row["ami_runs"] is not None
    assert row["halves_note"] == recorded.messages[0]
    assert f"has {documents}." in recorded.messages[0]


def test_summary_counts_undefined_agreements():
    recorded = Stability(
        np.ones(1), None, None, None, [0.5, None, 0.75], [None], [], [], []
    ).summary()
    assert (recorded["ami_runs"], recorded["ami_runs_counted"], recorded["ami_runs_of"]) == (
        0.625,
        2,
        3,
    )
    assert (recorded["ami_halves"], recorded["ami_halves_counted"], recorded["ami_halves_of"]) == (
        None,
        0,
        1,
    )


# The part


def ask(path, name, **parameters):
    query = queries.get(name)
    with Atlas.open(path) as atlas:
        return atlas.query(query.cypher, query.fill(parameters)).to_pylist()


@pytest.mark.slow
def test_queries_read_stored_communities(path):
    recorded = RecordingProgress()
    rows = graph_features(path, "all", settings=FEW, progress=recorded)
    assert [row["sae"] for row in rows] == ["top", "two"]
    with Atlas.open(path) as atlas:
        features = atlas.features("top").to_pylist()
        table = atlas.table("CO_ACTIVATES", sae="top").to_pylist()
        graph = atlas.graph("top")
    degree = Counter(int(e[end].split("/")[1]) for e in table for end in ("source", "target"))
    assert [f["degree"] for f in features] == [degree[i] for i in range(40)]
    weights = [e["count"] * e["weight"] for e in table]
    labels = partition(graph, weights=weights).labels
    assert [-1 if f["community"] is None else f["community"] for f in features] == labels.tolist()
    assert sum(f["pagerank"] for f in features) == pytest.approx(1)
    assert all(f["partners_expected"] > 0 for f in features if f["degree"])
    found = ask(path, "communities_of_sae", sae="top", min_size=1)
    assert [r["size"] for r in found] == np.bincount(labels[labels >= 0]).tolist()
    assert sum(r["size"] for r in found) == rows[0]["linked"]
    assert all(0 < r["stability_halves"] <= 1 for r in found)
    assert [one["tokens"] for one in rows[0]["listed"]] == [r["tokens"] for r in found]
    inside = ask(path, "features_of_community", sae="top", community=0)
    assert {r["feature"] for r in inside} == {f"top/{i}" for i in np.flatnonzero(labels == 0)}
    assert ask(path, "hubs", sae="top", min_degree=1)[0]["ratio"] > 0
    assert rows[0]["partners_conclusion"]


def test_communities_are_recomputed_only_on_request(path):
    first = graph_features(path, ["top"], settings=FEW)
    part = path / "parts" / "graph" / "top" / "manifest.json"
    manifest = json.loads(part.read_text())
    assert manifest["settings"] == {**asdict(FEW), "codes": True}
    assert sorted(manifest["made_from"]) == [
        "coactivation/top",
        "sae/top",
        "statistics/top",
        "tokens/top",
    ]
    part.touch()
    before = part.stat().st_mtime_ns
    recorded = RecordingProgress()
    assert graph_features(path, ["top"], settings=FEW, progress=recorded) == first
    assert part.stat().st_mtime_ns == before
    assert "already stored" in recorded.messages[0]
    graph_features(path, ["top"], settings=FEW, replace=True)
    assert part.stat().st_mtime_ns != before
    assert json.loads(part.read_text())["hash"] == manifest["hash"]  # the same numbers
    other = graph_features(path, ["top"], settings=replace(FEW, weight="none", min_count=2))
    assert other[0]["edges"] < first[0]["edges"]
    # After the codes are removed, results computed from them remain.
    shutil.rmtree(path / "codes" / "top")
    again = graph_features(path, ["top"], settings=replace(FEW, weight="none", min_count=2))
    assert again == other


def test_reingested_sae_has_no_communities_until_requested(path):
    graph_features(path, "all", settings=FEW)
    run(path, model(), [named(topk(k=6), "top")], None, replace=True)
    with Atlas.open(path) as atlas:
        assert "graph/top" in atlas.folder.sound().stale
        assert atlas.table("Community", sae="top").num_rows == 0
        assert atlas.features("top")["degree"].null_count == 40
        assert atlas.table("Community", sae="two").num_rows > 0
    graph_features(path, ["top"], settings=FEW)
    with Atlas.open(path) as atlas:
        assert atlas.table("Community", sae="top").num_rows > 0


def test_without_codes(tmp_path):
    path = tmp_path / "b.atlas"
    run(path, model(), [named(topk(k=8), "top")], texts(20), settings=Settings(keep_codes=False))
    recorded = RecordingProgress()
    (row,) = graph_features(path, "all", settings=FEW, progress=recorded)
    assert any("codes of top are not stored" in message for message in recorded.messages)
    assert row["ami_runs"] is not None
    assert row["modularity_draws"] == FEW.draws  # the null needs no codes
    assert row["modularity_null_low"] <= row["modularity_null"] <= row["modularity_null_high"]
    assert row["ami_halves"] is row["ami_null"] is row["partners_rho"] is None
    assert row["partners_bins"] == []
    with Atlas.open(path) as atlas:
        assert atlas.features("top")["partners_expected"].null_count == 40
        assert atlas.features("top")["partner_diversity"].null_count < 40
        found = atlas.table("Community", sae="top")
    assert found["stability"].null_count == 0
    assert found["stability_halves"].null_count == found["stability_null"].null_count == len(found)
    shown = CliRunner().invoke(command, ["--atlas", str(path), "-q"])
    assert shown.exit_code == 0, shown.output
    assert "codes are not stored" in shown.output


def test_a_dead_sae_has_no_communities(tmp_path):
    path = tmp_path / "d.atlas"
    sae = topk(k=1)  # one feature on a token: no pairs
    run(path, model(), [named(sae, "top")], texts(6))
    (row,) = graph_features(path, "all", settings=FEW)
    assert (row["communities"], row["modularity"], row["edges"]) == (0, None, 0)
    assert (row["modularity_null"], row["modularity_draws"], row["modularity_is"]) == (
        None,
        0,
        None,
    )
    assert row["partners_conclusion"].startswith("Too few")
    assert ask(path, "communities_of_sae", sae="top") == []
    with Atlas.open(path) as atlas:
        assert atlas.features("top")["community"].null_count == 40
        assert set(atlas.features("top")["degree"].to_pylist()) == {0}
    drawn = CliRunner().invoke(plot_communities, ["top", "--atlas", str(path)])
    assert isinstance(drawn.exception, Missing)


def test_bad_input(path):
    with pytest.raises(UnknownName, match="tap"):
        graph_features(path, ["tap"])
    for wrong in ({"weight": "size"}, {"min_count": 0}, {"draws": 1}, {"seed": -1}):
        with pytest.raises(BadInput):
            CommunitySettings(**wrong)
    shutil.rmtree(path / "parts" / "coactivation" / "top")
    with pytest.raises(Missing, match="needs the coactivation of top"):
        graph_features(path, ["top"])
    recorded = RecordingProgress()
    assert [r["sae"] for r in graph_features(path, "all", settings=FEW, progress=recorded)] == [
        "two"
    ]
    assert recorded.messages[0].startswith("Skipped top: it has no coactivation")


def test_a_verdict_begins_with_whether_communities_recur():
    row = {"sae": "s", "communities": 2, "modularity": 0.5, "weight": "total", "ami_runs": 0.9}
    row |= {"modularity_null": 0.4, "modularity_null_low": 0.375, "modularity_null_high": 0.425}
    row |= {"modularity_draws": 5, "modularity_is": "above"}
    row |= {"ami_halves": 0.8, "ami_halves_low": 0.7, "ami_halves_counted": 3}
    row |= {"ami_null": 0.1, "ami_null_high": 0.2}
    row |= {"ami_documents": 0.3, "ami_documents_high": 0.4, "partners_conclusion": None}
    row["listed"] = [
        {"number": 0, "stability_halves": 1.0, "stability_null": 0.25, "stability_null_high": 0.5},
        {"number": 1, "stability_halves": 0.5, "stability_null": 0.25, "stability_null_high": 0.5},
        {
            "number": 2,
            "stability_halves": 0.75,
            "stability_null": 0.25,
            "stability_null_high": 0.25,
        },
        {"number": 3, "stability_halves": None, "stability_null": None},
    ]
    first, second, nulls, third = verdict_of(row)
    assert first == (
        "s: 2 communities, which recur: in each of 3 splits, halves of the documents agree more (AMI 0.800) "
        "than halves of null graphs (0.100; 0.300 within documents); 2 of 3 single communities exceed all null graphs, and not number 1."
    )
    assert nulls.startswith("The bipartite null preserves the number of tokens of each feature")
    partners = verdict_of(row | {"partners_conclusion": "Frequent features have more."})
    assert (
        partners[2] == "Frequent features have more."
    )  # an answer among the sentences of a screen
    one = verdict_of(row | {"ami_halves_counted": 1})
    assert "which recur: in the only split, halves" in one[0]
    none = verdict_of(row | {"listed": []})
    assert none[0].endswith("(0.100; 0.300 within documents).")
    older = [{**one, "stability_null_high": None} for one in row["listed"]]
    assert verdict_of(row | {"listed": older})[0] == none[0]
    many = [{**row["listed"][1], "number": n} for n in range(7)] + row["listed"][:1]
    assert (
        "; 1 of 8 single communities exceed all null graphs, and not numbers 0, 1, 2, 3, 4 and 2 more."
        in (verdict_of(row | {"listed": many})[0])
    )
    two = [{**row["listed"][1], "number": n} for n in (8, 9)] + row["listed"][:1]
    assert (
        "exceed all null graphs, and not numbers 8 and 9." in verdict_of(row | {"listed": two})[0]
    )
    assert second == (
        "Single communities have a mean Jaccard index of 0.75 with those of the halves, and of 0.25 with one "
        "of similar size in a bipartite null graph; the closest to this null, number 1, has 0.50 (0.25)."
    )
    assert third == (
        "Modularity is 0.500 with edges weighted by tokens times mean cosine, which counts frequent pairs "
        "more. It is higher than in all 5 random graphs of the same degrees, with the same weights in random "
        "order: mean 0.400 (range 0.375 to 0.425). `atlas graph-stats` compares modularity without "
        "weights, another number, with other nulls."
    )
    within = verdict_of(row | {"modularity_is": "within"})[3]
    assert "It is within the range of 5 random graphs" in within
    never = verdict_of(row | {"ami_documents_high": 0.75})[0]
    assert (
        "do not recur: in at least one of 3 splits, halves of the documents agree no more" in never
    )
    assert never.endswith(
        "(0.100; 0.300 within documents); 2 of 3 single communities exceed all null graphs, and not number 1."
    )
    alone = row | {"ami_halves": None, "ami_null": None, "listed": [], "weight": "none"}
    first, second = verdict_of(alone)
    assert first == (
        "s: 2 communities, not compared with null graphs. Those of other Leiden seeds agree with them "
        "at 0.900 (AMI)."
    )
    assert "of the same degrees: mean 0.400" in second
    assert "compares it with other nulls" in second


# The commands


def test_a_narrow_terminal_has_the_tokens_and_one_stability_with_its_control(
    path, monkeypatch, capsys
):
    results = graph_features(path, ["top"], settings=FEW)
    (row,) = results
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    words = [" upon", " dragon", " happy", " wanted", " friends", " little", " said", " named"]
    listed = [one | {"tokens": words, "edges": 123_456} for one in row["listed"]]
    _show([{**row, "listed": listed}], results)
    out = click.unstyle(capsys.readouterr().out)
    table = out.split("Largest communities of top")[1].splitlines()
    header = " ".join(table[1:3]).split()
    assert header.count("stability") >= 2
    assert {"number", "size", "tokens", "halves", "null"} <= {*header}
    assert " ".join(table[3].split()).startswith(f"0 {listed[0]['size']} ␣upon ␣dragon ␣happy")
    assert max(map(len, table)) <= 80


@pytest.mark.slow
def test_the_command_prints_communities_and_draws_the_map(path, tmp_path):
    options = ["top", "--atlas", str(path), "--runs", "2", "--splits", "2", "--draws", "2", "-q"]
    shown = CliRunner().invoke(command, options)
    assert shown.exit_code == 0, shown.output
    for expected in (
        "modularity",
        "halves of the documents",
        "Largest communities of top",
        "different partners",
    ):
        assert expected in shown.output
    number = len(graph_features(path, ["top"], settings=FEW)[0]["listed"])
    assert f"Largest communities of top: 1 of {number}, --top {number} lists all" in (
        CliRunner().invoke(command, [*options, "--top", "1"]).output
    )
    every = CliRunner().invoke(command, [*options, "--json", "--rows"])
    assert len(json.loads(every.output)["result"][0]["listed"]) == number
    as_json = CliRunner().invoke(command, [*options, "--json", "--top", "1"])
    (row,) = json.loads(as_json.output)["result"]
    assert row["communities"] >= len(row["listed"]) == 1
    assert row["listed"][0]["number"] == 0
    outs = [tmp_path / name for name in ("map.png", "map.svg", "map.html")]
    drawn = CliRunner().invoke(
        plot_communities,
        ["top", "--atlas", str(path), "-q", *(f"--out={out}" for out in outs)],
    )
    assert drawn.exit_code == 0, drawn.output
    assert all(out.stat().st_size > 1000 for out in outs)
    assert "Communities of top" in outs[1].read_text()
    none = CliRunner().invoke(plot_communities, ["two", "--atlas", str(path)])
    assert isinstance(none.exception, Missing)
    assert "atlas communities two" in str(none.exception)
