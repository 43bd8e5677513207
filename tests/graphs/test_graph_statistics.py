"""Statistics of graphs equal networkx's, the dip equals a linear program's, nulls preserve their counts."""

import itertools
import json
import math
import shutil
from dataclasses import replace

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from drawn_charts import axis_titles, check_chart, marks
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_progress import RecordingProgress
from scipy import stats
from scipy.optimize import linprog
from served_atlas import Served
from small_ingest import jumprelu, model, named, run, texts, topk

from analysis.graph import report
from analysis.graph.coactivation_graph import at_equal_tokens, read_graph
from analysis.graph.dip_test import dip, dip_test
from analysis.graph.distributions import correlate, modes
from analysis.graph.graph_statistics import describe
from analysis.graph.growth import growth
from analysis.graph.igraph_conversion import seeded
from analysis.graph.null_comparison import bipartite, compare, configuration, numbers_of
from analysis.graph.plots import draw_graphs
from analysis.graph.settings import GraphStatisticsSettings
from analysis.graph.study import all_rows, graph_statistics, verdict_of
from analysis.plot_style import finished, save
from atlas.api import Atlas
from atlas.assemble import graph_fingerprint
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing
from ingest.codes.topk_membership import Membership, edges
from ingest.settings import Settings

DEGENERATE = {
    "nothing": nx.empty_graph(0),
    "one node": nx.empty_graph(1),
    "no edges": nx.empty_graph(5),
    "one edge": nx.path_graph(2),
    "complete": nx.complete_graph(6),
    "star": nx.star_graph(5),
    "path": nx.path_graph(7),
    "two pieces": nx.disjoint_union(nx.complete_graph(4), nx.path_graph(3)),
    "isolates": nx.disjoint_union(nx.complete_graph(4), nx.empty_graph(6)),
    "two edges": nx.disjoint_union(nx.path_graph(2), nx.path_graph(2)),
}


def same_as_networkx(g):
    found = describe(g)
    sizes = sorted(map(len, nx.connected_components(g)))
    n = len(g)
    assert (found.nodes, found.edges) == (n, g.number_of_edges())
    assert found.density == pytest.approx(nx.density(g))
    assert found.components == len(sizes)
    assert found.isolates == nx.number_of_isolates(g)
    assert found.largest_component == max(sizes, default=0)
    assert found.component_sizes == {s: sizes.count(s) for s in sizes}
    assert found.transitivity == pytest.approx(nx.transitivity(g))
    cores = list(nx.core_number(g).values())
    assert found.k_core == max(cores, default=0)
    assert found.cores == {k: cores.count(k) for k in cores}
    if n:
        assert found.average_clustering == pytest.approx(nx.average_clustering(g))
        if g.number_of_edges():
            ratio = nx.average_clustering(g) / nx.density(g)
            assert found.clustering_over_density == pytest.approx(ratio)
        assert found.average_degree == pytest.approx(sum(d for _, d in g.degree) / n)
    with np.errstate(invalid="ignore"):
        r = nx.degree_assortativity_coefficient(g) if g.number_of_edges() else math.nan
    if len({d for _, d in g.degree if d}) > 1 and not math.isnan(r):
        assert found.assortativity == pytest.approx(r)
    else:
        assert found.assortativity is None
    if found.largest_component > 1:
        largest = [c for c in nx.connected_components(g) if len(c) == found.largest_component]
        lengths = [nx.average_shortest_path_length(g.subgraph(c)) for c in largest]
        assert any(found.path_length == pytest.approx(length) for length in lengths)
        assert found.path_sources == found.largest_component
    nones = {k for k, v in vars(found).items() if v is None} - {"path_length_error"}
    assert nones == set(found.notes)
    return found


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_graphs_equal_networkx(name):
    found = same_as_networkx(DEGENERATE[name])
    if found.edges:
        assert 0 <= found.modularity_unweighted < 1
    if name == "isolates":  # truth 5: features without an edge count as 0
        assert found.average_clustering == pytest.approx(4 / 10)


