"""Dataset geometry: differences, verdicts, metrics, sweep and report; faults of the original study."""

import itertools
import json
import math
import re
import shlex
from dataclasses import asdict, replace
from html import unescape
from html.parser import HTMLParser
from shutil import copytree, rmtree

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from geometry_parts import RUN, TARGET, add_maps, add_probes, add_sae, study_atlas
from random_models import random_ids, random_model, small_tokenizer
from random_saes import random_sae, vectors
from scipy.stats import t, ttest_1samp
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from small_ingest import CONTEXT, HOOK, texts, topk
from small_ingest import model as small_model
from small_parts import small_atlas
from tiny_study import tiny_run

from analysis.probe.tables import load
from analysis.residual.report.arm_difference import (
    Difference,
    Sample,
    difference,
    mean_over_seeds,
    sign_flip,
)
from analysis.residual.report.commands import report
from analysis.residual.report.findings import IngestedSae, Mapped, assign_floors, find, verdicts_of
from analysis.residual.report.interpretability_metrics import (
    least_entropy,
    match_rows,
    token_metrics,
)
from analysis.residual.report.plots import draw_sweep, sweep_table, verdict_table
from analysis.residual.report.report import figures, html
from analysis.residual.report.report_text import floor_of_verdicts
from analysis.residual.report.reproduce_commands import commands, without_verdict
from analysis.residual.report.study import open_study
from analysis.residual.report.sweep import sweep_rows, verdict_rows
from analysis.residual.report.verdict import detectable_size, headline, judge
from analysis.residual.settings import DEMO_TEXT, PROBE, ResidualSettings
from analysis.residual.study import residual_study
from analysis.transcoder.moments import Moments
from analysis.transcoder.scores import MapScores
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import fit, spectrum, squared_error
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.disk.parts import read_manifest, write_part
from atlas.errors import BadInput, Mismatch, UnknownName
from ingest.demo.build import DEMO_SAES
from ingest.forward.run import ingest
from ingest.match.settings import MatchSettings
from ingest.model.language_model import open_model
from ingest.probe.bootstrap import limits
from ingest.probe.scores import Confusion
from ingest.probe.settings import ProbeSettings
from ingest.sae.autoencoder import open_sae

# --- the difference ---------------------------------------------------------------------------


def sample(rng, seed, *, features=30, draws=20, draw=None, shift=0.0):
    scores = rng.choice([0.5, 0.6, 0.75, 0.9], features) + shift
    positives = rng.choice([10, 11, 20, 50, 400], features)
    drawn = scores + rng.normal(0, 0.05, (draws, features)) if draws else None
    if draws and features:
        drawn[rng.random(drawn.shape) < 0.1] = np.nan
    return Sample(seed, scores, positives, drawn, draw)


def strata_by_hand(samples, number):
    pooled = sorted(int(p) for s in samples for p in s.positives)
    ends = []
    for share in (i / number for i in range(1, number)):
        ends.append(pooled[math.floor(share * (len(pooled) - 1) + 1e-9)])
    return sorted(set(ends))


def stratum(positives, ends):
    return sum(positives > end for end in ends)


def weighted_by_hand(a, b, ends, scores_a, scores_b):
    """Return the weighted mean over strata of the difference of means; None without a common stratum."""
    top = bottom = 0.0
    for h in range(len(ends) + 1):
        of_a = [i for i, p in enumerate(a.positives) if stratum(p, ends) == h]
        of_b = [i for i, p in enumerate(b.positives) if stratum(p, ends) == h]
        if of_a and of_b:
            means = [
                [s[i] for i in of if not math.isnan(s[i])]
                for s, of in ((scores_a, of_a), (scores_b, of_b))
            ]
            if all(means):
                weight = len(of_a) + len(of_b)
                one, other = (sum(m) / len(m) for m in means)
                top, bottom = top + weight * (one - other), bottom + weight
    return top / bottom if bottom else None


@pytest.mark.parametrize("seed", range(8))
def test_difference_equals_a_direct_computation(seed):
    rng = np.random.default_rng(seed)
    one = [sample(rng, s, shift=-0.03) for s in (0, 1, 2)]
    other = [sample(rng, s, draw=d) for s in (0, 1, 2, 7) for d in (0, 1)]
    found = difference(one, other, names=("residual", "components"))
    ends = strata_by_hand([*one, *(s for s in other if s.seed != 7)], 5)
    by_seed, over = {}, []
    for a in one:
        pairs = [b for b in other if b.seed == a.seed]
        estimates = [weighted_by_hand(a, b, ends, a.scores, b.scores) for b in pairs]
        by_seed[a.seed] = sum(estimates) / len(estimates)
        over.append(
            [
                np.mean([weighted_by_hand(a, b, ends, a.draws[d], b.draws[d]) for b in pairs])
                for d in range(20)
            ]
        )
    assert found.by_seed == pytest.approx(by_seed)
    assert found.mean == pytest.approx(sum(by_seed.values()) / 3)
    mean = sum(by_seed.values()) / 3
    seeds = sum((v - mean) ** 2 for v in by_seed.values()) / 2
    documents = np.mean(
        [np.cov(over[i], over[j])[0, 1] for i, j in itertools.combinations(range(3), 2)]
    )
    means = [
        np.mean(
            [
                weighted_by_hand(a, b, ends, a.scores, b.scores)
                for a in one
                for b in other
                if a.seed == b.seed and b.draw == d
            ]
        )
        for d in (0, 1)
    ]
    drawn = np.var(means, ddof=1) / 2
    assert found.seed_variance == pytest.approx(seeds)
    assert found.document_variance == pytest.approx(max(0.0, documents))
    assert found.draw_variance == pytest.approx(drawn)
    assert found.standard_error**2 == pytest.approx(seeds / 3 + max(0.0, documents) + drawn)
    assert (found.low + found.high) / 2 == pytest.approx(found.mean)
    assert found.resampled == ("seeds", "documents")
    assert found.plain == pytest.approx(
        np.mean(
            [
                np.mean([a.scores.mean() - b.scores.mean() for b in other if b.seed == a.seed])
                for a in one
            ]
        )
    )


def test_one_stratum_is_the_plain_difference():
    rng = np.random.default_rng(1)
    a, b = sample(rng, 0), sample(rng, 0)
    found = difference([a], [b], strata=1)
    assert found.mean == pytest.approx(a.scores.mean() - b.scores.mean())
    assert found.mean == pytest.approx(found.plain)


def test_strata_remove_a_difference_of_frequencies_alone():
    """Scores depend on positives only; one arm has more of the frequent features."""
    one = Sample(0, np.array([0.6] * 10 + [0.9] * 30), np.array([10] * 10 + [100] * 30))
    other = Sample(0, np.array([0.6] * 30 + [0.9] * 10), np.array([10] * 30 + [100] * 10))
    found = difference([one], [other])
    assert found.mean == pytest.approx(0.0)
    assert found.plain == pytest.approx(0.15)


def test_a_stratum_empty_in_one_arm_is_excluded_and_reported():
    one = Sample(0, np.array([0.8, 0.8, 0.1]), np.array([10, 10, 900]))
    other = Sample(0, np.array([0.7]), np.array([10]))
    found = difference([one], [other], strata=2)
    assert found.by_seed == pytest.approx({0: 0.1})
    assert found.outside == pytest.approx(1 / 4)


def test_interval_of_one_seed_covers_documents_only():
    rng = np.random.default_rng(0)
    found = difference([sample(rng, 0)], [sample(rng, 0)])
    assert (found.seed_variance, found.resampled) == (None, ("documents",))
    assert found.standard_error**2 == pytest.approx(found.document_variance)
    assert (found.p, found.p_floor) == (1.0, 1.0)
    bare = difference([sample(rng, 0, draws=0)], [sample(rng, 0, draws=0)])
    assert (bare.low, bare.high, bare.resampled) == (None, None, ())
    assert bare.mean is not None


def test_no_feature_passes():
    rng = np.random.default_rng(0)
    empty = sample(rng, 0, features=0)
    found = difference([empty, sample(rng, 1)], [sample(rng, 0), sample(rng, 1)])
    assert (list(found.by_seed), found.seeds_left_out) == ([1], (0,))
    none = difference([empty], [sample(rng, 0)])
    assert (none.mean, none.seeds, none.seeds_left_out) == (None, 0, (0,))
    assert difference([], []).mean is None
    assert difference([sample(rng, 0)], [sample(rng, 5)]).mean is None  # no seed in common


def test_equal_arms_have_no_difference():
    rng = np.random.default_rng(3)
    those = [sample(rng, s) for s in range(6)]
    found = difference(those, those)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_draws_that_differ_in_number_are_refused():
    rng = np.random.default_rng(3)
    with pytest.raises(BadInput, match="20 draws of documents and another 10"):
        difference([sample(rng, 0)], [sample(rng, 0, draws=10)])
    with pytest.raises(BadInput, match="strata=0"):
        difference([], [], strata=0)


# --- the sign-flip test ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_sign_flip_equals_an_enumeration(seed):
    values = np.random.default_rng(seed).choice([-2, -1, 0, 1, 3], 7).astype(float) / 8
    enough = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= abs(sum(values))
        for signs in itertools.product((1, -1), repeat=7)
    ]
    assert sign_flip(list(values)) == sum(enough) / 2**7


