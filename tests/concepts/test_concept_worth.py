"""The measure of worth: planted concepts, retained information by hand, floors, front and rank."""

import numpy as np
import pytest
from drawn_charts import marks
from scipy import sparse

from analysis import compare_roles
from analysis.concepts.plots import draw_front
from analysis.concepts.probing.ridge import held_out_auc, nested_ridge, rotated
from analysis.concepts.probing.splits import grouped_splits
from analysis.concepts.settings import ConceptSettings
from analysis.concepts.tables import ARMS
from analysis.concepts.units.observations import live_columns
from analysis.concepts.verdict import verdict_of
from analysis.concepts.words.encoding import SaeActivations
from analysis.concepts.worth.arms import Arm, random_directions, sae_arms
from analysis.concepts.worth.evaluate import Question, further_probes, score_arm, test_units
from analysis.concepts.worth.localisation import (
    KS,
    area_under_curve,
    effective_number,
    k90,
    loss_rises,
    retained,
)
from analysis.concepts.worth.rank import rank_saes, rank_sentences
from atlas.errors import BadInput
from atlas.studies.results import Result, Results

N = 160
LABELS = np.arange(N) % 2 == 0
SETTINGS = ConceptSettings(repeats=3, draws=99, probe_draws=3)
test_units.__test__ = False  # not a test, in spite of its name


def question(labels=LABELS, settings=SETTINGS):
    rows = np.arange(len(labels))
    return Question.of(labels, rows, rows, settings=settings)


def spread(m, *, units=200, seed=0, share=0.1):
    """Sparse units, of which the first m carry the concept equally."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, units)) * (rng.random((N, units)) < share)
    side = np.where(LABELS, 1.0, -1.0)[:, None]
    x[:, :m] = rng.normal(size=(N, m)) * 0.5 + side * (1.5 / np.sqrt(m) if m > 2 else 1.0)
    return x


@pytest.mark.parametrize("m", [1, 2, 5, 10])
def test_a_concept_over_m_units_has_effective_number_m(m):
    found = score_arm(Arm("features", live_columns(spread(m))), question(), complete=False)
    assert found.effective == pytest.approx(m, rel=0.2)
    noise = np.random.default_rng(0).normal(size=(N, 200))
    assert np.isnan(
        score_arm(Arm("features", live_columns(noise)), question(), complete=False).effective
    )


def test_rises_of_the_loss_equal_a_loop():
    x, q = spread(3, units=8), question()
    space = rotated(x)
    labels, test = q.columns
    fitted = nested_ridge(space, labels, ~test, groups=q.groups, seed=0)
    found = loss_rises(x, space, fitted, labels=LABELS, splits=q.splits)
    for j, rows in enumerate(test):
        coef = fitted.coef[j] @ space.back
        own = LABELS[rows]
        weight = np.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())
        sign = np.where(own, 1, -1)

        def loss(values, coef=coef, sign=sign, weight=weight, j=j):
            z = values @ coef + fitted.margins[j, 0] - x[0] @ coef
            return (weight * np.log1p(np.exp(-sign * z))).sum()

        for unit in range(8):
            without = x[rows].copy()
            without[:, unit] = x[~rows, unit].mean()
            assert found[j, unit] == pytest.approx(loss(without) - loss(x[rows]), abs=1e-9)


def test_effective_number_of_known_rises():
    rises = np.tile([3.0, 1.0, 0.0, -1.0], (10, 1))
    assert effective_number(rises, 0.25) == pytest.approx(16 / 10)
    assert np.isnan(effective_number(np.full((10, 3), np.nan), 0.25))
    assert np.isnan(effective_number(np.zeros((10, 0)), 0.25))


def test_retained_information_by_hand():
    auc, dense = np.array([0.7, 0.8, np.nan]), np.array([0.9, 0.94, 0.9])
    found = retained(auc, dense, 0.25)
    assert found.value == pytest.approx((0.75 - 0.5) / (0.92 - 0.5))
    assert found.low < found.value < found.high
    same = retained(dense, dense, 0.25)
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))


def test_no_information_is_retained_of_a_layer_at_chance():
    rng = np.random.default_rng(0)
    chance = 0.5 + rng.normal(size=50) * 0.05
    assert np.isnan(retained(np.full(50, 0.9), chance, 0.25).value)
    assert np.isnan(retained(np.full(2, np.nan), np.full(2, 0.9), 0.25).value)


def test_k90_and_area_of_known_curves():
    assert k90(KS, [0.95] * 6) == 1
    assert k90(KS, [0.1, 0.2, 0.3, 0.91, 0.8, 0.95]) == 10
    assert k90(KS, [0.1] * 6) is None
    logs = np.log(KS)
    assert area_under_curve(KS, logs / logs[-1]) == pytest.approx(0.5)
    assert area_under_curve(KS, np.ones((3, 6))).tolist() == [1, 1, 1]
    assert area_under_curve((1,), np.array([0.3])) == 0.3


def test_one_unit_of_a_clean_concept_has_k90_of_one_and_a_spread_concept_more():
    layer = spread(20, units=60)
    q = question()
    dense = score_arm(Arm("layer", live_columns(layer)), q, complete=False)
    one = np.concatenate([spread(1, units=60), layer[:, :0]], axis=1)
    shares = {}
    for name, x in (("one", one), ("spread", layer)):
        scores = score_arm(Arm("features", live_columns(x)), q, complete=False)
        values = [
            retained(scores.sparse_auc[:, i], dense.auc, q.splits.ratio).value
            for i in range(len(scores.ks))
        ]
        shares[name] = k90(scores.ks, values)
    assert shares["one"] == 1
    assert shares["spread"] is None or shares["spread"] >= 5


def test_selection_is_inside_the_folds():
    """Units selected on all words would reach a high AUROC on labels without any effect."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 3000))
    labels = np.arange(60) % 2 == 0
    q = question(labels, ConceptSettings(repeats=4, draws=19, probe_draws=5))
    found = score_arm(Arm("features", live_columns(noise)), q, complete=True)
    assert found.sparse_auc.mean() == pytest.approx(0.5, abs=0.12)
    assert found.auc.mean() == pytest.approx(0.5, abs=0.12)
    f = np.abs(noise[labels].mean(0) - noise[~labels].mean(0))
    leaked = noise[:, np.argsort(-f)[:20]]
    found = score_arm(Arm("features", live_columns(leaked)), q, complete=False)
    assert found.auc.mean() > 0.8
    assert len(q.permuted_columns[0]) == 5 * 5


