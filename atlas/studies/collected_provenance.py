"""The provenance of all results of a command, as one object for ``--json``."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from atlas.disk.parts import installed

__all__ = ["collect", "collecting", "shared_provenance"]

_SHARED = ("atlas", "text")
"""Entries that all results of a command have in common."""

_collected: ContextVar[list[Mapping[str, Any]] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[None]:
    """Collect the provenance of the results that studies return."""
    token = _collected.set([])
    try:
        yield
    finally:
        _collected.reset(token)


def collect(provenance: Iterable[Mapping[str, Any]]) -> None:
    """Collect the provenance of results, inside ``collecting``; nothing of a result without."""
    found = _collected.get()
    if found is not None:
        found.extend(each for each in provenance if each)


def shared_provenance(command: str) -> dict[str, Any] | None:
    """Return what is collected as one object; None without results.

    Parameters
    ----------
    command
        The command, as typed.
    """
    found = _collected.get()
    if not found:
        return None
    rest = [{k: v for k, v in each.items() if k not in _SHARED} for each in found]
    return {
        "command": command,
        "version": installed().get("feature-atlas"),
        **{name: found[0][name] for name in _SHARED},
        "results": rest,
    }
