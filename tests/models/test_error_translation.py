"""Errors of the hub and of torch are translated to errors of this package."""

import errno
import weakref
from pathlib import Path

import numpy as np
import pytest
import sae_lens
import torch
from huggingface_hub import errors as hub
from random_saes import random_sae, vectors
from small_ingest import HOOK, model, texts, topk
from small_training import trained

from analysis.transcoder.moments import Stream
from analysis.transcoder.study import map_sites
from atlas.errors import BadInput, Missing, OutOfSpace, UnknownName
from ingest.error_translation import memory_errors, reached
from ingest.forward.run import ingest
from ingest.forward.shards import empty_states, encode_batch
from ingest.reduce.fidelity import Fidelity
from ingest.sae.activation_transforms import TokenMeans
from ingest.sae.autoencoder import open_sae
from ingest.text.tokenization import Batch


def bare(kind: type[BaseException], message: str = "no") -> BaseException:
    """Return an error of the hub without the server response that its class requires."""
    error = kind.__new__(kind, message)
    OSError.__init__(error, message) if isinstance(error, OSError) else None
    return error


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (hub.GatedRepoError, "is gated: accept its licence at https://huggingface.co/a/b, log in"),
        (hub.RepositoryNotFoundError, "is not at the hub, or you have no access to it"),
        (hub.RevisionNotFoundError, "does not have this revision"),
        (hub.LocalEntryNotFoundError, "is not in this machine's hub cache"),
        (hub.OfflineModeIsEnabled, "set HF_HOME to a folder with it in its cache"),
        (ConnectionError, "the hub was not reached"),
        (hub.EntryNotFoundError, "has no file that this command needs"),
        (
            hub.HfHubHTTPError,
            "could not be downloaded from the hub at https://huggingface.co/a/b: ",
        ),
    ],
)
def test_errors_of_the_hub_are_translated(
    kind: type[BaseException], message: str, wrapped: bool
) -> None:
    error = bare(kind)
    if wrapped:  # as transformers does
        error = OSError("We couldn't connect to 'https://huggingface.co'")
        error.__cause__ = bare(kind)
    with pytest.raises(Missing) as caught, reached("model", "b", repo="a/b"):
        raise error
    sentence = str(caught.value)
    assert sentence.startswith("The model 'b' ")
    assert message in sentence
    assert "\n" not in sentence


def test_other_errors_are_bad_input() -> None:
    with pytest.raises(BadInput, match=r"'x' cannot be loaded: wrong$"), reached("SAE", "x"):
        raise RuntimeError("wrong\nand much more")
    with pytest.raises(BadInput, match="cannot be loaded: KeyError"), reached("SAE", "x"):
        raise KeyError
    with pytest.raises(UnknownName), reached("SAE", "x"):
        raise UnknownName("SAE", "x")  # errors of this package are not translated


def test_full_disk_and_full_memory() -> None:
    with pytest.raises(OutOfSpace, match="disk is full"), reached("model", "b", repo="a/b"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutOfSpace, match="for the model 'b'"), reached("model", "b"):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    for message in ("MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory"):
        with pytest.raises(OutOfSpace), memory_errors("a batch"):
            raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("a batch"):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
    ],
    ids=lambda e: str(e)[:40],
)
def test_memory_is_recognised(error: BaseException) -> None:
    with (
        pytest.raises(OutOfSpace, match="for a batch: use fewer"),
        memory_errors("a batch", todo="use fewer"),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        NotImplementedError("The operator is not implemented for out of memory tensors"),
        torch.linalg.LinAlgError("linalg.eigh: failed to converge"),
        RecursionError("maximum recursion depth exceeded"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    ],
    ids=lambda e: str(e)[:40],
)
def test_other_errors_are_not_memory(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, memory_errors("a batch"):
        raise error
    assert caught.value is error


def test_the_failed_attempt_releases_its_memory_while_the_error_is_handled() -> None:
    references = []

    def attempt(rows: int) -> int:
        x = np.ones(rows)
        references.append(weakref.ref(x))
        if rows > 10:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return len(x)

    try:
        with memory_errors("20 rows"):
            attempt(20)
    except OutOfSpace:
        assert references[0]() is None
        assert attempt(10) == 10
    else:
        pytest.fail("expected OutOfSpace")


def fail(*_: object, **__: object) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("step", ["encode", "decode", "reads", "fidelity"])
def test_every_step_of_a_batch_translates_and_the_next_works(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, counted, ids = vectors(12), torch.ones(1, 12, dtype=torch.bool), torch.zeros(1, 12).long()
    less = TokenMeans(torch.tensor([0]), x[:1], x.mean(0))
    sae = open_sae(random_sae("standard"), less=less)
    owner, name = {
        "encode": (sae.sae, "encode"),
        "decode": (sae.sae, "decode"),
        "reads": (TokenMeans, "taken"),
        "fidelity": (Fidelity, "update"),
    }[step]
    batch = Batch(ids.numpy(), counted.numpy(), counted.numpy(), np.arange(12))

    def run() -> object:
        read = sae.reads({sae.info.hook: x[None]}, counted, ids)
        return encode_batch(sae, (read, read), batch, states=empty_states(sae), shard=0)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OutOfSpace, match=r"of the SAE .*batch_tokens"):
            run()
    assert run()


def test_maps_and_training_translate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, path = model(), tmp_path / "a.atlas"
    ingest(path, saes=[open_sae(topk(), name="top")], text=texts(), model=lm)
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "add", fail)
        with pytest.raises(OutOfSpace, match="maps from hook_embed to 1 site"):
            map_sites(path, targets=[HOOK], model=lm)
    with monkeypatch.context() as patch:
        patch.setattr(sae_lens.SAETrainer, "step", fail)
        with pytest.raises(
            OutOfSpace, match=r"training .* tokens at a time: use a smaller `batch`"
        ):
            trained(tmp_path / "saes", documents=texts(100), sites=(HOOK,), steps=4)


@pytest.mark.parametrize("kind", [hub.RepositoryNotFoundError, hub.LocalEntryNotFoundError])
def test_a_local_model_is_answered_with_its_folder_and_no_address(kind, monkeypatch):
    monkeypatch.setattr("ingest.error_translation.why_out_of_reach", lambda: "")
    error = kind.__new__(kind)  # their constructors want a response
    with (
        pytest.raises(
            Missing, match=r"'my-model' is neither a folder .*pass it with `model`"
        ) as raised,
        reached("model", "my-model", repo="my-model"),
    ):
        raise error
    assert "huggingface.co/my-model" not in str(raised.value)