def test_sparse_probes_that_stop_early_are_reported(monkeypatch):
    arm = Arm("features", live_columns(spread(2, units=20)))
    assert score_arm(arm, question(), complete=False).sparse_converged == 1
    monkeypatch.setattr("analysis.concepts.probing.sparse._STEPS", 1)
    found = score_arm(arm, question(), complete=False)
    assert (found.sparse_converged, found.converged) == (0, 1)
    own = ARM | {"sparse_converged": 0.875}
    rows = [own | {"arm": "features"}, own | {"arm": "layer", "sparse_converged": None}]
    sentences = verdict_of("s", rows, skipped=[], probes=[])
    assert "12.5% of the fits of k-sparse probes did not converge." in sentences
    assert not any("ridge probes" in sentence for sentence in sentences)
    rows = [row | {"sparse_converged": None} for row in rows]  # without a live unit
    assert not any("fits" in one for one in verdict_of("s", rows, skipped=[], probes=[]))


#: A row of an arm with an AUROC of .8 by all of 20 units; the other columns are null.
ARM = dict.fromkeys((field.name for field in ARMS), None) | {
    "concept": "g/f",
    "max_t_units": 0,
    "varying": 20,
    "units": 20,
    "auc": 0.8,
    "converged": 1.0,
}


@pytest.mark.parametrize(
    ("own", "random", "conclusion"),
    [
        ((0.5, 0.7), (0.2, 0.4), "are more localised"),
        ((0.3, 0.7), (0.2, 0.4), "are not shown to be more localised"),
        ((0.1, 0.2), (0.3, 0.4), "are less localised"),
        ((None, None), (0.3, 0.4), "are not shown to be more localised"),
    ],
)
def test_localisation_is_compared_with_random_directions(own, random, conclusion):
    row = ARM | {"retained": 0.9, "area": 0.5, "k90": 7}
    rows = [
        row | {"arm": "features", "area_low": own[0], "area_high": own[1]},
        row | {"arm": "layer"},
        row | {"arm": "random", "area_low": random[0], "area_high": random[1]},
    ]
    sentences = " ".join(verdict_of("s", rows, skipped=[], probes=[]))
    assert f"they {conclusion} than random directions." in sentences
    assert "7 of 20 features that vary on these words retain 90%" in sentences
    rows[0]["retained"] = 0.77
    sentences = " ".join(verdict_of("s", rows, skipped=[], probes=[]))
    assert (
        "7 features reach 90%, but all 20 features that vary on these words together do not: the curve"
        in sentences
    )


