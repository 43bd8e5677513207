"""Errors of the hub and of torch are translated to errors of this package."""

import errno

import pytest
import torch
from huggingface_hub import errors as hub

from atlas.errors import BadInput, Missing, OutOfSpace, UnknownName
from ingest.error_translation import memory_errors, reached


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
        raise UnknownName("SAE", "x")  # ours pass


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
