"""Residual studies: subtractions, training of SAEs, split of documents, resumption, errors."""

import dataclasses
import json
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_ingest import CONTEXT, HOOK, model, texts

from analysis.residual import estimate
from analysis.residual import train as training
from analysis.residual.activations import (
    Activations,
    Reader,
    store_activations,
    subtract_prediction,
)
from analysis.residual.evaluate import all_pairs
from analysis.residual.fit import draw_components, fit_all
from analysis.residual.part import text_settings
from analysis.residual.settings import DEMO_TEXT, SHRINKAGES, ResidualSettings
from analysis.residual.split import Division
from analysis.residual.study import residual_study
from analysis.residual.train import Arm, all_arms, batches, read_inputs, train
from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadActivations, BadInput, RequestError, UnknownName
from atlas.progress import SILENT
from atlas.studies.results import Result
from ingest.demo.build import demo_text
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings
from ingest.sae.activation_transforms import read_subtraction, write_subtraction
from ingest.sae.autoencoder import open_sae
from ingest.text.atlas_corpus import Text
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings

SOURCE = "hook_embed"
SETTINGS = ResidualSettings(
    SOURCE, HOOK, d_sae=32, k=4, draws=2, epochs=2, batch=64, context=CONTEXT
)
ELSEWHERE = dataclasses.replace(SETTINGS, source="blocks.0.hook_resid_pre")
PROBE = ProbeSettings(splits=("document",), controls=0, draws=10, min_positives=3)


class Recorded:
    """A progress that records its messages."""

    def __init__(self):
        self.lines = []

    def stage(self, *args, **options):
        return SILENT.stage(*args, **options)

    def report(self, sentence):
        self.lines.append(sentence)


def rows(
    n=600,
    *,
    seed=0,
    noise=0.5,
    types=20,
    wobble=0.1,
    beyond=0.0,
    d_source=6,
    d_target=10,
    documents=12,
):
    """Return tokens whose target is an affine map of the source, plus noise of different sizes.

    The source is a vector of the id plus noise of size ``wobble``; ``beyond`` is the size of the
    effect of the id on the target that the map does not explain.
    """
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, types, n)
    vectors = np.random.default_rng(99).standard_normal((types, d_source))
    weight = np.random.default_rng(98).standard_normal((d_source, d_target))
    source = vectors[ids] + wobble * draw.standard_normal((n, d_source))
    spread = noise * np.linspace(0.5, 3, d_target)
    target = source @ weight + 5 + spread * draw.standard_normal((n, d_target))
    target += beyond * np.random.default_rng(97).standard_normal((types, d_target))[ids]
    return Activations(
        source.astype(np.float32),
        target.astype(np.float32),
        ids,
        np.sort(draw.integers(0, documents, n)),
    )


def trained(arm, known, settings=SETTINGS):
    with SILENT.stage("") as stage:
        read = read_inputs([arm], known, settings)[arm.label]
        return train(arm, known, settings, read=read, metadata={}, stage=stage)


def remaining_share(x, of):
    return float(x.var(0).sum() / of.var(0).sum())


# ---------------------------------------------------------------- subtractions


