"""Marks of interpretability against loops and scikit-learn, on random, planted and degenerate codes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from drawn_charts import check_chart
from probed_text import probe_data_of, random_text
from scipy.stats import entropy
from sklearn.metrics import balanced_accuracy_score

from analysis.interpretability.marks import TextTokens, described, marks, partners
from analysis.interpretability.settings import InterpretabilitySettings
from analysis.interpretability.study import interpretability, measure_interpretability
from atlas.errors import BadInput
from ingest.probe.probe_data import Occurrences, training

SETTINGS = InterpretabilitySettings(examples=12, words=3, min_active=5, seed=4)


@pytest.fixture(scope="module")
def random_case(tmp_path_factory):
    rng = np.random.default_rng(0)
    documents = random_text(rng, documents=60, length=30)
    ids = np.concatenate(documents)
    rate = rng.random((24, 7)) ** 3
    on = rng.random((len(ids), 7)) < rate[ids]
    dense = on * np.round(rng.lognormal(size=on.shape), 1)  # with ties
    data = probe_data_of(tmp_path_factory.mktemp("random"), documents, dense)
    return data, ids, dense


def halves(data, seed=4):
    return training(data, "document", share=0.5, seed=seed)


def by_hand(ids, column, first, *, examples, words):
    """The marks of one feature, token by token; also its description and its top ids."""
    active = [t for t in range(len(ids)) if column[t] > 0]
    ranked = sorted(active, key=lambda t: (-column[t], t))
    chosen = [int(ids[t]) for t in ranked if first[t]][:examples]
    counts = Counter(chosen)
    description = sorted(counts, key=lambda i: (-counts[i], chosen.index(i)))[:words]
    y = column > 0
    shares = np.array(list(Counter(ids[active].tolist()).values())) / len(active)
    context = []
    for t in active:
        if not first[t]:
            same = first & (ids == ids[t]) if (first & (ids == ids[t])).any() else first
            context.append(1 - y[same].mean())
    return {
        "description": description,
        "ranked": ranked,
        "top_share": shares.max(),
        "entropy": entropy(shares, base=2),
        "context_dependence": np.mean(context),
        "detection": balanced_accuracy_score(y[~first], np.isin(ids[~first], description)),
        "positives": y[~first].sum(),
        "active_tokens": len(active),
    }


def test_marks_equal_a_loop_over_tokens(random_case):
    data, ids, dense = random_case
    first = halves(data)
    features = np.arange(7)
    found = interpretability(data, SETTINGS, features=features)
    expected = [by_hand(ids, dense[:, f], first, examples=12, words=3) for f in features]
    for f, of in enumerate(expected):
        for name in set(of) - {"description", "ranked"}:
            assert found[name][f] == pytest.approx(of[name]), name
    order = sorted(features, key=lambda f: expected[f]["active_tokens"])
    for f, after in zip(order, [*order[1:], order[0]], strict=True):
        y = dense[~first, f] > 0
        predicted = np.isin(ids[~first], expected[after]["description"])
        assert found["detection_control"][f] == pytest.approx(balanced_accuracy_score(y, predicted))


def test_examples_are_the_highest_and_a_sample_of_the_middle_fifth(random_case):
    data, ids, dense = random_case
    text = TextTokens(data.type, halves(data))
    features = np.arange(7)
    found = described(
        data.occurrences(features), text, features=features, examples=12, words=3, seed=4
    )
    again = described(
        data.occurrences(features[3:]), text, features=features[3:], examples=12, words=3, seed=4
    )
    for f in features:
        of = by_hand(ids, dense[:, f], text.first, examples=12, words=3)
        assert [data.ids[i] for i in found[f].description] == of["description"]
        number = len(found[f].top)
        assert [data.ids[i] for i in found[f].top] == ids[of["ranked"][:number]].tolist()
        n = len(of["ranked"])
        fifth = Counter(ids[of["ranked"][2 * n // 5 : -(-3 * n // 5)]].tolist())
        assert number == min(12, sum(fifth.values())) == len(found[f].middle)
        assert Counter(data.ids[found[f].middle].tolist()) <= fifth
        if f >= 3:  # the sample does not depend on the other features
            assert (again[f - 3].middle == found[f].middle).all()


def test_agreement_is_the_overlap_of_the_examples_of_a_feature_and_of_another(random_case):
    data, _, _ = random_case
    text = TextTokens(data.type, halves(data))
    features = np.arange(7)
    active = data.occurrences(features)
    own = described(active, text, features=features, examples=12, words=3, seed=4)
    others = own[::-1]
    found = marks(active, text, own, others=others)

    def overlap(one, other):
        both = [Counter(x.tolist()) for x in (one, other)]
        return sum(min(both[0][i] / len(one), both[1][i] / len(other)) for i in both[0] & both[1])

    for f in features:
        assert found["agreement"][f] == pytest.approx(overlap(own[f].top, own[f].middle))
        assert found["agreement_control"][f] == pytest.approx(overlap(own[f].top, others[f].middle))


def test_planted_token_context_and_drifting_features(tmp_path):
    """A feature of one id; one of any id that follows one id; one whose ids differ by activation."""
    rng = np.random.default_rng(1)
    documents = random_text(rng, documents=200, length=40, vocabulary=20, zipf=0.0)
    ids = np.concatenate(documents)
    after = np.concatenate([[False], ids[:-1] == 3])
    drifting = np.select([ids == 7, ids == 8], [5 + rng.random(len(ids)), rng.random(len(ids)) + 1])
    dense = np.stack([(ids == 3) * 1.0, after * rng.random(len(ids)), drifting], axis=1)
    data = probe_data_of(tmp_path, documents, dense)
    settings = replace(SETTINGS, words=1, examples=100)
    token, context, drift = (
        dict(zip(found, row, strict=True))
        for found in [interpretability(data, settings, features=np.arange(3))]
        for row in zip(*found.values(), strict=True)
    )
    assert token["detection"] == 1
    assert (token["top_share"], token["entropy"], token["agreement"]) == (1, 0, 1)
    assert token["context_dependence"] == 0
    assert token["detection_control"] < 0.55
    assert context["detection"] == pytest.approx(0.5, abs=0.03)
    assert context["context_dependence"] == pytest.approx(0.95, abs=0.02)
    assert drift["context_dependence"] == 0
    assert drift["detection"] == pytest.approx(0.75, abs=0.03)
    assert 0.2 < drift["agreement"] < 0.8 < token["agreement"]


def test_shuffled_codes_are_not_detected(tmp_path):
    rng = np.random.default_rng(2)
    documents = random_text(rng, documents=100, length=40)
    dense = (rng.random((4000, 6)) < 0.05) * rng.random((4000, 6))
    data = probe_data_of(tmp_path, documents, dense)
    found = interpretability(data, replace(SETTINGS, examples=50), features=np.arange(6))
    assert found["detection"].mean() == pytest.approx(0.5, abs=0.03)
    assert found["detection"].mean() == pytest.approx(found["detection_control"].mean(), abs=0.03)
    assert found["agreement"].mean() == pytest.approx(found["agreement_control"].mean(), abs=0.1)


def test_degenerate_features(tmp_path):
    documents = [np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([5])]
    dense = np.zeros((7, 4))
    dense[:, 1] = 1  # always active
    dense[0, 2] = 1  # one token
    data = probe_data_of(tmp_path, documents, dense)
    found = interpretability(data, SETTINGS, features=np.arange(4))
    assert np.isnan(found["detection"][[0, 1]]).all()
    assert np.isnan([found["top_share"][0], found["agreement"][0]]).all()
    assert found["active_tokens"].tolist() == [0, 7, 1, 0]
    assert found["top_share"][2] == 1
    assert found["entropy"][2] == 0
    assert interpretability(data, SETTINGS, features=np.arange(0)) == {}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([], []), ([5], [0]), ([5, 2], [1, 0]), ([3, 9, 4], [2, 0, 1]), ([1] * 3, [1, 2, 0])],
)
def test_partners_are_the_next_more_frequent_features(counts, expected):
    assert partners(np.array(counts, dtype=np.int64)).tolist() == expected


def test_settings_are_checked():
    for bad in ({"examples": 0}, {"words": 0}, {"min_active": 0}, {"seed": -1}):
        with pytest.raises(BadInput):
            InterpretabilitySettings(**bad)


# ---------------------------------------------------------------- an atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    from small_ingest import model, named, run, texts, topk

    path = tmp_path_factory.mktemp("atlas") / "a.atlas"
    run(path, model(), [named(topk(), "top")], texts(), match=None)
    return path


def test_the_study_stores_marks_and_its_verdict_has_the_control(atlas):
    (result,) = measure_interpretability(
        atlas, "all", settings=InterpretabilitySettings(min_active=5, examples=10)
    )
    table = result.to_pandas("marks")
    assert len(table) == result["features"] > 3
    assert result["features"] + result["excluded"] == 40
    assert result["detection"] == pytest.approx(table["detection"].mean())
    assert f"{result['detection_control']:.3f} with the description of another" in result.verdict[0]
    share = f"{table['context_dependence'].mean():.0%}"
    assert (
        f"inactive on {share} of the tokens with the id of an active token (mean over"
        in " ".join(result.verdict)
    )
    assert check_chart(result.plot()).to_dict()["data"]


def test_the_weights_of_context_dependence_are_active_tokens_and_not_occurrences():
    """Id 0 always activates the feature (1 token), id 1 in 1 of 99 tokens: 49%, and not 98%."""
    ids = np.array([0] + [1] * 99)
    text = TextTokens(np.tile(ids, 2), np.repeat([True, False], 100))
    token = np.array([0, 1, 100, 101])
    active = Occurrences(token, np.zeros(4, dtype=np.int64), np.ones(4, dtype=np.float32))
    features = np.array([0])
    own = described(active, text, features=features, examples=2, words=1, seed=0)
    found = marks(active, text, own, others=own)
    assert found["context_dependence"][0] == pytest.approx(1 - (1 + 1 / 99) / 2)


def test_marks_are_properties_of_features_in_the_graph(atlas):
    from atlas.api import Atlas

    settings = InterpretabilitySettings(min_active=5, examples=10)
    (result,) = measure_interpretability(atlas, "all", settings=settings)
    rows = {f"top/{row['feature']}": row for row in result.table("marks").to_pylist()}
    with Atlas.open(str(atlas)) as opened:
        stored = {f["id"]: f for f in opened.table("Feature").to_pylist()}
        best = opened.ask("features_described_by_tokens", sae="top", limit=1000)
    for mark, name in (
        ("top_share", "top_token_share"),
        ("entropy", "token_entropy"),
        ("context_dependence", "context_dependence"),
        ("agreement", "example_agreement"),
        ("agreement_control", "example_agreement_control"),
        ("detection", "detection"),
        ("detection_control", "detection_control"),
    ):
        for id_, feature in stored.items():
            expected = rows[id_][mark] if id_ in rows else None
            assert feature[name] == (None if expected is None else pytest.approx(expected)), name
    assert set(best["feature"].to_pylist()) == set(rows)


def test_an_sae_without_eligible_features_has_a_result(atlas):
    (result,) = measure_interpretability(
        atlas, "all", settings=InterpretabilitySettings(min_active=10**6)
    )
    assert result["features"] == 0
    assert "no feature" in result.verdict[0]
    with pytest.raises(BadInput, match="min_active"):
        result.plot()