@pytest.mark.parametrize(
    ("k90", "expected"),
    [
        (
            7,
            "all 20 features together predict worse than the layer, but 7 of them reach 90% of it, so a loss of "
            "information is not shown",
        ),
        (None, "the features lose information that the layer has: no number of them reaches 90%"),
    ],
)
def test_features_lose_information_only_if_no_number_of_them_reaches_the_layer(k90, expected):
    """The verdict was that a floor loses information, next to ten of its features that retain 90%."""
    own = ARM | {"difference": -0.06, "difference_low": -0.11, "difference_high": -0.01}
    rows = [own | {"arm": "features", "retained": 0.7, "area": 0.8, "k90": k90}]
    rows += [ARM | {"arm": "layer"}]
    assert verdict_of("s", rows, skipped=[], probes=[])[0] == f"s, g/f: {expected}."


def test_an_undefined_effective_number_does_not_say_that_no_feature_matters():
    rows = [ARM | {"arm": "features", "retained": 0.7, "k90": 7, "max_t_units": 1}]
    text = " ".join(verdict_of("s", [*rows, ARM | {"arm": "layer"}], skipped=[], probes=[]))
    assert "Effective number: undefined, because removing one feature alone never raises" in text
    assert "no feature alone matters" not in text


# ------------------------------------------------------------------ arms


def activations(seed=0):
    rng = np.random.default_rng(seed)
    layer = rng.normal(size=(N, 12)).astype(np.float32)
    codes = np.maximum(rng.normal(size=(N, 50)) - 1.2, 0).astype(np.float32)
    codes[:, ::7] = 0
    return SaeActivations(sparse.csr_array(codes), layer, layer * np.float32(0.5))


def test_arms_of_an_sae():
    found = activations()
    arms = {a.name: a for a in sae_arms(found, {"neurons": found.layer}, subsets=2, seed=0)}
    assert list(arms) == [
        "layer",
        "features",
        "reconstruction",
        "error",
        "neurons",
        "random",
        "subset 1",
        "subset 2",
    ]
    assert arms["features"].live.total == 50
    assert len(arms["features"].live.units) == 42
    np.testing.assert_allclose(arms["error"].live.values, found.layer * 0.5, rtol=1e-6)
    active = (arms["features"].live.values > 0).sum(axis=0)
    np.testing.assert_array_equal((arms["random"].live.values > 0).sum(axis=0), active)
    assert len(arms["subset 1"].live.units) == 12
    assert set(arms["subset 1"].live.units) <= set(arms["features"].live.units)
    assert arms["subset 1"].live.units.tolist() != arms["subset 2"].live.units.tolist()


def test_random_directions_of_equal_rows_and_of_units_that_are_always_active():
    rng = np.random.default_rng(0)
    layer = np.repeat(rng.normal(size=(5, 3)), 4, axis=0)
    found = random_directions(layer, np.array([4, 6, 20, 0]), rng)
    active = (found > 0).sum(axis=0)
    assert active.tolist() == [4, 4, 20, 0]
    assert random_directions(np.zeros((0, 3)), np.zeros(0, np.int64), rng).shape == (0, 0)


def test_further_probes_report_permuted_labels_and_convergence():
    settings = ConceptSettings(
        repeats=3, draws=19, probe_draws=2, probe=("elastic net", "mlp", "random features")
    )
    x = spread(3, units=20)
    found = {
        p.kind: p for p in further_probes(Arm("layer", live_columns(x)), question(LABELS, settings))
    }
    assert {kind: len(p.auc) for kind, p in found.items()} == {
        "elastic net": 15,
        "mlp": 10,
        "random features": 15,
    }
    for probe in found.values():
        assert probe.auc.mean() > 0.9
        assert probe.permuted_auc.mean() == pytest.approx(0.5, abs=0.2)
    assert found["mlp"].converged is None
    assert found["elastic net"].converged == 1


