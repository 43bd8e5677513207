"""Errors of the hub, of transformers and of torch, told in this program's own words."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from atlas.errors import AtlasError, BadInput, Missing, OutOfRoom

__all__ = ["memory_errors", "reached"]


@contextmanager
def reached(what: str, name: str, *, repo: str | None = None) -> Iterator[None]:
    """Translate whatever goes wrong while something is fetched or loaded.

    Parameters
    ----------
    what, name
        What is loaded, as a noun, and how it was named: ``"model"``, ``"gpt2"``.
    repo
        Its repository at the hub; None for a local folder.

    Raises
    ------
    Missing
        If it is not on this machine and the hub does not give it.
    BadInput
        If it is there and cannot be used.
    OutOfRoom
        If it does not fit into memory or onto the disk.
    """
    from huggingface_hub.errors import EntryNotFoundError
    from safetensors import SafetensorError

    # The hub tells of each retry; the one sentence at the end says it all.
    chatter = logging.getLogger("huggingface_hub")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with memory_errors(f"the {what} {name!r}"):
            yield
    except AtlasError:
        raise
    except (
        OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError,
        SafetensorError, EntryNotFoundError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OutOfRoom(
                f"The disk is full: the {what} {name!r} could not be fetched. Make room or set "
                "HF_HOME to a folder on another disk."
            ) from error
        hub = _hub_says(error, f"The {what} {name!r}", repo)
        if hub:
            raise Missing(hub) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"The {what} {name!r} cannot be loaded: {reason}") from error
    finally:
        chatter.setLevel(level)


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Translate a device's out-of-memory error.

    Raises
    ------
    OutOfRoom
        If memory does not suffice for ``what``.
    """
    import torch

    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # CPU and MPS say it by a plain RuntimeError.
        lacking = ("out of memory", "can't allocate memory", "not enough memory")
        plain = type(error) is RuntimeError
        if plain and not any(words in str(error) for words in lacking):
            raise
        raise OutOfRoom(
            f"Memory does not suffice for {what}: take a number format of two bytes "
            "(dtype 'bfloat16'), a smaller model or another device."
        ) from error


def _hub_says(error: BaseException, subject: str, repo: str | None) -> str:
    """Return a sentence if the hub is what failed, found along the chain of causes."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    chain = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    at = f" at https://huggingface.co/{repo}" if repo else ""
    if caused_by(hub.GatedRepoError):
        return (
            f"{subject} is gated: accept its licence{at}, log in with `hf auth login`, then repeat."
        )
    if caused_by(hub.RepositoryNotFoundError):
        return (
            f"{subject} is not at the hub, or you may not read it: check the name{at}, "
            "and log in with `hf auth login` if it is private."
        )
    if caused_by(hub.RevisionNotFoundError):
        return f"{subject} has no such revision: see which there are{at}."
    if caused_by(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError):
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the hub was not reached"
        return (
            f"{subject} is not in this machine's hub cache ({constants.HF_HUB_CACHE}) and {why}: "
            "repeat with a connection (where the repository is gated, first accept its licence"
            f"{at} and log in with `hf auth login`), or set HF_HOME to a folder whose cache has it."
        )
    if caused_by(hub.EntryNotFoundError):
        return f"{subject} lacks a file that is needed: see what there is{at}."
    if caused_by(hub.HfHubHTTPError):
        return f"{subject} was not given by the hub{at}: {str(error).splitlines()[0]}"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
