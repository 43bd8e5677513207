"""Spectrum: mean and covariance of a design's vectors, the preconditioner of the solver."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadActivations
from ingest.probe.solver.design import Design

__all__ = ["Spectrum", "spectrum"]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean of vectors and eigendecomposition of their covariance.

    Parameters
    ----------
    mean
        (width,).
    values
        (width,). Eigenvalues of the covariance, all at least 0.
    vectors
        (width, width). Its eigenvectors, as columns.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor


def spectrum(design: Design, row_weight: Tensor | None = None) -> Spectrum:
    """Compute the mean and the covariance of the vectors.

    Products have the design's type, sums have its wide type.

    Parameters
    ----------
    design
        The vectors.
    row_weight
        (rows,). Weight of each row; equal weights if None.

    Raises
    ------
    BadActivations
        If the squares of the vectors overflow.
    """
    wide = design.wide
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
