"""Random features: vectors with random Fourier features appended, for non-linear probes.

A linear probe of the appended vectors is a non-linear probe of the vectors. All features of an SAE
share one map, so it costs no more than a linear probe of wider vectors.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.probe.solver.design import Design, spectrum

__all__ = ["RandomFeatures", "with_random_features"]


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """A random map of vectors x to (x, √2 cos(x W + c)).

    The cosines are random Fourier features (Rahimi and Recht, 2007), times the square root of
    their number: each has a root mean square of about 1, as each dimension of scaled vectors, so
    that a penalty means the same for both. Their products approximate a Gaussian kernel. The
    vectors themselves remain, so that every linear probe is among the probes of the result.

    Parameters
    ----------
    weights
        W, (width of the vectors, number of random features).
    phases
        c, (number of random features,), uniform between 0 and 2π.
    """

    weights: Tensor
    phases: Tensor

    @property
    def width(self) -> int:
        """Number of dimensions of a result."""
        return sum(self.weights.shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Map vectors, (rows, width of the vectors), to (rows, ``width``)."""
        cosines = torch.addmm(self.phases, x, self.weights).cos_().mul_(math.sqrt(2))
        return torch.cat([x, cosines], dim=1)


def with_random_features(design: Design, number: int, *, seed: int) -> Design:
    """Return a design of the vectors with random features appended.

    The kernel is exp(-‖x - y‖² / s), where s is the mean of ‖x - y‖² over pairs of rows, drawn
    with replacement.

    Parameters
    ----------
    design
        The vectors.
    number
        Number of random features.
    seed
        Seed of the weights. They are drawn on the CPU, so that all devices use the same ones.

    Raises
    ------
    BadActivations
        If the squares of the vectors overflow.

    Examples
    --------
    >>> import numpy as np
    >>> vectors = Design(np.eye(4, 3, dtype=np.float32))
    >>> with_random_features(vectors, 16, seed=0).width
    19
    """
    distance = 2 * float(spectrum(design).values.sum(dtype=design.wide))
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(design.width, number, generator=random, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(number, generator=random, dtype=torch.float64)
    if distance > 0:  # 0 if all rows are equal: no map distinguishes them
        weights *= math.sqrt(2 / distance)
    return design.mapped(
        RandomFeatures(*(t.to(design.device, design.dtype) for t in (weights, phases)))
    )
