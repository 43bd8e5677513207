"""Sparse autoencoders: what they are, and their codes through sae-lens' own encoders."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import BadActivations, BadInput, Mismatch
from ingest.error_translation import memory_errors
from ingest.sae.activation_transforms import Subtraction
from ingest.sae.info import SaeInfo, describe, neuronpedia_url
from ingest.sae.loading import load_sae

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["Autoencoder", "Codes", "SaeInfo", "check_fit", "neuronpedia_url", "open_sae"]

#: Bytes that encoding a chunk may take beside its input.
CHUNK_BYTES = 256 * 2**20

#: What encoding takes at its peak, as a multiple of the dense float32 codes (JumpReLU takes most).
PEAK = 4

#: Codes with less than one active feature in so many are decoded as a sparse matrix: at 70 of
#: 16,384 features that is seven times faster, and at one in 30 as fast.
SPARSE = 32


class Codes(NamedTuple):
    """Sparse codes in compressed sparse row form: one row a token.

    Row t holds entries ``indptr[t]:indptr[t + 1]``; ``indices`` ascend within a
    row, ``values`` are all above 0.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


class Autoencoder:
    """An SAE ready to encode what a model gives; see ``open_sae``.

    Inputs are tensors of shape (tokens, d_in), of any number format and device;
    they are encoded in float32 where the SAE is, by sae-lens' own ``encode``.

    Parameters
    ----------
    info
        What is known of it.
    sae
        The object of sae-lens: float32, without gradients.
    less
        What is taken from the activations before it reads them; see ``reads``.
    """

    def __init__(self, info: SaeInfo, sae: Any, less: Subtraction | None = None) -> None:
        self.info = info
        self.sae = sae
        self.less = less
        # TransformerLens had centred what is written to the stream when this SAE was trained.
        self._centred = bool(info.model_kwargs.get("center_writing_weights")) and (
            not info.hook.endswith(("mlp.hook_post", "attn.hook_z"))
        )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        device: torch.device = self.sae.b_dec.device
        return device

    def to(self, device: torch.device | str) -> "Autoencoder":
        """Move it to a device and return it.

        Raises
        ------
        OutOfRoom
            If it does not fit there.
        """
        with memory_errors(f"the SAE {self.info.name} on {device}"):
            self.sae.to(device=torch.device(device))
            self.less = self.less and self.less.to(torch.device(device))
        return self

    def reads(
        self, at: Mapping[str, torch.Tensor], keep: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """Return the vectors it reads of a batch: those at its place, less what is taken from them.

        Parameters
        ----------
        at
            By hook, what the model gives at ``info.hooks``: (contexts, positions, width).
        keep
            (contexts, positions). True at the tokens that are read.
        ids
            (contexts, positions). Token ids.

        Returns
        -------
            Shape (tokens, d_in), float32.
        """
        with torch.inference_mode():
            found = {hook: at[hook][keep.to(at[hook].device)].float() for hook in self.info.hooks}
            x = found[self.info.hook]
            if self.less is None:
                return x
            here = {hook: value.to(self.device) for hook, value in found.items()}
            return self.less.apply(x.to(self.device), here, ids[keep].to(self.device))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the dense codes, float32 of shape (tokens, d_sae), all of them at once.

        Raises
        ------
        Mismatch
            If ``x`` is not of shape (tokens, d_in).
        """
        with torch.inference_mode():
            encoded: torch.Tensor = self.sae.encode(self._input(x)[0])
            return encoded

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return what dense codes stand for, float32 of shape (tokens, d_in).

        Where the SAE reads centred vectors this is centred too; where it
        normalises each vector, the codes must be those it encoded last.
        """
        with torch.inference_mode():
            decoded: torch.Tensor = self.sae.decode(z.to(self.device, torch.float32))
            return decoded

    def codes(self, x: torch.Tensor) -> Codes:
        """Return the codes of some vectors, encoded chunk by chunk.

        Parameters
        ----------
        x
            Shape (tokens, d_in).

        Raises
        ------
        BadActivations
            If NaN or Inf comes in or out, or an activation below 0 comes out.
        Mismatch
            If ``x`` is not of shape (tokens, d_in).
        OutOfRoom
            If a chunk does not fit into memory.
        """
        return _joined([self._sparse(z) for z, _ in self._chunks(x)])

    def codes_and_reconstruction(
        self, x: torch.Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32], torch.Tensor]:
        """Return the codes of some vectors and the vectors that the SAE makes of them.

        The reconstruction, float32 of shape (tokens, d_in), is of ``x`` as it is
        given: a mean that was taken off before encoding is put back. Parameters
        and errors are those of ``codes``.
        """
        codes, parts = [], []
        for z, mean in self._chunks(x):
            codes.append(self._sparse(z))
            few = len(codes[-1].values) * SPARSE <= z.numel()
            with torch.inference_mode():
                made = self._decoded(codes[-1], like=z) if few else self.sae.decode(z)
                parts.append(made + mean)
        return (*_joined(codes), torch.cat(parts))

    def _decoded(self, codes: Codes, *, like: torch.Tensor) -> torch.Tensor:
        """Decode sparse codes of the shape of dense ones."""
        by_rows = type(self.sae).decode in _plain_decoders()
        sparse = _Rows(codes, like) if by_rows else _as_tensor(codes, like=like)
        decoded: torch.Tensor = self.sae.decode(sparse)
        return decoded

    def _chunks(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor | float]]:
        """Yield dense codes a chunk at a time, with what was taken off their input."""
        rows = max(1, CHUNK_BYTES // (4 * PEAK * self.info.d_sae))
        with memory_errors(f"encoding {rows} tokens at a time with {self.info.name}"):
            for part in torch.split(x, rows):
                with torch.inference_mode():
                    vectors, mean = self._input(part)
                    if not torch.isfinite(vectors).all():
                        raise BadActivations(
                            f"NaN or Inf came out of the model at {self.info.hook}, where the SAE "
                            f"{self.info.name} reads: run the model in float32 (dtype 'float32')."
                        )
                    z = self.sae.encode(vectors)
                yield z, mean

    def _input(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Return what the SAE reads, and what was taken off for it."""
        if x.ndim != 2 or x.shape[1] != self.info.d_in:
            raise Mismatch(
                f"The SAE {self.info.name} was given an array of shape {tuple(x.shape)}; "
                f"(tokens, {self.info.d_in}) was expected."
            )
        x = x.to(self.device, torch.float32)
        if not self._centred:
            return x, 0.0
        mean = x.mean(-1, keepdim=True)
        return x - mean, mean

    def _sparse(self, z: torch.Tensor) -> Codes:
        rows, width = z.shape
        # On the CPU NumPy finds them eight times faster than torch does.
        find = _active_by_numpy if z.device.type == "cpu" else _active_by_torch
        places, values = find(z.flatten())
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise BadActivations(
                f"The SAE {self.info.name} gave NaN, Inf or an activation below 0: its weights are "
                "damaged, or not what its metadata says."
            )
        indptr = np.searchsorted(places, np.arange(rows + 1) * width)
        return Codes(indptr.astype(np.int64), (places % width).astype(np.uint32), values)


def _active_by_numpy(flat: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    values = flat.numpy()
    places = np.flatnonzero(values != 0)
    return places, values[places]


def _active_by_torch(flat: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    places = flat.nonzero().squeeze(1)
    return places.cpu().numpy(), flat[places].cpu().numpy()


@cache
def _plain_decoders() -> frozenset[object]:
    """Return those ``decode`` of sae-lens that ask nothing of codes but to be multiplied."""
    from sae_lens import GatedSAE, JumpReLUSAE, StandardSAE

    return frozenset({GatedSAE.decode, JumpReLUSAE.decode, StandardSAE.decode})


class _Rows:
    """Sparse codes that a decoder is multiplied with row by row: twice as fast as by a sparse tensor."""

    def __init__(self, codes: Codes, like: torch.Tensor) -> None:
        self._indptr, self._indices, self._values = (
            torch.from_numpy(part).to(like.device)
            for part in (codes.indptr, codes.indices.astype(np.int64), codes.values)
        )

    def __matmul__(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(
            self._indices, weight, self._indptr,
            mode="sum", per_sample_weights=self._values, include_last_offset=True,
        )  # fmt: skip


def _as_tensor(codes: Codes, *, like: torch.Tensor) -> torch.Tensor:
    """Return codes as a sparse tensor of the shape of dense ones."""
    rows = np.repeat(np.arange(len(like)), np.diff(codes.indptr))
    places = torch.from_numpy(np.stack([rows, codes.indices.astype(np.int64)]))
    return torch.sparse_coo_tensor(
        places.to(like.device),
        torch.from_numpy(codes.values).to(like.device),
        like.shape,
        is_coalesced=True,
        check_invariants=False,  # they are sound: rows and features ascend
    )


def _joined(chunks: list[Codes]) -> Codes:
    counts = np.concatenate([np.diff(chunk.indptr) for chunk in chunks])
    return Codes(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([chunk.indices for chunk in chunks]),
        np.concatenate([chunk.values for chunk in chunks]),
    )


def open_sae(
    given: Any,
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
    given
        A demo SAE's name, a short name (``"gemmascope-l20"``, see ``sae_names``),
        ``"release:sae_id"`` of sae-lens' registry or ``"owner/repository:folder"``
        at the hub, a folder that sae-lens saved, or an SAE object of sae-lens,
        which is copied. A name goes before a folder of the same name: write
        ``./name`` for that.
    name
        Its name in the atlas: lower-case letters, digits, ``.``, ``_`` and ``-``.
        By default made from what was given.
    hook, model
        The place it reads and its model, where its metadata does not say or is
        wrong.
    less
        What is taken from the activations before it reads them; by default what its folder
        says (``subtract.safetensors``).
    device
        Where it goes.

    Raises
    ------
    UnknownName
        If there is no such SAE; the nearest names are told.
    Missing
        If it is not on this machine and the hub does not give it.
    BadInput
        If it cannot be used: not whole, not saved by sae-lens, no hook name.
    Mismatch
        If it is of an architecture that an atlas cannot hold, or ``less`` is of another width.
    OutOfRoom
        If it does not fit into memory.
    """
    loaded = load_sae(given)
    if less is not None:
        loaded = replace(loaded, less=less)
    info = describe(loaded, name=name, hook=hook, model=model)
    if less is not None:
        _check_less(less, info)
    return Autoencoder(info, loaded.sae, loaded.less).to(device)


def _check_less(less: Subtraction, info: SaeInfo) -> None:
    try:
        less.check()
    except ValueError as error:
        raise BadInput(
            f"What is to be taken before the SAE {info.name} reads does not hold together: {error}. Give "
            "tensors of the shapes that ingest.sae.activation_transforms tells."
        ) from error
    if less.d_in != info.d_in:
        raise Mismatch(
            f"less is for activations of {less.d_in} dimensions, and the SAE {info.name} reads {info.d_in}: "
            "give one of its width."
        )


def check_fit(sae: SaeInfo, model: "LanguageModel") -> None:
    """Check, before any work, that an SAE can read a model.

    Raises
    ------
    Mismatch
        If the vectors at its hook, or at another that it needs, are of another width, or the
        model has no such place.
    UnknownName
        If it reads a place that no model of this depth has.
    """
    width = model.site(sae.hook).width
    if width != sae.d_in:
        trained = f" It was trained on {sae.model}." if sae.model else ""
        raise Mismatch(
            f"The SAE {sae.name} reads vectors of {sae.d_in} dimensions, but {sae.hook} of "
            f"{model.name} has {width}: give the model it was trained on.{trained}"
        )
    for hook, needed in sae.needs.items():
        if (width := model.site(hook).width) != needed:
            raise Mismatch(
                f"The SAE {sae.name} reads {sae.hook} less a {sae.less} of {needed} dimensions, but {hook} "
                f"of {model.name} has {width}: give the model it was trained on."
            )
