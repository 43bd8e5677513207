"""Probes end to end: scores against scikit-learn and loops, planted features, splits, presets."""

from dataclasses import replace

import numpy as np
import pytest
from probed_text import at_embedding, later, positions, probe_data_of, random_text, write_codes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from sklearn_probes import by_sklearn

from atlas.errors import BadActivations, BadInput, OutOfSpace
from atlas.progress import SILENT
from ingest.probe.control_task import control_positives, permuted
from ingest.probe.part_tables import ProbeRun
from ingest.probe.probe_data import ProbeData, natural, training
from ingest.probe.schedule import probe_all
from ingest.probe.settings import PRESETS, ProbeSettings
from ingest.probe.site_design import Counts, SiteDesign, root_mean_square
from ingest.probe.solver.design import Design

# Below 1e-5 the rounding of a float32 gradient decides whether the solver ends, and threads change that.
FAST = ProbeSettings(splits=("document",), controls=1, draws=50, tolerance=9e-4)


def probed(data, sites, settings=FAST, *, memory=1 << 30, on=None):
    return probe_all(
        data,
        sites,
        sae="toy",
        model="m",
        settings=settings,
        validated_on=on,
        memory=memory,
        progress=SILENT,
    )


def rows(result):
    """Return the edges of a result by feature index."""
    return {int(e["source"].split("/")[1]): e for e in result.table.to_pylist()}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Random features on random text: each a noisy function of the token; one is dead, one always on."""
    rng = np.random.default_rng(0)
    documents = random_text(rng)
    ids = np.concatenate(documents)
    vectors = rng.normal(size=(24, 5)) + 3
    rate = rng.random((24, 8)) ** 2
    dense = (rng.random((len(ids), 8)) < rate[ids]) * rng.lognormal(size=(len(ids), 8))
    dense[:, 6], dense[:, 7] = 0, 1
    data = probe_data_of(tmp_path_factory.mktemp("toy"), documents, dense)
    return data, documents, ids, dense, vectors


# ---------------------------------------------------------------- scores against loops


def best_by_key(key, y, *, of, on):
    """Return the balanced accuracy on some tokens of a table counted on others, by a loop."""
    shares = {}
    for k in np.unique(key[of]):
        here = key[of] == k
        shares[k] = (y[of][here].sum() / y[of].sum(), (~y[of])[here].sum() / (~y[of]).sum())
    predicted = np.array(
        [(np.sign(np.subtract(*shares[k])) + 1) / 2 if k in shares else 0.5 for k in key[on]]
    )
    return (predicted[y[on]].mean() + (1 - predicted[~y[on]]).mean()) / 2


@pytest.mark.parametrize("where", [at_embedding, later])
@pytest.mark.parametrize("split", ["document", "sample", "type"])
def test_scores_equal_scikit_learn_and_counting(toy, where, split):
    data, documents, ids, dense, vectors = toy
    settings = replace(FAST, splits=(split,))
    (result,) = probed(data, [where(data, vectors)], settings)
    found = rows(result)
    train = training(data, split, share=0.8, seed=0)
    document = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    position = np.concatenate([positions(len(d)) for d in documents])
    fresh = np.concatenate([positions(len(d)) == 1 for d in documents])
    bigram = np.where(fresh, -1, np.concatenate([[0], ids[:-1]])) * 1000 + ids
    assert set(found) == set(range(6))
    x = vectors[ids]
    for f, edge in found.items():
        y = dense[:, f] > 0
        fitted = by_sklearn(x, y, train, 1e-3)
        z = fitted.decision_function(x[~train])
        assert edge["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(y[~train], z > 0), abs=1e-9
        )
        assert edge["auroc"] == pytest.approx(roc_auc_score(y[~train], z), abs=1e-3)
        loss = np.logaddexp(0, np.where(y[~train], -z, z))
        wanted = (loss[y[~train]].mean() + loss[~y[~train]].mean()) / 2
        assert edge["loss"] == pytest.approx(wanted, abs=1e-4)
        assert edge["true_positives"] == (y[~train] & (z > 0)).sum()
        assert edge["false_positives"] == (~y[~train] & (z > 0)).sum()
        assert (edge["positives"], edge["train_positives"]) == (y[~train].sum(), y[train].sum())
        assert (edge["tokens"], edge["train_tokens"]) == ((~train).sum(), train.sum())
        for name, key in (("token", ids), ("position", position), ("bigram", bigram)):
            assert edge[f"{name}_table"] == pytest.approx(best_by_key(key, y, of=train, on=~train))
            assert edge[f"{name}_ceiling"] == pytest.approx(
                best_by_key(key, y, of=~train, on=~train)
            )
        assert edge["seen_share"] == pytest.approx(np.isin(ids[~train], ids[train]).mean())
        assert edge["balanced_accuracy"] <= edge["token_ceiling"]
        assert edge["train_balanced_accuracy"] <= edge["train_token_ceiling"]
        assert edge["converged"]
    assert result.left_out == {
        "never active": 1,
        "active on fewer than 10 tokens of a side": 0,
        "inactive on fewer than 10 tokens of a side": 1,
    }
    assert len(document) == len(data)


def test_vectors_are_scaled_by_one_number(toy):
    """At scale s, a penalty has the same effect as for vectors divided by s."""
    data, _, ids, dense, vectors = toy
    x = vectors[data.ids].astype(np.float32)
    scale = root_mean_square(x)
    assert scale == pytest.approx(np.sqrt((x.astype(float) ** 2).mean()))
    site = SiteDesign("e", Design(x, scale=scale), data.type, np.arange(len(x)), at_embedding=True)
    (result,) = probed(data, [site])
    train = training(data, "document", share=0.8, seed=0)
    y = dense[:, 0] > 0
    z = by_sklearn(vectors[ids] / scale, y, train, 1e-3).decision_function(vectors[ids] / scale)
    edge = rows(result)[0]
    assert edge["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(y[~train], z[~train] > 0)
    )


def test_controls_equal_scikit_learn_on_expected_counts(toy):
    data, _, _ids, _dense, vectors = toy
    (result,) = probed(data, [at_embedding(data, vectors)])
    (again,) = probed(data, [later(data, vectors)])
    train = training(data, "document", share=0.8, seed=0)
    sides = natural(train, data.occurrences(np.arange(6)), features=6)
    counts = sides.counts(data.type, len(data.ids))
    total = counts[0].occurrences + counts[1].occurrences
    expected = control_positives(*counts, permuted(total, draw=0, seed=0))
    x, seen = vectors[data.ids], counts[0].occurrences > 0
    for f in range(6):
        shares = []
        for side in (0, 1):
            on = expected[side].toarray()[:, f]
            off = counts[side].occurrences - on
            shares.append((on / on.sum(), off / off.sum()))
        two = np.concatenate([x, x])
        label = np.repeat([True, False], len(x))
        fitted = LogisticRegression(C=1 / 2e-3, tol=1e-10, max_iter=5000)
        fitted.fit(two, label, sample_weight=np.concatenate(shares[0]) / 2)
        predicted = (fitted.decision_function(x) > 0)[seen]
        on, off = (s[seen] / s[seen].sum() for s in shares[1])
        wanted = (on @ predicted + off @ ~predicted) / 2
        for found in (rows(result)[f], rows(again)[f]):
            assert found["control"] == pytest.approx(wanted, abs=1e-6)
            assert found["selectivity"] == pytest.approx(
                found["balanced_accuracy"] - wanted, abs=1e-6
            )


def test_shuffled_labels_score_at_chance(toy):
    data, *_, vectors = toy
    (result,) = probed(data, [at_embedding(data, vectors)], replace(FAST, controls=0))
    shuffled = [e["shuffled"] for e in rows(result).values()]
    assert abs(np.mean(shuffled) - 0.5) < 0.05
    assert all(e["control"] is None and e["selectivity"] is None for e in rows(result).values())


def test_regression_equals_ridge_and_means_by_token(toy):
    data, _, ids, dense, vectors = toy
    settings = replace(FAST, kinds=("activation",), tolerance=1e-7)
    train = training(data, "document", share=0.8, seed=0)
    x = vectors[ids]
    for site in (at_embedding(data, vectors), later(data, vectors)):
        (result,) = probed(data, [site], settings)
        for f, edge in rows(result).items():
            y = dense[:, f].astype(np.float32).astype(float)
            for only, of in (("", np.ones(len(y), dtype=bool)), ("_active", y > 0)):
                a, b = train & of, ~train & of
                predicted = Ridge(alpha=1e-3 * a.sum(), tol=1e-10).fit(x[a], y[a]).predict(x[b])
                assert edge[f"r2{only}"] == pytest.approx(r2_score(y[b], predicted), abs=1e-4)
                means = {t: y[a][ids[a] == t].mean() for t in np.unique(ids[a])}
                table = [means.get(t, y[a].mean()) for t in ids[b]]
                assert edge[f"r2{only}_token_table"] == pytest.approx(
                    r2_score(y[b], table), abs=1e-6
                )
                own = {t: y[b][ids[b] == t].mean() for t in np.unique(ids[b])}
                ceiling = r2_score(y[b], [own[t] for t in ids[b]])
                assert edge[f"r2{only}_token_ceiling"] == pytest.approx(ceiling, abs=1e-6)
            assert edge["r2"] <= edge["r2_token_ceiling"] + 1e-6
            assert edge["balanced_accuracy"] is None
            assert edge["verdict"] is None


# ---------------------------------------------------------------- planted features


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Features of known kind on an i.i.d. stream: token set, linear, previous token, position, mixed."""
    rng = np.random.default_rng(1)
    documents = random_text(rng, documents=240)
    ids = np.concatenate(documents)
    fresh = np.concatenate([positions(len(d)) == 1 for d in documents])
    position = np.concatenate([positions(len(d)) for d in documents])
    vectors = rng.normal(size=(24, 4))
    before = np.where(fresh, -1, np.concatenate([[0], ids[:-1]]))
    active = np.stack(
        [
            ids % 2 == 0,
            vectors[ids] @ np.array([1.0, -1, 0.5, 0]) > 0,
            np.isin(before, [1, 4, 7, 9]),
            np.isin(position, [3, 8]),
        ],
        axis=1,
    )
    data = probe_data_of(tmp_path_factory.mktemp("planted"), documents, active.astype(float))
    return data, ids, before, vectors


