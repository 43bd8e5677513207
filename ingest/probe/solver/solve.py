"""Solver: L2 logistic and ridge regression, exactly, for many labels at once.

All labels share the vectors, so one pass over them serves every label: two products of
matrices give each label's loss and gradient at a point of its own (``losses``). Around these
passes each label runs L-BFGS by itself (``search``).
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from atlas.errors import BadInput
from ingest.probe.solver.design import Design
from ingest.probe.solver.lbfgs import HISTORY, Search
from ingest.probe.solver.losses import SCRATCH_CPU, Losses
from ingest.probe.solver.preconditioner import Spectrum, spectrum
from ingest.probe.solver.targets import look

__all__ = ["Link", "Solution", "bytes_needed", "margins", "solve"]

Link: TypeAlias = Literal["logistic", "squared"]

COMPACT = 0.8  # labels that have ended are dropped once so few are left


@dataclass(frozen=True, eq=False)
class Solution:
    """What was found, label by label.

    Numbers are of the design's wide type, float64 as a rule: where the vectors' mean is far
    above their spread, ``X w`` and ``b`` are large and cancel, and float32 would not do.

    Parameters
    ----------
    coef
        (labels, width).
    intercept
        (labels,).
    iterations
        int64, (labels,). Passes over the vectors until the label's end.
    converged
        bool, (labels,). Whether no component of the gradient is larger than the tolerance, or
        than rounding allows (32 units in the last place: 4e-6 in float32).
    """

    coef: Tensor
    intercept: Tensor
    iterations: Tensor
    converged: Tensor


def bytes_needed(rows: int, width: int, *, labels: int, itemsize: int = 4) -> int:
    """Return how many bytes ``solve`` takes at most, the vectors left out.

    These are the weights and targets (rows, labels), what is copied of them when labels have
    ended, and the histories (labels, width).
    """
    tables = 2 * (1 + COMPACT) * rows * labels
    histories = (2 * HISTORY + 12) * labels * (width + 1)
    scratch = 6 * max(SCRATCH_CPU, labels)
    return int(itemsize * (tables + histories + scratch) + 8 * 4 * width**2)


def margins(design: Design, solution: Solution) -> Tensor:
    """Return ``X w + b`` of each row and label; (rows, labels), on the design's device.

    Rows with equal vectors get equal margins, on any processor. Vectors are taken from the mean of their chunk, and what that mean adds is held in the
    wide type, so that a large mean costs no digits.
    """
    coef = solution.coef.to(design.device, design.wide)
    intercept = solution.intercept.to(design.device, design.wide)
    weights = coef.T.to(design.dtype)
    out = torch.empty(design.rows, len(coef), dtype=design.dtype, device=design.device)
    for rows, x in design.chunks():
        mean = x.mean(dim=0)
        at_mean = torch.addmv(intercept, coef, mean.to(design.wide)).to(design.dtype)
        torch.addmm(at_mean, x - mean, weights, out=out[rows])
    again, first = design.repeats()
    if len(again):
        out[torch.from_numpy(again)] = out[torch.from_numpy(first)]
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
    targets = look(design, weight, target, logistic=link == "logistic")
    del weight, target  # so that copies of fewer labels take their place
    if basis is None:
        each = targets.weight @ targets.total.reciprocal()
        basis = spectrum(design, each if bool(each.any()) else None)
    losses = Losses.of(design, targets, basis=basis, penalty=penalties)
    found, search = _Found(losses), Search(losses, tolerance=tolerance)
    del losses, targets
    for iteration in range(max_iterations + 1):
        met = search.met
        ended = met | search.stuck | (iteration == max_iterations)
        if found.record(search.point, iteration, met=met, ended=ended):
            break
        kept = found.to_keep()
        if kept is not None:
            search.keep(kept)
        search.advance()
    return found.solution()


class _Found:
    """The solution as it fills, label by label, and which labels are still at work."""

    def __init__(self, losses: Losses) -> None:
        self._wide, self._vectors = losses.design.wide, losses.basis.vectors
        self._means = losses.means.to(self._wide) + losses.basis.mean.to(self._wide)
        self._level, self._weighed = losses.targets.level, losses.targets.weighed
        self._points = torch.zeros_like(losses.linear)
        self._iterations = torch.zeros_like(losses.linear[:, 0], dtype=torch.int64)
        self._converged = torch.zeros_like(self._iterations, dtype=torch.bool)
        self._running = torch.ones_like(self._converged)
        # The search holds these labels, some of which may have ended.
        self._at_work = torch.arange(len(self._points), device=losses.linear.device)

    def record(self, point: Tensor, iteration: int, *, met: Tensor, ended: Tensor) -> bool:
        """Write down labels that end now; return whether none is left."""
        now = ended & self._running[self._at_work]
        which = self._at_work[now]
        self._points[which] = point[now]
        self._iterations[which] = iteration
        self._converged[which] = met[now]
        self._running[which] = False
        return not bool(self._running.any())

    def to_keep(self) -> Tensor | None:
        """Say which labels of the search to keep, once it pays to drop the others."""
        running = self._running[self._at_work]
        if int(running.sum()) > COMPACT * len(running):
            return None
        kept = running.nonzero()[:, 0]
        self._at_work = self._at_work[kept]
        return kept

    def solution(self) -> Solution:
        """Turn the points back, take the means out of the intercepts, and put the levels in."""
        coef = (self._points[:, :-1] @ self._vectors.T).to(self._wide)
        intercept = self._points[:, -1] - (coef * self._means).sum(dim=1)
        if self._level is not None:
            intercept += self._level
        return Solution(coef, intercept, self._iterations, self._converged & self._weighed)


def _penalties(penalty: float | Tensor, target: Tensor) -> Tensor:
    """Return the penalty of each label."""
    given = torch.as_tensor(penalty, dtype=target.dtype, device=target.device)
    good = bool(((given > 0) & given.isfinite()).all())
    if given.shape not in ((), target.shape[1:]) or not good:
        raise BadInput(
            f"A penalty of shape {tuple(given.shape)} was given for {target.shape[1]} labels;"
            " expected one number above 0, or one for each label."
        )
    return given.expand(target.shape[1])
