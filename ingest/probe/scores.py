"""Scores of predictions: balanced accuracy, AUROC, logistic loss and related measures.

A row may stand for several tokens: it has a number of active and of inactive ones. R² of an
activation that is predicted from the key alone follows from sums by key. The table predicts
the training mean of each key. The ceiling predicts its validation mean; no function of the key
scores higher on these tokens. Over all tokens, inactive ones count as 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.compilation import in_threads

__all__ = [
    "ActivationSums",
    "Confusion",
    "auroc",
    "balanced_accuracy",
    "confusion_of",
    "logistic_loss",
    "r2_ceiling",
    "r2_of",
    "r2_table",
    "ratio",
]

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


Numbers: TypeAlias = NDArray[Any]

# Numbers of one temporary array: 32 MiB as float64.
_CHUNK = 1 << 22

# Features that a thread transposes at once, so that the rows of each are contiguous.
_FEATURES = 16


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion matrix of each feature.

    A token without a prediction counts half as predicted active, half as predicted inactive.

    Parameters
    ----------
    true_positives
        float64, one a feature. Active tokens predicted active.
    false_positives
        float64, likewise. Inactive tokens predicted active.
    false_negatives
        float64, likewise. Active tokens predicted inactive.
    true_negatives
        float64, likewise. Inactive tokens predicted inactive.
    """

    true_positives: Floats
    false_positives: Floats
    false_negatives: Floats
    true_negatives: Floats

    @property
    def positives(self) -> Floats:
        """Active tokens; (features,)."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> Floats:
        """Inactive tokens; (features,)."""
        return self.false_positives + self.true_negatives

    @property
    def accuracy(self) -> Floats:
        """Share of correctly predicted tokens; (features,), NaN without tokens."""
        right = self.true_positives + self.true_negatives
        return ratio(right, self.positives + self.negatives)

    @property
    def precision(self) -> Floats:
        """Share of active tokens among those predicted active; (features,), NaN if none is."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Floats:
        """Share of active tokens that are predicted active; (features,), NaN if none is active."""
        return ratio(self.true_positives, self.positives)

    @property
    def balanced_accuracy(self) -> Floats:
        """Mean recall of both classes; (features,), NaN where a class is empty."""
        return balanced_accuracy(
            true_positives=self.true_positives,
            positives=self.positives,
            false_positives=self.false_positives,
            negatives=self.negatives,
        )

    @property
    def balanced_precision(self) -> Floats:
        """Precision if both classes had the same size; (features,).

        NaN where a class is empty or no token is predicted active.
        """
        hits = self.true_positives * self.negatives
        alarms = self.false_positives * self.positives
        empty = (self.positives == 0) | (self.negatives == 0)
        return np.where(empty, np.nan, ratio(hits, hits + alarms))


def ratio(part: Floats, total: Floats) -> Floats:
    """Return ``part / total``; NaN where ``total`` is 0, negative or NaN."""
    result = np.full(np.shape(total), np.nan)
    np.divide(part, total, out=result, where=total > 0)
    return result


def balanced_accuracy(
    *, true_positives: Floats, positives: Floats, false_positives: Floats, negatives: Floats
) -> Floats:
    """Return the mean recall of both classes, NaN where one is empty; of any shape.

    It is one quotient of two integers (or halves), so it is rounded once. With up to 9e7
    tokens, the better of two predictions never scores lower, and equally good ones score
    the same.
    """
    right = true_positives * negatives + (negatives - false_positives) * positives
    return ratio(right, 2 * positives * negatives)


def confusion_of(margins: Numbers, positives: Numbers, negatives: Numbers) -> Confusion:
    """Return the confusion matrix of a probe that predicts active where its margin exceeds 0.

    A margin of 0 counts as half active, half inactive.

    Parameters
    ----------
    margins
        Floating, (rows, features). A feature with a NaN gets NaN.
    positives
        Numbers, (rows, features). Active tokens.
    negatives
        Numbers, (rows, features). Inactive tokens.
    """
    features = margins.shape[1]
    sums = np.zeros((4, features))
    for rows in _slices(margins):
        on = np.heaviside(margins[rows], 0.5)
        for i, (share, tokens) in enumerate(
            ((on, positives), (on, negatives), (1 - on, positives), (1 - on, negatives))
        ):
            sums[i] += np.einsum("rf,rf->f", share, tokens[rows], dtype=np.float64)
    return Confusion(*sums)


def logistic_loss(
    margins: Numbers,
    positives: Numbers,
    negatives: Numbers,
    *,
    pos_weight: Numbers,
    neg_weight: Numbers,
) -> Floats:
    """Return the weighted mean logistic loss in nats; (features,).

    Parameters
    ----------
    margins
        Floating, (rows, features).
    positives
        Numbers, (rows, features). Active tokens.
    negatives
        Numbers, (rows, features). Inactive tokens.
    pos_weight
        Numbers, (features,) or one for all. Weight of an active token.
    neg_weight
        Numbers, likewise. Weight of an inactive token.

    Returns
    -------
    float64; NaN where all weights are 0.
    """
    features = margins.shape[1]
    loss, weight = np.zeros((2, features)), np.zeros((2, features))
    for rows in _slices(margins):
        margin = margins[rows].astype(np.float64)
        smooth = np.log1p(np.exp(-np.abs(margin)))
        for i, (tokens, wrong) in enumerate(((positives, -margin), (negatives, margin))):
            loss[i] += np.einsum("rf,rf->f", tokens[rows], np.maximum(wrong, 0) + smooth)
            weight[i] += tokens[rows].sum(axis=0, dtype=np.float64)
    return ratio(
        loss[0] * pos_weight + loss[1] * neg_weight,
        weight[0] * pos_weight + weight[1] * neg_weight,
    )


def auroc(margins: Numbers, positives: Numbers, negatives: Numbers) -> Floats:
    """Return the area under the ROC curve; (features,).

    It is the share of pairs of an active and an inactive token in which the active one
    has the larger margin; ties count half.

    Parameters
    ----------
    margins
        Floating, (rows, features). A feature with a NaN gets NaN.
    positives
        Numbers, (rows, features). Active tokens.
    negatives
        Numbers, (rows, features). Inactive tokens.

    Returns
    -------
    float64; NaN where a class is empty.
    """
    rows, features = margins.shape
    result = np.full(features, np.nan)
    if not rows:
        return result

    def work(start: int, end: int) -> None:
        slab = (
            np.ascontiguousarray(margins[:, start:end].T),
            np.array(positives[:, start:end].T, dtype=np.float64, order="C"),
            np.array(negatives[:, start:end].T, dtype=np.float64, order="C"),
        )
        for feature, columns in enumerate(zip(*slab, strict=True), start):
            result[feature] = _area(*columns)

    in_threads(work, [*range(0, features, _FEATURES), features])
    return result


def _area(margin: Numbers, positives: Floats, negatives: Floats) -> float:
    """Return the area for one feature; float64 or smaller, (rows,) each."""
    order = np.argsort(margin)
    ordered = margin[order]
    if np.isnan(ordered[-1]):  # NaN sorts last
        return float("nan")
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    active = np.add.reduceat(positives[order], first)
    inactive = np.add.reduceat(negatives[order], first)
    won = active @ (np.cumsum(inactive) - inactive / 2)
    return float(ratio(won, active.sum() * inactive.sum()))


def _slices(margins: Numbers) -> Iterator[slice]:
    """Yield runs of rows that fit into one temporary array."""
    rows, features = margins.shape
    step = max(1, _CHUNK // max(1, features))
    for start in range(0, rows, step):
        yield slice(start, start + step)
