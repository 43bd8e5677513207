"""Effects: a known circuit, brute force, the rate of false edges, and joint ablation."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from circuit_effects import contexts_of, effects_of
from circuit_model import (
    CIRCUIT,
    FIRST,
    SECOND,
    SOURCES,
    WIDTH,
    blank,
    circuit_model,
    circuit_saes,
    sae_of,
)
from random_models import random_ids, random_model
from scipy.stats import false_discovery_control
from small_ingest import a_sae

from analysis.effects.ablation.attribution import attribute, changes_of_active, encoder_rows
from analysis.effects.ablation.rows import Edits, measured
from analysis.effects.ablation.sample import Contexts, Occurrences, drawn, nearest_other
from analysis.effects.ablation.source import Source, source_of
from analysis.effects.edges import about_edges
from analysis.effects.inference import (
    decoy_q,
    document_interval,
    feature_mean_interval,
    max_target_p,
    paired_p,
    source_q,
)
from analysis.effects.measure import above_all_random, feature_q
from analysis.effects.questions import correlations, effect_vectors, pair_measures
from analysis.effects.settings import EffectSettings
from analysis.effects.tables import effect_tables, explained, summary_of
from analysis.effects.verdict import about_power, verdict
from analysis.statistics.ranks import auc
from atlas.errors import BadInput
from ingest.model.next_token import NextTokenModel
from ingest.model.upper_blocks import UpperBlocks
from ingest.sae.autoencoder import open_sae


@pytest.fixture(scope="module")
def found():
    return effects_of(circuit_model(), circuit_saes(), contexts=contexts_of())


def test_every_edge_of_a_known_circuit_is_found_with_its_size(found):
    edges = {(e["source"], e["target"]): e for e in found.edges}
    assert set(edges) == set(CIRCUIT)
    chosen = found.source.chosen
    for (source, target), weight in CIRCUIT.items():
        edge, own = edges[source, target], chosen.feature == source
        there = own & (chosen.position < 7) if source == 3 else own  # no token follows the last
        sizes = np.where(there, chosen.activation, 0.0)[own]
        assert edge["mean"] == pytest.approx(-weight * sizes.mean(), rel=1e-4)
        assert edge["here"] == pytest.approx(0 if source == 3 else edge["mean"], rel=1e-4)
        assert edge["low"] <= edge["mean"] <= edge["high"]
        assert edge["share"] == pytest.approx((sizes > 0).mean(), abs=0.1)
        assert edge["positions"] == own.sum()


def test_attribution_equals_ablation_where_the_model_is_linear(found):
    (effect,), (total,) = found.attribution.effect, found.own.total
    linear = [0, 1, 3, 4]  # target 2 has no input, and all others remain active
    np.testing.assert_allclose(effect[:, linear], total[:, linear], atol=1e-5)


def test_joint_ablation_that_does_not_add_up_is_reported():
    plain = effects_of(circuit_model(), circuit_saes(), contexts=contexts_of())
    assert plain.additivity["targets"] > 0.95
    both = effects_of(circuit_model(redundant=True), circuit_saes(), contexts=contexts_of())
    assert both.additivity["targets"] < 0.8
    assert not {(e["source"], e["target"]) for e in both.edges} & {(5, 5), (6, 5)}
    summary = summary_of(both, "a", ["b"]) | explained(both, [])
    for of_targets, shown in (
        (summary["additivity_targets"], "on later features of ablating all features"),
        (None, "on the loss of ablating all features"),
    ):
        numbers = summary | {"additivity_targets": of_targets, "additivity_ce": -3.0}
        (sentence,) = (sentence for sentence in verdict(numbers, q=0.05) if "joint" in sentence)
        assert sentence.startswith("Single effects do not add up: ")
        assert shown in sentence
        assert ("does not predict" in sentence) == (of_targets is None)
        assert ("additivity -3.00; 1: the sum equals it" in sentence) == (of_targets is None)
    assert not any("joint" in s for s in verdict(numbers | {"additivity_ce": None}, q=0.05))


def without_others(source, where):
    """Return a source in which no other feature is active at some tokens."""
    own, other = source.chosen, source.other
    feature = np.where(where, own.feature, other.feature)
    activation = np.where(where, 0, other.activation).astype(np.float32)
    return replace(source, other=Occurrences(feature, own.context, own.position, activation))


def test_tokens_without_another_feature_are_no_control(found):
    """Every effect exceeds that of another feature with activation 0."""

    def at_even_rows(source):
        return without_others(source, np.arange(len(source.chosen)) % 2 == 0)

    some = effects_of(circuit_model(), circuit_saes(), contexts=contexts_of(), changed=at_even_rows)
    both = found.source.has_other & (np.arange(len(found.source.chosen)) % 2 == 1)
    assert (some.source.has_other == both).all()
    kl = found.other.loss[:, 2:].sum(1)
    for s, feature in enumerate(found.source.features):
        wanted = kl[both & (found.source.chosen.feature == feature)].mean()
        assert some.loss_of(some.other)[s, 2:].sum() == pytest.approx(wanted, abs=1e-9)
    edges = {(e["source"], e["target"]): e for e in some.edges}
    assert edges
    for (source, target), edge in edges.items():
        rows = both & (found.source.chosen.feature == source)
        (column,) = np.flatnonzero(
            found.candidates[0][found.source.features == source][0] == target
        )
        own, other = (np.abs(arm.values[0][rows, column]) for arm in (found.own, found.other))
        document = found.document[rows]
        assert edge["p_other"] == paired_p(own, other, document, draws=999, seed=0)
        assert edge["positions"] == (found.source.chosen.feature == source).sum()
    share = summary_of(some, "a", ["b"])["tokens_with_other"]
    assert share == pytest.approx(both.mean())


def test_without_any_other_feature_there_is_no_edge():
    alone = effects_of(
        circuit_model(),
        circuit_saes(),
        contexts=contexts_of(),
        changed=lambda source: without_others(source, np.ones(len(source.chosen), bool)),
    )
    assert not alone.edges
    summary = summary_of(alone, "a", ["b"]) | explained(alone, [])
    assert (summary["kl_other"], summary["tokens_with_other"]) == (None, 0.0)
    assert any("No other feature is active" in one for one in verdict(summary, q=0.05))
    tables = dict(effect_tables(alone, "a", ["b"]))
    assert tables["Feature"]["effect_kl_other"].null_count == len(alone.source.features)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_ablation_equals_one_hook_at_a_time(family, monkeypatch):
    """Every measured number equals that of a loop with one hook and one run for each feature."""
    monkeypatch.setattr("analysis.effects.ablation.rows._GROUP", 2)
    model = random_model(family)
    ids, mask = random_ids(rows=4, length=10)
    contexts = Contexts(ids, mask, mask.bool(), np.arange(4))
    saes = [a_sae("blocks.0.hook_mlp_out", 24), a_sae("blocks.2.hook_resid_post", 24, seed=1)]
    first, later = (open_sae(sae) for sae in saes)
    upper = UpperBlocks(NextTokenModel("small", model), first.info.hook)
    _, plain, read = upper.below(ids, mask, hooks=[first.info.hook, later.info.hook])
    z = torch.zeros(4, 10, 40)
    z[mask.bool()] = first.encode(read[first.info.hook][mask.bool()])
    feature = int((z > 0).sum((0, 1)).argmax())
    where = (z[..., feature] > 0).nonzero().numpy()
    delta = -z[..., feature][tuple(where.T)][:, None] * saes[0].W_dec[feature].detach()
    got = np.zeros((len(where), 4))
    total = np.zeros((len(where), 40))
    edits = Edits(where[:, 0], where[:, 1], delta)
    for changes in measured(upper, contexts, edits, targets=[later]):
        got[changes.rows], total[changes.rows] = changes.loss, changes.total[0].numpy()

    def codes(x, row):
        return later.encode(x[row][mask[row].bool()]).numpy()

    for n, (row, at) in enumerate(where):

        def edit(module, args, out, row=row, at=at, n=n):
            new = out.clone()
            new[row, at] += delta[n]
            return new

        module = {"llama": "model.layers.0.mlp", "gpt2": "transformer.h.0.mlp"}.get(
            family, "model.layers.0.post_feedforward_layernorm"
        )
        states = {}
        last = {"gpt2": "transformer.h.2"}.get(family, "model.layers.2")
        handles = [
            model.get_submodule(module).register_forward_hook(edit),
            model.get_submodule(last).register_forward_hook(
                lambda m, a, out, s=states: s.update(x=out[0] if isinstance(out, tuple) else out)
            ),
        ]
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
        for handle in handles:
            handle.remove()
        wanted = codes(states["x"], row) - codes(read[later.info.hook], row)
        np.testing.assert_allclose(total[n], wanted[at:].sum(0), atol=2e-4)
        log_p, log_q = plain[row].log_softmax(-1), logits[row].log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1) * mask[row]
        rise = [
            float((log_p - log_q)[t, ids[row, t + 1]]) if t < 9 and mask[row, t + 1] else 0.0
            for t in range(10)
        ]
        wanted = [rise[at], sum(rise[at + 1 :]), float(kl[at]), float(kl[at + 1 :].sum())]
        np.testing.assert_allclose(got[n], wanted, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox"])
def test_ablation_after_the_last_block_equals_the_complete_model(family):
    """Edited tokens are run separately; the reference adds the delta to the output of the last block."""
    model = random_model(family)
    ids, mask = random_ids(rows=4, length=10)
    contexts = Contexts(ids, mask, mask.bool(), np.arange(4))
    head = NextTokenModel("small", model)
    upper = UpperBlocks(head, "blocks.2.hook_resid_post")
    assert not upper.mixes_tokens
    assert UpperBlocks(head, "blocks.2.hook_mlp_out").mixes_tokens
    where = mask.nonzero().numpy()[::3]
    delta = torch.randn(len(where), 24, generator=torch.Generator().manual_seed(0))
    got, predicted = np.full((len(where), 4), np.nan), {}
    edits = Edits(where[:, 0], where[:, 1], delta)
    for changes in measured(upper, contexts, edits, targets=(), predictions=True):
        got[changes.rows] = changes.loss
        predicted |= dict(zip(changes.rows.tolist(), changes.predictions, strict=True))
    plain = head.logits(ids, mask).log_softmax(-1)
    assert (np.abs(got[:, 2]) > 1e-3).all()
    for n, (row, at) in enumerate(where):

        def add(x, row=row, at=at, n=n):
            new = x.clone()
            new[row, at] += delta[n]
            return new

        edited = head.logits(ids, mask, edits={"blocks.2.hook_resid_post": add}).log_softmax(-1)
        log_p, log_q = plain[row], edited[row]
        assert torch.equal(log_p[:at], log_q[:at])
        follows = at < 9 and mask[row, at + 1]
        rise = float((log_p - log_q)[at, ids[row, at + 1]]) if follows else 0.0
        kl = float((log_p.exp() * (log_p - log_q)).sum(-1)[at])
        np.testing.assert_allclose(got[n], [rise, 0, kl, 0], atol=2e-5)
        np.testing.assert_allclose(predicted[n], (log_q - log_p)[at], atol=2e-5)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize(
    ("kind", "family"), [("standard", "gpt2"), ("centred", "gpt2"), ("standard", "gemma2")]
)
def test_attribution_equals_finite_differences(kind, family, forward, monkeypatch):
    """The gradient of all pairs equals small edits of one feature at a time."""
    cost = 0 if forward else 1e9
    monkeypatch.setattr("analysis.effects.ablation.attribution._FORWARD", cost)
    model = random_model(family)
    ids, mask = random_ids(rows=3, length=8)
    mask[:] = 1
    contexts = Contexts(ids, mask, mask.bool(), np.arange(3))
    saes = [
        a_sae("blocks.0.hook_resid_post", 24),
        a_sae("blocks.1.hook_resid_post", 24, seed=1),
    ]
    if kind == "centred":
        saes[1].cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    first, later = (open_sae(sae) for sae in saes)
    upper = UpperBlocks(NextTokenModel("small", model), first.info.hook)
    stream, _, read = upper.below(ids, mask, hooks=[first.info.hook])
    z = first.encode(read[first.info.hook].flatten(0, 1)).unflatten(0, (3, 8))
    where = (z > 0).nonzero().numpy()[::7]
    some = Occurrences(where[:, 2], where[:, 0], where[:, 1], z[tuple(where.T)].numpy())
    sources = np.unique(some.feature)
    vectors = saes[0].W_dec.detach()
    got = attribute(
        upper, contexts, some, vectors=vectors, targets=[later], sources=sources, batch=2
    ).effect[0]

    def codes(delta):
        _, after = upper.run(stream, ids, mask, delta=delta, hooks=[later.info.hook])
        return later.encode(after[later.info.hook].flatten(0, 1)).unflatten(0, (3, 8))

    wanted = np.zeros_like(got)
    for f, c, t, a in zip(some.feature, some.context, some.position, some.activation, strict=True):
        delta = torch.zeros(3, 8, 24)
        delta[c, t] = -1e-2 * float(a) * vectors[f]
        change = (codes(delta) - codes(-delta)) / 2e-2
        wanted[np.searchsorted(sources, f)] += change[c].sum(0).numpy()
    wanted /= np.bincount(np.searchsorted(sources, some.feature))[:, None]
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.999
    assert np.median(np.abs(got - wanted)) < 1e-3 * np.abs(wanted).max()


def null_model(seed):
    """Return a model with a random second block, and SAEs whose decoder rows are random."""
    rng = torch.Generator().manual_seed(seed)
    model = blank(seed)
    for name in ("into", "out", "shift"):
        weight = getattr(model.layers[1], name).weight
        weight.copy_(torch.randn(weight.shape, generator=rng) / WIDTH**0.5)
    unit = torch.eye(WIDTH)
    rows = torch.randn(SOURCES, WIDTH, generator=rng)
    rows[:2] = 0.0  # planted inert features: no module reads their direction
    rows[0, 60] = rows[1, 61] = 1.0
    model.layers[1].into.weight[:, 60:62] = 0.0
    model.layers[1].shift.weight[:, 60:62] = 0.0
    model.lm_head.weight[:, 60:62] = 0.0
    targets = torch.randn(12, WIDTH, generator=rng)
    targets[:, 60:62] = 0.0
    return model, (sae_of(FIRST, rows, encoder=unit[:SOURCES]), sae_of(SECOND, targets))


def runs_with_an_edge(seeds):
    found = 0
    for seed in seeds:
        model, saes = null_model(seed)
        effects = effects_of(
            model,
            saes,
            contexts=contexts_of(10, 6, seed=seed),
            directions=160,
            seed=seed,
            occurrences=6,
            joint=2,
        )
        found += bool(effects.edges)
    return found


def test_few_runs_on_random_directions_have_an_edge():
    assert runs_with_an_edge(range(12)) <= 3  # more with probability 0.2% at a rate of 5%


@pytest.mark.deep
def test_rate_of_runs_with_a_false_edge_is_at_most_5_percent():
    assert runs_with_an_edge(range(200)) <= 10


def test_p_of_exchangeable_effects_is_valid_for_correlated_heavy_tails():
    rng = np.random.default_rng(0)
    low, edges = [], 0
    for _ in range(200):
        mix = rng.standard_normal((5, 20))
        all_ = rng.standard_t(3, (6, 15, 5)) @ mix * rng.random((15, 1)) * 3
        p = max_target_p(all_[0], all_[1:])
        low.append((p.min(1) <= 0.05).mean())
        edges += (source_q(p) <= 0.05).any()
    assert np.mean(low) <= 0.06
    assert edges <= 18  # 10 expected at most; above 18 with probability 0.5%


def test_q_of_sources_is_benjamini_hochberg_of_their_lowest_p():
    rng = np.random.default_rng(1)
    p = rng.random((30, 7)) ** 3
    q = source_q(p)
    np.testing.assert_allclose(q.min(1), false_discovery_control(p.min(1)))
    for threshold in (0.01, 0.05, 0.2):
        lowest = np.sort(p.min(1))
        passed = np.flatnonzero(lowest <= threshold * np.arange(1, 31) / 30)
        most = lowest[passed[-1]] if len(passed) else -1.0
        selected = int((lowest <= most).sum())
        # An edge needs a p at most the threshold of the selected sources.
        assert ((q <= threshold) >= (p <= most)).all()
        assert (q[q <= threshold] >= 30 * p[q <= threshold] / max(selected, 1) * 0.99).all()
    assert source_q(np.ones((0, 3))).shape == (0, 3)


def test_decoy_q_by_hand_and_under_the_null():
    own, decoy = np.array([8.0, 6.0, 5.0, 1.0, 1.0]), np.array([[1.0, 1.0, 1.0, 3.0, 1.0]])
    # w: log 8, log 6, log 5, -log 3, 0; no decoy beyond -log 5.
    np.testing.assert_allclose(decoy_q(own, decoy), [1 / 3, 1 / 3, 1 / 3, 1, 1])


def decoy_q_by_hand(own, decoys):
    """Return the decoy q by a loop over thresholds, from the definition."""
    wins, w = [], []
    for value, others in zip(own, decoys.T, strict=True):
        most = max(value, *others)
        rest = sorted([value, *others])[:-1]
        wins.append(value == most and most not in others)
        w.append(np.log(most) - np.median(np.log(rest)))
    q = []
    for won, one in zip(wins, w, strict=True):
        rates = []
        for t in [t for t in w if 0 < t <= one]:
            true = sum(a and b >= t for a, b in zip(wins, w, strict=True))
            false = sum(not a and b >= t for a, b in zip(wins, w, strict=True))
            rates.append((1 + false) / (len(decoys) * true) if true else 1)
        q.append(min([1, *rates]) if won else 1)
    return q


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_decoy_q_equals_a_loop_over_thresholds(number):
    rng = np.random.default_rng(number)
    own, decoys = rng.lognormal(1, 2, 25), rng.lognormal(0, 2, (number, 25))
    own[:3], decoys[:, 3:5] = decoys[0, :3], own[3:5]  # equal values, in one decoy or in all
    np.testing.assert_allclose(decoy_q(own, decoys), decoy_q_by_hand(own, decoys))
    assert decoy_q(np.zeros(0), np.zeros((number, 0))).shape == (0,)


@pytest.mark.parametrize("number", [1, 3])
def test_decoy_q_rarely_finds_features_without_an_effect(number):
    """If features have the distribution of their decoys, a run finds any with probability 5% at most."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        # Features differ in size, and share noise with their decoys: only the order is exchangeable.
        own, *decoys = np.exp(rng.standard_t(3, (1 + number, 60)) + 5 * rng.random(60))
        found += (decoy_q(own, np.array(decoys)) <= 0.05).any()
    assert found <= 32  # more with probability 0.4% at a rate of 5%


