"""Rows: a subset of a site's vectors, with the active and inactive tokens of each."""

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
    """A subset of the rows of a site.

    Parameters
    ----------
    design
        Their vectors.
    numbers
        int64, (rows,). Their row numbers in the site.
    """

    design: Design
    numbers: NDArray[np.int64]

    def dense(self, counts: Counts) -> Dense:
        """Return the positives and negatives of each feature on these rows, from counts by row."""
        positives = counts.positives[self.numbers].toarray()
        if counts.negatives is None:
            return positives, counts.occurrences[self.numbers, None] - positives
        return positives, counts.negatives[self.numbers].toarray()
