"""Targets: the weights and targets of labels, checked, and what they tell before a vector is read."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadInput
from ingest.probe.solver.design import Design

__all__ = ["Targets", "look", "tiny"]

AT_ONCE = 2**20  # numbers looked at together
ROUNDED = 1 + 1e-5  # a target may be so much larger than its weight
ALIKE = 10  # units in the last place by which targets that are one number may differ


@dataclass(frozen=True, eq=False)
class Targets:
    """Weights and targets of some labels.

    Ridge regression takes its targets from their weighted mean, ``level``, row by row as they
    are read: a mean far above the spread would cost the digits of all that follows.

    Parameters
    ----------
    weight
        (rows, labels), or (rows, 1) if all labels share them.
    target
        (rows, labels).
    total
        (labels,) or (1,). Sums of weights, no less than the least normal number.
    level
        (labels,). What targets are taken from; None if logistic.
    spread
        (labels,). Standard deviation of the target; 1 if logistic.
    same
        bool, (labels,). All active, all inactive, or all one number.
    """

    weight: Tensor
    target: Tensor
    total: Tensor
    level: Tensor | None
    spread: Tensor
    same: Tensor

    @property
    def logistic(self) -> bool:
        """Whether targets are of classes."""
        return self.level is None

    @property
    def weighed(self) -> Tensor:
        """Which labels weigh anything; bool, (labels,) or (1,)."""
        return self.total > tiny(self.total)

    def of_rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return weights and targets of some rows, the latter from their level."""
        weight, target = self.weight[rows], self.target[rows]
        if self.level is not None:
            target = torch.addcmul(target, weight, self.level, value=-1)
        return weight, target

    def keep(self, kept: Tensor) -> "Targets":
        """Return some of the labels."""
        shared = self.weight.shape[1] == 1 != self.target.shape[1]
        return Targets(
            self.weight if shared else self.weight[:, kept],
            self.target[:, kept],
            self.total if shared else self.total[kept],
            None if self.level is None else self.level[kept],
            self.spread[kept],
            self.same[kept],
        )


def look(design: Design, weight: Tensor, target: Tensor, *, logistic: bool) -> Targets:
    """Check weights and targets, and look at what they tell.

    Parameters
    ----------
    design
        The vectors they belong to.
    weight
        (rows, labels), or (rows, 1) if all labels share them.
    target
        (rows, labels). Weight times label, summed.
    logistic
        Whether targets are of classes, so that none is above its weight.

    Raises
    ------
    BadInput
        Shapes do not fit each other, a weight is below 0, or a target cannot be.
    """
    total = _total(design, weight, target)
    for rows in _parts(target):
        if not _possible(weight[rows], target[rows], logistic=logistic):
            between = " between 0 and its row's weight" if logistic else ", 0 at weight 0"
            raise BadInput(
                f"A target of rows {rows.start} to {rows.stop - 1} is no number{between};"
                " give the weighted sum of the row's labels."
            )
    if logistic:
        one = torch.ones_like(target[0])
        return Targets(weight, target, total, None, one, _one_class(weight, target))
    level = (target.sum(dim=0, dtype=design.wide) / total).to(design.dtype)
    spread = _spread(design, weight, target, total=total, level=level)
    same = spread <= ALIKE * torch.finfo(level.dtype).eps * level.abs()
    return Targets(weight, target, total, level, spread, same)


def tiny(like: Tensor) -> float:
    """Return the least normal number of the type."""
    return float(torch.finfo(like.dtype).tiny)


def _total(design: Design, weight: Tensor, target: Tensor) -> Tensor:
    """Sum the weights of each label; raise where shapes or weights are no such thing."""
    fits = target.ndim == 2 == weight.ndim and len(target) == len(weight) == design.rows
    if not fits or weight.shape[1] not in (1, target.shape[1]) or target.shape[1] == 0:
        raise BadInput(
            f"Weights of shape {tuple(weight.shape)} and targets of shape {tuple(target.shape)}"
            f" were given for {design.rows} rows; expected (rows, labels) both, or weights (rows, 1)."
        )
    total = weight.sum(dim=0, dtype=design.wide).to(design.dtype)
    if not bool(total.isfinite().all()) or float(weight.min()) < 0:
        raise BadInput(
            "Weights below 0, NaN or without a finite sum were given; expected 0 or more."
        )
    return total.clamp(min=tiny(total))


def _parts(target: Tensor) -> Iterator[slice]:
    """Give rows in parts, so that what is made of a part stays small."""
    step = max(1, AT_ONCE // target.shape[1])
    for first in range(0, len(target), step):
        yield slice(first, min(first + step, len(target)))


def _possible(weight: Tensor, target: Tensor, *, logistic: bool) -> bool:
    """Whether all targets can be; NaN is neither above nor below anything."""
    if logistic:
        return bool((target >= 0).all() and (target <= weight * ROUNDED).all())
    return bool(target.isfinite().all() and not target.masked_select(weight == 0).any())


def _one_class(weight: Tensor, target: Tensor) -> Tensor:
    """Say which labels are active everywhere, or nowhere; bool, (labels,)."""
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