def test_three_decoys_find_few_features_that_one_decoy_cannot_find():
    """At q = 0.05, one decoy needs 20 features with an effect, and three need 7."""
    rng = np.random.default_rng(0)
    right, wrong = {1: 0, 3: 0}, {1: 0, 3: 0}
    for _ in range(100):
        own = np.append(rng.lognormal(5, 0.5, 10), rng.lognormal(0, 0.5, 90))
        decoys = rng.lognormal(0, 0.5, (3, 100))
        for number in (1, 3):
            found = decoy_q(own, decoys[:number]) <= 0.05
            right[number] += found[:10].sum()
            wrong[number] += found[10:].sum() / max(found.sum(), 1)
    assert right[1] <= 50  # only with ten false ones, and then rarely
    assert right[3] >= 900
    assert wrong[3] <= 7  # 5 expected at most


def test_rounding_does_not_rank_above_features_with_an_effect():
    rng = np.random.default_rng(0)
    true = rng.lognormal(np.log(1e-3), 0.3, 20)
    inert, decoys = rng.lognormal(np.log(1e-14), 8, (2, 200)).clip(max=5e-8)
    own, decoy = np.append(true, inert), np.append(true / 100, decoys)[None]
    q = decoy_q(own, decoy, floor=1e-7)
    np.testing.assert_allclose(q[:20], 1 / 20)
    assert (q[20:] == 1).all()
    assert (decoy_q(own, decoy)[:20] > 0.1).all()  # without a floor, none is found


