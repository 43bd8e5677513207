"""Statistics that distinguish trained SAEs from floors, compared with sklearn and SciPy."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from small_ingest import model, texts, topk

from analysis import FloorSettings, compare_with_floors, graph_features, graph_statistics
from analysis.floors.commands import _legend
from analysis.floors.names import _NAMES, statistic_name
from analysis.floors.sae_values import _is_statistic
from analysis.floors.separation import mean_over_seeds
from analysis.floors.study import _families, _verdict, separated
from analysis.statistics.ranks import auc
from atlas import schema
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.errors import BadInput, UnknownName
from atlas.features.numbers import _CONTROLS
from ingest import MatchSettings, ProbeSettings, Settings, ingest, match_saes, probe_saes
from ingest.sae.autoencoder import open_sae


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
    st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_auc_equals_sklearn_with_ties(one, other):
    labels = [1] * len(one) + [0] * len(other)
    expected = roc_auc_score(labels, one + other)
    assert auc(np.array(one, float), np.array(other, float)) == pytest.approx(expected)


def test_auc_of_degenerate_groups():
    none, some = np.empty(0), np.array([1.0])
    assert auc(none, some) is None
    assert auc(some, none) is None
    assert auc(some, some) == 0.5
    assert auc(np.ones(5), np.ones(3)) == 0.5
    assert auc(np.array([2.0]), some) == 1
    assert auc(np.array([-np.inf]), some) == 0


@pytest.mark.parametrize("values", [[0.2, 0.4], [0.1, 0.5, 0.6, 0.9]])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_means_over_seeds_equal_scipy(values, level):
    mean = mean_over_seeds(values, level=level)
    low, high = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(values), low, high))


def test_means_of_few_or_equal_seeds():
    assert mean_over_seeds([], level=0.95).value is None
    one = mean_over_seeds([2.0], level=0.95)
    assert (one.value, one.low, one.high, one.seeds) == (2, None, None, 1)
    equal = mean_over_seeds([1.0, 1.0, 1.0], level=0.95)
    assert (equal.low, equal.high) == (1, 1)


def test_an_interval_is_cut_to_the_possible_values():
    areas = [0.9, 1.0]
    free = mean_over_seeds(areas, level=0.95)
    cut = mean_over_seeds(areas, level=0.95, least=0, most=1)
    low, high = stats.t.interval(0.95, 1, np.mean(areas), stats.sem(areas))
    assert (free.low, free.high) == pytest.approx((low, high))
    assert low < 1 < high
    assert (cut.value, cut.low, cut.high) == pytest.approx((0.95, max(low, 0), 1))


# ---------------------------------------------------------------- a small atlas


def sae(name, seed, *, scale=1.0, k=5):
    """Return a random SAE whose activations are scaled, as a stand-in for an effect of training."""
    made = topk(seed=seed, k=k)
    made.W_enc.data *= scale
    made.b_enc.data *= scale
    return open_sae(made, name=name)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return an atlas of three SAEs with larger activations, two floors of each, and one without floors."""
    path, lm = tmp_path_factory.mktemp("floors") / "a.atlas", model()
    trained = [sae(f"t{s}", s, scale=8.0) for s in range(3)]
    lone = open_sae(topk(d_sae=24, seed=5), name="lone")
    ingest(
        path,
        saes=[*trained, lone],
        text=texts(40),
        model=lm,
        match=None,
        settings=Settings(role="trained"),
    ).close()
    for role, offset in (("untrained", 10), ("frozen-decoder", 20)):
        for s in range(3):
            floor = sae(f"{role}-{s}", offset + s)
            settings = Settings(role=role, floor_of=f"t{s}")
            ingest(path, saes=[floor], model=lm, settings=settings, match=None).close()
    return path


def by_statistic(result, role, of="features"):
    rows = result.table("statistics").to_pylist()
    return {r["statistic"]: r for r in rows if r["role"] == role and r["of"] == of}


