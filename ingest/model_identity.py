"""Which model this is: a chain of digests that covers every parameter, block by block.

The first digest covers what runs before the blocks (embeddings), each further one a
block and the digest before it. So two models that were opened to different depths
are compared as far as both go, and one that differs in block 7 only is another model
for whatever reads behind block 7. The final norm is in no digest: no site reads it.

Parts store the chain in their manifest, under ``sources.model.parameters``, as deep
as they read. Parts of older atlases have none: of these only ``weights``, a sample,
can be compared.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ingest.sites import parse_hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from atlas.parts import Manifest

__all__ = ["Digests", "blocks_read", "without_digests"]

#: What families call the norm behind the last block.
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


class Digests:
    """The chain of one loaded model, computed as deep as it is requested.

    Parameters
    ----------
    base
        The transformers model without head.
    blocks
        The path of its list of blocks.
    """

    def __init__(self, base: "nn.Module", blocks: str) -> None:
        self._base, self._blocks = base, blocks
        self._chain: list[str] = []

    def upto(self, blocks: int) -> tuple[str, ...]:
        """Return the chain up to a number of blocks, or to all that are loaded.

        Returns
        -------
            At most ``blocks + 1`` digests, each the first 32 hex digits of a SHA-256 over
            names, shapes, number formats and bytes of parameters and persistent buffers.
        """
        if not self._chain:
            outside = {
                name: value
                for name, value in self._base.state_dict().items()
                if not name.startswith(f"{self._blocks}.")
                and name.partition(".")[0] not in FINAL_NORMS
            }
            self._chain.append(_digest("", outside))
        loaded: Any = self._base.get_submodule(self._blocks)
        for number in range(len(self._chain) - 1, min(blocks, len(loaded))):
            self._chain.append(_digest(self._chain[-1], loaded[number].state_dict()))
        return tuple(self._chain[: blocks + 1])


def _digest(before: str, tensors: "Mapping[str, torch.Tensor]") -> str:
    import torch

    digest = hashlib.sha256(before.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def blocks_read(hooks: Iterable[str], *, model: str, layers: int) -> int:
    """Return how many blocks run before the deepest of some sites is complete.

    What enters a block depends on no parameter of that block.
    """
    needed = 0
    for hook in hooks:
        layer, rest = parse_hook(hook, model=model, layers=layers)
        if layer is not None:
            needed = max(needed, layer if rest == "hook_resid_pre" else layer + 1)
    return needed


def without_digests(manifest: "Manifest") -> "Manifest":
    """Return a manifest as it was written before atlases stored chains of digests."""
    model = {k: v for k, v in manifest.sources["model"].items() if k not in ("name", "parameters")}
    return replace(manifest, sources={**manifest.sources, "model": model})
