"""Short names of SAEs, and the names of those that are included in this program."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from atlas.errors import Mismatch
from ingest.folder_checks import read_json_object
from ingest.sae.registry.known import by_neuronpedia, by_release, known_saes
from ingest.sae.registry.suggestions import unknown

__all__ = [
    "DEMO_SAES",
    "PATTERNS",
    "Pattern",
    "demo_names",
    "models_by_name",
    "resolve",
    "search_demo",
    "short_names",
]

DEMO_SAES = Path(__file__).parents[2] / "demo" / "saes"


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
    Pattern("gpt2-mlp-l{L}", "gpt2-small-mlp-out-v5-32k", "blocks.{L}.hook_mlp_out", range(12)),
    Pattern(
        "pythia-70m-res-l{L}", "pythia-70m-deduped-res-sm", "blocks.{L}.hook_resid_post", range(6)
    ),
    Pattern(
        "pythia-70m-mlp-l{L}", "pythia-70m-deduped-mlp-sm", "blocks.{L}.hook_mlp_out", range(6)
    ),
    # Gemma Scope 2 has no canonical SAEs; these are the denser ones, with 16k features.
    *(
        Pattern(
            f"gemmascope2-{size}-l{{L}}",
            f"gemma-scope-2-{size}-pt-res-all",
            "layer_{L}_width_16k_l0_big",
            range(layers),
        )
        for size, layers in (("270m", 18), ("1b", 26), ("4b", 34), ("12b", 48), ("27b", 62))
    ),
    Pattern("llamascope-l{L}", "llama_scope_lxr_8x", "l{L}r_8x", range(32)),
    Pattern("llamascope-l{L}-131k", "llama_scope_lxr_32x", "l{L}r_32x", range(32)),
    Pattern("llamascope-mlp-l{L}", "llama_scope_lxm_8x", "l{L}m_8x", range(32)),
    Pattern("llamascope-att-l{L}", "llama_scope_lxa_8x", "l{L}a_8x", range(32)),
    Pattern("qwenscope-1.7b-l{L}", "qwen-scope-3-1.7b-base-w32k-l50", "layer{L}", range(28)),
    Pattern("qwenscope-8b-l{L}", "qwen-scope-3-8b-base-w64k-l50", "layer{L}", range(36)),
)


@cache
def short_names() -> dict[str, tuple[str, str]]:
    """Return the release and the ``sae_id`` of every short name."""
    return {
        pattern.name.format(L=layer): (pattern.release, pattern.sae_id.format(L=layer))
        for pattern in PATTERNS
        for layer in pattern.layers
    }


@cache
def models_by_name() -> dict[str, str]:
    """Return the model of every short name and of every SAE included in this program."""
    models = {(one.release, one.sae_id): one.model for one in known_saes()}
    return {row["name"]: row["model"] for row in search_demo("")} | {
        name: models[sae] for name, sae in short_names().items() if sae in models
    }


def resolve(text: str, *, hook: str | None = None) -> tuple[str, str, str]:
    """Return release, id and name of an SAE that is neither included nor a folder.

    Parameters
    ----------
    text
        A short name, an id or page of Neuronpedia, ``RELEASE:SAE_ID`` or ``RELEASE/SAE_ID``.
    hook
        The site it reads, if that is passed.

    Raises
    ------
    UnknownName
        If there is no such SAE; the message lists near names of the same model.
    Mismatch
        If its own site cannot be read, and none is passed.
    """
    release, colon, sae_id = text.partition(":")
    name = text
    if text in short_names():
        release, sae_id = short_names()[text]
    elif known := by_neuronpedia(text):
        release, sae_id, name = known.release, known.sae_id, known.neuronpedia
    elif not colon:
        known = by_release(text)
        if known is None:
            raise unknown(
                "SAE",
                text,
                models_by_name(),
                models=models_by_name(),
                hint="`atlas saes` searches the SAEs of sae-lens, which are named RELEASE:SAE_ID; a local "
                "SAE is named by its folder.",
            )
        release, sae_id, name = known.release, known.sae_id, known.name
    known = by_release(f"{release}/{sae_id}")
    if known and known.needs_site and hook is None:
        raise Mismatch(f"The SAE {known.name} cannot be used by its name: {known.needs_site}.")
    return release, sae_id, name


def demo_names() -> list[str]:
    """Return the names of the SAEs that are included in this program."""
    return sorted(path.parent.name for path in DEMO_SAES.glob("*/cfg.json"))


def search_demo(words: str) -> list[dict[str, Any]]:
    """Return the SAEs included in this program whose name, model or site contains every word.

    The rows are those of ``search_saes``, with ``cached`` true.
    """
    rows = []
    for name in demo_names():
        config = read_json_object(DEMO_SAES / name / "cfg.json")
        model = str(config["metadata"]["model_name"])
        site = str(config["metadata"]["hook_name"])
        if all(word in f"{name} {model} {site} demo" for word in words.lower().split()):
            row: dict[str, Any] = {
                "name": name,
                "short": "",
                "model": model,
                "site": site,
                "width": str(config["d_sae"]),
            }
            l0 = float(config["k"]) if "k" in config else None
            rows.append(row | {"l0": l0, "neuronpedia": "", "cached": True, "refused": None})
    return rows