def test_rows_equal_values_by_hand(path):
    (result,) = compare_with_floors(path)
    assert result["trained"] == ["t0", "t1", "t2"]
    assert set(result["floors"]) == {"untrained", "frozen-decoder"}
    with Atlas.open(path) as atlas:
        features = atlas.table("Feature").to_pandas().query("not dead")
        saes = atlas.table("SAE").to_pandas().set_index("name")
    rows = by_statistic(result, "untrained")
    of_saes = [r for r in result.table("areas").to_pylist() if r["role"] == "untrained"]
    for statistic in ("max_activation", "frequency", "std_activation"):
        values = {n: g[statistic].to_numpy() for n, g in features.groupby("sae")}
        areas = [
            roc_auc_score(
                [1] * len(values[f"t{s}"]) + [0] * len(values[f"untrained-{s}"]),
                [*values[f"t{s}"], *values[f"untrained-{s}"]],
            )
            for s in range(3)
        ]
        by_sae = {r["sae"]: r["auc"] for r in of_saes if r["statistic"] == statistic}
        assert by_sae == pytest.approx(dict(zip(("t0", "t1", "t2"), areas, strict=True)))
        half = 4.302653 * np.std(areas, ddof=1) / 3**0.5  # the 97.5% quantile of t with 2 degrees
        low, high = np.mean(areas) - half, np.mean(areas) + half
        row = rows[statistic]
        assert (row["auc"], row["auc_low"], row["auc_high"]) == pytest.approx(
            (np.mean(areas), max(low, 0), min(high, 1))
        )
        assert row["trained"] == pytest.approx(np.mean([values[f"t{s}"].mean() for s in range(3)]))
        assert row["floor"] == pytest.approx(
            np.mean([values[f"untrained-{s}"].mean() for s in range(3)])
        )
        assert (row["trained_seeds"], row["floor_seeds"]) == (3, 3)
    of_saes = by_statistic(result, "untrained", of="SAE")
    assert of_saes["l0"]["auc"] == 0.5  # TopK: exactly k everywhere
    assert of_saes["fvu"]["trained"] == pytest.approx(saes.loc[["t0", "t1", "t2"], "fvu"].mean())


def test_a_planted_effect_separates_and_others_do_not(path):
    (result,) = compare_with_floors(path)
    rows = result.table("statistics").to_pylist()
    for role in ("untrained", "frozen-decoder"):
        names = [row["statistic"] for row in separated(rows, role)]
        assert {"max_activation", "mean_activation"} <= set(names)
        # Scaling changes no order of activations in a TopK SAE of random weights.
        assert by_statistic(result, role)["frequency"]["auc"] == pytest.approx(0.5, abs=0.15)
    assert result["separating"]["untrained"] >= 2
    assert "have an AUC whose interval excludes 0.5: " in result.verdict[0]


def test_the_verdict_names_statistics_of_scale_last():
    def row(statistic, area, half):
        ends = {"auc": area, "auc_low": half and area - half, "auc_high": half and area + half}
        seeds = {"trained_seeds": 3 if half else 1}
        return {"statistic": statistic, "of": "features", "role": "untrained", **ends, **seeds}

    areas = {"max_activation": 0.99, "frequency": 0.4, "context_dependence": 0.8}
    summary, floors = {"family": "x", "trained": ["a"]}, {"untrained": {"a": ["b"]}}
    three, one = (
        _verdict(summary, [row(n, area, half) for n, area in areas.items()], floors)[0]
        for half in (0.05, None)
    )
    wanted = "context dependence (0.80), frequency (0.40), max activation (0.99, scale)"
    assert f"excludes 0.5: {wanted}." in three
    assert "the AUC farthest from 0.5 is that of context dependence (0.80)" in one


