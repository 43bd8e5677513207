"""Counts: how often each key occurs among some tokens, and how often each feature is active on it.

A key is whatever tokens are told apart by: the token id, the position in the context,
the pair of this token and the one before. Everything a function of the key can know of
a feature is in its counts, so tables and ceilings (``ingest.probe.token_baselines``) need no token.
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
        int64, one a key. Tokens with this key; a key of the other side may have none.
    positives
        float64, (keys, features). Of these, tokens on which the feature is active;
        without stored zeros.
    negatives
        float64, (keys, features). Tokens on which it is not active, where not all
        of them count (drawn ones); all others if None.
    """

    occurrences: NDArray[np.int64]
    positives: csc_array
    negatives: csc_array | None = None

    @property
    def tokens(self) -> int:
        """All tokens of this side."""
        return int(self.occurrences.sum())

    @property
    def active(self) -> NDArray[np.float64]:
        """Active tokens of each feature; (features,)."""
        return np.asarray(self.positives.sum(axis=0), dtype=np.float64)

    @property
    def inactive(self) -> NDArray[np.float64]:
        """Inactive tokens that count, of each feature; (features,)."""
        if self.negatives is None:
            return self.tokens - self.active
        return np.asarray(self.negatives.sum(axis=0), dtype=np.float64)
