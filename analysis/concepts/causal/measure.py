"""Effects of ablated features on probes of a concept, of other concepts, and compared with random features.

Features are selected on the training words of a fold. Probes are trained on the unedited activations of
the same words at a later site. Both are used on the test words, whose activations are computed again
with the features ablated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.causal.settings import AblationSettings
from analysis.concepts.causal.word_runs import Ablated, WordRuns
from analysis.concepts.probing.ridge import nested_ridge, rotated
from analysis.concepts.probing.sparse import TrainingStatistic, best_units
from analysis.concepts.probing.splits import Splits
from analysis.concepts.units.observations import Live
from analysis.statistics.ranks import auc_columns
from atlas.progress import Stage

__all__ = [
    "Effects",
    "LaterProbe",
    "TestedWords",
    "ablation_effects",
    "equal_frequency",
    "fit_later",
    "random_directions",
]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

NEAR = 20
"""A random feature is one of this number of features whose frequency is nearest."""


@dataclass(frozen=True, eq=False)
class TestedWords:
    """A set of words with its splits.

    Parameters
    ----------
    rows
        int64, (words,). Numbers of its contexts in the runs, ascending.
    groups
        int64, (words,). Groups that are never split.
    splits
        Splits of its words; all sets have the same number.
    labels
        By name of the concept, bool, (words,).
    """

    __test__ = False  # not a test, in spite of its name

    rows: Ints
    groups: Ints
    splits: Splits
    labels: dict[str, Bools]


@dataclass(frozen=True, eq=False)
class LaterProbe:
    """Probes of one concept at the later site, one for each split.

    Parameters
    ----------
    name
        The concept.
    words
        Its words.
    coef, mean, intercept
        (splits, width), (width,), (splits,). The margin is ``(x - mean) coef + intercept``.
    auc, gap
        float64, (splits,). On test words without edits: the AUROC, and the mean margin of the
        positive class - that of the negative one.
    """

    name: str
    words: TestedWords
    coef: Floats
    mean: Floats
    intercept: Floats
    auc: Floats
    gap: Floats

    def scores(self, later: Floats, split: int) -> tuple[Floats, Floats]:
        """Return AUROC and gap of the test words of a split.

        Parameters
        ----------
        later
            float64, (sets, test words, width). Their activations under several edits.
        split
            The split.

        Returns
        -------
        auc, gap
            float64, (sets,). NaN if the test words have one class.
        """
        margins = (later - self.mean) @ self.coef[split] + self.intercept[split]
        own = self.words.labels[self.name][self.words.splits.test[split]]
        return auc_columns(margins.T, own), _gap(margins, own)


def _gap(margins: Floats, labels: Bools) -> Floats:
    if labels.all() or not labels.any():
        return np.full(len(margins), np.nan)
    return np.asarray(margins[:, labels].mean(axis=1) - margins[:, ~labels].mean(axis=1))


def fit_later(words: TestedWords, clean: Floats, *, seed: int) -> list[LaterProbe]:
    """Fit the probes of all concepts of a set of words on unedited activations.

    Parameters
    ----------
    words
        The words.
    clean
        float64, (words, width).
    seed
        Seed of the inner folds that choose the penalty.
    """
    space = rotated(clean)
    test = words.splits.test
    found = []
    for name, labels in words.labels.items():
        every = np.repeat(labels[None], len(test), axis=0)
        fitted = nested_ridge(space, every, ~test, groups=words.groups, seed=seed)
        intercept = fitted.margins[:, 0] - fitted.coef @ space.rows[0]
        probe = LaterProbe(
            name,
            words,
            fitted.coef @ space.back,
            space.mean,
            intercept,
            np.empty(len(test)),
            np.empty(len(test)),
        )
        for split, rows in enumerate(test):
            auc, gap = probe.scores(clean[rows][None], split)
            probe.auc[split], probe.gap[split] = auc[0], gap[0]
        found.append(probe)
    return found


def equal_frequency(chosen: Ints, counts: Ints, priorities: Floats) -> tuple[list[Ints], int]:
    """Return sets of random units, each member similar in frequency to one chosen unit.

    Parameters
    ----------
    chosen
        int64, (k,). The chosen units.
    counts
        int64, (units,). Words on which each unit is active.
    priorities
        float64, (sets, units). Random priorities of the units in each set. The same priorities for
        several choices draw the same units wherever they are near a chosen one.

    Returns
    -------
    sets
        Sets of k units. Member i is the unit of lowest priority among unit i and the ``NEAR`` units
        whose count is nearest, by ratio, to its count; earlier members of the set are excluded.
        No set, if fewer than k other units are active.
    candidates
        Number of units, other than the chosen ones, from which the members are drawn.

    Notes
    -----
    The chosen units can be drawn too, as in any permutation test. If random sets excluded them, the
    sets would vary less than the chosen set does under the null, and p would be too small where
    there are few candidates.

    Examples
    --------
    >>> equal_frequency(np.array([0]), np.array([5, 5, 0, 0]), np.array([[0.9, 0.1, 0.2, 0.3]]))
    ([array([1])], 1)
    """
    pool = np.union1d(np.flatnonzero(counts > 0), chosen)
    if len(pool) < 2 * len(chosen):
        return [], len(pool) - len(chosen)
    log = np.log(np.maximum(counts, 1))
    # Earlier members are excluded, so that many nearest units suffice; each unit is its own nearest.
    enough = min(NEAR + 1 + len(chosen), len(pool)) - 1
    distances = [np.abs(log[pool] - log[unit]) for unit in chosen]
    within = [np.flatnonzero(own <= np.partition(own, enough)[enough]) for own in distances]
    found = []
    for priority in priorities:
        free = np.ones(len(pool), np.bool_)
        members = []
        for unit, own, candidates in zip(chosen, distances, within, strict=True):
            rest = candidates[free[candidates]]
            # Units of equal distance are taken in the order of their priority, after the unit itself.
            order = np.lexsort((priority[pool[rest]], own[rest], pool[rest] != unit))
            near = rest[order[: NEAR + 1]]
            member = near[np.argmin(priority[pool[near]])]
            free[member] = False
            members.append(pool[member])
        found.append(np.array(members, dtype=np.int64))
    return found, len(np.setdiff1d(pool[np.unique(np.concatenate(within))], chosen))


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of the ablation of the k best features of a concept, and of its controls.

    The first set has the best features. Sets of k random features follow, and then changes along
    random directions that have the norm of the ablation of the best features.

    Parameters
    ----------
    k
        Number of features.
    candidates
        Number of other features from which random sets are drawn; the least of all splits.
    random
        int64. Numbers of the random sets, without those that equal an earlier one, or the best
        features, in all splits.
    directed
        int64. Numbers of the sets of random directions.
    measured
        Names of the measured concepts.
    auc, gap
        float64, (measured, sets, splits). AUROC and gap with the features ablated.
    moved
        float64, (measured, sets, splits). Share of the test words on which a feature of the set is
        active.
    size
        float64, (sets, splits). Mean size of the change over the test words of the concept; see
        ``word_runs.Ablated``.
    active
        float64, (sets, splits). Mean share of the words on which a feature is active.
    """

    k: int
    candidates: int
    random: Ints
    directed: Ints
    measured: tuple[str, ...]
    auc: Floats
    gap: Floats
    moved: Floats
    size: Floats
    active: Floats


