"""Whether a file is in the cache of the hub on this machine, and whether the hub answers.

A library that needs a file that is not in the cache tries the hub several times, for up to
half a minute. One request with a short limit decides before whether it can answer. It is sent only
for a repository without a file in the cache: for others the libraries decide, so that a slow
connection does not change which commit is loaded.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["has_cached", "is_cached", "offline_while", "why_out_of_reach"]

#: Limit of the request in seconds. A larger one is that of the variable of the hub's own library.
_LIMIT = 1.2
_WEIGHTS = frozenset({".safetensors", ".npz", ".pt", ".pth", ".bin", ".ckpt"})


def is_cached(repo: str, path: str) -> bool:
    """Return whether the cache of the hub has the weights of an SAE, or a file.

    Parameters
    ----------
    repo
        A repository of models.
    path
        A file of the repository, or the folder of the weights.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or ".." in parts:
        return False
    for snapshot in _snapshots(repo).glob("*"):
        found = snapshot.joinpath(*parts)
        if found.is_file():  # a link to a file that is gone is none
            return True
        if any(p.suffix in _WEIGHTS and p.is_file() for p in found.rglob("*")):
            return True
    return False


def has_cached(repo: str) -> bool:
    """Return whether the cache of the hub has any file of a repository of models."""
    return any(file.is_file() for file in _snapshots(repo).rglob("*"))


def _snapshots(repo: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"


def why_out_of_reach() -> str:
    """Return why the hub cannot be used; empty if it answers, or may answer."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    limit = max(float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _LIMIT), _LIMIT)
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(_answers(constants.ENDPOINT, limit)), daemon=True
    )
    thread.start()
    thread.join(limit)  # the limit of a request does not include the time to resolve its name
    if not answers:
        return (
            f"the hub did not answer within {limit:g} s (HF_HUB_ETAG_TIMEOUT sets a longer limit)"
        )
    return "" if answers[0] else "the hub was not reached"


def _answers(address: str, limit: float) -> bool:
    """Return whether an address, or a proxy for it, answers one request without a server error."""
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, build_opener

    try:
        with build_opener().open(Request(address, method="HEAD"), timeout=limit):
            return True
    except HTTPError as error:
        return error.code not in (502, 503, 504)  # of a proxy without a connection
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the hub's library may trust the certificate
    except (OSError, HTTPException, ValueError):
        return False


@contextmanager
def offline_while(reason: str) -> Iterator[None]:
    """Let the library of the hub use its cache only, if there is a reason to.

    Parameters
    ----------
    reason
        Why the hub cannot be used; empty if it can.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or bool(reason)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
