"""Affine maps from moments: comparison with numpy, scikit-learn and brute force; degenerate cases."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from small_parts import filled

from analysis.statistics.document_splits import document_groups
from analysis.transcoder.accumulate import MapMoments
from analysis.transcoder.activation_stream import SlotCounts
from analysis.transcoder.affine import Affine, FittedMap, Maps, closed_form
from analysis.transcoder.moments import Moments, Stream, joined
from analysis.transcoder.scores import (
    Groups,
    MapIntervals,
    ScoringMap,
    limits,
    scores,
    token_scores,
)
from analysis.transcoder.settings import TranscoderSettings
from analysis.transcoder.solve import Line, Spectra, choose, fit, spectrum, squared_error
from analysis.transcoder.token_means import BLOCK, TokenSums
from atlas.disk.parts import Manifest, write_part
from atlas.errors import BadActivations, BadInput, Mismatch


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))


def data(rng, n=300, source=9, target=5, noise=1.0):
    """Return rows whose dimensions differ in spread and are far from 0."""
    x = rng.normal(size=(n, source)) * rng.uniform(0.1, 3, source) + 20 * rng.normal(size=source)
    y = x @ rng.normal(size=(source, target)) + noise * rng.normal(size=(n, target)) + 50
    return x, y


def by_numpy(x, y):
    zx, zy = x - x.mean(0), y - y.mean(0)
    return len(x), x.mean(0), y.mean(0), zx.T @ zx, zx.T @ zy, (zy**2).sum(0)


def assert_same(found, wanted, rtol=1e-12):
    n, *rest = wanted
    assert found.n == n
    for got, one in zip((found.x, found.y, found.xx, found.xy, found.yy), rest, strict=True):
        scale = np.abs(one).max() if one.size else 1.0
        np.testing.assert_allclose(got.numpy(), one, rtol=rtol, atol=rtol * scale)


# ---- moments


@pytest.mark.parametrize("source", [0, 1, 9, 600])
def test_streamed_moments_equal_those_of_all_rows(source):
    """Chunks have any size, and small ones are collected first; width 600 needs two strips."""
    rng = np.random.default_rng(0)
    x, y = data(rng, 500, max(source, 1), 3)
    x, x32, y32 = x[:, :source], x.astype(np.float32)[:, :source], y.astype(np.float32)
    stream = Stream(source, {"a": 3, "b": 1})
    for rows in np.split(np.arange(500), [1, 4, 10, 200, 201, 300]):
        stream.add(tensor(x32[rows]), {"a": tensor(y32[rows]), "b": tensor(y32[rows, :1])})
    for name, target in (("a", y32), ("b", y32[:, :1])):
        wanted = by_numpy(x32.astype(np.float64), target.astype(np.float64))
        assert_same(stream.moments(name), wanted, rtol=1e-11)


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 120), max_size=5), seed=st.integers(0, 99), shift=st.integers(0, 4)
)
def test_moments_of_any_split_join_in_any_order(cuts, seed, shift):
    rng = np.random.default_rng(seed)
    x, y = data(rng, 120, 4, 3)
    x += 10.0**shift
    pieces = [p for p in np.split(np.arange(120), sorted(cuts)) if len(p)]
    rng.shuffle(pieces)
    total = joined([Moments.of(tensor(x[p]), tensor(y[p])) for p in pieces])
    rows = np.concatenate(pieces)
    assert_same(total, by_numpy(x[rows], y[rows]))
    streams = []
    for p in pieces:
        streams.append(Stream(4, {"": 3}))
        streams[-1].add(tensor(x[p]), {"": tensor(y[p])})
    while len(streams) > 1:
        streams.append(streams.pop(0).join(streams.pop(0)))
    assert_same(streams[0].moments(""), by_numpy(x[rows], y[rows]))


def test_moments_are_precise_if_the_spread_is_far_below_the_mean():
    """Some models have a massive dimension; here its mean is 3,000 and its spread 0.001."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, 2)) * 1e-3 + 3000
    parts = [Moments.of(tensor(p), tensor(p[:, :1])) for p in np.array_split(x, 13)]
    z = x - x.mean(0)
    np.testing.assert_allclose(joined(parts).xx.numpy(), z.T @ z, rtol=1e-6)


