"""Sparse autoencoders and transcoders: opening them, and computing codes with sae-lens' own encoders."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import BadActivations, BadInput, Mismatch
from ingest.device_memory import free_bytes
from ingest.error_translation import FEWER, memory_errors
from ingest.precision import ieee_float32
from ingest.sae.activation_transforms import Subtraction
from ingest.sae.info import SaeInfo, describe, neuronpedia_url
from ingest.sae.loading import load_sae
from ingest.sae.sparse_codes import (
    DeviceCodes,
    SparseCodes,
    entries_by_numpy,
    entries_by_torch,
    joined_codes,
)

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = [
    "Autoencoder",
    "SaeInfo",
    "SparseCodes",
    "check_fit",
    "last_name",
    "neuronpedia_url",
    "open_sae",
]

#: Bytes that encoding a chunk may take in addition to its input. On a GPU these are a share of its
#: memory, at most ``GPU_CHUNK_BYTES``: each chunk waits for the GPU several times.
CHUNK_BYTES = 256 * 2**20
GPU_CHUNK_BYTES, GPU_SHARE = 4 * 2**30, 1 / 32

#: On a CPU, dense codes of a chunk stay in the cache of the processor and reuse the memory of the
#: chunk before, unless it has fewer than ``CPU_ROWS`` tokens: each chunk reads all weights.
CACHE_BYTES, CPU_ROWS = 16 * 2**20, 256

#: Peak memory of encoding, as a multiple of the dense float32 codes (JumpReLU takes most).
PEAK = 4

#: Features of which the change of the reconstruction is decoded at once, each as a vector of d_sae.
ROWS = 1024

#: Normalisations of sae-lens that differ between vectors.
_BY_VECTOR = ("layer_norm", "constant_norm_rescale")

#: Codes with fewer than one active feature in this number are decoded as a sparse matrix. That
#: is seven times faster at 70 of 16,384 features, and equally fast at one in 30.
SPARSE = 32


class Autoencoder:
    """An SAE that encodes the activations of a model; see ``open_sae``.

    Inputs are tensors of shape (tokens, d_in), of any number format and on any device.
    sae-lens' own ``encode`` encodes them in float32, on the device of the SAE.

    Parameters
    ----------
    info
        Its metadata.
    sae
        The object of sae-lens: float32, without gradients.
    less
        The subtraction applied to the activations before it reads them; see ``reads``.
    """

    def __init__(self, info: SaeInfo, sae: Any, less: Subtraction | None = None) -> None:
        self.info = info
        self.sae = sae
        self.less = less
        # TransformerLens had centred the weights that write to the stream when this SAE was trained.
        self._centred = bool(info.model_kwargs.get("center_writing_weights")) and (
            not info.hook.endswith(("mlp.hook_post", "attn.hook_z"))
        )

    @property
    def device(self) -> torch.device:
        """Its device."""
        device: torch.device = self.sae.b_dec.device
        return device

    @property
    def decoder(self) -> NDArray[np.float32] | None:
        """Its decoder vectors, (d_sae, d_out), on the CPU; None if it has no decoder matrix.

        Those of a transcoder are in the space of its output site.
        """
        if not hasattr(self.sae, "W_dec"):
            return None
        return np.asarray(self.sae.W_dec.detach().float().cpu().numpy())

    @property
    def encoder(self) -> NDArray[np.float32] | None:
        """Its encoder vectors, (d_sae, d_in), on the CPU; None if it has no encoder matrix."""
        if not hasattr(self.sae, "W_enc"):
            return None
        return np.asarray(self.sae.W_enc.detach().T.float().cpu().numpy())

    def to(self, device: torch.device | str) -> "Autoencoder":
        """Move it to a device and return it.

        Raises
        ------
        OutOfSpace
            If it does not fit there.
        """
        with memory_errors(f"the SAE {self.info.name} on {device}"):
            self.sae.to(device=torch.device(device))
            self.less = self.less and self.less.to(torch.device(device))
        return self

    def reads(
        self, at: Mapping[str, torch.Tensor], keep: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """Return the vectors it reads of a batch: the activations at its site, after subtraction.

        Parameters
        ----------
        at
            By hook, the activations at ``info.hooks``: (contexts, positions, width).
        keep
            (contexts, positions). True at the tokens that are read.
        ids
            (contexts, positions). Token ids.

        Returns
        -------
            Shape (tokens, d_in), float32.
        """
        with self._computing("the activations"):
            vectors = {hook: at[hook][keep.to(at[hook].device)].float() for hook in self.info.hooks}
            x = vectors[self.info.hook]
            if self.less is None:
                return x
            others = {hook: value.to(self.device) for hook, value in vectors.items()}
            return self.less.apply(x.to(self.device), others, ids[keep].to(self.device))

    def target(
        self, at: Mapping[str, torch.Tensor], keep: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor:
        """Return the vectors that its reconstruction approximates.

        Parameters
        ----------
        at
            By hook, the activations at ``info.ingested_hooks``: (contexts, positions, width).
        keep
            (contexts, positions). True at the tokens that are read.
        x
            (tokens, d_in). The vectors it reads, as ``reads`` returns them.

        Returns
        -------
            (tokens, d_out), float32: ``x`` itself, or the activations at the output site of a
            transcoder.
        """
        if self.info.output is None:
            return x
        with self._computing("the activations"):
            output = at[self.info.output.hook]
            return output[keep.to(output.device)].float()

    def require_one_site(self, what: str) -> None:
        """Check that it reconstructs the site that it reads.

        Raises
        ------
        Mismatch
            If it is a transcoder, whose decoder vectors belong to another site.
        """
        if self.info.output is not None:
            raise Mismatch(
                f"{self.info.name} is a transcoder: it reads {self.info.hook} and predicts "
                f"{self.info.output.hook}. {what} needs an SAE, which reconstructs what it reads."
            )

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the dense codes of all tokens at once: float32, shape (tokens, d_sae).

        Raises
        ------
        Mismatch
            If ``x`` is not of shape (tokens, d_in).
        """
        with self._computing(f"encoding {len(x)} tokens"):
            encoded: torch.Tensor = self.sae.encode(self._input(x)[0])
            return encoded

    def encode_with_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """Return the dense codes as ``encode`` does, with gradients to the input."""
        mean = x.mean(-1, keepdim=True) if self._centred else 0.0
        encoded: torch.Tensor = self.sae.encode(x.to(self.device, torch.float32) - mean)
        return encoded

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction from dense codes: float32, shape (tokens, d_out).

        It does not contain the part of a skip transcoder that skips the codes. If the SAE reads
        centred vectors, the reconstruction is centred too. If it normalises each vector, the codes
        must be those it encoded last.
        """
        with self._computing(f"decoding {len(z)} tokens"):
            decoded: torch.Tensor = self.sae.decode(z.to(self.device, torch.float32))
            return decoded

    def rows(self, features: torch.Tensor) -> torch.Tensor | None:
        """Return the change of the reconstruction by a unit of activation of some features.

        Parameters
        ----------
        features
            (n,). Indices of features.

        Returns
        -------
            (n, d_in), float32; None if it differs between tokens, as with SAEs that normalise
            each vector. It is the decoder vector, in the scale that ``decode`` uses.

        Raises
        ------
        Mismatch
            If it is a transcoder, whose features do not add to the site it reads.
        """
        self.require_one_site("An edit of features at the site they read")
        if self.sae.cfg.normalize_activations in _BY_VECTOR:
            return None
        with self._computing(f"the decoder vectors of {len(features)} features"):
            parts = torch.split(features.to(self.device), ROWS)
            return torch.cat([self._rows(part) for part in parts])

    def _rows(self, features: torch.Tensor) -> torch.Tensor:
        one = torch.zeros(len(features) + 1, self.info.d_sae, device=self.device)
        one[torch.arange(len(features)), features] = 1.0
        decoded = self.sae.decode(one)
        rows: torch.Tensor = decoded[:-1] - decoded[-1]
        return rows

    def change(
        self,
        by: torch.Tensor,
        features: torch.Tensor,
        *,
        rows: torch.Tensor,
        directions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the change of the reconstruction as activations of some features change.

        Parameters
        ----------
        by
            (tokens, n). Changes of the activations, at the tokens that it encoded last.
        features
            (n,). Indices of the features.
        rows
            Numbers of the tokens for which the change is returned.
        directions
            (n, d_in), of norm 1. They replace the directions of the decoder vectors. The change of
            each token is rescaled to its norm along the decoder vectors.

        Returns
        -------
            decode(original + by) - decode(original): (rows, d_in), float32.
        """
        fixed = self.rows(features)
        with self._computing(f"decoding {len(by)} tokens"):
            if fixed is not None:
                own: torch.Tensor = by[rows] @ fixed
                if directions is None:
                    return own
                drawn = directions * fixed.norm(dim=1, keepdim=True)
                return _of_norm(by[rows] @ drawn, own)
            # sae-lens forgets the scale of each vector once it has decoded: one call decodes all.
            number = 1 if directions is None else len(features)
            dense = torch.zeros(number + 1, len(by), self.info.d_sae, device=self.device)
            for column, feature in enumerate(features.tolist()):
                dense[column % number, :, feature] = by[:, column]
            decoded = self.sae.decode(dense)
            added = (decoded[:-1] - decoded[-1])[:, rows]
            total: torch.Tensor = added.sum(0)
            if directions is None:
                return total
            signed = added.norm(dim=2, keepdim=True) * by[rows].T[:, :, None].sign()
            return _of_norm((signed * directions[:, None]).sum(0), total)

    def codes(self, x: torch.Tensor) -> SparseCodes:
        """Encode vectors chunk by chunk and return their sparse codes.

        Parameters
        ----------
        x
            Shape (tokens, d_in).

        Raises
        ------
        BadActivations
            If an input or an activation is NaN or Inf, or an activation is below 0.
        Mismatch
            If ``x`` is not of shape (tokens, d_in).
        OutOfSpace
            If a chunk does not fit into memory.
        """
        codes = []
        for z, *_ in self._chunks(x):
            with self._computing(f"the codes of {len(z)} tokens"):
                codes.append(self._sparse(z).codes())
        return joined_codes(codes)

    def codes_and_reconstruction(
        self, x: torch.Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32], torch.Tensor]:
        """Return the codes of some vectors, and their reconstruction.

        The reconstruction is float32 of shape (tokens, d_out). It is not centred: a mean
        that was subtracted before encoding is added again. That of a skip transcoder includes
        the part that skips the codes. Parameters and errors are
        those of ``codes``.
        """
        codes, parts = [], []
        for z, vectors, mean in self._chunks(x):
            with self._computing(f"decoding {len(z)} tokens"):
                entries = self._sparse(z)
                few = len(entries.values) * SPARSE <= z.numel() and self._decodes_rows
                decoded = self.sae.decode(entries if few else z)
                if hasattr(self.sae, "W_skip"):
                    decoded = decoded + vectors @ self.sae.W_skip.T
                parts.append(decoded + mean)
                codes.append(entries.codes())
        with self._computing(f"the reconstruction of {len(x)} tokens"):
            return (*joined_codes(codes), torch.cat(parts))

    @contextmanager
    def _computing(self, what: str) -> Iterator[None]:
        """Compute in IEEE float32, without gradients; errors of memory name the SAE."""
        memory = memory_errors(f"{what} of the SAE {self.info.name}", todo=FEWER)
        with memory, ieee_float32(), torch.inference_mode():
            yield

    @property
    def _decodes_rows(self) -> bool:
        """Whether the ``decode`` of sae-lens takes sparse codes as ``DeviceCodes``."""
        return type(self.sae).decode in _plain_decoders()

    def _chunks(
        self, x: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]]:
        """Yield for each chunk its dense codes, its input, and the mean that was subtracted from it.

        The sizes of chunks differ by at most 1, because a product of few tokens has other last bits.
        """
        for part in torch.tensor_split(x, max(1, -(-len(x) // self._chunk_rows()))):
            with self._computing(f"encoding {len(part)} tokens"):
                vectors, mean = self._input(part)
                if not (vectors.sum().isfinite() or torch.isfinite(vectors).all()):
                    raise BadActivations(
                        f"NaN or Inf came out of the model at {self.info.hook}, which the SAE "
                        f"{self.info.name} reads. Run the model in float32 (dtype 'float32')."
                    )
                z = self.sae.encode(vectors)
            yield z, vectors, mean

    def _input(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Return the input of the encoder, and the mean that was subtracted from it."""
        if x.ndim != 2 or x.shape[1] != self.info.d_in:
            raise Mismatch(
                f"The SAE {self.info.name} was passed an array of shape {tuple(x.shape)}; "
                f"(tokens, {self.info.d_in}) was expected."
            )
        x = x.to(self.device, torch.float32)
        if not self._centred:
            return x, 0.0
        mean = x.mean(-1, keepdim=True)
        return x - mean, mean

    def _chunk_rows(self) -> int:
        """Return the number of tokens that are encoded at once."""
        token = 4 * PEAK * self.info.d_sae
        rows = max(1, self._chunk_bytes() // token)
        if self.device.type == "cpu":
            return min(rows, max(CPU_ROWS, CACHE_BYTES // token))
        return rows

    def _chunk_bytes(self) -> int:
        """Return the bytes that encoding a chunk may take.

        The size of a product changes its last bits on a GPU. It therefore depends on the
        card alone, unless less than twice as much is free.
        """
        if self.device.type != "cuda":
            return CHUNK_BYTES
        free, total = free_bytes(self.device), torch.cuda.mem_get_info(self.device)[1]
        size = min(GPU_CHUNK_BYTES, int(total * GPU_SHARE))
        while size > max(free // 2, CHUNK_BYTES):
            size //= 2
        return size

    def _sparse(self, z: torch.Tensor) -> DeviceCodes:
        entries = (entries_by_numpy if z.device.type == "cpu" else entries_by_torch)(z)
        if len(entries.values):
            low, high = torch.aminmax(entries.values)  # both are NaN if one value is
            if not ((low > 0) & (high < math.inf)):
                raise BadActivations(
                    f"The SAE {self.info.name} returned NaN, Inf or an activation below 0: its "
                    "weights are damaged, or do not match its metadata."
                )
        return entries


@cache
def _plain_decoders() -> frozenset[object]:
    """Return the ``decode`` methods of sae-lens that only multiply the codes, by norms and weights."""
    from sae_lens import (
        GatedSAE,
        JumpReLUSAE,
        MatchingPursuitSAE,
        StandardSAE,
        TopKSAE,
        Transcoder,
    )

    kinds = (GatedSAE, JumpReLUSAE, MatchingPursuitSAE, StandardSAE, TopKSAE, Transcoder)
    return frozenset(kind.decode for kind in kinds)


def open_sae(
    sae_or_name: Any,
    *,
    name: str | None = None,
    hook: str | None = None,
    model: str | None = None,
    less: Subtraction | None = None,
    device: torch.device | str = "cpu",
) -> Autoencoder:
    """Open an SAE.

    Parameters
    ----------
    sae_or_name
        A name, a folder that sae-lens saved, or an SAE object of sae-lens, which is copied.
        Names are those of demo SAEs, short names (``"gemmascope-l20"``, see ``sae_names``),
        ``"release:sae_id"`` of sae-lens' registry and ``"owner/repository:folder"`` at the
        hub. A name takes precedence over a folder of the same name: write ``./name`` for the
        folder.
    name
        Its name in the atlas: lower-case letters, digits, ``.``, ``_`` and ``-``.
        By default derived from the first argument.
    hook, model
        The site it reads and its model, to be passed if its metadata does not contain
        them or is wrong.
    less
        The subtraction applied to the activations before it reads them; by default that of
        its folder (``subtract.safetensors``).
    device
        The device to load it on.

    Raises
    ------
    UnknownName
        If there is no such SAE; the message lists the nearest names.
    Missing
        If it is not on this machine and cannot be downloaded.
    BadInput
        If it cannot be used: incomplete, not saved by sae-lens, no hook name.
    Mismatch
        If an atlas does not support its architecture, or ``less`` has another width.
    OutOfSpace
        If it does not fit into memory.
    """
    loaded = load_sae(sae_or_name, hook=hook)
    if less is not None:
        loaded = replace(loaded, less=less)
    info = describe(loaded, name=name, hook=hook, model=model)
    if less is not None:
        _check_less(less, info)
    return Autoencoder(info, loaded.sae, loaded.less).to(device)


def _of_norm(vectors: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Rescale each row to the norm of the same row of other vectors; rows of 0 stay 0."""
    norm = vectors.norm(dim=1, keepdim=True)
    factor = torch.where(norm > 0, wanted.norm(dim=1, keepdim=True) / norm, 0.0)
    rescaled: torch.Tensor = vectors * factor
    return rescaled


def _check_less(less: Subtraction, info: SaeInfo) -> None:
    try:
        less.check()
    except ValueError as error:
        raise BadInput(
            f"The tensors of less= for the SAE {info.name} are inconsistent: {error}. Pass tensors of the "
            "shapes that ingest.sae.activation_transforms documents."
        ) from error
    if less.d_in != info.d_in:
        raise Mismatch(
            f"less= is for activations of {less.d_in} dimensions, and the SAE {info.name} reads {info.d_in}. "
            "Pass a subtraction of that width."
        )


def check_fit(sae: SaeInfo, model: "LanguageModel") -> None:
    """Check that an SAE can read a model.

    Raises
    ------
    Mismatch
        If the vectors at its hook, or at another that it needs, have another width, or this
        architecture has no such site.
    UnknownName
        If it reads a site that no model of this depth has.
    """
    width = model.site(sae.hook).width
    if width != sae.d_in:
        raise Mismatch(
            f"The SAE {sae.name} reads vectors of {sae.d_in} dimensions, but {sae.hook} of "
            f"{model.name} has {width}. {_remedy(sae, model)}"
        )
    if sae.output and (width := model.site(sae.output.hook).width) != sae.output.width:
        raise Mismatch(
            f"The transcoder {sae.name} predicts vectors of {sae.output.width} dimensions, but "
            f"{sae.output.hook} of {model.name} has {width}. {_remedy(sae, model)}"
        )
    for hook, needed in sae.needs.items():
        if (width := model.site(hook).width) != needed:
            raise Mismatch(
                f"The SAE {sae.name} reads {sae.hook} less a {sae.less} of {needed} dimensions, but {hook} "
                f"of {model.name} has {width}. {_remedy(sae, model)}"
            )


def _remedy(sae: SaeInfo, model: "LanguageModel") -> str:
    """Return what to do about an SAE whose widths differ from those of a model."""
    if sae.model is None:
        return "Pass the model it was trained on."
    if last_name(sae.model) == last_name(model.name):
        return f"Its weights do not fit the model it names ({sae.model}); check its cfg.json."
    return f"Pass the model it was trained on, {sae.model}."


def last_name(name: str) -> str:
    """Return the last part of the name or folder of a model, in lower case, to compare names.

    Examples
    --------
    >>> last_name("google/Gemma-2-2b") == last_name("gemma-2-2b")
    True
    """
    return name.rstrip("/").split("/")[-1].lower()