def test_the_map_is_ridge_regression_and_token_means_are_shrunk_means():
    from sklearn.linear_model import Ridge

    known = rows()
    settings = dataclasses.replace(ELSEWHERE, penalties=(0.01,))
    fitted = fit_all(known.chunks(), settings, progress=SILENT)
    x, y = known.source.astype(np.float64), known.target.astype(np.float64)
    alpha = 0.01 * len(x) * x.var(0).mean()
    theirs = Ridge(alpha=alpha).fit(x, y)
    np.testing.assert_allclose(fitted.map.weight.numpy().T, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(fitted.map.bias.numpy(), theirs.intercept_, atol=1e-4)
    again = 1 - ((y - theirs.predict(x)) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert fitted.r2 == pytest.approx(again, abs=1e-6)
    for token, mean in zip(fitted.token_means.ids, fitted.token_means.means, strict=True):
        mine = y[known.ids == int(token)]
        own = (mine.sum(0) + fitted.shrunk * y.mean(0)) / (len(mine) + fitted.shrunk)
        np.testing.assert_allclose(mean.numpy(), own, atol=1e-5)
    assert fitted.token_means.ids.tolist() == sorted(set(known.ids.tolist()))
    np.testing.assert_allclose(fitted.token_means.mean.numpy(), y.mean(0), atol=1e-5)


def halves_error(known, shrunk, *, penalty=None):
    """Return the squared error of one half's shrunk means on the other half, by hand.

    They are shrunk to that half's mean, or to its own map with a penalty.
    """
    from sklearn.linear_model import Ridge

    error = 0.0
    x, y = known.source.astype(float), known.target.astype(float)
    side = known.documents % SETTINGS.folds % 2
    for half in (0, 1):
        fitted, other_half = side == half, side != half
        prior = np.tile(y[fitted].mean(0), (len(y), 1))
        if penalty is not None:
            alpha = penalty * fitted.sum() * x[fitted].var(0).mean()
            prior = Ridge(alpha=alpha).fit(x[fitted], y[fitted]).predict(x)
        for token in np.unique(known.ids[other_half]):
            mine, theirs = fitted & (known.ids == token), other_half & (known.ids == token)
            tokens = mine.sum() + shrunk
            off = (y[mine] - prior[mine]).sum(0) / tokens if tokens else 0
            error += ((y[theirs] - prior[theirs] - off) ** 2).sum()
    return error


@pytest.mark.parametrize(("noise", "permuted"), [(0.5, False), (8, False), (0.5, True), (0, False)])
def test_shrinkage_minimizes_the_error_on_the_other_half(noise, permuted):
    known = rows(500, noise=noise)
    if permuted:
        known = dataclasses.replace(known, ids=np.random.default_rng(0).permutation(known.ids))
    found = fit_all(known.chunks(), ELSEWHERE, progress=SILENT).shrunk
    errors = [halves_error(known, shrunk) for shrunk in SHRINKAGES]
    assert halves_error(known, found) == pytest.approx(min(errors), rel=1e-9)
    if permuted:
        assert found > 10
    elif noise < 1:
        assert found < 2


def test_means_of_uninformative_ids_do_not_make_the_residual_predictable():
    """Subtracting plain means of few tokens makes the residual predictable from the id."""
    known, other = rows(400, noise=3), rows(4000, seed=1, noise=3)
    mixed = np.random.default_rng(0).permutation
    known = dataclasses.replace(known, ids=mixed(known.ids))
    other = dataclasses.replace(other, ids=mixed(other.ids))
    means = fit_all(known.chunks(), ELSEWHERE, progress=SILENT).token_means
    each = torch.from_numpy(np.unique(known.ids))
    plain = torch.from_numpy(np.stack([known.target[known.ids == int(i)].mean(0) for i in each]))
    shares = []
    for less in (means, dataclasses.replace(means, ids=each, means=plain)):
        x = np.concatenate(
            [subtract_prediction(less, r, source=SOURCE).numpy() for r in other.chunks()]
        )
        of_ids = np.stack([x[other.ids == int(i)].mean(0) for i in each])
        shares.append(of_ids.var(0).sum() / x.var(0).sum())
    assert shares[1] > 2 * shares[0]
    assert shares[0] < 0.01  # 20 ids of 200 tokens each


@pytest.mark.parametrize("beyond", [0, 0.3, 3])
def test_at_the_embedding_means_are_shrunk_towards_the_map(beyond):
    known = rows(900, types=150, wobble=0, beyond=beyond)
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    x, y = known.source.astype(np.float64), known.target.astype(np.float64)
    residual_of_map = y - (
        x @ fitted.map.weight.double().numpy() + fitted.map.bias.double().numpy()
    )
    errors = [halves_error(known, s, penalty=fitted.penalty) for s in SHRINKAGES]
    assert fitted.shrunk == SHRINKAGES[int(np.argmin(errors))]
    taken = y - np.concatenate(
        [
            subtract_prediction(fitted.token_means, r, source=SOURCE).double().numpy()
            for r in known.chunks()
        ]
    )
    for token in np.unique(known.ids):
        mine = known.ids == token
        off = residual_of_map[mine].sum(0) / (mine.sum() + fitted.shrunk)
        np.testing.assert_allclose(taken[mine], (y - residual_of_map)[mine] + off, atol=1e-4)
    unseen = Activations(
        np.ones((1, 6), np.float32),
        np.zeros((1, 10), np.float32),
        np.array([999]),
        np.zeros(1, np.int64),
    )
    (one,) = unseen.chunks()
    assert torch.allclose(
        subtract_prediction(fitted.token_means, one, source=SOURCE),
        subtract_prediction(fitted.map, one, source=SOURCE),
    )


def test_token_means_leave_no_linear_component_of_rare_ids():
    """Shrinking rare ids to the overall mean leaves a component that is linear in the embedding."""
    known, other = (
        rows(n, seed=seed, types=400, wobble=0, beyond=0.5, noise=1.5)
        for n, seed in ((800, 0), (20000, 1))
    )
    share = {}
    for settings in (SETTINGS, ELSEWHERE):
        fitted = fit_all(known.chunks(), settings, progress=SILENT)
        x = np.concatenate(
            [
                subtract_prediction(fitted.token_means, r, source=settings.source).numpy()
                for r in other.chunks()
            ]
        )
        source = np.c_[other.source, np.ones(len(other))]
        predicted = source @ np.linalg.lstsq(source, x, rcond=None)[0]
        share[settings.source] = remaining_share(predicted, x)
    assert share[SOURCE] < 0.01 < 0.05 < share[ELSEWHERE.source]


def test_no_shrinkage_is_chosen_if_all_documents_are_in_one_half():
    known = rows(documents=6)
    known = dataclasses.replace(known, documents=known.documents % 3 * 2)  # folds 0, 2 and 4
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    assert fitted.shrunk is None


def test_a_map_fitted_on_few_tokens_does_not_cause_too_much_shrinkage():
    """Least-squares residuals of both halves cancel, which would favour too much shrinkage."""
    wide = {"types": 120, "wobble": 0, "beyond": 0.5, "noise": 1, "d_source": 60}
    known, other = rows(1500, **wide), rows(20000, seed=1, **wide)
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    (own,) = known.chunks()
    of_map = subtract_prediction(fitted.map, own, source=SOURCE).double().numpy()

    def error(shrunk):
        """Return the squared error on other text, by hand."""
        residual = np.concatenate(
            [
                subtract_prediction(fitted.map, r, source=SOURCE).double().numpy()
                for r in other.chunks()
            ]
        )
        for token in np.unique(known.ids):
            mine = known.ids == token
            residual[other.ids == token] -= of_map[mine].sum(0) / (mine.sum() + shrunk)
        return (residual**2).sum()

    best = min(error(s) for s in SHRINKAGES)
    assert error(fitted.shrunk) <= 1.005 * best


def test_a_map_that_removes_nothing_makes_controls_equal_to_baselines(tmp_path):
    """The source is permuted among tokens, so it predicts nothing, and no component is chosen."""
    known, other = (
        dataclasses.replace(r, source=np.random.default_rng(9).permutation(r.source))
        for r in (rows(2000), rows(2000, seed=1))
    )
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    drawn, taken = draw_components(fitted, other, SETTINGS)
    assert abs(taken) < 0.01
    assert [d.less.directions.shape[1] for d in drawn] == [0, 0]
    base = trained(Arm("baseline", 0), other)
    same = trained(Arm("components", 0, 0, drawn[0].less), other)
    assert same.facts.removed_share == 0
    assert all(torch.equal(base.sae.state_dict()[k], v) for k, v in same.sae.state_dict().items())
    write_subtraction(tmp_path, drawn[0].less)
    again = read_subtraction(tmp_path, d_in=10)
    assert torch.equal(again.apply(torch.ones(3, 10), {}, torch.zeros(3)), torch.ones(3, 10))


def test_the_components_are_principal_and_remove_as_much_as_the_map():
    known, other = rows(2000), rows(2000, seed=1)
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    y = known.target.astype(np.float64)
    _, _, theirs = np.linalg.svd(y - y.mean(0), full_matrices=False)
    cosines = np.abs((fitted.directions.numpy() * theirs.T).sum(0))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    drawn, taken = draw_components(fitted, other, SETTINGS)
    residual = other.target - (other.source @ fitted.map.weight.numpy() + fitted.map.bias.numpy())
    assert taken == pytest.approx(1 - remaining_share(residual, other.target), abs=1e-5)
    assert len(drawn) == SETTINGS.draws
    for one in drawn:
        x = torch.cat(
            [subtract_prediction(one.less, r, source=SOURCE) for r in other.chunks()]
        ).numpy()
        p = one.less.directions.numpy()
        by_hand = other.target - (other.target - fitted.mean.numpy()) @ p @ p.T
        np.testing.assert_allclose(x, by_hand, atol=1e-4)
        assert one.share == pytest.approx(1 - remaining_share(by_hand, other.target), abs=1e-4)
        assert one.share <= taken + 1e-9


def test_many_small_components_approximate_the_share_of_the_map():
    known = rows(3000, d_source=20, d_target=60)
    settings = dataclasses.replace(SETTINGS, draws=4)
    fitted = fit_all(known.chunks(), settings, progress=SILENT)
    drawn, taken = draw_components(fitted, known, settings)
    assert all(taken - 0.01 < one.share <= taken + 1e-9 for one in drawn)
    assert len({one.less.digest() for one in drawn}) == 4


# ---------------------------------------------------------------- training


def test_arms_of_a_seed_have_the_same_tokens_in_the_same_order(monkeypatch):
    seen = {}
    original = Activations.rows

    def noting(self, which):
        if not isinstance(which, slice):
            seen.setdefault(current[0], []).append(np.array(which))
        return original(self, which)

    monkeypatch.setattr(Activations, "rows", noting)
    current, begun = [""], {}
    new = training._new

    def noting_new(arm, *args):
        sae = new(arm, *args)
        begun[arm.label] = {k: v.clone() for k, v in sae.state_dict().items()}
        return sae

    monkeypatch.setattr(training, "_new", noting_new)
    known = rows()
    fitted = fit_all(known.chunks(), SETTINGS, progress=SILENT)
    drawn, _ = draw_components(fitted, known, SETTINGS)
    facts = {}
    for arm in all_arms(dataclasses.replace(SETTINGS, seeds=2), fitted, drawn):
        current[0] = arm.label
        facts[arm.label] = trained(arm, known).facts
    assert set(seen) == {
        f"{a}-s{s}"
        for a in ("baseline", "residual", "token-means", "components0", "components1")
        for s in (0, 1)
    }
    for label, those in seen.items():
        twin = f"baseline-{label[-2:]}"
        np.testing.assert_array_equal(np.array(those), np.array(seen[twin]))
        for name, weights in begun[label].items():
            assert torch.equal(weights, begun[twin][name])
    assert not np.array_equal(seen["baseline-s0"], seen["baseline-s1"])
    assert len({(f.steps, f.train_tokens, f.d_sae, f.train_documents) for f in facts.values()}) == 1
    assert facts["baseline-s0"].removed_share == 0
    assert facts["baseline-s0"].input_variance == pytest.approx(
        known.target.var(0).mean(), rel=1e-4
    )


def test_batches_cover_all_tokens_in_each_epoch():
    drawn = list(islice(batches(10, 5, seed=3), 4))
    assert sorted(np.concatenate(drawn[:2])) == list(range(10))
    assert sorted(np.concatenate(drawn[2:])) == list(range(10))
    assert not np.array_equal(drawn[0], drawn[2])


def test_training_is_invariant_to_scale_and_mean():
    """Data that are 100 times as large and far from 0 give the same SAE at that scale."""
    known = rows()
    moved = dataclasses.replace(known, target=known.target * 128 + 1024)
    plain, large = (trained(Arm("baseline", 0), a) for a in (known, moved))
    assert large.facts.final_loss == pytest.approx(plain.facts.final_loss, rel=0.02)
    x, y = torch.from_numpy(known.target), torch.from_numpy(moved.target)
    with torch.no_grad():
        error = [
            ((s.sae(v) - v) ** 2).sum() / ((v - v.mean(0)) ** 2).sum()
            for s, v in ((plain, x), (large, y))
        ]
    assert float(error[0]) == pytest.approx(float(error[1]), rel=0.02)
    assert float(error[0]) == pytest.approx(plain.facts.final_loss, rel=0.2)


def test_codes_equal_those_of_the_residual():
    known = rows()
    fitted = fit_all(rows(seed=1).chunks(), SETTINGS, progress=SILENT)
    arm = Arm("residual", 0, less=fitted.map)
    made = trained(arm, known)
    residual = known.target - (known.source @ arm.less.weight.numpy() + arm.less.bias.numpy())
    with torch.no_grad():
        wanted = made.sae.encode(torch.from_numpy(residual)).numpy()
    found = torch.cat([subtract_prediction(arm.less, r, source=SOURCE) for r in known.chunks()])
    codes = open_sae(made.sae, name=arm.label, less=arm.less).codes(found)
    dense = np.zeros((len(known), 32))
    dense[np.repeat(np.arange(len(known)), np.diff(codes.indptr)), codes.indices] = codes.values
    np.testing.assert_allclose(dense, wanted, rtol=1e-3, atol=1e-3)


def test_read_inputs_returns_mean_and_variance_of_each_input():
    known = rows()
    fitted = fit_all(rows(seed=1).chunks(), SETTINGS, progress=SILENT)
    two = dataclasses.replace(SETTINGS, seeds=2, draws=0)
    found = read_inputs(all_arms(two, fitted), known, two)
    residual = known.target - (known.source @ fitted.map.weight.numpy() + fitted.map.bias.numpy())
    read = found["residual-s1"]
    np.testing.assert_allclose(read.mean, residual.mean(0), atol=1e-4)
    np.testing.assert_allclose(read.variance, residual.var(0), rtol=1e-4)
    assert read.removed_share == pytest.approx(
        1 - remaining_share(residual, known.target), abs=1e-4
    )
    assert set(found) == {
        f"{a}-s{s}" for a in ("baseline", "residual", "token-means") for s in (0, 1)
    }


# ---------------------------------------------------------------- stored activations


def test_stored_activations_are_used_only_with_equal_settings(tmp_path, lm):
    documents = Corpus.gather(texts(12, seed=5), tmp_path / "text.parquet")
    contexts = ContextSettings(CONTEXT, prepend_bos=True)

    def stored(into="a", **other):
        reader = Reader(lm, SOURCE, HOOK, contexts, 256)
        reader = dataclasses.replace(reader, **other)
        folder = tmp_path / into
        return store_activations(reader, documents, folder, tokens=1000, progress=SILENT)

    first = stored()
    stamp = (tmp_path / "a" / "source").stat().st_ino
    stored()
    assert (tmp_path / "a" / "source").stat().st_ino == stamp
    others = {
        "hook": {"source": "blocks.0.hook_resid_post"},
        "context": {"contexts": ContextSettings(CONTEXT // 2, prepend_bos=True)},
        "batch": {"batch_tokens": 128},
    }
    broken = model()
    with torch.no_grad():
        broken.base.embed_tokens.weight += 1
    others["model"] = {"model": dataclasses.replace(broken, weights="others")}
    for name, other in others.items():
        again, fresh = stored(**other), stored(f"fresh {name}", **other)
        np.testing.assert_array_equal(again.source, fresh.source)
        np.testing.assert_array_equal(again.target, fresh.target)
        assert (tmp_path / "a" / "source").stat().st_ino != stamp
        stamp = (tmp_path / "a" / "source").stat().st_ino
    np.testing.assert_array_equal(stored().source, first.source)


# ---------------------------------------------------------------- pairs to match


def named(seeds, draws=2):
    arms = all_arms(dataclasses.replace(SETTINGS, seeds=seeds, draws=draws))
    return {arm.label: (arm, None) for arm in arms}


def test_one_seed_has_no_pair_across_seeds():
    assert all_pairs(named(1)) == [
        ("baseline-s0", f"{other}-s0")
        for other in ("residual", "token-means", "components0", "components1")
    ]


@pytest.mark.parametrize(("seeds", "bases"), [(2, 1), (3, 3), (7, 3)])
def test_a_few_pairs_are_across_seeds_and_no_pair_is_repeated(seeds, bases):
    found = all_pairs(named(seeds))
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert sum(one[-2:] == other[-2:] for one, other in found) == 4 * seeds
    crossed = [(one[:-3], other[:-3]) for one, other in found if one[-2:] != other[-2:]]
    assert crossed.count(("baseline", "baseline")) == bases
    for other in ("residual", "token-means", "components0"):
        assert crossed.count(("baseline", other)) == min(seeds, 3)
    assert all(one == "baseline" and other != "components1" for one, other in crossed)


# ---------------------------------------------------------------- documents


def test_the_role_of_a_document_depends_on_its_text_only():
    documents = texts(400, seed=3) + texts(50, seed=3)
    division = Division(SETTINGS)
    sides = {text: division.role(text) for text in documents}
    shares = [list(sides.values()).count(r) / len(sides) for r in ("map", "training", "corpus")]
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.08)
    known = frozenset(Division.digest(t) for t, side in sides.items() if side == "corpus")
    later = Division(SETTINGS, known)
    assert {t: later.role(t) for t in sides} == {
        t: None if side == "corpus" else side for t, side in sides.items()
    }
    other = Division(dataclasses.replace(SETTINGS, split_seed=1))
    assert any(other.role(t) != side for t, side in sides.items())


# ---------------------------------------------------------------- complete studies


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.fixture(scope="module")
def documents():
    found = texts(120, seed=2, words=(10, 30))
    return [*found, *found[:10]]  # some are repeated


def study(path, lm, documents, settings=SETTINGS, **options):
    options = {"probe": PROBE, "match": None} | options
    return residual_study(path, model=lm, text=documents, settings=settings, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, lm, documents):
    path = tmp_path_factory.mktemp("study") / "a.atlas"
    return path, study(path, lm, documents, match=MatchSettings(draws=1))


def test_a_study_stores_saes_probes_matches_and_its_part(finished, lm):
    path, found = finished
    name = "small-l1-from-embed"
    assert found["study"] == name
    folder = Folder.open(path)
    sound = folder.sound()
    part = sound.parts[f"residual/{name}"]
    arms = part.table("arms").to_pylist()
    assert [a["arm"] for a in arms] == ["baseline", "residual", "token-means", *["components"] * 2]
    assert {a["sae"] for a in arms} == set(sound.saes) == set(part.manifest.saes)
    assert set(part.manifest.made_from) == {f"sae/{s}" for s in sound.saes}
    assert not sound.stale
    assert not sound.broken
    less = {r["name"]: r["less"] for r in Atlas.open(path).table("SAE").to_pylist()}
    assert less[f"{name}-residual-s0"] == "map from hook_embed"
    assert less[f"{name}-baseline-s0"] is None
    assert {p for p in sound.parts if p.startswith("match/")} == {
        f"match/{name}-baseline-s0+{name}-{other}-s0"
        for other in ("residual", "token-means", "components0", "components1")
    }
    assert len([p for p in sound.parts if p.startswith("probe/")]) == 5
    validated = {p.manifest.sources["validated"]["documents"] for p in sound.of("probe")}
    assert len(validated) == 1
    assert 0 < validated.pop() < Corpus.open(folder.corpus_file).info.documents
    draws = [p.table("draws") for p in sound.of("probe")]
    assert all(t.num_rows for t in draws)
    split = {r["role"]: r for r in part.table("split").to_pylist()}
    assert set(split) == {"map", "training", "corpus"}
    assert sum(r["documents"] for r in split.values()) == 130
    assert split["corpus"]["documents"] == Corpus.open(folder.corpus_file).info.documents
    assert all(r["l0"] <= SETTINGS.k for r in found["arms"])
    assert not (folder.cache / f"residual-{name}").exists()
    assert part.manifest.sources["model"] == {
        "name": lm.name,
        "source": lm.source,
        "revision": lm.revision,
        "weights": lm.weights,
        "parameters": list(lm.parameters([HOOK])),
    }
    assert part.manifest.sources["text"] == {
        "source": "memory",
        "name": None,
        "field": "text",
        "split": "train",
        "revision": None,
        "split_on": "paragraph",
    }
    settings = part.manifest.settings
    assert {
        name: settings[name] for name in dataclasses.asdict(SETTINGS) if name != "penalties"
    } == {
        name: value for name, value in dataclasses.asdict(SETTINGS).items() if name != "penalties"
    }
    assert settings["device"] == "auto"
    assert settings["match"]["draws"] == 1
    columns = {frozenset(row) for row in found["arms"]}
    assert columns == {frozenset(arms[0]) | {"fvu", "l0", "dead_share"}}


def test_the_result_shows_the_stored_probes_and_matches(finished):
    path, found = finished
    sound = Folder.open(path).sound()
    assert isinstance(found, Result)
    assert [row["sae"] for row in found["probes"]] == [row["sae"] for row in found["arms"]]
    for row in found["probes"]:
        name = next(k for k in sound.parts if k.startswith(f"probe/{row['sae']}@{SOURCE}@"))
        scores = sound.parts[name].table("PREDICTED_FROM")["balanced_accuracy"].drop_null()
        assert row["balanced_accuracy"] == pytest.approx(np.mean(scores.to_pylist()))
    assert {f"match/{m['a']}+{m['b']}" for m in found["matches"]} == {
        key for key in sound.parts if key.startswith("match/")
    }
    baseline = next(r for r in found["probes"] if "baseline" in r["sae"])["balanced_accuracy"]
    assert f"{baseline:.3f} for baseline" in found.verdict[0]
    assert found.table("arms").num_rows == len(found["arms"]) == 5
    assert found.to_pandas("split")["documents"].sum() == 130


def test_an_sae_of_a_study_can_be_ingested_into_another_atlas(finished, tmp_path, lm):
    from ingest.forward.run import ingest

    path, _ = finished
    name = "small-l1-from-embed-residual-s0"
    there = Folder.open(path).sound().parts[f"sae/{name}"].table("SAE").to_pylist()[0]
    atlas = ingest(tmp_path / "b.atlas", saes=[str(path / "saes" / name)], text=texts(9), model=lm)
    row = atlas.table("SAE").to_pylist()[0]
    assert (row["weights"], row["less"]) == (there["weights"], there["less"])


def weights(path):
    return {f.relative_to(path): load_file(f) for f in sorted(path.glob("saes/*/*.safetensors"))}


@pytest.mark.slow
@pytest.mark.parametrize("at", ["_fit", "write_sae", "ingest_locked", "run_locked"])
def test_an_interrupted_study_resumes_with_the_same_result(
    finished, tmp_path, lm, documents, monkeypatch, at
):
    from analysis.residual import evaluate, train_arms

    module = train_arms if at in ("_fit", "write_sae") else evaluate
    path, again = finished[0], tmp_path / "again.atlas"
    calls, original = [], getattr(module, at)

    def cut(*args, **options):
        calls.append(at)
        if len(calls) == (3 if at == "write_sae" else 1):
            raise KeyboardInterrupt
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, at, cut)
        with pytest.raises(KeyboardInterrupt):
            study(again, lm, documents)
    fresh, begun = train_arms.train, []

    def counting(arm, *args, **options):
        begun.append(arm.label)
        return fresh(arm, *args, **options)

    monkeypatch.setattr(train_arms, "train", counting)
    study(again, lm, documents)
    arms_to_train = {"_fit": 5, "write_sae": 3, "ingest_locked": 0, "run_locked": 0}[at]
    assert len(begun) == len(set(begun)) == arms_to_train
    made, wanted = weights(again), weights(path)
    assert set(made) == set(wanted)
    for file, tensors in wanted.items():
        assert all(torch.equal(made[file][name], tensors[name]) for name in tensors)
    name = "residual/small-l1-from-embed"
    for table in ("arms", "split"):
        first, second = (
            Folder.open(p).sound().parts[name].table(table).to_pylist() for p in (path, again)
        )
        assert first == second


def test_repeating_a_study_computes_nothing(finished, lm, documents, monkeypatch):
    from analysis.residual import train_arms

    path, found = finished
    before = {k: p.manifest.hash for k, p in Folder.open(path).sound().parts.items()}
    monkeypatch.setattr(train_arms, "train", None)
    again = study(path, lm, documents, match=MatchSettings(draws=1))
    assert again["arms"] == found["arms"]
    assert {k: p.manifest.hash for k, p in Folder.open(path).sound().parts.items()} == before


def test_other_settings_are_refused_under_the_same_name(finished, lm, documents):
    path, _ = finished
    with pytest.raises(RequestError, match="k: 4 stored, 3 now"):
        study(path, lm, documents, dataclasses.replace(SETTINGS, k=3))


def test_a_study_does_not_change_an_existing_corpus(tmp_path, lm, documents):
    from small_ingest import topk

    from ingest.forward.run import ingest
    from ingest.sae.autoencoder import open_sae

    path, recorded = tmp_path / "a.atlas", Recorded()
    own = documents[:40]
    ingest(path, saes=[open_sae(topk(), name="x")], text=own, model=lm).close()
    corpus = Folder.open(path).corpus["id"]
    settings = dataclasses.replace(SETTINGS, draws=0)
    study(path, lm, documents, settings, progress=recorded)
    folder = Folder.open(path)
    assert folder.corpus["id"] == corpus
    twice = sum(d in set(own) for d in documents)
    assert any(
        f"{twice} of 130 documents are in the atlas already" in line for line in recorded.lines
    )
    split = folder.sound().parts["residual/small-l1-from-embed"].table("split").to_pylist()
    assert {r["role"]: r["documents"] for r in split}["corpus"] == 40
    assert sum(r["documents"] for r in split) == 130 - twice + 40

    with pytest.raises(BadInput, match="not in the atlas"):
        study(path, lm, own, settings, name="other")


# ---------------------------------------------------------------- forecast


class Forecast(Recorded):
    """A progress that records messages and stops the study after its forecast."""

    def report(self, sentence):
        super().report(sentence)
        if " of memory beyond the program" in sentence:
            raise KeyboardInterrupt


def forecast_of(path, lm, documents, monkeypatch, **options):
    """Return the reports of a study up to its forecast, in which each measurement takes 10 s."""

    def timed(work):
        work()
        return 10.0

    monkeypatch.setattr(estimate, "timed", timed)
    monkeypatch.setattr(estimate, "timed_on", lambda device, work: 0.0)
    recorded = Forecast()
    with pytest.raises(KeyboardInterrupt):
        study(path, lm, documents, progress=recorded, **options)
    return recorded.lines


def test_the_forecast_counts_all_steps_of_all_saes(tmp_path, lm, documents, monkeypatch):
    """Each measurement takes 10 s, so nothing grows with the text and a training step takes no time."""
    path = tmp_path / "a.atlas"
    lines = forecast_of(path, lm, documents, monkeypatch, match=MatchSettings(draws=1))
    (line,) = [line for line in lines if line.startswith("Forecast: ")]
    # 10 s for the map, 10 s for the components, and 10 s for the moments of two of five SAEs.
    assert line.startswith("Forecast: activations and map 45 seconds, training of 5 SAEs of 32")
    assert "ingest of 5 SAEs 25 seconds, probes from hook_embed 25 seconds, " in line
    assert line.endswith("4 matched pairs 40 seconds.")
    assert not list(path.glob("cache/**/forecast"))
    assert any("about 2 minutes and " in line for line in lines)  # 45 + 25 + 25 + 40 s


def test_the_forecast_does_not_count_stored_steps(finished, tmp_path, lm, documents, monkeypatch):
    path = tmp_path / "a.atlas"
    shutil.copytree(finished[0], path)
    shutil.rmtree(next(path.glob("parts/residual/*")))
    shutil.rmtree(sorted(path.glob("parts/match/*"))[0])
    lines = forecast_of(path, lm, documents, monkeypatch, match=MatchSettings(draws=1))
    assert "Forecast: 1 matched pair 10 seconds." in lines


# ---------------------------------------------------------------- errors


def test_source_equals_target_is_refused():
    with pytest.raises(BadInput, match="so the residual is 0 and there is nothing to train"):
        ResidualSettings(HOOK, HOOK)


def test_a_zero_residual_is_refused(tmp_path, lm, documents):
    same = dataclasses.replace(
        SETTINGS, source="blocks.1.hook_resid_pre", target="blocks.0.hook_resid_post"
    )
    recorded = Recorded()
    with pytest.raises(BadInput, match=r"R² of the map .* is 1 on .* is zero"):
        study(tmp_path / "a.atlas", lm, documents, same, progress=recorded, match=MatchSettings())
    assert "blocks.1.hook_resid_pre is not earlier in the model than blocks.0" in recorded.lines[0]
    (line,) = [line for line in recorded.lines if line.startswith("Forecast: ")]
    assert "training of 5 SAEs of 32 features" in line
    assert "ingest of 5 SAEs" in line
    assert "4 matched pairs" in line
    assert not list(tmp_path.glob("a.atlas/saes/*"))  # raised before the baseline is trained


def test_the_text_of_the_package_is_recorded_without_its_path():
    assert text_settings(demo_text())["source"] == DEMO_TEXT
    assert text_settings(Text("mine.jsonl"))["source"] == "mine.jsonl"


def test_an_unknown_layer_is_reported_before_any_work(tmp_path, lm, documents):
    with pytest.raises(UnknownName, match=r"blocks\.7\.hook_resid_post"):
        study(
            tmp_path / "a.atlas",
            lm,
            documents,
            dataclasses.replace(SETTINGS, target="blocks.7.hook_resid_post"),
        )
    assert not (tmp_path / "a.atlas").exists()


def test_too_short_a_text_is_refused_and_creates_no_atlas(tmp_path, lm):
    with pytest.raises(BadInput, match="the split has too few: 0 for "):
        study(tmp_path / "a.atlas", lm, ["one document of words"])
    with pytest.raises(BadInput, match=r"[012] for map \(3 needed\)"):
        study(tmp_path / "a.atlas", lm, texts(5, seed=1))
    assert not (tmp_path / "a.atlas").exists()


def test_nan_is_refused(tmp_path, documents):
    broken = model()
    with torch.no_grad():
        broken.base.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(BadActivations, match="NaN or Inf"):
        study(tmp_path / "a.atlas", broken, documents)


def test_fewer_tokens_than_dimensions_force_a_ridge_penalty():
    recorded = Recorded()
    few = rows(20, d_source=40, documents=6)
    fitted = fit_all(few.chunks(), SETTINGS, progress=recorded)
    assert any("only ridge penalties above 0" in line for line in recorded.lines)
    assert fitted.penalty > 0
    assert torch.isfinite(fitted.map.weight).all()


def test_constant_dimensions_are_counted_and_reported():
    recorded, known = Recorded(), rows()
    still = dataclasses.replace(known, target=np.hstack([known.target, np.ones_like(known.target)]))
    fitted = fit_all(still.chunks(), SETTINGS, progress=recorded)
    assert fitted.constant == known.target.shape[1]
    assert any("do not vary" in line for line in recorded.lines)
    made = trained(Arm("residual", 0, None, fitted.map), still)
    assert np.isfinite(made.facts.final_loss)
    flat = dataclasses.replace(known, target=np.ones_like(known.target))
    with pytest.raises(BadInput, match="is the same on all"):
        fit_all(flat.chunks(), SETTINGS, progress=recorded)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"seeds": 0},
        {"map_share": 0.6},
        {"map_share": 0.0},
        {"learning_rate": -1.0},
        {"penalties": ()},
        {"batch": 0},
        {"context": 1},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(BadInput):
        dataclasses.replace(SETTINGS, **wrong)
    with pytest.raises(BadInput, match="cannot have 4 active"):
        dataclasses.replace(SETTINGS, d_sae=3).features(24)


def test_the_command_prints_json(tmp_path, lm, documents):
    from click.testing import CliRunner

    from atlas.cli.main import command

    folder = tmp_path / "model"
    from random_models import random_model, small_tokenizer

    random_model("llama").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in documents))
    words = [
        "residual",
        "--model",
        str(folder),
        "--to",
        HOOK,
        "--text",
        str(tmp_path / "text.jsonl"),
        "--atlas",
        str(tmp_path / "a.atlas"),
        "--draws",
        "1",
        "--d-sae",
        "24",
        "--k",
        "3",
        "--batch",
        "64",
        "--train-tokens",
        "640",
        "--no-match",
        "--json",
        "--quiet",
    ]
    done = CliRunner().invoke(command(), words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)["result"]
    assert [a["arm"] for a in result["arms"]] == [
        "baseline",
        "residual",
        "token-means",
        "components",
    ]
