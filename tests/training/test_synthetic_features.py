"""Synthetic models with known features: rates, correlations, trees, directions, and their ingest."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_synthetic import SMALL, small_synthetic

from atlas.disk.folder import Folder
from atlas.errors import BadInput
from ingest import ingest, save_synthetic
from ingest.codes.store import read_shard
from ingest.commands import synthetic
from ingest.model.language_model import open_model
from ingest.model.synthetic_features import FEATURES_HOOK, SUM_HOOK
from ingest.synthetic.known_features import tree_of


def saved(folder, **settings):
    return save_synthetic(folder, small_synthetic(**settings))


def drawn(folder, contexts=600, *, seed=0):
    """Return the features (tokens, features) and sums of random contexts, and the parameters."""
    lm = open_model(folder, device="cpu")
    ids = torch.randint(2, 52, (contexts, 16), generator=torch.Generator().manual_seed(seed))
    out = lm.run(ids, torch.ones_like(ids), hooks=[FEATURES_HOOK, SUM_HOOK])
    features, sums = (out[hook].flatten(0, 1).numpy() for hook in (FEATURES_HOOK, SUM_HOOK))
    return features, sums, lm.base.layers[0].mlp


def test_rates_follow_the_zipf_law_and_sums_the_directions(tmp_path):
    features, sums, mlp = drawn(saved(tmp_path / "s", trees=0, correlation=0))
    rank = np.arange(1, 25.0) ** -0.5
    expected = 0.01 + 0.19 * (rank - rank[-1]) / (1 - rank[-1])
    error = np.sqrt(expected * (1 - expected) / len(features))
    assert (np.abs((features > 0).mean(0) - expected) < 4.5 * error).all()
    directions = mlp.down_proj.weight.numpy().T
    np.testing.assert_allclose(sums, features @ directions, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    active = features[features > 0]
    assert active.mean() == pytest.approx(1, abs=0.02)
    assert active.std() == pytest.approx(0.25, abs=0.02)
    # Independent features: correlations of at most a few standard errors.
    phi = np.corrcoef((features > 0).T)[np.triu_indices(24, 1)]
    assert np.abs(phi).max() < 4.5 / np.sqrt(len(features))


def test_common_factors_correlate_features(tmp_path):
    features, _, mlp = drawn(saved(tmp_path / "s", trees=0, correlation=0.8, min_rate=0.1))
    factor = mlp.factor.numpy()
    latent = (factor @ factor.T)[np.triu_indices(24, 1)]
    phi = np.corrcoef((features > 0).T)[np.triu_indices(24, 1)]
    assert np.corrcoef(latent, phi)[0, 1] > 0.9
    assert (phi[latent > 0.5] > 0.1).all()
    assert (phi[latent < -0.5] < 0).all()


def test_children_are_active_only_with_their_parents(tmp_path):
    features, _, mlp = drawn(saved(tmp_path / "s", exclusive=1.0, correlation=0))
    parent, active = mlp.parent.tolist(), features > 0
    assert sum(own >= 0 for own in parent) == 20
    for child, own in enumerate(parent):
        if own >= 0:
            assert not (active[:, child] & ~active[:, own]).any()
            assert active[:, child].any()
    for own in range(24):
        children = [child for child, p in enumerate(parent) if p == own]
        if mlp.exclusive[own]:
            assert active[:, children].sum(1).max() <= 1
    assert mlp.exclusive.any()


def test_clusters_are_of_features_and_not_of_dimensions(tmp_path):
    _, _, mlp = drawn(saved(tmp_path / "s", features=240, width=64, trees=20, cosine=0.5, depth=3))
    directions, tree = mlp.down_proj.weight.numpy().T, tree_of(mlp.parent).numpy()
    cosine = directions @ directions.T
    same = (tree[:, None] == tree[None]) & ~np.eye(240, dtype=bool)
    assert cosine[same].mean() == pytest.approx(0.5, abs=0.05)
    assert cosine[tree[:, None] != tree[None]].mean() == pytest.approx(0, abs=0.05)
    # Dimensions are not clustered: their rows are nearly uncorrelated.
    off = np.corrcoef(directions.T)[np.triu_indices(64, 1)]
    assert np.abs(off).mean() < 3 / np.sqrt(20)


def test_activations_depend_on_the_context_alone(tmp_path):
    lm = open_model(saved(tmp_path / "s"), device="cpu")
    ids = torch.randint(2, 52, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[2, 7:] = 0
    before = torch.random.get_rng_state()
    one = lm.run(ids, mask, hooks=[FEATURES_HOOK])[FEATURES_HOOK]
    assert torch.equal(torch.random.get_rng_state(), before)
    other = lm.run(ids[2:, :7], mask[2:, :7], hooks=[FEATURES_HOOK])[FEATURES_HOOK]
    assert torch.equal(one[2, :7], other[0])
    assert not one[2, 7:].any()
    assert not torch.equal(one[0], one[1])
    with pytest.raises(BadInput, match="at most 16 tokens"):
        lm.run(torch.zeros(1, 17, dtype=torch.long), torch.ones(1, 17), hooks=[SUM_HOOK])


def test_truth_is_ingested_like_any_sae(tmp_path):
    folder = saved(tmp_path / "s")
    path = tmp_path / "a.atlas"
    ingest(path, saes=[str(folder / "truth")], text=folder / "text.jsonl", model=folder).close()
    blocks = [
        b for p in sorted(Folder.open(path).codes("truth").glob("*.arrow")) for b in read_shard(p)
    ]
    codes = np.zeros((sum(map(len, blocks)), 24), dtype=np.float32)
    row = 0
    for block in blocks:
        codes[row + block.rows, block.indices] = block.values
        row += len(block)
    assert len(codes) == 400
    lm, expected = open_model(folder, device="cpu"), []
    for line in (folder / "text.jsonl").read_text("utf-8").splitlines():
        ids = torch.tensor(
            [[0, *lm.tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]]]
        )
        expected.append(
            lm.run(ids, torch.ones_like(ids), hooks=[FEATURES_HOOK])[FEATURES_HOOK][0, 1:]
        )
    np.testing.assert_array_equal(codes, torch.cat(expected).numpy())


def test_equal_settings_give_equal_folders_and_nothing_is_replaced(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name / "s")
    for file in (
        "model.safetensors",
        "text.jsonl",
        "training.jsonl",
        "truth/sae_weights.safetensors",
    ):
        assert (tmp_path / "one/s" / file).read_bytes() == (tmp_path / "two/s" / file).read_bytes()
    with pytest.raises(BadInput, match="already exists"):
        saved(tmp_path / "one" / "s")
    for wrong, message in [
        ({"min_rate": 0.3}, "lower min_rate"),
        ({"features": 11}, "need 12 features, and there are 11"),
        ({"cosine": 0.5, "trees": 0}, "a property of trees"),
        ({"features": 1}, "2 to"),
    ]:
        with pytest.raises(BadInput, match=message):
            saved(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "damage", [("rate", 2.0), ("mean", float("nan")), ("factor", 3.0), ("parent", 5)]
)
def test_a_damaged_generator_is_one_message(tmp_path, damage):
    lm = open_model(saved(tmp_path / "s"), device="cpu")
    name, value = damage
    getattr(lm.base.layers[0].mlp, name).data.flatten()[2] = value
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(BadInput, match="generator of this synthetic model is not valid"):
        lm.run(ids, torch.ones_like(ids), hooks=[SUM_HOOK])


def test_the_command_writes_a_folder(tmp_path):
    options = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    done = CliRunner().invoke(synthetic, [str(tmp_path / "s"), *options, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["result"]["folder"] == str(tmp_path / "s")
    assert open_model(tmp_path / "s", device="cpu").site(SUM_HOOK).width == 16