def test_planted_features_get_their_verdicts(planted):
    data, _, _, vectors = planted
    by_type, result = probed(
        data, [at_embedding(data, vectors)], replace(FAST, splits=("document", "type"), draws=200)
    )
    assert (by_type.run.split, result.run.split) == ("type", "document")
    found = rows(result)
    verdicts = [(found[f]["verdict"], found[f]["how"], found[f]["context_by"]) for f in range(4)]
    assert verdicts == [
        ("token", "lookup", None),
        ("token", "linear", None),
        ("context", None, "bigram"),
        ("context", None, "position"),
    ]
    assert found[0]["token_table"] == found[1]["token_table"] == 1
    assert not found[0]["generalises"]
    low = {f: e["low"] for f, e in rows(by_type).items()}
    assert all(found[f]["generalises"] == (low[f] >= 0.85) for f in low)
    assert {e["verdict"] for e in rows(by_type).values()} == {
        None
    }  # no id was seen in training, so the table gives no verdict


def test_previous_token_is_at_chance_in_an_iid_stream(planted):
    data, _, _, vectors = planted
    (result,) = probed(data, [at_embedding(data, vectors)], replace(FAST, draws=200))
    edge = rows(result)[2]
    assert edge["low"] < 0.5 < edge["high"]
    assert edge["high"] - edge["low"] < 0.1


