"""Translation of errors of the hub, transformers and torch to errors of this program."""

import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from atlas.errors import AtlasError, BadInput, Missing, OutOfSpace
from ingest.device_memory import release_cache
from ingest.hub_reach import has_cached, is_cached, offline_while, why_out_of_reach

__all__ = ["FEWER", "SMALLER", "check_in_reach", "memory_errors", "reached"]


def check_in_reach(what: str, name: str, *, repo: str, path: str) -> None:
    """Check quickly that a file is in the cache of the hub, or that the hub answers.

    Call it before libraries are imported that take seconds.

    Parameters
    ----------
    what, name, repo
        As for ``reached``.
    path
        The file, or the folder of the weights, in the repository.

    Raises
    ------
    Missing
        If the cache does not have it and the hub cannot be reached.
    """
    if not is_cached(repo, path) and (why := why_out_of_reach()):
        raise Missing(_not_cached(f"The {what} {name!r}", repo, why))


@contextmanager
def reached(what: str, name: str, *, repo: str | None = None) -> Iterator[None]:
    """Translate errors during a download or while a file is loaded.

    Parameters
    ----------
    what, name
        The kind of object, as a noun, and its name: ``"model"``, ``"gpt2"``.
    repo
        Its repository at the hub; None for a local folder.

    Raises
    ------
    Missing
        If it is not on this machine and cannot be downloaded from the hub.
    BadInput
        If it cannot be loaded.
    OutOfSpace
        If it does not fit into memory or onto the disk.
    """
    from huggingface_hub.errors import EntryNotFoundError
    from safetensors import SafetensorError

    # Data sets are read by a library with a switch of its own. With a file in the cache the libraries
    # decide: without a connection, an older commit than that of the hub could be loaded.
    ask = repo and what != "data set" and not has_cached(repo)
    why = why_out_of_reach() if ask else ""
    # The hub logs every retry; the error message at the end suffices.
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with memory_errors(f"the {what} {name!r}"), offline_while(why):
            yield
    except AtlasError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        ImportError,
        SafetensorError,
        EntryNotFoundError,
    ) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OutOfSpace(
                f"The disk is full: the {what} {name!r} could not be downloaded. Free some space, or set "
                "HF_HOME to a folder on another disk."
            ) from error
        hub_error = _hub_message(error, f"The {what} {name!r}", repo, why=why)
        if hub_error:
            raise Missing(hub_error) from error
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # An error of a state dict has its reason after a line that ends with a colon.
        reason = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
        raise BadInput(f"The {what} {name!r} cannot be loaded: {reason}") from error
    finally:
        logger.setLevel(level)


#: What to do if memory does not suffice for a model.
SMALLER = "use a number format of two bytes (dtype 'bfloat16'), a smaller model or another device"

#: What to do if memory does not suffice for the tokens of a batch.
FEWER = "use a smaller batch_tokens, fewer SAEs at a time, or another device"


@contextmanager
def memory_errors(what: str, *, todo: str = SMALLER) -> Iterator[None]:
    """Translate a device's out-of-memory error, and release the memory of the failed attempt.

    Parameters
    ----------
    what
        What needed the memory, as a noun.
    todo
        What the user can do.

    Raises
    ------
    OutOfSpace
        If memory does not suffice for ``what``. Other errors are raised unchanged.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _release(error)
        raise OutOfSpace(f"Memory does not suffice for {what}: {todo}.") from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that memory did not suffice.

    Subclasses of RuntimeError report other errors: a device assert (``AcceleratorError``), an
    operation that does not exist (``NotImplementedError``), a singular matrix
    (``LinAlgError``). Only ``AcceleratorError`` can also report memory, in its first words.
    """
    import torch

    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    accelerator = getattr(torch, "AcceleratorError", None)  # not in older versions of torch
    if accelerator is not None and isinstance(error, accelerator):
        return message.startswith("CUDA error: out of memory")
    # A CPU, MPS and the libraries of CUDA report it by a plain RuntimeError.
    phrases = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "_STATUS_ALLOC_FAILED",
    )
    return type(error) is RuntimeError and any(phrase in message for phrase in phrases)


def _release(error: BaseException) -> None:
    """Free the tensors of the failed functions, which the error would retain."""
    for cause in _causes(error):
        traceback.clear_frames(cause.__traceback__)
    release_cache()


def _hub_message(error: BaseException, subject: str, repo: str | None, *, why: str) -> str:
    """Return a message if the chain of causes has an error of the hub, else an empty string."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    chain = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    at = f" at https://huggingface.co/{repo}" if repo else ""
    local = _local(subject)
    if caused_by(hub.GatedRepoError):
        return (
            f"{subject} is gated: accept its licence{at}, log in with `hf auth login`, then run the "
            "command again."
        )
    if caused_by(hub.RepositoryNotFoundError):
        if local and "/" not in (repo or ""):  # the hub's models of this form are few
            return (
                f"{subject} is neither a folder nor at the hub{local}; otherwise name it by its "
                "OWNER/NAME at the hub."
            )
        return (
            f"{subject} is not at the hub, or you have no access to it: check the name{at}, "
            f"and log in with `hf auth login` if it is private{local}."
        )
    if caused_by(hub.RevisionNotFoundError):
        return f"{subject} does not have this revision: see the available ones{at}."
    if caused_by(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError):
        offline = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else ""
        return _not_cached(subject, repo, offline or why or "the hub was not reached")
    if caused_by(hub.EntryNotFoundError):
        return f"{subject} has no file that this command needs: see its files{at}."
    if caused_by(hub.HfHubHTTPError):
        return f"{subject} could not be downloaded from the hub{at}: {str(error).splitlines()[0]}"
    return ""


def _local(subject: str) -> str:
    """Return what to do if a model is on this machine; empty for other objects."""
    return (
        ". If it is a folder on this machine, pass it with `model`"
        if subject.startswith("The model")
        else ""
    )


def _not_cached(subject: str, repo: str | None, why: str) -> str:
    """Return the message for an object that the cache does not have."""
    from huggingface_hub import constants

    local = _local(subject)
    if local and "/" not in (repo or ""):  # a model of a user more often than one of the hub
        return (
            f"{subject} is neither a folder nor in this machine's hub cache "
            f"({constants.HF_HUB_CACHE}), and {why}{local}; otherwise run the command again with a "
            "connection, or set HF_HOME to a folder with it in its cache."
        )
    at = f" at https://huggingface.co/{repo}" if repo else ""
    return (
        f"{subject} is not in this machine's hub cache ({constants.HF_HUB_CACHE}) and {why}: "
        "run the command again with a connection (if the repository is gated, first accept its "
        f"licence{at} and log in with `hf auth login`), or set HF_HOME to a folder with it in its "
        f"cache{local}."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
