"""The SAEs of the demo differ only as their names state, and fit into the package."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import gammaln

from ingest.demo import __file__ as package
from ingest.demo.build import DEMO_MATCHES, DEMO_PROBED, DEMO_SAES
from ingest.sae.autoencoder import open_sae
from ingest.sae.registry.names import demo_names

DEMO = Path(package).parent
FACTS = json.loads((DEMO / "facts.json").read_text("utf-8"))["saes"]
BASE, SEED, WIDE = "tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-wide"
FLOOR, MLP, LAYER = "tiny-a-l1-s0-frozen", "tiny-a-l1-mlp", "tiny-a-l0-s0"


def weights(name):
    return load_file(DEMO / "saes" / name / "sae_weights.safetensors")


def directions(name):
    decoder = weights(name)["W_dec"].astype(np.float64)
    return decoder / np.linalg.norm(decoder, axis=1, keepdims=True)


def record(name):
    return json.loads((DEMO / "saes" / name / "training.json").read_text("utf-8"))


def expected_cosine(dimensions):
    """Return the mean absolute cosine of two independent isotropic directions."""
    return np.exp(gammaln(dimensions / 2) - gammaln((dimensions + 1) / 2)) / np.sqrt(np.pi)


def test_the_demo_is_complete_and_its_names_are_unique():
    assert sorted(DEMO_SAES) == demo_names() == sorted(FACTS)
    assert {sae for pair in DEMO_MATCHES for sae in pair} | set(DEMO_PROBED) <= set(DEMO_SAES)


def test_the_demo_has_at_most_eight_megabytes():
    files = [f for f in DEMO.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert sum(f.stat().st_size for f in files) < 8_000_000


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (SEED, {"seed"}),
        (WIDE, {"width"}),
        (MLP, {"site"}),
        (LAYER, {"site", "model_digest"}),
        (FLOOR, {"role"}),
    ],
)
def test_two_saes_differ_in_one_setting(other, differs):
    one, two = record(BASE), record(other)
    ignored = {"floor_of", "last_buffer"}
    assert {name for name in one if one[name] != two[name]} - ignored == differs


def test_the_floor_is_a_floor_of_the_first_seed():
    info = open_sae(FLOOR).info
    assert (info.role, info.floor_of) == ("frozen-decoder", BASE)
    assert all(open_sae(name).info.floor_of is None for name in DEMO_SAES if name != FLOOR)


def test_the_records_contain_no_machine_path():
    for name in DEMO_SAES:
        config = json.loads((DEMO / "saes" / name / "cfg.json").read_text("utf-8"))
        assert config["metadata"]["model_name"] == record(name)["model_source"] == name[:6]


def test_only_the_frozen_decoder_has_random_directions():
    """Random directions are isotropic: the eigenvalues of W W' obey the Marchenko-Pastur law."""
    size, dimensions = directions(FLOOR).shape
    edges = (1 + np.array([-1, 1]) * np.sqrt(dimensions / size)) ** 2
    for name, random in ((FLOOR, True), (BASE, False)):
        values = np.linalg.svd(directions(name), compute_uv=False) ** 2 * dimensions / size
        inside = edges[0] - 0.1 < values.min() and values.max() < edges[1] + 0.1
        assert inside == random, (name, values.min(), values.max(), edges)


def test_saes_other_than_the_floor_have_independent_initial_weights():
    """Features of equal index of two trained SAEs are as far apart as random directions."""
    names = [n for n in DEMO_SAES if n != FLOOR and n.startswith("tiny-a")]
    for a, b in pairwise(names):
        one, two = directions(a), directions(b)
        size = min(len(one), len(two))
        cosines = np.abs((one[:size] * two[:size]).sum(1))
        # Trained directions share a few large dimensions, so the mean may exceed the expectation.
        assert cosines.mean() < 2 * expected_cosine(one.shape[1]), (a, b)


def test_reconstruction_costs_less_loss_than_an_ablation():
    assert FACTS.keys() == set(DEMO_SAES)
    for found in FACTS.values():
        assert found["l0"] == pytest.approx(20)
        assert found["ce_model"] < found["ce_spliced"] < min(found["ce_mean"], found["ce_zero"])
        recovered = (found["ce_mean"] - found["ce_spliced"]) / (
            found["ce_mean"] - found["ce_model"]
        )
        assert found["recovered_mean"] == pytest.approx(recovered, abs=2e-3)


@pytest.mark.parametrize("name", [BASE, SEED, WIDE])
def test_trained_saes_of_the_site_are_better_than_the_floor(name):
    trained, floor = FACTS[name], FACTS[FLOOR]
    assert trained["fvu"] < floor["fvu"] / 2
    assert trained["recovered_mean"] > floor["recovered_mean"]
    assert trained["kl_spliced"] < floor["kl_spliced"] / 2


def test_the_summary_of_an_ingest_does_not_import_matching_and_probing():
    code = (
        "import sys\n"
        "from ingest.demo.build import overview\n"
        "assert not {'scipy.stats', 'sklearn', 'ingest.match.study'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
