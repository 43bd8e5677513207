"""Logits of features: samples and ablation by brute force, agreement, and the study on an atlas."""

import json

import numpy as np
import pytest
import small_ingest
import torch
from click.testing import CliRunner
from drawn_charts import check_chart
from random_codes import random_blocks
from random_models import random_model, small_tokenizer
from scipy.stats import spearmanr
from unstored import assert_unstored_provenance

from analysis.logits.ablation import ablate
from analysis.logits.agreement import agreement, top_tokens
from analysis.logits.one_feature import measure_feature_logits
from analysis.logits.settings import LogitSettings
from analysis.logits.study import _rounded, measure_logits
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest.codes.active_tokens import ActiveTokens, sample_active_tokens
from ingest.codes.store import read_shard
from ingest.forward.run import ingest
from ingest.model.next_token import NextTokenModel
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.context_text import ContextText
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings


def pairs(tokens):
    return list(
        zip(*(getattr(tokens, n).tolist() for n in ("feature", "block", "row")), strict=True)
    )


def blocks_of(seed=0, **options):
    rng = np.random.default_rng(seed)
    lengths = [rng.integers(1, 40, size=6).tolist() for _ in range(5)]
    return random_blocks(rng, lengths, d_sae=30, l0=4, **options)


def test_a_sample_holds_active_tokens_and_does_not_depend_on_the_division():
    blocks, features = blocks_of(), np.array([0, 3, 7, 29])
    every = sorted(
        (int(f), b.number, int(r))
        for b in blocks
        for f, r in zip(b.indices, b.rows, strict=True)
        if f in features
    )
    found = sample_active_tokens(blocks, features, most=5, seed=1)
    assert set(pairs(found)) <= set(every)
    for f in features:
        total = sum(one[0] == f for one in every)
        assert (found.feature == f).sum() == min(5, total)
    values = {
        (int(f), b.number, int(r)): v
        for b in blocks
        for f, r, v in zip(b.indices, b.rows, b.values, strict=True)
    }
    assert [values[p] for p in pairs(found)] == found.activation.tolist()
    assert pairs(sample_active_tokens(blocks[::-1], features, most=5, seed=1)) == pairs(found)
    assert pairs(sample_active_tokens(blocks, features, most=5, seed=2)) != pairs(found)
    assert pairs(sample_active_tokens(blocks, features, most=10**6, seed=1)) == every


def test_a_sample_is_uniform():
    blocks = blocks_of()
    every = pairs(sample_active_tokens(blocks, np.array([2]), most=10**6, seed=0))
    drawn = np.zeros(len(every))
    for seed in range(300):
        for one in pairs(sample_active_tokens(blocks, np.array([2]), most=4, seed=seed)):
            drawn[every.index(one)] += 1
    expected = 300 * 4 / len(every)
    # Chi-squared with len - 1 degrees of freedom, slightly less because draws exclude each other.
    assert np.square(drawn - expected).sum() / expected < 2 * len(every)


def test_samples_of_nothing():
    assert len(sample_active_tokens([], np.array([1]), most=3, seed=0)) == 0
    assert len(sample_active_tokens(blocks_of(), np.zeros(0, np.int64), most=3, seed=0)) == 0
    assert len(sample_active_tokens(blocks_of(), np.array([999]), most=3, seed=0)) == 0


def test_agreement_equals_spearman_correlations():
    rng = np.random.default_rng(0)
    direct, noise = rng.normal(size=(2, 5, 40)).round(1)  # with ties
    change = noise - 0.7 * direct
    found = agreement(direct, change)
    rho = np.array([[spearmanr(d, -c).statistic for d in direct] for c in change])
    np.testing.assert_allclose(found.own, np.diagonal(rho))
    for i in range(5):
        others = np.delete(rho[i], i)
        assert found.control[i] == pytest.approx(others.mean())
        assert found.p[i] == (1 + (others >= rho[i, i]).sum()) / 5