def test_inert_features_have_a_kl_below_rounding():
    model, saes = null_model(3)
    effects = effects_of(model, saes, contexts=contexts_of(10, 6), directions=19, joint=2)
    inert = effects.source.features < 2
    kl = effects.loss_of(effects.own)[:, 2:].sum(1)
    assert inert.sum() == 2
    assert (np.abs(kl[inert]) < max(3 * effects.sham_kl, 1e-7)).all()
    assert (kl[~inert] > 1e-5).all()
    assert effects.sham_kl < 1e-5
    assert (feature_q(effects)[inert] == 1).all()


def test_paired_p_and_interval():
    document = np.repeat(np.arange(10), 2)
    assert paired_p(np.ones(20), np.zeros(20), document, draws=999, seed=0) < 0.01
    assert paired_p(np.ones(20), np.ones(20), document, draws=99, seed=0) == 1
    rng = np.random.default_rng(0)
    p = [paired_p(*rng.random((2, 20)), document, draws=99, seed=s) for s in range(300)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1
    assert document_interval(np.full(20, 3.0), document, draws=99, seed=0) == (3.0, 3.0)
    values = rng.random(10)
    low, high = document_interval(values, np.arange(10), draws=999, seed=0)
    drawn_means = [values[rng.integers(0, 10, 10)].mean() for _ in range(4000)]
    np.testing.assert_allclose([low, high], np.quantile(drawn_means, [0.025, 0.975]), atol=0.03)


def test_occurrences_come_from_different_contexts_first():
    rng = np.random.default_rng(0)
    feature, context = rng.integers(0, 5, 400), rng.integers(0, 9, 400)
    every = Occurrences(feature, context, np.arange(400), np.ones(400, np.float32))
    chosen = drawn(every, most=12, least=3, seed=0)
    for f in range(5):
        number = np.bincount(chosen.context[chosen.feature == f], minlength=9)
        there = np.bincount(context[feature == f], minlength=9)
        assert number.sum() == min(12, there.sum())
        assert number.max() - number[there >= number.max()].min() <= 1
    none = Occurrences(*(np.zeros(0, np.int64) for _ in range(3)), np.zeros(0, np.float32))
    assert len(drawn(none, most=3, least=2, seed=0)) == 0


def test_other_feature_is_the_nearest_at_the_same_token():
    every = Occurrences(
        np.array([0, 1, 2, 0]),
        np.array([0, 0, 0, 1]),
        np.array([3, 3, 3, 3]),
        np.array([1, 2, 3, 4], np.float32),
    )
    frequency, activation = np.array([10.0, 1000.0, 12.0]), np.ones(3)
    other = nearest_other(every, every, frequency=frequency, activation=activation)
    assert other.feature[:3].tolist() == [2, 2, 0]
    assert other.activation.tolist() == [3, 3, 1, 0]  # no other feature at the last token


def test_encoder_rows_are_gradients_of_active_features():
    sae = open_sae(a_sae("blocks.1.hook_resid_post", 24))
    x = torch.randn(30, 24, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x)
    rows = encoder_rows(sae, x, codes)
    live = (codes > 0).any(0)
    torch.testing.assert_close(rows[live], sae.sae.W_enc.T.detach()[live])
    assert not rows[~live].any()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_changes_of_active_features_by_einsum(share):
    rng = np.random.default_rng(0)
    moved, encoders = rng.normal(size=(3, 5, 4)), rng.normal(size=(7, 4))
    gate = rng.random((3, 5, 7)) < share
    gate[1] = False  # a context without active features
    tensors = (torch.tensor(part).float() for part in (moved, encoders))
    found = changes_of_active(next(tensors), torch.tensor(gate), next(tensors))
    expected = np.einsum("cpd,jd,cpj->cj", moved, encoders, gate)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pair_measures_by_hand(found):
    saes = [open_sae(sae) for sae in circuit_saes()]
    contexts = contexts_of()
    upper = UpperBlocks(NextTokenModel("circuit", circuit_model()), FIRST)
    ((phi, virtual),) = pair_measures(upper, contexts, found.source, targets=saes[1:])
    _, read = upper.model.run(contexts.ids, contexts.mask, hooks=[FIRST, SECOND])
    one, two = ((sae.encode(read[sae.info.hook].flatten(0, 1)) > 0).numpy() for sae in saes)
    for s, t in ((0, 0), (3, 0), (4, 4)):
        wanted = np.corrcoef(one[:, s], two[:, t])[0, 1]
        assert phi[s, t] == pytest.approx(wanted, abs=1e-6)
    assert not phi[:, 2].any()  # never active
    np.testing.assert_allclose(virtual, np.eye(SOURCES, 6) * (np.arange(6) == 4), atol=1e-6)


def test_auc_of_edges_is_among_the_largest_attributions():
    few = effects_of(circuit_model(), circuit_saes(), contexts=contexts_of(), candidates=3)
    rng = np.random.default_rng(0)
    phi, virtual = rng.random((2, *few.p[0].shape))
    edges = {(e["source"], e["target"]) for e in few.edges}
    assert edges
    ranked = [np.argsort(-np.abs(row), kind="stable")[:3] for row in few.attribution.effect[0]]
    chosen, others = [], []
    for s, (feature, targets) in enumerate(zip(few.source.features, ranked, strict=True)):
        assert set(few.candidates[0][s]) >= {t for t in targets if few.attribution.effect[0][s, t]}
        for t in few.candidates[0][s]:
            (chosen if (feature, t) in edges else others).append(phi[s, t])
    pairs = [a > b for a in chosen for b in others]
    assert len(pairs) == len(edges) * (3 * len(few.source.features) - len(edges))
    got = explained(few, [(phi, virtual)])
    assert got["phi_auc"] == pytest.approx(np.mean(pairs))


def test_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 5, 60) * 1.0, rng.random(60) < 0.3
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc(scores[positive], scores[~positive]) == pytest.approx(np.mean(pairs))
    assert auc(scores, scores[:0]) is None


