"""Solver: L2 logistic and ridge regression, exactly, for many labels at once.

All labels share the vectors, so one pass over them serves every label: two products of
matrices give each label's loss and gradient at a point of its own. Around these passes each
label runs L-BFGS by itself: its own history, its own step, its own end.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from atlas.errors import BadActivations, BadInput
from ingest.probe.design import Design

__all__ = ["Link", "Solution", "Spectrum", "bytes_needed", "margins", "solve", "spectrum"]

Link: TypeAlias = Literal["logistic", "squared"]

HISTORY = 10
SCRATCH_CPU = 2**20  # numbers of a chunk of margins: near the cache, yet few chunks
SCRATCH_GPU = 2**25
COMPACT = 0.8  # labels that have ended are dropped once so few are left
DECREASE = 1e-4  # share of the promised decrease that a step must bring
SLACK = 10  # units in the last place by which a loss may be wrong
ROUNDED = 1 + 1e-5  # a target may be so much larger than its weight
SHORTEST = 1e-8  # a label whose step would be shorter is at its numbers' end


@dataclass(frozen=True, eq=False)
class Solution:
    """What was found, label by label.

    Parameters
    ----------
    coef
        (labels, width).
    intercept
        (labels,).
    iterations
        int64, (labels,). Passes over the vectors until the label's end.
    converged
        bool, (labels,). Whether no component of the gradient is larger than the tolerance.
    """

    coef: Tensor
    intercept: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean and covariance of vectors, the latter by its eigenvectors.

    Parameters
    ----------
    mean
        (width,).
    values
        (width,). Eigenvalues of the covariance, none below 0.
    vectors
        (width, width). Its eigenvectors, one a column.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor


def bytes_needed(rows: int, width: int, *, labels: int, itemsize: int = 4) -> int:
    """Return how many bytes ``solve`` takes at most, the vectors left out.

    These are the weights and targets (rows, labels), what is copied of them when labels have
    ended, and the histories (labels, width).
    """
    tables = 2 * (1 + COMPACT) * rows * labels
    histories = (2 * HISTORY + 10) * labels * (width + 1)
    scratch = 4 * max(SCRATCH_CPU, labels)
    return int(itemsize * (tables + histories + scratch) + 8 * 4 * width**2)


def spectrum(design: Design, row_weight: Tensor | None = None) -> Spectrum:
    """Find the mean and the covariance of the vectors.

    Products are of the design's type, sums of them are float64.

    Parameters
    ----------
    design
        The vectors.
    row_weight
        (rows,). How much each row weighs; all alike if None.

    Raises
    ------
    BadActivations
        The vectors are too large to be squared.
    """
    wide = design.dtype if design.device.type == "mps" else torch.float64
    if row_weight is None:
        row_weight = torch.ones(design.rows, dtype=design.dtype, device=design.device)
    share = (row_weight.to(wide) / row_weight.sum(dtype=wide)).to(design.dtype)
    mean = torch.zeros(design.width, dtype=wide, device=design.device)
    for rows, x in design.chunks():
        mean += share[rows] @ x
    covariance = torch.zeros(design.width, design.width, dtype=wide, device=design.device)
    for rows, x in design.chunks():
        centred = x - mean.to(design.dtype)
        covariance += centred.T @ (centred * share[rows, None])
    if not bool(covariance.isfinite().all()):
        raise BadActivations(
            f"The squares of the vectors are too large for {design.dtype}; divide the vectors by"
            " their root mean square, or compute in float64."
        )
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    return Spectrum(
        mean.to(design.dtype), values.clamp(min=0).to(design.dtype), vectors.to(design.dtype)
    )


def margins(design: Design, solution: Solution) -> Tensor:
    """Return ``X w + b`` of each row and label; (rows, labels), on the design's device."""
    coef = solution.coef.to(design.device, design.dtype)
    intercept = solution.intercept.to(design.device, design.dtype)
    out = torch.empty(design.rows, len(coef), dtype=design.dtype, device=design.device)
    for rows, x in design.chunks():
        torch.addmm(intercept, x, coef.T, out=out[rows])
    return out


