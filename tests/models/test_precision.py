"""float32 products are IEEE float32 under any setting of the process, which is restored."""

import os
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import random_ids, random_model, small_tokenizer
from random_saes import random_sae, vectors
from recording_progress import RecordingProgress
from small_ingest import CONTEXT, HOOK, jumprelu, model, texts, topk

from atlas.api import Atlas
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.features.remarks import stored_flips
from ingest.forward import format_check
from ingest.forward.format_check import flips
from ingest.forward.run import ingest
from ingest.forward.shard_runner import ShardRunner
from ingest.forward.shards import Group
from ingest.model.language_model import open_model
from ingest.model.next_token import NextTokenModel
from ingest.precision import ieee_float32
from ingest.probe.solver.design import Design
from ingest.probe.solver.solve import margins, solve
from ingest.sae.autoencoder import open_sae
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings


@pytest.fixture
def fast() -> Iterator[None]:
    """Allow TF32 in products of this process during a test."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cuda.matmul.allow_tf32
    torch.set_float32_matmul_precision(before)


def recording(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[bool]:
    """Record whether TF32 is allowed in each call of a function."""
    original, found = getattr(owner, name), []

    def recorded(*args: Any, **named: Any) -> Any:
        found.append(torch.backends.cuda.matmul.allow_tf32)
        return original(*args, **named)

    monkeypatch.setattr(owner, name, recorded)
    return found


def test_products_are_ieee_inside_and_the_setting_is_restored_after_errors(fast: None) -> None:
    found = []

    def fail() -> None:
        found.append(torch.get_float32_matmul_precision())
        found.extend([torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ieee_float32():
        fail()
    assert found == ["highest", False, False]


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="an older torch"
)
def test_the_newer_interface_of_torch_is_restored() -> None:
    # In a process of its own, since torch does not forget that both interfaces were used.
    code = """
