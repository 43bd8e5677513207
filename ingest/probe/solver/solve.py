"""Solver: exact L2 logistic and ridge regression for many labels at once.

All labels share the vectors, so one pass over them serves every label. Two matrix products
give the loss and gradient of each label at its own point (``losses``). Each label runs its
own L-BFGS on top of these passes (``Search``), with its own history, step size and end.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from atlas.errors import BadInput
from ingest.precision import ieee_float32
from ingest.probe.solver.design import Design, Spectrum, spectrum
from ingest.probe.solver.losses import SCRATCH_CPU, Losses, Targets, Values, read_targets, tiny

__all__ = [
    "HISTORY",
    "Ended",
    "Link",
    "Minimised",
    "Search",
    "Solution",
    "bytes_needed",
    "equal_for_repeats",
    "margins",
    "penalty_of_labels",
    "run",
    "solve",
]

HISTORY = 10
DECREASE = 1e-4  # share of the predicted decrease that a step must reach
SLACK = 10  # rounding error of a loss, in units in the last place
ROUNDING = 32  # rounding error of a component of the gradient, in units in the last place
SHORTEST = 1e-8  # below this step size a label has reached the numerical precision
PER_LABEL = ("point", "_inverse", "_gamma", "_step", "_direction", "_slope")


class Minimised(Protocol):
    """The losses of some labels, each a function of its own point."""

    @property
    def targets(self) -> Targets:
        """The weights and targets of the labels."""

    def start(self, far: float) -> Tensor:
        """Return the first point of each label, (labels, coordinates)."""

    def curvature(self) -> Tensor:
        """Return an approximate inverse of the second derivatives; (labels, coordinates)."""

    def at(self, point: Tensor) -> Values:
        """Compute the loss and gradient of each label at its point."""

    def select(self, labels: Tensor) -> Self:
        """Return the losses of a subset of labels."""


class Search:
    """Minimise the loss of each label, with one trial step for each label in every pass.

    A rejected step is tried again, shorter, in the next pass, while other labels proceed.
    The history has the latest ten passes; the entry of a rejected step is zero.

    Parameters
    ----------
    losses
        The losses to minimise.
    tolerance
        A label ends when no component of its gradient is larger, in units of the standard
        deviation of the target.
    """

    def __init__(self, losses: Minimised, *, tolerance: float) -> None:
        self._losses = losses
        self._tolerance = tolerance
        self.point = losses.start(math.log(1 / tolerance + 1))
        self._values = values = losses.at(self.point)
        self._inverse = losses.curvature()
        self._history: list[tuple[Tensor, Tensor, Tensor]] = []
        self._gamma = torch.ones_like(values.loss)
        self._step = torch.ones_like(values.loss)
        self._direction = -self._inverse * values.gradient
        self._slope = (self._direction * values.gradient).sum(dim=1)

    @property
    def met(self) -> Tensor:
        """Which labels have converged; bool, (labels,).

        A label that is stuck has converged too, if its gradient does not exceed the
        rounding error of sums of this size.
        """
        targets, now = self._losses.targets, self._values
        rounding = ROUNDING * torch.finfo(now.loss.dtype).eps * now.size
        small = now.largest <= self._tolerance * targets.spread
        return targets.same | small | (self.stuck & (now.largest <= rounding))

    @property
    def stuck(self) -> Tensor:
        """Which labels have a step below ``SHORTEST``; bool, (labels,)."""
        return self._step < SHORTEST

    def select(self, labels: Tensor) -> None:
        """Retain these labels and drop all others."""
        self._losses = self._losses.select(labels)
        self._values = self._values.select(labels)
        self._history = [(s[labels], y[labels], r[labels]) for s, y, r in self._history]
        for name in PER_LABEL:
            setattr(self, name, getattr(self, name)[labels])

    def advance(self) -> None:
        """Try a step of every label, and accept it where it is good enough."""
        trial = torch.addcmul(self.point, self._direction, self._step[:, None])
        values = self._losses.at(trial)
        slope = (values.gradient * self._direction).sum(dim=1)
        good = self._good(values.loss, slope)
        self._remember(trial, values.gradient, good)
        shorter = (self._slope / (self._slope - slope)).nan_to_num(0.1).clamp(0.1, 0.7)
        self._step = torch.where(good, 1.0, self._step * shorter)
        self.point = torch.where(good[:, None], trial, self.point)
        self._values = values.where(good, self._values)
        direction = self._downhill()
        downhill = (direction * self._values.gradient).sum(dim=1)
        self._direction = torch.where(good[:, None], direction, self._direction)
        self._slope = torch.where(good, downhill, self._slope)

    def _good(self, loss: Tensor, slope: Tensor) -> Tensor:
        """Whether the loss decreases enough; where rounding hides it, whether the slope does."""
        now = self._values.loss
        slack = SLACK * torch.finfo(now.dtype).eps * self._values.size
        falls = loss <= now + DECREASE * self._step * self._slope
        flat = (loss <= now + slack) & (slope <= -0.8 * self._slope)
        return falls | flat

    def _remember(self, trial: Tensor, gradient: Tensor, good: Tensor) -> None:
        """Add the step and the change of the gradient to the history."""
        step, change = trial - self.point, gradient - self._values.gradient
        bend = (step * change).sum(dim=1)
        sound = good & (bend > tiny(bend))
        rho = torch.where(sound, 1 / bend, 0.0)
        step = torch.where(sound[:, None], step, 0.0)
        change = torch.where(sound[:, None], change, 0.0)
        fit = bend / (change.square() * self._inverse).sum(dim=1)
        self._gamma = torch.where(sound & fit.isfinite(), fit, self._gamma)
        self._history = [*self._history[-HISTORY + 1 :], (step, change, rho)]

    def _downhill(self) -> Tensor:
        """Return the two-loop direction of L-BFGS."""
        q = self._values.gradient.clone()
        shares = []
        for step, change, rho in reversed(self._history):
            share = rho * (step * q).sum(dim=1)
            q.addcmul_(change, share[:, None], value=-1)
            shares.append(share)
        q *= self._inverse * self._gamma[:, None]
        for (step, change, rho), share in zip(self._history, reversed(shares), strict=True):
            share = share - rho * (change * q).sum(dim=1)
            q.addcmul_(step, share[:, None])
        return q.neg_()


Link: TypeAlias = Literal["logistic", "squared"]

COMPACT = 0.8  # ended labels are dropped once at most this share of labels is running


@dataclass(frozen=True, eq=False)
class Solution:
    """The fitted coefficients of each label.

    Numbers have the design's wide type, usually float64. Where the mean of the vectors is
    far above their spread, ``X w`` and ``b`` are large and cancel, and float32 is too coarse.

    Parameters
    ----------
    coef
        (labels, width).
    intercept
        (labels,).
    iterations
        int64, (labels,). Passes over the vectors until the label ended.
    converged
        bool, (labels,). Whether no component of the gradient exceeds the tolerance or the
        rounding error (32 units in the last place: 4e-6 in float32).
    """

    coef: Tensor
    intercept: Tensor
    iterations: Tensor
    converged: Tensor


def bytes_needed(rows: int, width: int, *, labels: int, itemsize: int = 4) -> int:
    """Return the largest number of bytes that ``solve`` uses, without the vectors.

    These are the weights and targets (rows, labels), their copies without ended labels, and
    the histories (labels, width).
    """
    tables = 2 * (1 + COMPACT) * rows * labels
    histories = (2 * HISTORY + 12) * labels * (width + 1)
    scratch = 6 * max(SCRATCH_CPU, labels)
    return int(itemsize * (tables + histories + scratch) + 8 * 4 * width**2)


@ieee_float32()
def margins(design: Design, solution: Solution) -> Tensor:
    """Return ``X w + b`` of each row and label; (rows, labels), on the design's device.

    Rows with equal vectors get equal margins, on any processor. The mean of each chunk is
    subtracted and its contribution computed in the wide type, so that a large mean costs no
    precision.
    """
    coef = solution.coef.to(design.device, design.wide)
    intercept = solution.intercept.to(design.device, design.wide)
    weights = coef.T.to(design.dtype)
    out = torch.empty(design.rows, len(coef), dtype=design.dtype, device=design.device)
    for rows, x in design.chunks():
        mean = x.mean(dim=0)
        at_mean = torch.addmv(intercept, coef, mean.to(design.wide)).to(design.dtype)
        torch.addmm(at_mean, x - mean, weights, out=out[rows])
    return equal_for_repeats(design, out)


def equal_for_repeats(design: Design, margins: Tensor) -> Tensor:
    """Copy the margins of each vector to the rows that repeat it; in place."""
    repeated, first = design.repeats()
    if len(repeated):
        margins[torch.from_numpy(repeated)] = margins[torch.from_numpy(first)]
    return margins


@ieee_float32()
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
    """Fit every label independently.

    Label l minimises over ``w`` and ``b``, with ``z = X w + b``:
    ``(1 / Σ_r W_rl) Σ_r [W_rl log(1 + exp z_r) - M_rl z_r] + penalty_l ‖w‖²``. With link
    ``"squared"``, ``W_rl z_r² / 2`` replaces the term with the logarithm. The first is
    scikit-learn's ``LogisticRegression(C=1 / (2 * penalty * Σ W))``, the second its
    ``Ridge(alpha=2 * penalty * Σ W)``.

    A label ends when no component of its gradient exceeds the tolerance. The gradient is
    taken with respect to ``w`` and ``b``, in the units of the design's vectors, centred with
    the label's weighted mean (which changes only ``b``). With link "squared" the tolerance is
    in units of the target's standard deviation. If all labels then share the weights, the
    first step is Newton's and the second pass is the last.

    A label without active or without inactive weight has no finite intercept. It gets
    ``w = 0`` and the smallest ``b`` that meets the tolerance, ± log(1 / tolerance + 1), in 0
    iterations. A label without any weight gets 0 and is not converged.

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
        The loss.
    tolerance
        See above.
    max_iterations
        Largest number of passes over the vectors.
    basis
        The mean and covariance of these or of similar vectors, to compute them only once
        for several blocks of labels. It affects the steps, not the optimum.

    Raises
    ------
    BadInput
        If shapes do not match, or a number is out of range.
    """
    weight, target = (t.to(design.device, design.dtype) for t in (weight, target))
    penalties = penalty_of_labels(penalty, target)
    targets = read_targets(design, weight, target, logistic=link == "logistic")
    del weight, target  # frees their memory when copies with fewer labels replace them
    if basis is None:
        each = targets.weight @ targets.total.reciprocal()
        basis = spectrum(design, each if bool(each.any()) else None)
    losses = Losses.of(design, targets, basis=basis, penalty=penalties)
    means = losses.means.to(design.wide) + basis.mean.to(design.wide)
    level, weighed = targets.level, targets.weighed
    search = Search(losses, tolerance=tolerance)
    del losses, targets  # the search drops ended labels from its own copies
    ended = run(search, max_iterations=max_iterations)
    coef = (ended.points[:, :-1] @ basis.vectors.T).to(design.wide)
    intercept = ended.points[:, -1] - (coef * means).sum(dim=1)
    if level is not None:
        intercept += level
    return Solution(coef, intercept, ended.iterations, ended.converged & weighed)


@dataclass(frozen=True, eq=False)
class Ended:
    """The points at which the labels of a search ended.

    Parameters
    ----------
    points
        (labels, coordinates).
    iterations
        int64, (labels,). Passes over the vectors until the label ended.
    converged
        bool, (labels,).
    """

    points: Tensor
    iterations: Tensor
    converged: Tensor


def run(search: Search, *, max_iterations: int) -> Ended:
    """Advance a search until every label has ended."""
    progress = _Progress(search.point)
    for iteration in range(max_iterations + 1):
        met = search.met
        ended = met | search.stuck | (iteration == max_iterations)
        if progress.record(search.point, iteration, met=met, ended=ended):
            break
        running = progress.to_retain()
        if running is not None:
            search.select(running)
        search.advance()
    return progress.ended


class _Progress:
    """The points of ended labels, and the labels that are still running."""

    def __init__(self, start: Tensor) -> None:
        iterations = torch.zeros_like(start[:, 0], dtype=torch.int64)
        converged = torch.zeros_like(iterations, dtype=torch.bool)
        self.ended = Ended(torch.zeros_like(start), iterations, converged)
        self._running = torch.ones_like(converged)
        # The labels of the search, some of which may have ended.
        self._searched = torch.arange(len(start), device=start.device)

    def record(self, point: Tensor, iteration: int, *, met: Tensor, ended: Tensor) -> bool:
        """Store the points of labels that end now; return whether all labels have ended."""
        now = ended & self._running[self._searched]
        which = self._searched[now]
        self.ended.points[which] = point[now]
        self.ended.iterations[which] = iteration
        self.ended.converged[which] = met[now]
        self._running[which] = False
        return not bool(self._running.any())

    def to_retain(self) -> Tensor | None:
        """Return which labels of the search to retain, once enough others have ended."""
        running = self._running[self._searched]
        if int(running.sum()) > COMPACT * len(running):
            return None
        retained = running.nonzero()[:, 0]
        self._searched = self._searched[retained]
        return retained


def penalty_of_labels(penalty: float | Tensor, target: Tensor) -> Tensor:
    """Return the penalty of each label."""
    penalties = torch.as_tensor(penalty, dtype=target.dtype, device=target.device)
    good = bool(((penalties > 0) & penalties.isfinite()).all())
    if penalties.shape not in ((), target.shape[1:]) or not good:
        raise BadInput(
            f"For {target.shape[1]} labels, penalty has shape {tuple(penalties.shape)};"
            " expected one finite number above 0, or one for each label."
        )
    return penalties.expand(target.shape[1])
