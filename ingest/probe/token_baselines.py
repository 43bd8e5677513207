"""Token baselines: the best prediction of every feature from a key alone.

The *table* is fitted to the training counts, as a probe is. The *ceiling* is fitted to the
validation counts themselves: no function of the key scores higher on them.

Balanced accuracy is 1/2 + 1/2 Σ (P_v / P - N_v / N) over the keys v predicted active. The
best function therefore predicts a key active if its share of the active tokens exceeds its
share of the inactive ones. A key without active tokens is always predicted inactive, so all
matrices are sparse: only keys on which a feature is active matter.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.scores import Confusion
from ingest.probe.site_design import Counts

__all__ = ["Decision", "best", "confusion", "seen_share", "table"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Decision:
    """A function of the key for each feature.

    Parameters
    ----------
    predicted
        float64, (keys, features), sorted indices. Predictions: 1 active, 0.5 undecided, 0
        inactive. Stored entries, zeros included, hold at unseen keys too.
    unseen
        bool, (keys,). Where no entry is stored, the prediction is 0.5 at these keys and 0
        at all others.
    """

    predicted: csc_array
    unseen: NDArray[np.bool_]

    def at(self, keys: Ints, features: Ints) -> Floats:
        """Return the predictions for pairs of a key and a feature: 1, 0.5 or 0; (pairs,).

        Parameters
        ----------
        keys
            int64, (pairs,).
        features
            int64, (pairs,).
        """
        position, stored = _find(self.predicted, keys, features)
        result = np.where(self.unseen[keys], 0.5, 0.0)
        result[stored] = self.predicted.data[position[stored]]
        return result

    def among(self, occurrences: Any) -> Floats:
        """Count the tokens predicted active; float64, (groups, features).

        Parameters
        ----------
        occurrences
            Sparse numbers, (groups, keys). Tokens of each group by key.
        """
        shares = 0.5 * self.unseen
        stored = csc_array(occurrences @ self.relative_to_default()).toarray()
        return np.asarray(occurrences @ shares)[:, None] + stored

    def relative_to_default(self) -> csc_array:
        """Return ``predicted`` minus the prediction without stored entries; (keys, features)."""
        predicted = self.predicted
        data = predicted.data - 0.5 * self.unseen[predicted.indices]
        return csc_array((data, predicted.indices, predicted.indptr), shape=predicted.shape)


def table(train: Counts) -> Decision:
    """Return the function of the key with the highest balanced accuracy on these tokens.

    It predicts active where the key's share of the active tokens exceeds its share of the
    inactive ones. It is undecided where they are equal, and at keys that do not occur. The
    comparison is exact for up to 3e9 tokens.

    Parameters
    ----------
    train
        Counts, integers. With sampled ``negatives``, a key occurs for a feature if it has a
        token that counts for it.
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
    predicted = np.where(for_active > against, 1.0, np.where(for_active == against, 0.5, 0.0))
    # A feature that is never active is predicted inactive, also with sampled negatives.
    predicted[ones == 0] = 0
    parts = (predicted, pattern.indices, pattern.indptr)
    result = csc_array(parts, shape=pattern.shape, copy=True)  # the counts must not change
    if train.negatives is None:
        result.eliminate_zeros()  # a missing entry is the same prediction
    return Decision(result, unseen)


def best(validation: Counts) -> Decision:
    """Return the ceiling: the best function of the key on the tokens it is scored on.

    It is the table of the validation counts.
    """
    return table(validation)


def confusion(decision: Decision, counts: Counts) -> Confusion:
    """Return the confusion matrix of the predictions on these tokens.

    Parameters
    ----------
    decision
        The predictions, with the same keys and features as ``counts``.
    counts
        The tokens.
    """
    stored, shares = decision.relative_to_default(), 0.5 * decision.unseen
    active = counts.positives
    hits = shares @ active + stored.multiply(active).sum(axis=0)
    if counts.negatives is None:
        occurrences = counts.occurrences.astype(np.float64)
        alarms = shares @ occurrences + occurrences @ stored - hits
    else:
        drawn = counts.negatives
        alarms = shares @ drawn + stored.multiply(drawn).sum(axis=0)
    return Confusion(hits, alarms, counts.active - hits, counts.inactive - alarms)


def seen_share(train: Counts, validation: Counts) -> float:
    """Return the share of validation tokens whose key occurs in training; NaN without tokens."""
    if not validation.tokens:
        return float("nan")
    seen = validation.occurrences[train.occurrences > 0].sum()
    return float(seen / validation.tokens)


def _canonical(matrix: csc_array) -> csc_array:
    """Return the matrix with sorted unique indices and without stored zeros; a copy if needed."""
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
    """Return the position of each requested entry among the stored ones, and whether it is stored."""
    height = matrix.shape[0]
    stored = _columns(matrix) * height + matrix.indices
    requested = columns * height + rows
    position = np.searchsorted(stored, requested)
    found = position < len(stored)
    found[found] = stored[position[found]] == requested[found]
    return position, found


def _values(matrix: csc_array, rows: NDArray[Any], columns: Ints) -> Floats:
    """Return the requested entries; float64."""
    position, stored = _find(matrix, rows, columns)
    result = np.zeros(len(position))
    result[stored] = matrix.data[position[stored]]
    return result