def test_six_seeds_are_needed_for_five_percent():
    assert sign_flip([-0.1] * 5) == 2 / 2**5 > 0.05
    assert sign_flip([-0.1] * 6) == 2 / 2**6 < 0.05
    assert sign_flip([0.1, 0.2, 0.3]) == 2 / 8  # sums in another order differ by rounding
    assert sign_flip([-0.1] * 6, shift=0.1) == 1.0
    with pytest.raises(BadInput, match="No difference"):
        sign_flip([])


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.6])
def test_sign_flip_of_many_seeds_draws_flips(mean):
    values = np.random.default_rng(3).normal(mean, 1, 21)
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    exact = np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9)
    assert sign_flip(list(values)) == pytest.approx(exact, abs=0.02)
    assert sign_flip([-0.1] * 30) == 1 / 10_000
    those = [Sample(s, np.array([0.5 + s / 100]), np.array([9])) for s in range(21)]
    other = [Sample(s, np.array([0.5]), np.array([9])) for s in range(21)]
    assert difference(those, other).p == difference(those, other).p_floor == 1 / 10_000


def test_mean_over_seeds_has_the_interval_of_student_t():
    values = {0: 0.2, 1: 0.4, 5: 0.9}
    found = mean_over_seeds(values)
    ends = ttest_1samp(list(values.values()), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert mean_over_seeds(values, within=(0, 1)).high == 1
    assert mean_over_seeds({0: 0.5, 1: math.nan}) == mean_over_seeds({0: 0.5})
    assert mean_over_seeds({}).mean is None


# --- coverage: truth 7 -------------------------------------------------------------------------


def made_run(rng, *, seeds=6, features=10, documents=20, length=50, types=20):
    """Return two arms with features of one distribution, scored by token tables, as in a tiny run.

    Each feature's rates by token type are those of a fixed list, permuted among types, so
    that the arms have no true difference. All are scored on the same validation documents.
    """
    topic = rng.permutation(types)
    zipf = 1 / (1 + np.arange(types))
    ids = np.stack(
        [
            rng.choice(types, length, p=(p := zipf[topic] * rng.gamma(2, 1, types)) / p.sum())
            for _ in range(2 * documents)
        ]
    )
    rates = np.concatenate([[0.9, 0.7, 0.5], np.full(types - 3, 0.03)])
    weights = [np.eye(types)[row].sum(axis=0) for row in ids]  # tokens of each type, by document
    arms = []
    for _ in range(2):
        arm = []
        for seed in range(seeds):
            of = np.stack([rng.permutation(rates) for _ in range(features)])
            active = np.stack(
                [rng.binomial(w.astype(int), of) for w in weights]
            )  # doc, feature, type
            arm.append(by_token_table(seed, active, np.stack(weights)[:, None, :], documents))
        arms.append(arm)
    return arms


def by_token_table(seed, active, tokens, documents):
    """Score features by a table of training counts by type; draws resample validation documents."""
    train, inactive = active[:documents].sum(axis=0), (tokens - active)[:documents].sum(axis=0)
    share = train / train.sum(axis=1, keepdims=True), inactive / inactive.sum(axis=1, keepdims=True)
    predicted = np.where(share[0] > share[1], 1.0, np.where(share[0] < share[1], 0.0, 0.5))
    on, off = active[documents:], (tokens - active)[documents:]
    counts = {
        "true_positives": (on * predicted).sum(axis=2),
        "positives": on.sum(axis=2).astype(float),
        "false_positives": (off * predicted).sum(axis=2),
        "negatives": off.sum(axis=2).astype(float),
    }
    right = counts["true_positives"].sum(0) / counts["positives"].sum(0)
    wrong = counts["false_positives"].sum(0) / counts["negatives"].sum(0)
    found = limits(**counts, draws=40, seed=0)
    return Sample(
        seed,
        (right + 1 - wrong) / 2,
        counts["positives"].sum(0).astype(int),
        found.draws,
        documents=documents,
    )


@pytest.mark.parametrize("runs", [30, pytest.param(120, marks=pytest.mark.deep)])
def test_truth_7_interval_covers_0_where_tokens_are_permuted_among_types(runs):
    """Features of both arms have the same rates, permuted among token types: no true difference.

    This tests the procedure of the interval (seeds, documents, strata) on scores of token
    tables with the sizes and dependence of a tiny run: all SAEs share their documents. It
    does not train SAEs or probes; the tests below do, in far fewer runs.
    """
    rng = np.random.default_rng(7)
    found = [difference(*made_run(rng)) for _ in range(runs)]
    covered = np.mean([d.low <= 0 <= d.high for d in found])
    assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)
    assert covered <= 0.995 or runs < 120  # of 30 runs, all may be covered
    assert np.mean([d.p <= 0.05 for d in found]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


ELSEWHERE = pytest.mark.parametrize("elsewhere", [False, True], ids=["embedding", "elsewhere"])
ARMS = ("residual", "components", "token-means")


def truth_7(folder, *, runs, seeds, elsewhere):
    """Return tiny runs with ids permuted among tokens, after the checks that each run must pass.

    From the embedding, the map predicts nothing, no components are removed, and the
    token means are shrunk to the map, so the arms may be equal. From another source the map removes
    half of the variance, and they differ. ``benchmarks/truth7.py`` does many more such runs.
    """
    done = [
        tiny_run(seed, folder / str(seed), elsewhere=elsewhere, seeds=seeds, arms=ARMS)
        for seed in range(runs)
    ]
    for run in done:
        assert 0.3 < run.taken < 0.7 if elsewhere else abs(run.taken) < 0.01
        assert {p.documents for p in run.probed} == {20}
        assert all(0.45 < run.mean(arm) < 0.55 for arm in ARMS)
        assert not elsewhere or all(run.differences[other].mean != 0 for other in ARMS[1:])
    return done


@pytest.mark.slow
@ELSEWHERE
def test_truth_7_in_one_run_of_the_real_fit_training_and_probes(tmp_path, elsewhere):
    """Ids are permuted among tokens, so no arm is easier to predict. The deep test has six runs."""
    (run,) = truth_7(tmp_path, runs=1, seeds=2, elsewhere=elsewhere)
    for found in run.differences.values():
        assert found.low <= 0 <= found.high
        assert abs(found.mean) < 0.03  # .012 for the mean of six runs, √6 times that for one


@pytest.mark.deep
@ELSEWHERE
def test_truth_7_through_the_real_fit_training_and_probes(tmp_path, elsewhere):
    """Ids are permuted among tokens, so no arm is easier to predict, even if the map removes a real share."""
    runs = truth_7(tmp_path, runs=6, seeds=3, elsewhere=elsewhere)
    for other in ARMS[1:]:
        found = [run.differences[other] for run in runs]
        assert sum(d.low <= 0 <= d.high for d in found) >= 4  # of 6; fewer: p = 1/500
        means = [d.mean for d in found]
        assert abs(np.mean(means)) <= 4 * np.std(means, ddof=1) / math.sqrt(len(means))
        assert abs(np.mean(means)) < 0.012  # with plain instead of shrunk means, it was -.02


@pytest.mark.slow
def test_a_planted_effect_of_ids_is_found_by_the_tiny_study(tmp_path):
    """Check that the tiny study can detect a difference: here the residual is harder."""
    run = tiny_run(
        0, tmp_path, permuted=False, seeds=3, arms=("residual", "baseline", "token-means")
    )
    assert run.taken > 0.2
    assert run.differences["baseline"].high < -0.05
    assert abs(run.differences["token-means"].mean) < 0.05


def test_quantiles_of_resampled_seeds_undercover():
    """Bootstrap quantiles of five seeds are too narrow; intervals by Student's t are not."""
    rng = np.random.default_rng(0)
    plain, ours = [], []
    for _ in range(400):
        values = rng.normal(0, 1, 5)
        drawn = rng.choice(values, (400, 5)).mean(axis=1)
        plain.append(np.quantile(drawn, 0.025) <= 0 <= np.quantile(drawn, 0.975))
        m = mean_over_seeds(dict(enumerate(values)))
        ours.append(m.low <= 0 <= m.high)
    assert np.mean(plain) < 0.9
    assert 0.92 <= np.mean(ours) <= 0.98


@pytest.mark.parametrize("seeds", [2, 4])
def test_interval_covers_where_documents_are_shared(seeds):
    """Scores have an effect of the seed, of documents that all seeds share, and of both together."""
    rng = np.random.default_rng(seeds)
    weights = rng.multinomial(30, [1 / 30] * 30, size=60) / 30
    covered = 0
    for _ in range(200):
        shared = rng.normal(0, 0.1, (2, 30))
        arms = []
        for arm in range(2):
            arms.append([])
            for seed in range(seeds):
                of = shared[arm] + rng.normal(0, 0.02) + rng.normal(0, 0.1, (10, 30))
                arms[arm].append(Sample(seed, of.mean(1), np.arange(10, 20), weights @ of.T))
        found = difference(*arms)
        covered += found.low <= 0 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


@pytest.mark.parametrize("documents", [5, 10])
def test_interval_covers_where_documents_are_few(documents):
    """With one seed, the interval covers documents only; normal limits would cover .84 and .91."""
    rng = np.random.default_rng(documents)
    weights = rng.multinomial(documents, [1 / documents] * documents, size=200) / documents
    known, unknown = 0, 0
    for _ in range(400):
        of = [rng.normal(0, 0.1, documents) for _ in range(2)]
        for number in (documents, None):
            arms = [
                [
                    Sample(
                        0,
                        np.full(3, v.mean()),
                        np.arange(3),
                        np.tile((weights @ v)[:, None], 3),
                        documents=number,
                    )
                ]
                for v in of
            ]
            found = difference(*arms)
            known += number is not None and found.low <= 0 <= found.high
            unknown += number is None and found.low <= 0 <= found.high
    assert 0.92 <= known / 400 <= 0.98
    assert unknown < known


# --- the verdict ----------------------------------------------------------------------------------


def difference_of(by_seed, *, half, documents=0.0, other="components"):
    values = list(by_seed.values())
    mean = float(np.mean(values))
    return Difference(
        "residual",
        other,
        by_seed,
        mean=mean,
        low=mean - half,
        high=mean + half,
        seed_variance=float(np.var(values, ddof=1)) if len(values) > 1 else None,
        document_variance=documents,
        documents=40,
        resampled=("seeds", "documents"),
        p=sign_flip(values),
        p_floor=2.0 ** (1 - len(values)),
    )


def test_verdicts_follow_from_the_difference_and_the_margin():
    six = dict(enumerate([-0.05, -0.04, -0.06, -0.05, -0.03, -0.05]))
    harder = judge(difference_of(six, half=0.01))
    assert harder.kind == "harder"
    assert (
        "Harder than the components control: the mean balanced accuracy of residual features is lower by 0.0467"
        in harder.sentence
    )
    assert "detecting a difference of 0.01 with 80% power requires" in harder.sentence
    assert (
        "this sample size detects a difference of 0.1 with 80% power."
        in judge(difference_of({k: 4 * v for k, v in six.items()}, half=0.02), margin=0.1).sentence
    )
    assert harder.size == detectable_size(difference_of(six, half=0.01))
    for other, than in (("baseline", "the baseline"), ("token-means", "the token-means control")):
        assert judge(difference_of(six, half=0.01, other=other)).sentence.startswith(
            f"Harder than {than}:"
        )
    higher = judge(difference_of({k: -v for k, v in six.items()}, half=0.01))
    assert higher.kind == "not harder"
    assert higher.sentence.startswith("Not harder than the components control by 0.01 or more:")
    assert "The sign-flip test rejects a difference of -0.01 (p = 0.0312)." in higher.sentence
    near = dict(enumerate([0.001, -0.001, 0.002, -0.002, 0.001, 0.0]))
    assert judge(difference_of(near, half=0.005)).kind == "not harder"
    assert judge(difference_of(near, half=0.02)).kind == "cannot tell"
    five = dict(itertools.islice(six.items(), 5))  # no test of five seeds reaches .05
    undecided = judge(difference_of(five, half=0.01))
    assert undecided.kind == "cannot tell"
    assert (
        "The interval excludes 0, but the sign-flip test cannot reach p < .05 with fewer than 6 seeds"
        in undecided.sentence
    )
    one = judge(difference_of({0: -0.2}, half=0.01))
    assert (one.kind, one.size.seeds) == ("cannot tell", None)
    assert "One seed gives no estimate of the variance among training runs" in one.sentence
    missing = judge(None, against="components")
    assert (missing.control, missing.sentence) == (
        "components",
        "Cannot tell: no control was trained and probed.",
    )
    assert judge(Difference("residual", "components", {})).kind == "cannot tell"
    with pytest.raises(BadInput, match="margin=0"):
        judge(None, margin=0)


def test_numbers_of_the_original_study_allow_no_verdict():
    """It reported a difference of -0.0133 (t = -0.63) as proof, without controls and with one run."""
    error = 0.0133 / 0.63
    theirs = Difference(
        "residual",
        "baseline",
        {0: -0.0133},
        mean=-0.0133,
        low=-0.0133 - 1.96 * error,
        high=-0.0133 + 1.96 * error,
        document_variance=error**2,
        documents=50,
        resampled=("documents",),
        p=1.0,
        p_floor=1.0,
    )
    assert theirs.low < 0 < theirs.high
    found = judge(theirs)
    assert found.kind == "cannot tell"
    assert "One seed gives no estimate of the variance among training runs" in found.sentence


KINDS = {
    "harder": difference_of(dict(enumerate([-0.05, -0.04, -0.06, -0.05, -0.03, -0.05])), half=0.01),
    "not harder": difference_of(
        dict(enumerate([0.001, -0.001, 0.002, -0.002, 0.001, 0.0])), half=0.005
    ),
    "cannot tell": difference_of(
        dict(enumerate([0.03, -0.03, 0.02, -0.01, 0.0, -0.02])), half=0.03
    ),
}

THINGS = {
    "components": "than features of the components control (random principal components of equal variance removed)",
    "token-means": "than features of the token-means control (the mean of each token id removed)",
}
CLAUSES = {
    "harder": "Residual features are harder to predict than",
    "not harder": "Residual features are not harder to predict (by 0.01 or more) than",
    "cannot tell": "This sample is too small to tell whether residual features are harder to predict than",
}
#: Claims that no verdict supports.
TOO_MUCH = (
    "no more than",
    "any such share",
    "leaves less",
    "takes away",
    "removes",
    "what the token tells",
    "what the token predicts",
    "explains",
    "proves",
    "because",
)


def clauses(text):
    """Return the source and both sentences of a headline, which has no other content."""
    parts = re.fullmatch(
        r"Probes predict features from (.*?)\. ([A-Z].*? removed\))\. ([A-Z].*? removed\))\.", text
    )
    return parts.group(1), parts.group(2), parts.group(3)


@pytest.mark.parametrize(("components", "means"), list(itertools.product(KINDS, KINDS)))
def test_the_headline_reports_two_verdicts_and_nothing_more(components, means):
    found = [judge(KINDS[components]), judge(replace(KINDS[means], other="token-means"))]
    assert [v.kind for v in found] == [components, means]
    text = headline(*found, source="the embedding")
    source, one, other = clauses(text)
    assert source == "the embedding"
    for sentence, kind, control in zip((one, other), (components, means), THINGS, strict=True):
        assert sentence == f"{CLAUSES[kind]}{THINGS[control][4:]}"
    assert not [claim for claim in TOO_MUCH if claim in text]


@pytest.mark.parametrize(
    ("center", "half", "margin", "clause"),
    [
        (-0.002, 0.001, 0.01, "residual features are harder to predict (by less than 0.01)"),
        (-0.0085, 0.0005, 0.01, "residual features are harder to predict (by less than 0.01)"),
        (-0.0105, 0.001, 0.01, "residual features are harder to predict"),
        (-0.004, 0.0055, 0.01, "residual features are not harder to predict (by 0.01 or more)"),
        (
            -0.004,
            0.0065,
            0.01,
            "this sample is too small to tell whether residual features are harder to predict",
        ),
        (0.05, 0.01, 0.01, "residual features are not harder to predict (by 0.01 or more)"),
        (-0.002, 0.001, 0.001, "residual features are harder to predict"),
    ],
)
def test_clauses_near_the_margin_and_zero(center, half, margin, clause):
    """Harder by .002, not harder with an interval from just above -.01, and higher by .05."""
    values = dict(enumerate(center + np.array([0.0002, -0.0002, 0.0001, -0.0001, 0.0, 0.0])))
    of = [judge(difference_of(values, half=half, other=name), margin=margin) for name in THINGS]
    assert {v.clause for v in of} == {clause}
    text = headline(*of, source="s")
    for sentence, control in zip(clauses(text)[1:], THINGS, strict=True):
        assert sentence == f"{clause[0].upper()}{clause[1:]} {THINGS[control]}"
    assert not [claim for claim in TOO_MUCH if claim in text]
    slight = "by less than" in clause
    assert all(("by less than" in v.sentence) == slight for v in of)
    # The text suggests no other verdict, nor that the residual is easier.
    assert "easier" not in text
    starts = ("residual features are harder", "residual features are not harder", "this sample is")
    for other in starts:
        capital = other[0].upper() + other[1:]
        assert (capital in text) == clause.startswith(other)
        assert text.count(capital) in (0, 2)


@pytest.mark.parametrize("largest", ["seeds", "documents", "draws"])
def test_reported_size_has_80_percent_power(largest):
    """Simulate differences as large as the margin at the reported size; 80% are detected."""
    variance = {"seeds": 4e-5, "documents": 2e-6, "draws": 2e-6}
    variance[largest] *= 8
    now = replace(
        difference_of(dict(enumerate([0.03, -0.03, 0.02, -0.01])), half=0.05),
        seed_variance=variance["seeds"],
        document_variance=variance["documents"],
        documents=30,
        draw_variance=variance["draws"],
        draws=3,
    )
    size = detectable_size(now, margin=0.01)
    assert size.seeds >= 6
    assert (size.seeds, size.draws, size.documents) > (now.seeds, now.draws, 1)
    if largest == "documents":
        assert size.documents > 1
    if largest == "draws":
        assert size.draws > 3
    rng, runs = np.random.default_rng(0), 4000
    documents = round(30 * size.documents)

    parts = [
        (variance["seeds"] / size.seeds, size.seeds - 1),
        (variance["documents"] / size.documents, documents - 1),
        (variance["draws"] * 3 / size.draws, size.draws - 1),
    ]
    mean, estimated, loss = np.full(runs, -0.01), np.zeros(runs), np.zeros(runs)
    for v, df in parts:
        seen = v * rng.chisquare(df, runs) / df
        mean, estimated, loss = (
            mean + rng.normal(0, math.sqrt(v), runs),
            estimated + seen,
            loss + seen**2 / df,
        )
    power = np.mean(mean + t.ppf(0.975, estimated**2 / loss) * np.sqrt(estimated) < 0)
    assert 0.76 <= power <= 0.9


def test_no_larger_size_is_reported_if_the_present_one_suffices():
    near = difference_of(
        dict(enumerate([-0.006, -0.005, -0.0065, -0.006, -0.0055, -0.0045])), half=0.0063
    )
    found = judge(near)
    assert found.kind == "cannot tell"
    assert (found.size.seeds, found.size.documents) == (6, 1)
    assert "this sample size detects a difference of 0.01 with 80% power" in found.sentence
    assert "requires" not in found.sentence
    more = judge(replace(near, by_seed=dict(enumerate([0.05, -0.08] * 4)), seed_variance=5e-3))
    assert more.size.seeds > 8


def test_too_few_documents_are_no_verdict():
    six = difference_of(dict(enumerate([-0.05, -0.04, -0.06, -0.05, -0.03, -0.05])), half=0.01)
    assert judge(replace(six, documents=20)).kind == "harder"
    found = judge(replace(six, documents=19))
    assert found.kind == "cannot tell"
    assert "validated on 19 documents" in found.sentence
    assert found.size.documents * 19 >= 20
    assert "times the validation documents" in found.sentence
    assert judge(replace(six, documents=4)).size.documents >= 5


def test_probes_without_a_number_of_documents_give_no_verdict():
    six = difference_of(dict(enumerate([-0.05, -0.04, -0.06, -0.05, -0.03, -0.05])), half=0.01)
    found = judge(replace(six, documents=None))
    assert found.kind == "cannot tell"
    assert "computed by an earlier version" in found.sentence
    assert found.clause == "this study cannot tell whether residual features are harder to predict"


def test_no_verdict_without_draws_of_documents():
    six = difference_of(dict(enumerate([-0.05, -0.04, -0.06, -0.05, -0.03, -0.05])), half=0.01)
    for documents in (None, 40):
        bare = replace(six, documents=documents, document_variance=None, resampled=("seeds",))
        assert bare.high < 0
        found = judge(bare)
        assert found.kind == "cannot tell"
        assert "an arm has no bootstrap draws of documents" in found.sentence
    rng = np.random.default_rng(0)
    one = [sample(rng, s) for s in range(6)]
    other = [sample(rng, s, shift=0.4, draws=0) for s in range(6)]  # drawn on one side alone
    found = difference(one, other, names=("residual", "components"))
    assert found.resampled == ("seeds",)
    assert found.high < 0
    assert judge(found).kind == "cannot tell"


def test_the_number_of_documents_needs_all_seeds():
    rng = np.random.default_rng(0)
    of = [replace(sample(rng, s), documents=n) for s, n in ((0, 40), (1, None), (0, 30), (1, 50))]
    assert difference(of[:1], of[2:]).documents == 30
    assert difference(of[:2], of[2:]).documents is None


def test_arms_without_a_common_seed():
    rng = np.random.default_rng(0)
    found = judge(difference([sample(rng, 0)], [sample(rng, 5)], names=("residual", "components")))
    assert (found.kind, found.control) == ("cannot tell", "components")
    assert "no common seed" in found.sentence
    assert "filter" not in found.sentence
    empty = sample(rng, 0, features=0)
    found = judge(difference([empty], [sample(rng, 0)], names=("residual", "components")))
    assert "pass the filter" in found.sentence


def test_an_unfit_control_gives_no_verdict():
    found = judge(KINDS["harder"], unfit="it took nothing away")
    assert found.kind == "cannot tell"
    assert found.sentence.startswith(
        "Cannot tell: it took nothing away. Here the mean balanced accuracy of residual features is lower"
    )
    assert found.clause == "this study cannot tell whether residual features are harder to predict"


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.2, 1.7, 2.5])
def test_reported_seeds_suffice_for_interval_and_sign_flip_test(ratio):
    """Simulate differences of the margin with the reported number of seeds."""
    sd = 0.01 / ratio
    values = np.array([1, -1, 1, -1, 1, -1]) * sd * math.sqrt(5 / 6)
    size = detectable_size(difference_of(dict(enumerate(values)), half=0.05))
    rng, detected, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        x = rng.normal(-0.01, sd, size.seeds)
        ends = ttest_1samp(x, 0).confidence_interval(0.95)
        detected += ends.high < 0 and sign_flip(list(x)) < 0.05
    assert detected / runs > 0.72  # four in five, less three standard errors


