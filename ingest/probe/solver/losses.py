"""Losses: loss and gradient of many labels in one pass over the shared vectors."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.probe.solver.design import Design
from ingest.probe.solver.preconditioner import Spectrum
from ingest.probe.solver.targets import Targets, tiny

__all__ = ["SCRATCH_CPU", "Losses", "Values"]

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
