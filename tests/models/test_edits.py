"""Edits of sites equal TransformerLens, generation without a cache, and the formula by hand."""

import pytest
import torch
from random_models import random_ids, random_model
from random_saes import random_sae
from small_ingest import a_sae
from transformer_lens_models import hooked

from atlas.errors import BadInput, UnknownName
from ingest.model.edits import AddVector, Tokens, editing
from ingest.model.feature_edits import (
    FeatureEdits,
    ablate,
    add,
    clamp,
    patch,
    randomised,
    scale,
)
from ingest.model.next_token import NextTokenModel
from ingest.sae import autoencoder
from ingest.sae.autoencoder import open_sae

SITES = {
    "hook_embed": 24,
    "blocks.0.hook_resid_pre": 24,
    "blocks.1.attn.hook_z": None,
    "blocks.1.hook_attn_out": 24,
    "blocks.1.hook_resid_mid": 24,
    "blocks.1.mlp.hook_post": 40,
    "blocks.1.hook_mlp_out": 24,
    "blocks.2.hook_resid_post": 24,
}


def width(causal, hook):
    if not hook.endswith("hook_z"):
        return SITES[hook]
    config = causal.config
    heads = config.num_attention_heads
    return heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)


def codes_by_hand(sae, x):
    return torch.relu((x - sae.b_dec * sae.cfg.apply_b_dec_to_input) @ sae.W_enc + sae.b_enc)


def most_active(sae, x, number=4):
    return (codes_by_hand(sae, x) > 0).flatten(0, -2).sum(0).topk(number).indices.tolist()


#: The edit of a feature, and its new activation by hand.
ACTIONS = {
    "ablate": (ablate, lambda v: torch.zeros_like(v)),
    "mean": (lambda f: ablate(f, to=0.7), lambda v: torch.where(v > 0, 0.7, v)),
    "scale": (lambda f: scale(f, 2.5), lambda v: v * 2.5),
    "clamp": (lambda f: clamp(f, 2, maximum=1.5), lambda v: torch.full_like(v, 3.0)),
    "add": (lambda f: add(f, -2, maximum=0.5), lambda v: v - 1.0),
}


def by_hand(sae, x, features, value):
    """Return x + decode(changed) - decode(original)."""
    z = codes_by_hand(sae, x)
    new = z.clone()
    new[..., features] = value(z[..., features])
    return x + (new @ sae.W_dec - z @ sae.W_dec)


def logits_of(lens, causal, ids, hooks=()):
    with torch.no_grad():
        logits = lens.run_with_hooks(ids, fwd_hooks=list(hooks))
    if cap := getattr(causal.config, "final_logit_softcapping", None):
        logits = cap * (logits / cap).tanh()  # `hooked` leaves this to the caller
    return logits.log_softmax(-1)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox_serial", "gpt_neox"])
def test_edits_equal_transformer_lens(family):
    causal = random_model(family)
    lens = hooked(causal)
    mine = NextTokenModel("small", causal)
    ids, mask = random_ids()
    mask[:] = 1  # TransformerLens pads otherwise
    plain, cache = logits_of(lens, causal, ids), lens.run_with_cache(ids)[1]
    for hook in SITES:
        if family == "gpt_neox" and hook.endswith("resid_mid"):
            continue  # its attention and MLP read the same stream
        theirs = a_sae(hook, width(causal, hook))
        x = cache[hook].flatten(2) if hook.endswith("hook_z") else cache[hook]
        features = most_active(theirs, x)
        for make, value in ACTIONS.values():

            def change(x, hook, sae=theirs, features=features, value=value):
                flat = x.flatten(2) if hook.name.endswith("hook_z") else x
                return by_hand(sae, flat, features, value).reshape(x.shape)

            edits = [FeatureEdits(open_sae(theirs), [make(f) for f in features])]
            wanted = logits_of(lens, causal, ids, [(hook, change)])
            edited = mine.logits(ids, mask, edits=edits).log_softmax(-1)
            assert (edited - plain).abs().max() > 1e-3
            torch.testing.assert_close(edited, wanted, rtol=1e-5, atol=1e-5)


