"""Where in a transformers model a TransformerLens hook name is read.

A place is the input or the output of one module. Each family of architectures
is one row of a table of module paths. Of a model in no row only the stream
itself is known: the embedding, and what goes into and comes out of each block.
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
]

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Layout:
    """Module paths of a family: ``blocks`` within the model, all others within a block.

    A place a family does not have, or where it is not known, is None.

    Parameters
    ----------
    blocks
        The list of blocks. A block's input is ``hook_resid_pre``, its output ``hook_resid_post``.
    attn_out
        Its output is what attention adds to the stream: ``hook_attn_out``.
    mid
        Its input is the stream after attention: ``hook_resid_mid``. None where
        attention and MLP read the same stream.
    mlp_out
        Its output is what the MLP adds to the stream: ``hook_mlp_out``.
    post
        Its input is the MLP's hidden layer: ``mlp.hook_post``.
    z
        Its input is the heads' outputs side by side: ``attn.hook_z``, flat.
    """

    blocks: str
    attn_out: str | None = None
    mid: str | None = None
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
# Gemma 2 and 3 norm what attention and MLP give before it is added.
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
    mid="post_attention_layernorm",  # taken away by layout_of where the blocks are parallel
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
}

#: What follows ``blocks.L.`` in a hook name: the layout's field (None: the block itself), and the side read.
#: In the order in which they are computed.
_WITHIN: dict[str, tuple[str | None, Side]] = {
    "hook_resid_pre": (None, "input"),
    "attn.hook_z": ("z", "input"),
    "hook_attn_out": ("attn_out", "output"),
    "hook_resid_mid": ("mid", "input"),
    "mlp.hook_post": ("post", "input"),
    "hook_mlp_out": ("mlp_out", "output"),
    "hook_resid_post": (None, "output"),
}


@dataclass(frozen=True)
class SiteModule:
    """One place in a loaded model: the module, the side read, and the vectors' length."""

    module: "nn.Module"
    side: Side
    width: int


def parse_hook(hook: str, *, model: str, layers: int) -> tuple[int | None, str]:
    """Return the block of a hook name (None at the embedding) and the rest of the name.

    Raises
    ------
    UnknownName
        If it is no place in a model of so many blocks; the nearest names are told.
    """
    if hook == "hook_embed":
        return None, hook
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    if match and match[2] in _WITHIN and int(match[1]) < layers:
        return int(match[1]), match[2]
    known = [f"blocks.{layer}.{rest}" for layer in range(layers) for rest in _WITHIN]
    raise UnknownName(
        f"place in {model}",
        hook,
        known=["hook_embed", *known],
        hint=f"The model has blocks 0 to {layers - 1}.",
    )


def depth(hook: str, *, model: str, layers: int) -> tuple[int, int]:
    """Return how late a place is computed, to be compared: what leaves a block is what enters the next.

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
    """Return the row of a model without head, or what can be told of one in no row.

    Raises
    ------
    Mismatch
        If no list of blocks is found in the model.
    """
    config = base.config
    known = LAYOUTS.get(config.model_type)
    if known is None:
        return Layout(blocks=_only_list(base))
    if config.model_type == "gpt_neox" and config.use_parallel_residual:
        return replace(known, mid=None)
    return known


def find_site_module(
    base: "PreTrainedModel", layout: Layout, hook: str, *, name: str, layers: int
) -> SiteModule:
    """Return the module to read for a hook name in a model of so many blocks.

    Where the model was loaded without its upper blocks, the width at one of
    these is taken from the last block there is.

    Raises
    ------
    UnknownName
        If it is no place in such a model.
    Mismatch
        If this architecture has no such place, or none that is known.
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
    """Return the number of token ids a model knows and the width of their vectors."""
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
        f"{hook} of {name} cannot be read: where it lies in the architecture {config.model_type} "
        "is not known. Use hook_resid_pre or hook_resid_post of that block, or one of "
        f"{', '.join(LAYOUTS)}."
    )


def _only_list(base: "PreTrainedModel") -> str:
    from torch import nn

    whole = [
        name
        for name, child in base.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == base.config.num_hidden_layers
    ]
    if len(whole) != 1:
        raise Mismatch(
            f"The blocks of a {type(base).__name__} were not found (architecture "
            f"{base.config.model_type}). Architectures that are known: {', '.join(LAYOUTS)}."
        )
    return whole[0]


class DeepestSiteRead(Exception):
    """All places that were asked for have been read: the way out of a forward pass."""


@contextmanager
def reading(
    base: "nn.Module", spots: Mapping[str, SiteModule]
) -> Iterator[dict[str, "torch.Tensor"]]:
    """Collect by name what passes some places; at the last of them ``DeepestSiteRead`` ends the pass.

    The model is left as it was: without hooks, and with dropout where it was on.
    """
    seen: dict[str, torch.Tensor] = {}

    def see(hook: str, value: Any) -> None:
        # A copy: some blocks add to the stream in place afterwards.
        seen[hook] = (value[0] if isinstance(value, tuple) else value).clone()
        if len(seen) == len(spots):
            raise DeepestSiteRead

    def see_input(_: "nn.Module", args: Any, named: Any, *, hook: str) -> None:
        see(hook, args[0] if args else named["hidden_states"])

    def see_output(_: "nn.Module", __: Any, output: Any, *, hook: str) -> None:
        see(hook, output)

    with ExitStack() as undo:
        for module in [module for module in base.modules() if module.training]:
            undo.callback(setattr, module, "training", True)
            module.training = False
        for hook, spot in spots.items():
            if spot.side == "input":
                handle = spot.module.register_forward_pre_hook(
                    partial(see_input, hook=hook), with_kwargs=True
                )
            else:
                handle = spot.module.register_forward_hook(partial(see_output, hook=hook))
            undo.callback(handle.remove)
        yield seen