# ------------------------------------------------------------------ rank and front


def result(sae, aucs, *, layer=0.9, role=None, more=(), site=None, units=8):
    """A result whose features have the same AUROC at each k; ``more`` has further concepts."""
    import pyarrow as pa

    from analysis.concepts import tables

    rows, splits = [], []
    for concept, auc, dense in (("g/f", aucs, np.full(10, layer)), *more):
        area = retained(np.asarray(auc), dense, 0.25)
        row = {
            "concept": concept,
            "arm": "features",
            "units": units,
            "retained": tables.number(area.value),
            "retained_low": tables.number(area.low),
            "retained_high": tables.number(area.high),
            "k90": 5,
            "k90_low": 2,
            "k90_high": None,
            "area": tables.number(area.value),
        }
        rows.append(row)
        splits += [
            {
                "concept": concept,
                "arm": "features",
                "k": k,
                "split": i,
                "auc": a,
                "layer_auc": dense[i],
                "ratio": 0.25,
            }
            for k in (0, -1)
            for i, a in enumerate(auc)
        ]
    made = {
        "arms": pa.Table.from_pylist(rows, schema=tables.ARMS),
        "splits": pa.Table.from_pylist(splits, schema=tables.SPLITS),
    }
    summary = {"sae": sae, "concepts": ["g/f"], "words": "g"} | ({"role": role} if role else {})
    summary["site"] = site
    return Result("concepts", f"g+{sae}", summary, tables=(made, made.__getitem__))


def test_saes_are_ranked_with_the_interval_of_each_difference():
    rng = np.random.default_rng(0)
    common = rng.normal(size=10) * 0.05  # a hard split is hard for each SAE
    good, poor = 0.8 + common, 0.7 + common + rng.normal(size=10) * 0.001
    rows = rank_saes(
        [result("poor", poor), result("good", good), result("floor", poor, role="untrained")]
    )
    assert [row["sae"] for row in rows] == ["good", "floor", "poor"]
    assert rows[0]["rank"] == 1
    assert "difference" not in rows[0]
    last = rows[2]
    assert last["difference"] == pytest.approx(((poor - good) / 0.4).mean())
    assert last["low"] < last["difference"] < last["high"] < 0  # paired, so the interval is short
    assert last["high"] - last["low"] < 0.02
    assert rank_saes([]) == []


def test_the_ranking_begins_with_the_first_sae_that_loses_no_information():
    def row(sae, area, loses, role=None):
        between = {"difference": area - 0.8, "low": area - 0.9, "high": area - 0.7}
        return {
            "sae": sae,
            "role": role,
            "area": area,
            "random_area": 0.1,
            "loses": loses,
        } | between

    floor, best, last = (
        row("f", 0.8, 1, role="frozen"),
        row("a", 0.5, 0, role="trained"),
        row("b", 0.4, 0),
    )
    assert rank_sentences([floor, best, last]) == [
        "a has the largest mean area (0.50) of the SAEs whose features together are not shown to predict worse than "
        "the layer.",
        "f (frozen) has a larger area (0.80, difference -0.30, 95% interval -0.40 to -0.20), but all "
        "features together predict worse than the layer: this is no evidence of worth.",
    ]
    (every,) = rank_sentences([floor, row("a", 0.5, 2)])
    assert every.startswith("All features of every SAE together predict worse")
    assert "no evidence" not in rank_sentences([best, last])[0]


@pytest.mark.parametrize(
    ("auc", "interval", "expected"),
    [
        (0.9, (0.86, 0.94), "Random directions (0.90) have a higher held-out AUROC than the features (0.80); without overlap of 95% intervals: random directions."),
        (0.82, (0.78, 0.86), "Random directions (0.82) have a higher held-out AUROC than the features (0.80)."),
        (0.8, (0.78, 0.86), None),
    ],
)  # fmt: skip
def test_the_verdict_names_arms_without_an_sae_that_predict_better(auc, interval, expected):
    row = ARM | {"auc_low": 0.75, "auc_high": 0.85}
    random = {"arm": "random", "auc": auc, "auc_low": interval[0], "auc_high": interval[1]}
    rows = [row | {"arm": "features"}, row | {"arm": "layer"}, row | random]
    sentences = verdict_of("s", rows, skipped=[], probes=[])
    found = [one for one in sentences if "than the features" in one]
    assert found == ([] if expected is None else [expected])


