"""Random SAEs of every architecture, vectors for them, and their codes as matrices."""

from itertools import pairwise
from typing import Any

import numpy as np
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata

HOOK = "blocks.1.hook_resid_post"


KINDS = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
}


def metadata(**more: Any) -> SAEMetadata:
    return SAEMetadata(**({"model_name": "small", "hook_name": HOOK} | more))


def random_sae(kind: str, *, d_in: int = 24, d_sae: int = 40, seed: int = 0, **more: Any) -> Any:
    """Return an SAE with random parameters and thresholds above 0."""
    torch.manual_seed(seed)
    cls, config, own = KINDS[kind]
    sae = cls(config(d_in=d_in, d_sae=d_sae, **(own | {"metadata": metadata()} | more)))
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
            if name == "threshold":
                parameter.abs_()
    return sae


def vectors(rows: int = 50, *, d_in: int = 24, seed: int = 3) -> torch.Tensor:
    return torch.randn(rows, d_in, generator=torch.Generator().manual_seed(seed))


def dense(codes: Any, d_sae: int = 40) -> np.ndarray:
    """Check the form of sparse codes and return them as a matrix."""
    indptr, indices, values = codes
    assert (indptr.dtype, indices.dtype, values.dtype) == (np.int64, np.uint32, np.float32)
    assert indptr[0] == 0
    assert indptr[-1] == len(indices) == len(values)
    assert (values > 0).all()
    matrix = np.zeros((len(indptr) - 1, d_sae))
    for row, (first, last) in enumerate(pairwise(indptr)):
        assert (np.diff(indices[first:last].astype(int)) > 0).all()
        matrix[row, indices[first:last]] = values[first:last]
    return matrix
