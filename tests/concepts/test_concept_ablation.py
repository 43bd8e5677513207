"""The causal check of concepts: edits by hand, planted features, folds, random features, study and command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from circuit_model import FIRST, SECOND, WIDTH, Circuit, CircuitConfig, sae_of
from click.testing import CliRunner
from drawn_charts import check_chart, marks
from random_models import WORDS, random_model, small_tokenizer
from recording_progress import RecordingProgress
from scipy.stats import entropy
from sklearn.feature_selection import f_classif
from sklearn.metrics import roc_auc_score
from small_ingest import texts, topk

from analysis import AblationSettings, ConceptSettings, ablate_concepts, read_words
from analysis.concepts.causal.measure import (
    NEAR,
    Effects,
    LaterProbe,
    TestedWords,
    ablation_effects,
    equal_frequency,
    fit_later,
)
from analysis.concepts.causal.predictions import (
    changed_predictions,
    first_tokens,
    neutral_sentences,
)
from analysis.concepts.causal.study import other_words
from analysis.concepts.causal.tables import SUMMARY, add_q, measured_rows, summary_row, verdict_of
from analysis.concepts.causal.word_runs import Ablated, read_word_runs
from analysis.concepts.probing.splits import grouped_splits
from analysis.concepts.units.observations import live_columns
from analysis.concepts.words.contexts import WordContext
from atlas.cli.main import command
from atlas.errors import BadInput
from atlas.progress import SILENT
from ingest import ingest
from ingest.model.feature_edits import FeatureEdits, ablate
from ingest.model.next_token import NextTokenModel
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.autoencoder import open_sae
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, special_ids

LAYOUT = ContextSettings(16, prepend_bos=True)
TOKENIZER = small_tokenizer()


def single_tokens():
    """Return the texts that are one token each."""
    texts_of = [TOKENIZER.decode([i]) for i in range(3, 96)]
    encoded = [TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in texts_of]
    return [
        (i + 3, t) for i, (t, e) in enumerate(zip(texts_of, encoded, strict=True)) if e == [i + 3]
    ]


def planted(*, copies=1, features=8, seed=0):
    """Return a model whose first ``copies`` features carry a class, and feature 7 another attribute.

    The second block also writes feature 0 to dimension 60 of the stream.
    """
    torch.manual_seed(seed)
    model = Circuit(CircuitConfig(vocab_size=96)).eval().requires_grad_(False)
    for block in model.layers:
        for parameter in block.parameters():
            parameter.zero_()
    model.layers[1].into.weight[0, 0] = model.layers[1].out.weight[60, 0] = 1.0
    model.lm_head.weight.zero_()
    model.embed.weight.zero_()
    number = torch.arange(96)
    strength = 0.5 + torch.rand(96, features)
    on = torch.rand(96, features) < 0.5
    on[:, :copies] = (number % 2 == 1)[:, None]
    on[:, 7] = number // 2 % 2 == 1
    model.embed.weight[:, :features] = on * strength
    return model


def runs_of(model, sae, contexts, *, hook=SECOND, pool="last"):
    complete = NextTokenModel("small", model, special_ids(TOKENIZER))
    upper = UpperBlocks(complete, sae.info.hook)
    found = read_word_runs(
        upper,
        sae,
        contexts,
        tokenizer=TOKENIZER,
        layout=LAYOUT,
        batch_tokens=64,
        hook=hook,
        pool=pool,
    )
    return found, complete


def words_of(labels, *, repeats=2, folds=5):
    rows = np.arange(len(next(iter(labels.values()))))
    strata = ["".join(str(int(own[i])) for own in labels.values()) for i in rows]
    splits = grouped_splits(strata, rows, folds=folds, repeats=repeats, seed=0)
    return TestedWords(rows, rows, splits, labels)


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_ablations_equal_the_edits_of_the_model(pool):
    """``FeatureEdits`` change every token of a context; here contexts consist of the word alone."""
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(20)]
    sae = open_sae(topk(), name="top")
    contexts = [WordContext(i, w, 0, len(w)) for i, w in enumerate(words)]
    last = "blocks.2.hook_resid_post"
    runs, complete = runs_of(random_model("llama"), sae, contexts, hook=last, pool=pool)
    some, sets = np.array([1, 4, 5, 11, 19]), [np.array([3, 8]), np.array([0]), np.arange(40)]
    changed = 0
    for features, found in zip(sets, runs.ablated(some, sets), strict=True):
        for row, i in enumerate(some):
            ids = TOKENIZER(words[i], add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[TOKENIZER.bos_token_id, *ids]])
            mask = torch.ones_like(ids)
            edit = FeatureEdits(sae, [ablate(int(f)) for f in features])
            edit.check_changed = lambda since: None  # a word may have no active feature of the set
            _, read = complete.run(ids, mask, hooks=[last], edits=[edit])
            _, before = complete.run(ids, mask, hooks=[last])
            expected, clean = (x[last][0, 1:].double().numpy() for x in (read, before))
            changed += not np.array_equal(expected, clean)
            expected = expected[-1] if pool == "last" else expected.mean(axis=0)
            assert found.later[row] == pytest.approx(expected, abs=1e-4)
        assert found.size.max() > 0
        assert not found.active[found.size == 0].any()
    assert changed > 5


def test_divergences_equal_those_of_the_edited_model():
    """Contexts of the word alone: the edits of the model change the same tokens."""
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(12)]
    sae = open_sae(topk(), name="top")
    contexts = [WordContext(i, w, 0, len(w)) for i, w in enumerate(words)]
    runs, complete = runs_of(random_model("llama"), sae, contexts, hook="blocks.2.hook_resid_post")
    some, sets = np.array([1, 4, 5, 11]), [np.array([3, 8]), np.arange(40)]
    found = runs.divergences(some, sets)
    for features, value in zip(sets, found, strict=True):
        sums, tokens = 0.0, 0
        for i in some:
            ids = TOKENIZER(words[i], add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[TOKENIZER.bos_token_id, *ids]])
            mask = torch.ones_like(ids)
            edit = FeatureEdits(sae, [ablate(int(f)) for f in features])
            edit.check_changed = lambda since: None
            p, q = (
                complete.logits(ids, mask, edits=edits)[0, 1:].double().softmax(-1).numpy()
                for edits in ([], [edit])
            )
            sums += sum(entropy(a, b) for a, b in zip(p, q, strict=True))
            tokens += len(p)
        assert value == pytest.approx(sums / tokens, rel=1e-3, abs=1e-7)
    assert found[1] > 0
    assert runs.divergences(some, [np.array([], np.int64)]).tolist() == [0.0]
    assert np.isnan(runs.divergences(np.array([], np.int64), sets)).all()


def test_the_change_of_predictions_is_that_of_the_best_features_on_all_words():
    """The head reads the feature of the class only, so random features change no prediction."""
    model = planted()
    model.lm_head.weight[:, 0] = torch.linspace(-3, 3, 96)
    tokens = single_tokens()
    contexts = [WordContext(i, text, 0, len(text)) for i, (_, text) in enumerate(tokens)]
    sae = open_sae(sae_of(FIRST, torch.eye(WIDTH)[:8]), name="a")
    runs, _ = runs_of(model, sae, contexts)
    labels = np.array([i % 2 == 1 for i, _ in tokens])
    words = words_of({"class": labels})
    odd = np.array([i for i, (number, _) in enumerate(tokens) if number % 2])
    neutral = runs_of(model, sae, [contexts[i] for i in odd])[0]
    settings = AblationSettings(ablated=(1,), neutral_tokens=20)
    ((k, row),) = changed_predictions(
        runs,
        neutral,
        words,
        labels=labels,
        features=live_columns(runs.codes()),
        settings=settings,
        seed=0,
    )
    assert k == 1
    assert (row["words_tokens"], row["text_tokens"]) == (len(tokens), 20)
    assert row["words_kl"] == pytest.approx(runs.divergences(words.rows, [np.array([0])])[0])
    assert row["text_kl"] == pytest.approx(neutral.divergences(np.arange(20), [np.array([0])])[0])
    assert row["text_kl"] > row["words_kl"] > 0.05  # half of the words have the feature
    assert row["random_words_kl"] == pytest.approx(0, abs=1e-6)
    # Seven others exist, so p is 1 / 8 at least.
    assert 1 / 8 <= row["words_kl_p"] <= 1 / 3
    assert len(first_tokens(neutral, 3)) == 3


def test_neutral_sentences_have_no_word_of_the_set(tmp_path):
    documents = ["A cat ran. The dog sat!\nHe said: Cats are here. CAT", "One category. Two."]
    corpus = Corpus.gather(documents, tmp_path / "corpus.parquet")
    found = neutral_sentences(corpus, ["cat"], tokens=1000, seed=0)
    assert [one.text for one in found] == [
        "The dog sat!",
        "He said: Cats are here.",
        "One category.",
        "Two.",
    ]
    assert [(one.start, one.end) for one in found] == [(0, len(one.text)) for one in found]


def test_only_tokens_of_the_word_are_ablated():
    sae = open_sae(sae_of(FIRST, torch.eye(WIDTH)[:8]), name="a")
    text = "cat dog"
    runs, _ = runs_of(planted(), sae, [WordContext(0, text, 4, 7)])
    (found,) = runs.ablated(np.array([0]), [np.arange(8)])
    assert found.later[0] == pytest.approx(np.zeros(WIDTH), abs=1e-6)
    assert found.size == pytest.approx(1)
    assert found.active.all()
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert len(runs.owner) < len(ids)


def effects(model, labels, *, ablated=(1, 2), sets=19, features=8):
    tokens = single_tokens()
    contexts = [WordContext(i, text, 0, len(text)) for i, (_, text) in enumerate(tokens)]
    number = np.array([i for i, _ in tokens])
    own = {name: np.asarray(make(number)) for name, make in labels.items()}
    sae = open_sae(sae_of(FIRST, torch.eye(WIDTH)[:features]), name="a")
    runs, _ = runs_of(model, sae, contexts)
    words = words_of(own)
    probes = fit_later(words, runs.clean(), seed=0)
    settings = AblationSettings(ablated=ablated, random_sets=sets)
    found = ablation_effects(
        runs,
        next(iter(own)),
        words,
        features=live_columns(runs.codes()),
        probes=probes,
        settings=settings,
        seed=0,
        stage=SILENT.stage("", total=1, unit="splits").__enter__(),
    )
    return {e.k: e for e in found}, probes


LABELS = {"class": lambda n: n % 2 == 1, "other": lambda n: n // 2 % 2 == 1}


def test_ablating_a_planted_feature_removes_only_its_concept():
    found, probes = effects(planted(features=32), LABELS, features=32, sets=99)
    row = summary_row("class", found[1], probes)
    add_q([row])
    assert row["q"] == row["p"]
    assert row["clean_auc"] > 0.98
    assert row["clean_auc"] - row["fall"] == pytest.approx(0.5, abs=0.1)
    assert abs(row["random_fall"]) < 0.03
    # Of 99 sets of one feature, only 20 differ from it and from each other in a split.
    assert 1 / 32 <= row["p"] <= 1 / (1 + NEAR)
    assert abs(row["others_fall"]) < 0.05
    assert row["most_affected"] == "other"
    assert row["specificity_low"] > 0.3
    assert abs(row["direction_fall"]) < 0.1
    assert row["direction_p"] == 1 / 20
    assert 0 < row["others_active_share"] < 1
    assert row["separation_lost"] == pytest.approx(1, abs=0.1)
    assert row["active_share"] == pytest.approx(row["random_active_share"], abs=0.15)
    measured = list(measured_rows("class", found[1], probes))
    sentences = verdict_of("a", SECOND, [row], measured=measured, same=False)
    assert "for this concept more than for others" in sentences[0]
    assert not any("share many" in one for one in sentences)  # more than 5 others are drawn from
    sentences = verdict_of("a", SECOND, [row], measured=measured, same=True)
    assert "not what later blocks" in sentences[-1]


def test_a_concept_of_two_features_is_removed_by_both_together():
    found, probes = effects(planted(copies=2), LABELS)
    one, both = (summary_row("class", found[k], probes) for k in (1, 2))
    assert one["fall"] < 0.1
    assert both["clean_auc"] - both["fall"] == pytest.approx(0.5, abs=0.1)
    assert 0.2 < one["separation_lost"] < 0.8


def test_labels_without_any_feature_have_no_effect():
    rng = np.random.default_rng(1)
    random = dict(zip(range(96), rng.random(96) < 0.5, strict=True))
    labels = {"class": lambda n: [random[i] for i in n], "other": LABELS["other"]}
    found, probes = effects(planted(), labels)
    row = summary_row("class", found[1], probes)
    add_q([row])
    assert abs(row["fall"]) < 0.15
    measured = list(measured_rows("class", found[1], probes))
    (sentence,) = verdict_of("a", SECOND, [row], measured=measured, same=False)
    assert "nothing can be lost" in sentence


def planted_effects(falls, *, directions=(0.0,)):
    """Return effects with exact falls, (concepts, 1 + random sets), in six equal splits, and the probes."""
    rng = np.random.default_rng(0)
    labels = {f"c{i}": np.arange(60) % 2 == 0 for i in range(len(falls))}
    words = words_of(labels, repeats=1, folds=6)
    zero, splits = np.zeros((6, 2)), len(words.splits.test)
    clean = 0.9 + 1e-4 * rng.standard_normal((len(falls), splits))
    probes = [
        LaterProbe(name, words, zero, zero[0], zero[:, 0], own, np.ones(splits))
        for name, own in zip(labels, clean, strict=True)
    ]
    every = np.array([[*row, *directions] for row in falls])[:, :, None]
    noise = 1e-4 * rng.standard_normal((*every.shape[:2], splits))
    sets = len(falls[0])
    shape = every.shape[1], splits
    return Effects(
        1,
        40,
        np.arange(1, sets),
        np.arange(sets, sets + len(directions)),
        tuple(labels),
        clean[:, None] - every - noise,
        np.ones((len(falls), *shape)),
        np.full((len(falls), *shape), 0.25),
        np.full(shape, 0.1),
        np.full(shape, 0.5),
    ), probes


MANY = (0.0,) * 19


@pytest.mark.parametrize(
    ("falls", "directions", "specificity", "sentence"),
    [
        # The other concept falls as much under random features, so its excess is 0.
        ([[0.2, *MANY], [0.1, *(0.1,) * 19]], MANY, 0.2, "this concept more than for others."),
        ([[0.2, *MANY], [0.0, *(-0.1,) * 19]], MANY, 0.1, "this concept more than for others."),
        # The excess is equal, although the falls differ: any ablation damages the concept.
        ([[0.2, *(0.1,) * 19], [0.1, *MANY]], MANY, 0.0, "not shown to be specific"),
        # One of two others falls as much.
        ([[0.2, *MANY], [0.3, *MANY], [-0.2, *MANY]], MANY, 0.15, "but c1 falls as much."),
        ([[0.2, *MANY], [0.0, *MANY]], (0.2,) * 19, 0.2, "equal norm in random directions may"),
        ([[0.2, *(0.2,) * 19], [0.0, *MANY]], MANY, 0.0, "not shown to need the best feature more"),
        ([[0.2, *MANY]], MANY, None, "not shown to be specific"),
        ([[0.0, *MANY]], MANY, None, "not shown to need the best feature more"),
    ],
)
def test_conclusions_follow_planted_falls(falls, directions, specificity, sentence):
    found, probes = planted_effects(falls, directions=directions)
    row = summary_row("c0", found, probes)
    add_q([row])
    assert row.get("specificity") == pytest.approx(specificity, abs=1e-3)
    assert row["fall"] == pytest.approx(falls[0][0], abs=1e-3)
    assert row["direction_fall"] == pytest.approx(np.mean(directions), abs=1e-3)
    full = {**dict.fromkeys(SUMMARY.names), **row}
    measured = list(measured_rows("c0", found, probes))
    verdict = verdict_of("a", SECOND, [full], measured=measured, same=False)
    text = " ".join(verdict)
    assert sentence in verdict[0]
    assert ("No other concept" in text) == (len(falls) == 1)
    assert ("active on 25% of their words" in text) == (len(falls) > 1)
    assert "by 10.0% of their norm" in text


def test_an_effect_whose_interval_includes_0_is_not_shown():
    found, probes = planted_effects([[0.2, *MANY]], directions=MANY)
    row = summary_row("c0", found, probes)
    add_q([row])
    full = {**dict.fromkeys(SUMMARY.names), **row, "fall_low": -0.01}
    measured = list(measured_rows("c0", found, probes))
    verdict = verdict_of("a", SECOND, [full], measured=measured, same=False)
    assert "are not shown to need" in verdict[0]


@pytest.mark.parametrize(
    ("candidates", "draws", "messages"),
    [
        (4, 19, ["drawn from 4 other features"]),
        (5, 19, []),
        (5, 3, ["3 distinct random sets cannot give a p below 0.25."]),
    ],
)
def test_few_candidates_and_few_distinct_sets_are_reported(candidates, draws, messages):
    found, probes = planted_effects([[0.2, *(0.0,) * draws]], directions=MANY)
    found = replace(found, candidates=candidates)
    row = summary_row("c0", found, probes)
    add_q([row])
    assert (row["candidates"], row["sets"]) == (candidates, draws)
    full = {**dict.fromkeys(SUMMARY.names), **row}
    measured = list(measured_rows("c0", found, probes))
    verdict = verdict_of("a", SECOND, [full], measured=measured, same=False)
    limits = [one for one in verdict if "drawn from" in one or "distinct" in one]
    assert len(limits) == len(messages)
    assert all(message in one for message, one in zip(messages, limits, strict=True))


@pytest.mark.parametrize(("p", "words"), [(0.05, ", more than"), (0.2, ", not shown to be more")])
def test_the_verdict_states_the_change_of_predictions_with_both_controls(p, words):
    found, probes = planted_effects([[0.2, *MANY]], directions=MANY)
    row = summary_row("c0", found, probes)
    add_q([row])
    kl = {
        f"{of}_{name}kl{end}": value
        for of, name, end, value in (
            ("words", "", "", 0.5),
            ("random_words", "", "", 0.25),
            ("direction_words", "", "", 0.125),
            ("words", "", "_p", 0.4),
            ("text", "", "", 0.02),
            ("random_text", "", "", 0.01),
            ("direction_text", "", "", 0.03),
            ("text", "", "_p", p),
        )
    }
    full = {**dict.fromkeys(SUMMARY.names), **row, **kl}
    measured = list(measured_rows("c0", found, probes))
    sentence = verdict_of("a", SECOND, [full], measured=measured, same=False)[-1]
    assert f"0.02 nats of KL per token of neutral text{words}" in sentence
    assert "(0.01, p" in sentence
    assert "equal norm: 0.03." in sentence
    assert sentence.endswith("At the words: 0.50, 0.25 (p 0.4) and 0.12.")


def test_q_is_that_of_scipy_over_the_concepts_with_one_number_of_features():
    rows = [{"k": k, "p": p} for k, p in [(1, 0.01), (1, 0.04), (1, 0.5), (5, 0.03), (1, None)]]
    add_q(rows)
    assert [row.get("q") for row in rows[:4]] == pytest.approx([0.03, 0.06, 0.5, 0.03])
    assert "q" not in rows[4]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_random_directions_have_the_norm_of_the_ablation(layer_norm):
    """At the site of the SAE itself, the change can be read: clean - edited."""
    rng = np.random.default_rng(0)
    tokens = single_tokens()
    contexts = [WordContext(i, text, 0, len(text)) for i, (_, text) in enumerate(tokens)]
    rows = torch.eye(WIDTH)[:8]
    autoencoder = sae_of(FIRST, rows)
    if layer_norm:
        autoencoder.cfg.normalize_activations = "layer_norm"
        autoencoder = type(autoencoder).from_dict(autoencoder.cfg.to_dict())
        autoencoder.load_state_dict(sae_of(FIRST, rows).state_dict())
    runs, _ = runs_of(planted(), open_sae(autoencoder, name="a"), contexts, hook=FIRST)
    every, features = np.arange(len(contexts)), np.array([0, 5])
    along = rng.standard_normal((2, WIDTH))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    (own,) = runs.ablated(every, [features])
    (drawn,) = runs.ablated(every, [features], directions=[along])
    clean = runs.clean()
    norms = np.linalg.norm(clean - own.later, axis=1)
    assert np.linalg.norm(clean - drawn.later, axis=1) == pytest.approx(norms, abs=1e-4)
    assert own.size == pytest.approx(drawn.size, abs=1e-4)
    assert own.size == pytest.approx(norms / np.linalg.norm(clean, axis=1), abs=1e-4)
    assert np.array_equal(own.active, norms > 0)
    moved = (clean - drawn.later)[norms > 0.1]
    inside = moved @ np.linalg.pinv(along) @ along
    assert inside == pytest.approx(moved, abs=1e-4)


def test_unedited_scores_equal_scikit_learn_and_rows_have_the_means():
    found, probes = effects(planted(), LABELS, sets=9)
    tokens = single_tokens()
    contexts = [WordContext(i, text, 0, len(text)) for i, (_, text) in enumerate(tokens)]
    sae = open_sae(sae_of(FIRST, torch.eye(WIDTH)[:8]), name="a")
    later = runs_of(planted(), sae, contexts)[0].clean()
    for probe in probes:
        labels = probe.words.labels[probe.name]
        for split, rows in enumerate(probe.words.splits.test):
            margins = (later[rows] - later.mean(axis=0)) @ probe.coef[split]
            assert probe.auc[split] == pytest.approx(roc_auc_score(labels[rows], margins))
            expected = margins[labels[rows]].mean() - margins[~labels[rows]].mean()
            assert probe.gap[split] == pytest.approx(expected)
    rows = list(measured_rows("class", found[1], probes))
    assert [(r["measured"], r["features"]) for r in rows] == [
        (name, features)
        for name in ("class", "other")
        for features in ("best", "random", "directions")
    ]
    assert [r["sets"] for r in rows[::3]] == [1, 1]
    # Of nine draws of one among eight features, sets equal to another or to the best one do not count.
    assert 1 <= rows[1]["sets"] <= 7
    best = rows[0]
    assert best["fall"] == pytest.approx(probes[0].auc.mean() - found[1].auc[0, 0].mean())
    assert best["auc"] == pytest.approx(found[1].auc[0, 0].mean())


def test_features_are_selected_on_training_words():
    """A feature that separates the test words of a split alone is not the best of that split."""
    tokens = single_tokens()
    labels = np.array([i % 2 == 1 for i, _ in tokens])
    words = words_of({"class": labels})
    contexts = [WordContext(i, text, 0, len(text)) for i, (_, text) in enumerate(tokens)]
    runs, _ = runs_of(planted(), open_sae(sae_of(FIRST, torch.eye(WIDTH)[:8]), name="a"), contexts)
    rng = np.random.default_rng(0)
    x = rng.random((len(labels), 8))
    test = words.splits.test[0]
    x[test, 3] = 100.0 * labels[test] + rng.random(test.sum())  # no other feature separates them
    features = live_columns(x)
    selected = []

    class Recorded(type(runs)):
        def ablated(self, contexts, sets, *, directions=None):
            if directions is None:
                selected.append(sets[0])
            return super().ablated(contexts, sets, directions=directions)

    recorded = Recorded(**{name: getattr(runs, name) for name in runs.__dataclass_fields__})
    list(
        ablation_effects(
            recorded,
            "class",
            words,
            features=features,
            probes=fit_later(words, runs.clean(), seed=0),
            settings=AblationSettings(ablated=(1,), random_sets=1),
            seed=0,
            stage=SILENT.stage("", total=1, unit="splits").__enter__(),
        )
    )
    for chosen, rows in zip(selected, words.splits.test, strict=True):
        expected = np.argmax(f_classif(x[~rows], labels[~rows])[0])
        assert chosen.tolist() == [expected]
    assert selected[0].tolist() != [3]


def test_random_features_have_similar_frequency():
    rng = np.random.default_rng(0)
    counts = np.concatenate([np.zeros(50), rng.integers(1, 200, 300)]).astype(np.int64)
    chosen = np.array([60, 200, 349])
    sets, candidates = equal_frequency(chosen, counts, rng.random((200, 350)))
    assert len(sets) == 200
    drawn = np.stack(sets)
    assert (counts[drawn] > 0).all()
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    live = np.flatnonzero(counts)
    near = set()
    for column, unit in enumerate(chosen):
        distance = np.sort(np.abs(np.log(counts[live]) - np.log(counts[unit])))
        own = np.abs(np.log(counts[drawn[:, column]]) - np.log(counts[unit]))
        assert own.max() <= distance[NEAR + 3]  # the unit itself, and up to two drawn before
        # Each of the 21 units is drawn about equally often, the unit itself too.
        assert 2 <= (drawn[:, column] == unit).sum() <= 22
        near |= set(drawn[:, column].tolist())
    assert len(near - set(chosen.tolist())) <= candidates <= len(live) - 3
    assert equal_frequency(chosen, np.zeros(400, np.int64), rng.random((3, 400))) == ([], 0)
    assert equal_frequency(np.array([0, 1]), np.array([3, 3, 3]), rng.random((3, 3))) == ([], 1)
    sets, candidates = equal_frequency(np.array([0, 1]), np.array([3, 3, 3, 3]), rng.random((9, 4)))
    assert (len(sets), candidates) == (9, 2)


@pytest.mark.parametrize("others", [5, 10, 100])
def test_p_of_sets_is_rarely_small_also_with_few_features(others):
    """The best features are any 5 of all; the effect of a set is the sum of those of its features."""
    small, trials, draws = 0, 300, 19
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        effect, counts = rng.exponential(size=5 + others), np.full(5 + others, 7)
        chosen = rng.choice(5 + others, 5, replace=False)
        sets, _ = equal_frequency(chosen, counts, rng.random((draws, 5 + others)))
        least = sum(effect[own].sum() >= effect[chosen].sum() for own in sets)
        small += (1 + least) / (1 + draws) <= 0.1
    # .1 is expected, with a standard error of .017. If sets exclude the best features, the share is
    # about .5 for 5 others, and .25 for 10.
    assert small / trials < 0.16


def test_a_set_of_random_features_is_the_same_for_similar_choices():
    """One set for all splits: the unit drawn for a chosen unit depends little on the other units."""
    rng = np.random.default_rng(0)
    counts, priorities = rng.integers(1, 200, 300), rng.random((50, 300))
    one, _ = equal_frequency(np.array([3, 5]), counts, priorities)
    other, _ = equal_frequency(np.array([3, 8]), counts, priorities)
    assert np.mean([a[0] == b[0] for a, b in zip(one, other, strict=True)]) > 0.8


class PlantedRuns:
    """Runs in which each feature changes the margin of all words by its own amount, against their class."""

    def __init__(self, clean, labels, amounts):
        self._clean, self._labels, self._amounts = clean, labels, amounts
        self.read = clean

    def ablated(self, contexts, sets, *, directions=None):
        for features in sets:
            later = self._clean[contexts].copy()
            later[:, 0] -= self._amounts[features].sum() * (2.0 * self._labels[contexts] - 1)
            yield Ablated(later, np.zeros(len(contexts)), np.ones(len(contexts), np.bool_))


def test_p_is_rarely_small_if_features_differ_but_the_best_are_not_special():
    """The amount of each feature is fixed over splits, and independent of the labels."""
    words, units, trials, small = 60, 120, 150, 0
    rng = np.random.default_rng(0)
    labels = np.arange(words) % 2 == 0
    clean = rng.standard_normal((words, 2)) + np.array([2.0, 0.0]) * labels[:, None]
    tested = words_of({"class": labels})
    probes = fit_later(tested, clean, seed=0)
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        codes = rng.random((words, units)) * (rng.random((words, units)) < 0.5)
        codes[:, seed % units] += 0.5 * labels  # the best feature in nearly every split
        (found,) = ablation_effects(
            PlantedRuns(clean, labels, 0.3 * rng.random(units)),
            "class",
            tested,
            features=live_columns(codes),
            probes=probes,
            settings=AblationSettings(ablated=(1,), random_sets=19),
            seed=seed,
            stage=SILENT.stage("", total=1, unit="splits").__enter__(),
        )
        small += summary_row("class", found, probes)["p"] <= 0.1
    # .1 is expected; about .3 if each split had its own random sets.
    assert small / trials < 0.18


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    random_model("llama").save_pretrained(folder / "small")
    TOKENIZER.save_pretrained(folder / "small")
    topk(k=8).save_model(folder / "one")
    ingest(
        folder / "a.atlas",
        saes=[str(folder / "one")],
        text=texts(10),
        model=str(folder / "small"),
        match=None,
    ).close()
    for name, ends in (("words", ("cat", "dog")), ("more", ("sun", "day"))):
        rows = [f"{w} {e},{e},{w}" for w in WORDS[:16] for e in ends]
        (folder / f"{name}.csv").write_text("text,label,group\n" + "\n".join(rows) + "\n")
    return folder


def test_study_command_and_stored_result(world):
    settings = AblationSettings(
        ablated=(1, 30), random_sets=3, direction_sets=2, others=(str(world / "more.csv"),)
    )
    how = ConceptSettings(repeats=1, draws=19, probe_draws=0, subsets=0)
    progress = RecordingProgress()
    (found,) = ablate_concepts(
        world / "a.atlas", world / "words.csv", "all", settings=settings, how=how, progress=progress
    )
    assert any("30 features cannot be compared" in message for message in progress.messages)
    assert found["site"] == "blocks.2.hook_resid_post"
    rows = found.table("summary").to_pylist()
    assert [(r["concept"], r["k"]) for r in rows] == [
        ("words/cat", 1)
    ]  # 30 of 40 have no 30 others
    assert 0 < rows[0]["p"] <= 1
    assert rows[0]["text_kl"] > 0
    assert rows[0]["words_tokens"] >= len(WORDS[:16]) * 2
    assert rows[0]["text_tokens"] > 0
    assert {r["measured"] for r in found.table("measured").to_pylist()} == {"words/cat", "more/day"}
    arguments = ["concepts", str(world / "words.csv"), "-q", "-a", str(world / "a.atlas")]
    options = ["--repeats", "1", "--draws", "19", "--probe-draws", "0", "--subsets", "0"]
    own = ["--ablated", "1", "--ablated", "30", "--random-sets", "3", "--direction-sets", "2"]
    own += ["--others", str(world / "more.csv")]
    done = CliRunner().invoke(command(), [*arguments, *options, "--ablate", *own, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)["result"]
    assert answer["ablated"][0]["summary"] == rows
    shown = CliRunner().invoke(command(), [*arguments, *options, "--ablate", *own])
    assert "one: fall of the AUROC at blocks.2.hook_resid_post" in shown.stdout
    page = world / "page.html"
    words = [*arguments, *options, "--ablate", *own, "--all", "--rank", "--page", str(page)]
    written = CliRunner().invoke(command(), words)
    assert written.exit_code == 0, written.output
    text = page.read_text("utf-8")
    assert "4. Do later probes need these features?" in text
    assert text.count("<figure>") == 4  # the ablations, and three of the SAE
    assert "--ablated 1 --ablated 30 --random-sets 3" in text
    assert " --all --rank --ablate " in text
    assert f"--page {page} -a {world / 'a.atlas'}" in text
    assert "http" not in text.replace("http-equiv", "")  # the page loads no file
    words[-1] = str(world / "page.png")
    refused = CliRunner().invoke(command(), words)
    assert "ends in .html" in str(refused.exception or refused.output)
    wrong = CliRunner().invoke(command(), [*arguments, *options, *own])
    assert wrong.exit_code != 0
    assert "--ablate" in str(wrong.exception or wrong.output)


def test_plot_has_the_falls_of_the_summary(world):
    settings = AblationSettings(
        ablated=(1, 2), random_sets=2, direction_sets=2, others=(str(world / "more.csv"),)
    )
    (found,) = ablate_concepts(world / "a.atlas", world / "words.csv", "all", settings=settings)
    rows = {row["k"]: row for row in found.table("summary").to_pylist()}
    drawn = [row for mark in marks(check_chart(found.plot())) for row in mark.rows if "of" in row]
    falls = {(r["k"], r["of"]): r["fall"] for r in drawn}
    assert set(rows) == {1, 2}
    for k, row in rows.items():
        assert falls[k, "best features of the concept"] == pytest.approx(row["fall"])
        assert falls[k, "random features"] == pytest.approx(row["random_fall"])
        directed = falls[k, "random directions of equal norm"]
        assert directed == pytest.approx(row["direction_fall"])


def test_too_few_words_and_wrong_settings(world, tmp_path):
    path = tmp_path / "few.csv"
    path.write_text(
        "text,label\n" + "\n".join(f"{w},{'x' if i < 3 else 'y'}" for i, w in enumerate(WORDS[:20]))
    )
    progress = RecordingProgress()
    (found,) = ablate_concepts(
        world / "a.atlas",
        path,
        "all",
        settings=AblationSettings(others=(str(world / "more.csv"),)),
        progress=progress,
    )
    assert any("few/x: features are not ablated" in message for message in progress.messages)
    assert found["concepts"] == []
    assert not any("cannot be compared" in message for message in progress.messages)
    with pytest.raises(BadInput, match="expected one or more whole numbers"):
        AblationSettings(ablated=(0,))
    with pytest.raises(BadInput, match="neither a list"):
        ablate_concepts(
            world / "a.atlas", path, "all", settings=AblationSettings(others=("nothing",))
        )


def test_other_words_exclude_the_own_list():
    assert {one.name for one in other_words(read_words("gender"), None)} == {"kinds", "feelings"}