def test_a_later_site_can_exceed_the_token_ceiling(planted):
    """Where the vectors encode the previous token, they predict a feature of it."""
    data, ids, before, vectors = planted
    x = np.concatenate([vectors[ids], np.eye(25)[before]], axis=1).astype(np.float32)
    site = SiteDesign("later", Design(x), np.arange(len(data)), data.type, at_embedding=False)
    (result,) = probed(data, [site], replace(FAST, draws=200))
    edge = rows(result)[2]
    assert edge["verdict"] == "beyond token"
    assert edge["balanced_accuracy"] > 0.99 > edge["token_ceiling"]


def test_truth_8_one_hot_embeddings_without_penalty_equal_the_token_table(toy):
    """Truth 8 of the design."""
    data, *_ = toy
    settings = replace(FAST, penalty=1e-7, iterations=2000, tolerance=1e-8)
    (result,) = probed(data, [at_embedding(data, np.eye(24))], settings)
    train = training(data, "document", share=0.8, seed=0)
    assert set(data.type[~train]) <= set(data.type[train])  # all ids are seen
    for edge in rows(result).values():
        assert edge["balanced_accuracy"] == edge["token_table"]


# ---------------------------------------------------------------- memory, settings


@pytest.mark.parametrize("kinds", [("active",), ("activation",)])
def test_scores_do_not_depend_on_the_memory(toy, kinds):
    """Little memory means small blocks and more passes; nothing else changes."""
    data, *_, vectors = toy
    settings = replace(FAST, kinds=kinds, tolerance=1e-7)
    (expected,) = probed(data, [at_embedding(data, vectors)], settings)
    for memory in (1 << 30, 1 << 26, 1 << 23):
        try:
            (found,) = probed(data, [at_embedding(data, vectors)], settings, memory=memory)
        except OutOfSpace:
            assert memory < 1 << 26
            continue
        for f, edge in rows(found).items():
            for name, value in rows(expected)[f].items():
                if isinstance(value, float):
                    assert edge[name] == pytest.approx(value, abs=1e-4), name
                elif name != "iterations":
                    assert edge[name] == value, name


