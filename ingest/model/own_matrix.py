"""The weight matrix of a model whose rows are vectors at a site: what the model writes or reads there."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import Mismatch
from ingest.model.language_model import LanguageModel
from ingest.model.sites import parse_hook

__all__ = ["OwnMatrix", "own_matrix"]

#: The field of a layout with the matrix that writes to a site of its block.
_WRITER = {
    "hook_resid_post": "post",
    "hook_mlp_out": "post",
    "hook_resid_mid": "z",
    "hook_attn_out": "z",
}

#: The field of a layout with the matrix that reads a site within its block.
_READER = {"mlp.hook_post": "post", "attn.hook_z": "z"}


class OwnMatrix(NamedTuple):
    """A weight matrix: its name in the model, and its rows, float64 of shape (rows, width)."""

    name: str
    rows: NDArray[np.float64]


def own_matrix(model: LanguageModel, hook: str) -> OwnMatrix:
    """Return the weight matrix of a model that writes to a site, or reads it.

    For a residual stream it is the output matrix of the last MLP before the site, one row for
    each neuron; after attention it is the output matrix of the heads; before the first block it
    is the embedding, one row for each token id. Scales of a norm behind the matrix are ignored.
    For the neurons of an MLP and the outputs of attention heads it is the output matrix that
    reads them, one row for each dimension of the residual stream.

    Parameters
    ----------
    model
        The model, open up to the site.
    hook
        The site, by TransformerLens name.

    Raises
    ------
    Mismatch
        If no single matrix writes to the site or reads it, or its module is not known.
    UnknownName
        If the model has no such site.
    """
    layer, rest = parse_hook(hook, model=model.name, layers=model.layers)
    if layer is None or (layer, rest) == (0, "hook_resid_pre"):
        embedding: Any = model.base.get_input_embeddings()
        return OwnMatrix("embedding", _float64(embedding.weight))
    if rest == "hook_resid_pre":
        layer, rest = layer - 1, "hook_resid_post"
    field = _WRITER.get(rest) or _READER.get(rest)
    path = None if field is None else getattr(model.layout, field)
    if path is None:
        raise Mismatch(
            f"No known weight matrix of {model.name} ({model.architecture}) writes to {hook} or reads it. "
            "Sites in the residual stream of a known architecture have one."
        )
    blocks: Any = model.base.get_submodule(model.layout.blocks)
    module: Any = blocks[layer].get_submodule(path)
    by_input = _by_input(module)
    if rest in _READER:
        return OwnMatrix(f"blocks.{layer}.{path}, which reads the site", by_input.T)
    return OwnMatrix(f"blocks.{layer}.{path}", by_input)


def _by_input(module: Any) -> NDArray[np.float64]:
    """Return the weights of a linear module, (inputs, outputs)."""
    from transformers.pytorch_utils import Conv1D

    weight = module.weight if isinstance(module, Conv1D) else module.weight.T
    return _float64(weight)


def _float64(weight: Any) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = weight.detach().double().cpu().numpy()
    return rows
