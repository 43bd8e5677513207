"""Counts: the tokens of each key, and how many of them activate each feature.

A key is a property of a token: the token id, the position in the context, or the bigram
of this token and the previous one. The counts determine the score of every function of the
key. Tables and ceilings (``ingest.probe.token_baselines``) therefore need no single tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

__all__ = ["Counts"]


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