# --- marks ----------------------------------------------------------------------------------------


def least_by_hand(counts, total):
    """Return the smallest entropy over all distributions of the other counts among rarer tokens."""

    def ways(rest, most):
        if rest == 0:
            yield ()
        for first in range(min(rest, most), 0, -1):
            for others in ways(rest - first, first):
                yield (first, *others)

    def entropy(of):
        return -sum(c / total * math.log2(c / total) for c in of)

    return min(entropy((*counts, *w)) for w in ways(total - sum(counts), min(counts)))


@pytest.mark.parametrize(
    ("counts", "total"),
    [((5,), 5), ((1,), 1), ((3, 3), 6), ((5, 3), 17), ((2,), 9), ((4, 2, 1), 12)],
)
def test_least_entropy(counts, total):
    found = least_entropy(np.array(counts), np.zeros(len(counts), np.intp), np.array([total]))
    assert found[0] == pytest.approx(least_by_hand(counts, total))


def test_entropy_of_features_without_tokens_is_none():
    found = least_entropy(np.array([2, 2]), np.array([1, 1]), np.array([0, 4, 7]))
    assert found[1] == 1.0
    assert np.isnan(found[[0, 2]]).all()


# --- a study in an atlas -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return study_atlas(tmp_path_factory.mktemp("study") / "s.atlas", seeds=2, features=30)