def test_several_saes_and_sites_equal_transformer_lens():
    causal = random_model("llama")
    lens, mine = hooked(causal), NextTokenModel("small", causal)
    ids, mask = random_ids()
    mask[:] = 1
    first, second = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
    one, two, other = a_sae(first, 24), a_sae(first, 24, seed=1), a_sae(second, 24, seed=2)
    x = lens.run_with_cache(ids)[1][first]
    mine_of = {id(sae): most_active(sae, x) for sae in (one, two, other)}

    def zero(sae, x):
        return by_hand(sae, x, mine_of[id(sae)], torch.zeros_like)

    wanted = logits_of(
        lens,
        causal,
        ids,
        [
            (first, lambda x, hook: zero(one, x) + zero(two, x) - x),
            (second, lambda x, hook: zero(other, x)),
        ],
    )
    edits = [
        FeatureEdits(open_sae(sae), [ablate(f) for f in mine_of[id(sae)]])
        for sae in (other, two, one)
    ]
    edited = mine.logits(ids, mask, edits=edits).log_softmax(-1)
    torch.testing.assert_close(edited, wanted, rtol=1e-5, atol=1e-5)


def test_the_site_is_read_after_its_edit_and_later_sites_depend_on_it():
    causal = random_model("llama")
    mine = NextTokenModel("small", causal)
    ids, mask = random_ids()
    hooks = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"]
    vector = torch.linspace(-1, 1, 24)
    _, before = mine.run(ids, mask, hooks=hooks)
    _, after = mine.run(ids, mask, hooks=hooks, edits=[AddVector(hooks[0], vector)])
    attended = mask.bool()
    torch.testing.assert_close(after[hooks[0]][attended], (before[hooks[0]] + vector)[attended])
    torch.testing.assert_close(after[hooks[1]], after[hooks[0]])
    assert (after[hooks[2]] - before[hooks[2]])[attended].abs().max() > 1e-2
    assert torch.equal(after[hooks[0]][~attended], before[hooks[0]][~attended])


class Reads:
    """An edit of a site that stores what it reads at another site, and changes nothing."""

    hook, needs = "blocks.1.hook_resid_post", ("blocks.0.hook_resid_post",)

    def apply(self, x, tokens):
        self.read = tokens.others[self.needs[0]]
        return x


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_edit_that_needs_another_site_reads_it_after_its_edits(family, order):
    mine = NextTokenModel("small", random_model(family))
    ids, mask = random_ids()
    reads, vector = Reads(), torch.linspace(-1, 1, 24)
    (other,) = reads.needs
    _, before = mine.run(ids, mask, hooks=[other])
    mine.run(ids, mask, edits=[reads, AddVector(other, vector)][::order])
    attended = mask.bool()
    torch.testing.assert_close(reads.read[attended], (before[other] + vector)[attended])
    torch.testing.assert_close(reads.read[~attended], before[other][~attended])


NOTHING = {
    "the same values": lambda z, f: patch(f, z[0, :, f].tolist()),
    "times 1": lambda z, f: scale(f, 1.0),
    "plus 0": lambda z, f: add(f, 0.0),
}


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("hook", SITES)
def test_logits_are_equal_to_the_bit_where_nothing_changes(hook, nothing):
    """The reconstruction error is retained: an edit without a change is not a reconstruction."""
    causal = random_model("llama")
    mine = NextTokenModel("small", causal)
    ids, mask = random_ids(rows=1)
    mask[:] = 1
    plain, read = mine.run(ids, mask, hooks=[hook])
    sae = open_sae(a_sae(hook, read[hook].shape[-1]))
    z = sae.encode(read[hook][0])[None]
    (feature,) = most_active(sae.sae, read[hook], 1)
    edits = FeatureEdits(sae, [NOTHING[nothing](z, feature)])
    with pytest.raises(BadInput, match="changes nothing"):
        mine.logits(ids, mask, edits=[edits])
    with editing(causal, [edits], name="small"), torch.inference_mode():
        same = causal(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert torch.equal(same, plain)


@pytest.mark.parametrize("how", ["none", "layer_norm", "constant_norm_rescale"])
def test_delta_equals_decoding_before_and_after(how):
    """``x + decode(changed) - decode(original)`` with the decoder of sae-lens."""
    hook = "blocks.1.hook_resid_post"
    sae = open_sae(a_sae(hook, 24, normalize_activations=how))
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0)) * 3
    read = torch.ones(2, 7, dtype=torch.bool)
    tokens = Tokens(torch.full((2, 7), 5), read, read)
    flat = x.flatten(0, 1)
    z = sae.encode(flat)
    first, second = most_active_of(z, 2)
    changed = z.clone()
    changed[:, first], changed[:, second] = 0, changed[:, second] * 3
    before = sae.decode(z)
    sae.encode(flat)  # sae-lens forgets the scale of each vector once it has decoded
    wanted = flat + sae.decode(changed) - before
    edits = FeatureEdits(sae, [ablate(first), scale(second, 3)])
    torch.testing.assert_close(edits.apply(x, tokens).flatten(0, 1), wanted, rtol=1e-5, atol=1e-5)
    drawn = FeatureEdits(sae, [randomised(ablate(first), 1)]).apply(x, tokens) - x
    alone = FeatureEdits(sae, [ablate(first)]).apply(x, tokens) - x
    torch.testing.assert_close(drawn.norm(dim=-1), alone.norm(dim=-1), rtol=1e-4, atol=1e-4)
    assert (drawn * alone).sum(-1).abs().max() < 0.9 * alone.square().sum(-1).max()
    again = FeatureEdits(sae, [randomised(ablate(first), 1)]).apply(x, tokens) - x
    assert torch.equal(drawn, again)