def test_further_direct_logits_are_controls_of_one_change():
    rng = np.random.default_rng(4)
    direct, change = rng.normal(size=(6, 30)), rng.normal(size=(1, 30))
    found = agreement(direct, change)
    rho = np.array([spearmanr(row, -change[0]).statistic for row in direct])
    assert found.own == pytest.approx([rho[0]])
    assert found.control == pytest.approx([rho[1:].mean()])
    assert found.p.tolist() == [(1 + (rho[1:] >= rho[0]).sum()) / 6]


def test_agreement_of_constant_rows_and_of_one_feature():
    one = agreement(np.array([[1.0, 2.0, 3.0]]), np.array([[-1.0, -2.0, -3.0]]))
    assert one.own == pytest.approx([1.0])
    assert one.p.tolist() == [1.0]
    assert np.isnan(one.control).all()
    flat = agreement(np.array([[1.0, 1.0], [0.0, 1.0]]), np.zeros((2, 2)))
    assert np.isnan(flat.own).all()
    assert np.isnan(flat.p).all()
    assert agreement(np.zeros((0, 4)), np.zeros((0, 4))).own.shape == (0,)


def test_unrelated_changes_have_a_uniform_p():
    rng = np.random.default_rng(3)
    p = agreement(rng.normal(size=(200, 60)), rng.normal(size=(200, 60))).p
    assert 0.4 < p.mean() < 0.6
    assert (p <= 0.05).mean() < 0.12  # 0.05 expected; above 0.12 in fewer than 1 of 10,000 sets


def test_top_tokens_are_those_of_a_sort_with_ties_to_the_lower_id():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, size=(20, 15)).astype(float)
    for number in (0, 1, 4, 15, 99):
        wanted = [sorted(range(15), key=lambda i: (-row[i], i))[:number] for row in values]
        assert top_tokens(values, number).tolist() == wanted


# The ablation, compared with a loop over tokens with its own hooks


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """An atlas of a random Llama in memory with a TopK SAE, and both of them."""
    path = tmp_path_factory.mktemp("logits") / "a.atlas"
    causal, tokenizer = random_model("llama"), small_tokenizer()
    saes = [
        open_sae(small_ingest.topk(hook=f"blocks.{i}.hook_resid_post", seed=i), name=name)
        for i, name in ((1, "middle"), (2, "last"))
    ]
    ingest(
        path, saes=saes, text=small_ingest.texts(), model=causal, tokenizer=tokenizer, match=None
    )
    return path, causal, tokenizer, saes


