"""Steering: tasks and hostile files, scores and damage by brute force, arms, choice, planted effect."""

import json

import numpy as np
import pytest
import steered_atlas
import torch
from click.testing import CliRunner
from drawn_charts import check_chart
from unstored import assert_unstored_provenance

from analysis.steering.arms import Reconstruction, arms_of, contrast, find_features
from analysis.steering.evaluation import (
    choose,
    gain_p,
    halves_of,
    success_against_damage,
    wilson,
)
from analysis.steering.scoring import damage, target_rows
from analysis.steering.settings import SteeringSettings
from analysis.steering.study import steer_task
from analysis.steering.subject import open_subject
from analysis.steering.tasks import SteeringTask, TestPrompt, read_task, task_names
from analysis.steering.texts import steer_text
from analysis.steering.verdict import steers, verdict_of
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from atlas.progress import SILENT
from atlas.studies.study import TaskContext
from ingest.model.edits import AddVector

FEW = SteeringSettings(random=3, strengths=(1.0, 8.0), neutral_tokens=64, most_kl=1e9)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    path = tmp_path_factory.mktemp("steer") / "a.atlas"
    return path, *steered_atlas.write(path)


@pytest.fixture(scope="module")
def options(atlas):
    _, causal, tokenizer, saes = atlas
    return {"model": causal, "tokenizer": tokenizer, "opened": saes}


def subject_of(atlas, name, tmp_path):
    path, causal, tokenizer, saes = atlas
    folder = Folder.open(path)
    at = TaskContext(folder, folder.sound(), tmp_path, SILENT)
    return open_subject(at, name, opened=saes, model=causal, tokenizer=tokenizer)


# Tasks


def test_the_package_has_the_tasks_of_gemma_and_of_stories():
    assert {
        "number-words",
        "months",
        "days",
        "tomorrow",
        "next-month",
        "descending",
        "spanish",
        "pronoun-after-name",
        "openings",
        "dialogue-verbs",
        "feelings",
    } == set(task_names())
    for name in task_names():
        task = read_task(name)
        assert len(task.tests) >= 14
        assert min(len(task.positive), len(task.negative)) >= 8


@pytest.mark.parametrize("name", task_names())
def test_fault_d1_no_contrasting_prompt_is_scored(name):
    """Seed 002 built its vector from the test prompts."""
    task = read_task(name)
    assert not {t.prompt for t in task.tests} & {*task.positive, *task.negative}


def test_fault_d6_answers_above_nine_are_scored():
    """Seed 002 scored one digit only."""
    targets = {t for task in map(read_task, task_names()) for p in task.tests for t in p.targets}
    assert {" 10", " 11", " 12"} <= targets


LINES = [
    *({"kind": "test", "prompt": f"a {i}", "targets": [" b"]} for i in range(4)),
    *({"kind": k, "prompt": f"{k} {i}"} for k in ("positive", "negative") for i in range(2)),
]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: "not json\n" + x, "Line 1 of .* is not JSON"),
        (lambda x: x + "[" * 100_000, "is not JSON"),
        (lambda x: x + "[1]\n", "of type list"),
        (lambda x: x + "{}\n", "kind None"),
        (lambda x: x + '{"kind": "other"}\n', "kind 'other'"),
        (
            lambda x: x + '{"kind": "about", "text": "t", "made_for": [1]}\n',
            "'made_for' of type list",
        ),
        (lambda x: x + '{"kind": "test", "prompt": "z"}\n', "needs 'targets'"),
        (lambda x: x + '{"kind": "test", "prompt": "z", "targets": [""]}\n', "needs 'targets'"),
        (lambda x: x + '{"kind": "test", "prompt": 3, "targets": ["b"]}\n', "needs 'prompt'"),
        (lambda x: x + '{"kind": "positive", "prompt": "a 1"}\n', "in two kinds of lines"),
        (lambda x: x + json.dumps(LINES[0]) + "\n", "a test prompt twice"),
        (lambda x: "", "has 0 test prompts"),
        (lambda x: "\n".join(x.split("\n")[:-2]), "has 1 negative prompts"),
        (lambda x: x + " " * 2**20, "more than 1,048,576 bytes"),
        (lambda x: x + "\udcff", r"not UTF-8\. Convert .* WINDOWS-1252"),
        (lambda x: "\udcff\udcfe{\0", r"not UTF-8\. Convert .* UTF-16"),
    ],
)
def test_a_broken_task_is_one_message(tmp_path, change, message):
    path = tmp_path / "task.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    path.write_text(text)
    assert len(read_task(path).tests) == 4
    path.write_text("\ufeff" + text, "utf-8")  # a byte order mark, which editors on Windows write
    assert len(read_task(path).tests) == 4
    path.write_bytes(change(text).encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=message):
        read_task(path)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UnknownName, match="Nearest: feelings"):
        read_task("feeling")


