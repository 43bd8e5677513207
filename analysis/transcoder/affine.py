"""A stored affine map between two sites."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadInput, Mismatch
from atlas.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.transcoder.solve import Line

__all__ = ["Affine"]


@dataclass(frozen=True, eq=False)
class Affine:
    """A map from the activations at one site to those at another: ``(x - at) @ weight + bias``.

    Parameters
    ----------
    source, target
        Both sites, as ``model/hook``.
    weight
        float32, (source width, target width).
    bias
        float32, (target width,). Value of the map at the point ``at``.
    at
        float32, (source width,). Reference point near the data; None means 0. If the source has
        a large mean, a bias at 0 would lose digits.
    """

    source: str
    target: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    at: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, line: "Line", *, source: str, target: str) -> "Affine":
        """Convert a fitted map to float32 for storage."""
        weight, at, bias = (value.cpu().numpy() for value in line.single())
        return cls(source, target, weight, bias, at)

    @classmethod
    def read(cls, part: Part) -> "Affine":
        """Read the map of a part of kind ``transcoder``; older ones have no table ``point``.

        Raises
        ------
        BadInput
            If the part is of another kind.
        BrokenPart
            If its tables differ from those that were written.
        """
        if part.manifest.kind != "transcoder":
            raise BadInput(f"{part.manifest.key} has no map; expected a part of kind transcoder.")
        (edge,) = part.table("MAPS_TO").select(["source", "target"]).to_pylist()
        rows = part.table("map")["row"].combine_chunks()
        values = np.array(rows.flatten()).reshape(len(rows), -1)  # a writable copy
        ends = edge["source"], edge["target"]
        if "point" not in part.manifest.tables:
            return cls(*ends, values[:-1], values[-1])
        point = {row["side"]: row["values"] for row in part.table("point").to_pylist()}
        at, bias = (np.array(point[side], dtype=np.float32) for side in ("source", "target"))
        return cls(*ends, values[:-1], bias, at)

    def tables(self) -> list[tuple[str, pa.Table]]:
        """Return the tables of its part.

        ``map``
            A row for each dimension of the source, and last the value of the map at 0.
        ``point``
            ``at`` (side ``source``) and ``bias`` (side ``target``), which have more precision
            than that last row.
        """
        at = np.zeros(len(self.weight), np.float32) if self.at is None else self.at
        zero = self.bias - at.astype(np.float64) @ self.weight.astype(np.float64)
        values = np.concatenate([self.weight, zero[None]]).astype(np.float32)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        point = pa.array([at, self.bias], pa.list_(pa.float32()))
        return [
            ("map", pa.table({"row": rows})),
            ("point", pa.table({"side": ["source", "target"], "values": point})),
        ]

    def apply(self, x: "Tensor") -> "Tensor":
        """Predict the target from vectors at the source.

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
            If the width of the vectors differs from that of the source.
        """
        import torch

        if x.shape[-1] != len(self.weight):
            raise Mismatch(
                f"The vectors have {x.shape[-1]} dimensions; expected {len(self.weight)}, the width of "
                f"{self.source}."
            )
        weight, bias = (torch.from_numpy(a).to(x.device) for a in (self.weight, self.bias))
        if self.at is not None:
            x = x - torch.from_numpy(self.at).to(x.device)
        return x.float() @ weight + bias