@pytest.fixture(scope="module")
def found(folder):
    with Atlas.open(folder.path) as atlas:
        return find(atlas)


def test_a_study_is_read_with_its_probes(folder):
    study = open_study(folder)
    assert (study.name, study.run, study.site) == ("study", RUN, "hook_embed")
    assert study.arms_there == ["baseline", "residual", "components", "token-means"]
    assert len(study.probed) == 10
    assert study.unprobed == ()
    one = study.of("components")[1]
    assert (one.sae, one.seed, one.draw, one.requested) == ("components-s0-d1", 0, 1, 30)
    assert one.passed == 20 / 30
    # Draws belong to the listed features: their means are near the scores.
    drawn = one.sample()
    assert np.abs(drawn.draws.mean(axis=0) - drawn.scores).max() < 0.05
    assert np.ptp(drawn.scores) > 0.1


def test_unknown_studies_and_runs_are_refused(folder, tmp_path):
    with pytest.raises(UnknownName, match="residual study"):
        open_study(folder, "other")
    with pytest.raises(UnknownName, match="run"):
        open_study(folder, run="sample/active")
    nowhere = open_study(folder, site="blocks.0.hook_resid_post")
    assert (nowhere.run, nowhere.probed) == ("", ())
    assert len(nowhere.unprobed) == 10


@pytest.mark.slow
def test_arms_whose_features_all_fail_the_filter_are_probed(tmp_path):
    study_folder = study_atlas(
        tmp_path / "s.atlas", seeds=2, features=12, passing={"residual": 0, "token-means": 0}
    )
    study = open_study(study_folder)
    assert study.unprobed == ()
    assert [p.passed for p in study.of("residual")] == [0.0, 0.0]
    done = run_report("geometry", study_folder.path, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text("utf-8")
    assert (
        "residual and components have no features in a common frequency stratum that pass the filter"
        in text
    )
    assert (
        "residual and token-means have no features in a common frequency stratum that pass the filter"
        in text
    )
    assert "residual 0.0%" in text
    assert "Excluded below" not in text
    assert "There are 0" not in text


@pytest.mark.slow
def test_report_uses_the_source_site_of_the_study(tmp_path):
    source = "blocks.0.hook_resid_post"
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=2, features=12, source=source)
    with Atlas.open(study_folder.path) as atlas:
        mine, other = find(atlas), find(atlas, site="hook_embed")
    assert (mine.source, len(mine.study.probed)) == (source, 10)
    assert mine.difference("residual", "components").seeds == 2
    assert [v.sentence for v in other.verdicts][1] == (
        "Cannot tell: the SAEs of residual and components were not probed from hook_embed."
    )
    text = html(mine, where="s.atlas")
    assert "ceiling" not in text.replace("This is not a ceiling", "")
    assert f"{source} may contain more than the token" in text
    assert "best by token id" in text
    assert "the embedding" not in text
    assert "--from hook_embed" not in text
    assert f"--from {source}" in html(other, where="s.atlas")


