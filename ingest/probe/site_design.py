"""The site a probe reads: its vectors, and the row of each token."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.solver.design import Design

__all__ = ["Counts", "Dense", "ProbedRows", "SiteDesign", "root_mean_square"]


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


@dataclass(frozen=True, eq=False)
class Counts:
    """Tokens of one side of a split, counted by key.

    Parameters
    ----------
    occurrences
        int64, one a key. Tokens with this key; 0 for a key of the other side only.
    positives
        float64, (keys, features). Tokens of the key on which the feature is active;
        without stored zeros.
    negatives
        float64, (keys, features). Sampled tokens of the key on which the feature is
        inactive. If None, all its inactive tokens count.
    """

    occurrences: NDArray[np.int64]
    positives: csc_array
    negatives: csc_array | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens on this side."""
        return int(self.occurrences.sum())

    @property
    def active(self) -> NDArray[np.float64]:
        """Number of active tokens of each feature; (features,)."""
        return np.asarray(self.positives.sum(axis=0), dtype=np.float64)

    @property
    def inactive(self) -> NDArray[np.float64]:
        """Number of inactive tokens that count for each feature; (features,)."""
        if self.negatives is None:
            return self.tokens - self.active
        return np.asarray(self.negatives.sum(axis=0), dtype=np.float64)


Dense: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Positives and negatives, (rows, features) each."""


@dataclass(frozen=True, eq=False)
class ProbedRows:
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
