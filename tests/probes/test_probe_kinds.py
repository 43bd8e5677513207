"""Non-linear probes against scikit-learn, automatic differentiation and planted data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from probed_text import probe_data_of, random_text
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neural_network import MLPClassifier
from small_ingest import model, named, texts, topk
from small_ingest import run as ingest_run

from analysis.probe.kinds import kind_rows, kind_verdict
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.progress import SILENT
from ingest.probe.part_tables import ProbeRun
from ingest.probe.probe_data import training
from ingest.probe.random_features import RandomFeatures, with_random_features
from ingest.probe.schedule import probe_all
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import Design
from ingest.probe.solver.mlp import MlpSolution, mlp_margins, solve_mlp
from ingest.probe.study import probe_saes

KINDS = ("active", "random-features", "mlp")
PLANTED = ProbeSettings(
    splits=("document",), kinds=KINDS, controls=1, draws=20, random_features=256, scale=False
)


def balanced(y):
    """Return weights that give each class one half, and their active part."""
    weight = np.where(y, 0.5 / y.sum(0), 0.5 / (~y).sum(0))
    return torch.from_numpy(weight), torch.from_numpy(weight * y)


def objective(x, weight, target, solution, *, penalty):
    """Return the loss that ``solve_mlp`` documents, computed by PyTorch from its layers."""
    units = torch.tanh(
        (x - solution.mean) @ solution.weights.transpose(1, 2) + solution.biases[:, None]
    )
    z = (units @ solution.output[:, :, None])[:, :, 0] + solution.intercept[:, None]
    loss = weight.T * torch.nn.functional.softplus(z) - target.T * z
    squares = solution.weights.square().sum((1, 2)) + solution.output.square().sum(1)
    return loss.sum(1) / weight.sum(0) + penalty * squares


def leaves(solution):
    """Return the layers as leaves of automatic differentiation."""
    layers = (solution.weights, solution.biases, solution.output, solution.intercept)
    copies = [t.detach().clone().requires_grad_() for t in layers]
    return MlpSolution(solution.mean, *copies, solution.iterations, solution.converged), copies


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_networks_end_where_the_gradient_of_the_documented_loss_is_small(mean):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) + mean
    y = rng.random((80, 4)) < 0.4
    weight, target = balanced(y)
    found = solve_mlp(
        Design(x, dtype=torch.float64),
        weight,
        target,
        hidden=3,
        penalty=1e-2,
        tolerance=1e-5,
        max_iterations=2000,
    )
    assert found.converged.all()
    solution, copies = leaves(found)
    objective(torch.from_numpy(x), weight, target, solution, penalty=1e-2).sum().backward()
    assert max(float(t.grad.abs().max()) for t in copies) < 2e-5


def test_margins_equal_those_of_scikit_learn_with_the_same_weights():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 4))
    y = rng.random((60, 2)) < 0.5
    design = Design(x, dtype=torch.float64)
    found = solve_mlp(design, *balanced(y), hidden=5, penalty=1e-3, max_iterations=30)
    z = mlp_margins(design, found).numpy()
    for label in range(2):
        network = MLPClassifier((5,), activation="tanh", solver="lbfgs", max_iter=1)
        with pytest.warns(match="lbfgs"):
            network.fit(x, y[:, label])
        weights, biases = found.weights[label].numpy(), found.biases[label].numpy()
        network.coefs_ = [weights.T, found.output[label].numpy()[:, None]]
        network.intercepts_ = [
            biases - weights @ found.mean.numpy(),
            found.intercept[[label]].numpy(),
        ]
        expected = network.predict_proba(x)[:, 1]
        assert 1 / (1 + np.exp(-z[:, label])) == pytest.approx(expected, abs=1e-9)


def test_held_out_scores_equal_those_of_scikit_learn():
    """Local optima differ, so scores agree within a few hundredths."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1200, 6))
    y = (x[:, 0] * x[:, 1] > 0) ^ (rng.random(1200) < 0.05)
    train = np.arange(1200) < 800
    design = Design(x.astype(np.float32))
    found = solve_mlp(
        design.take(train),
        *balanced(y[train, None]),
        hidden=16,
        penalty=1e-3,
        tolerance=1e-4,
        max_iterations=300,
    )
    network = MLPClassifier(
        (16,), activation="tanh", solver="lbfgs", alpha=2 * 1e-3 * 800, max_iter=300, random_state=0
    )
    network.fit(x[train], y[train])
    own = balanced_accuracy_score(y[~train], mlp_margins(design, found).numpy()[~train, 0] > 0)
    other = balanced_accuracy_score(y[~train], network.predict(x[~train]))
    assert own == pytest.approx(other, abs=0.04)
    assert own > 0.85


