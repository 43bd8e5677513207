"""Spectrum: mean and covariance of a design's vectors, by which a solver chooses its steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import BadActivations
from ingest.probe.solver.design import Design

__all__ = ["Spectrum", "spectrum"]


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


def spectrum(design: Design, row_weight: Tensor | None = None) -> Spectrum:
    """Find the mean and the covariance of the vectors.

    Products are of the design's type, sums of them of its wide one.

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
