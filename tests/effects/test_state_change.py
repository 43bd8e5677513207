"""States before and after an edit: changes by brute force, reach, one map, controls, bad input."""

import json
import re
from contextlib import contextmanager

import numpy as np
import pytest
import small_ingest
import steered_atlas
import torch
from click.testing import CliRunner
from drawn_charts import check_chart
from random_models import random_model
from scipy import sparse
from scipy.stats import false_discovery_control, ttest_1samp

from analysis.state_change.changes import change_of, compared, moved, moved_by_random
from analysis.state_change.maps import map_states, neighbour_overlap
from analysis.state_change.settings import StateSettings
from analysis.state_change.states import (
    TextSample,
    reached_tokens,
    read_state,
    sampled_text,
    text_with_features,
)
from analysis.state_change.study import StateStudy, compare_states
from analysis.state_change.verdict import has_evidence, sae_sentence, verdict
from analysis.steering.subject import open_subject
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from atlas.progress import SILENT
from atlas.studies.study import TaskContext
from ingest.forward.run import ingest
from ingest.model.edits import AddVector
from ingest.model.feature_edits import FeatureEdits, ablate, add, randomised
from ingest.sae.autoencoder import open_sae
from ingest.text.tokenization import Batch


def csr(values):
    return sparse.csr_array(np.asarray(values, dtype=np.float32))


def random_states(seed, documents=12, length=5, features=8, effect=0.0):
    rng = np.random.default_rng(seed)
    before = np.maximum(rng.normal(size=(documents * length, features)), 0)
    after = np.maximum(before + 0.1 * rng.normal(size=before.shape) + effect, 0)
    return before, after, np.repeat(np.arange(documents), length)


# Changes


def test_changes_of_equal_documents_are_those_of_a_paired_t_test():
    before, after, document = random_states(0)
    found = change_of(csr(before), csr(after), document)
    difference = (after - before).astype(np.float32).astype(float)
    by_document = np.array([difference[document == d].mean(axis=0) for d in range(12)])
    expected = ttest_1samp(by_document, 0.0)
    low, high = expected.confidence_interval()
    np.testing.assert_allclose(found.change, difference.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.low, low, atol=1e-6)
    np.testing.assert_allclose(found.high, high, atol=1e-6)
    np.testing.assert_allclose(
        found.q, false_discovery_control(np.maximum(expected.pvalue, 2.0**-11)), rtol=1e-3
    )
    np.testing.assert_allclose(found.mean_before, before.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.rate_after, (after > 0).mean(axis=0))


def test_changes_are_paired_by_token():
    """A permutation of the tokens of one state preserves all means, but is a change."""
    before, _, document = random_states(1)
    same = change_of(csr(before), csr(before), document)
    assert (same.change == 0).all()
    assert (same.q == 1).all()
    mixed = change_of(csr(before), csr(before[::-1]), document)
    assert (mixed.high - mixed.low > 0.1).all()


def test_degenerate_states():
    zero, document = np.zeros((6, 3)), np.repeat([0, 1], 3)
    none = change_of(csr(zero), csr(zero), document)
    assert np.isnan(none.q).all()
    assert (none.change == 0).all()
    one = change_of(csr(zero), csr(zero + 1), np.zeros(6, dtype=int))
    assert np.isnan(one.q).all()
    assert np.isnan(one.low).all()
    constant = change_of(csr(zero), csr(zero + 1), document)
    assert constant.q.tolist() == [0.5] * 3  # the lowest value of a sign-flip test of two documents
    empty = change_of(csr(np.zeros((0, 3))), csr(np.zeros((0, 3))), np.zeros(0, dtype=int))
    assert np.isnan(empty.q).all()


def q_of_noise(rng, *, effect=0.0):
    """Return q of one feature that is active on all tokens and changes by noise and an effect."""
    before = 5 + rng.random((60, 1))
    after = before + 0.1 * rng.normal(size=before.shape) + effect
    return change_of(csr(before), csr(after), np.repeat(np.arange(12), 5)).q[0]


def test_no_effect_is_rarely_significant_and_an_effect_is():
    rng = np.random.default_rng(0)
    none = np.array([q_of_noise(rng) for _ in range(400)])
    assert (none <= 0.05).mean() < 0.09  # 0.05 expected; above 0.09 in 1 of 2,000 sets
    some = np.array([q_of_noise(rng, effect=0.1) for _ in range(100)])
    assert (some <= 0.05).mean() > 0.9


