"""Random SAEs of every architecture, vectors for them, and their codes as matrices."""

from itertools import pairwise
from typing import Any

import numpy as np
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.transcoder import (
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
)

HOOK = "blocks.1.hook_resid_post"

#: Sites that transcoders read, and that their output approximates.
READS, WRITES = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"


KINDS = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
}

TRANSCODERS = {
    "transcoder": (sae_lens.Transcoder, sae_lens.TranscoderConfig),
    "skip_transcoder": (sae_lens.SkipTranscoder, sae_lens.SkipTranscoderConfig),
    "jumprelu_transcoder": (JumpReLUTranscoder, JumpReLUTranscoderConfig),
    "jumprelu_skip_transcoder": (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig),
}


def metadata(**more: Any) -> SAEMetadata:
    return SAEMetadata(**({"model_name": "small", "hook_name": HOOK} | more))


def random_sae(kind: str, *, d_in: int = 24, d_sae: int = 40, seed: int = 0, **more: Any) -> Any:
    """Return an SAE with random parameters and thresholds above 0."""
    torch.manual_seed(seed)
    cls, config, own = KINDS[kind]
    return _filled(cls(config(d_in=d_in, d_sae=d_sae, **(own | {"metadata": metadata()} | more))))


def random_transcoder(
    kind: str,
    *,
    d_in: int = 24,
    d_out: int = 24,
    reads: str = READS,
    writes: str = WRITES,
    seed: int = 0,
    d_sae: int = 40,
    **more: Any,
) -> Any:
    """Return a transcoder with random parameters and thresholds above 0."""
    torch.manual_seed(seed)
    cls, config = TRANSCODERS[kind]
    at = metadata(hook_name=reads, hook_name_out=writes, **more)
    return _filled(
        cls(config(d_in=d_in, d_out=d_out, d_sae=d_sae, apply_b_dec_to_input=False, metadata=at))
    )


def _filled(sae: Any) -> Any:
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
