"""Completion of ``--sae`` of ``atlas ingest``: short names, and the SAEs of sae-lens step by step."""

from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from atlas.cli.completion import path_steps
from atlas.errors import AtlasError
from ingest.sae.registry.known import known_saes
from ingest.sae.registry.names import demo_names, short_names

__all__ = ["complete_sae_name", "complete_words"]


def complete_sae_name(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return names that ``--sae`` takes and that begin with the typed text; a folder, if none does.

    Offered are short names and demo SAEs, then releases and models of Neuronpedia, and after their
    slash the ids. A release is written with a slash, because bash breaks words at a colon; after
    a typed colon, the ids follow it.
    """
    before, equals, typed = incomplete.rpartition("=")
    found = _names(typed)
    if not found:
        return [CompletionItem(incomplete, type="dir")]
    return [CompletionItem(f"{before}{equals}{name}") for name in found]


def complete_words(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return words of ``atlas saes``: short names, releases, and models."""
    return [CompletionItem(name.rstrip("/")) for name in _names(incomplete, ids=False)]


def _names(typed: str, *, ids: bool = True) -> list[str]:
    short = [name for name in (*demo_names(), *short_names()) if name.startswith(typed)]
    if not typed:  # a list of all releases would not help
        return short
    with suppress(AtlasError):  # sae-lens is not installed
        known = [one for one in known_saes() if not one.refused]
        mark = ":" if ":" in typed else "/"
        full = [f"{one.release}{mark}{one.sae_id}" for one in known]
        full += [one.neuronpedia for one in known if one.neuronpedia]
        if not ids:
            steps = dict.fromkeys(name.partition("/")[0] for name in full)
            return short + [name for name in steps if name.startswith(typed)]
        return short + path_steps(full, typed)
    return short
