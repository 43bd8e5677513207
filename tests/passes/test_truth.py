"""Tests of truth: simple facts, each of which has detected wrong results of such a system."""

from decimal import Decimal

import numpy as np
import pytest
import sae_lens
import torch
from random_codes import reduce, subject
from small_ingest import CONTEXT, assert_close, metadata, model, named, run, tables, texts, topk

from atlas.api import Atlas
from ingest.codes.store import Block, Tokens
from ingest.match.aligned_codes import CodeRows
from ingest.match.assign import one_to_one
from ingest.match.correlate import Correlator
from ingest.match.nulls import (
    shifted_documents,
    shuffled_occurrences,
    shuffled_within_documents,
)
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import probe_saes
from ingest.reduce.coactivation import Coactivation
from ingest.reduce.protocol import Sizes
from ingest.sae.autoencoder import open_sae
from ingest.synthetic import Planted


def one_token_sae(lm):
    """Return an SAE whose feature 0 is the embedding direction of one token, and that token."""
    vectors = lm.base.get_input_embeddings().weight.detach()
    in_text = set(lm.tokenizer(" ".join(texts()), add_special_tokens=False)["input_ids"])
    candidates = sorted(in_text - set(lm.tokenizer.all_special_ids))
    token = max(candidates, key=lambda t: float(vectors[t].norm()))
    direction = vectors[token] / vectors[token].norm()
    config = sae_lens.StandardSAEConfig(d_in=24, d_sae=2, metadata=metadata("hook_embed"))
    sae = sae_lens.StandardSAE(config)
    own = float(vectors[token] @ direction)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
        # Halfway between the token and the nearest other token of the text.
        nearest = max(float(vectors[t] @ direction) for t in candidates if t != token)
        sae.W_enc[:, 0] = direction
        sae.b_enc[0] = -(own + nearest) / 2
        sae.b_enc[1] = -1
    return sae, token


@pytest.mark.slow
def test_1_an_sae_that_reads_one_token_is_active_on_it_alone(tmp_path):
    lm, documents = model(), texts()
    sae, token = one_token_sae(lm)
    atlas = run(tmp_path / "a.atlas", lm, [named(sae, "one")], documents)
    (edge,) = [e for e in atlas.table("FIRES_ON").to_pylist() if e["source"] == "one/0"]
    assert edge["target"] == f"{lm.tokenizer_key}/{token}"
    assert (edge["share"], edge["rate"]) == (1.0, 1.0)
    text = lm.tokenizer.decode([token])
    shown = [e for e in atlas.table("Example").to_pylist() if e["idx"] == 0]
    assert shown
    for example in shown:  # offsets are exact: the document has the token's text at this position
        at = documents[example["document"]][example["start"] :]
        assert at.startswith(text)
        assert example["tokens"][example["peak"]] == text
    # The feature is predictable from the embedding, as well as by any function of the token.
    settings = ProbeSettings(splits=("sample",), min_positives=1, penalty=1e-5)
    probe_saes(tmp_path / "a.atlas", "all", settings=settings, model=lm)
    with Atlas.open(tmp_path / "a.atlas") as probed:
        (edge,) = probed.table("PREDICTED_FROM").to_pylist()
    assert edge["source"] == "one/0"
    assert edge["balanced_accuracy"] == edge["token_table"] == edge["token_ceiling"] == 1