def test_a_network_does_not_depend_on_the_other_labels():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(70, 4)), rng.random((70, 5)) < 0.5
    design = Design(x, dtype=torch.float64)
    weight, target = balanced(y)
    every, one = (
        solve_mlp(design, weight[:, of], target[:, of], hidden=3, penalty=1e-2, max_iterations=60)
        for of in (slice(None), slice(2, 3))
    )
    assert torch.allclose(every.weights[2], one.weights[0], atol=1e-6)
    assert every.iterations[2] == one.iterations[0]


def test_labels_of_one_class_and_without_weight_get_a_constant():
    x = np.random.default_rng(4).normal(size=(20, 3))
    weight = torch.ones(20, 3, dtype=torch.float64)
    weight[:, 2] = 0
    target = torch.zeros(20, 3, dtype=torch.float64)
    target[:, 0] = 1
    found = solve_mlp(Design(x, dtype=torch.float64), weight, target, hidden=2, penalty=1e-3)
    z = mlp_margins(Design(x, dtype=torch.float64), found)
    assert (z[:, 0] > 5).all()
    assert (z[:, 1] < -5).all()
    assert (z[:, 2] == 0).all()
    assert found.iterations.tolist() == [0, 0, 0]
    assert found.converged.tolist() == [True, True, False]


def test_equal_vectors_have_equal_networks_and_margins():
    x = np.ones((9, 3), dtype=np.float32)
    y = (np.arange(9) < 4)[:, None]
    found = solve_mlp(Design(x), *balanced(y), hidden=2, penalty=1e-3)
    z = mlp_margins(Design(x), found)
    assert (z == z[0]).all()
    assert float(z[0, 0].abs()) < 0.2  # nothing distinguishes the classes


# ---------------------------------------------------------------- random features


def test_random_features_approximate_the_documented_kernel():
    x = np.random.default_rng(5).normal(size=(40, 6))
    number = 60_000
    design = Design(x, dtype=torch.float64)
    mapped = next(iter(with_random_features(design, number, seed=0).chunks()))[1].numpy()
    assert (mapped[:, :6] == x).all()
    cosines = mapped[:, 6:]
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    expected = rbf_kernel(x, gamma=1 / squared.mean())
    assert cosines @ cosines.T / number == pytest.approx(expected, abs=0.02)
    assert (cosines**2).mean() == pytest.approx(1, abs=0.02)


def test_the_map_equals_that_of_scikit_learn_with_the_same_weights():
    x = np.random.default_rng(6).normal(size=(30, 4))
    sampler = RBFSampler(gamma=0.3, n_components=20, random_state=0).fit(x)
    own = RandomFeatures(
        torch.from_numpy(sampler.random_weights_), torch.from_numpy(sampler.random_offset_)
    )
    assert own.width == 24
    expected = sampler.transform(x) * np.sqrt(20)
    assert own(torch.from_numpy(x)).numpy()[:, 4:] == pytest.approx(expected)


@pytest.mark.parametrize("store_bytes", [0, 2**20])
def test_a_mapped_design_has_the_same_rows_however_they_are_read(store_bytes):
    x = np.random.default_rng(7).normal(size=(50, 3)).astype(np.float32)
    x[30:40] = x[:10]

    class Squares:
        width = 6

        def __call__(self, rows):
            return torch.cat([rows, rows**2], dim=1)

    design = Design(x, scale=2.0, per_chunk=7).mapped(Squares(), store_bytes=store_bytes)
    assert design.is_stored == (store_bytes > 0)
    assert (design.rows, design.width) == (50, 6)
    expected = np.concatenate([x / 2, (x / 2) ** 2], axis=1)
    for of, rows in ((design, slice(None)), (design.take(np.arange(49, 3, -2)), slice(49, 3, -2))):
        read = torch.cat([chunk for _, chunk in of.chunks(3)]).numpy()
        assert read == pytest.approx(expected[rows], abs=1e-6)
    subset = Design(x, scale=2.0).take(np.arange(20)).mapped(Squares(), store_bytes=store_bytes)
    assert torch.cat([c for _, c in subset.chunks()]).numpy() == pytest.approx(expected[:20])
    repeated, first = design.repeats()
    assert (repeated.tolist(), first.tolist()) == (list(range(30, 40)), list(range(10)))


