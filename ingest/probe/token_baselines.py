"""Tables: what the best function of a key tells of every feature.

The *table* is made of the training counts, as a probe would be. The *ceiling* is made of
the validation counts themselves: no function of the key does better on them.

Balanced accuracy is 1/2 + 1/2 Σ (P_v / P - N_v / N) over the keys v told active, so the
best function tells those active whose share of active tokens is larger than their share
of inactive ones. A key without active tokens never is, so nothing here is ever dense:
all follows from the keys on which a feature is active.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.counts import Counts
from ingest.probe.scores import Confusion

__all__ = ["Decision", "best", "confusion", "seen_share", "table"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Decision:
    """A function of the key for each feature.

    Parameters
    ----------
    told
        float64, (keys, features), sorted indices. 1 where the feature is told active, 0.5
        where nothing is told, and 0 may be stored too: what is stored holds even at
        unseen keys.
    unseen
        bool, (keys,). Where nothing is stored, a feature is told inactive; at these keys
        nothing is told.
    """

    told: csc_array
    unseen: NDArray[np.bool_]

    def at(self, keys: Ints, features: Ints) -> Floats:
        """Return what is told of pairs of a key and a feature: 1, 0.5 or 0; (pairs,).

        Parameters
        ----------
        keys
            int64, (pairs,).
        features
            int64, (pairs,).
        """
        place, stored = _find(self.told, keys, features)
        result = np.where(self.unseen[keys], 0.5, 0.0)
        result[stored] = self.told.data[place[stored]]
        return result

    def among(self, occurrences: Any) -> Floats:
        """Return how many tokens are told active; float64, (groups, features).

        Parameters
        ----------
        occurrences
            Sparse numbers, (groups, keys). Tokens of each group by key.
        """
        shares = 0.5 * self.unseen
        stored = csc_array(occurrences @ self.beside()).toarray()
        return np.asarray(occurrences @ shares)[:, None] + stored

    def beside(self) -> csc_array:
        """Return ``told`` less what would be told if nothing were stored; (keys, features)."""
        told = self.told
        data = told.data - 0.5 * self.unseen[told.indices]
        return csc_array((data, told.indices, told.indptr), shape=told.shape)


def table(train: Counts) -> Decision:
    """Return the function of the key that does best on these tokens.

    Told active where the share of active tokens that have this key exceeds that of the
    inactive ones. Nothing is told where they are equal, nor at keys that do not occur.
    The comparison is exact for up to 3e9 tokens.

    Parameters
    ----------
    train
        Counts, whole numbers. With drawn ``negatives``, a key occurs for a feature if it
        has a token that counts for it.
    """
    active = _canonical(train.positives)
    if train.negatives is None:
        keys, features = active.indices, _columns(active)
        ones = active.data.astype(np.int64)
        others = train.occurrences[keys] - ones
        unseen = train.occurrences == 0
        pattern = active
    else:
        drawn = _canonical(train.negatives)
        pattern = _canonical(csc_array(active + drawn))
        keys, features = pattern.indices, _columns(pattern)
        ones = _values(active, keys, features).astype(np.int64)
        others = _values(drawn, keys, features).astype(np.int64)
        unseen = np.ones(len(train.occurrences), dtype=bool)
    for_active = ones * train.inactive.astype(np.int64)[features]
    against = others * train.active.astype(np.int64)[features]
    told = np.where(for_active > against, 1.0, np.where(for_active == against, 0.5, 0.0))
    # With drawn negatives too, a feature that is nowhere active is told inactive.
    told[ones == 0] = 0
    parts = (told, pattern.indices, pattern.indptr)
    result = csc_array(parts, shape=pattern.shape, copy=True)  # the counts stay as they are
    if train.negatives is None:
        result.eliminate_zeros()  # what is not stored says the same
    return Decision(result, unseen)


def best(validation: Counts) -> Decision:
    """Return the ceiling: the function of the key that does best on the tokens it is scored on.

    It is the table of these counts; the name says what it is held against.
    """
    return table(validation)


def confusion(decision: Decision, counts: Counts) -> Confusion:
    """Return how what is told agrees with these tokens.

    Parameters
    ----------
    decision
        What is told; of the same keys and features as ``counts``.
    counts
        The tokens.
    """
    beside, shares = decision.beside(), 0.5 * decision.unseen
    active = counts.positives
    hits = shares @ active + beside.multiply(active).sum(axis=0)
    if counts.negatives is None:
        occurrences = counts.occurrences.astype(np.float64)
        alarms = shares @ occurrences + occurrences @ beside - hits
    else:
        drawn = counts.negatives
        alarms = shares @ drawn + beside.multiply(drawn).sum(axis=0)
    return Confusion(hits, alarms, counts.active - hits, counts.inactive - alarms)


def seen_share(train: Counts, validation: Counts) -> float:
    """Return the share of validation tokens whose key occurs in training; NaN without tokens."""
    if not validation.tokens:
        return float("nan")
    seen = validation.occurrences[train.occurrences > 0].sum()
    return float(seen / validation.tokens)


def _canonical(matrix: csc_array) -> csc_array:
    """Return the matrix with sorted indices, each once, and no stored zeros; it is not changed."""
    if matrix.has_canonical_format and matrix.data.all():
        return matrix
    result = matrix.copy()
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def _columns(matrix: csc_array) -> Ints:
    """Return the column of each stored entry; int64."""
    columns = np.arange(matrix.shape[1], dtype=np.int64)
    return np.repeat(columns, np.diff(matrix.indptr))


def _find(matrix: csc_array, rows: NDArray[Any], columns: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the place of each entry asked for among the stored ones, and whether it is there."""
    height = matrix.shape[0]
    stored = _columns(matrix) * height + matrix.indices
    asked = columns * height + rows
    place = np.searchsorted(stored, asked)
    there = place < len(stored)
    there[there] = stored[place[there]] == asked[there]
    return place, there


def _values(matrix: csc_array, rows: NDArray[Any], columns: Ints) -> Floats:
    """Return the entries asked for; float64."""
    place, there = _find(matrix, rows, columns)
    result = np.zeros(len(place))
    result[there] = matrix.data[place[there]]
    return result
