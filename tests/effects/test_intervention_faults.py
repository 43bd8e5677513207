"""Faults of the published interventions of seed 002 (notes, parts c, d and e), each with its test.

``FAULTS`` lists each fault with the tests that reproduce it or show that it cannot occur here. The
tests of this file are in no other file; the first one checks that all others exist.
"""

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_effects import contexts_of, effects_of
from circuit_model import circuit_model, circuit_saes
from scipy import sparse
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from small_ingest import a_sae

from analysis.similarity.measures import cca
from analysis.state_change.maps import map_states
from atlas.errors import BadInput
from ingest.model.edits import Tokens
from ingest.model.feature_edits import FeatureEdits, ablate
from ingest.sae.autoencoder import open_sae

HOOK = "blocks.1.hook_resid_post"

#: (part of the notes, fault): the tests, each by its file and name.
FAULTS = {
    ("c", "the points of a map of features are dimensions of the stream"): [
        "intervention_faults:fault_c_points_are_features_and_not_dimensions",
    ],
    ("c", "the hook edits the last position alone: 0.8% of the rows"): [
        "edits:an_edit_changes_every_position_that_it_names",
        "state_change:fault_c_only_tokens_that_the_edit_reaches_are_compared",
    ],
    ("c", "each state has a map of its own, without a seed"): [
        "state_change:fault_c_both_states_are_on_one_map",
        "feature_map:separate_fits_differ_where_no_row_changed",
    ],
    ("c", "R², also negative, is printed as a canonical correlation"): [
        "intervention_faults:fault_c_a_score_of_cca_is_no_correlation",
    ],
    ("d", "1: the vector is built from the test prompts"): [
        "steering:fault_d1_no_contrasting_prompt_is_scored",
    ],
    ("d", "2: the decoder bias is added with the features"): [
        "steering:fault_d2_a_feature_adds_its_decoder_row_without_the_bias",
        "logits:fault_d2_the_ablation_adds_no_decoder_bias",
        "edits:adding_along_the_decoder_adds_no_decoder_bias",
    ],
    (
        "d",
        "3: arms of SAEs replace all positions by reconstructions, and no arm shows the effect",
    ): [
        "steering:fault_d3_the_reconstruction_alone_is_an_arm_and_is_measured",
        "intervention_faults:fault_d3_an_ablation_is_no_reconstruction",
    ],
    ("d", "4: a longer prompt is padded without a mask"): [
        "steering:fault_d4_prompts_of_other_lengths_do_not_change_a_contrast",
    ],
    ("d", "5: no contrast, so the vector is that of a start of a document"): [
        "steering:fault_d5_the_difference_of_means_subtracts_the_contrast",
    ],
    ("d", "6: the coefficient is chosen on the test prompts"): [
        "steering:fault_d6_the_strength_is_chosen_on_the_development_half_alone",
    ],
    ("d", "6: answers above nine are not scored"): [
        "steering:fault_d6_answers_above_nine_are_scored",
    ],
    ("d", "6: no interval"): ["steering:wilson_equals_the_closed_form"],
    ("d", "unrelated prompts are answered with a numeral, and the damage is not measured"): [
        "steering:damage_equals_a_loop_and_no_edit_has_none",
    ],
    ("d", "the text after an ablation of a set depends on the order of the set"): [
        "intervention_faults:fault_d_the_order_of_a_set_does_not_change_its_ablation",
    ],
    ("e", "a dead feature is ablated, and the result is the decoder bias"): [
        "edits:ablating_an_inactive_feature_is_refused",
        "edits:ablating_every_feature_results_in_the_error_and_not_in_b_dec",
        "steering:fault_e_a_feature_that_is_never_active_is_refused",
        "logits:fault_e_ablating_inactive_features_is_refused",
    ],
    ("e", "an SAE without an active feature has an ablated text"): [
        "intervention_faults:fault_e_a_dead_sae_has_no_effects",
    ],
    ("e", "a loop over features counts to the length of a number"): [
        "intervention_faults:fault_e_a_number_of_features_is_a_number",
    ],
}


def test_every_fault_has_a_test_that_exists():
    folder = Path(__file__).parents[1]
    for fault, tests in FAULTS.items():
        assert tests, fault
        for name in tests:
            file, _, test = name.partition(":")
            (path,) = folder.rglob(f"test_{file}.py")
            text = path.read_text("utf-8")
            assert re.search(rf"^def test_{test}\(", text, re.MULTILINE), name


