"""The verdict and the provenance of all results of a command, for ``--json``."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from atlas.disk.parts import installed

__all__ = ["collect", "collected_verdict", "collecting", "shared_provenance"]

_SHARED = ("atlas", "text")
"""Entries that all results of a command have in common."""


class Collected(Protocol):
    """What is collected of a result; see ``atlas.studies.results.Result``."""

    @property
    def verdict(self) -> tuple[str, ...]:
        """Its sentences."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How it was computed."""


_collected: ContextVar[list[Collected] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[None]:
    """Collect the results that studies return."""
    token = _collected.set([])
    try:
        yield
    finally:
        _collected.reset(token)


def collect(results: Iterable[Collected]) -> None:
    """Collect results, inside ``collecting``; none without provenance."""
    found = _collected.get()
    if found is not None:
        found.extend(each for each in results if each.provenance)


def collected_verdict() -> list[str]:
    """Return the verdict sentences of what is collected, in the order in which it was computed."""
    return [sentence for each in _collected.get() or () for sentence in each.verdict]


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
    every = [each.provenance for each in found]
    rest = [{k: v for k, v in each.items() if k not in _SHARED} for each in every]
    return {
        "command": command,
        "version": installed().get("feature-atlas"),
        **{name: every[0][name] for name in _SHARED},
        "results": rest,
    }