@given(st.integers(0, 2**32), st.integers(1, 30), st.floats(0, 0.6))
@settings(max_examples=40, deadline=None)
def test_random_graphs_equal_networkx(seed, n, p):
    same_as_networkx(nx.gnp_random_graph(n, p, seed=seed))


def test_leiden_finds_planted_blocks_and_its_modularity_equals_networkx():
    g = nx.planted_partition_graph(4, 20, 0.8, 0.02, seed=0)
    found = describe(g, seed=3)
    blocks = [set(range(at, at + 20)) for at in range(0, 80, 20)]
    assert found.communities == 4
    assert found.modularity_unweighted == pytest.approx(nx.community.modularity(g, blocks))
    assert describe(g, seed=3) == found


def test_graphs_of_both_libraries_with_any_names():
    g = nx.relabel_nodes(nx.path_graph(4), dict(enumerate("dabc")))
    assert describe(g) == describe(igraph.Graph(4, [(0, 1), (1, 2), (2, 3)]))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.DiGraph([(0, 1)]), "directed"),
        (igraph.Graph(2, [(0, 1), (1, 0)]), "multiple edges"),
        (nx.Graph([(0, 0)]), "loops"),
        ([[0, 1]], "list was passed"),
    ],
)
def test_graphs_that_cannot_be_used(graph, message):
    with pytest.raises(BadInput, match=message):
        describe(graph)


def test_sampled_path_length_is_near_exact_and_has_an_error():
    g = nx.disjoint_union(nx.connected_watts_strogatz_graph(300, 6, 0.1, seed=1), nx.path_graph(9))
    exact = describe(g)
    assert exact.path_length_error is None
    off = []
    for seed in range(40):
        found = describe(g, seed=seed, exact_steps=0, sources=30)
        assert (found.path_sources, found.largest_component) == (30, 300)
        off.append((found.path_length - exact.path_length) / found.path_length_error)
    assert abs(np.mean(off)) < 4 / math.sqrt(len(off))
    assert 0.6 < np.std(off) < 1.6
    assert describe(g, exact_steps=0, sources=300).path_length == exact.path_length


def test_seed_of_igraph_is_restored():
    import random

    with seeded(1):
        a = igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist()
    with seeded(1):
        assert igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist() == a
    random.seed(5)
    b = igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist()
    random.seed(5)
    assert igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist() == b


def brute_dip(x):
    """Return the dip by its definition: for a mode at each value, a linear program.

    Unknown are the distribution function at the values, twice at the mode, where it may
    jump, and its distance from that of the sample.
    """
    x = np.sort(x)
    n = len(x)
    best = []
    for k in range(n):
        at = np.insert(x, k, x[k])
        rows, limits = [], []

        def less(terms, limit, rows=rows, limits=limits):
            rows.append([dict(terms).get(v, 0.0) for v in range(n + 2)])
            limits.append(limit)

        for v in range(n + 1):
            i = v if v <= k else v - 1
            for f in [i / n] * (v != k + 1) + [(i + 1) / n] * (v != k):
                less([(v, 1), (n + 1, -1)], f)
                less([(v, -1), (n + 1, -1)], -f)
            if v < n:
                less([(v, 1), (v + 1, -1)], 0)
        for v in [*range(1, k), *range(k + 2, n)]:
            left, right = 1 / (at[v] - at[v - 1]), 1 / (at[v + 1] - at[v])
            sign = 1 if v < k else -1
            less([(v, sign * (left + right)), (v - 1, -sign * left), (v + 1, -sign * right)], 0)
        cost = [0.0] * (n + 1) + [1.0]
        best.append(linprog(cost, rows, limits, bounds=[(0, 1)] * (n + 1) + [(0, None)]).fun)
    return min(best)


@pytest.mark.parametrize("seed", range(24))
def test_dip_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 15))
    x = [rng.random(n), rng.normal(size=n) + 4 * (rng.random(n) < 0.5), rng.exponential(size=n)][
        seed % 3
    ]
    assert dip(x) == pytest.approx(brute_dip(x), abs=1e-9)