def test_other_studies_are_named(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0})
    there = study_folder.sound().parts["residual/study"]
    tables = [(name, there.table(name)) for name in there.manifest.tables]
    write_part(
        study_folder.part("residual", "another"),
        replace(there.manifest, name="another", settings={"source": "hook_embed"}, tables={}),
        tables,
    )
    with Atlas.open(study_folder.path) as atlas:
        found = find(atlas, study="study")
    assert found.study.others == ("another",)
    assert "To report on another study of this atlas, pass <code>study</code>: another" in html(
        found, where="s.atlas"
    )


def test_probes_of_other_settings_are_not_compared(tmp_path):
    study_folder = study_atlas(
        tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0, "residual": 0}
    )
    part_folder = study_folder.part("probe", "residual-s0@hook_embed@document-active")
    part = read_manifest(part_folder)
    tables = [(name, part.table(name)) for name in part.manifest.tables]
    rmtree(part_folder)
    manifest = replace(
        part.manifest, settings=dict(part.manifest.settings) | {"tau": 0.9}, tables={}
    )
    write_part(part_folder, manifest, tables)
    with pytest.raises(Mismatch, match=r"different settings \(tau\)"):
        open_study(study_folder)


def test_token_metrics(folder):
    marks = token_metrics(folder.sound(), "baseline-s0")
    assert 0 not in set(marks["idx"])  # dead
    part = folder.sound().parts["tokens/baseline-s0"].table("FIRES_ON").to_pandas()
    mine = part[part["source"] == "baseline-s0/3"]
    row = marks[marks["idx"] == 3].iloc[0]
    assert row["top_share"] == mine["count"].max() / row["active_tokens"]
    assert row["stored_share"] == pytest.approx(mine["share"].sum())
    assert row["entropy"] <= math.log2(4)
    assert token_metrics(folder.sound(), "absent").empty


def test_matches_between_arms(folder):
    rows = match_rows(folder.sound(), open_study(folder))
    assert [(r["one"], r["other"], r["seeds"]) for r in rows] == [
        ("baseline", "baseline", "other"),
        ("baseline", "residual", "same"),
    ]
    assert rows[1]["counterparts"] == 2  # the third is not significant
    assert rows[1]["share"] == 2 / 29
    assert rows[1]["pearson"] == pytest.approx(0.7)


def test_arms_are_described(found):
    rows = {row["arm"]: row for row in found.arms}
    study = found.study
    for arm, row in rows.items():
        by_seed = {}
        for p in study.of(arm):
            by_seed.setdefault(p.seed, []).append(p.table["balanced_accuracy"].mean())
        means = [np.mean(v) for v in by_seed.values()]
        assert row["balanced_accuracy"].mean == pytest.approx(np.mean(means))
        assert row["passed"].mean == pytest.approx(20 / 30)
        assert sum(
            row[f"verdict {v}"].mean for v in ("token", "context", "undecided")
        ) == pytest.approx(1)
    assert rows["components"]["saes"] == 4
    assert found.difference("residual", "baseline").seeds == 2
    assert [(v.control, v.kind) for v in found.verdicts] == [
        ("baseline", "cannot tell"),
        ("components", "cannot tell"),
        ("token-means", "cannot tell"),
    ]
    for clause in clauses(found.headline)[1:]:
        assert clause.startswith("This sample is too small to tell whether residual features are")


def test_scores_have_the_form_of_the_original_study(found):
    rows = {(row["arm"], row["score"]): row for row in found.scores}
    assert len(rows) == 2 * 4
    for (arm, score), row in rows.items():
        values = [float(v) for p in found.study.of(arm) for v in p.table[score]]
        assert (row["probes"], row["features"]) == (len(values), 30 * len(found.study.of(arm)))
        mean = sum(values) / len(values)
        middle = sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]
        assert row["mean"] == pytest.approx(mean)
        assert row["median"] == pytest.approx(sum(middle) / 2)
        assert row["sd"] == pytest.approx(
            math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        )
        assert {rung: on["count"] for rung, on in row["ladder"].items()} == {
            f"{low}%": sum(v >= low / 100 for v in values) for low in (95, 90, 85, 80, 75)
        }


def test_probes_of_an_earlier_version_are_read_and_recomputed_by_the_printed_command(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=2, features=12, documents=None)
    with Atlas.open(study_folder.path) as atlas:
        found = find(atlas)
    assert found.difference("residual", "components").documents is None
    assert all("computed by an earlier version" in v.sentence for v in found.verdicts)
    ((why, lines),) = without_verdict(found, "my atlas")
    assert "Probes of 10 SAEs" in why
    ((name, how),) = parsed(lines)
    assert (name, how["replace"], len(how["saes"])) == ("probe", True, 10)
    assert (str(how["where"]), how["sites"], how["splits"]) == (
        "my atlas",
        ("hook_embed",),
        ("document",),
    )
    # From the parts of the probes, because the settings of this study have none.
    assert (how["draws"], how["kinds"], how["seed"]) == (50, ("active",), None)
    assert lines[-1] in unescape(html(found, where="my atlas", charts={}))


def test_the_command_has_the_options_of_the_chosen_run(folder):
    probing = {
        "split": "document",
        "kind": "active",
        "penalty": 0.5,
        "c": 3.0,
        "scale": False,
        "draws": 0,
        "threshold": 0.2,
        "balance": "subsample",
        "features": 7,
        "validated_on": "d00d",
        "tau": 0.9,
    }
    with Atlas.open(folder.path) as atlas:
        found = find(atlas)
    study = replace(
        found.study, probing=probing | {"seed": 3}, sources={"model": {"source": "memory"}}
    )
    ((why, lines),) = without_verdict(replace(found, study=study), "my atlas")
    assert "no bootstrap draws of documents" in why
    notes, line = lines[:-1], lines[-1]
    assert [
        ("scale", "memory", "validated on another atlas")[i] in note for i, note in enumerate(notes)
    ] == [True] * 3
    line = line.replace("--validate PATH", f"--validate {folder.path}")
    ((_, how),) = parsed([line])
    assert (how["penalty"], how["c"], how["threshold"], how["balance"]) == (
        None,
        3.0,
        0.2,
        "subsample",
    )
    assert (how["features"], how["tau"], how["seed"], how["model"]) == (7, 0.9, 3, "MODEL")
    assert (how["draws"], len(how["saes"])) == (200, 10)
    assert without_verdict(found, "a") == []


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    study_folder = study_atlas(tmp_path_factory.mktemp("six") / "s.atlas", features=12)
    with Atlas.open(study_folder.path) as atlas:
        return find(atlas)


def test_many_saes_are_summarized_by_arm_and_folded(six):
    arms = six.study.arms
    assert len(arms) > 16
    text = re.sub(r' data-name="[^"]*"', "", html(six, where="s.atlas", charts={}))
    by_arm, each = text.split(f"<summary>All {len(arms)} SAEs</summary>")
    assert all(name not in by_arm and name in each for name in arms["sae"])
    for arm in set(arms["arm"]):
        losses = [row["final_loss"] for row in arms.to_dict("records") if row["arm"] == arm]
        expected = f"{min(losses):.3f}" + f" to {max(losses):.3f}" * (min(losses) < max(losses))
        (row,) = [
            line
            for line in by_arm.split("<tr>")
            if line.startswith(f'<td class="words">{arm}<') and f"<td>{len(losses)}<" in line
        ]
        assert f">{expected}<" in row
    few = replace(six.study, arms=arms[arms["seed"] < 2])
    text = html(replace(six, study=few), where="s.atlas", charts={})
    assert "<details>" not in text
    assert all(name in text for name in few.arms["sae"])


@pytest.mark.parametrize("version", [1, 2])
def test_token_means_of_an_earlier_version_give_no_verdict(six, version):
    study = replace(
        six.study,
        version=version,
        sources=dict(six.study.sources) | {"token_means": {"shrunk": 8.0}},
    )
    of = verdicts_of(study, six.differences)
    _, components, means = of
    assert (components.kind, means.kind) == ("harder", "cannot tell")
    assert "its token means were computed by an earlier version" in means.sentence
    found = replace(six, study=study, verdicts=of, headline=headline(components, means, source="s"))
    assert clauses(found.headline)[2].startswith("This study cannot tell whether residual features")
    ((_, lines),) = without_verdict(found, "my atlas")
    ((name, how),) = parsed(lines)
    assert (name, how["replace"], how["name"], str(how["where"])) == (
        "residual",
        True,
        "study",
        "my atlas",
    )
    text = html(found, where="my atlas", charts={})
    assert "shrunk" not in text
    assert lines[-1] in unescape(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "prior", "takes"),
    [
        ("hook_embed", "the prediction of the map for that id", "remove no more than the map does"),
        ("blocks.0.hook_resid_post", "the overall mean", "remove no token information"),
    ],
)
def test_shrinkage_of_token_means_is_reported(tmp_path, source, prior, takes):
    for shrunk in (8.0, 1e12):
        study_folder = study_atlas(
            tmp_path / f"{shrunk}.atlas", seeds=2, features=12, source=source, shrunk=shrunk
        )
        with Atlas.open(study_folder.path) as atlas:
            found = find(atlas)
        text = html(found, where="s.atlas", charts={})
        if shrunk > 1e11:
            assert f"which equals {prior}: the token id predicted nothing beyond it" in text
            assert "tokens of each id" not in text
            assert "The mean is removed" not in text
        else:
            assert f"shrunk towards {prior} (with the weight of 8 tokens of each id)" in text
            assert "The mean is removed for ids with many more than 8 tokens" in text
        reported = [takes in v.sentence for v in found.verdicts]
        assert reported == [False, False, shrunk > 1e11]
        assert without_verdict(found, "s.atlas") == []


