"""Scores of an arm for one concept: tests of units, probes, the curve over k, and localisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.probing.control_task import ControlTask, control_task
from analysis.concepts.probing.description_length import Codelength, online_codelength
from analysis.concepts.probing.elastic_net import nested_elastic_net
from analysis.concepts.probing.nonlinear import mlp_margins, random_features
from analysis.concepts.probing.ridge import (
    Space,
    held_out_accuracy,
    held_out_auc,
    nested_ridge,
    rotated,
)
from analysis.concepts.probing.sparse import (
    TrainingStatistic,
    UnitScores,
    best_units,
    sparse_margins,
    unit_scores,
)
from analysis.concepts.probing.splits import Splits, grouped_splits, permuted_groups
from analysis.concepts.settings import ConceptSettings, ProbeKind
from analysis.concepts.units.observations import group_means
from analysis.concepts.units.separation import Separation, separate
from analysis.concepts.worth.arms import Arm
from analysis.concepts.worth.localisation import KS, effective_number, loss_rises

__all__ = ["ArmScores", "FurtherProbe", "Question", "further_probes", "score_arm", "test_units"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

_MLP_REPEATS = 2


@dataclass(frozen=True, eq=False)
class Question:
    """The labels of one concept on the contexts of all words, and its splits.

    Parameters
    ----------
    labels
        bool, (rows,).
    words, groups
        int64, (rows,). The word of each row, and the group that is never split.
    splits, permuted_splits
        Splits for the true labels, and for permuted labels: those of the first repetition.
    permuted
        bool, (draws, rows). Permuted labels.
    settings
        Settings of the study.
    """

    labels: Bools
    words: Ints
    groups: Ints
    splits: Splits
    permuted: Bools
    settings: ConceptSettings

    @classmethod
    def of(
        cls, labels: Bools, words: Ints, groups: Ints, *, settings: ConceptSettings
    ) -> "Question":
        """Return the question with its splits; folds are at most the groups of the rarer class."""
        rarer = min(len(np.unique(groups[labels])), len(np.unique(groups[~labels])))
        splits = grouped_splits(
            labels.tolist(),
            groups,
            folds=max(2, min(settings.folds, rarer)),
            repeats=settings.repeats,
            seed=settings.seed,
        )
        permuted = permuted_groups(labels, groups, settings.probe_draws, seed=settings.seed)
        return cls(labels, words, groups, splits, permuted, settings)

    @property
    def columns(self) -> tuple[Bools, Bools]:
        """Labels and test rows of each split; bool, (splits, rows)."""
        return np.repeat(self.labels[None], len(self.splits), axis=0), self.splits.test

    @property
    def permuted_columns(self) -> tuple[Bools, Bools]:
        """Permuted labels and test rows; bool, (draws × folds, rows)."""
        once = self.splits.first(1)
        return (
            np.repeat(self.permuted, len(once), axis=0),
            np.tile(once.test, (len(self.permuted), 1)),
        )


@dataclass(frozen=True, eq=False)
class ArmScores:
    """Scores of an arm for one concept.

    Parameters
    ----------
    ks
        Numbers of units of the k-sparse probes, at most the live units.
    sparse_auc
        float64, (splits, ks).
    sparse_converged
        Share of the fits of k-sparse probes that converged; NaN without a live unit.
    auc, accuracy
        float64, (splits,). Of the ridge probe of all live units.
    converged
        Share of its fits that converged.
    permuted_auc
        float64, (draws,). Mean over folds, for permuted labels; ``permuted_sparse_auc`` is the same
        for each k, (draws, ks).
    effective
        Effective number of units.
    codelength
        Online description length; None for controls.
    control
        Control task; None if words are not repeated.
    units
        Held-out scores of each live unit alone.
    """

    ks: tuple[int, ...]
    sparse_auc: Floats
    sparse_converged: float
    auc: Floats
    accuracy: Floats
    converged: float
    permuted_auc: Floats
    permuted_sparse_auc: Floats
    effective: float
    codelength: Codelength | None
    control: ControlTask | None
    units: UnitScores


def test_units(arm: Arm, question: Question) -> Separation:
    """Test each live unit of an arm, on means over contexts of each group and label."""
    groups = question.groups
    values, labels = group_means(arm.live.values, groups, question.labels)
    how = question.settings
    return separate(values, labels, draws=how.draws, seed=how.seed)


def score_arm(arm: Arm, question: Question, *, complete: bool) -> ArmScores:
    """Probe an arm.

    Parameters
    ----------
    arm
        The arm.
    question
        The concept.
    complete
        Whether to compute permuted labels, description length and control task too.
    """
    how, live = question.settings, arm.live.values
    space = rotated(live)
    labels, test = question.columns
    fitted = nested_ridge(space, labels, ~test, groups=question.groups, seed=how.seed)
    ks = tuple(k for k in KS if k <= live.shape[1])
    draws = len(question.permuted) if complete else 0
    permuted, permuted_sparse = np.zeros(draws), np.zeros((draws, len(ks)))
    if draws:
        drawn, drawn_test = question.permuted_columns
        null = nested_ridge(space, drawn, ~drawn_test, groups=question.groups, seed=how.seed)
        permuted = _by_draw(held_out_auc(null.margins, drawn, drawn_test), draws)
        found, _ = _sparse_auc(live, drawn, drawn_test, ks)
        permuted_sparse = _by_draw(found, draws)
    rises = loss_rises(live, space, fitted, labels=question.labels, splits=question.splits)
    sparse_auc, sparse_converged = _sparse_auc(live, labels, test, ks)
    return ArmScores(
        ks=ks,
        sparse_auc=sparse_auc,
        sparse_converged=sparse_converged,
        auc=held_out_auc(fitted.margins, labels, test),
        accuracy=held_out_accuracy(fitted.margins, labels, test),
        converged=float(fitted.converged.mean()),
        permuted_auc=permuted,
        permuted_sparse_auc=permuted_sparse,
        effective=effective_number(rises, question.splits.ratio),
        codelength=_codelength(space, question) if complete else None,
        control=_control(space, question) if complete else None,
        units=unit_scores(live, question.labels[None], question.splits),
    )


def _by_draw(values: Floats, draws: int) -> Floats:
    """Return the mean over the folds of each draw."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(values.reshape(draws, -1, *values.shape[1:]), axis=1))