def test_dip_test_has_its_level_and_detects_two_modes():
    rng = np.random.default_rng(0)
    p = [dip_test(rng.random(60)).p for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert min(dip_test(rng.normal(size=500)).p for _ in range(20)) > 0.05
    two = np.concatenate([rng.normal(size=200), rng.normal(size=200) + 5])
    assert dip_test(two).p == 1 / 2000
    assert dip_test(np.concatenate([two + i * 1e-6 for i in range(9)])).p == 1 / 2000
    for bad in ([], [1.0, 1.0], [1.0, math.nan]):
        with pytest.raises(BadInput):
            dip(np.array(bad))


def test_modes_of_counts():
    rng = np.random.default_rng(1)
    one = rng.geometric(0.3, 2000)  # few repeated values have one mode
    found = modes(np.append(one, [0, 0]), log=False)
    assert (found.n, found.zeros) == (2000, 2)
    assert found.p > 0.05
    two = np.rint(np.exp(np.append(rng.normal(2, 0.3, 900), rng.normal(6, 0.3, 900)))).astype(int)
    assert modes(two, log=True).p < 0.01
    assert modes(np.array([0, 3, 4]), log=True).p is None


def test_degree_and_frequency():
    rng = np.random.default_rng(2)
    active = rng.integers(0, 6, 200)
    degree = np.where(active > 0, active + rng.integers(0, 5, 200), 0)
    found, live = correlate(degree, active), active > 0
    assert found.n == live.sum() < 200
    assert found.pearson == pytest.approx(stats.pearsonr(degree[live], active[live])[0])
    assert found.spearman == pytest.approx(stats.spearmanr(degree[live], active[live])[0])
    assert correlate(np.zeros(3, int), np.array([1, 2, 3])).pearson is None
    assert correlate(np.zeros(3, int), np.zeros(3, int)).n == 0


def blocks_of_features(*, tokens=400, groups=3, size=6, seed=0):
    """Return tokens that each have three features of one group, so the graph has ``groups`` cliques."""
    rng = np.random.default_rng(seed)
    rows = [
        sorted(rng.choice(size, 3, replace=False) + size * rng.integers(groups))
        for _ in range(tokens)
    ]
    features = np.array(rows, dtype=np.int32).ravel()
    return Membership(
        np.arange(0, 3 * tokens + 1, 3),
        features,
        np.arange(tokens) // 20,
        np.bincount(features, minlength=groups * size + 2),
    )


def test_nulls_preserve_their_counts_only():
    m = blocks_of_features(tokens=60)
    pairs, _ = edges(m)
    g = igraph.Graph(n=m.d_sae, edges=pairs)
    observed = numbers_of(g, m.active)
    assert observed["isolates"] == 2

    def measure(graph, seed):
        return numbers_of(graph, m.active, seed=seed)

    def drawn(draw):
        rows = compare(observed, draw, measure=measure, draws=5, seed=1)
        assert rows == compare(observed, draw, measure=measure, draws=5, seed=1)
        return {row.statistic: row for row in rows}

    free = drawn(bipartite(m, within_documents=False))
    assert free["modularity_unweighted"].where == "above"
    assert free["edges"].where == "below"
    assert free["isolates"].where == "equal"
    same = drawn(configuration(g))
    assert same["edges"].where == same["average_degree"].where == "equal"
    assert same["edges"].z is None
    assert same["degree_frequency_pearson"].where == "equal"
    assert same["transitivity"].where == "above"
    twice = [configuration(g)(seed).degree() for seed in (1, 2)]
    assert twice == [g.degree()] * 2


def test_comparison_with_draws_by_hand():
    values = iter([1.0, 2.0, 3.0, 6.0])
    (row,) = compare(
        {"edges": 7.0}, lambda seed: None, measure=lambda g, seed: {"edges": next(values)}, draws=4
    )
    assert (row.mean, row.sd) == (3.0, pytest.approx(math.sqrt(14 / 3)))
    assert row.z == pytest.approx(4 / math.sqrt(14 / 3))
    assert (row.low, row.high) == (1, 6)  # four draws have no 95% range
    assert row.where == "above"
    (row,) = compare({"x": None}, lambda seed: None, measure=lambda g, seed: {"x": None}, draws=2)
    assert (row.draws, row.mean, row.where) == (0, None, None)


def test_the_limits_of_39_draws_and_more_are_quantiles():
    def limits(draws):
        values = iter(np.arange(draws, dtype=float))
        (row,) = compare(
            {"edges": 0.0},
            lambda seed: None,
            measure=lambda g, seed: {"edges": next(values)},
            draws=draws,
        )
        return row.low, row.high

    assert limits(38) == (0, 37)
    assert limits(201) == (pytest.approx(5), pytest.approx(195))


def test_growth_equals_graphs_of_first_tokens():
    m = blocks_of_features(tokens=40)
    for point in growth(m, min_count=2):
        rows = m.features.reshape(-1, 3)[: point.tokens]
        g = nx.empty_graph(m.d_sae)
        met = [p for row in rows.tolist() for p in itertools.combinations(row, 2)]
        g.add_edges_from(p for p in met if met.count(p) > 1)
        assert point.edges == g.number_of_edges()
        assert point.isolates == nx.number_of_isolates(g)
        assert point.average_clustering == pytest.approx(nx.average_clustering(g))
    assert [point.tokens for point in growth(m)] == [2, 5, 10, 20, 40]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("stats") / "a.atlas"
    lm = model()
    dead = jumprelu()
    with torch.no_grad():
        dead.threshold.fill_(1e9)
    saes = [named(topk(k=6), "one"), named(topk(k=6, seed=1), "two"), named(dead, "dead")]
    run(made, lm, saes, texts(30), match=None)
    return made


def run_command(path, capsys, *words):
    """Return the exit code, stdout and stderr of `atlas graph-stats`."""
    with pytest.raises(SystemExit) as ended:
        main(["graph-stats", *words, "--atlas", str(path)])
    out, messages = capsys.readouterr()
    return ended.value.code or 0, out, messages


def test_command_agrees_with_networkx(path, capsys):
    code, out, _ = run_command(path, capsys, "one", "two", "--draws", "2", "--curves", "--json")
    result = json.loads(out)["result"]
    assert code == 0
    with Atlas.open(path) as atlas:
        graphs = {name: atlas.graph(name, kind="networkx") for name in ("one", "two")}
    for one in result["saes"]:
        g = graphs[one["sae"]]
        assert one["average_clustering"] == pytest.approx(nx.average_clustering(g))
        assert (one["nodes"], one["edges"]) == (40, g.number_of_edges())
    assert len({(row["sae"], row["null"]) for row in result["nulls"]}) == 6
    last = [p for p in result["curves"] if p["sae"] == "one"][-1]
    assert last["edges"] == graphs["one"].number_of_edges()
    code, out, _ = run_command(path, capsys, "one", "two", "--draws", "2")
    assert code == 0
    assert "average clustering" in out
    assert "one, null 'documents'" in out


def test_fewer_tokens_and_rarer_edges(path, capsys):
    _, out, messages = run_command(
        path, capsys, "one", "--tokens", "50", "--nulls", "none", "--json"
    )
    (cut,) = json.loads(out)["result"]["saes"]
    assert cut["tokens"] == 50 < cut["counted"]
    assert "over the first 50" in messages
    _, out, _ = run_command(path, capsys, "one", "--min-count", "3", "--nulls", "none", "--json")
    with Atlas.open(path) as atlas:
        wanted = atlas.graph("one", min_count=3).ecount()
    assert json.loads(out)["result"]["saes"][0]["edges"] == wanted


def test_dead_sae_has_reasons_instead_of_nan(path, capsys):
    code, out, messages = run_command(path, capsys, "dead")
    assert code == 0
    assert "nan" not in out.lower()
    assert "modularity, no weights (Leiden): no value, since there is no edge." in out
    assert "dead has no edges" in messages


def test_without_codes_token_nulls_report_what_to_do(tmp_path, capsys):
    made = tmp_path / "b.atlas"
    run(made, model(), [named(topk(), "top")], texts(8), settings=Settings(keep_codes=False))
    code, out, messages = run_command(made, capsys, "top", "--draws", "2")
    assert code == 0
    assert "null 'configuration'" in out
    assert "'bipartite'" not in out
    assert "are not stored" in messages
    for words in (["--nulls", "documents"], ["--nulls", "all"], ["--curves"], ["--tokens", "9"]):
        code, _, messages = run_command(made, capsys, "top", *words)
        assert code == 1
        assert "--keep-codes and --replace" in messages
    assert run_command(made, capsys, "tap")[0] == 2
    assert run_command(made, capsys, "top", "--tokens", "99999")[0] == 2


@pytest.fixture
def own(path, tmp_path):
    """A copy of the atlas, without statistics of graphs."""
    copied = tmp_path / "own.atlas"
    shutil.copytree(path, copied, ignore=shutil.ignore_patterns("graph_statistics"))
    return copied


FEW = GraphStatisticsSettings(draws=2, curves=True)


def test_a_second_run_reads_the_part(own):
    before = graph_fingerprint(Folder.open(own).sound())
    first = graph_statistics(own, ["one", "two"], settings=FEW)
    assert graph_fingerprint(Folder.open(own).sound()) == before  # no view is built again
    manifest = own / "parts" / "graph_statistics" / "one" / "manifest.json"
    written, stored = manifest.stat().st_mtime_ns, json.loads(manifest.read_text())
    assert stored["settings"]["tokens"] == first[0]["tokens"]
    assert sorted(stored["tables"]) == ["curves", "nulls", "summary"]
    recorded = RecordingProgress()
    again = graph_statistics(own, ["one"], settings=FEW, progress=recorded)
    assert recorded.messages == [
        "The graph statistics of one are already stored with the same settings."
    ]
    assert dict(again[0]) == dict(first[0])
    graph_statistics(own, ["one"], settings=replace(FEW, tokens=first[0]["tokens"]))
    shutil.rmtree(own / "codes" / "one")
    assert graph_statistics(own, ["one"], settings=FEW)[0] == first[0]
    assert manifest.stat().st_mtime_ns == written
    with pytest.raises(Missing, match="`keep_codes=True` and `replace=True`"):
        graph_statistics(own, ["one"], settings=replace(FEW, tokens=50))


@pytest.mark.parametrize(
    "other", [{"draws": 3}, {"seed": 1}, {"min_count": 2}, {"tokens": 60}, {"nulls": "none"}]
)
def test_other_settings_are_computed_again(own, other):
    settings = replace(FEW, curves=False)
    (first,) = graph_statistics(own, ["one"], settings=settings)
    before = first.table("nulls").to_pylist()
    recorded = RecordingProgress()
    changed = replace(settings, **other)
    (again,) = graph_statistics(own, ["one"], settings=changed, progress=recorded)
    assert "with other settings (" in recorded.messages[0]
    assert recorded.messages[0].endswith("); they are replaced.")
    assert again.table("nulls").to_pylist() != before
    assert len(Folder.open(own).sound().of("graph_statistics")) == 1


def test_the_command_prints_the_same_json_from_the_part(own, capsys):
    words = ("one", "two", "--draws", "2", "--curves", "--json")
    _, first, _ = run_command(own, capsys, *words)
    _, again, messages = run_command(own, capsys, *words)
    assert again == first
    assert "already stored" in messages
    with Atlas.open(own) as atlas:
        graphs = at_equal_tokens(atlas, ["one", "two"])
    wanted = {
        "saes": [report.summary(of) for of in graphs],
        "nulls": [
            row for of in graphs for row in report.null_rows(of, report.drawable(of), draws=2)
        ],
        "curves": [row for of in graphs for row in report.growth_rows(of)],
    }
    assert json.loads(first)["result"] == json.loads(json.dumps(wanted))
    _, shown, _ = run_command(own, capsys, "one", "two", "--draws", "2", "--curves")
    assert shown.startswith("one: ")
    assert "(mean of 2 draws)" in shown.replace("\n", " ")


def test_a_verdict_compares_with_every_null():
    row = {"sae": "s", "edges": 9, "nodes": 5, "isolates": 0, "tokens": 1000}
    row |= {"clustering_over_density": 1.5}
    size = "The graph has 9 edges among 5 features over 1,000 tokens."
    assert verdict_of(row, []) == [
        "s: clustering over density is 1.500; no null was drawn.",
        size,
    ]

    def null(statistic, observed, name, mean, where):
        return {
            "statistic": statistic,
            "observed": observed,
            "null": name,
            "mean": mean,
            "where": where,
            "draws": 10,
        }

    ratio, density = ("clustering_over_density", 1.5), ("density", 0.25)
    nulls = [
        null(*ratio, "bipartite", 1.75, "below"),
        null(*ratio, "documents", 1.625, "below"),
        null(*ratio, "configuration", 1.25, "above"),
        null(*density, "bipartite", 0.5, "below"),
        null(*density, "documents", 0.625, "below"),
        null(*density, "configuration", 0.25, "equal"),
        null("modularity_unweighted", 0.5, "bipartite", 0.5, "within"),
    ]
    assert verdict_of(row, nulls) == [
        "s: clustering over density is 1.500, above every draw of the null configuration (1.250), and "
        "below every draw of the nulls bipartite (1.750) and documents (1.625) (mean of 10 draws). The "
        "density of the graph is 0.250; the nulls bipartite (0.500) and documents (0.625) are denser, "
        "which limits their clustering over density to 2.00 (1 / density).",
        "s: modularity of the edges without weights is 0.500, within the range of the draws of the "
        "null bipartite (0.500) (mean of 10 draws).",
        size,
    ]
    assert verdict_of(row | {"edges": 0, "isolates": 5}, [])[0] == (
        "s: 0 edges among 5 features over 1,000 tokens."
    )


def test_a_verdict_lists_three_nulls_and_the_features_without_an_edge():
    row = {"sae": "s", "edges": 9, "nodes": 5000, "isolates": 1200, "tokens": 1000}
    drawn = {"statistic": "modularity_unweighted", "observed": 0.5, "where": "above", "draws": 1}
    means = {"bipartite": 0.125, "documents": 0.25, "configuration": 0.375}
    nulls = [drawn | {"null": name, "mean": mean} for name, mean in means.items()]
    assert verdict_of(row, nulls) == [
        "s: modularity of the edges without weights is 0.500, above every draw of the nulls bipartite "
        "(0.125), documents (0.250) and configuration (0.375) (mean of 1 draw).",
        "The graph has 9 edges among 5,000 features, 1,200 of them without an edge, over 1,000 tokens.",
    ]


def test_results_for_a_locked_folder_or_a_server_are_not_stored(own, capsys):
    folder, settings = Folder.open(own), GraphStatisticsSettings(nulls="configuration", draws=2)
    recorded = RecordingProgress()
    with folder.writing():
        locked = graph_statistics(own, ["one"], settings=settings, progress=recorded)
        code, out, _ = run_command(own, capsys, "one", "--nulls", "none", "--json")
        assert code == 0
    assert json.loads(out)["result"]["saes"][0]["edges"] == locked[0]["edges"]
    assert recorded.messages[0] == (
        f"Another process is writing {own}, so the results are not stored."
    )
    served = graph_statistics(Served(folder), ["one"], settings=settings)
    assert not folder.sound().of("graph_statistics")
    assert all_rows(served) == all_rows(locked)
    assert all_rows(graph_statistics(own, ["one"], settings=settings)) == all_rows(locked)
    with pytest.raises(Missing, match="a server stores none"):
        graph_statistics(Served(folder), ["one"], settings=replace(settings, nulls="all"))


def test_workers_compute_the_same(own):
    settings = GraphStatisticsSettings(nulls="configuration", draws=2)
    here = graph_statistics(own, "all", settings=settings)
    there = graph_statistics(own, "all", settings=settings, replace=True, workers=2)
    assert all_rows(there) == all_rows(here)


def test_graphs_are_cut_to_the_fewest_tokens(own, monkeypatch):
    counted = {"one": 683, "two": 40}
    monkeypatch.setattr(
        "analysis.graph.coactivation_graph._counted", lambda atlas, sae: counted[sae]
    )
    settings = GraphStatisticsSettings(nulls="none")
    one, two = graph_statistics(own, ["one", "two"], settings=settings)
    assert (one["tokens"], one["counted"], two["tokens"]) == (40, 683, 40)
    assert graph_statistics(own, ["one"], settings=replace(settings, tokens=40))[0] == one
    (complete,) = graph_statistics(own, ["one"], settings=settings)
    assert complete["tokens"] == 683
    shutil.rmtree(own / "codes" / "one")
    with pytest.raises(Mismatch, match="here 40, since edges grow"):
        graph_statistics(own, ["one", "two"], settings=settings)
    with pytest.raises(BadInput, match="counted over 683 tokens"):
        graph_statistics(own, ["one"], settings=replace(settings, tokens=684))


def test_a_graph_is_the_same_from_an_atlas_its_folder_and_its_codes(path):
    folder = Folder.open(path)
    with Atlas.open(path) as atlas:
        of, cut = read_graph(atlas, "one"), read_graph(atlas, "one", tokens=50)
        table = atlas.table("CO_ACTIVATES", sae="one")
    from_folder = read_graph(folder, "one")

    def by_pair(of, values):
        return dict(zip(map(tuple, of.pairs.tolist()), values.tolist(), strict=True))

    cosine = {
        tuple(int(e[end].split("/")[1]) for end in ("source", "target")): e["weight"]
        for e in table.to_pylist()
    }
    assert by_pair(of, of.weight) == by_pair(from_folder, from_folder.weight) == cosine
    assert by_pair(of, of.count) == by_pair(from_folder, from_folder.count)
    pairs, count = edges(of.membership)
    assert (from_folder.pairs.tolist(), from_folder.count.tolist()) == (
        pairs.tolist(),
        count.tolist(),
    )
    assert of.active.tolist() == from_folder.active.tolist() == of.membership.active.tolist()
    assert by_pair(cut, cut.weight) == {tuple(p): cosine[tuple(p)] for p in cut.pairs.tolist()}
    assert (cut.tokens, cut.counted, len(cut.membership)) == (50, of.counted, 50)


def test_plots_of_graphs(path, tmp_path, capsys):
    outs = [tmp_path / "g.svg", tmp_path / "g.html"]
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "plot",
                "graphs",
                "one",
                "two",
                "--kind",
                "page",
                "--atlas",
                str(path),
                "-o",
                *map(str, outs[:1]),
                "-o",
                str(outs[1]),
            ]
        )
    assert not ended.value.code
    text = outs[0].read_text("utf-8")
    for title in (
        "Log degree, two",
        "Degree against frequency, one",
        "Edges over tokens",
        "n = 40",
    ):
        assert title in text
    assert "NaN" not in text
    with Atlas.open(path) as atlas:
        dead, one = (read_graph(atlas, name, codes=False) for name in ("dead", "one"))
    with pytest.raises(BadInput, match="No feature of dead is ever active"):
        draw_graphs([one, dead])
    with pytest.raises(BadInput, match="`keep_codes=True`"):
        draw_graphs([one], kind="growth")
    without_edges = replace(one, pairs=one.pairs[:0])
    # One kind is drawn if none is selected: a histogram of degrees for each graph.
    drawn = draw_graphs([one, without_edges])
    assert axis_titles(drawn) == {"degree", "features"}
    assert len(marks(drawn)) == 2
    for kind in ("degree", "log-degree", "frequency", "scatter"):
        check_chart(finished(draw_graphs([one], kind=kind)))
    assert save(draw_graphs([without_edges]), tmp_path / "none.svg").exists()