@pytest.mark.parametrize(
    ("residual", "components", "apart", "reason"),
    [
        (
            0.4,
            0.2,
            0.001,
            r"removed a different share of the variance than the map \(20\.\d%.*; the map removes 40\.0%\)",
        ),
        (
            0.4,
            0.45,
            0.001,
            r"removed a different share of the variance than the map \(45\.\d%.*; the map removes 40\.0%\)",
        ),
        (0.0, 0.0, 0.001, "the map removes no variance"),
        (0.0, 0.0, 0.0, "the map removes no variance"),
        (0.4, 0.39, 0.0, "all draws of the control removed exactly the same share of the variance"),
        (0.4, 0.37, 0.001, None),
    ],
)
def test_components_that_remove_another_share_are_no_control(
    six, residual, components, apart, reason
):
    arms = six.study.arms.copy()
    share = arms["arm"].map({"residual": residual, "components": components})
    arms["removed_share"] = share.fillna(0.5) + arms["draw"].fillna(0) * apart
    study = replace(six.study, arms=arms)
    _, control, means = verdicts_of(study, six.differences)
    assert means.kind == "not harder"
    assert control.kind == ("harder" if reason is None else "cannot tell")
    if reason is not None:
        assert re.search(reason, control.sentence)
        text = headline(control, means, source="s")
        assert clauses(text)[1].startswith("This study cannot tell whether residual features are")


def test_sweep_and_floor(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0})
    add_sae(study_folder, "of-random", 4, counts=np.ones((4, 4), int), model="random")
    add_maps(study_folder, "random", r2=0.25)
    with Atlas.open(study_folder.path) as atlas:
        floors = assign_floors(atlas, ["random"], available={"m", "random"})
        assert floors == {"m": "random"}
        rows = sweep_rows(atlas, floors=floors)
        assert [(r["model"], r["layer"], r["depth"]) for r in rows] == [
            ("m", 0, 0.5),
            ("m", 1, 1.0),
        ]
        assert rows[0]["floor_r2_weighted"] == 0.25
        assert rows[0]["above_floor"] == pytest.approx(0.4 - 0.25)
        assert rows[0]["of_token_means"] == pytest.approx(0.4 / 0.44)
        assert {r["model"] for r in sweep_rows(atlas)} == {"m", "random"}
        assert sweep_rows(atlas, source="blocks.0.hook_resid_post") == []
        with pytest.raises(UnknownName, match="absent"):
            assign_floors(atlas, ["absent"], available={"m", "random"})
        with pytest.raises(
            BadInput, match=r"floors random and m have the same shape|floors m and random"
        ):
            assign_floors(atlas, ["m", "random"], available={"m", "random"})
        with pytest.raises(BadInput, match="No other model of this atlas has the width"):
            assign_floors(atlas, ["random"], available={"random"})
        shares = verdict_rows(load(atlas))
        (row,) = shares
        assert (row["model"], row["layer"], row["saes"], row["features"]) == ("m", 1, 1, 8)
        assert row["token"] + row["context"] + row["undecided"] == pytest.approx(1)
        assert (row["floor"], row["floor_token"]) == (None, None)
        assert verdict_rows(load(atlas), without=["baseline-s0"]) == []


def test_verdicts_are_compared_with_those_of_random_weights(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0})
    add_sae(study_folder, "of-random", 4, counts=np.ones((4, 4), int), model="random")
    add_probes(
        study_folder,
        "of-random",
        [0, 1, 2, 3],
        scores=np.array([0.9, 0.85, 0.6, 0.75]),
        positives=[50] * 4,
        draws=None,
        left_out=0,
        model="random",
    )
    with Atlas.open(study_folder.path) as atlas:
        both = verdict_rows(load(atlas))
        assert [row["model"] for row in both] == ["m", "random"]
        found = find(atlas, floors=["random"])
        (row,) = found.verdicts_by_layer
        assert {k: row[k] for k in both[0] if not k.startswith("floor")} == {
            k: v for k, v in both[0].items() if not k.startswith("floor")
        }
        # By hand: two scores above .8 give the verdict token, one below .7 gives context.
        assert (row["floor"], row["floor_features"]) == ("random", 4)
        assert (row["floor_token"], row["floor_context"], row["floor_undecided"]) == (
            0.5,
            0.25,
            0.25,
        )
        assert row["floor_balanced_accuracy"] == pytest.approx((0.9 + 0.85 + 0.6 + 0.75) / 4)
        assert "--floor random" in commands(found, "a")[-1]
        text = html(found, where="a")
        drawn = figures(found)["verdicts"][0].to_dict()
    assert "At the same layer of the floor random, these are 50.0% and 25.0% of 4 features." in text
    assert "No SAE of the floor" not in text
    assert (
        "This atlas has no map of the floor random to layer 0, layer 1;" in text
    )  # maps of m only
    assert "floor: random weights" in str(drawn)
    table = verdict_table(found.verdicts_by_layer)
    drawn_shares = table.set_index(["weights", "verdict"])["share"]
    assert drawn_shares["floor: random weights", "token"] == 0.5
    assert drawn_shares["this model"].sum() == pytest.approx(1)
    assert drawn_shares["floor: random weights"].sum() == pytest.approx(1)


def test_the_deepest_layer_is_compared_with_its_floor():
    plain = {
        "features": 2,
        "token": 1.0,
        "context": 0.0,
        "floor": "r",
        "floor_features": 3,
        "floor_token": 0.5,
        "floor_context": 0.5,
        "model": "m",
    }
    rows = [plain | {"layer": layer} for layer in (None, 3, 0)]
    assert "At layer 3 of m, 100.0% of 2" in floor_of_verdicts(rows)
    assert "At the embedding of m" in floor_of_verdicts(rows[:1])


def test_a_floor_with_maps_only_has_no_verdicts(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0})
    add_sae(study_folder, "of-random", 4, counts=np.ones((4, 4), int), model="random")
    add_maps(study_folder, "random", r2=0.25)
    with Atlas.open(study_folder.path) as atlas:
        found = find(atlas, floors=["random"])
        text = html(found, where="a")
        drawn = figures(found)["verdicts"][0].to_dict()
        assert "--floor random" in commands(found, "a")[-1]
    (row,) = found.verdicts_by_layer
    assert (row["floor"], row["floor_token"], row["floor_features"]) == (None, None, None)
    assert {row["floor"] for row in found.maps} == {"random"}
    assert "A floor is a model with random weights" not in text
    assert "No SAE of the floor random at layer 1 has probes" in text
    assert "no map of the floor" not in text
    assert "floor: random weights" not in str(drawn)


def test_verdicts_are_reported_without_maps(tmp_path):
    study_folder = study_atlas(tmp_path / "s.atlas", seeds=1, features=12, effects={"baseline": 0})
    rmtree(study_folder.path / "parts" / "transcoder")
    with Atlas.open(study_folder.path) as atlas:
        text = html(find(atlas), where="a")
    assert "This atlas has no map;" in text
    assert "How well the token predicts features, by layer" in text
    assert "Verdicts by layer (shares of probed features)" in text


def test_the_plot_of_the_sweep_has_one_run_per_target_and_only_measured_values():
    plain = {
        "model": "m",
        "layer": 0,
        "r2_low": 0.1,
        "r2_high": 0.3,
        "token_r2_weighted": None,
        "r2_in_sample_weighted": None,
        "floor_r2_weighted": None,
    }

    def row(run, layer, r2, model="m"):
        return plain | {
            "model": model,
            "method": run.partition("/")[0],
            "run": run,
            "layer": layer,
            "target": f"blocks.{layer}.hook_resid_post",
            "r2_weighted": r2,
        }

    rows = [
        row("closed form/b", 0, 0.2),
        row("closed form/a", 0, 0.3),
        row("closed form/b", 1, 0.1),
        row("gradient/a", 0, 0.0),
        row("gradient/a", 0, 0.7, "n"),
    ]
    points = sweep_table(rows)
    assert list(zip(points["model"], points["layer"], points["r2"], strict=True)) == [
        ("m", 0, 0.2),
        ("m", 1, 0.1),
        ("n", 0, 0.7),
    ]
    assert draw_sweep(rows).to_dict()
    assert len(sweep_table([row("closed form/a", 0, None)])) == 0
    assert len(sweep_table([row("closed form/a", 0, 0.1) | {"target": "ln_final"}])) == 0


# --- the report ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Count the tags of a page, and collect the addresses that it loads."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.ids, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run_report(*words):
    return CliRunner().invoke(report, [str(w) for w in words], catch_exceptions=True)