import torch
from ingest.precision import ieee_float32
torch.backends.cuda.matmul.fp32_precision = "tf32"
for _ in range(2):
    with ieee_float32():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_environment_does_not_decide() -> None:
    code = """
import torch
from ingest.precision import ieee_float32
assert torch.backends.cuda.matmul.allow_tf32
with ieee_float32():
    assert not torch.backends.cuda.matmul.allow_tf32
assert torch.backends.cuda.matmul.allow_tf32
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    )


def test_the_model_runs_in_ieee(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recording(monkeypatch, torch.nn.functional, "linear")
    ids, mask = random_ids()
    open_model(random_model("llama"), name="small", tokenizer=small_tokenizer()).run(
        ids, mask, hooks=[HOOK]
    )
    NextTokenModel("small", random_model("llama")).logits(ids, mask)
    assert len(found) > 20
    assert not any(found)


def test_saes_run_in_ieee(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = open_sae(random_sae("jumprelu"))
    found = [recording(monkeypatch, sae.sae, name) for name in ("encode", "decode")]
    x = vectors()
    sae.codes(x)
    sae.codes_and_reconstruction(x)
    sae.decode(sae.encode(x))
    for calls in found:
        assert calls
        assert not any(calls)


def test_solvers_run_in_ieee(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recording(monkeypatch, Design, "chunks")
    rng = np.random.default_rng(0)
    design = Design(rng.normal(size=(200, 5)).astype(np.float32))
    target = torch.from_numpy(rng.integers(0, 2, size=(200, 3)).astype(np.float32))
    margins(design, solve(design, torch.ones(200, 1), target, penalty=1e-3))
    assert len(found) > 3
    assert not any(found)


def test_the_manifest_records_it_without_a_change_of_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    ingest(path, saes=[open_sae(topk(), name="top")], text=texts(), model=model())
    manifest = Folder.open(path).sound().parts["sae/top"].manifest
    assert manifest.versions["float32 products"] == "ieee"
    assert manifest.versions["torch"] == version("torch")
    older = {k: v for k, v in manifest.versions.items() if k != "float32 products"}
    assert replace(manifest, versions=older).hash == manifest.hash
    assert replace(manifest, versions=older).origin == manifest.origin


# ---------------------------------------------------------------- a model in bfloat16


def active(documents: list[str], causal: Any, sae: Any) -> set[tuple[int, int]]:
    """Return the active codes by token and feature: a document and a context at a time."""
    lm = open_model(causal, name="small", tokenizer=small_tokenizer())
    codes, row = set(), 0
    for text in documents:
        tokens = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CONTEXT - 1):
            part = tokens[at : at + CONTEXT - 1]
            ids = torch.tensor([[lm.tokenizer.bos_token_id, *part]])
            with torch.no_grad():
                x = causal(ids, output_hidden_states=True).hidden_states[2][0, 1:].float()
            plain = [i for i, t in enumerate(part) if t not in lm.tokenizer.all_special_ids]
            for z in sae.encode(x[plain]).detach():
                codes |= {(row, feature) for feature in z.nonzero()[:, 0].tolist()}
                row += 1
    return codes


def test_flipped_codes_equal_a_comparison_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = random_model("llama").bfloat16()
    for module in half.modules():  # as transformers loads it
        if hasattr(module, "inv_freq"):
            module.inv_freq = module.original_inv_freq = random_model(
                "llama"
            ).model.rotary_emb.inv_freq
    lm = open_model(half, name="small", tokenizer=small_tokenizer())
    documents, sae, seen = texts(30, words=(5, 30)), jumprelu(), RecordingProgress()
    path = tmp_path / "a.atlas"
    opened = open_sae(sae, name="jump")
    ingest(path, saes=[opened], text=documents, model=lm, progress=seen)
    narrow, wide = active(documents, half, sae), active(documents, deepcopy(half).float(), sae)
    expected = len(narrow ^ wide) / len(narrow | wide)
    assert 0 < expected < 0.2
    corpus = Corpus.open(Folder.open(path).corpus_file)
    group = Group(lm, (opened,), ContextSettings(CONTEXT, prepend_bos=True), 64)
    found = flips(group, corpus)["jump"]
    assert found.active == pytest.approx(len(narrow | wide), rel=0.02)
    assert found.share == pytest.approx(expected, rel=0.3, abs=0.002)
    assert any(
        f"bfloat16 changes {found.share:.2%} of the active codes" in s for s in seen.messages
    )
    manifest = Folder.open(path).sound().parts["sae/jump"].manifest
    assert manifest.dtypes == {"model": "bfloat16", "sae": "float32", "device": "cpu"}
    stored = {name: int(manifest.versions[name]) for name in ("flipped codes", "active codes")}
    assert stored["active codes"] == pytest.approx(len(narrow | wide), rel=0.02)
    share = stored["flipped codes"] / stored["active codes"]
    assert share == pytest.approx(expected, rel=0.3, abs=0.002)
    tokens = sum(
        len(lm.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in documents
    )
    assert 0 < int(manifest.versions["compared tokens"]) <= tokens
    assert replace(manifest, versions={}).hash == manifest.hash
    sentence = f"bfloat16 changes {share:.2%} of the active codes of jump, compared with float32"
    card = Atlas(str(path))["jump/1"]
    assert any(line.startswith(sentence) for line in card.verdict)
    with pytest.raises(SystemExit):
        main(["list", str(path)])
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_an_interrupted_ingest_stores_the_share_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends after the last shard, so that the next ingest has only parts to write."""
    lm = open_model(random_model("llama").bfloat16(), name="small", tokenizer=small_tokenizer())
    path, saes = tmp_path / "a.atlas", [open_sae(topk(), name="top")]
    with monkeypatch.context() as patch:
        patch.setattr(ShardRunner, "deliver", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(path, saes=saes, text=texts(), model=lm)
    monkeypatch.setattr(Group, "only", None)  # no shard is computed again
    ingest(path, saes=saes, text=texts(), model=lm)
    manifest = Folder.open(path).sound().parts["sae/top"].manifest
    assert int(manifest.versions["compared tokens"]) > 0


def test_a_model_in_float32_has_no_remark_on_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    ingest(path, saes=[open_sae(topk(), name="top")], text=texts(), model=model())
    assert stored_flips(Folder.open(path), "top") == {}
    assert stored_flips(None, "top") == {}
    assert not any("compared with float32" in line for line in Atlas(str(path))["top/1"].verdict)


def test_a_model_in_float32_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(format_check, "deepcopy", None)
    lm, path, seen = model(), tmp_path / "a.atlas", RecordingProgress()
    ingest(path, saes=[open_sae(topk(), name="top")], text=texts(), model=lm, progress=seen)
    assert not any("of the active codes" in s for s in seen.messages)


def test_too_little_memory_for_the_comparison_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(format_check, "deepcopy", fail)
    lm = open_model(random_model("llama").bfloat16(), name="small", tokenizer=small_tokenizer())
    seen = RecordingProgress()
    ingest(
        tmp_path / "a.atlas",
        saes=[open_sae(topk(), name="top")],
        text=texts(),
        model=lm,
        progress=seen,
    )
    assert any("was not measured. Memory does not suffice" in s for s in seen.messages)