def by_loop(causal, sae, ids, *, layer, position, feature):
    """Return the change of log-probabilities by one ablation in one complete context."""
    seen = []

    def hook(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        seen.append(x[0, position].clone())
        if len(seen) == 1:
            return output
        new = x.clone()
        z = sae.encode(x[0, position][None])[0, feature]
        assert z > 0
        new[0, position] -= z * sae.W_dec[feature]
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = causal.model.layers[layer].register_forward_hook(hook)
    with torch.no_grad():
        before, after = (
            causal(torch.tensor([ids])).logits[0, position].log_softmax(-1) for _ in range(2)
        )
    handle.remove()
    return (after - before).double().numpy()


def blocks_of_sae(path, sae):
    files = sorted(Folder.open(path).codes(sae).glob("*.arrow"))
    return [block for file in files for block in read_shard(file)]


def text_of(path, tokenizer):
    return ContextText(
        Corpus.open(Folder.open(path).corpus_file),
        tokenizer,
        ContextSettings(context_size=small_ingest.CONTEXT, prepend_bos=True),
        256,
    )


@pytest.mark.parametrize("layer", [1, 2])
def test_measured_changes_equal_a_loop_over_tokens(subject, layer):
    path, causal, tokenizer, saes = subject
    sae, name = saes[layer - 1], ("middle", "last")[layer - 1]
    blocks = blocks_of_sae(path, name)
    features = np.unique(np.concatenate([b.indices for b in blocks]))[::4].astype(np.int64)
    tokens = sample_active_tokens(blocks, features, most=3, seed=0)
    found = ablate(NextTokenModel("m", causal), sae, tokens, text=text_of(path, tokenizer))
    assert found.features.tolist() == features.tolist()
    documents = small_ingest.texts()
    documents = [d for d in documents if d.strip()]
    for row, feature in enumerate(found.features):
        changes = []
        for _, number, at in [p for p in pairs(tokens) if p[0] == feature]:
            one = blocks[number].tokens
            own = tokenizer(documents[one.document[at]], add_special_tokens=False)["input_ids"]
            ordinary = [i for i, t in enumerate(own) if t not in tokenizer.all_special_ids]
            start = ordinary[one.index[at]] - (one.position[at] - 1)
            ids = [tokenizer.bos_token_id, *own[start : start + small_ingest.CONTEXT - 1]]
            assert ids[one.position[at]] == one.token_id[at]
            changes.append(
                by_loop(
                    causal, sae.sae, ids, layer=layer, position=one.position[at], feature=feature
                )
            )
        np.testing.assert_allclose(found.change[row], np.mean(changes, axis=0), atol=2e-4)
        assert found.positions[row] == len(changes)


def test_fault_d2_the_ablation_adds_no_decoder_bias(subject):
    """The first seed decoded changed codes with the bias; a large bias must change nothing here."""
    path, causal, tokenizer, (sae, _) = subject
    blocks = blocks_of_sae(path, "middle")
    tokens = sample_active_tokens(blocks, np.arange(40), most=2, seed=0)
    model, text = NextTokenModel("m", causal), text_of(path, tokenizer)
    before = ablate(model, sae, tokens, text=text)
    biased = small_ingest.topk(hook="blocks.1.hook_resid_post", seed=1)
    with torch.no_grad():
        shift = torch.full_like(biased.b_dec, 50.0)
        # The codes do not change: the encoder's bias compensates the subtraction of b_dec from its input.
        biased.b_enc += shift @ biased.W_enc * bool(biased.cfg.apply_b_dec_to_input)
        biased.b_dec += shift
    after = ablate(model, open_sae(biased, name="middle"), tokens, text=text)
    np.testing.assert_allclose(after.change, before.change, atol=1e-3)


def test_fault_e_ablating_inactive_features_is_refused(subject):
    path, causal, tokenizer, (sae, _) = subject
    (block, *_) = blocks_of_sae(path, "middle")
    active = set(block.indices[block.indptr[0] : block.indptr[1]].tolist())
    inactive = next(f for f in range(40) if f not in active)
    zero, one = np.array([0]), np.array([1.0], dtype=np.float32)
    tokens = ActiveTokens(np.array([inactive]), zero, zero, one)
    with pytest.raises(Mismatch, match="inactive on 1 of 1 tokens"):
        ablate(NextTokenModel("m", causal), sae, tokens, text=text_of(path, tokenizer))


# The study


@pytest.fixture(scope="module")
def results(subject):
    path, causal, tokenizer, saes = subject
    settings = LogitSettings(top=4, positions=6)
    return measure_logits(
        path, "all", settings=settings, model=causal, tokenizer=tokenizer, opened=saes
    )


def test_edges_equal_decoder_rows_through_the_head(subject, results):
    path, causal, tokenizer, saes = subject
    with torch.no_grad():
        head = causal.lm_head.weight * causal.model.norm.weight
        logits = (saes[0].sae.W_dec @ head.T).double().numpy()
    logits = logits - logits.mean(axis=1, keepdims=True)
    logits = logits[:, : len(tokenizer)]
    with Atlas.open(path) as atlas:
        live = [f["idx"] for f in atlas.table("Feature", sae="middle").to_pylist() if not f["dead"]]
        for name, sign in (("PROMOTES", -1), ("SUPPRESSES", 1)):
            edges = atlas.table(name, sae="middle").to_pylist()
            assert len(edges) == 4 * len(live)
            for i in live:
                own = sorted(
                    (e for e in edges if e["source"] == f"middle/{i}"), key=lambda e: e["rank"]
                )
                wanted = np.argsort(sign * logits[i], kind="stable")[:4]
                assert [int(e["target"].rpartition("/")[2]) for e in own] == wanted.tolist()
                np.testing.assert_allclose([e["value"] for e in own], logits[i][wanted], rtol=1e-4)
                assert all(e["ablated_change"] is not None for e in own)
        tokens = {t["id"]: t for t in atlas.table("Token").to_pylist()}
        assert {e["target"] for e in edges} <= set(tokens)


def test_direct_logits_predict_the_last_site_and_not_other_features(results):
    """Only the final norm follows the last site, so the planted effect is found."""
    (last,) = (r for r in results if r["sae"] == "last")
    assert last["agreement"] > 0.6
    assert abs(last["control"]) < 0.2
    assert last["hits"] > last["hits_control"] + 0.2
    assert last["p_at_most_0.05"] > 0.5
    frame = last.to_pandas("features")
    assert frame["p"].min() == pytest.approx(1 / len(frame))
    own, other = (np.median(frame[name].dropna()) for name in ("hits", "hits_control"))
    share = np.mean(frame["p"].dropna() <= 0.05)
    assert last.verdict[0] == (
        f"last: for {share:.0%} of {len(frame)} ablated features, direct logits predict the measured "
        "changes better than those of other features (p ≤ 0.05; by chance, at most 5%)."
    )
    assert last.verdict[2] == (
        "The median share of promoted tokens that become less likely when the feature is ablated is "
        f"{own:.0%} (promoted tokens of other features: {other:.0%})."
    )


def test_features_have_their_agreement_in_the_graph(subject, results):
    with Atlas.open(subject[0]) as atlas:
        rows = [f for f in atlas.table("Feature", sae="last").to_pylist() if not f["dead"]]
    frame = next(r for r in results if r["sae"] == "last").to_pandas("features")
    stored = {f["id"]: f["logit_agreement"] for f in rows}
    assert stored == dict(zip(frame["feature"], frame["agreement"], strict=True))


def test_without_ablation_no_codes_are_needed_and_no_agreement_is_reported(tmp_path, subject):
    _, causal, tokenizer, saes = subject
    path = tmp_path / "b.atlas"
    ingest(
        path,
        saes=[saes[0]],
        text=small_ingest.texts(),
        model=causal,
        tokenizer=tokenizer,
        match=None,
        settings=Settings(keep_codes=False),
    )
    options = {"model": causal, "tokenizer": tokenizer, "opened": saes}
    (one,) = measure_logits(path, "all", settings=LogitSettings(features=0), **options)
    assert one["ablated"] == 0
    assert one["agreement"] is None
    assert "was not measured" in one.verdict[0]
    assert set(one.table("PROMOTES")["ablated_change"].to_pylist()) == {None}
    with pytest.raises(BadInput, match="nothing to plot"):
        one.plot()
    with pytest.raises(Missing, match="codes"):
        measure_logits(path, ["middle"], **options)


def test_the_model_must_be_available_and_have_a_head(subject):
    path, causal, tokenizer, saes = subject
    other = LogitSettings(seed=5)
    with pytest.raises(BadInput, match="Pass it with `model`"):
        measure_logits(path, "all", settings=other, opened=saes)
    with pytest.raises(Mismatch, match="has no head"):
        measure_logits(
            path, "all", settings=other, opened=saes, model=causal.model, tokenizer=tokenizer
        )
    with pytest.raises(Mismatch, match="is not the model"):
        measure_logits(
            path,
            "all",
            settings=other,
            opened=saes,
            model=random_model("llama", seed=9),
            tokenizer=tokenizer,
        )
    done = CliRunner().invoke(command(), ["logits", "middle", "--seed", "5", "-q", "-a", str(path)])
    assert isinstance(done.exception, BadInput)


def test_the_plot_shows_own_and_other_logits(results):
    shown = check_chart(results[0].plot()).to_dict()
    assert "rank correlation" in json.dumps(shown)


def test_one_feature_equals_a_loop_over_tokens(subject):
    path, causal, tokenizer, saes = subject
    sae, blocks = saes[0], blocks_of_sae(path, "middle")
    feature = int(np.bincount(np.concatenate([b.indices for b in blocks])).argmax())
    options = {"model": causal, "tokenizer": tokenizer, "opened": saes}
    settings = LogitSettings(top=5, positions=4)
    found = measure_feature_logits(path, f"middle/{feature}", settings=settings, **options)
    assert_unstored_provenance(found, path, sae="middle", settings={"top": 5, "positions": 4})
    tokens = sample_active_tokens(blocks, np.array([feature]), most=4, seed=0)
    changes = []
    documents = [d for d in small_ingest.texts() if d.strip()]
    for _, number, at in pairs(tokens):
        one = blocks[number].tokens
        own = tokenizer(documents[one.document[at]], add_special_tokens=False)["input_ids"]
        ordinary = [i for i, t in enumerate(own) if t not in tokenizer.all_special_ids]
        start = ordinary[one.index[at]] - (one.position[at] - 1)
        ids = [tokenizer.bos_token_id, *own[start : start + small_ingest.CONTEXT - 1]]
        where = {"layer": 1, "position": one.position[at], "feature": feature}
        changes.append(by_loop(causal, sae.sae, ids, **where))
    change = np.mean(changes, axis=0)[: len(tokenizer)]
    with torch.no_grad():
        head = causal.lm_head.weight * causal.model.norm.weight
        logits = (sae.sae.W_dec @ head.T).double().numpy()
    logits = (logits - logits.mean(axis=1, keepdims=True))[:, : len(tokenizer)]
    highest = np.argsort(-logits[feature], kind="stable")
    words = [tokenizer.convert_ids_to_tokens(int(i)) for i in range(len(tokenizer))]
    for name, chosen in (
        ("promoted", highest[:5]),
        ("suppressed", highest[::-1][:5]),
        ("changed", np.argsort(-np.abs(change), kind="stable")[:5]),
    ):
        rows = found.table(name).to_pylist()
        assert [row["rank"] for row in rows] == [list(highest).index(i) for i in chosen]
        assert len({row["token"] for row in rows}) == len({words[i] for i in chosen})
        np.testing.assert_allclose([r["value"] for r in rows], logits[feature][chosen], rtol=1e-4)
        np.testing.assert_allclose(
            [r["ablated_change"] for r in rows], change[chosen], rtol=0.02, atol=2e-4
        )
    assert found["positions"] == 4
    assert found["agreement"] == pytest.approx(
        spearmanr(logits[feature], -change).statistic, abs=0.01
    )
    live = np.setdiff1d(np.unique(np.concatenate([b.indices for b in blocks])), feature)
    assert found["others"] == len(live)
    rho = np.array([spearmanr(logits[g], -change).statistic for g in live])
    assert found["control"] == pytest.approx(rho.mean(), abs=0.01)
    assert found["hits"] == (change[highest[:5]] < 0).mean()
    falls = [(change[np.argsort(-logits[g], kind="stable")[:5]] < 0).mean() for g in live]
    assert found["hits_control"] == pytest.approx(np.mean(falls), abs=0.01)


def test_one_feature_without_ablation_and_bad_names(subject):
    path, causal, tokenizer, saes = subject
    options = {"model": causal, "tokenizer": tokenizer, "opened": saes}
    with Atlas.open(path) as atlas:
        rows = atlas.table("Feature", sae="middle").to_pylist()
    dead = next((f["id"] for f in rows if f["dead"]), None)
    live = next(f["id"] for f in rows if not f["dead"])
    one = measure_feature_logits(path, live, settings=LogitSettings(features=0), **options)
    assert one["agreement"] is None
    assert "was not measured" in one.verdict[0]
    assert set(one.table("promoted")["ablated_change"].to_pylist()) == {None}
    assert one.table("changed").num_rows == 0
    for name, error, message in (
        ("middle/x", BadInput, "expected SAE/INDEX"),
        ("middle/99999", BadInput, "has features 0 to"),
        ("midle/1", UnknownName, "midle"),
        *([(dead, BadInput, "never active")] if dead else []),
    ):
        with pytest.raises(error, match=message):
            measure_feature_logits(path, name, **options)
    mixed = ["logits", "middle", live, "-a", str(path)]
    assert "pass features alone" in str(CliRunner().invoke(command(), mixed).exception)


def test_a_correlation_that_rounds_to_zero_has_no_sign():
    assert [_rounded(v) for v in (-0.001, 0.0, -0.006, 0.346)] == ["0.00", "0.00", "-0.01", "0.35"]