def _sparse_auc(
    values: Floats, labels: Bools, test: Bools, ks: Sequence[int]
) -> tuple[Floats, float]:
    """Return the held-out AUROC of k-sparse probes, (columns, ks), and the share that converged."""
    found = np.full((len(labels), len(ks)), np.nan)
    if not ks:
        return found, float("nan")
    converged = np.zeros(found.shape, dtype=bool)
    statistic = TrainingStatistic(values).signed_f(labels, ~test)
    units = best_units(statistic, max(ks))
    for number, k in enumerate(ks):
        margins, converged[:, number] = sparse_margins(values, labels, ~test, units=units[:, :k])
        found[:, number] = held_out_auc(margins, labels, test)
    return found, float(converged.mean())


def _codelength(space: Space, question: Question) -> Codelength:
    how = question.settings
    return online_codelength(
        space, question.labels, question.groups, orders=how.repeats, seed=how.seed
    )


def _control(space: Space, question: Question) -> ControlTask | None:
    how = question.settings
    return control_task(
        space,
        question.labels,
        question.words,
        draws=min(how.probe_draws, 5),
        folds=how.folds,
        seed=how.seed,
    )


@dataclass(frozen=True, eq=False)
class FurtherProbe:
    """A further probe of an arm.

    Parameters
    ----------
    kind
        The probe.
    auc
        float64, (splits,). For ``mlp`` the first two repetitions only.
    permuted_auc
        float64, (draws,).
    converged
        Share of its fits that converged; None for a fixed number of steps.
    """

    kind: ProbeKind
    auc: Floats
    permuted_auc: Floats
    converged: float | None


def further_probes(arm: Arm, question: Question) -> list[FurtherProbe]:
    """Fit the further probes that the settings request."""
    return [_further(kind, arm, question) for kind in question.settings.probe or ()]


def _further(kind: ProbeKind, arm: Arm, question: Question) -> FurtherProbe:
    how = question.settings
    splits = question.splits.first(_MLP_REPEATS) if kind == "mlp" else question.splits
    labels = np.repeat(question.labels[None], len(splits), axis=0)
    drawn, drawn_test = question.permuted_columns
    every = np.concatenate([labels, drawn])
    test = np.concatenate([splits.test, drawn_test])
    converged = None
    if kind == "mlp":
        margins = mlp_margins(rotated(arm.live.values), every, ~test, seed=how.seed)
    elif kind == "random features":
        space = random_features(rotated(arm.live.values), seed=how.seed)
        fitted = nested_ridge(space, every, ~test, groups=question.groups, seed=how.seed)
        margins, converged = fitted.margins, float(fitted.converged.mean())
    else:
        fitted = nested_elastic_net(
            arm.live.values, every, ~test, groups=question.groups, seed=how.seed
        )
        margins, converged = fitted.margins, float(fitted.converged.mean())
    auc = held_out_auc(margins, every, test)
    draws = len(question.permuted)
    permuted = _by_draw(auc[len(labels) :], draws) if draws else np.zeros(0)
    return FurtherProbe(kind, auc[: len(labels)], permuted, converged)
