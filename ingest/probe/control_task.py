"""The control task at a site: training and validation counts with rates swapped among token ids."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array

from ingest.probe.probe_data import ProbeData, Sides, natural
from ingest.probe.site_design import Counts, Dense, ProbedRows, SiteDesign

__all__ = ["ControlDraw", "ControlTask", "control_positives", "permuted", "shuffled_positives"]

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


Floats: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Counts, Counts]


@dataclass(frozen=True, eq=False)
class ControlDraw:
    """One draw of the control task.

    Parameters
    ----------
    fitted, scored
        Expected positives and negatives on the training rows and on the scored rows.
    seen
        bool, (scored rows, features). Where tokens are sampled: rows of ids in the
        training sample of this draw. None: use the ids of the probe's training.
    """

    fitted: Dense
    scored: Dense
    seen: NDArray[np.bool_] | None


class ControlTask:
    """Draws of the control task for the features of one SAE, at one site, for one split.

    Parameters
    ----------
    site
        The site that is read.
    data
        The SAE's codes.
    train
        bool, (tokens,). Mask of the training tokens.
    fitted, scored
        The rows on which probes are trained, and on which they are scored.
    seed
        Seed of the draws.
    """

    def __init__(
        self,
        site: SiteDesign,
        data: ProbeData,
        train: NDArray[np.bool_],
        *,
        fitted: ProbedRows,
        scored: ProbedRows,
        seed: int,
    ) -> None:
        self._site, self._data, self._train = site, data, train
        self._fitted, self._scored, self._seed = fitted, scored, seed

    def draw(self, sides: Sides, *, draw: int, features: NDArray[np.int64]) -> ControlDraw:
        """Return one draw.

        Training uses all expected counts of the training side. If the probe was trained on
        sampled tokens, training uses an equal number of tokens of each class; the remaining
        tokens are then used for validation if they are for the probe.
        """
        site, data = self._site, self._data
        plain = sides
        if sides.drawn is not None:
            plain = natural(self._train, sides.active, features=sides.features)
        rows = plain.counts(site.row, site.design.rows)
        types = rows if site.at_embedding else plain.counts(data.type, len(data.ids))
        swap = permuted(types[0].occurrences + types[1].occurrences, draw=draw, seed=self._seed)
        fitted, scored = (
            self._of_rows(expected, by_type=t, by_row=r, rows=which)
            for expected, t, r, which in zip(
                control_positives(*types, swap),
                types,
                rows,
                (self._fitted, self._scored),
                strict=True,
            )
        )
        if sides.drawn is None:
            return ControlDraw(fitted, scored, None)
        number = sides.counts(site.row, site.design.rows)[0].active.astype(np.int64)
        rngs = [np.random.default_rng([self._seed, 4, draw, f]) for f in features.tolist()]
        if sides.rest:  # rows of both sides are all rows
            fitted = fitted[0] + scored[0], fitted[1] + scored[1]
        drawn = _sampled(fitted[0], number, rngs), _sampled(fitted[1], number, rngs)
        if sides.rest:
            rest = [np.maximum(all_ - taken, 0) for all_, taken in zip(fitted, drawn, strict=True)]
            scored = rest[0], rest[1]
        return ControlDraw(drawn, scored, self._seen(drawn[0] + drawn[1]))

    def _of_rows(
        self, expected: Any, *, by_type: Counts, by_row: Counts, rows: ProbedRows
    ) -> Dense:
        """Distribute the expected positives of each token id over the rows of that id."""
        ids = self._site.row_type[rows.numbers]
        tokens = by_row.occurrences[rows.numbers, None].astype(np.float64)
        in_all = np.maximum(by_type.occurrences[ids, None], 1)
        positives: Floats = expected.tocsr()[ids].toarray() * (tokens / in_all)
        return positives, tokens - positives

    def _seen(self, trained: Floats) -> NDArray[np.bool_]:
        """Return which scored rows have an id with trained tokens.

        ``trained`` has tokens, (fitted rows, features).
        """
        types = self._site.row_type
        shape = (int(types.max(initial=-1)) + 1, len(self._fitted.numbers))
        cells = (types[self._fitted.numbers], np.arange(shape[1]))
        rows_of_id = csr_array(coo_array((np.ones(shape[1]), cells), shape=shape))
        seen: NDArray[np.bool_] = np.asarray(rows_of_id @ trained)[types[self._scored.numbers]] > 0
        return seen


def _sampled(
    expected: Floats, number: NDArray[np.int64], rngs: list[np.random.Generator]
) -> Floats:
    """Sample ``number`` tokens of each feature from rows in proportion to ``expected``."""
    sample = np.empty_like(expected)
    for feature, tokens in enumerate(number.tolist()):
        share = expected[:, feature] / expected[:, feature].sum()
        sample[:, feature] = rngs[feature].multinomial(tokens, share)
    return sample
