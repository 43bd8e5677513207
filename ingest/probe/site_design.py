"""The site a probe reads: its vectors, and the row of each token."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.probe.solver.design import Design

__all__ = ["SiteDesign", "root_mean_square"]


@dataclass(frozen=True, eq=False)
class SiteDesign:
    """The vectors of a site, with the row of each token.

    At the embedding the vectors are a function of the token id, so one row stands for all
    tokens of an id. At other sites each token has its own row.

    Parameters
    ----------
    hook
        The site's TransformerLens name.
    design
        The vectors.
    row
        int64, (tokens,). The row of each token.
    row_type
        int64, (rows,). The token id of each row.
    at_embedding
        Whether rows are token ids.
    """

    hook: str
    design: Design
    row: NDArray[np.int64]
    row_type: NDArray[np.int64]
    at_embedding: bool


def root_mean_square(x: NDArray[np.floating], *, rows: int = 65_536) -> float:
    """Return the root mean square over rows and dimensions; 1 if all vectors are 0.

    If there are more than ``rows`` rows, evenly spaced ones are used.
    """
    sample = np.asarray(x[:: max(1, len(x) // rows)], dtype=np.float64)
    square = float(np.mean(sample**2)) if sample.size else 0.0
    return square**0.5 if np.isfinite(square) and square > 0 else 1.0
