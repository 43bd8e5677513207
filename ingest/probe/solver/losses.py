"""Losses: loss and gradient of many labels in one pass over the shared vectors.

``Targets`` are the checked weights and targets of labels, with the statistics that need no vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadInput
from ingest.probe.solver.design import Design, Spectrum

__all__ = ["SCRATCH_CPU", "Losses", "Targets", "Values", "read_targets", "tiny"]

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


SCRATCH_CPU = 2**20  # numbers in a chunk of margins: about the cache size, with few chunks
SCRATCH_GPU = 2**25


@dataclass(frozen=True, eq=False)
class Values:
    """Loss, size of its parts, gradient and largest component of the gradient of each label.

    Points and gradients have shape (labels, width + 1). The first coordinates are along the
    eigenvectors, the last is the intercept. ``largest`` is computed in the original basis.
    """

    loss: Tensor
    size: Tensor
    gradient: Tensor
    largest: Tensor

    def select(self, labels: Tensor) -> "Values":
        """Return the values of a subset of labels."""
        return Values(
            self.loss[labels], self.size[labels], self.gradient[labels], self.largest[labels]
        )

    def where(self, good: Tensor, other: "Values") -> "Values":
        """Return these values where ``good``, (labels,), and ``other`` elsewhere."""
        return Values(
            torch.where(good, self.loss, other.loss),
            torch.where(good, self.size, other.size),
            torch.where(good[:, None], self.gradient, other.gradient),
            torch.where(good, self.largest, other.largest),
        )


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of some labels, with the sums that do not depend on the point.

    Vectors are centred with the mean of the basis, so that a large mean costs no precision.
    At a point they are centred with the weighted mean of each label.

    Parameters
    ----------
    design
        The vectors.
    basis
        Their mean and covariance.
    targets
        The weights and targets of the labels.
    penalty
        (labels,).
    means
        (labels, width) or (1, width). The labels' weighted means of centred vectors.
    linear
        (labels, width + 1). Sums of target times centred vector; the last column is the sum
        of targets.
    """

    design: Design
    basis: Spectrum
    targets: Targets
    penalty: Tensor
    means: Tensor
    linear: Tensor

    @classmethod
    def of(cls, design: Design, targets: Targets, *, basis: Spectrum, penalty: Tensor) -> "Losses":
        """Compute the means and the linear part of the loss in one pass over the vectors."""
        shape, width = targets.target.shape, design.width + 1
        weighted = penalty.new_zeros(targets.weight.shape[1], width)
        linear = penalty.new_zeros(shape[1], width)
        for rows, x in _with_ones(design, basis.mean, labels=shape[1]):
            weight, target = targets.of_rows(rows)
            weighted.addmm_(weight.T, x)
            linear.addmm_(target.T, x)
        means = weighted[:, :-1] / targets.total[:, None]
        return cls(design, basis, targets, penalty, means, linear)

    def select(self, labels: Tensor) -> "Losses":
        """Return the losses of a subset of labels."""
        shared = len(self.means) == 1 != len(self.linear)
        return Losses(
            self.design,
            self.basis,
            self.targets.select(labels),
            self.penalty[labels],
            self.means if shared else self.means[labels],
            self.linear[labels],
        )

    def start(self, far: float) -> Tensor:
        """Return the best points with ``w = 0``; labels of one class have the intercept ± far."""
        share = self.linear[:, -1] / self.targets.total
        point = torch.zeros_like(self.linear)
        if not self.targets.logistic:
            point[:, -1] = share
            return point
        eps = torch.finfo(share.dtype).eps
        odds = torch.logit(share.clamp(eps, 1 - eps))
        point[:, -1] = torch.where(self.targets.same, torch.sign(share - 0.5) * far, odds)
        point[:, -1] *= self.targets.weighed
        return point

    def curvature(self) -> Tensor:
        """Return the approximate inverse of the second derivatives of the loss at ``w = 0``."""
        share = self.linear[:, -1] / self.targets.total
        bend = share * (1 - share) if self.targets.logistic else torch.ones_like(share)
        bend = bend.clamp(min=1e-6)[:, None]
        inverse = 1 / (bend * self.basis.values + 2 * self.penalty[:, None])
        return torch.cat([inverse, 1 / bend], dim=1)

    def at(self, point: Tensor) -> Values:
        """Compute the loss and gradient of each label at its point in one pass over the vectors."""
        vectors, total = self.basis.vectors, self.targets.total
        coef = point[:, :-1] @ vectors.T
        shift = point[:, -1] - (coef * self.means).sum(dim=1)
        both = torch.cat([coef, shift[:, None]], dim=1)
        curved, gradient = self._sums(both)
        linear = self._linear(both) / total
        curved = curved / total + self.penalty * coef.square().sum(dim=1)
        gradient /= total[:, None]
        gradient[:, :-1] -= gradient[:, -1:] * self.means
        gradient[:, :-1] += 2 * self.penalty[:, None] * coef
        largest = gradient.abs().amax(dim=1)
        gradient[:, :-1] = gradient[:, :-1] @ vectors
        loss = (curved - linear).to(point.dtype)
        return Values(loss, curved.abs().to(point.dtype) + linear.abs(), gradient, largest)

    def _sums(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over rows of the loss without its linear part, and of the gradient."""
        labels = len(both)
        gradient = torch.zeros_like(both)
        curved = torch.zeros(labels, dtype=self.design.wide, device=both.device)
        scratch = both.new_empty(3, _rows_per_chunk(self.design, labels), labels)
        step = _logistic if self.targets.logistic else _squared
        for rows, x in _with_ones(self.design, self.basis.mean, labels=labels):
            z = scratch[0, : len(x)]
            torch.mm(x, both.T, out=z)
            residual, cost = step(z, scratch[1:, : len(x)], *self.targets.of_rows(rows))
            gradient.addmm_(residual.T, x)
            curved += cost
        return curved, gradient

    def _linear(self, both: Tensor) -> Tensor:
        """Return the sum over rows of the part that is linear in the margins."""
        linear = (both * self.linear).sum(dim=1)
        if not self.targets.logistic:
            return linear
        weighted = (both[:, :-1] * self.means).sum(dim=1) + both[:, -1]
        return linear - weighted * self.targets.total


def _logistic(z: Tensor, buffer: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute residuals in place of the margins, and the sums of -W log p.

    The loss is ``-W log p + (W - M) z``, since ``log(1 + exp z) = z - log p``. The part that
    is linear in z needs no pass over the rows.
    """
    p = torch.sigmoid(z, out=buffer[0])
    log_p = torch.clamp(p, min=tiny(p), out=buffer[1]).log_()
    torch.minimum(log_p, z, out=log_p)  # where p underflows, log p is z
    residual = torch.mul(p, weight, out=z).sub_(target)
    if weight.shape[1] == 1:
        return residual, -(weight[:, 0] @ log_p)
    return residual, -log_p.mul_(weight).sum(dim=0)


def _squared(z: Tensor, buffer: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute residuals in place of the margins, and the sums of W z² / 2.

    The loss is ``W z² / 2 - M z``.
    """
    weighted = torch.mul(z, weight, out=buffer[0])
    cost = z.mul_(weighted).sum(dim=0) / 2
    return weighted.sub_(target), cost


def _with_ones(design: Design, mean: Tensor, *, labels: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield centred vectors with a column of ones, in chunks whose margins fit in the cache."""
    per_chunk = _rows_per_chunk(design, labels)
    buffer = mean.new_ones(per_chunk, design.width + 1)
    for rows, x in design.chunks(per_chunk):
        torch.sub(x, mean, out=buffer[: len(x), :-1])
        yield rows, buffer[: len(x)]


def _rows_per_chunk(design: Design, labels: int) -> int:
    """Return the number of rows in a chunk."""
    numbers = SCRATCH_CPU if design.device.type == "cpu" else SCRATCH_GPU
    return min(design.rows, max(1, numbers // max(labels, design.width)))
