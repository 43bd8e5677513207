"""Ingests and training on the pretend GPU: kinds of SAEs, number formats, and architectures."""

from typing import Any

import numpy as np
import pytest
import small_ingest
import torch
from pretend_device import on_both_devices
from random_models import random_ids, random_model, small_tokenizer
from random_saes import TRANSCODERS, random_transcoder, vectors
from recording_progress import RecordingProgress
from safetensors.torch import load_file
from small_training import settings as train_settings
from small_training import texts as train_texts

from atlas.disk.folder import Folder
from ingest import LogisticProbes, RidgeProbes
from ingest.forward.run import ingest
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.train.run import train_saes


def lm(device: str, dtype: str = "float32") -> Any:
    return open_model(
        random_model("llama"),
        name="small",
        tokenizer=small_tokenizer(),
        device=device,
        dtype=dtype,
    )


def ingested(path: Any, sae: Any, *, model: Any, **more: Any) -> Folder:
    ingest(path, saes=[sae], text=small_ingest.texts(), model=model, match=None, **more)
    return Folder.open(path)


def opened() -> Any:
    with torch.device("cpu"):
        return open_sae(small_ingest.topk(), name="top")


@pytest.mark.parametrize("kind", TRANSCODERS)
def test_transcoders(kind: str, tmp_path: Any) -> None:
    def work(device: str) -> Any:
        with torch.device("cpu"):
            sae = open_sae(random_transcoder(kind, context_size=16, prepend_bos=True), name="t")
        settings = Settings(device=device)
        folder = ingested(tmp_path / device, sae, model=lm(device), settings=settings)
        (row,) = folder.sound().parts["fidelity/t"].table("SAE").to_pylist()
        return small_ingest.dense(folder, "t")[1], row["fvu"]

    (codes, fvu), (found, found_fvu) = on_both_devices(work)
    assert codes.any()
    np.testing.assert_array_equal(found, codes)
    assert found_fvu == pytest.approx(fvu, rel=1e-10)


def test_a_model_in_bfloat16_is_compared_with_float32(tmp_path: Any) -> None:
    def work(device: str) -> Any:
        progress, settings = RecordingProgress(), Settings(device=device, dtype="auto")
        model = lm(device, "bfloat16")
        folder = ingested(
            tmp_path / device, opened(), model=model, settings=settings, progress=progress
        )
        compared = [text for text in progress.messages if "bfloat16 changes" in text]
        return small_ingest.dense(folder, "top")[1], compared

    (codes, messages), (found, found_messages) = on_both_devices(work)
    np.testing.assert_array_equal(found, codes)
    assert found_messages == messages
    assert len(messages) == 1


def test_codes_that_are_dropped(tmp_path: Any) -> None:
    def work(device: str) -> Any:
        settings = Settings(device=device, keep_codes=False)
        folder = ingested(tmp_path / device, opened(), model=lm(device), settings=settings)
        parts = folder.sound().parts
        assert "codes/top" not in parts
        return [
            parts["statistics/top"].table("Feature").to_pylist(),
            parts["coactivation/top"].table("CO_ACTIVATES").to_pylist(),
        ]

    expected, found = on_both_devices(work)
    assert found == expected
    assert all(expected)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["standard", "batchtopk", "matryoshka"])
def test_training_with_floors(architecture: str, tmp_path: Any) -> None:
    def work(device: str) -> None:
        train_saes(
            tmp_path / device,
            model=random_model("llama"),
            tokenizer=small_tokenizer(),
            text=train_texts(120),
            settings=train_settings(
                device=device,
                architectures=(architecture,),
                steps=16,
                widths=(32,),
                baselines=("frozen-decoder", "untrained"),
            ),
        )

    on_both_devices(work)
    cpu = tmp_path / "cpu"
    files = sorted(p.relative_to(cpu) for p in cpu.rglob("*.safetensors"))
    assert len(files) >= 3
    for file in files:
        expected, found = load_file(cpu / file), load_file(tmp_path / "cuda" / file)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_generation_with_an_edited_site(temperature: float) -> None:
    ids, _ = random_ids()

    def work(device: str) -> torch.Tensor:
        model = NextTokenModel("small", random_model("llama").to(device))
        edits = {small_ingest.HOOK: lambda x: x * 0.9}
        found = model.generate(ids, new_tokens=5, edits=edits, temperature=temperature)
        return found.cpu()

    expected, found = on_both_devices(work)
    assert torch.equal(expected, found)


@pytest.mark.parametrize("kind", [LogisticProbes, RidgeProbes])
def test_estimators_of_the_python_interface(kind: Any) -> None:
    x = vectors(200).numpy()
    targets = x[:, :3] > 0.3 if kind is LogisticProbes else 2 * x[:, :3]

    def work(device: str) -> Any:
        probes = kind(device=device).fit(x, targets)
        return probes.coef_, probes.intercept_, probes.decision_function(x)

    for expected, found in zip(*on_both_devices(work), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