def test_counterparts_have_equal_effects_and_random_directions_do_not():
    """Two SAEs with the same directions in another order, on a random model."""
    model, (first, later) = null_model(0)
    order = np.random.default_rng(0).permutation(SOURCES)
    other = sae_of(FIRST, first.W_dec.detach()[order], encoder=first.W_enc.detach().T[order])
    contexts = contexts_of(20, 6)
    vectors, sources = [], []
    for sae in (first, other):
        opened = open_sae(sae)
        upper = UpperBlocks(NextTokenModel("circuit", model), FIRST)
        _, _, read = upper.below(contexts.ids, contexts.mask, hooks=[FIRST])
        source = source_of(
            opened, read[FIRST][contexts.read], contexts, settings=EffectSettings(occurrences=200)
        )
        sources.append(source)
        vectors.append(
            effect_vectors(upper, contexts, source, targets=[open_sae(later)], seed=len(sources))
        )
    column = {int(f): i for i, f in enumerate(sources[1].features)}
    pairs = np.array(
        [
            (i, column[int(np.flatnonzero(order == f)[0])])
            for i, f in enumerate(sources[0].features)
            if f > 1  # features 0 and 1 are inert
        ]
    )
    found = correlations(*vectors, pairs, draws=20, seed=0)
    for kind in ("targets", "predictions"):
        np.testing.assert_allclose(found[kind]["own"], 1.0, atol=1e-4)
        assert np.abs(found[kind]["random"]).mean() < 0.8
    # The effect of another feature at the counterpart's tokens, token by token.
    source = sources[1]
    wanted = np.zeros_like(vectors[1]["targets"])
    counts = np.zeros(len(source.features))
    upper = UpperBlocks(NextTokenModel("circuit", model), FIRST)
    stream, _, read = upper.below(contexts.ids, contexts.mask, hooks=[SECOND])
    before = open_sae(later).encode(read[SECOND].flatten(0, 1)).unflatten(0, (20, 6))
    for n in np.flatnonzero(source.other.activation > 0):
        delta = torch.zeros(20, 6, WIDTH)
        at = source.other.context[n], source.other.position[n]
        delta[at] = -float(source.other.activation[n]) * other.W_dec[source.other.feature[n]]
        _, after = upper.run(stream, contexts.ids, contexts.mask, delta=delta, hooks=[SECOND])
        codes = open_sae(later).encode(after[SECOND].flatten(0, 1)).unflatten(0, (20, 6))
        wanted[source.row[n]] += (codes - before)[at[0]].detach().sum(0).numpy()
        counts[source.row[n]] += 1
    np.testing.assert_allclose(
        vectors[1]["targets_other"], wanted / counts[:, None], atol=1e-4, rtol=1e-4
    )
    one, two = vectors[0]["targets"][pairs[:, 0]], vectors[1]["targets_other"][pairs[:, 1]]
    by_hand = [np.corrcoef(x, y)[0, 1] for x, y in zip(one, two, strict=True)]
    np.testing.assert_allclose(found["targets"]["other"], by_hand, atol=1e-6)
    vectors[1]["targets_other"][pairs[0, 1]] = np.nan  # no other feature at its tokens
    again = correlations(*vectors, pairs, draws=1, seed=0)["targets"]["other"]
    assert np.isnan(again).tolist() == [True] + [False] * (len(pairs) - 1)
    one, two = (v["targets"][p] for v, p in zip(vectors, pairs.T, strict=True))
    by_hand = [np.corrcoef(x, y)[0, 1] for x, y in zip(one, two, strict=True)]
    np.testing.assert_allclose(found["targets"]["own"], by_hand, atol=1e-6)


