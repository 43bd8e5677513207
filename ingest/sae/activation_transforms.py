"""What is taken from activations before an SAE reads them, and the file that says it.

An SAE that reads activations less something is a folder of sae-lens with one more
file beside its weights, ``subtract.safetensors``, whose metadata name the kind.

===============  =============================================================
kind             tensors (float32 but for ``ids``), and more metadata
===============  =============================================================
``map``          ``weight`` (d_source, d_in), ``bias`` (d_in,); ``source``, the hook
                 of the same model that is read at the same token
``components``   ``mean`` (d_in,), ``directions`` (d_in, m), orthonormal
``token-means``  ``ids`` (n,) int64, ascending; ``means`` (n, d_in); ``mean`` (d_in,)
                 for all other ids
``map-and-       those of ``map`` and ``ids``, ``means``: what the map leaves of each id
token-means``    on average, which is taken away too; 0 for all other ids
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

from atlas.atomic_files import placed
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

#: How far the products of directions may be from those of orthonormal ones.
TOLERANCE = 1e-3


class Subtraction(ABC):
    """What is taken from activations: of one of the kinds above."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def d_in(self) -> int:
        """Width of the activations it is taken from."""

    @property
    def needs(self) -> Mapping[str, int]:
        """Other places of the model that it needs, and their widths."""
        return {}

    @property
    @abstractmethod
    def words(self) -> str:
        """What it takes, in words, as the column ``less`` of the table SAE has it."""

    @abstractmethod
    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return what is taken from some activations; the parameters are those of ``apply``."""

    @abstractmethod
    def check(self) -> None:
        """Raise ``ValueError`` if the tensors do not make sense together."""

    def apply(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return activations less what is taken from them.

        Parameters
        ----------
        x
            (tokens, d_in), float32.
        others
            By hook, what is at the places it needs: (tokens, width), float32.
        ids
            (tokens,). Token ids.
        """
        return x - self.taken(x, others, ids)

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in said.items() if isinstance(value, Tensor)}

    def metadata(self) -> dict[str, str]:
        """Return what else its file says."""
        return {"kind": self.kind}

    def to(self, device: torch.device | str) -> Self:
        """Return it on a device."""
        return replace(self, **{k: v.to(device) for k, v in self.tensors().items()})  # type: ignore[type-var]

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all of it."""
        made = hashlib.sha256(repr(sorted(self.metadata().items())).encode())
        for name, tensor in sorted(self.tensors().items()):
            made.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            made.update(tensor.cpu().contiguous().numpy().tobytes())
        return made.hexdigest()


@dataclass(frozen=True, eq=False)
class Map(Subtraction):
    """An affine map from another place of the model, at the same token.

    Parameters
    ----------
    source
        The hook of that place.
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
        """Width of the activations it is taken from."""
        return len(self.bias)

    @property
    def needs(self) -> Mapping[str, int]:
        """The place it maps from."""
        return {self.source: len(self.weight)}

    @property
    def words(self) -> str:
        """What it takes, in words."""
        return f"map from {self.source}"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return what the map says of the other place."""
        return torch.addmm(self.bias, others[self.source], self.weight)

    def metadata(self) -> dict[str, str]:
        """Return what else its file says."""
        return {"kind": self.kind, "source": self.source}

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors do not make sense together."""
        _shaped(self.bias, "bias", "d_in")
        _shaped(self.weight, "weight", "d_source", len(self.bias))


@dataclass(frozen=True, eq=False)
class Components(Subtraction):
    """The part of the activations that lies along some directions, about a mean.

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
        """Width of the activations it is taken from."""
        return len(self.mean)

    @property
    def words(self) -> str:
        """What it takes, in words."""
        return "principal components"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the part along the directions."""
        return ((x - self.mean) @ self.directions) @ self.directions.T

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors do not make sense together."""
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
        (n,), int64. Ids that have a mean; each once, ascending.
    means
        (n, d_in). The mean of each.
    mean
        (d_in,). What is taken on all other ids.
    """

    ids: Tensor
    means: Tensor
    mean: Tensor
    kind: ClassVar[str] = "token-means"

    @property
    def d_in(self) -> int:
        """Width of the activations it is taken from."""
        return len(self.mean)

    @property
    def words(self) -> str:
        """What it takes, in words."""
        return "token means"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return the mean of each token's id."""
        return _of_ids(self.ids, self.means, ids, other=self.mean)

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors do not make sense together."""
        _shaped(self.mean, "mean", "d_in")
        _check_table(self.ids, self.means, d_in=len(self.mean))


@dataclass(frozen=True, eq=False)
class MapAndTokenMeans(Map):
    """An affine map, and the mean of what it leaves on each token id.

    Where the source is a function of the token id that is the mean of the activations on
    each id, if the means are plain; shrunk, ids that are rare are told by the map.

    Parameters
    ----------
    source, weight, bias
        The map.
    ids
        (n,), int64. Ids that have a mean; each once, ascending.
    means
        (n, d_in). The mean of what the map leaves of each; 0 is taken on all other ids.
    """

    ids: Tensor
    means: Tensor
    kind: ClassVar[str] = "map-and-token-means"

    @property
    def words(self) -> str:
        """What it takes, in words."""
        return f"token means over the map from {self.source}"

    def taken(self, x: Tensor, others: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return what the map says, and the mean of what it leaves of each token's id."""
        none = torch.zeros_like(self.bias)
        return super().taken(x, others, ids) + _of_ids(self.ids, self.means, ids, other=none)

    def check(self) -> None:
        """Raise ``ValueError`` if the tensors do not make sense together."""
        super().check()
        _check_table(self.ids, self.means, d_in=len(self.bias))


