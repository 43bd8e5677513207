"""Fidelity: the fraction of variance unexplained (FVU) by an SAE's reconstruction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadActivations
from ingest.reduce.arrays import Arrays, graph_table, nullable
from ingest.reduce.moments import FeatureMoments
from ingest.reduce.protocol import Plan, ReducedSae, Sizes, Table

if TYPE_CHECKING:
    import torch

    from ingest.reduce.protocol import ActivationReduction

__all__ = ["Fidelity"]

# Bytes of rows that a CPU processes at once, so that they are loaded from memory once.
_CACHED = 1 << 19


@dataclass(frozen=True)
class Fidelity:
    """FVU: residual sum of squares / centred sum of squares, over all tokens and dimensions.

    The reconstruction of an SAE is compared with its input, that of a transcoder with the
    activations at its output site.

    Tables: ``SAE`` and ``fidelity`` (for each of these dimensions: dimension, mean,
    variance, mse, fvu; null where the denominator is 0).
    """

    name: ClassVar[str] = "fidelity"
    version: ClassVar[int] = 1

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return one pass, with four numbers for each dimension."""
        return Plan(passes=1, bytes=8 * (4 * sizes.d_in + 1))

    def start(self, sizes: Sizes) -> Arrays:
        """Return the state of no tokens; ``residual`` is float64 of shape (d_in,)."""
        state: Arrays = {"residual": np.zeros(sizes.d_in)}
        FeatureMoments.empty(sizes.d_in, counts=1).into(state)
        return state

    def update(self, state: Arrays, inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Add a batch of tokens; sums are computed in float64 on its device.

        Raises
        ------
        BadActivations
            If a number is NaN or infinite; the state then does not change.
        """
        if not len(inputs):
            return
        mean, rest, m2, residual = _sums(inputs, reconstruction)
        if not np.isfinite(m2).all():
            raise BadActivations(
                "NaN or Inf is among the activations that the SAE reads; expected finite numbers. "
                "Run the model in float32 or bfloat16."
            )
        if not np.isfinite(residual).all():
            raise BadActivations(
                "NaN or Inf is in the SAE's reconstruction of finite activations. Check the "
                "SAE's weights and run it in float32."
            )
        batch = FeatureMoments(np.array([len(inputs)]), mean, rest, m2)
        FeatureMoments.of(state).join(batch).into(state)
        state["residual"] = state["residual"] + residual

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Merge two states."""
        FeatureMoments.of(a).join(FeatureMoments.of(b)).into(a)
        a["residual"] = a["residual"] + b["residual"]
        return a

    def tables(self, finals: Sequence[Arrays], subject: ReducedSae) -> Iterator[Table]:
        """Yield the SAE's FVU, and the statistics of each dimension."""
        (state,) = finals
        moments = FeatureMoments.of(state)
        residual = state["residual"].astype(np.float64)
        total = float(moments.m2.sum())
        fvu = float(residual.sum()) / total if total > 0 else None
        yield graph_table("SAE", self.name, {"name": [subject.sae], "fvu": [fvu]})
        empty = np.full(len(residual), moments.number[0] == 0)
        constant = moments.m2 == 0
        tokens = max(int(moments.number[0]), 1)
        columns = {
            "dimension": np.arange(len(residual)),
            "mean": nullable(moments.mean + moments.rest, null=empty),
            "variance": nullable(moments.m2 / tokens, null=empty),
            "mse": nullable(residual / tokens, null=empty),
            "fvu": nullable(residual / np.where(constant, 1.0, moments.m2), null=constant),
        }
        yield Table("fidelity", pa.table(columns))


def _sums(inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> NDArray[np.float64]:
    """Return the mean, its rounding error, m2 and residual; float64 of shape (4, d_in)."""
    import torch

    if inputs.device.type == "mps":  # has no float64
        inputs, reconstruction = inputs.cpu(), reconstruction.cpu()
    inputs, reconstruction = inputs.detach(), reconstruction.detach()
    mean = inputs.mean(0, dtype=torch.float64)
    rest, m2, residual = torch.zeros(3, len(mean), dtype=torch.float64, device=mean.device)
    rows = len(inputs) if mean.is_cuda else max(1, _CACHED // (8 * len(mean)))
    for x, y in zip(torch.split(inputs, rows), torch.split(reconstruction, rows), strict=True):
        wide = x.double()
        residual += (wide - y).square_().sum(0)
        off = wide.sub_(mean)
        rest += off.sum(0)
        m2 += off.square_().sum(0)
    return torch.stack([mean, rest / len(inputs), m2, residual]).cpu().numpy()


if TYPE_CHECKING:
    _: ActivationReduction = Fidelity()