def test_too_little_memory_is_an_error(toy):
    data, *_, vectors = toy
    with pytest.raises(OutOfSpace, match=r"raise `memory`, or use fewer `tokens`"):
        probed(data, [at_embedding(data, vectors)], memory=1000)


def test_the_seed_determines_edges_and_samples(toy):
    data, *_, vectors = toy
    site = at_embedding(data, vectors)
    tables = [probed(data, [site], replace(FAST, seed=s))[0].table for s in (0, 0, 1)]
    assert tables[0].equals(tables[1])
    assert not tables[0]["positives"].equals(tables[2]["positives"])


def test_requested_features_and_tokens_are_used(toy):
    data, _documents, _, _dense, vectors = toy
    (result,) = probed(data, [at_embedding(data, vectors)], replace(FAST, features=3))
    excluded = sum(result.left_out.values())
    assert result.table.num_rows + excluded == 3
    assert "features=3" in result.run.name


def test_first_tokens_only(tmp_path, toy):
    _, documents, _ids, dense, vectors = toy
    data = probe_data_of(tmp_path, documents, dense, first=1001)
    assert len(data) == 1001
    (result,) = probed(data, [at_embedding(data, vectors)])
    for f, edge in rows(result).items():
        assert edge["positives"] + edge["train_positives"] == (dense[:1001, f] > 0).sum()


def test_threshold_defines_active_tokens(toy):
    data, _, _, dense, vectors = toy
    (result,) = probed(data, [at_embedding(data, vectors)], replace(FAST, threshold=1.0))
    for f, edge in rows(result).items():
        assert (
            edge["positives"] + edge["train_positives"]
            == (dense[:, f].astype(np.float32) > 1).sum()
        )
        assert edge["threshold"] == 1.0


def test_probes_are_validated_on_another_text(tmp_path, toy):
    _data, documents, ids, dense, vectors = toy
    rng = np.random.default_rng(5)
    others = random_text(rng, documents=30, vocabulary=30)  # ids missing from the first text
    more = np.concatenate(others)
    codes = (rng.random((len(more), 8)) < 0.3) * 1.0
    both = ProbeData(
        [write_codes(tmp_path / "a", documents, dense), write_codes(tmp_path / "b", others, codes)],
        d_sae=8,
    )
    wide = np.concatenate([vectors, rng.normal(size=(6, 5))])
    (result,) = probed(both, [at_embedding(both, wide)], on=("other", "123"))
    assert result.run.name == "corpus/active/l2=0.001/on=other/tolerance=0.0009"
    assert result.documents == len(others)
    every = np.concatenate([ids, more])
    train = np.arange(len(every)) < len(ids)
    for f, edge in rows(result).items():
        y = np.concatenate([dense[:, f] > 0, codes[:, f] > 0])
        assert (edge["train_tokens"], edge["tokens"]) == (len(ids), len(more))
        z = by_sklearn(wide[every], y, train, 1e-3).decision_function(wide[more])
        assert edge["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(y[~train], z > 0), abs=1e-9
        )
        assert edge["seen_share"] == pytest.approx(np.isin(more, ids).mean())


# ---------------------------------------------------------------- names of runs, presets


def test_names_of_runs_differ_where_probes_differ():
    plain = ProbeSettings()
    others = [
        replace(plain, **{name: value})
        for name, value in (
            ("threshold", 0.1234567),
            ("threshold", 0.1234568),
            ("tau", 0.5),
            ("iterations", 1),
            ("min_positives", 1),
            ("penalty", 0.1),
            ("balance", "subsample"),
            ("seed", 1),
            ("tokens", 5),
            ("features", 5),
            ("train_share", 0.5),
            ("delta", 0.1),
            ("scale", False),
            ("tolerance", 0.1),
            ("c", 3.0),
        )
    ]
    names = [ProbeRun("document", "active", s).name for s in (plain, *others)]
    assert len(set(names)) == len(names)
    assert names[0] == "document/active/l2=0.001"


