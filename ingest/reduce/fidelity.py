"""Fidelity: how much of the variance of what it reads an SAE leaves unexplained (FVU)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import BadActivations
from ingest.reduce.arrays import Arrays
from ingest.reduce.arrow_columns import graph_table, nullable
from ingest.reduce.moments import Moments
from ingest.reduce.protocol import Plan, Sizes, Subject, Table

if TYPE_CHECKING:
    import torch

    from ingest.reduce.protocol import ActivationReduction

__all__ = ["Fidelity"]

# Bytes of rows that are handled at once on a CPU, so that they are fetched from memory once.
_CACHED = 1 << 19


@dataclass(frozen=True)
class Fidelity:
    """FVU: residual sum of squares / centred sum of squares, over all tokens and dimensions.

    Tables: ``SAE`` and ``fidelity`` (per dimension of what the SAE reads: dimension, mean,
    variance, mse, fvu; null where there is nothing to divide by).
    """

    name: ClassVar[str] = "fidelity"
    version: ClassVar[int] = 1

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """One look; four numbers a dimension."""
        return Plan(looks=1, bytes=8 * (4 * sizes.d_in + 1))

    def start(self, sizes: Sizes) -> Arrays:
        """Return the state of no tokens; ``residual`` is float64 of shape (d_in,)."""
        state: Arrays = {"residual": np.zeros(sizes.d_in)}
        Moments.empty(sizes.d_in, counts=1).into(state)
        return state

    def update(self, state: Arrays, inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Take some tokens in; summed in float64 on the device that holds them.

        Raises
        ------
        BadActivations
            If a number is NaN or infinite; the state is then as it was.
        """
        if not len(inputs):
            return
        mean, rest, m2, residual = _sums(inputs, reconstruction)
        if not np.isfinite(m2).all():
            raise BadActivations(
                "NaN or Inf is among the activations that the SAE reads; run the model in "
                "float32 or bfloat16."
            )
        if not np.isfinite(residual).all():
            raise BadActivations(
                "NaN or Inf is in the SAE's reconstruction of finite activations; check the "
                "SAE's weights and run it in float32."
            )
        batch = Moments(np.array([len(inputs)]), mean, rest, m2)
        Moments.of(state).join(batch).into(state)
        state["residual"] = state["residual"] + residual

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Return the state of both."""
        Moments.of(a).join(Moments.of(b)).into(a)
        a["residual"] = a["residual"] + b["residual"]
        return a

    def tables(self, finals: Sequence[Arrays], subject: Subject) -> Iterator[Table]:
        """Make the SAE's FVU, and the numbers of each dimension."""
        (state,) = finals
        moments = Moments.of(state)
        residual = state["residual"].astype(np.float64)
        total = float(moments.m2.sum())
        fvu = float(residual.sum()) / total if total > 0 else None
        yield graph_table("SAE", self.name, {"name": [subject.sae], "fvu": [fvu]})
        none = np.full(len(residual), moments.number[0] == 0)
        still = moments.m2 == 0
        tokens = max(int(moments.number[0]), 1)
        columns = {
            "dimension": np.arange(len(residual)),
            "mean": nullable(moments.mean + moments.rest, null=none),
            "variance": nullable(moments.m2 / tokens, null=none),
            "mse": nullable(residual / tokens, null=none),
            "fvu": nullable(residual / np.where(still, 1.0, moments.m2), null=still),
        }
        yield Table("fidelity", pa.table(columns))


def _sums(inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> NDArray[np.float64]:
    """Return mean, its rest, m2 and residual, float64 of shape (4, d_in)."""
    import torch

    if inputs.device.type == "mps":  # which has no float64
        inputs, reconstruction = inputs.cpu(), reconstruction.cpu()
    inputs, reconstruction = inputs.detach(), reconstruction.detach()
    mean = inputs.mean(0, dtype=torch.float64)
    rest, m2, residual = torch.zeros(3, len(mean), dtype=torch.float64, device=mean.device)
    few = len(inputs) if mean.is_cuda else max(1, _CACHED // (8 * len(mean)))
    for x, there in zip(torch.split(inputs, few), torch.split(reconstruction, few), strict=True):
        wide = x.double()
        residual += (wide - there).square_().sum(0)
        off = wide.sub_(mean)
        rest += off.sum(0)
        m2 += off.square_().sum(0)
    return torch.stack([mean, rest / len(inputs), m2, residual]).cpu().numpy()


if TYPE_CHECKING:
    _: ActivationReduction = Fidelity()
