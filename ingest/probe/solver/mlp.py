"""MLP probes: a network with one hidden layer for each label, all fitted in the same passes.

Every label has a network of its own, so its probe does not depend on the other labels. The networks
share the vectors: one matrix product gives the hidden units of all labels. The search is that of
linear probes (``solve``); here the loss has several local optima, and all labels start at the same
random weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ingest.precision import ieee_float32
from ingest.probe.solver.design import Design, Spectrum, spectrum
from ingest.probe.solver.losses import SCRATCH_CPU, SCRATCH_GPU, Targets, Values, read_targets
from ingest.probe.solver.solve import (
    COMPACT,
    HISTORY,
    Search,
    equal_for_repeats,
    penalty_of_labels,
    run,
)

__all__ = ["MlpSolution", "mlp_bytes_needed", "mlp_margins", "solve_mlp"]

_Layers: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class MlpSolution:
    """The network of each label: the margin of x is ``v · tanh(U (x - mean) + c) + b``.

    Parameters
    ----------
    mean
        (width,). The mean of the vectors.
    weights
        U, (labels, hidden units, width).
    biases
        c, (labels, hidden units).
    output
        v, (labels, hidden units).
    intercept
        b, (labels,).
    iterations
        int64, (labels,). Passes over the vectors until the label ended.
    converged
        bool, (labels,). Whether no component of the gradient exceeds the tolerance.
    """

    mean: Tensor
    weights: Tensor
    biases: Tensor
    output: Tensor
    intercept: Tensor
    iterations: Tensor
    converged: Tensor


@ieee_float32()
def solve_mlp(
    design: Design,
    weight: Tensor,
    target: Tensor,
    *,
    hidden: int,
    penalty: float | Tensor,
    seed: int = 0,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    basis: Spectrum | None = None,
) -> MlpSolution:
    """Fit the network of every label.

    Label l minimises ``(1 / Σ_r W_rl) Σ_r [W_rl log(1 + exp z_r) - M_rl z_r] + penalty_l (‖U‖² +
    ‖v‖²)``, where z are the margins of ``MlpSolution``. With weights of 1 this is scikit-learn's
    ``MLPClassifier(hidden, activation="tanh", solver="lbfgs", alpha=2 * penalty * rows)``. The
    result is a local optimum. It depends on the seed, not on the other labels.

    Parameters
    ----------
    design, weight, target, penalty
        As in ``solve``, with link "logistic".
    hidden
        Number of hidden units of a label.
    seed
        Seed of the first weights. They are drawn on the CPU, so that all devices use the same ones.
    tolerance
        A label ends when no component of its gradient is larger.
    max_iterations
        Largest number of passes over the vectors.
    basis
        As in ``solve``.

    Raises
    ------
    BadInput
        If shapes do not match, or a number is out of range.
    """
    weight, target = (t.to(design.device, design.dtype) for t in (weight, target))
    penalties = penalty_of_labels(penalty, target)
    targets = read_targets(design, weight, target, logistic=True)
    weighed = targets.weighed
    basis = basis or spectrum(design)
    search = Search(
        _MlpLosses(design, basis, targets, penalties, hidden, seed), tolerance=tolerance
    )
    del weight, target, targets  # the search drops ended labels from its own copies
    ended = run(search, max_iterations=max_iterations)
    weights, biases, output, intercept = _layers(ended.points, hidden)
    weights = weights @ basis.vectors.T
    converged = ended.converged & weighed
    return MlpSolution(basis.mean, weights, biases, output, intercept, ended.iterations, converged)


@ieee_float32()
def mlp_margins(design: Design, solution: MlpSolution) -> Tensor:
    """Return the margin of each row and label; (rows, labels), on the design's device.

    Rows with equal vectors get equal margins, on any processor.
    """
    labels, hidden, _ = solution.weights.shape
    layers = _by_unit(solution.weights, solution.biases, solution.output)
    out = torch.empty(design.rows, labels, dtype=design.dtype, device=design.device)
    for rows, x in _centred(design, solution.mean, numbers=labels * hidden):
        active = torch.addmm(layers[1], x, layers[0].T).tanh_()
        out[rows] = _margins(active.view(len(x), hidden, labels), layers[2], solution.intercept)
    return equal_for_repeats(design, out)


def mlp_bytes_needed(rows: int, width: int, *, labels: int, hidden: int, itemsize: int = 4) -> int:
    """Return the largest number of bytes that ``solve_mlp`` uses, without the vectors."""
    tables = 2 * (1 + COMPACT) * rows * labels
    histories = (2 * HISTORY + 14) * labels * (hidden * (width + 2) + 1)
    scratch = 6 * max(SCRATCH_CPU, labels * hidden)
    return int(itemsize * (tables + histories + scratch) + 8 * 4 * width**2)


def _layers(point: Tensor, hidden: int) -> _Layers:
    """Return the parts of points: weights (labels, hidden, width), biases, output, intercept."""
    labels, size = len(point), point.shape[1] - 2 * hidden - 1
    weights, biases, output, intercept = torch.split(point, [size, hidden, hidden, 1], dim=1)
    return weights.reshape(labels, hidden, size // hidden), biases, output, intercept[:, 0]


def _by_unit(weights: Tensor, biases: Tensor, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the layers in the order of hidden units, then labels.

    Shapes are (hidden * labels, width), (hidden * labels,) and (hidden, labels).
    """
    return (
        weights.transpose(0, 1).reshape(-1, weights.shape[2]),
        biases.T.reshape(-1),
        output.T.contiguous(),
    )


