"""How much of a feature's activation a function of the key predicts.

Everything follows from sums by key: the mean by training tokens is the table, the mean by
validation tokens the ceiling, which no function of the key passes on these tokens. On all
tokens, inactive ones count as 0.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.scores import ratio

__all__ = ["Sums", "r2_ceiling", "r2_of", "r2_table"]

Floats: TypeAlias = NDArray[np.float64]

# A variance below this share of the mean square is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Sums:
    """Activations of one side of a split, added up by key.

    Parameters
    ----------
    occurrences
        int64, one a key. Tokens with this key.
    active
        float64, (keys, features). Of these, active ones; no stored zeros.
    sums
        float64, (keys, features). Sum of their activations.
    squares
        float64, (features,). Sum of squared activations over all keys.
    """

    occurrences: NDArray[np.int64]
    active: csc_array
    sums: csc_array
    squares: Floats

    @property
    def total(self) -> Floats:
        """Sum of activations; (features,)."""
        return np.asarray(self.sums.sum(axis=0), dtype=np.float64)

    def tokens(self, *, active_only: bool = False) -> Floats:
        """Return how many tokens there are for each feature; (features,)."""
        if active_only:
            return np.asarray(self.active.sum(axis=0), dtype=np.float64)
        return np.full(self.squares.shape, float(self.occurrences.sum()))


def r2_of(errors: Floats, validation: Sums, *, active_only: bool = False) -> Floats:
    """Return 1 - squared errors / squared distances from the validation mean; (features,).

    Parameters
    ----------
    errors
        float64, (features,). Sum of squared errors on the validation tokens.
    validation
        The validation tokens.
    active_only
        Whether the errors are of active tokens only.

    Returns
    -------
    float64; below 0 if worse than that mean, NaN where activations are all the same.
    """
    tokens = np.maximum(validation.tokens(active_only=active_only), 1)
    spread = validation.squares - validation.total**2 / tokens
    spread[spread <= _ROUNDING * validation.squares] = 0
    return 1 - ratio(errors, spread)


def r2_table(train: Sums, validation: Sums, *, active_only: bool = False) -> Floats:
    """Return R² of training means by key; keys unseen in training: the mean of all of it.

    Parameters
    ----------
    train
        The tokens the means are of.
    validation
        The tokens they are held against, of the same keys and features.
    active_only
        Whether only active tokens are looked at, on both sides.

    Returns
    -------
    float64, (features,), NaN where validation activations are all the same, or nothing
    was seen in training.
    """
    overall = ratio(train.total, train.tokens(active_only=active_only))
    if active_only:
        seen = _like(train.active, np.ones(train.active.nnz))
        means = csc_array(train.sums.multiply(_like(train.active, 1 / train.active.data)))
        unseen_sum = validation.total - seen.multiply(validation.sums).sum(axis=0)
        told = seen.multiply(validation.active).sum(axis=0)
        unseen_tokens = validation.tokens(active_only=True) - told
        squares = means.multiply(means).multiply(validation.active).sum(axis=0)
    else:
        unseen = (train.occurrences == 0).astype(np.float64)
        means = _like(train.sums, train.sums.data / train.occurrences[train.sums.indices])
        unseen_sum = unseen @ validation.sums
        unseen_tokens = unseen @ validation.occurrences
        squares = validation.occurrences @ means.multiply(means)
    # Squared errors: Σ x² - 2 Σ mean · x + Σ mean².
    products = means.multiply(validation.sums).sum(axis=0) + overall * unseen_sum
    squares = squares + overall**2 * unseen_tokens
    return r2_of(validation.squares - 2 * products + squares, validation, active_only=active_only)


def r2_ceiling(validation: Sums, *, active_only: bool = False) -> Floats:
    """Return R² of the means by key of the very tokens they are held against (η²).

    Parameters
    ----------
    validation
        The tokens.
    active_only
        Whether only active tokens are looked at.

    Returns
    -------
    float64, (features,), NaN where activations are all the same.
    """
    return r2_table(validation, validation, active_only=active_only)


def _like(matrix: csc_array, data: Floats) -> csc_array:
    """Return other data at the same places."""
    return csc_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