def test_empty_moments_join():
    empty, some = Stream(2, {"": 1}), Moments.of(torch.eye(2), torch.ones(2, 1))
    assert_same(empty.moments("").join(some), by_numpy(np.eye(2), np.ones((2, 1))))
    assert empty.moments("").join(empty.moments("")).n == 0


# ---- one map


@pytest.mark.parametrize("penalty", [0.0, 1e-6, 1e-2, 10.0])
def test_a_map_equals_that_of_scikit_learn(penalty):
    x, y = data(np.random.default_rng(2))
    moments = Moments.of(tensor(x), tensor(y))
    of = spectrum(moments.xx)
    line = fit(moments, of, penalty)
    alpha = penalty * of.unit  # λ · tokens, λ in units of the mean variance
    assert alpha / len(x) == pytest.approx(penalty * x.var(0).mean())
    model = (Ridge(alpha=alpha) if alpha else LinearRegression()).fit(x, y)
    np.testing.assert_allclose(line.weight.numpy(), model.coef_.T, atol=1e-8)
    np.testing.assert_allclose(line.bias.numpy(), model.intercept_, atol=1e-8)
    other = Moments.of(tensor(x[:40]), tensor(y[:40]))
    error = ((y[:40] - model.predict(x[:40])) ** 2).sum(0)
    np.testing.assert_allclose(squared_error(line, other).numpy(), error, rtol=1e-8)


@pytest.mark.parametrize("kind", ["few tokens", "a constant dimension", "twice the same", "zeros"])
def test_a_source_of_lower_rank_gives_the_minimum_norm_map(kind):
    rng = np.random.default_rng(3)
    x, y = data(rng, 6 if kind == "few tokens" else 60, 9, 4)
    if kind == "a constant dimension":
        x[:, 3] = 7.0
    elif kind == "twice the same":
        x[:, 4] = x[:, 5]
    elif kind == "zeros":
        x[:] = 0.0
    moments = Moments.of(tensor(x), tensor(y))
    of = spectrum(moments.xx)
    z = x - x.mean(0)
    assert of.rank == {"few tokens": 5, "zeros": 0}.get(kind, 8)
    line = fit(moments, of, 0.0)
    np.testing.assert_allclose(
        line.weight.numpy(), np.linalg.pinv(z, rcond=1e-10) @ (y - y.mean(0)), atol=1e-7
    )
    ridge = fit(moments, of, 0.1)
    if of.unit:
        model = Ridge(alpha=0.1 * of.unit).fit(x, y)
        np.testing.assert_allclose(ridge.weight.numpy(), model.coef_.T, atol=1e-8)
    else:
        assert not ridge.weight.any()


def test_nan_is_refused():
    x = torch.ones(70, 2)
    x[3, 1] = torch.nan
    with pytest.raises(
        BadActivations, match="activations at the source of the map have NaN or Inf"
    ):
        spectrum(Moments.of(x, x).xx)


# ---- the penalty


def nested_by_sklearn(x, y, fold, penalties):
    """Refit everything for every fold, penalty and inner fold."""

    def error(train, test, penalty):
        alpha = penalty * ((x[train] - x[train].mean(0)) ** 2).sum() / x.shape[1]
        model = (Ridge(alpha=alpha) if alpha else LinearRegression()).fit(x[train], y[train])
        return ((y[test] - model.predict(x[test])) ** 2).sum()

    every, chosen = np.unique(fold), []
    for f in every:
        sums = [
            sum(error((fold != f) & (fold != g), fold == g, p) for g in every if g != f)
            for p in penalties
        ]
        chosen.append(penalties[int(np.argmin(sums))])
    last = [sum(error(fold != f, fold == f, p) for f in every) for p in penalties]
    return chosen, penalties[int(np.argmin(last))]


