"""Identity of a model: a chain of digests that covers every parameter, block by block.

The first digest covers the parameters before the blocks (embeddings). Each further
digest covers one block and the digest before it. Two models that were loaded to
different depths are therefore compared on the blocks that both have. A model that
differs in block 7 only is another model for every SAE that reads behind block 7. The
final norm is in no digest, since no site reads it.

Parts store the chain in their manifest, under ``sources.model.parameters``, as deep
as they read. Parts of older atlases store no chain; for them only ``weights``, a
sample, can be compared. If a stored chain has more blocks than are loaded, the other
blocks are read from the files of the model, one after the other.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from atlas.disk.parts import differ
from atlas.errors import BadInput
from ingest.folder_checks import read_json_object
from ingest.model.sites import parse_hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from atlas.disk.folder import Sound
    from atlas.disk.parts import Manifest
    from ingest.model.digest_cache import DigestCache

__all__ = ["Digests", "blocks_read", "unchecked", "without_digests"]

#: Names of the norm behind the last block, over all families.
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


class Digests:
    """The chain of one loaded model, computed to the depth that is requested.

    Parameters
    ----------
    base
        The transformers model without head.
    blocks
        The path of its list of blocks.
    files
        The folder of its safetensors files; None if there is none.
    deeper
        Loads the same model with that number of blocks and returns its chain. None for a
        model in memory, all of which is loaded.
    cache
        The stored chain of its files. None if the parameters may differ from the files.
    """

    def __init__(
        self,
        base: "nn.Module",
        blocks: str,
        *,
        files: Path | None = None,
        deeper: "Callable[[int], Digests] | None" = None,
        cache: "DigestCache | None" = None,
    ) -> None:
        self._base, self._blocks = base, blocks
        self._files, self._deeper, self._cache = files, deeper, cache
        self._chain: list[str] = []  # from the cache, it may have blocks that are not loaded

    def upto(self, blocks: int) -> tuple[str, ...]:
        """Return the chain up to a number of blocks, at most the loaded ones.

        Returns
        -------
            At most ``blocks + 1`` digests, each the first 32 hex digits of a SHA-256 over
            names, shapes, number formats and bytes of parameters and persistent buffers.
        """
        loaded: Any = self._base.get_submodule(self._blocks)
        deepest = min(blocks, len(loaded))
        if not self._chain and self._cache is not None:
            self._chain.extend(self._cache.read())
        if len(self._chain) <= deepest:
            self._extend(loaded, deepest)
        return tuple(self._chain[: deepest + 1])

    def _extend(self, loaded: Any, deepest: int) -> None:
        if not self._chain:
            outside = {
                name: value
                for name, value in self._base.state_dict().items()
                if not name.startswith(f"{self._blocks}.")
                and name.partition(".")[0] not in FINAL_NORMS
            }
            self._chain.append(_digest("", outside))
        for number in range(len(self._chain) - 1, deepest):
            self._chain.append(_digest(self._chain[-1], loaded[number].state_dict()))
        if self._cache is not None:
            self._cache.write(self._chain)

    def differ_from(self, stored: Sequence[str]) -> bool:
        """Return whether a stored chain belongs to another model.

        Blocks that are not loaded are read from the files. If the digests of the files differ,
        the model is loaded to the depth of the chain: files may hold parameters in another form.
        """
        if not stored:
            return False
        blocks = len(stored) - 1
        chain = self.upto(blocks)
        if differ(chain, stored) or len(chain) == len(stored) or self._deeper is None:
            return differ(chain, stored)
        if len(self._chain) >= len(stored):
            return differ(self._chain, stored)
        if self._from_files(chain, blocks) == tuple(stored):
            if self._cache is not None:
                self._chain = list(stored)
                self._cache.write(self._chain)
            return False
        return differ(self._deeper(blocks).upto(blocks), stored)

    def _from_files(self, chain: tuple[str, ...], blocks: int) -> tuple[str, ...]:
        """Extend a chain by blocks that are only in the files; return it unchanged on failure.

        The last loaded block shows how the names and number formats of the model correspond to
        those of its files.
        """
        from safetensors import SafetensorError

        if self._files is None:
            return chain
        last, loaded = len(chain) - 2, self._base.get_submodule(self._blocks)
        like: Mapping[str, torch.Tensor] = cast(Any, loaded)[last].state_dict()
        try:
            files = _Files(self._files)
            for prefix in files.prefixes(f"{self._blocks}.{last}.{min(like)}"):
                at = f"{prefix}{self._blocks}"
                if _digest("", files.block(f"{at}.{last}.", like)) == _digest("", like):
                    for number in range(last + 1, blocks):
                        tensors = files.block(f"{at}.{number}.", like)
                        chain = (*chain, _digest(chain[-1], tensors))
                    return chain
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            BadInput,
            SafetensorError,
        ):
            pass  # loading the model reports what is wrong with its files
        return chain


class _Files:
    """The tensors of a folder of safetensors files, by name."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        index = folder / "model.safetensors.index.json"
        names = {"model.safetensors"}
        if index.exists():
            # Only files of this folder, whatever the index names.
            names = {Path(name).name for name in read_json_object(index)["weight_map"].values()}
        opened: list[Any] = [safe_open(folder / name, framework="pt") for name in sorted(names)]
        self._file_of = {key: file for file in opened for key in file.keys()}  # noqa: SIM118

    def prefixes(self, name: str) -> list[str]:
        """Return the prefixes that the files put before a parameter name of the model."""
        return [key.removesuffix(name) for key in self._file_of if f".{key}".endswith(f".{name}")]

    def block(self, prefix: str, like: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Return the tensors of a block, named and formatted like those of another block."""
        return {
            name: self._file_of[prefix + name].get_tensor(prefix + name).to(tensor.dtype)
            for name, tensor in like.items()
        }


def _digest(before: str, tensors: "Mapping[str, torch.Tensor]") -> str:
    import torch

    digest = hashlib.sha256(before.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def blocks_read(hooks: Iterable[str], *, model: str, layers: int) -> int:
    """Return the number of blocks that the deepest of some sites depends on.

    The input of a block does not depend on the parameters of that block.
    """
    needed = 0
    for hook in hooks:
        layer, rest = parse_hook(hook, model=model, layers=layers)
        if layer is not None:
            needed = max(needed, layer if rest == "hook_resid_pre" else layer + 1)
    return needed


def unchecked(sound: "Sound", model: str) -> str:
    """Return a warning about SAEs of a model whose parts store no digests; empty if there are none."""
    names = [
        part.manifest.name
        for part in sound.of("sae")
        if "parameters" not in part.manifest.sources["model"]
        and part.table("Model")["name"][0].as_py() == model
    ]
    if not names:
        return ""
    return (
        f"{', '.join(names)}: ingested by a version that recorded only a sample of the model's parameters. "
        "Whether the model is the same could not be checked completely. `atlas ingest --replace` records "
        "all parameters."
    )


def without_digests(manifest: "Manifest") -> "Manifest":
    """Return a manifest in the form of atlases that did not store chains of digests."""
    model = {k: v for k, v in manifest.sources["model"].items() if k not in ("name", "parameters")}
    return replace(manifest, sources={**manifest.sources, "model": model})