def test_moved_features_exceed_every_control():
    before, after, document = random_states(3, effect=0.5)
    own, small = (change_of(csr(before), csr(x), document) for x in (after, before))
    assert moved(own, [small]).all()
    assert not moved(own, [small, own]).any()
    assert not moved(small, [small]).any()
    rows = compared("a", own, [small, own], edited=[2])
    assert [r["feature"] for r in rows if r["edited"]] == ["a/2"]
    sizes = [abs(r["change"]) for r in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[0]["control_largest"] == pytest.approx(sizes[0])
    assert rows[0]["control_mean"] == pytest.approx(sizes[0] / 2)


def test_the_edit_and_each_control_exceed_the_same_number_of_changes():
    """If the edit is another random direction, all directions move the same number of features."""
    features, documents, draws = 400, 12, 4
    rng = np.random.default_rng(0)
    before = 5 + rng.random((documents * 2, features))
    document = np.repeat(np.arange(documents), 2)
    sizes = rng.permuted(np.tile(np.arange(1, draws + 1), (features, 1)), axis=1)
    all_changes = [
        change_of(csr(before), csr(before + sizes[:, i] / 10), document) for i in range(draws)
    ]
    own, controls = all_changes[0], all_changes[1:]
    largest = [int((sizes[:, i] == draws).sum()) for i in range(draws)]
    assert int(moved(own, controls).sum()) == largest[0]
    assert moved_by_random(own, controls) == largest[1:]
    assert moved_by_random(own, controls[:1]) == [int((sizes[:, 1] > sizes[:, 0]).sum())]


# Reach


def batch(widths, with_bos=False):
    mask = np.zeros((len(widths), max(widths)), dtype=np.int64)
    for row, width in enumerate(widths):
        mask[row, :width] = 1
    selected = mask.astype(bool)
    selected[:, 0] = with_bos
    return Batch(np.zeros_like(mask), mask, selected, np.arange(int(selected.sum())))


def test_fault_c_only_tokens_that_the_edit_reaches_are_compared():
    """Seed 002 edited the last of 128 tokens and compared all; only 0.8% of its rows could differ."""
    text = TextSample((batch([5, 3]), batch([4])), np.zeros(4 + 2 + 3, dtype=np.int64))
    before = np.zeros((9, 2), dtype=np.float32)
    after = before.copy()
    after[1, 0] = 1.0  # second token of the first context
    after[8] = 1.0  # last token of the third
    assert reached_tokens(text, before, after).tolist() == [
        False,
        True,
        True,
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert not reached_tokens(text, before, before).any()


# One map for both states


@pytest.mark.parametrize("method", ["pca", "umap"])
def test_fault_c_both_states_are_on_one_map(method):
    """Seed 002 fitted a map to each state; unchanged rows of two UMAPs correlated .02 to .55."""
    rng = np.random.default_rng(0)
    before = np.maximum(rng.normal(size=(40, 20)), 0)
    after = before.copy()
    after[:, 3] = before[:, 7]
    after[:, 5] = 0.0
    found = map_states(csr(before), csr(after), method=method, seed=0)
    still = ~np.isin(found.features, [3, 5])
    np.testing.assert_array_equal(found.before[still], found.after[still])
    assert (found.before[3] != found.after[3]).any()
    assert np.isnan(found.after[5]).all()
    rows = found.rows("a")
    assert rows[5]["x_after"] is None
    assert rows[3]["feature"] == "a/3"


def test_maps_of_too_few_features():
    few = csr(np.eye(4))
    assert map_states(few, few, method="pca", seed=0) is None
    assert neighbour_overlap(few, few, neighbours=3) is None


def test_neighbour_overlap_equals_a_brute_force():
    rng = np.random.default_rng(1)
    before, after = np.abs(rng.normal(size=(2, 30, 9)))
    unit = [x / np.linalg.norm(x, axis=0) for x in (before, after)]
    near = []
    for x in unit:
        cosine = x.T @ x
        np.fill_diagonal(cosine, -9)
        near.append(np.argsort(-cosine, axis=1)[:, :3])
    expected = np.mean(
        [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(*near, strict=True)]
    )
    assert neighbour_overlap(csr(before), csr(after), neighbours=3) == pytest.approx(expected)
    assert neighbour_overlap(csr(before), csr(before), neighbours=3) == 1.0


# On an atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "a.atlas"
    causal, tokenizer, saes = steered_atlas.write(path)
    return path, {"model": causal, "tokenizer": tokenizer, "opened": saes}


def test_states_at_later_sites_equal_a_loop_with_hooks(atlas, tmp_path):
    path, options = atlas
    causal, saes = options["model"], options["opened"]
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    subject = open_subject(at, "middle", **options)
    found = list(subject.sampled(60, seed=0))
    text = TextSample(tuple(b for b, _ in found), np.concatenate([d for _, d in found]))
    vector = torch.linspace(-1, 1, 24)
    edits = [AddVector(subject.hook, vector)]
    state = read_state(subject.complete, saes, text, hook=subject.hook, edits=edits)
    rows, sites = [], []
    for one in text.batches:
        for ids, mask, selected in zip(one.input_ids, one.attention_mask, one.keep, strict=True):
            seen = {}

            def hook(module, args, output, seen=seen, selected=selected):
                x = output[0] if isinstance(output, tuple) else output
                new = x.clone()
                new[0, torch.from_numpy(selected[: x.shape[1]])] += vector
                seen[1] = new[0]
                return (new, *output[1:]) if isinstance(output, tuple) else new

            handles = [
                causal.model.layers[1].register_forward_hook(hook),
                causal.model.layers[2].register_forward_hook(
                    lambda m, a, out, seen=seen: seen.update(
                        {2: (out[0] if isinstance(out, tuple) else out)[0]}
                    )
                ),
            ]
            with torch.no_grad():
                causal(torch.from_numpy(ids[mask > 0])[None])
                where = torch.from_numpy(selected[mask > 0])
                rows.append([saes[i].sae.encode(seen[i + 1][where]).numpy() for i in (0, 1)])
                sites.append(seen[1][where].numpy())
            for handle in handles:
                handle.remove()
    for i, name in enumerate(("middle", "last")):
        expected = np.concatenate([row[i] for row in rows])
        np.testing.assert_allclose(state.codes[name].toarray(), expected, atol=2e-4)
    np.testing.assert_allclose(state.site, np.concatenate(sites), atol=1e-4)


def test_an_edit_of_a_feature_that_is_inactive_in_some_batches_is_no_error(atlas, tmp_path):
    path, options = atlas
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    subject = open_subject(at, "middle", **options)
    found = list(subject.sampled(200, seed=0))
    text = TextSample(tuple(b for b, _ in found), np.concatenate([d for _, d in found]))
    plain = read_state(subject.complete, [subject.sae], text, hook=subject.hook, edits=[])
    counts = np.asarray((plain.codes["middle"] > 0).sum(axis=0)).ravel()
    rare = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
    state = read_state(
        subject.complete,
        [subject.sae],
        text,
        hook=subject.hook,
        edits=[FeatureEdits(subject.sae, [ablate(rare)])],
    )
    assert (state.site != plain.site).any(axis=1).sum() == counts[rare]


SETTINGS = StateSettings(edit="add", times=8.0, tokens=400, draws=3)


@pytest.fixture(scope="module")
def result(atlas):
    (found,) = compare_states(atlas[0], ["last/0"], settings=SETTINGS, **atlas[1])
    return found


def test_the_edited_feature_moves_and_its_numbers_are_stored(result):
    frame = result.to_pandas("changes").set_index("feature")
    own = frame.loc["last/0"]
    assert own["edited"]
    assert own["mean_after"] == pytest.approx(own["mean_before"] + own["change"])
    assert own["q"] <= 0.05
    assert set(frame["sae"]) == {"last"}  # the other SAE reads an earlier site
    assert result.verdict[0].startswith("Adding last/0 moves more features than each of 3 random")
    assert "only these are compared" in result.verdict[1]
    assert result["edited_tokens"] <= result["reached"] <= result["tokens"]
    (edited,) = result.table("edited").to_pylist()
    assert edited["mean_before"] == pytest.approx(own["mean_before"])
    assert edited["mean_after"] == pytest.approx(own["mean_after"])
    assert result.verdict[-1].startswith("last: ")
    assert {"last_moved", "last_moved_by_random", "last_overlap"} <= set(result)
    drawn = json.dumps(check_chart(result.plot()).to_dict())
    assert "one map" in drawn


def test_the_overlap_of_random_directions_is_the_mean_over_all(atlas, tmp_path):
    path, options = atlas
    settings = StateSettings(
        edit="add", times=0.5, tokens=100, draws=3, neighbours=3, layout="none"
    )
    (found,) = compare_states(path, ["last/0"], settings=settings, **options)
    folder = Folder.open(path)
    subject = open_subject(TaskContext(folder, folder.sound(), tmp_path, SILENT), "last", **options)
    sampled = list(subject.sampled(settings.tokens, seed=settings.seed))
    text = TextSample(tuple(b for b, _ in sampled), np.concatenate([d for _, d in sampled]))
    edit = add(0, 0.5, maximum=float(subject.maximum[0]))

    def codes(edits):
        return read_state(
            subject.complete,
            [subject.sae],
            text,
            hook=subject.hook,
            edits=[FeatureEdits(subject.sae, edits)] if edits else [],
        ).codes["last"]

    before = codes([])
    expected = [
        neighbour_overlap(
            before,
            codes([randomised(edit, settings.seed + 1 + draw)]),
            neighbours=settings.neighbours,
        )
        for draw in range(3)
    ]
    assert len(set(expected)) > 1
    assert found["last_overlap_by_random"] == pytest.approx(np.mean(expected))


def test_later_sites_are_compared_by_default(atlas):
    settings = StateSettings(tokens=100, draws=1, layout="none")
    (found,) = compare_states(atlas[0], ["middle/3"], settings=settings, **atlas[1])
    assert found.to_pandas("saes")["sae"].tolist() == ["middle", "last"]
    assert len(found.table("map")) == 0
    (again,) = compare_states(atlas[0], ["middle/3"], settings=settings, **atlas[1])
    assert dict(again) == dict(found)


@pytest.mark.parametrize(
    ("features", "on", "message"),
    [
        (["last/0"], ["middle"], "its site blocks.1.hook_resid_post is before"),
        (["last/0"], ["other"], "it reads the model other"),
        (["last/0"], ["absent"], "No SAE"),
        (["last/0", "middle/0"], [], "of 2 SAEs"),
        (["last/99"], [], "last/0 to last/39"),
        (["last"], [], "expected SAE/INDEX"),
    ],
)
def test_bad_requests_are_one_message(atlas, features, on, message):
    path, options = atlas
    if on == ["other"] and "other" not in Folder.open(path).sound().saes:
        causal = random_model("llama", vocab_size=steered_atlas.VOCABULARY, seed=7)
        sae = small_ingest.topk(hook="blocks.2.hook_resid_post", seed=9)
        causal.name_or_path = "other"
        ingest(
            path,
            saes=[open_sae(sae, name="other", model="other")],
            model=causal,
            tokenizer=options["tokenizer"],
            match=None,
        )
    with pytest.raises((BadInput, UnknownName), match=message):
        compare_states(path, features, on=on, settings=SETTINGS, **options)


def test_an_edit_without_an_effect_is_refused_and_nothing_is_stored(atlas):
    path, options = atlas
    none = StateSettings(edit="scale", times=1.0, tokens=100, draws=1)
    with pytest.raises(BadInput, match="changes nothing"):
        compare_states(path, ["last/0"], settings=none, **options)
    huge = StateSettings(edit="add", times=1e38, tokens=100, draws=1)
    with pytest.raises(BadInput, match=r"NaN or Inf|not finite|finite"):
        compare_states(path, ["last/0"], settings=huge, **options)
    done = CliRunner().invoke(command(), ["changes", "last/0", "-q", "-a", str(path)])
    assert isinstance(done.exception, BadInput)  # the model is in memory


def test_the_text_of_an_ablation_is_all_contexts_with_the_feature_and_no_others(atlas, tmp_path):
    path, options = atlas
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    subject = open_subject(at, "middle", **options)
    every = sampled_text(subject, 10**9, seed=0)
    plain = read_state(subject.complete, [subject.sae], every, hook=subject.hook, edits=[]).codes[
        "middle"
    ]
    counts = np.asarray((plain > 0).sum(axis=0)).ravel()
    rare = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
    active = plain[:, [rare]].toarray()[:, 0] > 0
    expected, first = [], 0
    for batch in every.batches:
        cells = np.zeros(batch.keep.shape, dtype=bool)
        cells[batch.keep] = active[first : first + int(batch.keep.sum())]
        expected += batch.input_ids[cells.any(1)].tolist()
        first += int(batch.keep.sum())
    more = {"tokens": 10**9, "seed": 0, "progress": SILENT}
    found = text_with_features(subject, [rare], search=10**9, **more)
    assert [row for batch in found.batches for row in batch.input_ids.tolist()] == expected
    assert len(found.document) == sum(int(batch.keep.sum()) for batch in found.batches)
    state = read_state(
        subject.complete,
        [subject.sae],
        found,
        hook=subject.hook,
        edits=[FeatureEdits(subject.sae, [ablate(rare)])],
    )
    again = read_state(subject.complete, [subject.sae], found, hook=subject.hook, edits=[])
    assert (state.site != again.site).any(axis=1).sum() == counts[rare]
    silent = int(np.flatnonzero(counts == 0)[0]) if (counts == 0).any() else None
    if silent is not None:
        with pytest.raises(
            BadInput, match=r"active at none of the [\d,]+ tokens of text that were"
        ):
            text_with_features(subject, [silent], search=50, **more)


@pytest.mark.parametrize("edit", ["ablate", "clamp"])
def test_a_forecast_counts_states_neighbours_and_the_search(atlas, tmp_path, monkeypatch, edit):
    """If each sample takes a second: draws + 2 states, draws + 1 overlaps, and the searched batches."""
    path, how = atlas
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    subject = open_subject(at, "middle", **how)
    ((batch, document), *_) = subject.sampled(1, seed=0)
    ids, mask, selected = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
    read = subject.model.run(ids, mask, hooks=[subject.hook])
    codes = np.zeros((*batch.keep.shape, subject.sae.info.d_sae))
    codes[batch.keep] = subject.sae.encode(subject.sae.reads(read, selected, ids)).detach().numpy()
    feature = int((codes > 0).any(axis=1).sum(axis=0).argmax())
    share = batch.keep[(codes[..., feature] > 0).any(axis=1)].sum() / len(document)
    monkeypatch.setattr("analysis.state_change.study.timed_on", lambda _, work: (work(), 1.0)[1])
    settings = StateSettings(edit=edit, tokens=1000, draws=4, neighbours=2)
    study = StateStudy(settings, (feature,), ("middle",), **how)
    (task,) = study.tasks(at, ["middle"])
    batches = (6 + 5) * 1000 / len(document)
    if edit == "ablate":
        batches += np.ceil(1000 / share) / len(document)
    assert share > 0
    assert study.forecast(task, at).seconds == pytest.approx(batches)


@pytest.mark.parametrize(
    ("moved_features", "conclusion"),
    [
        (10, r"a: no more features move than under a random direction \(10 of 99; "),
        (12, r"a: more features move than on average, but not more than under every random"),
        (20, r"not more than under every random direction \(20 of 99; .*10.0 on average, 20 at"),
        (
            21,
            r"a: more features move than under each of 9 random directions \(21 of 99; .*; p ≤ 0.1, and more `draws`",
        ),
    ],
)
def test_the_number_of_moved_features_has_a_conclusion(moved_features, conclusion):
    row = {"sae": "a", "features": 99, "moved_by_random": 10.0, "moved_by_random_most": 20}
    assert re.search(conclusion, sae_sentence(row | {"moved": moved_features}, [], draws=9))


@pytest.mark.parametrize(
    ("change", "edited", "far"),
    [(2.0, False, 1), (-2.0, False, 1), (1.9, False, 0), (9.0, True, 0)],
)
def test_single_features_far_beyond_random_directions_are_counted(change, edited, far):
    row = {
        "sae": "a", "moved": 1, "moved_by_random": 3.0, "moved_by_random_most": 5, "features": 9
    }  # fmt: skip
    one = {
        "sae": "a", "feature": "a/1", "moved": True, "edited": edited, "change": change,
        "control_largest": 1.0,
    }  # fmt: skip
    others = [one | {"sae": "b", "change": 9.0}, one | {"moved": False, "change": 9.0}]
    sentence = sae_sentence(row, [one, *others], draws=9)
    assert f"; {far} of them, without edited ones, change" in sentence
    assert has_evidence(row, [one, *others]) == (far > 0)


def test_a_verdict_names_the_saes_with_more_moved_features_and_states_its_text():
    rows = [
        {"sae": name, "moved": number, "moved_by_random": 3.0, "moved_by_random_most": 5, "features": 9}
        for name, number in (("a", 2), ("b", 6), ("f", 7))
    ]  # fmt: skip
    summary = {
        "features": ["a/1"], "edit": "ablate", "tokens": 600, "reached": 60, "edited_tokens": 8, "searched": 4100,
    }  # fmt: skip
    edited = [{"feature": "a/1", "active_tokens": 8, "mean_before": 0.5, "mean_after": 0.25}]
    more = {"edited": edited, "draws": 9, "floors": ["f"]}
    found = verdict(summary, rows, [], requested=1000, **more)
    assert found[0] == (
        "Ablating a/1 moves more features than each of 9 random directions of equal norm in 1 of 2 SAEs (b) and 1 of "
        "1 floor (f)."
    )
    assert found[1].startswith(
        "The edit changes 8 of 600 tokens of text at its site, and reaches 60 (10%)"
    )
    assert found[2].startswith("a/1 is active at 8 tokens of this text; its mean")
    assert "is 0.5 before and 0.25 after the edit, not 0" in found[2]
    assert "hold 600 tokens, fewer than the 1,000 requested (`tokens`): 4,100 tokens" in found[3]
    assert [one.split(":")[0] for one in found[-3:]] == ["a", "b", "f (a floor)"]
    assert not any("requested" in one for one in verdict(summary, rows, [], requested=600, **more))
    assert not any("requested" in one for one in verdict(summary, rows, [], requested=None, **more))


def test_only_named_saes_are_compared_and_each_list_has_its_own_result(atlas):
    settings = StateSettings(tokens=100, draws=1, layout="none")
    path, options = atlas
    (every,) = compare_states(path, ["middle/3"], settings=settings, **options)
    (some,) = compare_states(path, ["middle/3"], on=["last"], settings=settings, **options)
    assert every.to_pandas("saes")["sae"].tolist() == ["middle", "last"]
    assert some.to_pandas("saes")["sae"].tolist() == ["last"]
    assert set(some.to_pandas("changes")["sae"]) == {"last"}
    assert some.table("edited").to_pylist() == every.table("edited").to_pylist()
    assert some.name != every.name
    (both,) = compare_states(
        path, ["middle/3"], on=["last", "middle"], settings=settings, **options
    )
    assert both.name == every.name
    assert {"middle@3@ablate", some.name} <= {
        part.manifest.name for part in Folder.open(path).sound().of("state_change")
    }


def test_edited_tokens_are_those_on_which_the_ablated_feature_is_active(atlas):
    settings = StateSettings(tokens=100, draws=1, layout="none")
    (found,) = compare_states(atlas[0], ["middle/3"], settings=settings, **atlas[1])
    (edited,) = found.table("edited").to_pylist()
    assert found["edited_tokens"] == edited["active_tokens"] <= found["reached"]
    assert found["searched"] >= found["tokens"]


def test_the_states_of_a_run_are_one_stage_and_the_search_ends_at_its_total(atlas, tmp_path):
    class Stages:
        def __init__(self):
            self.seen = []

        @contextmanager
        def stage(self, title, *, total=None, unit=""):
            own = [title, total, 0]
            self.seen.append(own)

            class Bar:
                def advance(self, by=1):
                    own[2] += by

            yield Bar()

        def report(self, sentence):
            pass

    path, options = atlas
    folder, progress = Folder.open(path), Stages()
    at = TaskContext(folder, folder.sound(), tmp_path, progress)
    study = StateStudy(StateSettings(search=30, draws=2, layout="none"), (3,), **options)
    (task,) = study.tasks(at, ["middle"])
    study.run(task, at)
    search, states = progress.seen
    assert search[2] == search[1] == 30
    assert states[0].startswith("Before and after the edit")
    assert states[2] == states[1]