def test_fault_c_points_are_features_and_not_dimensions():
    """The encoder, (dimensions, features), was mapped by rows: one point for each dimension."""
    sae = open_sae(a_sae(HOOK, 24))
    assert len(PCA(2).fit_transform(sae.sae.W_enc.detach().numpy())) == 24
    assert sae.decoder.shape == (40, 24)  # a map of directions has a point for each of these rows
    x = torch.randn(90, 24, generator=torch.Generator().manual_seed(0))
    state = sparse.csr_array(sae.encode(x).numpy())
    found = map_states(state, state, method="pca", seed=0)
    assert found.features.tolist() == list(range(40))
    assert len(found.before) == 40


def test_fault_c_a_score_of_cca_is_no_correlation():
    """``CCA.score`` is R² of a prediction. It is below 0 for points that do correlate."""
    rng = np.random.default_rng(0)
    for noise in (5.0, 20.0):
        x = rng.normal(size=(200, 2))
        y = x @ rng.normal(size=(2, 2)) + noise * rng.normal(size=(200, 2))
        fitted = CCA(2).fit(x, y)
        assert fitted.score(x, y) < 0
        one, two = fitted.transform(x, y)
        correlations = [np.corrcoef(one[:, i], two[:, i])[0, 1] for i in range(2)]
        assert min(correlations) > 0
        assert cca(x, y) == pytest.approx(np.mean(correlations), abs=1e-3)


def test_fault_d3_an_ablation_is_no_reconstruction():
    """A reconstruction changes every position; an ablation those where the feature is active."""
    sae = open_sae(a_sae(HOOK, 24))
    x = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(0))
    z = sae.encode(x[0])
    quiet = int((z > 0).sum(0).argmin())
    some = (z[:, quiet] > 0).nonzero()[:, 0]
    assert 0 < len(some) < 9
    read = torch.ones(1, 9, dtype=torch.bool)
    edited = FeatureEdits(sae, [ablate(quiet)]).apply(x, Tokens(torch.full((1, 9), 5), read, read))
    still = z[:, quiet] == 0
    assert torch.equal(edited[0, still], x[0, still])
    assert (sae.decode(z) - x[0]).norm(dim=1).min() > 0.1  # published: at every position


def test_fault_d_the_order_of_a_set_does_not_change_its_ablation():
    """The published code ablated only some members of a set, in the order of the set."""
    sae = open_sae(a_sae(HOOK, 24))
    x = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(0))
    features = (sae.encode(x[0]) > 0).sum(0).topk(4).indices.tolist()
    read = torch.ones(1, 9, dtype=torch.bool)
    tokens = Tokens(torch.full((1, 9), 5), read, read)
    first, *others = (
        FeatureEdits(sae, [ablate(f) for f in order]).apply(x, tokens)
        for order in permutations(features)
    )
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-5)
    one, two = (
        FeatureEdits(sae, [ablate(f) for f in some]).apply(x, tokens)
        for some in (features[:2], features[2:])
    )
    assert (one - two).abs().max() > 0.1  # published: the first members, whichever they were


def test_fault_e_a_dead_sae_has_no_effects():
    """The published code replaced every input by the decoder bias, and reported the text after it."""
    dead, later = circuit_saes()
    with torch.no_grad():
        dead.b_enc.fill_(-1e6)
        dead.b_dec.normal_(generator=torch.Generator().manual_seed(0))
        one, two = dead(torch.randn(2, 5, dead.cfg.d_in))
    torch.testing.assert_close(one, two)  # the published text does not depend on the prompt
    with pytest.raises(BadInput, match=r"No feature of .* is active at 5 or more tokens"):
        effects_of(circuit_model(), (dead, later), contexts=contexts_of())


def test_fault_e_a_number_of_features_is_a_number():
    """The loop was over ``range(len(number))``."""
    with pytest.raises(TypeError):
        range(len(3))
    found = effects_of(circuit_model(), circuit_saes(), contexts=contexts_of(), features=3)
    assert len(found.source.features) == 3
    assert len(set(found.source.features.tolist())) == 3