def ablation_effects(
    runs: WordRuns,
    concept: str,
    words: TestedWords,
    *,
    features: Live,
    probes: Sequence[LaterProbe],
    settings: AblationSettings,
    seed: int,
    stage: Stage,
) -> Iterator[Effects]:
    """Yield the effects for each number of features.

    Parameters
    ----------
    runs
        The runs of all words.
    concept, words
        The concept whose features are ablated, and its words.
    features
        Codes of these words.
    probes
        Probes of all measured concepts, from ``fit_later``.
    settings, seed
        Numbers of features and of sets, and the seed.
    stage
        Advanced by one for each split.

    Notes
    -----
    The best features are similar in all splits, so each random set is drawn once for all splits: a
    random set that varied from split to split would vary less, on average over the splits, than the
    best features do, and p would be too small. A k is omitted if fewer than k other features are
    active, or if no random set differs from the best features.
    """
    tests = words.splits.test
    every = list({id(probe.words): probe.words for probe in probes}.values())
    ranked = _ranked(features, words.labels[concept], tests, most=max(settings.ablated))
    counts = np.asarray((features.values > 0).sum(axis=0), dtype=np.int64)
    priorities = np.stack(
        [
            np.random.default_rng([seed, 7, number]).random(len(counts))
            for number in range(settings.random_sets)
        ]
    )
    found = {}
    for k in sorted(set(settings.ablated)):
        drawn = _chosen(ranked[:, :k], counts, priorities) if ranked.shape[1] >= k else None
        if drawn is not None:
            empty = _empty(k, *drawn, probes, directed=settings.direction_sets)
            if len(empty.random):
                found[k] = drawn[0], empty
    for split in range(len(tests)):
        contexts = np.concatenate([one.rows[one.splits.test[split]] for one in every])
        for chosen, effects in found.values():
            first, same = _equal_rows(chosen[:, split])
            sets = chosen[first, split]
            effects.active[:, split] = (counts[sets].mean(axis=1) / len(words.rows))[
                np.append(same, np.zeros(settings.direction_sets, np.int64))
            ]
            units = [features.units[one] for one in sets]
            along = [
                random_directions(units[0], runs.read.shape[1], seed=seed, number=number)
                for number in range(settings.direction_sets)
            ]
            results = [
                *runs.ablated(contexts, units),
                *runs.ablated(contexts, [units[0]] * len(along), directions=along),
            ]
            ablated = [results[i] for i in (*same, *range(len(sets), len(results)))]
            _score(effects, ablated, contexts, probes, concept=concept, split=split)
        stage.advance(1)
    for _, effects in found.values():
        yield effects