def test_random_features_of_equal_rows_are_finite():
    design = with_random_features(Design(np.ones((5, 2), dtype=np.float32)), 4, seed=0)
    (rows,) = (chunk for _, chunk in design.chunks())
    assert rows.isfinite().all()
    assert (rows == rows[0]).all()


# ---------------------------------------------------------------- planted features


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Features of vectors that differ on every token: linear, exclusive or, and coin flips."""
    rng = np.random.default_rng(8)
    documents = random_text(rng, documents=100, length=30)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    on = np.stack([x[:, 0] > 0, x[:, 0] * x[:, 1] > 0, rng.random(3000) < 0.5], axis=1)
    data = probe_data_of(tmp_path_factory.mktemp("planted"), documents, on.astype(float))
    site = SiteDesign("later", Design(x), np.arange(3000), data.type, at_embedding=False)
    return data, site, x, on


def probed(data, site, settings=PLANTED, *, memory=1 << 30):
    results = probe_all(
        data,
        [site],
        sae="toy",
        model="m",
        settings=settings,
        validated_on=None,
        memory=memory,
        progress=SILENT,
    )
    return {r.run.kind: r.table.sort_by("source").to_pylist() for r in results}


def test_only_non_linear_probes_find_an_exclusive_or(planted):
    data, site, _, _ = planted
    found = probed(data, site)
    assert set(found) == set(KINDS)
    linear, exclusive, coin = (
        {k: found[k][i]["balanced_accuracy"] for k in KINDS} for i in range(3)
    )
    assert exclusive["active"] < 0.6
    assert min(exclusive["mlp"], exclusive["random-features"]) > 0.85
    assert min(linear.values()) > 0.97
    assert max(linear["mlp"], linear["random-features"]) < linear["active"] + 0.02
    for kind in KINDS:
        assert coin[kind] == pytest.approx(0.5, abs=0.06)
        for row in found[kind]:
            assert row["shuffled"] == pytest.approx(0.5, abs=0.08)
            assert row["kind"] == kind
            assert row["run"].startswith(f"document/{kind}/l2=0.001")


def test_random_feature_probe_equals_logistic_regression_on_the_same_folds(planted):
    data, site, _x, on = planted
    settings = replace(PLANTED, kinds=("random-features",), controls=0, draws=0, tolerance=1e-3)
    rows = probed(data, site, settings)["random-features"]
    (mapped,) = (
        np.concatenate([chunk.numpy() for _, chunk in design.chunks()])
        for design in [with_random_features(site.design, 256, seed=0)]
    )
    train = training(data, "document", share=0.8, seed=0)
    for feature, row in enumerate(rows):
        y = on[:, feature]
        weight = np.where(y, 0.5 / y[train].sum(), 0.5 / (~y[train]).sum())[train]
        fitted = LogisticRegression(C=1 / (2 * 1e-3), tol=1e-8, max_iter=5000)
        fitted.fit(mapped[train], y[train], sample_weight=weight)
        expected = balanced_accuracy_score(y[~train], fitted.predict(mapped[~train]))
        assert row["balanced_accuracy"] == pytest.approx(expected, abs=0.004)


def test_less_memory_does_not_change_networks(planted):
    data, site, _, _ = planted
    settings = replace(PLANTED, kinds=("mlp",), controls=0, iterations=40)
    large, small = (probed(data, site, settings, memory=m)["mlp"] for m in (1 << 30, 40 << 20))
    for one, other in zip(large, small, strict=True):
        assert one["balanced_accuracy"] == pytest.approx(other["balanced_accuracy"], abs=0.01)


def test_names_and_settings_of_a_run_have_what_its_kind_uses():
    settings = ProbeSettings(hidden=4, random_features=64)
    names = {kind: ProbeRun("document", kind, settings).name for kind in (*KINDS, "activation")}
    assert names == {
        "active": "document/active/l2=0.001",
        "random-features": "document/random-features/l2=0.001/random_features=64",
        "mlp": "document/mlp/l2=0.001/hidden=4",
        "activation": "document/activation/l2=0.001",
    }
    assert settings.unused("active") == ("random_features", "hidden")
    assert settings.unused("mlp") == ("random_features",)
    for bad in ({"hidden": 0}, {"random_features": 0}, {"kinds": ("mpl",)}):
        with pytest.raises(BadInput):
            ProbeSettings(**bad)


# ---------------------------------------------------------------- an atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    path, lm = tmp_path_factory.mktemp("kinds") / "a.atlas", model()
    ingest_run(path, lm, [named(topk(), "top")], texts(), match=None)
    settings = ProbeSettings(
        splits=("document",),
        kinds=KINDS,
        controls=1,
        draws=20,
        random_features=32,
        hidden=2,
        iterations=30,
    )
    probe_saes(path, ["top"], settings=settings, model=lm)
    return path


def part_of(path, kind):
    (part,) = (
        p for p in Folder.open(path).sound().of("probe") if p.manifest.settings["kind"] == kind
    )
    return part


def scores_of(part):
    edges = part.table("PREDICTED_FROM").to_pylist()
    draws = {
        d["feature"]: np.array(d["balanced_accuracy"]) for d in part.table("draws").to_pylist()
    }
    return {int(e["source"].split("/")[1]): e for e in edges}, draws


def test_kinds_are_compared_feature_by_feature_on_the_same_draws(atlas):
    rows = {row["kind"]: row for row in kind_rows(Folder.open(atlas).sound())}
    assert list(rows) == list(KINDS)
    assert rows["active"]["difference"] is None
    linear, linear_draws = scores_of(part_of(atlas, "active"))
    for kind in KINDS[1:]:
        own, draws = scores_of(part_of(atlas, kind))
        both = sorted(set(own) & set(linear))
        row = rows[kind]
        assert row["features"] == len(both) > 10
        for score in ("balanced_accuracy", "control", "selectivity"):
            name = "difference" if score == "balanced_accuracy" else f"{score}_difference"
            pairs = [
                own[f][score] - linear[f][score]
                for f in both
                if None not in (own[f][score], linear[f][score])
            ]
            assert row[name] == pytest.approx(np.mean(pairs))
        each = np.array([draws[f] - linear_draws[f] for f in both], dtype=float)
        low, high = np.quantile(np.nanmean(each, axis=0), [0.025, 0.975])
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-6)
        limits = [np.nanquantile(one, [0.025, 0.975]) for one in each]
        assert row["better"] == sum(limit[0] > 0 for limit in limits)
        assert row["worse"] == sum(limit[1] < 0 for limit in limits)
    assert len(kind_verdict(list(rows.values()))) == 2


def test_kinds_with_other_settings_are_not_compared(atlas):
    assert kind_rows(Folder.open(atlas).sound(), ["none"]) == []
    assert kind_rows(Folder.open(atlas).sound(), sites=["blocks.0.hook_resid_post"]) == []


def test_settings_of_other_kinds_are_not_stored_with_linear_probes(atlas):
    stored = part_of(atlas, "active").manifest.settings
    assert not {"hidden", "random_features"} & set(stored)
    assert part_of(atlas, "mlp").manifest.settings["hidden"] == 2


def status_of(*words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_the_command_compares_kinds(atlas, capsys):
    assert status_of("probe-scores", "top", "--by", "kind", "--atlas", str(atlas)) == 0
    printed = capsys.readouterr().out
    assert "An MLP predicts" in printed
    assert "random-features" in printed
    assert status_of("probe-scores", "--atlas", str(atlas), "--json") == 0
    assert '"mlp"' in capsys.readouterr().out


def test_the_command_states_how_to_fit_non_linear_probes(atlas, capsys):
    words = ("probe-scores", "--by", "kind", "--atlas", str(atlas))
    assert status_of(*words, "--site", "elsewhere") == 2
    assert "--kind mlp" in capsys.readouterr().err
    assert status_of(*words, "tpo") == 2
    assert "top" in capsys.readouterr().err