@pytest.mark.parametrize("how", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_randomised_edits_together_have_the_norm_of_the_edits(how, number):
    """Decoder vectors can be similar, and random directions are not: the norm of the sum is rescaled."""
    theirs = a_sae("blocks.1.hook_resid_post", 24, normalize_activations=how)
    x = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(0)) * 3
    features = most_active_of(open_sae(theirs).encode(x.flatten(0, 1)), number)
    with torch.no_grad():
        theirs.W_dec[features] += 2 * theirs.W_dec[features[0]]
    sae, read = open_sae(theirs), torch.ones(3, 7, dtype=torch.bool)
    tokens = Tokens(torch.full((3, 7), 5), read, read)
    edits = [ablate(f) for f in features]
    # The reference ablates by hand, with the decoder of sae-lens.
    z = sae.encode(x.flatten(0, 1))
    gone = z.clone()
    gone[:, features] = 0
    before = sae.decode(z)
    sae.encode(x.flatten(0, 1))
    wanted = (sae.decode(gone) - before).norm(dim=1)
    assert (wanted > 0).any()
    for seed in (1, 2):
        drawn = FeatureEdits(sae, [randomised(e, seed) for e in edits]).apply(x, tokens) - x
        torch.testing.assert_close(drawn.flatten(0, 1).norm(dim=1), wanted, rtol=1e-3, atol=1e-4)


def most_active_of(z, number):
    return (z > 0).sum(0).topk(number).indices.tolist()


def test_positions_of_an_edit():
    """Special tokens and padding are unchanged; last is the last attended token of each row."""
    sae = open_sae(a_sae("blocks.1.hook_resid_post", 24))
    x = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(0))
    read = torch.tensor([[0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]]).bool()
    last = torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]]).bool()
    tokens = Tokens(torch.full((2, 6), 5), read, last)
    active = (sae.encode(x.flatten(0, 1)) > 0).unflatten(0, (2, 6))
    feature = int(active.sum((0, 1)).argmax())
    for at, where in (("all", read), ("last", last), ("active", read & active[..., feature])):
        edits = FeatureEdits(sae, [clamp(feature, 9.0, at=at)])
        changed = (edits.apply(x, tokens) != x).any(-1)
        assert torch.equal(changed, where)
        assert edits.changed == [int(where.sum())]


