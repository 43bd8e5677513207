"""Control tasks: random labels for each word, where words occur in several contexts.

A control task asks how well a probe memorises arbitrary words. It needs test words that also occur
in training, so contexts are split here without regard to words. Where each word has one context,
a control task measures nothing: its accuracy is chance by construction.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.probing.ridge import Space, held_out_accuracy, nested_ridge
from analysis.concepts.probing.splits import grouped_splits, permuted_groups

__all__ = ["ControlTask", "control_task"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class ControlTask:
    """Balanced accuracy of the labels and of random labels for each word, on contexts of seen words.

    Parameters
    ----------
    accuracy
        With the true labels.
    control
        Mean over draws of random labels.
    draws
        Number of draws.
    """

    accuracy: float
    control: float
    draws: int

    @property
    def selectivity(self) -> float:
        """``accuracy`` - ``control``."""
        return self.accuracy - self.control


def control_task(
    space: Space, labels: Bools, words: Ints, *, draws: int, folds: int, seed: int
) -> ControlTask | None:
    """Return the accuracy of a probe and of its control task; None if no word is repeated.

    Parameters
    ----------
    space
        The vectors, a row for each context.
    labels
        bool, (rows,).
    words
        int64, (rows,). The word of each context.
    draws, folds, seed
        Random labellings, folds of contexts, and the seed.

    References
    ----------
    J. Hewitt and P. Liang, "Designing and Interpreting Probes with Control Tasks", 2019,
    arXiv:1909.03368.
    """
    _, counts = np.unique(words, return_counts=True)
    if counts.mean() < 2 or not draws:
        return None
    contexts = np.arange(len(labels))
    every = np.concatenate([labels[None], permuted_groups(labels, words, draws, seed=seed)])
    cut = grouped_splits(words.tolist(), contexts, folds=folds, repeats=1, seed=seed)
    test = np.tile(cut.test, (len(every), 1))
    repeated = np.repeat(every, len(cut), axis=0)
    fitted = nested_ridge(space, repeated, ~test, groups=contexts, seed=seed)
    found = held_out_accuracy(fitted.margins, repeated, test).reshape(len(every), -1)
    with np.errstate(invalid="ignore"):
        return ControlTask(float(np.nanmean(found[0])), float(np.nanmean(found[1:])), draws)
