"""Controls: probes trained on labels that they should not be able to predict.

The control task (Hewitt and Liang, 2019) assigns to each key the rate of another key of
similar frequency. A probe that scores equally well on it has memorised keys. Shuffled
labels contain nothing to learn, so a probe of them has a balanced accuracy near 0.5.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.counts import Counts

__all__ = ["control_positives", "permuted", "shuffled_positives"]

Ints: TypeAlias = NDArray[np.int64]

# Smallest number of keys in a group, so that a frequent key has others to swap with.
_GROUP_SIZE = 8


def permuted(occurrences: Ints, *, draw: int, seed: int) -> Ints:
    """Return a permutation of keys of similar frequency: each key gets the rate of another.

    Parameters
    ----------
    occurrences
        int64, one a key. Its tokens in training and validation together. Keys are grouped
        by the powers of two that bracket their counts. Groups of fewer than 8 keys are
        merged with the next lower one. No key that occurs retains its own rate, unless it
        is the only one.
    draw
        Number of the draw.
    seed
        Seed of all draws.

    Returns
    -------
    int64, one a key.
    """
    permutation = np.arange(len(occurrences))
    occurring = np.flatnonzero(occurrences)
    if not len(occurring):
        return permutation
    rng = np.random.default_rng([seed, draw])
    shuffled = occurring[rng.permutation(len(occurring))]
    size = np.frexp(occurrences[shuffled].astype(np.float64))[1]  # 1: 1, 2 and 3: 2, 4 to 7: 3
    order = np.argsort(-size, kind="stable")
    for group in _groups(-size[order]):
        members = shuffled[order[group]]
        permutation[members] = np.roll(members, 1)  # one cycle through all members
    return permutation


def _groups(sorted_size: NDArray[Any]) -> list[slice]:
    """Return runs of equal sizes; short runs are merged with the next, the last with the previous."""
    ends = np.flatnonzero(np.diff(sorted_size, append=np.nan)) + 1
    groups, first = [], 0
    for end in ends.tolist():
        if end - first >= _GROUP_SIZE or end == len(sorted_size):
            groups.append(slice(first, end))
            first = end
    if len(groups) > 1 and groups[-1].stop - groups[-1].start < _GROUP_SIZE:
        last = groups.pop()
        groups[-1] = slice(groups[-1].start, last.stop)
    return groups


def control_positives(
    train: Counts, validation: Counts, permutation: Ints
) -> tuple[csc_array, csc_array]:
    """Return the expected number of active tokens of each key under permuted rates.

    Parameters
    ----------
    train
        Counts of the training tokens. Sampled ``negatives`` are ignored: rates refer to
        all occurrences.
    validation
        Counts of the validation tokens, with the same keys.
    permutation
        int64, one a key: the key whose rate it gets (``permuted``). Rates are computed on
        both sides together.

    Returns
    -------
    Expected positives of training and of validation: float64, (keys, features), not
    necessarily integers, no stored zeros.
    """
    active = csc_array(train.positives + validation.positives)
    occurrences = train.occurrences + validation.occurrences
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    rates = active.data / occurrences[active.indices]
    keys = inverse[active.indices]

    def side(tokens: Ints) -> csc_array:
        parts = (rates * tokens[keys], keys, active.indptr)
        expected = csc_array(parts, shape=active.shape, copy=True)  # the other side needs them
        expected.eliminate_zeros()
        expected.sort_indices()
        return expected

    return side(train.occurrences), side(validation.occurrences)


def shuffled_positives(train: Counts, *, features: Ints, seed: int) -> csc_array:
    """Return the positives of each key after labels are shuffled among tokens.

    The number of positives of each feature does not change. They are sampled from the
    tokens without replacement, independently for each feature.

    Parameters
    ----------
    train
        Counts, integers. With sampled ``negatives``, labels are shuffled among the tokens
        that count for the feature; the remaining ones are its new negatives.
    features
        int64, (features,). Index of each feature, so that its draw does not depend on the
        other features.
    seed
        Seed of the shuffle.

    Returns
    -------
    float64, (keys, features), no stored zeros.
    """
    keys = train.positives.shape[0]
    drawn = None if train.negatives is None else csc_array(train.positives + train.negatives)
    every = np.arange(keys)
    tokens = np.repeat(every, train.occurrences) if drawn is None else every[:0]
    keys_of: list[NDArray[Any]] = []
    counts: list[NDArray[Any]] = []
    for feature, active in enumerate(train.active.astype(np.int64)):
        rng = np.random.default_rng([seed, int(features[feature])])
        if drawn is not None:
            entries = slice(drawn.indptr[feature], drawn.indptr[feature + 1])
            tokens = np.repeat(drawn.indices[entries], drawn.data[entries].astype(np.int64))
        chosen = rng.choice(len(tokens), size=active, replace=False, shuffle=False)
        key, count = np.unique(tokens[chosen], return_counts=True)
        keys_of.append(key)
        counts.append(count)
    ends = np.cumsum([0, *map(len, keys_of)])
    data = np.concatenate([*counts, every[:0]]).astype(np.float64)
    rows = np.concatenate([*keys_of, every[:0]])
    return csc_array((data, rows, ends), shape=(keys, len(features)))