def test_too_few_tokens_is_one_message():
    with pytest.raises(BadInput, match="is active at 12 or more tokens of the sample of 2"):
        effects_of(circuit_model(), circuit_saes(), contexts=contexts_of(2, 5), min_occurrences=12)


def test_source_has_the_row_of_each_occurrence():
    every = Occurrences(
        np.array([4, 7]), np.zeros(2, int), np.zeros(2, int), np.ones(2, np.float32)
    )
    source = Source(np.array([4, 7]), every, every, every, torch.zeros(8, 3))
    assert source.row.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        (0, None),
        (1, "no AUC of edges, since fewer than 10 were found"),
        (10, "AUC of the 10 edges among candidates: phi 0.75"),
    ],
)
def test_the_auc_of_few_edges_is_omitted(edges, expected):
    names = "kl_other rank_correlation additivity_targets additivity_ce virtual_correlation random_phi_correlation virtual_auc"
    numbers = {
        "sae": "a",
        "on": "b",
        "features": 5,
        "kl": 0.1,
        "kl_random": 0.1,
        "tokens_with_other": 0.5,
        "features_above_random": 1,
        "features_above_all_random": 2,
        "random_directions": 15,
        "above_random": 0.0,
        "above_random_low": -0.1,
        "above_random_high": 0.1,
        "edges": edges,
        "sources_with_edges": min(edges, 2),
        "phi_correlation": 0.5,
        "phi_auc": 0.75,
    }
    sentences = verdict(dict.fromkeys(names.split()) | numbers, q=0.05)
    assert ("AUC" in sentences[-1]) == (expected is not None)
    assert expected is None or expected in sentences[-1]


