"""Controls: the same probe asked for what it should not be able to tell.

The control task (Hewitt and Liang, 2019) lets each key bear the rate of another one, drawn
among keys that occur about as often. A probe that does as well on it has learnt keys by
heart. Shuffled labels leave nothing to learn: a probe of them scores at chance.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ingest.probe.counts import Counts

__all__ = ["control_positives", "permuted", "shuffled_positives"]

Ints: TypeAlias = NDArray[np.int64]

# Keys of a group at least, so that a frequent one has others to swap with.
_ALIKE = 8


def permuted(occurrences: Ints, *, draw: int, seed: int) -> Ints:
    """Return whose rate each key bears: a permutation among keys of like count.

    Parameters
    ----------
    occurrences
        int64, one a key. Its tokens, of training and validation together. Keys are alike
        if the same powers of two bracket their counts; brackets of fewer than 8 keys are
        joined with the next lower ones. No key that occurs keeps its own rate, unless it is
        the only one.
    draw
        Which draw this is.
    seed
        Seed of all draws.

    Returns
    -------
    int64, one a key.
    """
    permutation = np.arange(len(occurrences))
    there = np.flatnonzero(occurrences)
    if not len(there):
        return permutation
    rng = np.random.default_rng([seed, draw])
    shuffled = there[rng.permutation(len(there))]
    size = np.frexp(occurrences[shuffled].astype(np.float64))[1]  # 1: 1, 2 and 3: 2, 4 to 7: 3
    order = np.argsort(-size, kind="stable")
    for group in _groups(-size[order]):
        around = shuffled[order[group]]
        permutation[around] = np.roll(around, 1)  # one circle through all of them
    return permutation


def _groups(sorted_size: NDArray[Any]) -> list[slice]:
    """Return runs of equal sizes, short ones joined with the next, the last with the one before."""
    ends = np.flatnonzero(np.diff(sorted_size, append=np.nan)) + 1
    groups, first = [], 0
    for end in ends.tolist():
        if end - first >= _ALIKE or end == len(sorted_size):
            groups.append(slice(first, end))
            first = end
    if len(groups) > 1 and groups[-1].stop - groups[-1].start < _ALIKE:
        last = groups.pop()
        groups[-1] = slice(groups[-1].start, last.stop)
    return groups


def control_positives(
    train: Counts, validation: Counts, permutation: Ints
) -> tuple[csc_array, csc_array]:
    """Return how many tokens of each key would be active if keys bore each other's rates.

    Parameters
    ----------
    train
        Counts of the training tokens. Drawn ``negatives`` are not looked at: rates are of
        all occurrences.
    validation
        Counts of the validation tokens, of the same keys.
    permutation
        int64, one a key: whose rate it bears (``permuted``). Rates are of both sides together.

    Returns
    -------
    Expected positives of training and of validation: float64, (keys, features), fractions,
    no stored zeros.
    """
    active = csc_array(train.positives + validation.positives)
    occurrences = train.occurrences + validation.occurrences
    bearer = np.empty_like(permutation)
    bearer[permutation] = np.arange(len(permutation))
    rates = active.data / occurrences[active.indices]
    keys = bearer[active.indices]

    def side(tokens: Ints) -> csc_array:
        parts = (rates * tokens[keys], keys, active.indptr)
        expected = csc_array(parts, shape=active.shape, copy=True)  # the other side needs them
        expected.eliminate_zeros()
        expected.sort_indices()
        return expected

    return side(train.occurrences), side(validation.occurrences)


def shuffled_positives(train: Counts, *, features: Ints, seed: int) -> csc_array:
    """Return the positives of each key after labels were shuffled among tokens.

    Each feature keeps its number of positives, drawn without replacement from the tokens,
    one feature independently of the other.

    Parameters
    ----------
    train
        Counts, whole numbers. With drawn ``negatives``, labels are shuffled among the
        tokens that count for the feature: its new negatives are what remains of them.
    features
        int64, (features,). Number of each feature, so that its draw does not depend on
        which others are shuffled beside it.
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
    found: list[NDArray[Any]] = []
    counts: list[NDArray[Any]] = []
    for feature, active in enumerate(train.active.astype(np.int64)):
        rng = np.random.default_rng([seed, int(features[feature])])
        if drawn is not None:
            entries = slice(drawn.indptr[feature], drawn.indptr[feature + 1])
            tokens = np.repeat(drawn.indices[entries], drawn.data[entries].astype(np.int64))
        chosen = rng.choice(len(tokens), size=active, replace=False, shuffle=False)
        key, count = np.unique(tokens[chosen], return_counts=True)
        found.append(key)
        counts.append(count)
    ends = np.cumsum([0, *map(len, found)])
    data = np.concatenate([*counts, every[:0]]).astype(np.float64)
    return csc_array((data, np.concatenate([*found, every[:0]]), ends), shape=(keys, len(features)))