def test_the_ranking_states_which_differences_are_certain():
    def row(sae, area, low=None, high=None, random=0.1):
        return {"sae": sae, "area": area, "difference": area - 0.5, "random_area": random} | {
            "low": low,
            "high": high,
        }

    first = row("a", 0.5)
    assert rank_sentences([first, row("b", 0.4, -0.3, 0.1)]) == [
        "The order of a and b is not certain (difference -0.10, 95% interval -0.30 to 0.10)."
    ]
    assert rank_sentences([first, row("b", 0.4, -0.2, -0.05)]) == [
        "a has a larger mean area than b (difference -0.10, 95% interval -0.20 to -0.05)."
    ]
    (three,) = rank_sentences([first, row("b", 0.4, -0.3, 0.1), row("c", 0.2, -0.4, -0.2)])
    assert "1 of the 2 differences from it exclude 0, not adjusted for their number; the" in three
    (certain,) = rank_sentences([first, row("b", 0.3, -0.3, -0.1), row("c", 0.2, -0.4, -0.2)])
    assert certain.endswith(
        "2 of the 2 differences from it exclude 0, not adjusted for their number."
    )
    of = {"shared": 2, "concepts": 5}
    (three,) = rank_sentences([{**first, **of}, row("b", 0.3, -0.3, 0.1), row("c", 0.2, -0.4, 0.2)])
    assert three.startswith("a has the largest mean area under R over log k, over 2 of 5 concepts.")
    floor = row("f", 0.45, -0.3, 0.1) | {"role": "frozen-decoder"}
    *_, last = rank_sentences([first, floor, row("b", 0.4, -0.3, 0.1), row("c", 0.2, -0.4, -0.2)])
    assert last == "The floor f (frozen-decoder) has a larger mean area than 2 of 3 trained SAEs."
    (alone,) = rank_sentences([row("a", 0.13, random=0.84)])
    assert alone.endswith("a larger mean area than the features of a (0.84, 0.13).")
    assert rank_sentences([first]) == []
    assert rank_sentences([first, row("b", 0.4)]) == ["The order of a and b has no interval."]
    assert rank_sentences([{**first, "area": None}]) == [
        "No SAE has a defined area, so there is no order."
    ]


def test_the_ranking_has_the_area_of_random_directions_on_the_compared_concepts():
    import pyarrow as pa

    from analysis.concepts import tables

    plain = result("s", np.full(10, 0.7), more=[("g/x", np.full(10, 0.7), np.full(10, 0.9))])
    features = plain.table("arms").to_pylist()
    (row,) = rank_saes([plain])
    assert row["random_area"] is None
    random = [
        {**one, "arm": "random", "area": area}
        for one, area in zip(features, (0.2, 0.6), strict=True)
    ]
    made = {
        "arms": pa.Table.from_pylist([*features, *random], schema=tables.ARMS),
        "splits": plain.table("splits"),
    }
    both = Result("concepts", "g+s", plain.summary, tables=(made, made.__getitem__))
    other = result("t", np.full(10, 0.6))  # has only the first concept
    assert rank_saes([both])[0]["random_area"] == pytest.approx(0.4)
    assert {row["sae"]: row["random_area"] for row in rank_saes([both, other])}["s"] == 0.2


def test_the_ranking_has_no_k90_where_all_features_retain_less():
    enough, less = result("enough", np.full(10, 0.87)), result("less", np.full(10, 0.8))
    assert [row["k90"] for row in rank_saes([enough, less])] == [5, None]  # R .925 and .75