@pytest.mark.slow
def test_the_report_is_a_self_contained_page(folder, tmp_path):
    out = tmp_path / "r.html"
    done = run_report("geometry", folder.path, "--out", out, "--figures", tmp_path / "figures")
    assert done.exit_code == 0, done.output
    text = out.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.addresses == []
    assert not re.search(r"https?://|@import|<script|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert page.tags.count("svg") == page.tags.count("figure") == 5
    assert 'name="viewport"' in text
    assert "@media print" in text
    order = [
        text.index(f"<b>residual − {arm}</b>") for arm in ("baseline", "components", "token-means")
    ]
    assert order == sorted(order)
    assert "earlier version" not in text
    for wanted in (
        "Cannot tell at this sample size",
        "proves nothing by itself",
        "atlas residual",
        "≥ 95%",
        "token means, held out",
        "closed form",
        "residual − components",
        TARGET,
    ):
        assert wanted in text, wanted
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    drawn = ("boxes", "differences", "distributions", "sweep", "verdicts")
    assert names == sorted(f"{name}.{form}" for name in drawn for form in ("png", "svg"))


def test_the_report_as_json(folder, tmp_path):
    done = run_report("--json", "geometry", "--atlas", folder.path, "--out", tmp_path / "r.html")
    result = json.loads(done.stdout)["result"]
    assert result["headline"].startswith("Probes predict features from the embedding. ")
    assert [v["control"] for v in result["verdicts"]] == ["baseline", "components", "token-means"]
    assert all(v["asks"] and "with 80% power" in v["sentence"] for v in result["verdicts"])
    assert {"r2_published", "mse", "mse_with_bos", "bos_share"} <= set(result["maps"][0])
    assert {row["score"] for row in result["scores"]} == {"accuracy", "balanced_accuracy"}
    assert [(d["one"], d["other"]) for d in result["differences"]][3] == ("residual", "components")
    assert result["arms"][0]["passed"]["mean"] == pytest.approx(20 / 30)
    assert result["written"] == [str(tmp_path / "r.html")]


def test_names_are_escaped(tmp_path):
    study_folder = study_atlas(
        tmp_path / "a&b <i>.atlas", seeds=1, features=12, effects={"baseline": 0}
    )
    done = run_report("geometry", study_folder.path, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "a&amp;b &lt;i&gt;" in text
    assert "<i>" not in text
    assert "the study has no SAEs of residual and components" in text


def parsed(lines):
    """Return the parsed options of each printed command, without notes."""
    found = []
    for line in lines:
        if not line.startswith("#"):
            first, *words = shlex.split(line)
            assert first == "atlas"
            of, options = command(), {}
            while isinstance(of, click.Group):
                name, *words = words
                of = of.commands[name]
            options = of.make_context(name, words).params
            found.append((name, options))
    return found


def test_the_commands_reproduce_the_report(folder):
    with Atlas.open(folder.path) as atlas:
        found = find(atlas, run="document/active", margin=0.02, strata=3)
    (one, how), (two, _), (three, again) = parsed(commands(found, "my atlas"))
    assert (one, two, three) == ("residual", "transcoder", "geometry")
    assert (how["model"], how["text"]) == ("a folder/m", "my text's.jsonl")
    assert (how["field"], how["split_on"], how["matched"]) == ("body", "line", False)
    assert (how["seeds"], how["draws"], how["k"], str(how["where"])) == (2, 2, 8, "my atlas")
    assert how["target"] == TARGET
    assert (again["passed"], again["study"], again["run"]) == (
        "my atlas",
        "study",
        "document/active",
    )
    assert (again["margin"], again["strata"], again["site"]) == (0.02, 3, None)


def test_models_with_equal_settings_are_mapped_by_one_command(folder):
    usual = asdict(TranscoderSettings())
    equal = {k: list(v) if isinstance(v, tuple) else v for k, v in usual.items()} | {
        "documents": None
    }
    other = {
        "method": "adam",
        "folds": 4,
        "rates": [0.1, 0.01],
        "draws": 0,
        "seed": 5,
        "documents": "documents=3-ab",
    }
    with Atlas.open(folder.path) as atlas:
        found = find(atlas)
    lines = commands(
        replace(
            found,
            mapped=[
                Mapped("m", "a folder/m", True, ("all",), equal),
                Mapped("random", "/some/random", False, ("all",), equal),
                Mapped("floor", "/some/random", False, ("all",), equal),
                Mapped("m", "memory", True, ("a", "b"), other, like="one"),
                Mapped("lost", "memory", False, ("a", "b"), other, like="one"),
            ],
        ),
        "my atlas",
    )
    (_, one), (_, two) = (p for p in parsed(lines) if p[0] == "transcoder")
    assert (one["models"], one["targets"], one["method"]) == (("m",), ("all",), None)
    assert one["model_paths"] == ("/some/random", "floor=/some/random")
    assert {one[n] for n in ("folds", "draws", "seed", "like")} == {None}
    assert (one["penalties"], one["rates"], one["where"]) == ((), (), "my atlas")
    assert (two["models"], two["model_paths"]) == ((), ("MODEL", "lost=MODEL"))
    assert (two["method"], two["folds"], two["draws"], two["seed"]) == ("adam", 4, 0, 5)
    assert (two["rates"], two["targets"], two["like"]) == ((0.1, 0.01), ("a", "b"), "one")
    notes = " ".join(line for line in lines if line.startswith("#"))
    for expected in (
        "The model m was",
        "The model lost was",
        "some documents only (documents=3-ab)",
    ):
        assert expected in notes


def test_settings_without_an_option_are_noted_and_the_demo_text_is_omitted(folder):
    with Atlas.open(folder.path) as atlas:
        found = find(atlas)
    settings = found.study.settings | {
        "map_share": 0.3,
        "train_share": 0.5,
        "folds": 7,
        "epochs": 9,
        "penalties": [0.1],
        "probe.draws": 3,
        "probe.tau": PROBE.tau,
    }
    for text in (DEMO_TEXT, "/of/one/machine/ingest/demo/text.jsonl"):
        sources = found.study.sources | {
            "text": {"source": text, "field": "text", "split": "train"}
        }
        study = replace(found.study, settings=settings, sources=sources)
        lines = commands(replace(found, study=study), "a")
        assert parsed(lines)[0][1]["text"] is None
        assert not any("machine" in line for line in lines)
        noted = [line.split()[1] for line in lines if "no option for this" in line]
        assert sorted(noted) == ["epochs", "folds", "map_share", "penalties", "probe.draws"]


@pytest.mark.parametrize(
    ("corpus", "ingested", "expected"),
    [
        (
            {"source": "/x/ingest/demo/text.jsonl"},
            {n: IngestedSae(n, n[:6]) for n in DEMO_SAES},
            "created by `atlas demo --atlas a`",
        ),
        (
            {"source": "t.txt", "tokens_asked": 9, "field": "text", "split_on": "line"},
            {"n": IngestedSae("./s"), "k": IngestedSae("memory")},
            "`atlas ingest --atlas a --sae n=./s --sae k=SAE --text t.txt --split-on line --tokens 9`",
        ),
        # One command per model; the first one has the text.
        (
            {"source": "t.jsonl", "field": "story", "split": "train", "split_on": "paragraph"},
            {
                "n": IngestedSae("r:n", "m"),
                "k": IngestedSae("./k", "memory"),
                "o": IngestedSae("r:o", "m"),
            },
            "`atlas ingest --atlas a --sae n=r:n --sae o=r:o --model m --text t.jsonl --field story`, "
            "then `atlas ingest --atlas a --sae ./k --model MODEL`",
        ),
        (
            {"study": "study"},
            {"n": IngestedSae("n", "m")},
            "Other SAEs were ingested too: `atlas ingest --atlas a --sae n --model m`",
        ),
        ({"study": "first"}, {}, "`atlas report geometry a --study first`"),
    ],
)
def test_how_the_atlas_was_created_is_a_note(folder, corpus, ingested, expected):
    with Atlas.open(folder.path) as atlas:
        found = find(atlas)
    lines = commands(replace(found, corpus=corpus, ingested=ingested), "a")
    (note,) = [line for line in lines if expected in line]
    assert note.startswith("#")
    parsed([line for line in note.split("`") if line.startswith("atlas ") and len(line) > 12])


@pytest.mark.slow
def test_the_printed_transcoder_command_reproduces_the_maps(tmp_path):
    for seed, name in ((0, "trained"), (1, "floor")):
        random_model("llama", seed=seed).save_pretrained(tmp_path / name)
        small_tokenizer().save_pretrained(tmp_path / name)
    first, fresh = tmp_path / "a.atlas", tmp_path / "b.atlas"
    ingest(
        first,
        saes=[open_sae(topk(), name="top")],
        text=texts(30),
        model=str(tmp_path / "trained"),
        match=None,
    ).close()
    copytree(first, fresh)
    words = [
        "transcoder",
        "trained",
        "--model",
        f"random={tmp_path / 'floor'}",
        "--to",
        "all",
        "--folds",
        "3",
        "--penalty",
        "0.01",
        "--draws",
        "0",
        "--quiet",
    ]
    done = CliRunner().invoke(command(), [*words, "--atlas", str(first)])
    assert done.exit_code == 0, done.output
    with Atlas.open(first) as atlas:
        found = find(atlas, floors=["random"])
    lines = [line for line in commands(found, str(fresh)) if line.startswith("atlas transcoder")]
    (line,) = lines
    done = CliRunner().invoke(command(), [*shlex.split(line)[1:], "--quiet"])
    assert done.exit_code == 0, done.output
    with Atlas.open(fresh) as atlas:
        again = find(atlas, floors=["random"])
    assert again.mapped == found.mapped
    assert [r["floor_r2_weighted"] for r in again.maps] == pytest.approx(
        [r["floor_r2_weighted"] for r in found.maps]
    )


@pytest.mark.slow
def test_a_real_study_is_reported(tmp_path):
    """Run a study from texts to the page, instead of a part written by hand."""
    path = tmp_path / "a b.atlas"
    settings = ResidualSettings(
        "hook_embed", HOOK, d_sae=32, k=4, seeds=2, draws=2, epochs=1, batch=64, context=CONTEXT
    )
    residual_study(
        path,
        model=small_model(),
        text=texts(120, seed=2, words=(10, 30)),
        settings=settings,
        probe=ProbeSettings(splits=("document",), controls=1, draws=10, min_positives=3),
        match=MatchSettings(draws=1),
    )
    with Atlas.open(path) as atlas:
        found = find(atlas)
    study = found.study
    assert study.arms_there == ["baseline", "residual", "components", "token-means"]
    assert (study.site, study.unprobed) == ("hook_embed", ())
    assert {v.kind for v in found.verdicts} == {"cannot tell"}
    against = found.difference("residual", "components")
    assert (against.seeds, against.draws) == (2, 2)
    sides = {row["role"]: row["documents"] for row in study.split.to_dict("records")}
    assert 0.05 * sides["corpus"] < against.documents < 0.5 * sides["corpus"]
    done = run_report("geometry", path, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text("utf-8")
    assert Page(text).open == []
    for wanted in (
        "removed on the training documents: residual",
        "do not cover the choice of another split",
    ):
        assert wanted in text, wanted
    lines = commands(found, str(path))
    assert [line.split(" was")[0] for line in lines[:2]] == ["# The model", "# The text"]
    (_, how), *_ = parsed(lines)
    assert (how["model"], how["text"], how["context"], how["k"]) == ("MODEL", "TEXT", CONTEXT, 4)
    assert how["name"] == study.name


def test_the_report_names_missing_data(tmp_path):
    bare = small_atlas(tmp_path / "bare.atlas")
    done = run_report("geometry", bare.path, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "This atlas has no residual study;" in text
    command = f"atlas transcoder --from hook_embed --to all --atlas {bare.path}"
    assert f"<code>{command}</code>" in text
    Page(text)


def test_invalid_options_are_refused(folder, tmp_path):
    done = run_report("geometry", folder.path, "--out", tmp_path / "r.pdf")
    assert isinstance(done.exception, BadInput)
    assert run_report("geometry", folder.path, "--out", tmp_path / "r.png").exit_code == 2
    assert run_report("geometry", folder.path, "--atlas", "other").exit_code == 2
    assert run_report("geometry", folder.path, "--margin", "0").exit_code == 2


# --- faults of the original study that this code does not have ----------------------------------------


def test_fault_layer_index_off_by_one():
    """hidden_states[20] was read for layer 20, but it is the output of block 19."""
    model = random_model("gemma2", layers=3)
    ids, mask = random_ids()
    hook = "blocks.1.hook_resid_post"
    ours = open_model(model, tokenizer=small_tokenizer(), device="cpu")
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    read = ours.run(ids, mask, hooks=[hook])[hook]
    assert not torch.allclose(read, states[1], atol=1e-2)  # theirs: the number of the layer
    torch.testing.assert_close(read, states[2])
    assert ours.site(hook).layer == 1


def toy_text(*, bos=40, tokens=1000, types=50, width=6, seed=0):
    """Return token ids, embeddings and a target half explained by the token; BOS has a huge coordinate."""
    rng = np.random.default_rng(seed)
    vectors, means = rng.normal(size=(types, width + 1)), rng.normal(size=(types, width))
    vectors[:, width] = (
        np.arange(types) == 0
    )  # a direction that distinguishes BOS, as wide models have
    ids = np.concatenate([np.zeros(bos, int), rng.integers(1, types, tokens)])
    target = means[ids] + rng.normal(size=(len(ids), width))
    target[:bos] = 0
    target[:bos, 2] = 2686.28 + rng.normal(0, 30, bos)
    return ids, vectors[ids], target


def scored(x, y, *, line=None):
    """Score an affine map on rows with the functions of the transcoder."""
    moments = Moments.of(torch.tensor(x), torch.tensor(y))
    line = line or fit(moments, spectrum(moments.xx), 0.0)
    return MapScores(moments.n, squared_error(line, moments), moments.yy, moments.y), line


def test_fault_bos_in_the_mean():
    """40 BOS tokens among 10,240 had half of the squared error, and nearly all variance."""
    ids, x, y = toy_text()
    with_bos, _ = scored(x, y)
    text = ids > 0
    ours, _ = scored(x[text], y[text])
    theirs = LinearRegression().fit(x, y).predict(x)
    published = 1 - ((y - theirs) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    error = ((y - theirs) ** 2).sum(axis=1)
    assert published > 0.99  # although the map explains a few percent of the text
    assert error[~text].sum() / error.sum() > 0.5
    assert with_bos.published == pytest.approx(published)
    fitted = LinearRegression().fit(x[text], y[text])
    expected = r2_score(y[text], fitted.predict(x[text]), multioutput="variance_weighted")
    assert ours.weighted == pytest.approx(expected)
    assert ours.weighted < 0.2


def test_fault_r2_in_sample():
    """R² was computed in sample, where a map explains even noise."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 100)), rng.normal(size=(400, 5))
    inside, line = scored(x[:200], y[:200])
    outside, _ = scored(x[200:], y[200:], line=line)
    theirs = LinearRegression().fit(x[:200], y[:200])
    assert inside.r2 == pytest.approx(r2_score(y[:200], theirs.predict(x[:200])))
    assert inside.r2 > 0.4
    assert outside.r2 == pytest.approx(r2_score(y[200:], theirs.predict(x[200:])))
    assert outside.r2 < 0


def test_fault_validation_balance():
    """Training was balanced but validation up to 99.9% inactive, so accuracy is specificity."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 8))
    active = rng.random(20_000) < 0.002  # independent of x
    on, off = np.flatnonzero(active), rng.permutation(np.flatnonzero(~active))
    take = int(0.8 * len(on))
    train = np.concatenate([on[:take], off[:take]])
    rest = np.concatenate([on[take:], off[take:]])
    probe = LogisticRegression(C=10, max_iter=2000).fit(x[train], active[train])
    predicted, truth = probe.predict(x[rest]), active[rest]
    specificity = (~predicted[~truth]).mean()
    accuracy = accuracy_score(truth, predicted)
    assert accuracy == pytest.approx(specificity, abs=0.002)

    def confusion(labels):
        counts = [(labels & truth), (labels & ~truth), (~labels & truth), (~labels & ~truth)]
        return Confusion(*(np.array([c.sum()], float) for c in counts))

    ours, never = confusion(predicted), confusion(np.zeros_like(truth))
    assert ours.accuracy[0] == pytest.approx(accuracy)
    assert ours.balanced_accuracy[0] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert never.accuracy[0] > 0.999  # it always predicts "inactive"
    assert never.balanced_accuracy[0] == 0.5


def test_fault_threshold_omitted():
    """JumpReLU was encoded as a plain ReLU, which marks inactive features as active."""
    theirs = random_sae("jumprelu")
    x = vectors()
    with torch.no_grad():
        plain = ((x - theirs.b_dec) @ theirs.W_enc + theirs.b_enc).clamp(min=0).numpy()
        jump = theirs.encode(x).numpy()
    codes = open_sae(theirs).codes(x)
    assert len(codes.values) == (jump > 0).sum() < (plain > 0).sum()
    assert codes.values.sum() == pytest.approx(jump.sum(), rel=1e-5)


def test_fault_means_of_unmatched_features_were_compared():
    """30 and 100 features that passed a filter were compared by their means, with no interval.

    In this toy example, a feature's score depends on its frequency only, equally in both arms. The
    filter retains mostly common features in one arm and also rare ones in the other. The means
    therefore differ although no arm is harder at equal frequency.
    """
    rng = np.random.default_rng(0)

    def arm(seed, features, rare):
        positives = np.concatenate(
            [
                rng.integers(10, 30, int(rare * features)),
                rng.integers(100, 900, features - int(rare * features)),
            ]
        )
        return Sample(
            seed, 0.6 + 0.05 * np.log(positives) + rng.normal(0, 0.02, features), positives
        )

    baseline = [arm(s, 30, 0.1) for s in range(6)]
    residual = [arm(s, 100, 0.6) for s in range(6)]
    theirs = np.mean([s.scores.mean() for s in residual]) - np.mean(
        [s.scores.mean() for s in baseline]
    )
    found = difference(residual, baseline, strata=10)
    assert theirs < -0.05  # "residual features are harder"
    assert found.plain == pytest.approx(theirs)
    assert abs(found.mean) < 0.02
    assert found.low is not None
    alone = difference(residual[:1], baseline[:1])
    assert (alone.low, alone.p_floor) == (None, 1.0)  # one run, nothing resampled: no claim
