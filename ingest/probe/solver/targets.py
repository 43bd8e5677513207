"""Targets: checked weights and targets of labels, with the statistics that need no vectors."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadInput
from ingest.probe.solver.design import Design

__all__ = ["Targets", "read_targets", "tiny"]

CHUNK = 2**20  # numbers checked together
ROUNDED = 1 + 1e-5  # largest ratio of a target to its weight
EQUAL = 10  # units in the last place by which equal targets may differ


@dataclass(frozen=True, eq=False)
class Targets:
    """Weights and targets of some labels.

    Ridge regression subtracts the weighted mean of the targets, ``level``, from each row as
    it is read: a mean far above the spread would otherwise cost precision.

    Parameters
    ----------
    weight
        (rows, labels), or (rows, 1) if all labels share them.
    target
        (rows, labels).
    total
        (labels,) or (1,). Sums of weights, at least the smallest normal number.
    level
        (labels,). The mean that is subtracted from targets; None if logistic.
    spread
        (labels,). Standard deviation of the target; 1 if logistic.
    same
        bool, (labels,). Whether the target is constant: all active, all inactive, or one
        number.
    """

    weight: Tensor
    target: Tensor
    total: Tensor
    level: Tensor | None
    spread: Tensor
    same: Tensor

    @property
    def logistic(self) -> bool:
        """Whether targets are classes."""
        return self.level is None

    @property
    def weighed(self) -> Tensor:
        """Which labels have a total weight above 0; bool, (labels,) or (1,)."""
        return self.total > tiny(self.total)

    def of_rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return weights and targets of some rows, with the level subtracted."""
        weight, target = self.weight[rows], self.target[rows]
        if self.level is not None:
            target = torch.addcmul(target, weight, self.level, value=-1)
        return weight, target

    def select(self, labels: Tensor) -> "Targets":
        """Return a subset of the labels."""
        shared = self.weight.shape[1] == 1 != self.target.shape[1]
        return Targets(
            self.weight if shared else self.weight[:, labels],
            self.target[:, labels],
            self.total if shared else self.total[labels],
            None if self.level is None else self.level[labels],
            self.spread[labels],
            self.same[labels],
        )


def read_targets(design: Design, weight: Tensor, target: Tensor, *, logistic: bool) -> Targets:
    """Check weights and targets, and compute their totals, means and spreads.

    Parameters
    ----------
    design
        The vectors they belong to.
    weight
        (rows, labels), or (rows, 1) if all labels share them.
    target
        (rows, labels). Sum of weight times label over the tokens of the row.
    logistic
        Whether targets are classes, so that no target exceeds its weight.

    Raises
    ------
    BadInput
        If shapes do not match, a weight is below 0, or a target is impossible.
    """
    total = _total(design, weight, target)
    for rows in _parts(target):
        if not _are_possible(weight[rows], target[rows], logistic=logistic):
            between = " between 0 and its row's weight" if logistic else ", 0 at weight 0"
            raise BadInput(
                f"A target of rows {rows.start} to {rows.stop - 1} is not a number{between}."
                " Pass the weighted sum of the row's labels."
            )
    if logistic:
        one = torch.ones_like(target[0])
        return Targets(weight, target, total, None, one, _one_class(weight, target))
    level = (target.sum(dim=0, dtype=design.wide) / total).to(design.dtype)
    spread = _spread(design, weight, target, total=total, level=level)
    same = spread <= EQUAL * torch.finfo(level.dtype).eps * level.abs()
    return Targets(weight, target, total, level, spread, same)


def tiny(like: Tensor) -> float:
    """Return the smallest normal number of the type."""
    return float(torch.finfo(like.dtype).tiny)


def _total(design: Design, weight: Tensor, target: Tensor) -> Tensor:
    """Sum the weights of each label, after a check of shapes and weights."""
    fits = target.ndim == 2 == weight.ndim and len(target) == len(weight) == design.rows
    if not fits or weight.shape[1] not in (1, target.shape[1]) or target.shape[1] == 0:
        raise BadInput(
            f"For {design.rows} rows, weights have shape {tuple(weight.shape)} and targets have shape"
            f" {tuple(target.shape)}; expected (rows, labels) for both, or (rows, 1) for weights."
        )
    total = weight.sum(dim=0, dtype=design.wide).to(design.dtype)
    if not bool(total.isfinite().all()) or float(weight.min()) < 0:
        raise BadInput(
            "A weight is below 0 or NaN, or the sum of weights is not finite; expected numbers of"
            " at least 0."
        )
    return total.clamp(min=tiny(total))


def _parts(target: Tensor) -> Iterator[slice]:
    """Yield rows in parts, so that temporary arrays stay small."""
    step = max(1, CHUNK // target.shape[1])
    for first in range(0, len(target), step):
        yield slice(first, min(first + step, len(target)))


def _are_possible(weight: Tensor, target: Tensor, *, logistic: bool) -> bool:
    """Whether all targets are possible; NaN is not, since it fails every comparison."""
    if logistic:
        return bool((target >= 0).all() and (target <= weight * ROUNDED).all())
    return bool(target.isfinite().all() and not target.masked_select(weight == 0).any())


def _one_class(weight: Tensor, target: Tensor) -> Tensor:
    """Return which labels are active on all rows or on none; bool, (labels,)."""
    active = torch.zeros_like(target[0], dtype=torch.bool)
    inactive = active.clone()
    for rows in _parts(target):
        active |= (target[rows] > 0).any(dim=0)
        inactive |= (target[rows] < weight[rows]).any(dim=0)
    return ~(active & inactive)


def _spread(
    design: Design, weight: Tensor, target: Tensor, *, total: Tensor, level: Tensor
) -> Tensor:
    """Return the standard deviation of each label's targets, (labels,)."""
    squares = torch.zeros_like(level, dtype=design.wide)
    for rows in _parts(target):
        above = torch.addcmul(target[rows], weight[rows], level, value=-1).to(design.wide)
        squares += (above.square() / weight[rows].clamp(min=tiny(weight))).sum(dim=0)
    return (squares / total).sqrt().to(design.dtype)