def test_patch_sets_the_activations_of_another_prompt():
    causal = random_model("gpt2")
    mine = NextTokenModel("small", causal)
    hook = "blocks.1.hook_resid_post"
    sae = open_sae(a_sae(hook, 24))
    ids, mask = random_ids(rows=2)
    mask[:] = 1
    _, read = mine.run(ids, mask, hooks=[hook])
    z = sae.encode(read[hook].flatten(0, 1)).unflatten(0, (2, 12))
    (feature,) = most_active_of(z.flatten(0, 1), 1)
    source = z[1, :, feature]
    row = sae.decoder[feature]
    wanted = read[hook][0] + (source - z[0, :, feature])[:, None] * torch.from_numpy(row)
    edits = [FeatureEdits(sae, [patch(feature, source.tolist())])]
    _, patched = mine.run(ids[:1], mask[:1], hooks=[hook], edits=edits)
    torch.testing.assert_close(patched[hook][0], wanted, rtol=1e-5, atol=1e-5)
    last = [FeatureEdits(sae, [patch(feature, [float(source[-1])], at="last")])]
    _, patched = mine.run(ids[:1], mask[:1], hooks=[hook], edits=last)
    torch.testing.assert_close(patched[hook][0, -1], wanted[-1], rtol=1e-5, atol=1e-5)
    assert torch.equal(patched[hook][0, :-1], read[hook][0, :-1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neo", "gpt_neox"])
@pytest.mark.parametrize("at", ["all", "last", "active"])
def test_generation_with_a_cache_equals_one_without(family, at):
    causal = random_model(family)
    causal.generation_config.eos_token_id = None
    mine = NextTokenModel("small", causal, special=(0, 1, 2))
    ids, _ = random_ids(rows=3, length=8)
    hook = "blocks.1.hook_resid_post"
    sae = open_sae(a_sae(hook, 24))
    _, read = mine.run(ids, torch.ones_like(ids), hooks=[hook])
    features = most_active_of(sae.encode(read[hook].flatten(0, 1)), 2)
    edits = [FeatureEdits(sae, [clamp(f, 40, at=at) for f in features])]
    got = mine.generate(ids, new_tokens=6, edits=edits)
    rows = ids
    for _ in range(6):
        with (
            torch.inference_mode(),
            editing(causal, edits, name="small", special=(0, 1, 2), first=7),
        ):
            logits = causal(input_ids=rows, use_cache=False).logits
        rows = torch.cat([rows, logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(got, rows)
    edited, plain = (mine.logits(got, torch.ones_like(got), edits=e) for e in (edits, None))
    assert (edited - plain).abs().max() > 0.1
    alone = [mine.generate(row[None], new_tokens=6, edits=edits) for row in ids]
    assert torch.equal(torch.cat(alone), got)


def test_sampling_does_not_change_the_random_state():
    mine, (ids, _) = NextTokenModel("small", random_model("llama")), random_ids()
    before = torch.random.get_rng_state()
    mine.generate(ids, new_tokens=3, temperature=1.0, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["standard", "gated", "topk", "jumprelu"])
def test_rows_of_many_features_are_decoded_in_blocks(kind, monkeypatch):
    monkeypatch.setattr(autoencoder, "ROWS", 3)
    sae = random_sae(kind)
    for features in ([], [7], [0, 1, 2], [39, 2, 2, 0, 5, 11, 39]):
        found = open_sae(sae).rows(torch.tensor(features, dtype=torch.int64))
        torch.testing.assert_close(found, sae.W_dec[features], rtol=1e-5, atol=1e-5)


def test_sampled_text_depends_on_the_seed_alone():
    mine = NextTokenModel("small", random_model("llama"))
    ids, _ = random_ids(rows=2, length=8)
    one, same, other = (
        mine.generate(ids, new_tokens=9, temperature=1.0, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_ablating_an_inactive_feature_is_refused():
    """Published code returned the effect of b_dec for the ablation of a dead SAE (seed 002, part e)."""
    hook = "blocks.1.hook_resid_post"
    mine = NextTokenModel("small", random_model("llama"))
    dead = a_sae(hook, 24)
    with torch.no_grad():
        dead.b_enc[7] = -1e6
    ids, mask = random_ids()
    for edit in (ablate(7), scale(7, 0), clamp(7, 2, at="active")):
        edits = [FeatureEdits(open_sae(dead, name="dead"), [edit])]
        with pytest.raises(BadInput, match=r"dead/7 is active at none of the 32 tokens"):
            mine.logits(ids, mask, edits=edits)
        with pytest.raises(BadInput, match="active at none"):
            mine.generate(ids, new_tokens=2, edits=edits)


def test_ablating_every_feature_results_in_the_error_and_not_in_b_dec():
    """The same fault: a dead SAE that was ablated returned b_dec, not unchanged activations."""
    hook = "blocks.1.hook_resid_post"
    sae = open_sae(a_sae(hook, 24))
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(0))
    read = torch.ones(1, 5, dtype=torch.bool)
    edited = FeatureEdits(sae, [ablate(f) for f in range(40)]).apply(
        x, Tokens(torch.full((1, 5), 5), read, read)
    )
    with torch.no_grad():
        wanted = x[0] - sae.sae(x[0]) + sae.sae.b_dec
    torch.testing.assert_close(edited[0], wanted, rtol=1e-4, atol=1e-5)


def test_adding_along_the_decoder_adds_no_decoder_bias():
    """Seed 002 added decode(z), which includes b_dec, as a steering vector (note, part d)."""
    theirs = a_sae("blocks.1.hook_resid_post", 24)
    with torch.no_grad():
        theirs.b_dec.fill_(100.0)
    sae = open_sae(theirs)
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(0))
    read = torch.ones(1, 5, dtype=torch.bool)
    moved = FeatureEdits(sae, [add(3, 2.0)]).apply(x, Tokens(torch.full((1, 5), 5), read, read)) - x
    torch.testing.assert_close(moved, (2 * theirs.W_dec[3].detach()).expand_as(moved))


def test_an_edit_changes_every_position_that_it_names():
    """Seed 002's hook changed 32 of 4,096 rows, position -1 only (note, part c)."""
    mine = NextTokenModel("small", random_model("gpt2"))
    ids, mask = random_ids(rows=4, length=12)
    mask[:] = 1
    edits = FeatureEdits(open_sae(a_sae("blocks.1.hook_resid_pre", 24)), [add(3, 2.0)])
    mine.logits(ids, mask, edits=[edits])
    assert edits.changed == [48]


def test_bad_input_is_one_message():
    hook = "blocks.1.hook_resid_post"
    mine = NextTokenModel("small", random_model("llama"))
    sae = open_sae(a_sae(hook, 24), name="s")
    ids, mask = random_ids(rows=1, length=8)
    with pytest.raises(BadInput, match="s has features 0 to 39, and 40 was passed"):
        FeatureEdits(sae, [ablate(40)])
    with pytest.raises(BadInput, match="No edit of s was passed"):
        FeatureEdits(sae, [])
    with pytest.raises(BadInput, match="has the value inf; expected a finite number"):
        clamp(3, float("inf"))
    with pytest.raises(
        BadInput, match=r"has the value 1e\+39; expected a finite number of float32"
    ):
        add(3, 1e39)
    with pytest.raises(BadInput, match="feature 3 has the value nan; expected a finite number"):
        patch(3, [1.0, float("nan"), float("inf")])
    with pytest.raises(BadInput, match=r"returns NaN or Inf with these edits in torch.float32"):
        mine.logits(ids, mask, edits={hook: lambda x: x * float("nan")})
    with pytest.raises(BadInput, match=r"produces NaN or Inf at blocks.1.hook_resid_post"):
        mine.logits(ids, mask, edits=[FeatureEdits(sae, [clamp(f, 3.4e38) for f in range(40)])])
    with pytest.raises(BadInput, match="contexts of at most 64 tokens, and 70 were passed"):
        mine.generate(ids, new_tokens=62)
    with pytest.raises(BadInput, match=r"shape \(1, 0\)"):
        mine.generate(ids[:, :0], new_tokens=2)
    with pytest.raises(BadInput, match="was passed 2 values; expected one, for the last token"):
        patch(3, [1.0, 2.0], at="last")
    with pytest.raises(UnknownName, match=r"blocks\.9"):
        mine.logits(ids, mask, edits=[AddVector("blocks.9.hook_resid_post", torch.ones(24))])


def test_hooks_are_removed_also_after_an_error():
    causal = random_model("llama").train()
    mine = NextTokenModel("small", causal)
    ids, mask = random_ids()

    def fail(x):
        raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        mine.logits(ids, mask, edits={"blocks.1.hook_resid_mid": fail})
    assert causal.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in causal.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_edits_of_one_block_do_not_depend_on_their_order(family):
    causal = random_model(family).eval()
    ids, mask = random_ids()
    torch.manual_seed(1)
    shift = torch.randn(24)

    def middle(x):
        return x + shift

    def doubled(x):
        return 2 * x

    found = []
    for hooks in (("hook_resid_mid", "hook_resid_post"), ("hook_resid_post", "hook_resid_mid")):
        edit = {"hook_resid_mid": middle, "hook_resid_post": doubled}
        edits = {f"blocks.1.{hook}": edit[hook] for hook in hooks}
        with torch.no_grad(), editing(causal, edits, name="m"):
            found.append(causal(ids, attention_mask=mask).logits)
    assert torch.equal(found[0], found[1])