@pytest.mark.parametrize("preset", [FAST, replace(PRESETS["mats"], features=None, controls=1)])
def test_results_of_a_feature_do_not_depend_on_other_features(toy, preset):
    """Each feature has its own draws of labels, tokens and controls."""
    data, *_, vectors = toy
    few = rows(probed(data, [at_embedding(data, vectors)], replace(preset, features=4))[0])
    complete = rows(probed(data, [at_embedding(data, vectors)], preset)[0])
    assert few
    for f, edge in few.items():
        for name in ("balanced_accuracy", "token_table", "control", "shuffled", "low"):
            assert edge[name] == pytest.approx(complete[f][name], abs=1e-4), name


def test_mats_preset_draws_as_the_original_study_did(toy):
    data, _, ids, dense, vectors = toy
    settings = replace(PRESETS["mats"], features=None, controls=1, draws=20)
    (result,) = probed(data, [at_embedding(data, vectors)], settings)
    assert (
        result.run.name
        == "sample/active/C=10/above=0.1/first=10240/iterations=2000/subsample/unscaled"
    )
    for f, edge in rows(result).items():
        active = int((dense[:, f].astype(np.float32) > 0.1).sum())
        n = int(0.8 * min(active, len(ids) - active))
        assert (edge["train_positives"], edge["train_tokens"]) == (n, 2 * n)
        assert edge["positives"] == active - n
        assert edge["tokens"] == len(ids) - 2 * n
        assert edge["penalty"] == pytest.approx(1 / (2 * 10 * 2 * n))
        assert edge["low"] is None
        assert edge["verdict"] is None
        assert edge["balance"] == "subsample"


def test_subsampled_documents_are_validated_on_their_own_side(toy):
    data, _, _ids, dense, vectors = toy
    settings = replace(FAST, balance="subsample")
    (result,) = probed(data, [at_embedding(data, vectors)], settings)
    train = training(data, "document", share=0.8, seed=0)
    for f, edge in rows(result).items():
        y = dense[:, f] > 0
        n = min(y[train].sum(), (~y[train]).sum())
        assert (edge["train_positives"], edge["train_tokens"]) == (n, 2 * n)
        assert (edge["positives"], edge["tokens"]) == (y[~train].sum(), (~train).sum())


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize("split", ["document", "sample", "type"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.99])
def test_no_unit_is_on_both_sides(toy, split, share):
    data, *_ = toy
    train = training(data, split, share=share, seed=3)
    unit = {"document": data.document, "sample": np.arange(len(data)), "type": data.type}[split]
    assert not set(unit[train]) & set(unit[~train])
    assert train.any()
    assert (~train).any()
    units = len(set(unit[train])) / len(set(unit))
    assert abs(units - share) < 0.1 or split == "document"


def test_one_unit_cannot_be_split(tmp_path):
    data = probe_data_of(tmp_path, [np.zeros(30, dtype=int)], np.ones((30, 2)))
    for split, other in (("document", "sample"), ("type", "document")):
        with pytest.raises(
            BadInput, match=rf"has 1 .* by {split} needs at least 2: choose `splits=\('{other}',\)`"
        ):
            training(data, split, share=0.8, seed=0)
    assert training(data, "sample", share=0.8, seed=0).sum() == 24


def test_nan_in_the_vectors_is_an_error(toy):
    data, *_, vectors = toy
    broken = vectors.copy()
    broken[3, 1] = np.nan
    with pytest.raises(BadActivations, match="NaN or Inf"):
        at_embedding(data, broken)


@pytest.mark.parametrize(
    "wrong",
    [
        {"penalty": 0.0},
        {"penalty": float("nan")},
        {"train_share": 1.0},
        {"tau": 0.2},
        {"min_positives": 0},
        {"splits": ()},
        {"threshold": -1.0},
        {"threshold": float("nan")},
        {"tokens": 0},
        {"c": -1.0},
        {"controls": -1},
    ],
)
def test_invalid_settings_are_rejected(wrong):
    with pytest.raises(BadInput):
        ProbeSettings(**wrong)


def test_counts_of_sides_add_up(toy):
    data, _, ids, dense, _ = toy
    train = training(data, "document", share=0.8, seed=0)
    sides = natural(train, data.occurrences(np.array([2, 5])), features=2)
    one, other = sides.counts(data.type, len(data.ids))
    assert isinstance(one, Counts)
    for column, f in enumerate((2, 5)):
        for counts, side in ((one, train), (other, ~train)):
            wanted = [((dense[:, f] > 0) & (ids == t) & side).sum() for t in data.ids]
            assert counts.positives.toarray()[:, column].tolist() == wanted