def solve(
    design: Design,
    weight: Tensor,
    target: Tensor,
    *,
    penalty: float | Tensor,
    link: Link = "logistic",
    tolerance: float = 1e-4,
    max_iterations: int = 200,
    basis: Spectrum | None = None,
) -> Solution:
    """Fit every label by itself.

    Label l minimises, over its ``w`` and ``b``, with ``z = X w + b``:
    ``(1 / Σ_r W_rl) Σ_r [W_rl log(1 + exp z_r) - M_rl z_r] + penalty_l ‖w‖²``, or with link
    ``"squared"`` ``W_rl z_r² / 2`` in the place of the logarithm. The first is scikit-learn's
    ``LogisticRegression(C=1 / (2 * penalty * Σ W))``, the second its
    ``Ridge(alpha=2 * penalty * Σ W)``.

    A label ends when no component of its gradient is larger than the tolerance. The gradient
    is that of the formula above by ``w`` and ``b``, in the units of the vectors as the design
    gives them, with vectors taken from the label's weighted mean (which changes ``b`` alone).
    With link "squared" and weights that all labels share, the second pass ends it: the first
    step is Newton's. There the tolerance is in units of the target's standard deviation.

    A label without active or without inactive weight has no finite intercept: it gets
    ``w = 0`` and a ``b`` that just meets the tolerance, log(1 / tolerance + 1) or minus
    that, in 0 iterations. One without any weight gets 0 and has not converged.

    Parameters
    ----------
    design
        The vectors.
    weight
        (rows, labels), or (rows, 1) if all labels share them. None below 0.
    target
        (rows, labels). The weighted sum of the labels of the row: weight times label where a
        row is one token. Between 0 and the weight, if logistic.
    penalty
        One for all, or (labels,). Above 0.
    link
        What is minimised.
    tolerance
        See above.
    max_iterations
        Passes over the vectors at most.
    basis
        The mean and covariance of these or of like vectors, to save finding them for each
        block of labels. It steers the steps, not what they lead to.

    Raises
    ------
    BadInput
        Shapes do not fit each other, or a number is none of the above.
    """
    weight, target = (t.to(design.device, design.dtype) for t in (weight, target))
    penalties = _penalties(penalty, target)
    total = _total(design, weight, target)
    if basis is None:
        each = weight @ total.clamp(min=_tiny(total)).reciprocal()
        basis = spectrum(design, each if bool(each.any()) else None)
    problem = _Problem(design, link, basis, tolerance)
    labels = _Labels.of(problem, weight, target, penalty=penalties, total=total)
    del weight, target  # so that copies of fewer labels take their place
    found, search = _Found(labels), _Search(labels)
    del labels
    for iteration in range(max_iterations + 1):
        met, stuck = search.met, search.stuck
        ended = met | stuck | (iteration == max_iterations)
        if found.record(search.point, iteration, met=met, ended=ended):
            break
        kept = found.to_keep()
        if kept is not None:
            search.keep(kept)
        search.advance()
    return found.solution()


@dataclass(frozen=True, eq=False)
class _Problem:
    """What all labels share."""

    design: Design
    link: Link
    basis: Spectrum
    tolerance: float


@dataclass(frozen=True, eq=False)
class _Values:
    """Loss, its parts' size, gradient and the gradient's largest component, for each label.

    Points and gradients, (labels, width + 1), have their first coordinates along the
    eigenvectors; the last is that of the intercept. The largest is found before turning.
    """

    loss: Tensor
    size: Tensor
    gradient: Tensor
    largest: Tensor

    def keep(self, kept: Tensor) -> "_Values":
        """Return those of some labels."""
        return _Values(self.loss[kept], self.size[kept], self.gradient[kept], self.largest[kept])


