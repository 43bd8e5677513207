"""A stored affine map between two sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from analysis.transcoder.accumulate import MapMoments
from analysis.transcoder.moments import joined
from analysis.transcoder.solve import Line, Spectra, choose, fit
from atlas.disk.parts import Part
from atlas.errors import BadInput, Mismatch

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.transcoder.solve import Line

__all__ = ["Affine", "FittedMap", "Maps", "closed_form"]


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


@dataclass(frozen=True, eq=False)
class FittedMap:
    """A map, the folds of its fit, and the folds of its score."""

    line: Line
    on: tuple[int, ...]
    scored: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps between two sites.

    Parameters
    ----------
    held_out
        Maps scored on held-out folds, each fold at most once.
    full
        The stored map, scored in sample.
    bos_held_out, bos_full
        The same with BOS among the tokens; empty and None without BOS.
    penalty
        λ of ``full``, which is added to the source's covariance; None for Adam.
    steps, rate
        Steps and learning rate of Adam; None for the closed form.
    rank
        Rank of the source on the tokens of the fit of ``full``.
    """

    held_out: tuple[FittedMap, ...]
    full: FittedMap
    bos_held_out: tuple[FittedMap, ...]
    bos_full: FittedMap | None
    penalty: float | None
    steps: int | None
    rank: int
    rate: float | None = None


def closed_form(
    measured: MapMoments,
    target: str,
    *,
    penalties: Sequence[float],
    text: Spectra,
    both: Spectra,
) -> Maps:
    """Fit maps by ridge regression in closed form.

    The maps with BOS use the penalties that are chosen without BOS.

    Parameters
    ----------
    measured
        Moments of the folds.
    target
        The target.
    penalties
        Penalties to choose from, in units of the mean variance of the source's dimensions. If
        the source has rank below its width, 0 is used only if it is the only one.
    text, both
        Spectra of the source, without and with BOS.
    """
    every = tuple(range(measured.folds))
    if measured.source == target:
        return _same(measured, target, text.of(every).rank)
    moments = [measured.text(target, f) for f in every]
    if any(text.of(_but(every, f)).rank < len(moments[0].x) for f in every):
        penalties = [p for p in penalties if p] or penalties
    nested, last = choose(moments, text, penalties)

    def fitted(spectra: Spectra, bos: bool) -> tuple[tuple[FittedMap, ...], FittedMap]:
        moments_of = measured.both if bos else measured.text
        own = [moments_of(target, f) for f in every] if bos else moments

        def one(on: tuple[int, ...], penalty: float, scored: tuple[int, ...]) -> FittedMap:
            return FittedMap(fit(joined([own[f] for f in on]), spectra.of(on), penalty), on, scored)

        held_out = tuple(one(_but(every, f), nested[f], (f,)) for f in every)
        return held_out, one(every, last, every)

    held_out, full = fitted(text, bos=False)
    n = sum(m.n for m in moments)
    bos_held_out, bos_full = fitted(both, bos=True) if measured.has_bos else ((), None)
    return Maps(
        held_out,
        full,
        bos_held_out,
        bos_full,
        last * text.of(every).unit / n,
        None,
        text.of(every).rank,
    )


def _same(measured: MapMoments, target: str, rank: int) -> Maps:
    every = tuple(range(measured.folds))
    zero = torch.zeros_like(measured.text(target, 0).y)
    line = Line(torch.diag(zero + 1), zero, zero, same=True)
    held_out = tuple(FittedMap(line, _but(every, f), (f,)) for f in every)
    full = FittedMap(line, every, every)
    if measured.has_bos:
        return Maps(held_out, full, held_out, full, 0.0, None, rank)
    return Maps(held_out, full, (), None, 0.0, None, rank)


def _but(folds: tuple[int, ...], excluded: int) -> tuple[int, ...]:
    return tuple(f for f in folds if f != excluded)
