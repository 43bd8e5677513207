"""Search: L-BFGS for many labels in parallel, each with its own history, step size and end."""

import math

import torch
from torch import Tensor

from ingest.probe.solver.losses import Losses
from ingest.probe.solver.targets import tiny

__all__ = ["HISTORY", "Search"]

HISTORY = 10
DECREASE = 1e-4  # share of the predicted decrease that a step must reach
SLACK = 10  # rounding error of a loss, in units in the last place
ROUNDING = 32  # rounding error of a component of the gradient, in units in the last place
SHORTEST = 1e-8  # below this step size a label has reached the numerical precision
PER_LABEL = ("point", "_inverse", "_gamma", "_step", "_direction", "_slope")


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

    def __init__(self, losses: Losses, *, tolerance: float) -> None:
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
