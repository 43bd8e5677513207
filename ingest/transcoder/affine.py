"""An affine map as a part of an atlas holds it, to be read and used."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadInput, Mismatch
from atlas.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Affine"]


@dataclass(frozen=True, eq=False)
class Affine:
    """A map from the activations at one site to those at another: ``x @ weight + bias``.

    Parameters
    ----------
    source, target
        Both sites, as ``model/hook``.
    weight
        float32, (source width, target width).
    bias
        float32, (target width,).
    """

    source: str
    target: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def read(cls, part: Part) -> "Affine":
        """Read the map of a part of kind ``transcoder``.

        Raises
        ------
        BadInput
            If the part is of another kind.
        BrokenPart
            If its tables are not what was written.
        """
        if part.manifest.kind != "transcoder":
            raise BadInput(f"{part.manifest.key} holds no map; a part of kind transcoder does.")
        (edge,) = part.table("MAPS_TO").select(["source", "target"]).to_pylist()
        rows = part.table("map")["row"].combine_chunks()
        values = np.array(rows.flatten()).reshape(len(rows), -1)  # a copy, which may be written to
        return cls(edge["source"], edge["target"], values[:-1], values[-1])

    def table(self) -> pa.Table:
        """Return the table ``map``: a row for each dimension of the source, and the bias last."""
        values = np.concatenate([self.weight, self.bias[None]]).astype(np.float32)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return pa.table({"row": rows})

    def apply(self, x: "Tensor") -> "Tensor":
        """Return what the map predicts of vectors at the source.

        Parameters
        ----------
        x
            (…, source width).

        Returns
        -------
        Tensor
            float32, (…, target width), on the device of ``x``.

        Raises
        ------
        Mismatch
            If the vectors have another width than the source.
        """
        import torch

        if x.shape[-1] != len(self.weight):
            raise Mismatch(
                f"The map from {self.source} takes vectors of {len(self.weight)} dimensions, and got "
                f"{x.shape[-1]}."
            )
        weight, bias = (torch.from_numpy(a).to(x.device) for a in (self.weight, self.bias))
        return x.float() @ weight + bias