def test_3_activations_of_bos_times_1000_change_no_result(tmp_path):
    documents = texts()
    quiet = run(tmp_path / "quiet.atlas", model(), [named(topk(), "top")], documents)
    lm = model()

    def scaled(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = torch.cat([hidden[:, :1] * 1000, hidden[:, 1:]], dim=1)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    seen = []
    block = lm.base.get_submodule(lm.layout.blocks)[1]
    block.register_forward_hook(scaled)
    block.register_forward_hook(lambda m, i, o: seen.append(o))
    loud = run(tmp_path / "loud.atlas", lm, [named(topk(), "top")], documents)
    hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert hidden[:, 0].abs().mean() > 100 * hidden[:, 1:].abs().mean()  # the scaling took effect
    assert_close(tables(loud), tables(quiet))


@pytest.mark.slow
def test_4_fvu_is_lowest_at_the_saes_own_site(tmp_path):
    """A trained SAE of the demo, which also reads the sites around its own."""
    from importlib.resources import files

    text = (files("ingest.demo") / "text.jsonl").read_text("utf-8")
    import json

    documents = [json.loads(line)["text"] for line in text.splitlines()[:60]]
    found = {}
    for hook in (
        "blocks.1.hook_resid_post",
        "blocks.1.hook_resid_mid",
        "blocks.0.hook_resid_post",
        "hook_embed",
    ):
        sae = open_sae("tiny-a-l1-s0", hook=hook)
        name = hook.replace(".", "-")
        atlas = run(tmp_path / f"{name}.atlas", "tiny-a", [sae], documents)
        found[hook] = atlas.table("SAE")["fvu"].to_pylist()[0]
    own = found.pop("blocks.1.hook_resid_post")
    assert own < 0.15
    assert all(own < other for other in found.values()), found


def test_the_context_size_is_that_of_the_metadata():
    assert open_sae(topk(), name="x").info.context_size == CONTEXT


def correlated(a, b, *, min_joint=5):
    return Correlator(a, b, best=3, min_joint=min_joint, memory=1 << 30)


def reordered(rows, order):
    """Return the rows of codes in another order."""
    lengths = np.diff(rows.indptr)[order]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    entry = np.repeat(rows.indptr[order] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return CodeRows(indptr, rows.indices[entry], rows.values[entry], rows.d_sae)


@pytest.mark.slow
def test_2_a_permuted_copy_matches_by_the_permutation_and_a_shifted_one_has_no_match():
    planted = Planted.make(3, shared=0, context=0, private=30, token=0, position=0, bursty=0)
    a, new = planted.rows("a"), np.random.default_rng(0).permutation(30)
    row = np.repeat(np.arange(len(a)), np.diff(a.indptr))
    order = np.lexsort((new[a.indices], row))
    copy = CodeRows(a.indptr, new[a.indices[order]].astype(np.uint32), a.values[order], 30)
    pairs = correlated(a, copy).pairs()
    chosen = one_to_one(pairs, threshold=0.5)
    found = dict(zip(pairs.a[chosen].tolist(), pairs.b[chosen].tolist(), strict=True))
    assert found == dict(enumerate(new.tolist()))
    assert pairs.mutual[chosen].all()
    np.testing.assert_allclose(pairs.pearson[chosen], 1)

    work = correlated(a, reordered(a, np.roll(np.arange(len(a)), 1)))
    null = shifted_documents(work, planted.units, work.pairs(), draws=39, seed=0)
    assert (null.q > 0.05).all()


def test_9_phi_of_three_million_tokens_equals_exact_arithmetic():
    tokens, rng = 3_000_000, np.random.default_rng(0)
    on = [np.sort(rng.choice(tokens, size, replace=False)) for size in (1_400_000, 2_100_000)]
    pair = np.isin(np.arange(tokens), on[0]), np.isin(np.arange(tokens), on[1])
    lengths = pair[0].astype(np.int64) + pair[1]
    indices = np.stack([np.where(pair[0], 0, 9), np.where(pair[1], 1, 9)], axis=1).ravel()
    indices = indices[indices < 9].astype(np.uint32)
    block = Block(
        0,
        Tokens(*(np.zeros(tokens, dtype) for dtype in (np.int32, np.int64, *[np.int32] * 4))),
        np.concatenate([[0], np.cumsum(lengths)]),
        indices,
        np.ones(len(indices), np.float32),
        2,
    )
    sizes = Sizes(4, 2, tokens, len(indices) / tokens, 1, True)
    (table,) = Coactivation().tables(reduce(Coactivation(), [block], sizes=sizes), subject(2))
    (edge,) = table.data.to_pylist()
    a, b, both = (int(np.count_nonzero(x)) for x in (*pair, pair[0] & pair[1]))
    wanted = Decimal(tokens * both - a * b) / Decimal(a * (tokens - a) * b * (tokens - b)).sqrt()
    assert edge["joint_count"] == both
    assert edge["phi"] == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("sets", [50, pytest.param(200, marks=pytest.mark.deep)])
def test_10_bursty_unrelated_features_have_lift_and_no_match(sets):
    levels, p, lifts = np.array([0.05, 0.1, 0.2]), [], []
    for seed in range(sets):
        planted = Planted.make(
            seed, documents=30, shared=0, context=0, private=0, token=0, position=0, bursty=6
        )
        work = correlated(planted.rows("a"), planted.rows("b"))
        pairs = work.pairs()
        null = shifted_documents(work, planted.units, pairs, draws=19, seed=seed)
        best = np.flatnonzero((pairs.a == 0) & (pairs.rank_ab == 0))
        p.append([null.p[best[0]], null.p_pooled[best[0]]] if len(best) else [1.0, 1.0])
        expected = work.of_a.count[pairs.a] * work.of_b.count[pairs.b] / len(planted.units)
        lifts.extend(pairs.joint / expected)
    assert np.median(lifts) > 1.2
    for each in np.array(p).T:  # p, and p pooled
        share = (each[:, None] <= levels).mean(0)
        assert (share <= levels + 3 * np.sqrt(levels * (1 - levels) / sets)).all()


@pytest.fixture(scope="module")
def claimed():
    """Return the matches claimed for planted features of every kind, and the true pairs of each kind."""
    kinds = {"shared": 20, "context": 10, "private": 20, "token": 10, "position": 10, "bursty": 10}
    kinds["token_document"] = 20
    planted = Planted.make(0, documents=400, document_length=80, **kinds)
    work = correlated(planted.rows("a"), planted.rows("b"))
    pairs = work.pairs()
    shifts, shuffles, within = (
        null(work, planted.units, pairs, draws=20, seed=0)
        for null in (shifted_documents, shuffled_occurrences, shuffled_within_documents)
    )
    chosen = one_to_one(pairs, threshold=shifts.threshold)

    def are(which):
        return {(int(a), int(b)) for a, b in zip(pairs.a[which], pairs.b[which], strict=True)}

    return {
        "candidates": are(np.ones(len(pairs), dtype=bool)),
        "synchronous": are(chosen & (shifts.q <= 0.05)),
        "token_q alone": are(chosen & (shuffles.q <= 0.05)),
        "two nulls": are(chosen & (shifts.q <= 0.05) & (shuffles.q <= 0.05)),
        "beyond": are(chosen & (shifts.q <= 0.05) & (shuffles.q <= 0.05) & (within.q <= 0.05)),
    } | {kind: {tuple(pair) for pair in planted.pairs(kind).tolist()} for kind in kinds}


def test_shared_features_are_matched_and_others_are_not_except_positions(claimed):
    truth, beyond = claimed["shared"] | claimed["context"], claimed["beyond"]
    assert truth <= claimed["candidates"]
    assert len(truth - beyond) <= 1
    # The error rate excludes positions, which the next test covers.
    others = beyond - claimed["position"]
    assert len(others - truth) <= 0.05 * len(others) + 3 * np.sqrt(0.05 * len(others))
    # Token features share words: this is beyond the first null, but not beyond the token.
    assert len(claimed["token"] & claimed["synchronous"]) >= 8
    assert not claimed["token"] & beyond


def test_features_of_one_position_are_matched_although_they_share_nothing_else(claimed):
    """A known failure: they are synchronous, which is no evidence of a shared feature.

    No null fixes the position in the document. With a null that does, this test should be
    reversed, and with it the meaning of ``beyond_token`` in the schema, decision 0006,
    docs/demo.md and docs/planted.md.
    """
    assert len(claimed["position"] & claimed["synchronous"]) >= 8
    assert len(claimed["position"] & claimed["beyond"]) >= 8


def test_12_features_that_share_words_and_documents_only_are_not_beyond_the_token(claimed):
    pairs = claimed["token_document"]
    # Each of the first two nulls removes one thing they share: the words, or the documents.
    assert len(pairs & claimed["two nulls"]) >= 0.9 * len(pairs)
    assert len(pairs & claimed["beyond"]) <= 1
    # Power remains: shared features pass all three nulls.
    assert len((claimed["shared"] | claimed["context"]) - claimed["beyond"]) <= 1


def test_the_token_null_alone_claims_bursty_features(claimed):
    """This is why the schema requires a small ``q`` next to a small ``token_q``."""
    assert claimed["bursty"] & claimed["token_q alone"]
    assert not claimed["bursty"] & claimed["synchronous"]
