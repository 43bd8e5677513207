"""Subtractions: vectors subtracted from the activations before an SAE reads them, and their file.

The folder of such an SAE is a folder of sae-lens with one more file next to the
weights, ``subtract.safetensors``. Its metadata name the kind of subtraction.

===============  =============================================================
kind             tensors (float32 but for ``ids``), and more metadata
===============  =============================================================
``map``          ``weight`` (d_source, d_in), ``bias`` (d_in,); ``source``, the hook
                 of the same model that is read at the same token
``components``   ``mean`` (d_in,), ``directions`` (d_in, m), orthonormal
``token-means``  ``ids`` (n,) int64, ascending; ``means`` (n, d_in); ``mean`` (d_in,)
                 for all other ids
``map-and-       those of ``map``, and ``ids``, ``means``: the mean residual of the map on
token-means``    each id, which is subtracted too; 0 for all other ids
===============  =============================================================
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadInput

__all__ = [
    "FILE",
    "Components",
    "Map",
    "MapAndTokenMeans",
    "Subtraction",
    "TokenMeans",
    "read_subtraction",
    "write_subtraction",
]

FILE = "subtract.safetensors"

#: Absolute tolerance of the test that directions are orthonormal.
TOLERANCE = 1e-3


class Subtraction(ABC):
    """A vector subtracted from each activation: the base class of the kinds above."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def d_in(self) -> int:
        """Width of the activations."""

    @property
    def needs(self) -> Mapping[str, int]:
        """Other sites of the model that it reads, and their widths."""
        return {}

    @property
    @abstractmethod
    def description(self) -> str:
        """A description, as stored in the column ``less`` of the table SAE."""

    @abstractmethod
    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the vectors to subtract; the parameters are those of ``apply``."""

    @abstractmethod
    def check(self) -> None:
        """Raise ``ValueError`` if the tensors are inconsistent."""

    def apply(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the activations after subtraction.

        Parameters
        ----------
        x
            (tokens, d_in), float32.
        others
            By hook, the activations at the other sites it reads: (tokens, width), float32.
        ids
            (tokens,). Token ids.
        """
        return x - self.taken(x, others, ids)

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def metadata(self) -> dict[str, str]:
        """Return the metadata of its file."""
        return {"kind": self.kind}

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on a device."""
        return replace(self, **{k: v.to(device) for k, v in self.tensors().items()})  # type: ignore[type-var]

    def digest(self) -> str:
        """Return the SHA-256 (hex) of its metadata and tensors."""
        sha = hashlib.sha256(repr(sorted(self.metadata().items())).encode())
        for name, tensor in sorted(self.tensors().items()):
            sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            sha.update(tensor.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class Map(Subtraction):
    """An affine map from another site of the model, at the same token.

    Parameters
    ----------
    source
        The hook of that site.
    weight
        (d_source, d_in).
    bias
        (d_in,).
    """

    source: str
    weight: Tensor
    bias: Tensor
    kind: ClassVar[str] = "map"

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return len(self.bias)

    @property
    def needs(self) -> Mapping[str, int]:
        """The site it maps from, and its width."""
        return {self.source: len(self.weight)}

    @property
    def description(self) -> str:
        """A description, as stored in the atlas."""
        return f"map from {self.source}"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the prediction of the map from the other site."""
        return torch.addmm(self.bias, others[self.source], self.weight)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of its file."""
        return {"kind": self.kind, "source": self.source}

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors are inconsistent."""
        _shaped(self.bias, "bias", "d_in")
        _shaped(self.weight, "weight", "d_source", len(self.bias))


@dataclass(frozen=True, eq=False)
class Components(Subtraction):
    """The projection of the centred activations onto some directions.

    Parameters
    ----------
    mean
        (d_in,).
    directions
        (d_in, m), orthonormal.
    """

    mean: Tensor
    directions: Tensor
    kind: ClassVar[str] = "components"

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return len(self.mean)

    @property
    def description(self) -> str:
        """A description, as stored in the atlas."""
        return "principal components"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the projection onto the directions."""
        return ((x - self.mean) @ self.directions) @ self.directions.T

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors are inconsistent."""
        _shaped(self.mean, "mean", "d_in")
        _shaped(self.directions, "directions", len(self.mean), "m")
        products = self.directions.T @ self.directions
        if not torch.allclose(products, torch.eye(len(products)), atol=TOLERANCE):
            raise ValueError("its directions are not orthonormal")


