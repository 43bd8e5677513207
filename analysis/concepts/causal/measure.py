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
from analysis.concepts.causal.word_runs import WordRuns
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
]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

NEAR = 10
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
        Splits of its words, as many as those of other sets.
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


def equal_frequency(
    chosen: Ints, counts: Ints, *, number: int, rng: np.random.Generator
) -> list[Ints]:
    """Return sets of random units, each member similar in frequency to one chosen unit.

    Parameters
    ----------
    chosen
        int64, (k,). The chosen units.
    counts
        int64, (units,). Words on which each unit is active.
    number
        Number of sets.
    rng
        Random generator.

    Returns
    -------
    Sets of k units. Member i is drawn from the ten active units whose count is nearest, by ratio, to
    that of unit i. Chosen units and earlier members of the set are excluded. No set, if fewer
    than k other units are active.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> equal_frequency(np.array([0]), np.array([5, 5, 0, 0]), number=1, rng=rng)
    [array([1])]
    """
    pool = np.setdiff1d(np.flatnonzero(counts > 0), chosen)
    if len(pool) < len(chosen):
        return []
    log = np.log(np.maximum(counts, 1))
    found = []
    for _ in range(number):
        free, members = pool, []
        for unit in chosen:
            # Units of equal distance are taken in a random order.
            order = np.lexsort((rng.random(len(free)), np.abs(log[free] - log[unit])))
            member = int(free[order[rng.integers(min(NEAR, len(free)))]])
            members.append(member)
            free = free[free != member]
        found.append(np.array(members, dtype=np.int64))
    return found


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of the ablation of the k best features of a concept, and of random sets of k features.

    Parameters
    ----------
    k
        Number of features.
    measured
        Names of the measured concepts.
    auc, gap
        float64, (measured, 1 + sets, splits). AUROC and gap with the features ablated; the first
        set has the best features.
    size
        float64, (1 + sets, splits). Size of the change; see ``word_runs.Ablated``.
    active
        float64, (1 + sets, splits). Mean share of training words on which a feature is active.
    """

    k: int
    measured: tuple[str, ...]
    auc: Floats
    gap: Floats
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
        Numbers of features and of random sets, and the seed.
    stage
        Advanced by one for each split.

    Notes
    -----
    A k with fewer than k further active features in a split is omitted, because no random set exists.
    """
    sets = 1 + settings.random_sets
    tests = words.splits.test
    every = list({id(probe.words): probe.words for probe in probes}.values())
    empty = {
        k: Effects(
            k,
            tuple(probe.name for probe in probes),
            np.full((len(probes), sets, len(tests)), np.nan),
            np.full((len(probes), sets, len(tests)), np.nan),
            np.zeros((sets, len(tests))),
            np.zeros((sets, len(tests))),
        )
        for k in sorted(set(settings.ablated))
    }
    statistic = TrainingStatistic(features.values).signed_f(
        np.repeat(words.labels[concept][None], len(tests), axis=0), ~tests
    )
    ranked = best_units(statistic, max(empty))
    for split in range(len(tests)):
        train = ~tests[split]
        counts = (features.values[train] > 0).sum(axis=0)
        rng = np.random.default_rng([seed, 7, split])
        contexts = np.concatenate([one.rows[one.splits.test[split]] for one in every])
        for k in list(empty):
            best = ranked[split, :k]
            drawn = equal_frequency(best, counts, number=settings.random_sets, rng=rng)
            if len(best) < k or not drawn:
                del empty[k]
                continue
            chosen = [best, *drawn]
            effects = empty[k]
            effects.active[:, split] = [counts[units].mean() / train.sum() for units in chosen]
            found = list(runs.ablated(contexts, [features.units[units] for units in chosen]))
            effects.size[:, split] = [one.size for one in found]
            later = np.stack([one.later for one in found])
            for number, probe in enumerate(probes):
                rows = probe.words.rows[probe.words.splits.test[split]]
                at = np.searchsorted(contexts, rows)
                auc, gap = probe.scores(later[:, at], split)
                effects.auc[number, :, split], effects.gap[number, :, split] = auc, gap
        stage.advance(1)
    yield from empty.values()
