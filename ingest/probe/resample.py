"""Bootstrap over documents: predictions on validation tokens, summed by cluster of documents."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from ingest.probe.bootstrap import Limits, clusters, limits
from ingest.probe.probe_data import Occurrences
from ingest.probe.token_baselines import Decision

__all__ = ["Resample"]


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
    ) -> Limits:
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
    ) -> Limits:
        """Return the interval of balanced accuracy of a function of a key; see ``of_rows``."""
        return self._limits(
            decision.at(key[active.token], active.feature),
            decision.among(counts),
            active,
            decision.told.shape[1],
        )

    def _limits(
        self,
        on_active: NDArray[np.floating],
        predicted: NDArray[np.floating],
        active: Occurrences,
        features: int,
    ) -> Limits:
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