# Scores, against generation and loops of transformers


def log_probs(causal, ids, vector=None, *, layer=2, start=0):
    """Return the log-probabilities of a context, with a vector added from a position on."""

    def hook(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        new = x.clone()
        new[0, max(start, 1) :] += vector  # never at BOS, which SAEs do not read
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handles = [causal.model.layers[layer].register_forward_hook(hook)] if vector is not None else []
    with torch.no_grad():
        out = causal(torch.tensor([ids])).logits[0].log_softmax(-1)
    for handle in handles:
        handle.remove()
    return out.double()


@pytest.mark.parametrize("at", ["all", "last"])
@pytest.mark.parametrize("task", ["feelings", "number-words"])
def test_scores_equal_greedy_generation_and_a_loop(atlas, tmp_path, at, task):
    _, causal, tokenizer, _ = atlas
    subject, tests = subject_of(atlas, "last", tmp_path), read_task(task).tests[:6]
    vector = torch.linspace(-2, 2, 24)
    found = target_rows(subject, tests).score(subject, [AddVector(subject.hook, vector, at)])
    for number, test in enumerate(tests):
        prompt = [0, *tokenizer(test.prompt, add_special_tokens=False)["input_ids"]]
        start = 0 if at == "all" else len(prompt) - 1
        total, success = 0.0, False
        for target in test.targets:
            full = [0, *tokenizer(test.prompt + target, add_special_tokens=False)["input_ids"]]
            if full[: len(prompt)] != prompt:
                continue
            p = log_probs(causal, full, vector, start=start)
            total += float(sum(p[i - 1, full[i]] for i in range(len(prompt), len(full))).exp())
            written = list(prompt)  # greedy, a token at a time
            for _ in full[len(prompt) :]:
                written.append(int(log_probs(causal, written, vector, start=start)[-1].argmax()))
            success |= written == full
        assert found.logprob[number] == pytest.approx(np.log(total), abs=1e-4)
        assert found.success[number] == success


def test_targets_that_begin_with_another_target_count_once(atlas, tmp_path):
    subject = subject_of(atlas, "last", tmp_path)
    both = target_rows(subject, [TestPrompt("she was", (" a", " ab"))])
    one = target_rows(subject, [TestPrompt("she was", (" a",))])
    full = [r.ids for r in both.rows]
    assert len(full) == len(set(full))
    if len(both.rows) == 1:
        assert both.rows == one.rows


def test_a_target_that_joins_the_prompt_is_refused(atlas, tmp_path):
    subject = subject_of(atlas, "last", tmp_path)
    with pytest.raises(BadInput, match="End the prompt where a token ends"):
        target_rows(subject, [TestPrompt("she was very hap", ("py",))])
    with pytest.raises(BadInput, match=r"has \d+ tokens with its target, and .* takes 64"):
        target_rows(subject, [TestPrompt("she was " * 80, (" happy",))])


def test_damage_equals_a_loop_and_no_edit_has_none(atlas, tmp_path):
    _, causal, _, _ = atlas
    subject = subject_of(atlas, "last", tmp_path)
    batches, vector = list(subject.neutral(200, seed=0)), torch.linspace(-2, 2, 24)
    none, some = damage(subject, batches, [[], [AddVector(subject.hook, vector)]], progress=SILENT)
    assert (none.kl, none.loss) == ((0.0, 0.0), (0.0, 0.0))
    sums = {side: ([], []) for side in (0, 1)}
    context = 0
    for batch in batches:
        for ids, mask, selected in zip(
            batch.input_ids, batch.attention_mask, batch.keep, strict=True
        ):
            ids = ids[mask > 0].tolist()
            p, q = log_probs(causal, ids), log_probs(causal, ids, vector)
            kl, lost = sums[context % 2]
            for t in np.flatnonzero(selected):
                kl.append(float((p[t].exp() * (p[t] - q[t])).sum()))
                if t + 1 < len(ids) and selected[t + 1]:
                    lost.append(float(p[t, ids[t + 1]] - q[t, ids[t + 1]]))
            context += 1
    for side in (0, 1):
        assert some.kl[side] == pytest.approx(np.mean(sums[side][0]), rel=1e-3, abs=1e-5)
        assert some.loss[side] == pytest.approx(np.mean(sums[side][1]), rel=1e-3, abs=1e-5)


# Arms


def test_fault_d3_the_reconstruction_alone_is_an_arm_and_is_measured(atlas, tmp_path):
    """In seed 002 the arms of SAEs replaced all activations, and no arm measured the effect of that."""
    _, causal, _, saes = atlas
    subject = subject_of(atlas, "last", tmp_path)
    ids = torch.tensor([[0, 7, 30, 9, 41]])
    own = subject.complete.logits(ids, torch.ones_like(ids), edits=[Reconstruction(subject.sae)])

    def splice(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        new = x.clone()
        with torch.no_grad():
            new[0, 1:] = saes[1].sae(x[0, 1:])
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = causal.model.layers[2].register_forward_hook(splice)
    with torch.no_grad():
        wanted = causal(ids).logits
    handle.remove()
    torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-4)


def test_fault_d2_a_feature_adds_its_decoder_row_without_the_bias(atlas, tmp_path):
    """Seed 002 added the decoder bias to the stream with the feature."""
    subject = subject_of(atlas, "last", tmp_path)
    found = contrast(subject, read_task("feelings"))
    features = [int(i) for i in np.flatnonzero(subject.maximum > 0)]
    features = [0, *(i for i in features if i)][:6]
    sets = [tuple(features[2:4]), tuple(features[4:6])]
    arms = arms_of(subject, found, features[:2], random=features[2:4], random_sets=sets)
    row = subject.sae.sae.W_dec[0].detach()
    torch.testing.assert_close(
        arms[2].vector, float(subject.maximum[0]) * row, rtol=1e-4, atol=1e-5
    )
    (edit,) = arms[2].edits(2.0, "all")
    torch.testing.assert_close(
        edit.vector, 2 * float(subject.maximum[0]) * row, rtol=1e-4, atol=1e-5
    )
    assert [a.name for a in arms] == [
        "nothing",
        "reconstruction",
        "feature",
        "set",
        "difference of means",
        "random feature",
        "random feature",
        "random set",
        "random set",
    ]
    norms = [float(a.vector.norm()) for a in arms if a.vector is not None]
    assert norms == pytest.approx([norms[0]] * len(norms), rel=1e-4)
    together = sum(
        float(subject.maximum[f]) * subject.sae.sae.W_dec[f].detach() for f in features[:2]
    )
    cosine = torch.cosine_similarity(arms[3].vector, together, dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)


def test_fault_d5_the_difference_of_means_subtracts_the_contrast(atlas, tmp_path):
    """The vector of seed 002 was a mean without a contrast, mostly the start of a document."""
    _, causal, tokenizer, saes = atlas
    subject, task = subject_of(atlas, "last", tmp_path), read_task("feelings")

    def at_last(prompts):
        rows = []
        for prompt in prompts:
            ids = torch.tensor([[0, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
            seen = []
            handle = causal.model.layers[2].register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
            )
            with torch.no_grad():
                causal(ids)
            handle.remove()
            rows.append(seen[0][0, -1])
        return torch.stack(rows)

    positive, negative = at_last(task.positive), at_last(task.negative)
    found = contrast(subject, task)
    torch.testing.assert_close(
        found.vector, positive.mean(0) - negative.mean(0), rtol=1e-4, atol=1e-4
    )
    with torch.no_grad():
        codes = saes[1].sae.encode(positive).mean(0) - saes[1].sae.encode(negative).mean(0)
    relative = codes / torch.from_numpy(subject.maximum).float().clamp(min=1e-9)
    (best, *_) = find_features(subject, found, 3)
    assert float(relative[best]) == pytest.approx(
        float(relative[subject.maximum > 0].max()), rel=1e-3
    )


def test_fault_d4_prompts_of_other_lengths_do_not_change_a_contrast(atlas, tmp_path):
    """Seed 002 padded "10" among "1" to "9" without a mask, so its last position was no token of the prompt."""
    subject = subject_of(atlas, "last", tmp_path)
    tests = read_task("feelings").tests
    short, long = "the cat", "the cat saw the dog and the cat"
    parts = [
        contrast(subject, SteeringTask("t", "", tests, (prompt,), ("the dog",)))
        for prompt in (short, long)
    ]
    both = contrast(subject, SteeringTask("t", "", tests, (short, long), ("the dog",)))
    for name in ("vector", "codes"):
        alone = [getattr(part, name) for part in parts]
        torch.testing.assert_close(getattr(both, name), sum(alone) / 2, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(parts[0].vector, parts[1].vector, atol=1e-2)


def test_equal_prompts_have_no_difference_of_means(atlas, tmp_path):
    subject = subject_of(atlas, "last", tmp_path)
    same = SteeringTask("t", "", read_task("feelings").tests, ("a", "b"), ("b", "a"))
    found = contrast(subject, same)
    with pytest.raises(BadInput, match="more active on the positive"):
        find_features(subject, found, 3)
    with pytest.raises(BadInput, match="equal mean"):
        arms_of(subject, found, [0])


def nearest(subject, feature, number, *, without):
    """Return the live features that are nearest to one in frequency, by a sort of all."""
    live = [i for i in np.flatnonzero(subject.maximum > 0).tolist() if i not in without]
    ratio = {i: abs(np.log(subject.frequency[i] / subject.frequency[feature])) for i in live}
    return set(sorted(live, key=lambda i: (ratio[i], i))[:number])


def test_random_features_have_a_similar_frequency(atlas, tmp_path):
    subject = subject_of(atlas, "last", tmp_path)
    for feature in (0, 3):
        found = subject.similar(feature, number=3, seed=0)
        assert len(set(found)) == 3
        assert set(found) <= nearest(subject, feature, 6, without=(feature,))
    sets = subject.similar_sets([0, 3], number=3, seed=0)
    for column, feature in zip(zip(*sets, strict=True), (0, 3), strict=True):
        assert len(set(column)) == 3
        assert set(column) <= nearest(subject, feature, 8, without=(0, 3))


def test_the_random_features_of_a_feature_do_not_depend_on_the_other_steered_ones(
    atlas, options, tmp_path
):
    """A feature alone and as the first of a set had different controls, and opposite verdicts."""
    one, several = (
        steer_task(atlas[0], "feelings", names, settings=FEW, **options)[0].table("arms")
        for names in (["last/0"], ["last/0", "last/3", "last/7"])
    )
    rows = [
        [row for row in table.drop_columns("number").to_pylist() if row["arm"] in shared]
        for shared in [("feature", "random feature", "nothing")]
        for table in (one, several)
    ]
    assert len(rows[0]) == 5
    assert rows[0] == rows[1]


def test_no_random_set_has_a_feature_twice(atlas, tmp_path):
    """Features of equal frequency have the same candidates, so independent draws repeat one."""
    subject = subject_of(atlas, "last", tmp_path)
    subject.maximum[:], subject.frequency[:] = 1.0, 0.1
    features = [0, 3, 5, 7, 8]
    for seed in range(20):
        groups = subject.similar_sets(features, number=3, seed=seed)
        assert [len(set(group)) for group in groups] == [5, 5, 5]
        assert not {i for group in groups for i in group} & set(features)
        for column in zip(*groups, strict=True):
            assert len(set(column)) == 3
    subject.maximum[9:] = 0.0  # live and not steered: 1, 2, 4, 6
    assert subject.similar_sets(features, number=3, seed=0) == []
    assert len(subject.similar(0, number=99, seed=0)) == 8


def test_random_features_are_drawn_evenly_and_by_the_seed(atlas, tmp_path):
    subject = subject_of(atlas, "last", tmp_path)
    subject.maximum[:], subject.frequency[:] = 1.0, 0.1
    draws = [tuple(subject.similar(2, number=4, seed=seed)) for seed in range(400)]
    assert draws[0] == tuple(subject.similar(2, number=4, seed=0))
    counts = np.bincount([i for draw in draws for i in draw], minlength=9)
    assert counts[2] == 0
    drawn = counts[
        [0, 1, 3, 4, 5, 6, 7, 8]
    ]  # the 8 nearest, ties by index; each is in half of the draws
    assert drawn.sum() == 1600
    assert np.abs(drawn - 200).max() < 5 * np.sqrt(400 * 0.25)


# Selection of the strength


def test_wilson_equals_the_closed_form():
    for k, n in ((0, 5), (8, 10), (5, 5), (1, 300)):
        z, p = 1.959963984540054, k / n
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = ((centre + s * half) / (1 + z * z / n) for s in (-1, 1))
        assert wilson(k, n) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


def curve_row(number, arm, strength, **values):
    base = {
        "number": number,
        "arm": arm,
        "features": [],
        "strength": strength,
        "prompts": 10,
        "prompts_development": 10,
        "success": 0,
        "success_development": 0,
        "gained": 0,
        "lost": 0,
        "logprob": -5.0,
        "logprob_development": -5.0,
        "kl": 0.1,
        "kl_development": 0.1,
        "loss": 0.0,
        "loss_development": 0.0,
    }
    return base | values


def test_fault_d6_the_strength_is_chosen_on_the_development_half_alone():
    """Seed 002 chose the coefficient on the prompts that it reported."""
    nothing = curve_row(0, "nothing", 0.0)
    curve = [
        nothing,
        curve_row(1, "feature", 1.0, success_development=3, success=9),
        curve_row(1, "feature", 2.0, success_development=5, success=1, logprob=-2.0),
        curve_row(1, "feature", 4.0, success_development=9, success=9, kl_development=7.0),
        curve_row(2, "random feature", 1.0, logprob=-4.0),
        curve_row(3, "random feature", 1.0, logprob=-1.0),
    ]
    chosen = choose(curve, most_kl=1.0)
    assert [row["strength"] for row in chosen] == [0.0, 2.0, 1.0, 1.0]
    assert chosen[1]["success"] == 1
    assert chosen[1]["logprob_change"] == 3.0
    assert chosen[1]["logprob_p"] == pytest.approx(2 / 3)  # of two random features, one is higher
    assert chosen[1]["success_p"] == pytest.approx(1 / 3)  # and none has a success
    assert chosen[2]["success_p"] is chosen[0]["logprob_p"] is None
    assert [row["gain_p"] for row in chosen] == [None, 1.0, None, None]
    shuffled = [row | {"success": 10 - row["success"], "logprob": -9.0} for row in curve]
    again = choose(shuffled, most_kl=1.0)
    assert [row["strength"] for row in again] == [row["strength"] for row in chosen]
    least = choose(
        [nothing, *(r | {"kl_development": 9.0 + r["strength"]} for r in curve[1:4])], most_kl=1.0
    )
    assert least[1]["strength"] == 1.0  # none is allowed: the lowest KL


def test_the_p_of_a_gain_is_the_share_of_signs():
    """Under the null each prompt that changed was as likely gained as lost: all signs are enumerated."""
    from itertools import product

    for changed in range(1, 9):
        signs = [sum(one) for one in product((0, 1), repeat=changed)]
        for gained in range(changed + 1):
            expected = np.mean([number >= gained for number in signs])
            assert gain_p(gained, changed - gained) == pytest.approx(expected)
    assert gain_p(0, 0) == 1.0


def test_halves_do_not_overlap():
    for number in range(4, 12):
        one, two = halves_of(number, seed=3)
        assert sorted([*one, *two]) == list(range(number))


# The study, on a planted effect


@pytest.fixture(scope="module")
def planted(atlas, options):
    task = read_task("feelings")
    (found,) = steer_task(atlas[0], "feelings", ["last/0"], settings=FEW, **options)
    return task, found


def test_a_planted_feature_succeeds_and_random_features_do_not(planted):
    _, found = planted
    assert found["prompts"] == 10
    assert found["feature_success"] == 10
    assert found["nothing_success"] == 0
    assert found["random_success"] <= 1
    assert found["feature_success_p"] == 0.25  # the lowest of three random features
    assert found["feature_logprob_p"] == 0.25
    assert found["feature_gain_p"] == 0.5**10  # each prompt is gained
    assert found["feature_logprob_change"] > 2
    assert "last/0 cannot be shown to steer here: 10 of 10 test prompts" in found.verdict[0]
    assert "With 3 random features, p of success cannot be below 0.25" in found.verdict[0]
    text = " ".join(found.verdict)
    assert "(p of log-probability 0.25, lowest possible 0.25)" in text
    assert "feature 72% to 100%" in text
    assert "neutral text loses" in text
    frame = found.to_pandas("arms")
    assert (frame["low"] <= frame["success"] / frame["prompts"]).all()
    assert set(found.to_pandas("curve")["strength"]) == {0.0, 1.0, 8.0}
    assert "KL on neutral text" in json.dumps(check_chart(found.plot()).to_dict())


def summary_of(**values):
    """The summary of a feature with 7 of 10 successes, 0 without an edit, above all of 39 random features."""
    summary = {"task": "t", "made_for": "", "features": ["a/7"], "prompts": 10}
    summary |= {"any_success": 9, "nothing_success": 0, "reconstruction_success": 0}
    summary |= {"random": 39, "random_success": 0.5}
    for arm in ("feature", "difference"):
        numbers = {"success": 7, "gain_p": 0.5**7, "success_p": 0.025, "low": 0.4, "high": 0.9}
        numbers |= {"strength": 1.0, "loss": 0.1, "kl": 0.1, "logprob_change": 1.0}
        summary |= {f"{arm}_{key}": value for key, value in (numbers | {"logprob_p": 0.1}).items()}
    return summary | values


@pytest.mark.parametrize(
    ("values", "expected", "text"),
    [
        (
            {},
            True,
            "a/7 steers: 7 of 10 test prompts succeed, 0 without an edit (p of gain 0.0078)",
        ),
        ({"feature_success_p": 0.075}, False, "is not shown to steer: 7 of 10"),
        ({"feature_gain_p": 0.0625}, False, "is not shown to steer: 7 of 10"),
        ({"nothing_success": 5, "feature_success": 5}, False, "is not shown to steer: 5 of 10"),
        ({"random": 19, "feature_success_p": 0.05}, None, "cannot be below 0.05; `random=39`"),
        ({"random": 19, "feature_success_p": 0.5}, False, "is not shown to steer: 7 of 10"),
        ({"random": 0, "feature_success_p": None}, None, "cannot be below 1; `random=39`"),
        ({"nothing_success": 6}, None, "Only 4 fail without an edit, so p of gain cannot be below"),
    ],
)
def test_a_verdict_begins_with_whether_the_feature_steers(values, expected, text):
    summary = summary_of(**values)
    assert steers(summary, "feature") is expected
    assert text in verdict_of(summary)[0]


def test_a_task_that_no_arm_solves_cannot_show_that_a_feature_does_not_steer():
    """The verdict was "does not steer" although no edit at all reached a target."""
    summary = summary_of(any_success=0, feature_success=0, made_for="Gemma 2 2B")
    verdict = " ".join(verdict_of(summary))
    assert "the task cannot show whether a/7 steers" in verdict
    assert "made for Gemma 2 2B" in verdict
    assert "not steer" not in verdict


def test_a_task_that_no_arm_solves_is_recognised_from_all_strengths(atlas, options, tmp_path):
    path = tmp_path / "none.jsonl"
    lines = [
        {"kind": "about", "text": "nothing", "made_for": "no model"},
        *({"kind": "test", "prompt": f"She {v}", "targets": [" sad sad"]} for v in "abcd"),
        *({"kind": k, "prompt": f"{k} {i}"} for k in ("positive", "negative") for i in "xy"),
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = steer_task(atlas[0], path, ["last/0"], settings=FEW, **options)
    curve = found.to_pandas("curve")
    assert found["any_success"] == curve[["success", "success_development"]].max().max() == 0
    assert "cannot show whether last/0 steers" in found.verdict[0]
    assert "made for no model" in found.verdict[0]


def test_gained_and_lost_prompts_are_those_that_differ_from_no_edit(planted, atlas, options):
    _, found = planted
    for row in found.table("curve").to_pylist():
        for half in ("", "_development"):
            plain = found.table("curve").to_pylist()[0][f"success{half}"]
            assert row[f"success{half}"] == plain + row[f"gained{half}"] - row[f"lost{half}"]
            assert 0 <= row[f"lost{half}"] <= plain


def test_the_example_prints_both_p_of_each_arm(planted):
    import importlib.util
    from pathlib import Path

    file = Path(__file__).parents[2] / "examples" / "what_features_do.py"
    spec = importlib.util.spec_from_file_location("what_features_do", file)
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    row = report.steering_row(planted[1])
    assert row["feature"] == "10 (p 0.00098, 0.25)"


def test_the_curve_has_successes_and_losses_by_strength():
    rows = [
        {"arm": arm, "strength": strength, "success": success, "loss": loss}
        for arm, strength, success, loss in (
            ("nothing", 0.0, 1, 0.0),
            ("reconstruction", 0.0, 2, 0.3),
            ("feature", 1.0, 3, 0.125),
            ("feature", 2.0, 5, 0.5),
            ("random feature", 1.0, 0, 0.25),
            ("random feature", 1.0, 3, 0.75),
            ("random feature", 2.0, 1, 1.0),
            ("random feature", 2.0, 2, 2.0),
        )
    ]
    assert success_against_damage(rows) == [
        {"strength": 1.0, "feature": "3 (0.12)", "random feature": "1.5 (0.50)"},
        {"strength": 2.0, "feature": "5 (0.50)", "random feature": "1.5 (1.50)"},
    ]
    assert success_against_damage([]) == []


def test_a_long_prompt_is_refused_before_any_work(atlas, options, monkeypatch):
    from analysis.steering import texts

    monkeypatch.setattr(texts, "damage", None)
    with pytest.raises(BadInput, match="at most 64 tokens"):
        steer_text(atlas[0], "a b " * 60, ["last/0"], settings=FEW, **options)


def test_a_stored_result_is_read_and_another_task_of_equal_name_is_not(
    atlas, options, planted, tmp_path
):
    path = tmp_path / "feelings.jsonl"
    path.write_text(
        "".join(
            json.dumps(line) + "\n"
            for line in [
                *({"kind": "test", "prompt": f"She {v}", "targets": [" happy"]} for v in "abcd"),
                *(
                    {"kind": k, "prompt": f"{k} {i}"}
                    for k in ("positive", "negative")
                    for i in "xy"
                ),
            ]
        )
    )
    (again,) = steer_task(atlas[0], "feelings", ["last/0"], settings=FEW, **options)
    assert again.rows if hasattr(again, "rows") else dict(again) == dict(planted[1])
    (other,) = steer_task(atlas[0], path, ["last/0"], settings=FEW, **options)
    assert other["prompts"] == 2


def test_features_are_found_on_the_contrasting_prompts(atlas, options):
    (found,) = steer_task(atlas[0], "months", saes=["middle"], settings=FEW, **options)
    assert len(found["features"]) <= 5
    assert "set_success" in found.summary
    assert f"The set of {len(found['features'])} features" in found.verdict[1]


@pytest.mark.parametrize(
    "name", ["number-words", "months", "days", "tomorrow", "next-month", "descending", "spanish"]
)
def test_tasks_of_gemma_run_on_a_random_gemma(name, gemma):
    path, causal, tokenizer, saes = gemma
    (found,) = steer_task(
        path,
        name,
        ["middle/3"],
        settings=SteeringSettings(random=1, strengths=(1.0,), neutral_tokens=16),
        model=causal,
        tokenizer=tokenizer,
        opened=saes,
    )
    assert found["nothing_success"] <= found["prompts"]
    assert found["task"] == name


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    path = tmp_path_factory.mktemp("gemma") / "a.atlas"
    return path, *steered_atlas.write(path, "gemma2")


# Text, and bad input


def test_text_before_and_after_is_that_of_transformers(atlas, options):
    path, causal, tokenizer, _ = atlas
    found = steer_text(
        path, "She was", ["last/0"], times=8.0, new_tokens=4, settings=FEW, **options
    )
    plain, steered, random = found.to_pandas("texts").to_dict("records")
    ids = torch.tensor([[0, *tokenizer("She was", add_special_tokens=False)["input_ids"]]])
    wanted = causal.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=1
    )
    assert plain["text"] == tokenizer.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)
    assert "happy" in steered["text"].replace(" ", "") or steered["text"] != plain["text"]
    assert (plain["kl"], plain["loss"]) == (0.0, 0.0)
    assert steered["kl"] > 0
    assert random["arm"] == "random features"
    assert len(found.verdict) == 2
    assert_unstored_provenance(
        found, path, sae="last", settings={"times": 8.0, "new_tokens": 4, "prompt": "She was"}
    )


@pytest.mark.parametrize(
    ("features", "times", "prompt", "message"),
    [
        (["last/0"], 1.0, " ", "expected a text"),
        (["last/0"], float("nan"), "a", "a finite number"),
        (["last/0"], 0.0, "a", "The strength is 0.0; expected a finite number other than 0"),
        (["last/0"], -0.0, "a", "a finite number other than 0"),
        (["last/0"], 1e38, "a", "NaN or Inf"),
        (["last/0"], 1.0, "a b " * 60, "at most 64 tokens"),
        (["last/0", "middle/1"], 1.0, "a", "of 2 SAEs"),
        ([], 1.0, "a", "of 0 SAEs"),
        (["last/40"], 1.0, "a", "last/0 to last/39"),
        (["last/x"], 1.0, "a", "expected SAE/INDEX"),
        (["last/-1"], 1.0, "a", "expected SAE/INDEX"),
        (["other/1"], 1.0, "a", "No SAE"),
    ],
)
def test_bad_requests_are_one_message(atlas, options, features, times, prompt, message):
    with pytest.raises((BadInput, UnknownName), match=message):
        steer_text(atlas[0], prompt, features, times=times, settings=FEW, **options)


def test_fault_e_a_feature_that_is_never_active_is_refused(atlas, options, tmp_path):
    subject = subject_of(atlas, "middle", tmp_path)
    dead = np.flatnonzero(subject.maximum == 0)
    if not len(dead):
        subject.maximum[0] = 0.0
        dead = [0]
    with pytest.raises(BadInput, match="is never active in the text"):
        subject.check_live([int(dead[0])])


def test_the_command_needs_one_of_prompt_and_task(atlas):
    for words in ([], ["--prompt", "a", "--task", "feelings"]):
        done = CliRunner().invoke(command(), ["steer", "-a", str(atlas[0]), *words])
        assert isinstance(done.exception, BadInput)
    for words, message in (
        (
            ["--prompt", "a", "--strength", "2"],
            "--strength is for --task. With --prompt, pass --times",
        ),
        (
            ["--task", "feelings", "--times", "2"],
            "--times is for --prompt. With --task, pass --strength",
        ),
    ):
        done = CliRunner().invoke(command(), ["steer", "-a", str(atlas[0]), *words])
        assert isinstance(done.exception, BadInput)
        assert message in str(done.exception)
    done = CliRunner().invoke(command(), ["steer", "--list-tasks", "--json"])
    assert len(json.loads(done.stdout)["result"]) == len(task_names())
    with pytest.raises(BadInput, match="Name features of one"):
        steer_task(atlas[0], "feelings", ["last/0"], saes=["middle"])
    with pytest.raises(BadInput, match="No SAE was named"):
        steer_task(atlas[0], "feelings")


def test_a_feature_is_an_argument_or_an_option(atlas, monkeypatch):
    from analysis.steering import study

    seen = []
    monkeypatch.setattr(
        study, "steer_task", lambda _, __, features, **___: seen.append(features) or []
    )
    for words in (["last/0", "last/1"], ["last/0", "--feature", "last/1"]):
        done = CliRunner().invoke(
            command(), ["steer", *words, "--task", "feelings", "-a", str(atlas[0])]
        )
        assert done.exit_code == 0, done.output
    assert seen == [("last/0", "last/1")] * 2
    monkeypatch.undo()
    done = CliRunner().invoke(
        command(), ["steer", "last", "--task", "feelings", "-a", str(atlas[0])]
    )
    assert "The feature is 'last'; expected SAE/INDEX" in str(done.exception)