def test_the_verdict_counts_edges_by_target_and_names_the_strongest():
    rows = [("a/1", "b/2", 0.5), ("a/1", "c/0", -2.0), ("a/3", "c/4", 1.0)]
    edges = pa.Table.from_pylist(
        [{"source": s, "target": t, "mean": m, "random": 0.25, "q": 0.004} for s, t, m in rows]
    )
    assert about_edges(edges, ["b", "none", "c"], q=0.05) == [
        "3 edges exceed both controls (q ≤ 0.05), from 2 features; by target: c (2), b (1), none (0).",
        "The strongest: ablating a/1 at a token lowers c/0 by 2 on average, summed over this token and later ones. "
        "Random directions change this sum by 0.25 (q 0.004).",
    ]
    assert about_edges(edges[:0], ["b"], q=0.05) == [
        "0 edges exceed both controls (q ≤ 0.05), from 0 features; by target: b (0)."
    ]
    assert about_edges(edges[:1], ["b"], q=0.05)[0].startswith("1 edge exceeds both controls")


@pytest.mark.parametrize(("directions", "needed"), [(1, 20), (2, 10), (3, 7), (9, 3), (20, 1)])
def test_the_number_of_features_that_a_low_q_needs_is_that_of_decoys(directions, needed):
    def lowest(features):
        """Return the q of features that all exceed their decoys."""
        return decoy_q(np.full(features, 9.0), np.ones((directions, features))).min()

    assert lowest(needed) <= 0.05 + 1e-12
    assert needed == 1 or lowest(needed - 1) > 0.05
    few = about_power(0.5, directions=directions, exceeding=needed - 1)
    assert f"needs {'' if needed == 1 else 'at least '}{needed} such feature" in few
    assert "use more `decoys`" in few
    enough = about_power(0.5, directions=directions, exceeding=2 * needed)
    assert f"allow {lowest(2 * needed):.2g}. So the number of random" in enough