def test_the_rank_compares_the_concepts_that_are_defined_in_all_saes():
    """A layer of AUROC .51 does not separate a concept, so its R would be a ratio of two noises."""
    chance = 0.51 + np.tile([0.06, -0.06], 5)
    clear = np.full(10, 0.9)
    good = result("good", np.full(10, 0.82), more=[("g/x", np.full(10, 0.51), chance)])
    poor = result("poor", np.full(10, 0.74), more=[("g/x", np.full(10, 0.56), chance)])
    for of in ("area", "retained"):
        first, last = rank_saes([poor, good], of=of)
        assert (first["sae"], last["sae"]) == ("good", "poor")
        assert (first[of], last[of]) == pytest.approx((0.8, 0.6))
        assert last["difference"] == pytest.approx(-0.2)
        assert (last["concepts"], last["shared"]) == (2, 1)
    # An easy concept that only one SAE has does not raise its mean.
    easy = result("easy", np.full(10, 0.74), more=[("g/x", np.full(10, 0.9), clear)])
    first, last = rank_saes([easy, good])
    assert (first["sae"], last["sae"], last["area"]) == ("good", "easy", pytest.approx(0.6))
    none = result("none", np.full(10, 0.5), layer=0.5)
    assert [row["shared"] for row in rank_saes([none, good, poor])] == [1, 1, 0]
    assert rank_saes([none])[0]["area"] is None


def test_the_front_has_a_point_for_each_sae():
    rng = np.random.default_rng(0)
    results = Results([result(n, 0.7 + rng.normal(size=10) * 0.01) for n in ("a", "b")])
    points = [row for mark in marks(draw_front(results)) for row in mark.rows if "k90" in row]
    assert {(row["sae"], row["k90"]) for row in points} == {("a", 5), ("b", 5)}
    with pytest.raises(BadInput, match="nothing to plot"):
        draw_front([])


def test_the_front_has_a_panel_for_each_site_in_the_order_of_the_model():
    sites = ["blocks.10.a", "blocks.9.a", "blocks.2.a", "blocks.2.b"]
    results = [result(site, np.full(10, 0.7), site=site) for site in sites]
    spec = draw_front(results).to_dict()
    assert spec["facet"]["sort"] == ["blocks.2.a", "blocks.2.b", "blocks.9.a", "blocks.10.a"]
    assert spec["columns"] == 2
    points = [row for mark in marks(draw_front(results)) for row in mark.rows if "k90" in row]
    assert {(row["sae"], row["panel"]) for row in points} == {(site, site) for site in sites}


def test_roles_are_compared_within_site_and_width():
    def saes(areas, *, role, units=8, site="a"):
        return [
            result(
                f"{role}{units}{site}{i}",
                np.full(10, 0.5 + 0.4 * x),
                role=role,
                units=units,
                site=site,
            )
            for i, x in enumerate(areas)
        ]

    results = [
        *saes([0.5, 0.7], role="trained"),
        *saes([0.4, 0.6, 0.7], role="untrained"),
        # A wide floor is above narrow trained SAEs, and below the wide one.
        *saes([0.95], role="trained", units=16),
        *saes([0.9], role="untrained", units=16),
        *saes([0.2], role="frozen decoder", units=32),
        *saes([0.9], role="trained", site="b"),
    ]
    found = {row["role"]: row for row in compare_roles(results)}
    assert list(found) == ["trained", "frozen decoder", "untrained"]
    assert {row["site"] for row in found.values()} == {"a"}  # site b has no floor
    assert (found["trained"]["saes"], found["trained"]["with_k90"]) == (3, 3)
    assert found["trained"]["area"] == pytest.approx(np.mean([0.5, 0.7, 0.95]))
    assert found["trained"]["area_sd"] == pytest.approx(np.std([0.5, 0.7, 0.95], ddof=1))
    assert "auc" not in found["trained"]
    # .5 exceeds one of three; .7 exceeds two and ties with one; .95 exceeds .9.
    assert found["untrained"]["auc"] == pytest.approx((1 + 2.5 + 1) / 7)
    assert found["untrained"]["pairs"] == 7
    assert (found["frozen decoder"]["auc"], found["frozen decoder"]["pairs"]) == (None, 0)
    assert compare_roles(saes([0.5], role="trained")) == []
    assert compare_roles([]) == []


def test_layer_and_features_of_one_question_share_splits():
    q = question()
    labels, test = q.columns
    assert len(labels) == 15
    assert (
        grouped_splits(LABELS.tolist(), q.groups, folds=5, repeats=3, seed=0).test.tolist()
        == test.tolist()
    )
    assert np.isnan(held_out_auc(np.zeros((1, N)), np.ones((1, N), bool), test[:1])).all()