def test_later_studies_add_statistics(path):
    names = ["t0", "t1", "untrained-0", "untrained-1"]
    before = set(by_statistic(compare_with_floors(path)[0], "untrained"))
    graph_features(path, names)
    graph_statistics(path, names)
    opened = [sae("t0", 0, scale=8.0), sae("t1", 1, scale=8.0)]  # their decoders are compared
    match_saes(path, names[:2], settings=MatchSettings(draws=2, min_joint=2), opened=opened)
    match_saes(path, names[2:], settings=MatchSettings(draws=2, min_joint=2))
    probe_saes(
        path, ["t0", "untrained-0"], model=model(), settings=ProbeSettings(controls=0, draws=20)
    )
    (result,) = compare_with_floors(path)
    rows = by_statistic(result, "untrained")
    added = set(rows) - before
    assert {"degree", "pagerank", "best_match"} <= added
    assert any(name.startswith("probe from hook_embed, document/") for name in added)
    of_saes = by_statistic(result, "untrained", of="SAE")
    assert "graph.modularity" in of_saes
    # Limits of intervals, sizes and settings describe the study and not the SAE.
    assert "graph_statistics.density" in of_saes
    sizes = {"graph.modularity_draws", "graph_statistics.nodes", "graph_statistics.tokens"}
    assert not sizes & set(of_saes)
    settings = {"ami_runs_low", "ami_runs_counted", "ami_runs_of", "min_count", "features", "live"}
    settings |= {
        "ami_null",
        "ami_permuted",
        "ami_documents",
        "betweenness_sources",
        "partners_features",
        "partners_left_out",
    }
    # Nulls and p-values are no statistics either.
    assert not [n for n in of_saes if n.endswith(("_null", "_random", "_control", "_p", "_q"))]
    assert not {"partners_expected", "graph.modularity_null"} & {*rows, *of_saes}
    assert not {f"graph.{name}" for name in settings} & set(of_saes)
    assert {"l0", "fvu", "dead_share"} < set(of_saes)
    assert not {"tokens", "dead", "d_sae", "k"} & set(of_saes)
    with Atlas.open(path) as atlas:
        edges = atlas.table("MATCHES").to_pandas()
        live = atlas.table("Feature", sae="t0").to_pandas().query("not dead")["id"]
        live_t1 = atlas.table("Feature", sae="t1").to_pandas().query("not dead")["id"]
    cosines = ["decoder_cosine", "encoder_cosine"]
    edges[cosines] = edges[cosines].clip(lower=0)
    for name, chosen, number in (
        ("best_match", edges, "pearson"),
        ("mutual_match", edges[edges["mutual"]], "pearson"),
        ("matched_decoder_cosine", edges, "decoder_cosine"),
        ("matched_encoder_cosine", edges, "encoder_cosine"),
    ):
        best = chosen.groupby("source")[number].max()
        best_t1 = chosen[chosen["target"].str.startswith("t1/")].groupby("target")[number].max()
        means = [np.mean([best.get(id, 0.0) for id in live])]
        means += [np.mean([best_t1.get(id, 0.0) for id in live_t1])]
        assert rows[name]["trained"] == pytest.approx(np.mean(means))
    assert rows["matched_decoder_cosine"]["floor"] is None  # those weights were not available
    assert rows["mutual_match"]["trained"] < rows["best_match"]["trained"]


def test_one_seed_has_no_interval(path):
    (result,) = compare_with_floors(path, ["t0"])
    row = by_statistic(result, "untrained")["max_activation"]
    assert (row["auc_low"], row["trained_seeds"], row["floor_seeds"]) == (None, 1, 1)
    assert row["auc"] > 0.9
    assert separated(result.table("statistics").to_pylist(), "untrained") == []
    assert "No interval: there is one trained seed." in result.verdict[0]
    assert "excludes" not in result.verdict[0]
    assert by_statistic(result, "untrained", of="SAE")["fvu"]["auc"] is None


def test_a_trained_sae_without_a_floor_is_counted_and_named(tmp_path):
    path, lm = tmp_path / "a.atlas", model()
    trained = [sae(f"t{s}", s, scale=8.0) for s in range(2)]
    ingest(path, saes=trained, text=texts(5), model=lm, match=None).close()
    floor = Settings(role="untrained", floor_of="t0")
    ingest(path, saes=[sae("f0", 10)], model=lm, settings=floor, match=None).close()
    shown = CliRunner().invoke(command(), ["floors", "-a", str(path)])
    assert "1 trained (of 2), 1 untrained" in shown.stdout
    assert "1 of 2 trained SAEs has this floor. Train a floor of t1" in shown.stdout
    assert "excludes" not in shown.stdout


def test_dead_features_and_saes_without_floors(path, tmp_path):
    with pytest.raises(BadInput, match="No selected SAE has a floor"):
        compare_with_floors(path, ["lone"])
    with pytest.raises(UnknownName):
        compare_with_floors(path, ["absent"])
    with pytest.raises(BadInput, match="level"):
        FloorSettings(level=1)
    silent = topk(seed=3)
    silent.W_enc.data.zero_()
    silent.b_enc.data.fill_(-1.0)
    other, lm = tmp_path / "b.atlas", model()
    ingest(other, saes=[sae("alive", 1)], text=texts(5), model=lm, match=None).close()
    ingest(
        other,
        saes=[open_sae(silent, name="dead")],
        model=lm,
        match=None,
        settings=Settings(role="untrained", floor_of="alive"),
    ).close()
    (result,) = compare_with_floors(other)
    row = by_statistic(result, "untrained")["frequency"]
    assert (row["auc"], row["floor"]) == (None, None)
    assert row["trained"] > 0
    assert "no statistic of features is stored for both" in result.verdict[0]


