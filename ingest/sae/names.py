"""Short names of well-known SAEs, and their ``release:sae_id`` in sae-lens.

A few patterns define the names, so the table needs neither sae-lens nor its
registry of thousands of SAEs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

__all__ = ["PATTERNS", "Pattern", "short_names"]


@dataclass(frozen=True)
class Pattern:
    """A family of SAEs that differ in the block they read: ``{L}`` in ``name`` and ``sae_id``."""

    name: str
    release: str
    sae_id: str
    layers: Iterable[int]


def _gemma_scope(name: str, release: str, layers: Iterable[int], width: str) -> Pattern:
    return Pattern(name, release, f"layer_{{L}}/width_{width}/canonical", layers)


#: Names of Gemma Scope are its canonical SAEs (L0 near 100). Those without a width have 16k features.
PATTERNS: tuple[Pattern, ...] = (
    _gemma_scope("gemmascope-l{L}", "gemma-scope-2b-pt-res-canonical", range(26), "16k"),
    _gemma_scope("gemmascope-l{L}-65k", "gemma-scope-2b-pt-res-canonical", range(26), "65k"),
    _gemma_scope("gemmascope-mlp-l{L}", "gemma-scope-2b-pt-mlp-canonical", range(26), "16k"),
    _gemma_scope("gemmascope-mlp-l{L}-65k", "gemma-scope-2b-pt-mlp-canonical", range(26), "65k"),
    _gemma_scope("gemmascope-att-l{L}", "gemma-scope-2b-pt-att-canonical", range(26), "16k"),
    _gemma_scope("gemmascope-att-l{L}-65k", "gemma-scope-2b-pt-att-canonical", range(26), "65k"),
    _gemma_scope("gemmascope-9b-l{L}", "gemma-scope-9b-pt-res-canonical", range(42), "16k"),
    _gemma_scope("gemmascope-9b-l{L}-131k", "gemma-scope-9b-pt-res-canonical", range(42), "131k"),
    # These read the input of block L.
    Pattern("gpt2-res-l{L}", "gpt2-small-res-jb", "blocks.{L}.hook_resid_pre", range(12)),
    Pattern(
        "pythia-70m-res-l{L}", "pythia-70m-deduped-res-sm", "blocks.{L}.hook_resid_post", range(6)
    ),
)


@cache
def short_names() -> dict[str, tuple[str, str]]:
    """Return the release and the ``sae_id`` of every short name."""
    return {
        pattern.name.format(L=layer): (pattern.release, pattern.sae_id.format(L=layer))
        for pattern in PATTERNS
        for layer in pattern.layers
    }
