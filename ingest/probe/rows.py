"""Rows: some of a place's vectors, with the active and inactive tokens that each stands for."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.probe.counts import Counts
from ingest.probe.solver.design import Design

__all__ = ["Dense", "Rows"]

Dense: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Positives and negatives, (rows, features) each."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a place.

    Parameters
    ----------
    design
        Their vectors.
    numbers
        int64, (rows,). Which rows of the place they are.
    """

    design: Design
    numbers: NDArray[np.int64]

    def dense(self, counts: Counts) -> Dense:
        """Return positives and negatives of each feature on these rows, of counts by row."""
        positives = counts.positives[self.numbers].toarray()
        if counts.negatives is None:
            return positives, counts.occurrences[self.numbers, None] - positives
        return positives, counts.negatives[self.numbers].toarray()