def _margins(active: Tensor, output: Tensor, intercept: Tensor) -> Tensor:
    """Return ``v · h + b`` for hidden units (rows, hidden, labels); (rows, labels)."""
    z = intercept.repeat(len(active), 1)
    for unit, weight in enumerate(output):
        z.addcmul_(active[:, unit], weight)
    return z


def _centred(design: Design, mean: Tensor, *, numbers: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield centred vectors in chunks whose hidden units, ``numbers`` a row, stay small."""
    scratch = SCRATCH_CPU if design.device.type == "cpu" else SCRATCH_GPU
    for rows, x in design.chunks(max(1, 2 * scratch // max(numbers, design.width))):
        yield rows, x - mean


@dataclass(frozen=True, eq=False)
class _MlpLosses:
    """The losses of the networks of some labels.

    A point has the weights U along the eigenvectors of the vectors' covariance, then c, v and b.

    Parameters
    ----------
    design, basis
        The vectors, with their mean and covariance.
    targets
        The weights and targets of the labels.
    penalty
        (labels,).
    hidden
        Number of hidden units.
    seed
        Seed of the first weights.
    """

    design: Design
    basis: Spectrum
    targets: Targets
    penalty: Tensor
    hidden: int
    seed: int

    def select(self, labels: Tensor) -> "_MlpLosses":
        """Return the losses of a subset of labels."""
        targets = self.targets.select(labels)
        return _MlpLosses(
            self.design, self.basis, targets, self.penalty[labels], self.hidden, self.seed
        )

    def start(self, far: float) -> Tensor:
        """Return the same random weights for all labels; labels of one class get b = ± far.

        Hidden units have a variance of about 1 before the tangent, and margins below 1.
        """
        width, hidden = self.design.width, self.hidden
        random = torch.Generator().manual_seed(self.seed)
        first = torch.zeros(hidden * (width + 2) + 1, dtype=torch.float64)
        variance = float(self.basis.values.sum(dtype=self.design.wide))
        scales = variance**-0.5 if variance > 0 else 0.0, hidden**-0.5
        first[: hidden * width] = scales[0] * torch.randn(
            hidden * width, generator=random, dtype=torch.float64
        )
        first[-1 - hidden : -1] = scales[1] * torch.randn(
            hidden, generator=random, dtype=torch.float64
        )
        share = self._share()
        point = first.to(share.device, share.dtype).repeat(len(share), 1)
        same = self.targets.same
        point[same] = 0
        point[same, -1] = torch.sign(share - 0.5)[same] * far
        point *= self.targets.weighed[:, None]
        return point

    def curvature(self) -> Tensor:
        """Return the approximate inverse of the second derivatives at the start."""
        share = self._share()
        bend = (share * (1 - share)).clamp(min=1e-6)[:, None]
        hidden, ridge = self.hidden, 2 * self.penalty[:, None]
        weights = 1 / (bend / (2 * hidden) * self.basis.values + ridge)
        units = bend.new_ones(1, hidden)
        return torch.cat(
            [
                weights.repeat(1, hidden),
                units * 2 * hidden / bend,
                units / (bend + ridge),
                1 / bend,
            ],
            dim=1,
        )

    def at(self, point: Tensor) -> Values:
        """Compute the loss and gradient of each label at its point in one pass over the vectors."""
        weights, biases, output, intercept = _layers(point, self.hidden)
        weights, total = weights @ self.basis.vectors.T, self.targets.total
        curved, linear, gradients = self._sums(weights, biases, output, intercept)
        of_weights, of_biases, of_output, of_intercept = (g / _like(total, g) for g in gradients)
        penalty = self.penalty
        of_weights += 2 * penalty[:, None, None] * weights
        of_output += 2 * penalty[:, None] * output
        squares = weights.square().sum(dim=(1, 2)) + output.square().sum(dim=1)
        curved = curved / total + penalty * squares
        parts = [of_weights.flatten(1), of_biases, of_output, of_intercept[:, None]]
        largest = torch.cat(parts, dim=1).abs().amax(dim=1)
        parts[0] = (of_weights @ self.basis.vectors).flatten(1)
        linear = linear / total
        loss = (curved - linear).to(point.dtype)
        size = curved.abs().to(point.dtype) + linear.abs().to(point.dtype)
        return Values(loss, size, torch.cat(parts, dim=1), largest)

    def _share(self) -> Tensor:
        """Return the share of active weight of each label."""
        total = self.targets.target.sum(dim=0, dtype=self.design.wide)
        return (total / self.targets.total).to(self.design.dtype)

    def _sums(
        self, weights: Tensor, biases: Tensor, output: Tensor, intercept: Tensor
    ) -> tuple[Tensor, Tensor, _Layers]:
        """Return sums over rows: of W log(1 + exp z), of M z, and of the gradients of the layers."""
        (labels, hidden, width), dtype = weights.shape, weights.dtype
        into, shift, out = _by_unit(weights, biases, output)
        curved = torch.zeros(labels, dtype=self.design.wide, device=weights.device)
        linear = torch.zeros_like(curved)
        of_into, of_shift, of_out = (
            torch.zeros_like(t) for t in (into, shift.view(hidden, -1), out)
        )
        of_intercept = torch.zeros_like(intercept)
        for rows, x in _centred(self.design, self.basis.mean, numbers=labels * hidden):
            flat = torch.addmm(shift, x, into.T).tanh_()
            active = flat.view(len(x), hidden, labels)
            z = _margins(active, out, intercept)
            weight, target = self.targets.of_rows(rows)
            curved += (
                torch.logaddexp(z, torch.zeros((), dtype=dtype, device=z.device))
                .mul_(weight)
                .sum(dim=0)
            )
            linear += (target * z).sum(dim=0)
            residual = z.sigmoid_().mul_(weight).sub_(target)
            of_intercept += residual.sum(dim=0)
            for unit in range(hidden):  # the derivative of the unit replaces its activation
                value = active[:, unit]
                of_out[unit] += (value * residual).sum(dim=0)
                value.square_().neg_().add_(1).mul_(residual).mul_(out[unit])
                of_shift[unit] += value.sum(dim=0)
            of_into.addmm_(flat.T, x)
        of_weights = of_into.view(hidden, labels, width).transpose(0, 1).contiguous()
        return curved, linear, (of_weights, of_shift.T, of_out.T, of_intercept)


def _like(total: Tensor, gradient: Tensor) -> Tensor:
    """Return the totals with as many dimensions as a gradient."""
    return total.view(-1, *[1] * (gradient.ndim - 1))