_KINDS: dict[str, type[Subtraction]] = {
    k.kind: k for k in (Map, Components, TokenMeans, MapAndTokenMeans)
}


def write_subtraction(folder: Path, subtraction: Subtraction) -> None:
    """Write ``subtract.safetensors`` into the folder of an SAE."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in subtraction.tensors().items()}
    with placed(folder / FILE) as beside:
        save_file(tensors, beside, metadata=subtraction.metadata())


def read_subtraction(folder: Path, *, d_in: int) -> Subtraction | None:
    """Read what is taken before the SAE of a folder reads; None if there is no such file.

    Parameters
    ----------
    folder
        The folder of the SAE.
    d_in
        Width of what the SAE reads.

    Raises
    ------
    BadInput
        If the file cannot be read, or does not say what it should.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}): copy the folder of the SAE anew."
        ) from error
    try:
        made = _made(said, tensors)
        made.check()
    except ValueError as error:
        raise BadInput(
            f"{path} does not say what is taken from the activations before the SAE reads them: {error}. "
            "Make the file with write_subtraction of ingest.sae.activation_transforms."
        ) from error
    if made.d_in != d_in:
        raise BadInput(
            f"{path} is for activations of {made.d_in} dimensions, and the SAE beside it reads {d_in}: put "
            "the right file there."
        )
    return made


def _made(said: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Subtraction:
    kind = _KINDS.get(said.get("kind", ""))
    if kind is None:
        known = ", ".join(_KINDS)
        raise ValueError(f"its kind is {said.get('kind')!r}, and one of {known} was expected")
    texts = {f.name for f in fields(kind) if f.type is str}  # type: ignore[arg-type]
    wanted = {f.name for f in fields(kind)} - texts  # type: ignore[arg-type]
    for what, expected, there in (
        ("tensors", wanted, set(tensors)), ("metadata", texts, texts & set(said)),
    ):  # fmt: skip
        if there != expected:
            raise ValueError(
                f"a file of kind {kind.kind!r} holds the {what} {', '.join(sorted(expected))}, and this one "
                f"{', '.join(sorted(there)) or 'none'}"
            )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"NaN or Inf is in {name}")
    typed = {name: _typed(name, tensor) for name, tensor in tensors.items()}
    return kind(**typed, **{name: said[name] for name in texts})


def _typed(name: str, value: Tensor) -> Tensor:
    if name == "ids" and value.is_floating_point():
        raise ValueError("its ids are no integers")
    return value.to(torch.int64 if name == "ids" else torch.float32)


def _of_ids(known: Tensor, means: Tensor, ids: Tensor, *, other: Tensor) -> Tensor:
    """Return the row of each id, and another vector where it is not known."""
    if not len(known):
        return other.expand(len(ids), -1)
    at = torch.searchsorted(known, ids).clamp_(max=len(known) - 1)
    return torch.where((known[at] == ids)[:, None], means[at], other)


def _check_table(ids: Tensor, means: Tensor, *, d_in: int) -> None:
    _shaped(ids, "ids", "n")
    _shaped(means, "means", len(ids), d_in)
    if not (ids.diff() > 0).all():
        raise ValueError("its ids do not ascend")


def _shaped(tensor: Tensor, name: str, *shape: int | str) -> None:
    """Raise ``ValueError`` unless a tensor is of a shape; names stand for any length."""
    fits = len(tensor.shape) == len(shape) and all(
        isinstance(wanted, str) or wanted == length
        for wanted, length in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} is of shape {tuple(tensor.shape)}, and ({wanted}) was expected")