@dataclass(frozen=True, eq=False)
class _Labels:
    """The losses of some labels, and what of them does not change.

    ``means`` are the labels' own weighted means, and ``linear`` the sums of target times
    vector, both of vectors centred by the basis; the sums of the targets are its last column.
    ``limit`` is the gradient at which a label ends, ``known`` are those that end at the start.
    """

    problem: _Problem
    weight: Tensor
    target: Tensor
    penalty: Tensor
    total: Tensor
    means: Tensor
    linear: Tensor
    limit: Tensor
    known: Tensor

    @classmethod
    def of(
        cls, problem: _Problem, weight: Tensor, target: Tensor, *, penalty: Tensor, total: Tensor
    ) -> "_Labels":
        """Pass over the vectors once, for the means and the linear part of the loss."""
        many, width = target.shape[1], problem.design.width + 1
        weighted = target.new_zeros(weight.shape[1], width)
        linear = target.new_zeros(many, width)
        seen = _Seen(target, logistic=problem.link == "logistic")
        for rows, x in _with_ones(problem, many):
            seen.update(weight[rows], target[rows], rows)
            weighted.addmm_(weight[rows].T, x)
            linear.addmm_(target[rows].T, x)
        safe = total.clamp(min=_tiny(total))
        return cls(
            problem,
            weight,
            target,
            penalty,
            total=safe,
            means=weighted[:, :-1] / safe[:, None],
            linear=linear,
            limit=problem.tolerance * seen.spread(safe),
            known=seen.same(safe),
        )

    def keep(self, kept: Tensor) -> "_Labels":
        """Return some of the labels."""
        shared = self.weight.shape[1] == 1 != self.target.shape[1]
        return _Labels(
            self.problem,
            self.weight if shared else self.weight[:, kept],
            self.target[:, kept],
            self.penalty[kept],
            total=self.total if shared else self.total[kept],
            means=self.means if shared else self.means[kept],
            linear=self.linear[kept],
            limit=self.limit[kept],
            known=self.known[kept],
        )

    def start(self) -> Tensor:
        """Return the best points with ``w = 0``; for labels of one class, a finite one."""
        share = self.linear[:, -1] / self.total
        point = torch.zeros_like(self.linear)
        if self.problem.link == "squared":
            point[:, -1] = share
            return point
        far = math.log(1 / self.problem.tolerance + 1)
        eps = torch.finfo(share.dtype).eps
        odds = torch.logit(share.clamp(eps, 1 - eps))
        point[:, -1] = torch.where(self.known, torch.sign(share - 0.5) * far, odds)
        point[:, -1] *= self.total > _tiny(self.total)
        return point

    def curvature(self) -> Tensor:
        """Return the inverse of the loss's second derivatives where ``w = 0``, about."""
        share = self.linear[:, -1] / self.total
        bend = torch.ones_like(share) if self.problem.link == "squared" else share * (1 - share)
        bend = bend.clamp(min=1e-6)[:, None]
        inverse = 1 / (bend * self.problem.basis.values + 2 * self.penalty[:, None])
        return torch.cat([inverse, 1 / bend], dim=1)

    def at(self, point: Tensor) -> _Values:
        """Pass over the vectors once: each label's loss and gradient at its point."""
        vectors = self.problem.basis.vectors
        coef = point[:, :-1] @ vectors.T
        shift = point[:, -1] - (coef * self.means).sum(dim=1)
        both = torch.cat([coef, shift[:, None]], dim=1)
        curved, gradient = self._sums(both)
        linear = self._linear(both) / self.total
        curved = curved / self.total + self.penalty * coef.square().sum(dim=1)
        gradient /= self.total[:, None]
        gradient[:, :-1] -= gradient[:, -1:] * self.means
        gradient[:, :-1] += 2 * self.penalty[:, None] * coef
        largest = gradient.abs().amax(dim=1)
        gradient[:, :-1] = gradient[:, :-1] @ vectors
        loss = (curved - linear).to(point.dtype)
        return _Values(loss, curved.abs().to(point.dtype) + linear.abs(), gradient, largest)

    def _sums(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over rows of the loss but for its linear part, and of the gradient."""
        logistic = self.problem.link == "logistic"
        gradient = torch.zeros_like(both)
        curved = torch.zeros(len(both), dtype=_wide(both), device=both.device)
        scratch = both.new_empty(2, _rows_at_once(self.problem, len(both)), len(both))
        for rows, x in _with_ones(self.problem, len(both)):
            z, other = scratch[0, : len(x)], scratch[1, : len(x)]
            torch.mm(x, both.T, out=z)
            step = _logistic if logistic else _squared
            residual, cost = step(z, other, self.weight[rows], self.target[rows])
            gradient.addmm_(residual.T, x)
            curved += cost
        return curved, gradient

    def _linear(self, both: Tensor) -> Tensor:
        """Return the sum over rows of what is linear in the margins."""
        linear = (both * self.linear).sum(dim=1)
        if self.problem.link == "squared":
            return linear
        weighted = (both[:, :-1] * self.means).sum(dim=1) + both[:, -1]
        return linear - weighted * self.total


class _Seen:
    """What the targets are seen to be, chunk by chunk: fit for use, varied, of what spread."""

    def __init__(self, target: Tensor, *, logistic: bool) -> None:
        self.logistic = logistic
        self.some = torch.zeros(target.shape[1], dtype=torch.bool, device=target.device)
        self.rest = self.some.clone()
        self.sum = torch.zeros(target.shape[1], dtype=_wide(target), device=target.device)
        self.squares = self.sum.clone()

    def update(self, weight: Tensor, target: Tensor, rows: slice) -> None:
        """Take a chunk of rows in; raise where a target cannot be."""
        good = bool(target.isfinite().all())
        if self.logistic:
            good = good and bool((target >= 0).all() and (target <= weight * ROUNDED).all())
            self.some |= (target > 0).any(dim=0)
            self.rest |= (target < weight).any(dim=0)
        else:
            wide = target.to(_wide(target))
            good = good and not bool(target.masked_select(weight == 0).any())
            self.sum += wide.sum(dim=0)
            self.squares += (wide.square() / weight.clamp(min=_tiny(weight))).sum(dim=0)
        if not good:
            between = " between 0 and its row's weight" if self.logistic else ", 0 at weight 0"
            raise BadInput(
                f"A target of rows {rows.start} to {rows.stop - 1} is no number{between};"
                " give the weighted sum of the row's labels."
            )

    def same(self, total: Tensor) -> Tensor:
        """Say which labels are all active, all inactive, or all one number."""
        if self.logistic:
            return ~(self.some & self.rest)
        return self._variance(total) <= 1e-14 * self.squares / total

    def spread(self, total: Tensor) -> Tensor:
        """Return the standard deviation of what ridge regression predicts; else 1."""
        if self.logistic:
            return torch.ones_like(total).expand(self.some.shape)
        return self._variance(total).clamp(min=0).sqrt().to(total.dtype)

    def _variance(self, total: Tensor) -> Tensor:
        return self.squares / total - (self.sum / total).square()


def _logistic(z: Tensor, other: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Turn margins into residuals, and sum -W log p: the loss is that + (W - M) z.

    ``log(1 + exp z) = z - log p``, and what is linear in z needs no pass over the rows.
    """
    p = torch.sigmoid(z, out=other)
    residual = torch.mul(p, weight, out=z).sub_(target)
    log_p = p.clamp_(min=_tiny(p)).log_()
    return residual, -_summed(log_p, weight)


def _squared(z: Tensor, other: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Turn margins into residuals, and sum W z² / 2: the loss is that - M z."""
    weighted = torch.mul(z, weight, out=other)
    cost = z.mul_(weighted).sum(dim=0) / 2
    return weighted.sub_(target), cost


def _summed(values: Tensor, weight: Tensor) -> Tensor:
    """Sum over rows by weight; what is summed may be overwritten."""
    if weight.shape[1] == 1:
        return weight[:, 0] @ values
    return values.mul_(weight).sum(dim=0)


class _Search:
    """L-BFGS of labels side by side, one step tried of each in every pass.

    A step that is refused is tried again, shorter, in the next pass, while other labels go
    on. History holds the latest ten passes; a refused step leaves an empty place in it.
    """

    def __init__(self, labels: _Labels) -> None:
        self.labels = labels
        self.point = labels.start()
        self.values = values = labels.at(self.point)
        self.inverse = labels.curvature()
        self.history: list[tuple[Tensor, Tensor, Tensor]] = []
        self.gamma = torch.ones_like(values.loss)
        self.step = torch.ones_like(values.loss)
        self.stuck = torch.zeros_like(values.loss, dtype=torch.bool)
        self.direction = -self.inverse * values.gradient
        self.slope = (self.direction * values.gradient).sum(dim=1)

    @property
    def met(self) -> Tensor:
        """Which labels are where they should end."""
        return self.labels.known | (self.values.largest <= self.labels.limit)

    def keep(self, kept: Tensor) -> None:
        """Drop all other labels."""
        self.labels = self.labels.keep(kept)
        for name in ("point", "inverse", "gamma", "step", "stuck", "direction", "slope"):
            setattr(self, name, getattr(self, name)[kept])
        self.values = self.values.keep(kept)
        self.history = [(s[kept], y[kept], r[kept]) for s, y, r in self.history]

    def advance(self) -> None:
        """Try a step of every label, and take it where it is good."""
        trial = torch.addcmul(self.point, self.direction, self.step[:, None])
        values = self.labels.at(trial)
        slope = (values.gradient * self.direction).sum(dim=1)
        good = self._good(values.loss, slope)
        self._remember(trial, values.gradient, good)
        shorter = (self.slope / (self.slope - slope)).nan_to_num(0.1).clamp(0.1, 0.7)
        self.step = torch.where(good, 1.0, self.step * shorter)
        self.stuck = self.step < SHORTEST
        self._take(trial, values, good)
        direction = self._direction()
        downhill = (direction * self.values.gradient).sum(dim=1)
        self.direction = torch.where(good[:, None], direction, self.direction)
        self.slope = torch.where(good, downhill, self.slope)

    def _good(self, loss: Tensor, slope: Tensor) -> Tensor:
        """Whether the loss falls enough; where rounding hides it, whether its slope tells so."""
        now = self.values.loss
        slack = SLACK * torch.finfo(now.dtype).eps * self.values.size
        falls = loss <= now + DECREASE * self.step * self.slope
        flat = (loss <= now + slack) & (slope <= -0.8 * self.slope)
        return falls | flat

    def _take(self, trial: Tensor, values: _Values, good: Tensor) -> None:
        """Go where the step was good."""
        there = good[:, None]
        self.point = torch.where(there, trial, self.point)
        self.values = _Values(
            torch.where(good, values.loss, self.values.loss),
            torch.where(good, values.size, self.values.size),
            torch.where(there, values.gradient, self.values.gradient),
            torch.where(good, values.largest, self.values.largest),
        )

    def _remember(self, trial: Tensor, gradient: Tensor, good: Tensor) -> None:
        """Add the step and the change of the gradient to the history."""
        step, change = trial - self.point, gradient - self.values.gradient
        bend = (step * change).sum(dim=1)
        sound = good & (bend > _tiny(bend))
        rho = torch.where(sound, 1 / bend, 0.0)
        step = torch.where(sound[:, None], step, 0.0)
        change = torch.where(sound[:, None], change, 0.0)
        fit = bend / (change.square() * self.inverse).sum(dim=1)
        self.gamma = torch.where(sound & fit.isfinite(), fit, self.gamma)
        self.history = [*self.history[-HISTORY + 1 :], (step, change, rho)]

    def _direction(self) -> Tensor:
        """Return the two-loop direction of L-BFGS."""
        q = self.values.gradient.clone()
        shares = []
        for step, change, rho in reversed(self.history):
            share = rho * (step * q).sum(dim=1)
            q.addcmul_(change, share[:, None], value=-1)
            shares.append(share)
        q *= self.inverse * self.gamma[:, None]
        for (step, change, rho), share in zip(self.history, reversed(shares), strict=True):
            share = share - rho * (change * q).sum(dim=1)
            q.addcmul_(step, share[:, None])
        return q.neg_()


class _Found:
    """The solution as it fills, label by label, and which labels are still at work."""

    def __init__(self, labels: _Labels) -> None:
        many, device = len(labels.linear), labels.linear.device
        self.vectors = labels.problem.basis.vectors
        self.means = labels.means + labels.problem.basis.mean
        self.weighed = labels.total > _tiny(labels.total)
        self.points = torch.zeros_like(labels.linear)
        self.iterations = torch.zeros(many, dtype=torch.int64, device=device)
        self.converged = torch.zeros(many, dtype=torch.bool, device=device)
        self.running = torch.ones(many, dtype=torch.bool, device=device)
        self.at_work = torch.arange(many, device=device)  # those in the search, ended ones too

    def record(self, point: Tensor, iteration: int, *, met: Tensor, ended: Tensor) -> bool:
        """Write down labels that end now; return whether none is left."""
        now = ended & self.running[self.at_work]
        which = self.at_work[now]
        self.points[which] = point[now]
        self.iterations[which] = iteration
        self.converged[which] = met[now]
        self.running[which] = False
        return not bool(self.running.any())

    def to_keep(self) -> Tensor | None:
        """Say which labels of the search to keep, once it pays to drop the others."""
        running = self.running[self.at_work]
        if int(running.sum()) > COMPACT * len(running):
            return None
        kept = running.nonzero()[:, 0]
        self.at_work = self.at_work[kept]
        return kept

    def solution(self) -> Solution:
        """Turn the points back, and take the means out of the intercepts."""
        coef = self.points[:, :-1] @ self.vectors.T
        wide = _wide(coef)
        moved = (coef.to(wide) * self.means.to(wide)).sum(dim=1)
        intercept = (self.points[:, -1].to(wide) - moved).to(coef.dtype)
        return Solution(coef, intercept, self.iterations, self.converged & self.weighed)


def _with_ones(problem: _Problem, labels: int) -> Iterator[tuple[slice, Tensor]]:
    """Give centred vectors with a column of ones, in chunks whose margins stay in the cache."""
    width = problem.design.width
    at_once = _rows_at_once(problem, labels)
    mean = problem.basis.mean
    room = mean.new_ones(at_once, width + 1)
    for rows, x in problem.design.chunks(at_once):
        torch.sub(x, mean, out=room[: len(x), :width])
        yield rows, room[: len(x)]


def _rows_at_once(problem: _Problem, labels: int) -> int:
    """Return how many rows a chunk has."""
    numbers = SCRATCH_CPU if problem.design.device.type == "cpu" else SCRATCH_GPU
    return min(problem.design.rows, max(1, numbers // max(labels, problem.design.width)))


def _penalties(penalty: float | Tensor, target: Tensor) -> Tensor:
    """Return the penalty of each label."""
    given = torch.as_tensor(penalty, dtype=target.dtype, device=target.device)
    if given.shape not in ((), target.shape[1:]) or not bool(
        ((given > 0) & given.isfinite()).all()
    ):
        raise BadInput(
            f"A penalty of shape {tuple(given.shape)} was given for {target.shape[1]} labels;"
            " expected one number above 0, or one for each label."
        )
    return given.expand(target.shape[1])


def _total(design: Design, weight: Tensor, target: Tensor) -> Tensor:
    """Sum the weights of each label; raise where shapes or weights are no such thing."""
    fits = target.ndim == 2 == weight.ndim and len(target) == len(weight) == design.rows
    if not fits or weight.shape[1] not in (1, target.shape[1]):
        raise BadInput(
            f"Weights of shape {tuple(weight.shape)} and targets of shape {tuple(target.shape)}"
            f" were given for {design.rows} rows; expected (rows, labels) both, or weights (rows, 1)."
        )
    total = weight.sum(dim=0)
    if target.shape[1] == 0 or not bool(total.isfinite().all()) or float(weight.min()) < 0:
        raise BadInput(
            "Weights below 0, NaN or without a finite sum were given; expected 0 or more."
        )
    return total


def _tiny(like: Tensor) -> float:
    """Return the least normal number of the type."""
    return float(torch.finfo(like.dtype).tiny)


def _wide(like: Tensor) -> torch.dtype:
    """Return the type that sums are held in."""
    return like.dtype if like.device.type == "mps" else torch.float64
