"""Sites: the modules of a transformers model that correspond to TransformerLens hook names.

A site is the input or the output of one module. Each family of architectures is
one row of a table of module paths. For a model in no row only the residual stream
is known: the embedding, and the input and output of each block.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from atlas.errors import Mismatch, UnknownName

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = [
    "LAYOUTS",
    "DeepestSiteRead",
    "Layout",
    "SiteModule",
    "depth",
    "embedding_shape",
    "find_site_module",
    "layout_of",
    "parse_hook",
    "reading",
    "why_unreadable",
]

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Layout:
    """Module paths of a family: ``blocks`` within the model, all others within a block.

    The path of a site is None if the family does not have the site or its module is not known.

    Parameters
    ----------
    blocks
        The list of blocks. A block's input is ``hook_resid_pre``, its output ``hook_resid_post``.
    attn_out
        Its output is the vector that attention adds to the stream: ``hook_attn_out``.
    mid
        Its input is the stream after attention: ``hook_resid_mid``. None where
        attention and MLP read the same stream.
    mlp
        Its input is what the MLP reads, after the norm and its gain: ``mlp.hook_in``.
    mlp_out
        Its output is the vector that the MLP adds to the stream: ``hook_mlp_out``.
    post
        Its input is the MLP's hidden layer: ``mlp.hook_post``.
    z
        Its input is the concatenated outputs of the heads: ``attn.hook_z``, flat.
    """

    blocks: str
    attn_out: str | None = None
    mid: str | None = None
    mlp: str | None = "mlp"
    mlp_out: str | None = None
    post: str | None = None
    z: str | None = None


_LLAMA = Layout(
    blocks="layers",
    attn_out="self_attn",
    mid="post_attention_layernorm",
    mlp_out="mlp",
    post="mlp.down_proj",
    z="self_attn.o_proj",
)
# Gemma 2 and 3 normalise the outputs of attention and MLP before adding them to the stream.
_GEMMA2 = replace(
    _LLAMA,
    attn_out="post_attention_layernorm",
    mid="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)
_GPT2 = Layout(
    blocks="h", attn_out="attn", mid="ln_2", mlp_out="mlp", post="mlp.c_proj", z="attn.c_proj"
)
_NEOX = Layout(
    blocks="layers",
    attn_out="attention",
    mid="post_attention_layernorm",  # layout_of removes it where the blocks are parallel
    mlp_out="mlp",
    post="mlp.dense_4h_to_h",
    z="attention.dense",
)
_PHI = Layout(
    blocks="layers", attn_out="self_attn", mlp_out="mlp", post="mlp.fc2", z="self_attn.dense"
)

#: Rows by transformers' ``model_type``. Each is tested: resid_pre + attn_out + mlp_out = resid_post.
LAYOUTS: dict[str, Layout] = {
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "gpt2": _GPT2,
    "gpt_neo": replace(_GPT2, z="attn.attention.out_proj"),
    "gpt_neox": _NEOX,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "phi": _PHI,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    # Not a language model: ingest.model.synthetic_features.
    "synthetic_features": Layout(blocks="layers", mlp_out="mlp", post="mlp.down_proj"),
}

#: By the part of a hook name after ``blocks.L.``: the field of the layout (None: the block
#: itself) and the side read, in the order of computation.
_WITHIN: dict[str, tuple[str | None, Side]] = {
    "hook_resid_pre": (None, "input"),
    "attn.hook_z": ("z", "input"),
    "hook_attn_out": ("attn_out", "output"),
    "hook_resid_mid": ("mid", "input"),
    "mlp.hook_in": ("mlp", "input"),
    "mlp.hook_post": ("post", "input"),
    "hook_mlp_out": ("mlp_out", "output"),
    "hook_resid_post": (None, "output"),
}


@dataclass(frozen=True)
class SiteModule:
    """A site in a loaded model: the module, the side read, and the length of the vectors."""

    module: "nn.Module"
    side: Side
    width: int


def parse_hook(hook: str, *, model: str, layers: int) -> tuple[int | None, str]:
    """Return the block of a hook name (None at the embedding) and the rest of the name.

    Raises
    ------
    UnknownName
        If a model of ``layers`` blocks has no such site; the message lists the nearest names.
    """
    if hook == "hook_embed":
        return None, hook
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    if match and match[2] in _WITHIN and int(match[1]) < layers:
        return int(match[1]), match[2]
    known = [f"blocks.{layer}.{rest}" for layer in range(layers) for rest in _WITHIN]
    raise UnknownName(
        f"site of {model}",
        hook,
        known=["hook_embed", *known],
        hint=f"The model has blocks 0 to {layers - 1}.",
    )


def why_unreadable(hook: str) -> str:
    """Return why no module of transformers returns a site of TransformerLens, and what to do; else "".

    Examples
    --------
    >>> why_unreadable("blocks.3.hook_resid_post")
    ''
    >>> print(why_unreadable("blocks.3.ln2.hook_normalized"))  # doctest: +ELLIPSIS
    it reads blocks.3.ln2.hook_normalized, ... pass hook='blocks.3.mlp.hook_in' to ingest.open_sae in Python
    """
    norm, _, last = hook.rpartition(".")
    if last != "hook_normalized":
        return ""
    reason = f"it reads {hook}, the output of a norm before its gain, which no module of transformers returns"
    if not norm.endswith(".ln2"):
        return (
            f"{reason}. If it was trained on another site, pass hook= to ingest.open_sae in Python"
        )
    block = norm.removesuffix(".ln2")
    return (
        f"{reason}. If it was trained on the input of the MLP, pass hook='{block}.mlp.hook_in' to "
        "ingest.open_sae in Python"
    )


def depth(hook: str, *, model: str, layers: int) -> tuple[int, int]:
    """Return the depth of a site as a sortable key.

    The output of a block has the same depth as the input of the next one.

    Raises
    ------
    UnknownName
        As ``parse_hook`` does.
    """
    layer, rest = parse_hook(hook, model=model, layers=layers)
    if layer is None:
        return -1, 0
    return (layer + 1, 0) if rest == "hook_resid_post" else (layer, list(_WITHIN).index(rest))


def layout_of(base: "PreTrainedModel") -> Layout:
    """Return the layout of a model without head; of an unknown architecture, its blocks alone.

    Raises
    ------
    Mismatch
        If the model has no unique list of blocks.
    """
    config = base.config
    known = LAYOUTS.get(config.model_type)
    if known is None:
        return Layout(blocks=_only_list(base), mlp=None)
    if config.model_type == "gpt_neox" and config.use_parallel_residual:
        return replace(known, mid=None)
    return known


def find_site_module(
    base: "PreTrainedModel", layout: Layout, hook: str, *, name: str, layers: int
) -> SiteModule:
    """Return the module to read for a hook name in a model of ``layers`` blocks.

    If the block of the site is not loaded, the module and width are those of the last
    loaded block.

    Raises
    ------
    UnknownName
        If the model has no such site.
    Mismatch
        If this architecture has no such site, or its module is not known.
    """
    from transformers.pytorch_utils import Conv1D

    blocks: Any = base.get_submodule(layout.blocks)
    layer, rest = parse_hook(hook, model=name, layers=layers)
    if layer is None:
        return SiteModule(base.get_input_embeddings(), "output", embedding_shape(base)[1])
    block = blocks[min(layer, len(blocks) - 1)]
    field, side = _WITHIN[rest]
    if field is None:
        return SiteModule(block, side, base.config.hidden_size)
    path = getattr(layout, field)
    if path is None:
        raise Mismatch(_no_such_site(base.config, hook, name))
    module: Any = block.get_submodule(path)
    if field not in ("post", "z"):
        return SiteModule(module, side, base.config.hidden_size)
    fan_in = module.weight.shape[0] if isinstance(module, Conv1D) else module.in_features
    return SiteModule(module, side, int(fan_in))


def embedding_shape(base: "PreTrainedModel") -> tuple[int, int]:
    """Return the number of token ids of a model and the width of their embeddings."""
    embedding: Any = base.get_input_embeddings()
    rows, width = embedding.weight.shape
    return int(rows), int(width)


def _no_such_site(config: "PretrainedConfig", hook: str, name: str) -> str:
    if config.model_type in LAYOUTS:
        return (
            f"{name} ({config.model_type}) has no {hook}: its attention and MLP read the same "
            "stream. Use hook_resid_pre or hook_resid_post of that block."
        )
    return (
        f"{hook} of {name} cannot be read: its module in the architecture {config.model_type} is not "
        "known. Use hook_resid_pre or hook_resid_post of that block, or a model of one of these "
        f"architectures: {', '.join(LAYOUTS)}."
    )


def _only_list(base: "PreTrainedModel") -> str:
    from torch import nn

    lists = [
        name
        for name, child in base.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == base.config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise Mismatch(
            f"The blocks of a {type(base).__name__} were not found (architecture "
            f"{base.config.model_type}). Known architectures: {', '.join(LAYOUTS)}."
        )
    return lists[0]


class DeepestSiteRead(Exception):
    """Raised to end a forward pass once all requested sites have been read."""


@contextmanager
def reading(
    base: "nn.Module", sites: Mapping[str, SiteModule]
) -> Iterator[dict[str, "torch.Tensor"]]:
    """Collect the activations of some sites; raise ``DeepestSiteRead`` at the last one.

    Afterwards the hooks are removed and the training mode of each module is restored.
    """
    seen: dict[str, torch.Tensor] = {}

    def record(hook: str, value: Any) -> None:
        # A copy: some blocks add to the stream in place afterwards.
        seen[hook] = (value[0] if isinstance(value, tuple) else value).clone()
        if len(seen) == len(sites):
            raise DeepestSiteRead

    def record_input(_: "nn.Module", args: Any, named: Any, *, hook: str) -> None:
        record(hook, args[0] if args else named["hidden_states"])

    def record_output(_: "nn.Module", __: Any, output: Any, *, hook: str) -> None:
        record(hook, output)

    with ExitStack() as undo:
        for module in [module for module in base.modules() if module.training]:
            undo.callback(setattr, module, "training", True)
            module.training = False
        for hook, site in sites.items():
            if site.side == "input":
                handle = site.module.register_forward_pre_hook(
                    partial(record_input, hook=hook), with_kwargs=True
                )
            else:
                handle = site.module.register_forward_hook(partial(record_output, hook=hook))
            undo.callback(handle.remove)
        yield seen