@dataclass(frozen=True, eq=False)
class TokenMeans(Subtraction):
    """The mean of the activations on each token id.

    Parameters
    ----------
    ids
        (n,), int64. Ids that have a mean, unique and ascending.
    means
        (n, d_in). The mean of each.
    mean
        (d_in,). The vector subtracted on all other ids.
    """

    ids: Tensor
    means: Tensor
    mean: Tensor
    kind: ClassVar[str] = "token-means"

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return len(self.mean)

    @property
    def description(self) -> str:
        """A description, as stored in the atlas."""
        return "token means"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the mean of each token's id."""
        return _lookup(self.ids, self.means, ids, default=self.mean)

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors are inconsistent."""
        _shaped(self.mean, "mean", "d_in")
        _check_table(self.ids, self.means, d_in=len(self.mean))


@dataclass(frozen=True, eq=False)
class MapAndTokenMeans(Map):
    """An affine map, and the mean of its residual on each token id.

    If the source is a function of the token id and the means are not shrunk, the sum is the
    mean of the activations on each id. With shrunk means, the map predicts rare ids.

    Parameters
    ----------
    source, weight, bias
        The map.
    ids
        (n,), int64. Ids that have a mean, unique and ascending.
    means
        (n, d_in). The mean residual of the map on each id; it is 0 on all other ids.
    """

    ids: Tensor
    means: Tensor
    kind: ClassVar[str] = "map-and-token-means"

    @property
    def description(self) -> str:
        """A description, as stored in the atlas."""
        return f"token means over the map from {self.source}"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the prediction of the map plus its mean residual on each token id."""
        zero = torch.zeros_like(self.bias)
        return super().taken(x, others, ids) + _lookup(self.ids, self.means, ids, default=zero)

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors are inconsistent."""
        super().check()
        _check_table(self.ids, self.means, d_in=len(self.bias))


_KINDS: dict[str, type[Subtraction]] = {
    k.kind: k for k in (Map, Components, TokenMeans, MapAndTokenMeans)
}


def write_subtraction(folder: Path, subtraction: Subtraction) -> None:
    """Write ``subtract.safetensors`` into the folder of an SAE."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in subtraction.tensors().items()}
    with atomic_file(folder / FILE) as unfinished:
        save_file(tensors, unfinished, metadata=subtraction.metadata())


def read_subtraction(folder: Path, *, d_in: int) -> Subtraction | None:
    """Read the subtraction of the SAE in a folder; None if the folder has no such file.

    Parameters
    ----------
    folder
        The folder of the SAE.
    d_in
        Width of the activations that the SAE reads.

    Raises
    ------
    BadInput
        If the file cannot be read, or its contents are not valid.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}). Copy the folder of the SAE again."
        ) from error
    try:
        subtraction = _from_file(metadata, tensors)
        subtraction.check()
    except ValueError as error:
        raise BadInput(
            f"{path} is not a valid subtraction: {error}. Write the file with write_subtraction of "
            "ingest.sae.activation_transforms."
        ) from error
    if subtraction.d_in != d_in:
        raise BadInput(
            f"{path} is for activations of {subtraction.d_in} dimensions, and the SAE next to it reads "
            f"{d_in}. Replace it by the file of this SAE."
        )
    return subtraction


def _from_file(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Subtraction:
    kind = _KINDS.get(metadata.get("kind", ""))
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"its kind is {metadata.get('kind')!r}, and one of {known} was expected")
    texts = {f.name for f in fields(kind) if f.type is str}  # type: ignore[arg-type]
    tensor_names = {f.name for f in fields(kind)} - texts  # type: ignore[arg-type]
    for group, expected, actual in (
        ("tensors", tensor_names, set(tensors)),
        ("metadata", texts, texts & set(metadata)),
    ):
        if actual != expected:
            raise ValueError(
                f"a file of kind {kind.kind!r} holds the {group} {', '.join(sorted(expected))}, and this one "
                f"{', '.join(sorted(actual)) or 'none'}"
            )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"NaN or Inf is in {name}")
    typed = {name: _typed(name, tensor) for name, tensor in tensors.items()}
    return kind(**typed, **{name: metadata[name] for name in texts})


def _typed(name: str, value: Tensor) -> Tensor:
    if name == "ids" and value.is_floating_point():
        raise ValueError("its ids are no integers")
    return value.to(torch.int64 if name == "ids" else torch.float32)


def _lookup(known: Tensor, means: Tensor, ids: Tensor, *, default: Tensor) -> Tensor:
    """Return the row of each id, and a default vector for unknown ids."""
    if not len(known):
        return default.expand(len(ids), -1)
    at = torch.searchsorted(known, ids).clamp_(max=len(known) - 1)
    return torch.where((known[at] == ids)[:, None], means[at], default)


def _check_table(ids: Tensor, means: Tensor, *, d_in: int) -> None:
    _shaped(ids, "ids", "n")
    _shaped(means, "means", len(ids), d_in)
    if not (ids.diff() > 0).all():
        raise ValueError("its ids do not ascend")


def _shaped(tensor: Tensor, name: str, *shape: int | str) -> None:
    """Raise ``ValueError`` unless a tensor has a shape; a name matches any length."""
    fits = len(tensor.shape) == len(shape) and all(
        isinstance(expected, str) or expected == length
        for expected, length in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name} is of shape {tuple(tensor.shape)}, and ({expected}) was expected")
