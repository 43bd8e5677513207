"""R² of a feature's activation when it is predicted from the key alone.

All scores follow from sums by key. The table predicts the training mean of each key. The
ceiling predicts its validation mean; no function of the key scores higher on these tokens.
Over all tokens, inactive ones count as 0.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.scores import ratio

__all__ = ["ActivationSums", "r2_ceiling", "r2_of", "r2_table"]

Floats: TypeAlias = NDArray[np.float64]

# A variance below this share of the mean square is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ActivationSums:
    """Activations of one side of a split, added up by key.

    Parameters
    ----------
    occurrences
        int64, one a key. Tokens with this key.
    active
        float64, (keys, features). Active tokens with this key; no stored zeros.
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
        """Return the number of tokens for each feature; (features,)."""
        if active_only:
            return np.asarray(self.active.sum(axis=0), dtype=np.float64)
        return np.full(self.squares.shape, float(self.occurrences.sum()))


def r2_of(errors: Floats, validation: ActivationSums, *, active_only: bool = False) -> Floats:
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
    float64; below 0 if worse than that mean, NaN where all activations are equal.
    """
    tokens = np.maximum(validation.tokens(active_only=active_only), 1)
    spread = validation.squares - validation.total**2 / tokens
    spread[spread <= _ROUNDING * validation.squares] = 0
    return 1 - ratio(errors, spread)


def r2_table(
    train: ActivationSums, validation: ActivationSums, *, active_only: bool = False
) -> Floats:
    """Return R² of training means by key; for unseen keys, the global training mean.

    Parameters
    ----------
    train
        The tokens that determine the means.
    validation
        The tokens that are predicted, with the same keys and features.
    active_only
        Whether only active tokens are used, on both sides.

    Returns
    -------
    float64, (features,). NaN where all validation activations are equal, or where the
    feature has no training tokens.
    """
    overall = ratio(train.total, train.tokens(active_only=active_only))
    if active_only:
        seen = _like(train.active, np.ones(train.active.nnz))
        means = csc_array(train.sums.multiply(_like(train.active, 1 / train.active.data)))
        unseen_sum = validation.total - seen.multiply(validation.sums).sum(axis=0)
        seen_tokens = seen.multiply(validation.active).sum(axis=0)
        unseen_tokens = validation.tokens(active_only=True) - seen_tokens
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


def r2_ceiling(validation: ActivationSums, *, active_only: bool = False) -> Floats:
    """Return R² of the validation means by key on the validation tokens themselves (η²).

    Parameters
    ----------
    validation
        The tokens.
    active_only
        Whether only active tokens are used.

    Returns
    -------
    float64, (features,), NaN where all activations are equal.
    """
    return r2_table(validation, validation, active_only=active_only)


def _like(matrix: csc_array, data: Floats) -> csc_array:
    """Return a matrix with the same sparsity pattern and other data."""
    return csc_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
