"""Resampling documents: what was told of validation tokens, added up by cluster of documents."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from ingest.probe.bootstrap import Limits, clusters, limits
from ingest.probe.probe_data import Occurrences
from ingest.probe.token_baselines import Decision

__all__ = ["Resample"]


class Resample:
    """The validation tokens of a split, dealt into clusters of documents.

    Parameters
    ----------
    document
        int64, (tokens,). The document of every token.
    train
        bool, (tokens,). Which tokens are not of validation.
    draws, seed
        Of the bootstrap.
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
        dealt = clusters(document[self._validation], seed=seed)
        self.clusters = int(dealt.max(initial=-1)) + 1
        self._cluster = np.full(len(train), -1, dtype=np.int64)
        self._cluster[self._validation] = dealt
        self._tokens = np.bincount(dealt, minlength=self.clusters).astype(np.float64)

    def by(self, key: NDArray[np.int64], keys: int) -> csr_array:
        """Count the tokens of each cluster by a key; float64, (clusters, keys)."""
        where = (self._cluster[self._validation], key[self._validation])
        ones = np.ones(len(self._validation))
        return csr_array(coo_array((ones, where), shape=(self.clusters, keys)))

    def of_rows(
        self,
        told: NDArray[np.floating],
        counts: csr_array,
        *,
        row: NDArray[np.int64],
        active: Occurrences,
    ) -> Limits:
        """Return the interval of what is told of rows.

        Parameters
        ----------
        told
            (rows, features). 1 active, 0 inactive, 0.5 neither.
        counts
            Tokens of each cluster by row, as ``by`` gives them.
        row
            int64, (tokens,). The row of each token.
        active
            Occurrences on validation tokens.
        """
        return self._limits(
            told[row[active.token], active.feature], counts @ told, active, told.shape[1]
        )

    def of_keys(
        self,
        decision: Decision,
        counts: csr_array,
        *,
        key: NDArray[np.int64],
        active: Occurrences,
    ) -> Limits:
        """Return the interval of a function of a key; parameters as in ``of_rows``."""
        return self._limits(
            decision.at(key[active.token], active.feature),
            decision.among(counts),
            active,
            decision.told.shape[1],
        )

    def _limits(
        self,
        of_active: NDArray[np.floating],
        told: NDArray[np.floating],
        active: Occurrences,
        features: int,
    ) -> Limits:
        place = self._cluster[active.token] * features + active.feature
        size = self.clusters * features
        shape = (self.clusters, features)
        weights = of_active.astype(np.float64)
        hits = np.bincount(place, weights, minlength=size).reshape(shape).astype(np.float64)
        positives = np.bincount(place, minlength=size).reshape(shape).astype(np.float64)
        return limits(
            true_positives=hits,
            positives=positives,
            false_positives=told.astype(np.float64) - hits,
            negatives=self._tokens[:, None] - positives,
            draws=self._draws,
            seed=self._seed,
        )
