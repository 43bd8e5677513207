"""``gemmascope-l20`` without network: from a filled cache, and the message without a cache."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_cache import LIVE, HubCache, fill_hub_cache, offline
from random_models import random_ids
from transformers import AutoModelForCausalLM

from atlas import Atlas

# The code of a user, in its own process: the hub library reads the environment at import.
ENCODE = """
import sys, numpy as np, torch
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import check_fit, open_sae

ids, out = np.load(sys.argv[1]), sys.argv[2]
sae = open_sae("gemmascope-l20")
model = open_model(sae.info.model, hooks=[sae.info.hook], device="cpu")
check_fit(sae.info, model)
ids = torch.from_numpy(ids)
x = model.run(ids, torch.ones_like(ids), hooks=[sae.info.hook])[sae.info.hook]
indptr, indices, values, again = sae.codes_and_reconstruction(x.flatten(0, 1))
facts = [sae.info.name, sae.info.source, sae.info.hook, sae.info.architecture,
         sae.info.neuronpedia_id, str(sae.info.context_size), model.name, model.revision,
         str(model.layers), str(len(model.base.layers))]
np.savez(out, indptr=indptr, indices=indices, values=values, again=again, facts=facts)
"""

OPEN = """
from atlas.errors import AtlasError
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae
for open_it in (lambda: open_sae("gemmascope-l20"), lambda: open_model("gemma-2-2b")):
    try:
        open_it()
    except AtlasError as error:
        print(type(error).__name__, error)
"""


def python(script: str, *arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> HubCache:
    return fill_hub_cache(tmp_path_factory.mktemp("hf"))


@pytest.mark.slow
def test_codes_at_the_output_of_block_20(cache: HubCache, tmp_path: Path) -> None:
    ids, _ = random_ids(rows=2, length=10)
    np.save(tmp_path / "ids.npy", ids.numpy())
    out = tmp_path / "out.npz"
    python(ENCODE, str(tmp_path / "ids.npy"), str(out), environment=cache.environment)
    got = np.load(out)
    assert got["facts"].tolist() == [
        "gemmascope-l20",
        "gemma-scope-2b-pt-res-canonical:layer_20/width_16k/canonical",
        "blocks.20.hook_resid_post",
        "jumprelu",
        "gemma-2-2b/20-gemmascope-res-16k",
        "1024",
        "google/gemma-2-2b",
        "0123456789abcdef0123456789abcdef01234567",
        "22",
        "21",
    ]

    # The reference: hidden states of transformers, and NumPy.
    model = AutoModelForCausalLM.from_pretrained(cache.model, dtype=torch.float32)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    x = states[21].flatten(0, 1).double().numpy()
    p = np.load(cache.params)
    encoder, decoder = p["w_enc"][:, LIVE].astype(float), p["w_dec"][LIVE].astype(float)
    threshold = p["threshold"][LIVE]
    before = x @ encoder + p["b_enc"][LIVE]
    clear = np.abs(before - threshold) > 1e-3  # nearer to the threshold, float32 does not decide
    codes = np.maximum(before, 0) * (before > threshold)
    assert np.isin(got["indices"], LIVE).all()
    dense = np.zeros_like(codes)
    rows = np.repeat(np.arange(len(codes)), np.diff(got["indptr"]))
    dense[rows, np.searchsorted(LIVE, got["indices"])] = got["values"]
    np.testing.assert_allclose(np.where(clear, dense, 0), np.where(clear, codes, 0), atol=1e-3)
    assert (dense > 0).sum(1).min() > 5
    assert (codes > 0).sum() < (before > 0).sum()  # the threshold has an effect
    np.testing.assert_allclose(got["again"], dense @ decoder + p["b_dec"], atol=1e-3)


@pytest.mark.slow
def test_without_a_cache_the_message_states_what_to_do(tmp_path: Path) -> None:
    messages = python(OPEN, environment=offline(tmp_path)).splitlines()
    assert [line.split(" is not in this machine's hub cache")[0] for line in messages] == [
        "Missing The SAE 'gemma-scope-2b-pt-res-canonical:layer_20/width_16k/canonical'",
        "Missing The model 'google/gemma-2-2b'",
    ]
    for sentence in messages:
        assert f"hub cache ({tmp_path}" in sentence
        assert "HF_HUB_OFFLINE is set" in sentence
        assert "hf auth login" in sentence
        assert "or set HF_HOME to a folder with it in its cache" in sentence


COMMAND = "import sys; from atlas.cli.main import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_the_command_ingests_from_a_cache(cache: HubCache, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat.\n\nA dog ran to the tree.", "utf-8")
    words = ["ingest", "--sae", "gemmascope-l20", "--atlas", str(tmp_path / "g.atlas"), "--json"]
    output = python(COMMAND, *words, "--text", str(text), environment=cache.environment)
    (row,) = json.loads(output)["result"]["saes"]
    assert (row["sae"], row["model"]) == ("gemmascope-l20", "google/gemma-2-2b")
    assert (row["hook"], row["features"]) == ("blocks.20.hook_resid_post", 16384)
    with Atlas.open(tmp_path / "g.atlas") as atlas:
        (card,) = atlas.ask("feature_card", feature="gemmascope-l20/7").to_pylist()
    assert card["neuronpedia"].endswith("gemma-2-2b/20-gemmascope-res-16k/7")


@pytest.mark.slow
def test_the_command_without_a_cache_is_one_message(tmp_path: Path) -> None:
    words = [sys.executable, "-c", COMMAND, "ingest", "--sae", "gemmascope-l20", "--text", "x.txt"]
    done = subprocess.run(
        words,
        env=offline(tmp_path / "empty"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "google/gemma-scope-2b-pt-res" in done.stderr
    assert list(tmp_path.glob("*.atlas")) == []
