"""Language models of transformers, run up to the deepest site that is read."""

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
from ingest.model.random_weights import has_random_weights
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
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["LanguageModel", "Site", "open_model", "tokenizer_key"]

#: Values of each sampled parameter that go into ``LanguageModel.weights``.
SAMPLE = 1024


@dataclass(frozen=True)
class Site:
    """A site of a model, at which activations are read.

    Parameters
    ----------
    hook
        Its TransformerLens name.
    layer
        The number of its block, from 0; None at the embedding.
    width
        Length of its vectors.
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
        Its hub name or folder, or ``"memory"``.
    revision
        Commit of the hub repository, if any.
    architecture
        transformers' name of the family (``model_type``): ``"gemma2"``.
    d_model
        Width of the residual stream.
    layers
        Number of blocks of the complete model, loaded or not.
    dtype
        Number format it runs in: ``"float32"``.
    device
        Device it runs on.
    weights
        SHA-256 (hex) over its configuration and a sample of its parameters. Of the
        configuration it covers the differences from the defaults of its class, without
        dtype, caching and library version. Of the embedding and the first block it
        covers names, shapes and up to 1,024 evenly spaced values of each parameter, as
        float32. It depends on ``dtype``, but not on the number of loaded blocks. It
        does not cover the other blocks; ``parameters`` does.
    tokenizer
        A fast tokenizer of transformers.
    tokenizer_key
        See the function ``tokenizer_key``.
    base
        The transformers model without head, possibly without its upper blocks.
    layout
        The modules of its sites.
    digests
        Its chain of digests over every parameter; ``parameters`` reads it.
    random
        Whether its folder is marked as one whose weights ``atlas random-weights`` drew.
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
    random: bool = False

    def parameters(self, hooks: Iterable[str]) -> tuple[str, ...]:
        """Return digests of all parameters that the sites depend on.

        Parameters
        ----------
        hooks
            The sites, by TransformerLens name.

        Returns
        -------
            One digest of the embeddings and one of each block, each also covering those before
            it; see ``ingest.model.identity``. Blocks that are not loaded have no digest.
        """
        return self.digests.upto(blocks_read(hooks, model=self.name, layers=self.layers))

    def differs_from(self, stored: Sequence[str]) -> bool:
        """Return whether stored digests belong to another model.

        All stored digests are compared. Blocks that are not loaded are read from the files.
        """
        return self.digests.differ_from(stored[: self.layers + 1])

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the tokenizer's vocabulary, added ones included."""
        return len(self.tokenizer)

    def site(self, hook: str) -> Site:
        """Return the site with this TransformerLens name.

        Raises
        ------
        UnknownName
            If the model has no such site; the message lists the nearest names.
        Mismatch
            If this architecture has no such site, or its module is not known.
        """
        layer, _ = parse_hook(hook, model=self.name, layers=self.layers)
        return Site(hook, layer, self._site_module(hook).width)

    def run(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, hooks: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Run the model up to the deepest of some sites and return their activations.

        Parameters
        ----------
        input_ids, attention_mask
            Integers of shape (batch, position); the mask is 0 at padding, which
            must be at the right.
        hooks
            Sites to read, by TransformerLens name.

        Returns
        -------
            By hook, a tensor of shape (batch, position, width) on the model's
            device, in its number format. Its values at padding are undefined.

        Raises
        ------
        UnknownName, Mismatch
            As ``site`` does, or if the model was opened without the blocks that
            are needed.
        BadInput
            If a token id is not in the model's vocabulary, or a context is longer
            than the model allows.
        OutOfSpace
            If the batch does not fit into memory.
        """
        modules = {hook: self._loaded_site_module(hook) for hook in hooks}
        self._check(input_ids)
        with (
            memory_errors(f"a batch of {tuple(input_ids.shape)} tokens in {self.name}"),
            ieee_float32(),
            torch.inference_mode(),
            reading(self.base, modules) as seen,
            suppress(DeepestSiteRead),
        ):
            self.base(
                input_ids=input_ids.to(self.device),
                attention_mask=attention_mask.to(self.device),
                use_cache=False,
            )
        return {hook: seen[hook] for hook in modules}

    def _site_module(self, hook: str) -> SiteModule:
        return find_site_module(self.base, self.layout, hook, name=self.name, layers=self.layers)

    def _loaded_site_module(self, hook: str) -> SiteModule:
        layer, _ = parse_hook(hook, model=self.name, layers=self.layers)
        loaded = self.base.config.num_hidden_layers
        if layer is not None and layer >= loaded:
            raise Mismatch(
                f"{self.name} was opened with its first {loaded} of {self.layers} blocks, so {hook} "
                "cannot be read. Name that hook when opening the model."
            )
        return self._site_module(hook)

    def _check(self, input_ids: torch.Tensor) -> None:
        longest = getattr(self.base.config, "max_position_embeddings", None)
        if longest is not None and input_ids.shape[1] > longest:
            raise BadInput(
                f"{self.name} takes contexts of at most {longest} tokens, and {input_ids.shape[1]} were "
                "passed. Use shorter contexts."
            )
        rows = embedding_shape(self.base)[0]
        if input_ids.numel() and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < rows:
            raise BadInput(
                f"{self.name} has token ids from 0 to {rows - 1}, and ids from {int(input_ids.min())} to "
                f"{int(input_ids.max())} were passed. Use the model's own tokenizer."
            )


def open_model(
    model_or_name: "str | Path | PreTrainedModel",
    *,
    name: str | None = None,
    tokenizer: Any = None,
    hooks: Iterable[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    cached_digests: bool = False,
) -> LanguageModel:
    """Open a causal language model of transformers.

    Parameters
    ----------
    model_or_name
        A hub name (``"google/gemma-2-2b"``, or a short name of TransformerLens such
        as ``"gemma-2-2b"``), the name of a demo model, a folder, or a model in memory.
        A model in memory retains all its blocks, and is moved or cast only if ``device``
        or ``dtype`` requests it.
    name
        Its name in the atlas; by default the hub name, or the name of the folder.
    tokenizer
        Its tokenizer, or a hub name or folder to load one from. By default the
        model's own; required for a model in memory.
    hooks
        Sites that will be read. Blocks above the deepest one are not loaded. If
        empty, all blocks are loaded.
    device
        ``"auto"`` uses cuda, else mps, else cpu; it does not move a model in memory.
    dtype
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. ``"auto"`` is float32 for a
        model from files, and does not cast a model in memory.
    revision
        Branch, tag or commit at the hub.
    kwargs
        More arguments for transformers' ``from_pretrained``.
    cached_digests
        Take its digests from the cache while its files are unchanged. Only for a caller that
        never changes its parameters; they are not compared with the files.

    Raises
    ------
    Missing
        If it is not on this machine and cannot be downloaded.
    BadInput
        If it cannot be used: no such folder, weights missing, no fast tokenizer.
    UnknownName, Mismatch
        If it has no site of a name in ``hooks``, or the tokenizer is another model's.
    OutOfSpace
        If it does not fit into memory.
    """
    hooks = list(hooks)
    if isinstance(model_or_name, str | Path):
        loaded = load_model(
            model_or_name,
            hooks=hooks,
            device=device,
            dtype=dtype,
            revision=revision,
            kwargs=kwargs or {},
        )
    else:
        loaded = adopt_model(model_or_name, device=device, dtype=dtype)
    if tokenizer is not None:
        tokenizer = fast_tokenizer(tokenizer)
    elif loaded.path is not None:
        tokenizer = fast_tokenizer(loaded.path, revision=revision)
    else:
        raise BadInput(
            f"A {type(model_or_name).__name__} in memory was passed without its tokenizer. Pass tokenizer=, "
            "the tokenizer or its hub name or folder."
        )
    deeper = None
    if isinstance(model_or_name, str | Path):
        options = {
            "tokenizer": tokenizer,
            "dtype": dtype,
            "revision": revision,
            "kwargs": kwargs,
            "cached_digests": cached_digests,
        }
        deeper = partial(_digests, model_or_name, **options)
    digests = Digests(
        loaded.base,
        layout_of(loaded.base).blocks,
        files=folder_of_files(loaded),
        deeper=deeper,
        cache=loaded.cache if cached_digests else None,
    )
    model = _describe(loaded, name=name, tokenizer=tokenizer, digests=digests)
    for hook in hooks:
        model.site(hook)
    return model


def tokenizer_key(tokenizer: Any) -> str:
    """Return the first 12 hex digits of the SHA-256 of a fast tokenizer.

    The hash covers its serialisation (vocabulary, merges, normaliser, added tokens) as
    JSON with sorted keys. Truncation and padding are excluded, since calls may change them.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    del content["truncation"], content["padding"]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _digests(model_or_name: str | Path, blocks: int, **options: Any) -> Digests:
    """Open a model with a number of blocks and return its chain."""
    hook = f"blocks.{blocks - 1}.hook_resid_post"
    return open_model(model_or_name, hooks=[hook], device="cpu", **options).digests


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
            f"{rows}. Pass the model's own tokenizer."
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
        random=has_random_weights(folder_of_files(loaded)),
    )


def _weights(base: "PreTrainedModel", layout: Layout, config: "PretrainedConfig") -> str:
    differences = config.to_diff_dict()
    volatile = ("transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")
    settings = {k: v for k, v in differences.items() if k not in volatile and not k.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    blocks: Any = base.get_submodule(layout.blocks)
    for part in (base.get_input_embeddings(), blocks[0]):
        for name, parameter in sorted(part.named_parameters()):
            values = parameter.detach().flatten()
            sample = values[:: max(1, len(values) // SAMPLE)][:SAMPLE].float().cpu().contiguous()
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()
