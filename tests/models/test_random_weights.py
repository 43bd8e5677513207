"""Models with random weights: equal to a draw of transformers, and never over existing files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner
from random_models import random_model, small_tokenizer

from atlas.errors import BadInput
from ingest.commands import random_weights
from ingest.model.language_model import open_model
from ingest.model.random_weights import save_random_weights


def saved(folder: Path, name: str = "llama") -> tuple[Any, Path]:
    model = random_model(name)
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return model, folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neo"])
def test_random_weights_depend_on_the_configuration_and_the_seed_alone(
    name: str, tmp_path: Path
) -> None:
    model, folder = saved(tmp_path / "tiny", name)
    before = torch.random.get_rng_state()
    drawn = [
        save_random_weights(folder, tmp_path / out, seed=seed)
        for out, seed in [("a", 0), ("again", 0), ("other", 1)]
    ]
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    # The reference: a model that transformers creates from the configuration.
    torch.manual_seed(0)
    peer = type(model)(model.config)
    a, again, other = (type(model).from_pretrained(folder).state_dict() for folder in drawn)
    for key, values in peer.state_dict().items():
        torch.testing.assert_close(a[key], values, rtol=0, atol=0)
        torch.testing.assert_close(again[key], values, rtol=0, atol=0)
    embedding = next(key for key in a if "embed_tokens" in key or "wte" in key)
    assert not torch.equal(a[embedding], other[embedding])
    assert not torch.equal(a[embedding], model.state_dict()[embedding])
    opened_again = open_model(drawn[0], device="cpu")
    assert opened_again.tokenizer_key == open_model(folder, device="cpu").tokenizer_key


def test_random_weights_replace_nothing(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "tiny")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(BadInput, match="already exists"):
        save_random_weights(folder, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(BadInput, match="no folder"):
        save_random_weights("./absent", tmp_path / "out")
    transformers.T5Config().save_pretrained(tmp_path / "t5")
    small_tokenizer().save_pretrained(tmp_path / "t5")
    with pytest.raises(BadInput, match="encoder-decoder"):
        save_random_weights(tmp_path / "t5", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="already exists"):
        save_random_weights(folder, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(BadInput, match="no folder '~nobody-here/m'"):
        save_random_weights("~nobody-here/m", tmp_path / "out")


def test_random_weights_are_not_quantized(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    drawn = save_random_weights(folder, tmp_path / "out")
    assert "quantization_config" not in json.loads((drawn / "config.json").read_text("utf-8"))
    assert open_model(drawn, device="cpu").d_model == 24


def test_the_command_writes_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(random_weights, ["tiny-a", "--json"])
    assert json.loads(done.stdout)["result"] == {"folder": "tiny-a-random", "seed": 0}
    assert open_model("./tiny-a-random", device="cpu").name == "tiny-a-random"
    assert sorted(os.listdir()) == ["tiny-a-random"]
