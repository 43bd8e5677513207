"""The unembedding of a model: how a vector in the residual stream changes the logits directly.

The logits of a causal language model are, for a stream ``x`` behind the last block::

    cap(W · (g ⊙ centre(x) / scale(x) + b) + c)

``g`` and ``b`` are the gain and bias of the final norm. ``centre`` subtracts the mean over the
dimensions in a LayerNorm and does nothing in an RMSNorm. ``scale`` is the standard deviation or
the root mean square. ``cap`` is Gemma 2's ``cap · tanh(· / cap)``, or nothing. The gain is folded
into ``W``, the rows of ``W`` are centred over the dimensions for a LayerNorm, and ``W`` is centred
over the vocabulary, since the softmax ignores a constant. Gemma's norms store ``g - 1``.

The scale, the cap and the constants ``b`` and ``c`` are no part of the direct logits of a vector:
they are the logits that it adds to a stream of scale 1, before the cap.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import Mismatch
from ingest.error_translation import memory_errors
from ingest.model.identity import FINAL_NORMS
from ingest.model.own_matrix import own_matrix
from ingest.model.sites import parse_hook
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.model.next_token import NextTokenModel

__all__ = ["Unembedding", "stream_rows", "unembedding"]

#: Largest difference of log-probabilities from the model's own: relative to their range.
_TOLERANCE = {"float32": 1e-3}
_HALF = 3e-2

#: What to do if memory does not suffice.
_FEWER = "use a model with a smaller vocabulary, or another device"

#: Families that normalise the output of attention and MLP before they add it to the stream.
_NORMALISED_OUTPUT = ("gemma2", "gemma3_text")


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The matrix from the residual stream to the logits.

    Parameters
    ----------
    matrix
        float32, (vocabulary, d_model). With the gain of the final norm, centred; see the module.
    softcap
        The cap of the logits; None without one.
    """

    matrix: torch.Tensor
    softcap: float | None

    def direct_logits(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the logits that vectors in the residual stream add directly, at a scale of 1.

        Parameters
        ----------
        rows
            (vectors, d_model). Vectors that are added to the stream.

        Returns
        -------
            float32, (vectors, vocabulary); the mean over the vocabulary is 0.

        Examples
        --------
        >>> one = Unembedding(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), None)
        >>> one.direct_logits(np.array([[2.0, 7.0]])).tolist()
        [[1.0, -1.0]]
        """
        needed = f"the direct logits of {len(rows):,} vectors"
        with memory_errors(needed, todo=_FEWER), torch.inference_mode(), ieee_float32():
            vectors = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
            logits = vectors.to(self.matrix.device) @ self.matrix.T
            found: NDArray[np.float32] = logits.cpu().numpy()
        return found


def unembedding(model: "NextTokenModel") -> Unembedding:
    """Return the unembedding of a model, checked against the logits of the model itself.

    Raises
    ------
    Mismatch
        If the final norm or the head of the model has another form than this module describes.
    """
    causal: Any = model.causal
    base = getattr(causal.base_model, "language_model", causal.base_model)
    norm = next((getattr(base, name) for name in FINAL_NORMS if hasattr(base, name)), None)
    head = causal.get_output_embeddings()
    if norm is None or head is None or getattr(norm, "weight", None) is None:
        raise Mismatch(_unknown(model, "its final norm or its head was not found"))
    config = causal.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    needed = f"the unembedding of {model.name} in float32"
    with memory_errors(needed, todo=_FEWER), torch.inference_mode(), ieee_float32():
        folded = head.weight.float() * _gain(norm)
        if _centres(norm):
            folded = folded - folded.mean(dim=1, keepdim=True)
        _check(model, norm, head, folded, softcap)
        return Unembedding(folded - folded.mean(dim=0), softcap)


def stream_rows(
    model: "LanguageModel", hook: str, rows: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return what vectors at a site add to the residual stream directly.

    Vectors in the stream, at the embedding and at the outputs of attention and MLP are added as
    they are. Those at the MLP's hidden layer and at the outputs of the heads go through the
    output matrix of their block.

    Parameters
    ----------
    model
        The model, open up to the site.
    hook
        The site, by TransformerLens name.
    rows
        (vectors, width of the site).

    Returns
    -------
        float64, (vectors, d_model).

    Raises
    ------
    Mismatch
        If a norm is between the site and the stream.
    UnknownName
        If the model has no such site.
    """
    _, rest = parse_hook(hook, model=model.name, layers=model.layers)
    writers = {"mlp.hook_post": "hook_mlp_out", "attn.hook_z": "hook_attn_out"}
    if rest not in writers:
        return np.asarray(rows, dtype=np.float64)
    if model.architecture in _NORMALISED_OUTPUT:
        raise Mismatch(
            f"{hook} has no direct logits: {model.name} ({model.architecture}) normalises the output of "
            f"this layer before it adds it to the stream. Use an SAE at {hook.replace(rest, writers[rest])}."
        )
    matrix = own_matrix(model, hook.replace(rest, writers[rest])).rows
    added: NDArray[np.float64] = np.asarray(rows, dtype=np.float64) @ matrix
    return added


def _centres(norm: Any) -> bool:
    return isinstance(norm, torch.nn.LayerNorm)


def _gain(norm: Any) -> torch.Tensor:
    """Return the gain of a norm; those of Gemma store the gain minus 1."""
    weight: torch.Tensor = norm.weight.float()
    return weight + 1.0 if type(norm).__name__.startswith("Gemma") else weight


def _scaled(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Return a stream divided by the scale of the norm."""
    eps: Any = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 0.0)
    centred = x - x.mean(dim=-1, keepdim=True) if _centres(norm) else x
    scaled: torch.Tensor = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return scaled


def _check(
    model: "NextTokenModel", norm: Any, head: Any, folded: torch.Tensor, softcap: float | None
) -> None:
    """Compare the formula with the model's own logits on a few tokens."""
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    few = min(8, head.weight.shape[0])
    ids = torch.linspace(0, head.weight.shape[0] - 1, few).long()[None]
    try:
        own = model.logits(ids, torch.ones_like(ids)).log_softmax(-1)
    finally:
        handle.remove()
    constant = torch.zeros(len(folded), device=folded.device)
    if getattr(norm, "bias", None) is not None:
        constant += head.weight.float() @ norm.bias.float()
    if head.bias is not None:
        constant += head.bias.float()
    mine = _scaled(norm, seen[0].float()) @ folded.T + constant
    if softcap is not None:
        mine = softcap * torch.tanh(mine / softcap)
    difference = float((mine.log_softmax(-1) - own).abs().max())
    span = float(own.max() - own.min())
    if not difference <= _TOLERANCE.get(str(model.causal.dtype).removeprefix("torch."), _HALF) * (
        1.0 + span
    ):
        raise Mismatch(
            _unknown(model, f"its log-probabilities differ by up to {difference:.3g} from them")
        )


def _unknown(model: "NextTokenModel", why: str) -> str:
    return (
        f"The logits of {model.name} ({model.causal.config.model_type}) are not those of a final norm and a linear "
        f"head: {why}. Direct logits need a model such as Llama, Gemma 2, GPT-2 or GPT-NeoX."
    )