def test_the_command_prints_every_statistic(path):
    shown = CliRunner().invoke(command(), ["floors", "-a", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "3 trained, 3 untrained" in shown.stdout
    (result,) = compare_with_floors(path)
    row = by_statistic(result, "untrained")["frequency"]
    wanted = f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
    lines = shown.stdout.splitlines()
    (header,) = [x.split() for x in lines if x.split()[2:3] == ["untrained"] and "AUC" in x]
    assert header == ["statistic", "trained", "untrained", "AUC"]
    assert any(x.startswith("frequency ") and x.rstrip().endswith(wanted) for x in lines)
    done = CliRunner().invoke(command(), ["floors", "t0", "-a", str(path), "--json"])
    (row,) = json.loads(done.stdout)["result"]
    assert {r["statistic"] for r in row["rows"]} >= {"frequency", "fvu"}
    assert {r["name"] for r in row["rows"]} >= {"max activation", "FVU"}


def test_each_missing_number_has_a_reason():
    full = {"trained": 0.5, "floor": 0.25, "auc": 0.75}
    assert _legend([full]) == []
    (mean,) = _legend([full, full | {"floor": None}])
    assert mean.startswith("– in a mean: no such SAE has the number.")
    (area,) = _legend([full, full | {"auc": None}])
    assert area.startswith("– as AUC: a number of the SAE, marked (SAE), needs two trained SAEs")


def test_statistics_have_readable_names():
    names = {p.name for label in ("Feature", "SAE") for p in schema.node(label).properties}
    assert {name for name in _NAMES if "_" in name} & names  # the table follows the schema
    shown = [statistic_name(name) for name in names] + [
        statistic_name(f"effects.{name}") for name in ("kl", "features_above_random")
    ]
    assert not [name for name in shown if "_" in name or "." in name]
    assert len(set(shown)) == len(shown)
    assert statistic_name("effects.kl") == "effects: KL"
    assert statistic_name("graph_statistics.clustering_over_density") == (
        "graph-stats: clustering over density"
    )
    assert statistic_name("probe from hook_embed, a/b") == "probe from hook_embed, a / b"


def test_values_of_nulls_and_controls_are_no_statistics():
    controls = {name for of in _CONTROLS.values() for name in of}
    assert controls >= {"partners_expected", "effect_kl_random", "effect_q"}
    assert not [name for name in controls if _is_statistic(name)]
    none = ("null_cosine", "kl_other", "sham_kl", "modularity_null", "homology_p", "token_q")
    assert not [name for name in none if _is_statistic(name)]
    assert _is_statistic("features_above_random")


def test_a_floor_cannot_be_named_as_a_trained_sae(path):
    with pytest.raises(BadInput, match="untrained-0 is a floor"):
        compare_with_floors(path, ["t0", "untrained-0"])


def test_saes_of_another_k_are_another_family(tmp_path):
    path, lm = tmp_path / "a.atlas", model()
    trained = [sae(f"k{k}", seed=1, k=k) for k in (3, 5)]
    ingest(path, saes=trained, text=texts(5), model=lm, match=None).close()
    for k, of in ((3, "k3"), (5, None)):
        floor = Settings(role="untrained", floor_of=of)
        ingest(path, saes=[sae(f"f{k}", 7, k=k)], model=lm, settings=floor, match=None).close()
    results = compare_with_floors(path)
    families = {result["family"]: (result["trained"], result["floors"]) for result in results}
    # The floor of k = 5 names no SAE: it is a floor of the SAE of its own k only.
    assert sorted(families.values()) == [
        (["k3"], {"untrained": ["f3"]}),
        (["k5"], {"untrained": ["f5"]}),
    ]
    assert any(name.endswith("-k3") for name in families)


def test_an_atlas_without_k_has_families_as_before():
    rows = [
        {
            "name": "one",
            "model": "m",
            "hook": "h",
            "architecture": "topk",
            "d_sae": 8,
            "less": None,
        },
        {
            "name": "two",
            "model": "m",
            "hook": "h",
            "architecture": "topk",
            "d_sae": 8,
            "less": None,
        },
        {
            "name": "floor",
            "role": "untrained",
            "floor_of": "two",
            "model": "m",
            "hook": "h",
            "d_sae": 8,
        },
    ]
    ((trained, floors),) = _families(rows, None)
    assert [row["name"] for row in trained] == ["one", "two"]
    assert floors == {"untrained": {"two": ["floor"]}}
