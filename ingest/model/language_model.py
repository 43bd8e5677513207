"""Language models of transformers, run as far as the deepest place that is read."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atlas.errors import BadInput, Mismatch
from ingest.error_translation import memory_errors
from ingest.model.identity import Digests, blocks_read
from ingest.model.loading import Loaded, adopt_model, fast_tokenizer, folder_of_files, load_model
from ingest.model.sites import (
    DeepestSiteRead,
    Layout,
    SiteModule,
    embedding_shape,
    find_site_module,
    layout_of,
    parse_hook,
    reading,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["LanguageModel", "Site", "open_model", "tokenizer_key"]

#: Values of each sampled parameter that go into ``LanguageModel.weights``.
SAMPLE = 1024


@dataclass(frozen=True)
class Site:
    """A place in one model where activations are read.

    Parameters
    ----------
    hook
        Its TransformerLens name.
    layer
        The block it belongs to, from 0; None at the embedding.
    width
        Length of the vectors there.
    """

    hook: str
    layer: int | None
    width: int


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model without its head, with its tokenizer; see ``open_model``.

    Parameters
    ----------
    name
        Its name in the atlas.
    source
        Hub name or folder it came from, or ``"memory"``.
    revision
        Commit of the hub repository, where there is one.
    architecture
        transformers' name of the family (``model_type``): ``"gemma2"``.
    d_model
        Width of the residual stream.
    layers
        Number of blocks of the whole model, loaded or not.
    dtype
        Number format it runs in: ``"float32"``.
    device
        Where it runs.
    weights
        SHA-256 (hex) over its configuration (what differs from the defaults of
        its class; not dtype, caching or library version) and, for the embedding
        and the first block, names, shapes and up to 1,024 evenly spaced values
        of each parameter, as float32. It does not depend on how many blocks
        were loaded; it does on ``dtype``. Models that differ only above the
        first block have the same: ``parameters`` covers the rest.
    tokenizer
        A fast tokenizer of transformers.
    tokenizer_key
        See the function ``tokenizer_key``.
    base
        The transformers model without head; it may lack its upper blocks.
    layout
        Where its places are.
    digests
        Its chain of digests over every parameter; ``parameters`` reads it.
    """

    name: str
    source: str
    revision: str | None
    architecture: str
    d_model: int
    layers: int
    dtype: str
    device: torch.device
    weights: str
    tokenizer: Any
    tokenizer_key: str
    base: "PreTrainedModel"
    layout: Layout
    digests: Digests

    def parameters(self, hooks: Iterable[str]) -> tuple[str, ...]:
        """Return digests of every parameter that some sites depend on.

        Parameters
        ----------
        hooks
            The sites, by TransformerLens name.

        Returns
        -------
            One digest of the embeddings and one of each block, each over those before it
            as well; see ``ingest.model.identity``. Blocks that are not loaded have none.
        """
        return self.digests.upto(blocks_read(hooks, model=self.name, layers=self.layers))

    def is_another(self, stored: Sequence[str]) -> bool:
        """Return whether digests that were stored belong to another model.

        They are compared as deep as they go. Blocks of a model in files that are not loaded
        are read for it.
        """
        return self.digests.differ_from(stored[: self.layers + 1])

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the tokenizer's vocabulary, added ones included."""
        return len(self.tokenizer)

    def site(self, hook: str) -> Site:
        """Return the place of this TransformerLens name.

        Raises
        ------
        UnknownName
            If the model has no such place; the nearest names are told.
        Mismatch
            If this architecture has no such place, or none that is known.
        """
        layer, _ = parse_hook(hook, model=self.name, layers=self.layers)
        return Site(hook, layer, self._spot(hook).width)

    def run(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, hooks: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Run the model as far as the deepest of some places and return what is there.

        Parameters
        ----------
        input_ids, attention_mask
            Integers of shape (batch, position); the mask is 0 at padding, which
            stands at the right.
        hooks
            Places to read, by TransformerLens name.

        Returns
        -------
            By hook, a tensor of shape (batch, position, width) on the model's
            device, in its number format. At padding its values mean nothing.

        Raises
        ------
        UnknownName, Mismatch
            As ``place`` does, or if the model was opened without the blocks that
            are needed.
        BadInput
            If a token id is not in the model's vocabulary, or a context is longer
            than the model takes.
        OutOfRoom
            If the batch does not fit into memory.
        """
        spots = {hook: self._loaded_spot(hook) for hook in hooks}
        self._check(input_ids)
        with (
            memory_errors(f"a batch of {tuple(input_ids.shape)} tokens in {self.name}"),
            torch.inference_mode(),
            reading(self.base, spots) as seen,
            suppress(DeepestSiteRead),
        ):
            self.base(
                input_ids=input_ids.to(self.device),
                attention_mask=attention_mask.to(self.device),
                use_cache=False,
            )
        return {hook: seen[hook] for hook in spots}

    def _spot(self, hook: str) -> SiteModule:
        return find_site_module(self.base, self.layout, hook, name=self.name, layers=self.layers)

    def _loaded_spot(self, hook: str) -> SiteModule:
        layer, _ = parse_hook(hook, model=self.name, layers=self.layers)
        loaded = self.base.config.num_hidden_layers
        if layer is not None and layer >= loaded:
            raise Mismatch(
                f"{self.name} was opened with its first {loaded} of {self.layers} blocks, so {hook} "
                "cannot be read: name that hook when opening the model."
            )
        return self._spot(hook)

    def _check(self, input_ids: torch.Tensor) -> None:
        longest = getattr(self.base.config, "max_position_embeddings", None)
        if longest is not None and input_ids.shape[1] > longest:
            raise BadInput(
                f"{self.name} takes contexts of at most {longest} tokens, but was given "
                f"{input_ids.shape[1]}: take shorter contexts."
            )
        rows = embedding_shape(self.base)[0]
        if input_ids.numel() and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < rows:
            raise BadInput(
                f"{self.name} knows token ids from 0 to {rows - 1}, but was given ids from "
                f"{int(input_ids.min())} to {int(input_ids.max())}: use the model's own tokenizer."
            )


def open_model(
    given: "str | Path | PreTrainedModel",
    *,
    name: str | None = None,
    tokenizer: Any = None,
    hooks: Iterable[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> LanguageModel:
    """Open a causal language model of transformers.

    Parameters
    ----------
    given
        A hub name (``"google/gemma-2-2b"``; TransformerLens' short names such as
        ``"gemma-2-2b"`` too), a demo model's name, a folder, or a model in memory,
        which is used as it is: it stays whole, and moves only to a device or
        number format that is asked for.
    name
        Its name in the atlas; by default the hub name, or the folder's.
    tokenizer
        Its tokenizer, or a hub name or folder to load one from. By default the
        model's own; a model in memory must be given one.
    hooks
        Places that will be read. Blocks above the deepest are not loaded; with
        none named all blocks are.
    device
        ``"auto"`` takes cuda, else mps, else cpu, and leaves a model in memory
        where it is.
    dtype
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. ``"auto"`` is float32,
        whatever the files hold, and leaves a model in memory as it is.
    revision
        Branch, tag or commit at the hub.
    kwargs
        More arguments for transformers' ``from_pretrained``.

    Raises
    ------
    Missing
        If it is not on this machine and the hub does not give it.
    BadInput
        If it cannot be used: no such folder, weights missing, no fast tokenizer.
    UnknownName, Mismatch
        If it has no place of a name in ``hooks``, or the tokenizer is another model's.
    OutOfRoom
        If it does not fit into memory.
    """
    hooks = list(hooks)
    if isinstance(given, str | Path):
        loaded = load_model(
            given, hooks=hooks, device=device, dtype=dtype, revision=revision, kwargs=kwargs or {}
        )
    else:
        loaded = adopt_model(given, device=device, dtype=dtype)
    if tokenizer is not None:
        tokenizer = fast_tokenizer(tokenizer)
    elif loaded.path is not None:
        tokenizer = fast_tokenizer(loaded.path, revision=revision)
    else:
        raise BadInput(
            f"A {type(given).__name__} in memory was given without its tokenizer: "
            "give tokenizer=, the tokenizer or the name it is loaded by."
        )
    deeper = None
    if isinstance(given, str | Path):
        how = {"tokenizer": tokenizer, "dtype": dtype, "revision": revision, "kwargs": kwargs}
        deeper = partial(_digests, given, **how)
    digests = Digests(
        loaded.base, layout_of(loaded.base).blocks, files=folder_of_files(loaded), deeper=deeper
    )
    model = _describe(loaded, name=name, tokenizer=tokenizer, digests=digests)
    for hook in hooks:
        model.site(hook)
    return model


def tokenizer_key(tokenizer: Any) -> str:
    """Return the first 12 hex digits of the SHA-256 of a fast tokenizer.

    Hashed is its serialisation (vocabulary, merges, normaliser, added tokens) as
    JSON with sorted keys, without truncation and padding, which calls may change.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    del content["truncation"], content["padding"]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _digests(given: str | Path, blocks: int, **how: Any) -> Digests:
    """Return the chain of a model that is opened with so many blocks."""
    hook = f"blocks.{blocks - 1}.hook_resid_post"
    return open_model(given, hooks=[hook], device="cpu", **how).digests


def _describe(
    loaded: Loaded, *, name: str | None, tokenizer: Any, digests: Digests
) -> LanguageModel:
    base, config, layout = loaded.base, loaded.config, layout_of(loaded.base)
    weights = _weights(base, layout, config)
    name = name or loaded.name or f"{config.model_type}-{weights[:8]}"
    rows = embedding_shape(base)[0]
    if tokenizer.vocab_size > rows:
        raise Mismatch(
            f"The tokenizer has {tokenizer.vocab_size} tokens, but {name} has vectors for "
            f"{rows}: give the model's own tokenizer."
        )
    return LanguageModel(
        name=name,
        source=loaded.source,
        revision=loaded.revision,
        architecture=config.model_type,
        d_model=config.hidden_size,
        layers=config.num_hidden_layers,
        dtype=str(base.dtype).removeprefix("torch."),
        device=base.device,
        weights=weights,
        tokenizer=tokenizer,
        tokenizer_key=tokenizer_key(tokenizer),
        base=base,
        layout=layout,
        digests=digests,
    )


def _weights(base: "PreTrainedModel", layout: Layout, config: "PretrainedConfig") -> str:
    told = config.to_diff_dict()
    volatile = ("transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")
    settings = {k: v for k, v in told.items() if k not in volatile and not k.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    blocks: Any = base.get_submodule(layout.blocks)
    for part in (base.get_input_embeddings(), blocks[0]):
        for name, parameter in sorted(part.named_parameters()):
            values = parameter.detach().flatten()
            sample = values[:: max(1, len(values) // SAMPLE)][:SAMPLE].float().cpu().contiguous()
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()
