"""The place a probe reads: its vectors, and which of them belongs to each token."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.probe.solver.design import Design

__all__ = ["SiteDesign", "root_mean_square"]


@dataclass(frozen=True, eq=False)
class SiteDesign:
    """A site's vectors, ready to be probed.

    At the embedding the vectors are a function of the token id, so a row stands for all
    tokens of an id, and nothing is lost; elsewhere each token has a row of its own.

    Parameters
    ----------
    hook
        The site's TransformerLens name.
    design
        The vectors.
    row
        int64, (tokens,). Which row each token has.
    row_type
        int64, (rows,). Which token id each row is of.
    at_embedding
        Whether rows are token ids.
    """

    hook: str
    design: Design
    row: NDArray[np.int64]
    row_type: NDArray[np.int64]
    at_embedding: bool


def root_mean_square(x: NDArray[np.floating], *, rows: int = 65_536) -> float:
    """Return the root mean square over rows and dimensions; of evenly spaced rows, if there are more.

    Vectors that are 0 throughout give 1.
    """
    some = np.asarray(x[:: max(1, len(x) // rows)], dtype=np.float64)
    square = float(np.mean(some**2)) if some.size else 0.0
    return square**0.5 if np.isfinite(square) and square > 0 else 1.0
