"""Bootstrap intervals of balanced accuracy: documents are resampled, predictions are fixed.

Tokens of one document are not independent, so complete documents (or clusters of them) are
resampled. All features and all predictors use the same draws, so a probe and its table are
compared on the same tokens.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from ingest.probe.probe_data import Occurrences
from ingest.probe.scores import balanced_accuracy
from ingest.probe.token_baselines import Decision
from ingest.statistics.intervals import bootstrap_weights

__all__ = ["CLUSTERS", "Intervals", "Resample", "clusters", "limits"]

Floats: TypeAlias = NDArray[np.float64]

CLUSTERS = 512
"""Largest number of clusters of documents."""

_LOW, _HIGH = 0.025, 0.975


@dataclass(frozen=True, eq=False)
class Intervals:
    """The 95% interval of each feature.

    Parameters
    ----------
    low
        float64, (features,). The lower limit; NaN where it is undefined.
    high
        float64, (features,). The upper limit, likewise.
    draws
        float32, (draws, features). The score in each draw; NaN where a class is empty in
        that draw. With the same tokens and seed, a draw has the same clusters for every
        predictor.
    """

    low: Floats
    high: Floats
    draws: NDArray[np.float32]

    @classmethod
    def none(cls, features: int, *, draws: int = 0) -> "Intervals":
        """Return undefined limits (NaN)."""
        nan = np.full(features, np.nan)
        return cls(nan, nan, np.full((draws, features), np.nan, np.float32))


def clusters(documents: NDArray[Any], *, at_most: int = CLUSTERS, seed: int) -> NDArray[np.int64]:
    """Assign documents at random to clusters whose sizes differ by at most one document.

    Parameters
    ----------
    documents
        Integers, one a token. The document of each token.
    at_most
        Largest number of clusters. If there are fewer documents, each is a cluster.
    seed
        Seed of the assignment.

    Returns
    -------
    int64, one a token: its cluster, counted from 0.
    """
    distinct, document = np.unique(documents, return_inverse=True)
    cluster = np.random.default_rng(seed).permutation(len(distinct)) % at_most
    return cluster.astype(np.int64)[document]


def limits(
    *,
    true_positives: Floats,
    positives: Floats,
    false_positives: Floats,
    negatives: Floats,
    draws: int,
    seed: int,
) -> Intervals:
    """Return the interval between the 2.5% and 97.5% quantiles over draws of clusters.

    Parameters
    ----------
    true_positives
        float64, (clusters, features). Active tokens predicted active.
    positives
        float64, likewise. Active tokens.
    false_positives
        float64, likewise. Inactive tokens predicted active.
    negatives
        float64, likewise. Inactive tokens.
    draws
        Number of bootstrap draws. Each draw samples as many clusters as there are, with
        replacement. A draw without tokens of a class is ignored for that feature.
    seed
        Seed of the draws. Draws depend on it and on the number of clusters only.

    Returns
    -------
    NaN without draws, and where all tokens of a class are in one cluster: then nothing is
    known about the variation among documents.
    """
    number, features = positives.shape
    alone = ((positives > 0).sum(axis=0) < 2) | ((negatives > 0).sum(axis=0) < 2)
    if draws == 0 or alone.all():
        return Intervals.none(features, draws=draws)
    weights = bootstrap_weights(number, draws, np.random.default_rng(seed))
    scores = balanced_accuracy(
        true_positives=weights @ true_positives,
        positives=weights @ positives,
        false_positives=weights @ false_positives,
        negatives=weights @ negatives,
    )
    scores[:, alone] = np.nan
    drawn = scores.astype(np.float32)
    scores.sort(axis=0)  # NaN last
    return Intervals(_quantile(scores, _LOW), _quantile(scores, _HIGH), drawn)


def _quantile(ordered: Floats, share: float) -> Floats:
    """Return the quantile of each column without NaN, equal to ``np.nanquantile``.

    ``np.nanquantile`` is slower: it loops over columns.
    """
    numbers = np.count_nonzero(~np.isnan(ordered), axis=0)
    position = share * np.maximum(numbers - 1, 0)
    below = position.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(numbers - 1, 0))
    features = np.arange(ordered.shape[1])
    lower: Floats = ordered[below, features]
    upper: Floats = ordered[above, features]
    return np.asarray(lower + (upper - lower) * (position - below))


class Resample:
    """The validation tokens of a split, in clusters of documents.

    Parameters
    ----------
    document
        int64, (tokens,). The document of every token.
    train
        bool, (tokens,). Mask of the training tokens.
    draws, seed
        Number of draws and seed of the bootstrap.
    """

    def __init__(
        self,
        document: NDArray[np.int64],
        train: NDArray[np.bool_],
        *,
        draws: int,
        seed: int,
    ) -> None:
        self._draws, self._seed = draws, seed
        self._validation = np.flatnonzero(~train)
        cluster = clusters(document[self._validation], seed=seed)
        self.clusters = int(cluster.max(initial=-1)) + 1
        self._cluster = np.full(len(train), -1, dtype=np.int64)
        self._cluster[self._validation] = cluster
        self._tokens = np.bincount(cluster, minlength=self.clusters).astype(np.float64)

    def by(self, key: NDArray[np.int64], keys: int) -> csr_array:
        """Count the tokens of each cluster by a key; float64, (clusters, keys)."""
        where = (self._cluster[self._validation], key[self._validation])
        ones = np.ones(len(self._validation))
        return csr_array(coo_array((ones, where), shape=(self.clusters, keys)))

    def of_rows(
        self,
        predicted: NDArray[np.floating],
        counts: csr_array,
        *,
        row: NDArray[np.int64],
        active: Occurrences,
    ) -> Intervals:
        """Return the interval of balanced accuracy of predictions by row.

        Parameters
        ----------
        predicted
            (rows, features). Predictions: 1 active, 0 inactive, 0.5 no prediction.
        counts
            Tokens of each cluster by row, from ``by``.
        row
            int64, (tokens,). The row of each token.
        active
            Occurrences on validation tokens.
        """
        return self._limits(
            predicted[row[active.token], active.feature],
            counts @ predicted,
            active,
            predicted.shape[1],
        )

    def of_keys(
        self,
        decision: Decision,
        counts: csr_array,
        *,
        key: NDArray[np.int64],
        active: Occurrences,
    ) -> Intervals:
        """Return the interval of balanced accuracy of a function of a key; see ``of_rows``."""
        return self._limits(
            decision.at(key[active.token], active.feature),
            decision.among(counts),
            active,
            decision.predicted.shape[1],
        )

    def _limits(
        self,
        on_active: NDArray[np.floating],
        predicted: NDArray[np.floating],
        active: Occurrences,
        features: int,
    ) -> Intervals:
        cell = self._cluster[active.token] * features + active.feature
        size = self.clusters * features
        shape = (self.clusters, features)
        weights = on_active.astype(np.float64)
        hits = np.bincount(cell, weights, minlength=size).reshape(shape).astype(np.float64)
        positives = np.bincount(cell, minlength=size).reshape(shape).astype(np.float64)
        return limits(
            true_positives=hits,
            positives=positives,
            false_positives=predicted.astype(np.float64) - hits,
            negatives=self._tokens[:, None] - positives,
            draws=self._draws,
            seed=self._seed,
        )