def test_features_that_exceed_all_random_directions_are_counted_with_their_expectation(found):
    kl, random = found.loss_of(found.own)[:, 2:].sum(1), found.kl_of_random
    floor = max(3 * found.sham_kl, 1e-7)
    by_hand = [
        max(value, floor) > max(max(draw[s], floor) for draw in random)
        for s, value in enumerate(kl)
    ]
    assert above_all_random(found).tolist() == by_hand
    summary = summary_of(found, "a", ["b"])
    number, draws = sum(by_hand), len(random)
    assert summary["features_above_all_random"] == number
    first = verdict(summary | explained(found, []), q=0.05)[0]
    assert f"a: ablating {number} of {len(kl)} features changes predictions more than each" in first
    assert f"of {draws} random directions" in first
    assert f"(expected if directions do not matter: {len(kl) / (draws + 1):.2g})" in first


def test_the_interval_of_a_mean_over_features_is_that_of_resampled_documents():
    rng = np.random.default_rng(0)
    feature, document = rng.integers(0, 6, 300), rng.integers(0, 30, 300)
    values = rng.random(300) + feature
    mean, low, high = feature_mean_interval(values, feature, document, draws=2000, seed=0)
    assert mean == pytest.approx(np.mean([values[feature == f].mean() for f in range(6)]))
    drawn_means = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(document == d) for d in rng.integers(0, 30, 30)])
        own = [values[rows][feature[rows] == f] for f in range(6)]
        drawn_means.append(np.mean([one.mean() for one in own if len(one)]))
    np.testing.assert_allclose([low, high], np.quantile(drawn_means, [0.025, 0.975]), atol=0.02)
    one = feature_mean_interval(np.ones(3), np.array([1, 1, 4]), np.zeros(3, int), draws=9, seed=0)
    assert one == (1.0, 1.0, 1.0)  # a single document


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, "exceeds that of other active features."),
        (-0.1, 0.2, "is not shown to differ from that of other active features."),
        (-0.2, -0.1, "is smaller than that of other active features."),
    ],
)
def test_the_mean_kl_is_compared_with_that_of_other_features(found, low, high, expected):
    summary = summary_of(found, "a", ["b"]) | explained(found, [])
    kl = found.own.loss[:, 2:].sum(1) - found.other.loss[:, 2:].sum(1)
    there, row = found.source.has_other, found.source.row
    means = [kl[there & (row == s)].mean() for s in np.unique(row[there])]
    assert summary["above_other"] == pytest.approx(np.mean(means))
    ends = {"above_other_low": low, "above_other_high": high}
    (sentence,) = (one for one in verdict(summary | ends, q=0.05) if "nats of KL" in one)
    assert sentence.endswith(expected)
    nothing = {"kl_other": None, "above_other": None}
    (sentence,) = (one for one in verdict(summary | nothing, q=0.05) if "nats of KL" in one)
    assert "No other feature is active" in sentence
    assert "other active features" not in sentence