def _score(
    effects: Effects,
    ablated: Sequence[Ablated],
    contexts: Ints,
    probes: Sequence[LaterProbe],
    *,
    concept: str,
    split: int,
) -> None:
    """Write the scores of all probes in one split, for each set."""
    later = np.stack([one.later for one in ablated])
    active = np.stack([one.active for one in ablated])
    size = np.stack([one.size for one in ablated])
    for number, probe in enumerate(probes):
        rows = probe.words.rows[probe.words.splits.test[split]]
        at = np.searchsorted(contexts, rows)
        auc, gap = probe.scores(later[:, at], split)
        effects.auc[number, :, split], effects.gap[number, :, split] = auc, gap
        effects.moved[number, :, split] = active[:, at].mean(axis=1)
        if probe.name == concept:
            effects.size[:, split] = size[:, at].mean(axis=1)


def random_directions(units: Ints, width: int, *, seed: int, number: int) -> Floats:
    """Return a random direction for each feature, the same in all splits.

    Parameters
    ----------
    units
        int64, (features,).
    width
        Dimensions of a direction.
    seed, number
        The seed, and the number of the draw.

    Returns
    -------
    float64, (features, width), of norm 1.
    """
    drawn = np.stack(
        [np.random.default_rng([seed, 8, number, int(u)]).standard_normal(width) for u in units]
    )
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def _ranked(features: Live, labels: Bools, tests: Bools, *, most: int) -> Ints:
    """Return the units that separate the training words of each split best, (splits, units)."""
    every = np.repeat(labels[None], len(tests), axis=0)
    return best_units(TrainingStatistic(features.values).signed_f(every, ~tests), most)


def _chosen(best: Ints, counts: Ints, priorities: Floats) -> tuple[Ints, int] | None:
    """Return the best units and the random sets of each split, and the least number of candidates.

    The sets are (1 + sets, splits, k), members sorted.
    """
    drawn = {own.tobytes(): equal_frequency(own, counts, priorities) for own in best}
    if not all(sets for sets, _ in drawn.values()):
        return None
    found = [np.stack([own, *drawn[own.tobytes()][0]]) for own in best]
    return np.sort(np.stack(found, axis=1), axis=2), min(n for _, n in drawn.values())


def _equal_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Return the first row of each group of equal rows, ascending, and the group of each row."""
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[group.reshape(-1)]


def _empty(
    k: int, chosen: Ints, candidates: int, probes: Sequence[LaterProbe], *, directed: int
) -> Effects:
    sets, splits = chosen.shape[:2]
    first, _ = _equal_rows(chosen.reshape(sets, -1))
    shape = (len(probes), sets + directed, splits)
    return Effects(
        k,
        candidates,
        first[first > 0],
        np.arange(sets, sets + directed),
        tuple(probe.name for probe in probes),
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.zeros(shape),
        np.zeros(shape[1:]),
        np.zeros(shape[1:]),
    )