@pytest.mark.parametrize("seed", range(4))
def test_penalties_are_chosen_without_the_fold_that_is_scored(seed):
    rng = np.random.default_rng(seed)
    x, y = data(rng, 70, 20, 3, noise=(10.0, 3.0, 30.0, 5.0)[seed])
    fold = rng.integers(0, 4, 70)
    moments = [Moments.of(tensor(x[fold == f]), tensor(y[fold == f])) for f in range(4)]
    penalties = (0.0, *np.geomspace(1e-2, 30, 25).tolist())
    found = choose(moments, Spectra(lambda f: moments[f]), penalties)
    wanted = nested_by_sklearn(x, y, fold, penalties)
    assert found == wanted
    assert len({*found[0], found[1]}) > 1


# ---- scores


class Sample:
    """Documents of random tokens with a vector each, as the counts of an atlas and as plain rows."""

    def __init__(
        self,
        seed=0,
        *,
        tokens=400,
        ids=12,
        folds=3,
        source=4,
        target=3,
        at_embedding=True,
        bos=True,
        repeats=True,
    ):
        rng = np.random.default_rng(seed)
        self.id = rng.integers(1, ids, tokens) if repeats else np.arange(1, tokens + 1)
        self.slot = 2 * rng.integers(0, folds, tokens)
        if bos:
            first = rng.random(tokens) < 0.1
            self.id[first] = 0
            self.slot[first] += 1
        self.folds = folds
        self.table = rng.normal(size=(self.id.max() + 1, source)).astype(np.float32) + 1
        self.x = self.table[self.id]
        if not at_embedding:
            self.x = self.x + rng.normal(size=self.x.shape).astype(np.float32)
        y = self.x @ rng.normal(size=(source, target)) + rng.normal(size=(tokens, target))
        y += rng.normal(size=(self.id.max() + 1, target))[self.id] + 30
        y[self.slot % 2 == 1, 0] += 500  # BOS has one massive dimension
        self.y = y.astype(np.float32)
        slots = 2 * folds
        keys, count = np.unique(self.id * slots + self.slot, return_counts=True)
        sums = TokenSums(keys, count, slots=slots, widths={"t": target})
        sums.add(self.id, self.slot, {"t": tensor(self.y)})
        streams = []
        for slot in range(slots):
            rows = self.slot == slot
            streams.append(Stream(0 if at_embedding else source, {"t": target}))
            x = self.x[rows][:, :0] if at_embedding else self.x[rows]
            streams[-1].add(tensor(x), {"t": tensor(self.y[rows])})
        vectors = (lambda ids: tensor(self.table[ids])) if at_embedding else None
        self.measured = MapMoments(
            "s",
            counts=SlotCounts(slots, keys, count),
            tokens=sums,
            streams=streams,
            vectors=vectors,
        )

    def rows(self, *, folds=None, bos=False):
        there = np.ones(len(self.id), bool) if bos else self.slot % 2 == 0
        return there if folds is None else there & np.isin(self.slot // 2, folds)

    def closed_form(self, penalties=(1e-3,)):
        m = self.measured
        return closed_form(
            m,
            "t",
            penalties=penalties,
            text=Spectra(lambda f: m.text("t", f)),
            both=Spectra(lambda f: m.both("t", f)),
        )


def test_at_the_embedding_moments_follow_from_sums_by_id():
    sample = Sample(at_embedding=True)
    for f in range(3):
        for bos, found in (
            (False, sample.measured.text("t", f)),
            (True, sample.measured.both("t", f)),
        ):
            rows = sample.rows(folds=[f], bos=bos)
            wanted = by_numpy(sample.x[rows].astype(float), sample.y[rows].astype(float))
            assert_same(found, wanted, rtol=1e-11)


def ridge(x, y, penalty):
    alpha = penalty * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    return Ridge(alpha=alpha).fit(x, y)


@pytest.mark.parametrize("at_embedding", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_scores_equal_those_of_refitting_fold_by_fold(at_embedding, bos):
    sample = Sample(at_embedding=at_embedding, bos=bos)
    result, by_dimension = scores(sample.measured, "t", sample.closed_form())
    x, y = sample.x.astype(float), sample.y.astype(float)

    def held_out(bos):
        predicted = np.full_like(y, np.nan)
        for f in range(3):
            train = sample.rows(folds=[g for g in range(3) if g != f], bos=bos)
            test = sample.rows(folds=[f], bos=bos)
            predicted[test] = ridge(x[train], y[train], 1e-3).predict(x[test])
        rows = sample.rows(bos=bos)
        return y[rows], predicted[rows]

    def close(name, value):
        assert result[name] == pytest.approx(value, rel=1e-7), name

    true, predicted = held_out(bos=False)
    close("r2", r2_score(true, predicted))
    close("r2_weighted", r2_score(true, predicted, multioutput="variance_weighted"))
    close("mse", ((true - predicted) ** 2).mean())
    np.testing.assert_allclose(
        by_dimension["r2"].numpy(), r2_score(true, predicted, multioutput="raw_values"), rtol=1e-7
    )
    np.testing.assert_allclose(
        by_dimension["mse"].numpy(), ((true - predicted) ** 2).mean(0), rtol=1e-7
    )
    text, every = sample.rows(), sample.rows(bos=True)
    in_sample = ridge(x[text], y[text], 1e-3).predict(x[text])
    close("r2_in_sample", r2_score(y[text], in_sample))
    close("r2_in_sample_weighted", r2_score(y[text], in_sample, multioutput="variance_weighted"))
    close("mse_in_sample", ((y[text] - in_sample) ** 2).mean())
    close("variance", y[text].var(0).mean())
    predicted = ridge(x[every], y[every], 1e-3).predict(x[every])
    squared = (y[every] - predicted) ** 2
    close("r2_published", 1 - squared.sum() / ((y[every] - y[every].mean()) ** 2).sum())
    if bos:
        close("bos_share", squared[sample.slot % 2 == 1].sum() / squared.sum())
        true, predicted = held_out(bos=True)
        close("r2_with_bos", r2_score(true, predicted))
        close("r2_with_bos_weighted", r2_score(true, predicted, multioutput="variance_weighted"))
        close("mse_with_bos", ((true - predicted) ** 2).mean())
    else:
        assert result["bos_share"] is result["r2_with_bos"] is result["mse_with_bos"] is None
    assert result["tokens"] == text.sum()
    assert result["fit_tokens"] == round(text.sum() * 2 / 3)
    assert (result["folds"], result["rank"], result["constant_dimensions"]) == (3, 4, 0)
    close("penalty", 1e-3 * x[text].var(0).mean())


@pytest.mark.parametrize("repeats", [True, False])
def test_scores_of_token_means_equal_those_of_a_table(repeats):
    sample = Sample(repeats=repeats, tokens=400 if repeats else 60)
    result, _ = scores(sample.measured, "t", sample.closed_form())
    y, text = sample.y.astype(float), sample.rows()
    predicted, known = np.full_like(y, np.nan), 0
    for f in range(3):
        train = sample.rows(folds=[g for g in range(3) if g != f])
        for i in np.flatnonzero(sample.rows(folds=[f])):
            same = train & (sample.id == sample.id[i])
            known += same.any()
            predicted[i] = y[same if same.any() else train].mean(0)
    assert result["seen_share"] == pytest.approx(known / text.sum())
    assert result["token_r2"] == pytest.approx(r2_score(y[text], predicted[text]))
    assert result["token_r2_weighted"] == pytest.approx(
        r2_score(y[text], predicted[text], multioutput="variance_weighted")
    )
    ids = np.unique(sample.id[text])
    means = np.stack([y[text & (sample.id == i)].mean(0) for i in sample.id[text]])
    between = ((means - y[text].mean(0)) ** 2).sum()
    total = ((y[text] - y[text].mean(0)) ** 2).sum()
    assert result["token_eta2_weighted"] == pytest.approx(between / total)
    if repeats:
        within = (total - between) / (text.sum() - len(ids))
        omega = (between - (len(ids) - 1) * within) / (total + within)
        assert result["token_omega2_weighted"] == pytest.approx(omega)
    else:  # each id occurs once: noise and ids are not distinguishable
        assert result["token_eta2_weighted"] == pytest.approx(1)
        assert result["token_omega2_weighted"] is None
        assert result["seen_share"] == 0


def test_eta2_of_noise_is_positive_and_omega2_is_zero():
    """For noise, the in-sample η² of the token id is above 0; the corrected ω² is about 0."""
    sample = Sample(seed=5, tokens=3000, ids=600)
    sample.y[:] = np.random.default_rng(6).normal(size=sample.y.shape)
    sums = TokenSums(
        sample.measured.counts.keys, sample.measured.counts.count, slots=6, widths={"t": 3}
    )
    sums.add(sample.id, sample.slot, {"t": tensor(sample.y)})
    streams = []
    for slot in range(6):
        streams.append(Stream(0, {"t": 3}))
        rows = sample.slot == slot
        streams[-1].add(torch.zeros(int(rows.sum()), 0), {"t": tensor(sample.y[rows])})
    noise = MapMoments(
        "s",
        counts=sample.measured.counts,
        tokens=sums,
        streams=streams,
        vectors=lambda ids: tensor(sample.table[ids]),
    )
    sample.measured = noise
    result, _ = scores(noise, "t", sample.closed_form())
    assert result["token_eta2_weighted"] == pytest.approx(599 / 2700, abs=0.02)
    assert abs(result["token_omega2_weighted"]) < 0.02
    assert result["token_r2_weighted"] < 0
    assert abs(result["r2_weighted"]) < 0.02


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    ids=st.integers(2, 40),
    tokens=st.integers(30, 200),
    penalty=st.sampled_from([0.0, 1e-8, 1e-2, 1.0]),
)
def test_in_sample_no_map_from_the_embedding_exceeds_eta2(seed, ids, tokens, penalty):
    sample = Sample(seed, ids=ids, tokens=tokens, source=6)
    result, _ = scores(sample.measured, "t", sample.closed_form((penalty,)))
    assert result["r2_in_sample_weighted"] <= result["token_eta2_weighted"] + 1e-12


def test_constant_dimensions_are_excluded_from_means():
    sample = Sample()
    sample.y[:, 1] = 3000.1
    keys, count = sample.measured.counts.keys, sample.measured.counts.count
    sums = TokenSums(keys, count, slots=6, widths={"t": 3})
    sums.add(sample.id, sample.slot, {"t": tensor(sample.y)})
    streams = []
    for slot in range(6):
        streams.append(Stream(0, {"t": 3}))
        rows = sample.slot == slot
        streams[-1].add(torch.zeros(int(rows.sum()), 0), {"t": tensor(sample.y[rows])})
    sample.measured = MapMoments(
        "s",
        counts=sample.measured.counts,
        tokens=sums,
        streams=streams,
        vectors=lambda ids: tensor(sample.table[ids]),
    )
    result, by_dimension = scores(sample.measured, "t", sample.closed_form())
    assert result["constant_dimensions"] == 1
    assert np.isnan(by_dimension["r2"].numpy()).tolist() == [False, True, False]
    assert result["r2"] == pytest.approx(np.nanmean(by_dimension["r2"].numpy()))
    sample.y[:] = 1.0
    constant = Stream(0, {"t": 3})
    constant.add(torch.zeros(90, 0), {"t": torch.ones(90, 3)})
    sample.measured._streams = [constant] * 6
    sample.measured._last = ("", {})
    flat = TokenSums(keys, count, slots=6, widths={"t": 3})
    flat.add(sample.id, sample.slot, {"t": tensor(sample.y)})
    sample.measured.tokens = flat
    result, _ = scores(sample.measured, "t", sample.closed_form())
    assert result["r2"] is result["r2_weighted"] is result["token_eta2_weighted"] is None


def test_a_site_maps_to_itself_without_error():
    sample = Sample(at_embedding=False, source=3)
    streams = []
    for slot in range(6):
        x = tensor(sample.x[sample.slot == slot])
        streams.append(Stream(3, {"t": 3}))
        streams[-1].add(x, {"t": x})
    sums = sample.measured.tokens
    same = MapMoments(
        "t", counts=sample.measured.counts, tokens=sums, streams=streams, vectors=None
    )
    sample.measured = same
    maps = sample.closed_form((0.0, 1.0))
    assert torch.equal(maps.full.line.weight, torch.eye(3, dtype=torch.float64))
    result, _ = scores(same, "t", maps)
    assert result["r2"] == result["r2_in_sample_weighted"] == result["r2_with_bos"] == 1.0
    assert result["mse"] == 0.0
    assert result["bos_share"] is None


def test_few_tokens_exclude_a_penalty_of_0():
    sample = Sample(tokens=40, ids=30, source=35)
    maps = sample.closed_form((0.0, 1e-4, 1e-2))
    assert maps.rank < 35
    assert maps.penalty > 0
    assert sample.closed_form((0.0,)).penalty == 0  # unless it is the only penalty


# ---- intervals


def test_intervals_equal_those_of_drawing_rows_group_by_group():
    """The map and the means share their groups, so their difference varies less than either."""
    rng = np.random.default_rng(7)
    group = rng.integers(0, 30, 900)
    y = rng.normal(size=(900, 4)) + rng.normal(size=(30, 4))[group]
    predicted = y + rng.normal(size=y.shape) * 0.7
    means = predicted + rng.normal(size=y.shape) * 0.1
    sums = np.zeros((32, 4))  # two groups are empty
    np.add.at(sums, group, y)
    groups = Groups(
        *(
            np.bincount(group, weights=w, minlength=32)
            for w in (np.ones(900), ((y - predicted) ** 2).sum(1), ((y - means) ** 2).sum(1))
        ),
        sums,
        np.bincount(group, weights=(y**2).sum(1), minlength=32),
    )
    found = limits(groups, draws=4000, seed=3)
    drawn = []
    again = np.random.default_rng(8)
    for _ in range(800):
        rows = np.concatenate([np.flatnonzero(group == g) for g in again.integers(0, 30, 30)])
        r2, token = (
            r2_score(y[rows], t[rows], multioutput="variance_weighted") for t in (predicted, means)
        )
        drawn.append((r2, token, r2 - token))
    wanted = np.quantile(drawn, [0.025, 0.975], axis=0).T
    for interval, one, near in zip(
        (found.map, found.token, found.difference), wanted, (0.006, 0.006, 0.001), strict=True
    ):
        assert interval == pytest.approx(one, abs=near)
    assert np.ptp(found.difference) < np.ptp(found.map) / 3
    assert limits(groups, draws=0, seed=3) == MapIntervals()
    one = Groups(
        groups.n[:1], groups.error[:1], groups.token_error[:1], groups.sums[:1], groups.squares[:1]
    )
    assert limits(one, draws=10, seed=3) == MapIntervals()


# ---- sums by token id


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("per_chunk", [1, 5, 1000])
def test_sums_by_token_are_the_same_block_by_block(tmp_path, in_file, per_chunk):
    rng = np.random.default_rng(0)
    ids, slot, y = rng.integers(0, 40, 300) * 3, rng.integers(0, 6, 300), rng.normal(size=(300, 2))
    keys, count = np.unique(ids * 6 + slot, return_counts=True)
    sums = TokenSums(keys, count, slots=6, widths={"t": 2}, into=tmp_path if in_file else None)
    for rows in np.array_split(np.arange(300), 7):
        sums.add(ids[rows], slot[rows], {"t": tensor(y[rows])})
    sides = [[0, 2, 4], [1], []]
    found = list(sums.blocks("t", *sides, per_chunk=per_chunk))
    assert all(len(side.ids) <= per_chunk for few in found for side in few)
    for i, slots in enumerate(sides):
        there = np.isin(slot, slots)
        assert (
            np.concatenate([few[i].ids for few in found]).tolist() == np.unique(ids[there]).tolist()
        )
        for side in (few[i] for few in found):
            for id, n, total in zip(side.ids, side.count, side.sums, strict=True):
                rows = there & (ids == id)
                assert n == rows.sum()
                np.testing.assert_allclose(total, y[rows].sum(0), atol=1e-12)
    some = np.array([0, 1, 3, 60, 999])
    side = sums.of_ids("t", [4, 0], some)
    assert side.ids.tolist() == [i for i in some if (np.isin(slot, [0, 4]) & (ids == i)).any()]
    for id, total in zip(side.ids, side.sums, strict=True):
        np.testing.assert_allclose(total, y[np.isin(slot, [0, 4]) & (ids == id)].sum(0), atol=1e-12)
    assert sums.of_ids("t", [5], np.zeros(0, np.int64)).sums.shape == (0, 2)


def test_sums_in_a_file_are_read_in_blocks(tmp_path):
    """A score of token means reads blocks of 40,000 rows of 64 numbers (20 MB), not all."""
    sample = Sample(tokens=40_000, ids=2, bos=False, at_embedding=False, target=64, repeats=False)
    keys, count = sample.measured.counts.keys, sample.measured.counts.count
    sums = TokenSums(keys, count, slots=6, widths={"t": 64}, into=tmp_path)
    sums.add(sample.id, sample.slot, {"t": tensor(sample.y)})
    assert len(keys) == 40_000
    sample.measured.tokens = sums
    maps = sample.closed_form()
    tracemalloc.start()
    try:
        token_scores(sample.measured, "t", maps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 64 * BLOCK * 4 + 8 * 40_000 * 6  # and some integers for each key


# ---- a massive coordinate


def massive(rng, n=4000):
    """Return a source with one coordinate of mean 1e4 and spread 1, and a target it predicts."""
    mean = np.array([1e4, 0, 0, 0])
    x = (rng.normal(size=(n, 4)) + mean).astype(np.float32)
    y = (x - mean) @ rng.normal(size=(4, 3)) + 0.01 * rng.normal(size=(n, 3)) + 5
    return x, y.astype(np.float32)


def test_the_float32_map_scores_as_the_fitted_map():
    """The stored map is applied in float32, and the fitted map is scored in float64."""
    x, y = massive(np.random.default_rng(0))
    moments = Moments.of(tensor(x), tensor(y))
    line = fit(moments, spectrum(moments.xx), 0.0)
    scored = 1 - squared_error(line, moments).sum() / moments.yy.sum()
    exact = LinearRegression().fit(x.astype(float), y.astype(float)).predict(x.astype(float))
    assert float(scored) == pytest.approx(
        r2_score(y, exact, multioutput="variance_weighted"), abs=1e-9
    )
    applied = Affine.of(line, source="m/a", target="m/b").apply(tensor(x)).numpy()
    plain = x @ line.weight.float().numpy() + line.bias.float().numpy()  # with a plain bias
    difference, plain_difference = (
        r2_score(y.astype(float), t.astype(float), multioutput="variance_weighted") - float(scored)
        for t in (applied, plain)
    )
    assert abs(difference) < 1e-8
    assert abs(plain_difference) > 1e-7
    errors = ScoringMap.of(FittedMap(line, (0,), (1,))).errors(tensor(x), tensor(y))
    assert float(1 - errors.sum() / moments.yy.sum()) == pytest.approx(float(scored), abs=1e-6)


def test_stored_maps_of_this_and_an_older_version_are_read(tmp_path):
    x, y = massive(np.random.default_rng(1), 200)
    moments = Moments.of(tensor(x), tensor(y))
    affine = Affine.of(fit(moments, spectrum(moments.xx), 0.0), source="m/a", target="m/b")
    edge = filled("MAPS_TO", "transcoder", [{"source": "m/a", "target": "m/b", "run": "r"}])

    def read(name, tables):
        manifest = Manifest("transcoder", name)
        return Affine.read(write_part(tmp_path / name, manifest, [("MAPS_TO", edge), *tables]))

    again = read("new", affine.tables())
    assert (again.source, again.target) == ("m/a", "m/b")
    assert torch.equal(again.apply(tensor(x)), affine.apply(tensor(x)))
    older = read("old", affine.tables()[:1])  # weights, and the output at 0
    assert older.at is None
    np.testing.assert_allclose(older.apply(tensor(x)), affine.apply(tensor(x)), atol=0.05)
    double = torch.from_numpy(x.astype(np.float64))
    torch.testing.assert_close(affine.apply(double), affine.apply(tensor(x)))
    bare = Affine("m/a", "m/b", affine.weight, affine.bias)
    assert torch.equal(read("bare", bare.tables()).apply(tensor(x)), bare.apply(tensor(x)))


# ---- settings, folds, the stored map


@pytest.mark.parametrize(
    "wrong",
    [
        {"folds": 2},
        {"folds": 2, "method": "adam"},
        {"penalties": ()},
        {"penalties": (-1.0,)},
        {"penalties": (float("nan"),)},
        {"rates": (0.0,)},
        {"method": "sgd"},
        {"draws": -1},
        {"epochs": 0},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(BadInput):
        TranscoderSettings(**wrong)


def test_documents_are_assigned_evenly_and_by_seed():
    documents = np.array([3, 5, 6, 8, 9])
    dealt = document_groups(documents, among=11, number=2, seed=1)
    assert (dealt >= 0).nonzero()[0].tolist() == documents.tolist()
    assert sorted(np.bincount(dealt[documents]).tolist()) == [2, 3]
    assert (dealt == document_groups(documents, among=11, number=2, seed=1)).all()
    assert any(
        (dealt != document_groups(documents, among=11, number=2, seed=s)).any() for s in range(2, 9)
    )


def test_a_map_refuses_vectors_of_another_width():
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    affine = Affine("m/a", "m/b", weight, np.ones(2, np.float32))
    x = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    assert affine.apply(x).tolist() == [[9.0, 12.0]]
    with pytest.raises(Mismatch, match="have 2 dimensions; expected 3"):
        affine.apply(torch.ones(4, 2))


def test_maps_of_adam_are_scored_on_their_own_fold():
    """A map that was fitted on the third fold alone is scored on another fold."""
    sample = Sample()
    weight, bias = torch.randn(4, 3).double(), torch.randn(3).double()
    line = Line(weight, torch.zeros(4).double(), bias).about(torch.ones(4).double())
    torch.testing.assert_close(line.bias, bias)
    maps = Maps((FittedMap(line, (2,), (0,)),), FittedMap(line, (2,), (2,)), (), None, None, 8, 4)
    result, _ = scores(sample.measured, "t", maps)
    rows, fitted = sample.rows(folds=[0]), sample.rows(folds=[2])
    predicted = sample.x.astype(float) @ line.weight.numpy() + line.bias.numpy()
    assert result["r2"] == pytest.approx(r2_score(sample.y[rows], predicted[rows]))
    assert result["r2_in_sample"] == pytest.approx(r2_score(sample.y[fitted], predicted[fitted]))
    assert (result["folds"], result["fit_tokens"], result["steps"]) == (1, fitted.sum(), 8)
    means = {i: sample.y[fitted & (sample.id == i)].mean(0) for i in np.unique(sample.id[fitted])}
    table = np.stack([means.get(i, sample.y[fitted].mean(0)) for i in sample.id[rows]])
    assert result["token_r2"] == pytest.approx(r2_score(sample.y[rows], table), rel=1e-6)
