"""Scores of an SAE against the true features: partners, edges, parents, and their chance levels.

All scores use sparse candidates and sparse joint counts, so that memory grows with the number
of features and of active pairs, not with the square of the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.statistics.directions import nearest, row_cosines, unit_rows
from ingest.match.assign import assign

__all__ = [
    "PairScores",
    "Partners",
    "ancestor_pairs",
    "candidates",
    "find_partners",
    "implied_pairs",
    "pair_scores",
    "random_directions",
    "recall_by_rate",
    "recovery_scores",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Partners:
    """The one-to-one partners of the true features.

    Parameters
    ----------
    partner
        int64, (true features,). Feature of the SAE; -1 for none.
    cosine
        float64, (true features,). Cosine with the partner; 0 without one.
    best
        float64, (true features,). Highest cosine with any feature of the SAE, which other true
        features may share; 0 if the SAE has no live feature.
    nearest
        int64, (live features,). The true feature nearest to each live feature of the SAE; several
        may have the same one.
    nearest_cosine
        float64, (live features,). Its cosine.
    """

    partner: Ints
    cosine: Floats
    best: Floats
    nearest: Ints
    nearest_cosine: Floats


def candidates(true: Floats, learned: Floats, n: int) -> tuple[Ints, Ints, Floats]:
    """Return the pairs of which one is among the ``n`` nearest directions of the other.

    Parameters
    ----------
    true, learned
        float64, (features, width). Directions; rows of zeros have cosine 0.
    n
        Number of nearest directions of each row, in both directions.

    Returns
    -------
    Row of ``true``, row of ``learned`` and cosine of each pair, each pair once.
    """
    a, b = unit_rows(true), unit_rows(learned)
    one, other = _nearest(a, b, n), _nearest(b, a, n)
    keys = np.unique(
        np.concatenate([one[0] * len(b) + one[1], other[1] * len(b) + other[0]])
    ).astype(np.int64)
    row, column = np.divmod(keys, max(len(b), 1))
    return row, column, row_cosines(a, b, (row, column))


def find_partners(true: Floats, learned: Floats, live: Ints, *, n: int) -> Partners:
    """Assign to each true feature at most one live feature of the SAE, of highest total cosine.

    Parameters
    ----------
    true, learned
        float64, (features, width). Directions of the true features and of the SAE's decoder.
    live
        int64. Features of the SAE that are active on some token.
    n
        Number of nearest directions that are candidates; see ``candidates``.
    """
    partner, cosine = np.full(len(true), -1), np.zeros(len(true))
    row, column, value = candidates(true, learned[live], n)
    chosen = assign(row, column, value, threshold=0.0)
    partner[row[chosen]] = live[column[chosen]]
    cosine[row[chosen]] = value[chosen]
    _, best = _highest(row, column, value, len(true))
    nearest, nearest_cosine = _highest(column, row, value, len(live))
    return Partners(partner, cosine, best, nearest, nearest_cosine)


def recovery_scores(partners: Partners, *, live: int, threshold: float) -> dict[str, Any]:
    """Return the scores of one-to-one recovery.

    Parameters
    ----------
    partners
        The partners of the true features.
    live
        Number of live features of the SAE.
    threshold
        Cosine above which a true feature is recovered.

    Returns
    -------
    dict
        ``recovered`` (number of true features), ``recall`` (their share), ``precision`` (share
        of live features that are a partner above the threshold), ``f1``, and ``mean_cosine``:
        sum of cosines with partners / the smaller number of features [1]_.

    References
    ----------
    .. [1] X. Song et al., "Position: Mechanistic Interpretability Should Prioritize Feature
       Consistency in SAEs", 2025, arXiv:2505.20254.
    """
    true = len(partners.partner)
    recovered = int((partners.cosine > threshold).sum())
    return {
        "recovered": recovered,
        "recall": recovered / true,
        "precision": recovered / live if live else 0.0,
        "f1": 2 * recovered / (true + live),
        "mean_cosine": float(partners.cosine.sum() / min(true, live)) if live else 0.0,
    }


def random_directions(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return isotropic random unit vectors, float64 of this shape."""
    unit: Floats = unit_rows(rng.standard_normal(shape))
    return unit


def recall_by_rate(
    rate: Floats, partners: Partners, *, threshold: float
) -> list[dict[str, float | int]]:
    """Return the recall of true features by octave of their rate, rarest first.

    Parameters
    ----------
    rate
        float64, (true features,). Share of tokens on which each is active; features that are
        never active are excluded.
    partners
        Their partners.
    threshold
        Cosine above which a true feature is recovered.
    """
    seen = rate > 0
    octave = np.floor(np.log2(rate[seen])).astype(np.int64)
    cosine = partners.cosine[seen]
    return [
        {
            "low": float(2.0**n),
            "high": float(2.0 ** (n + 1)),
            "features": int((octave == n).sum()),
            "recall": float((cosine[octave == n] > threshold).mean()),
            "mean_cosine": float(cosine[octave == n].mean()),
        }
        for n in np.unique(octave).tolist()
    ]


@dataclass(frozen=True)
class PairScores:
    """Agreement of two sets of pairs of features.

    Parameters
    ----------
    true, learned
        Number of pairs among the true features, and among the features of the SAE.
    correct
        Number of pairs of the SAE whose two features are partners of a true pair.
    chance
        Expected ``correct`` if the recovered features were exchanged at random.
    """

    true: int
    learned: int
    correct: int
    chance: float

    @property
    def precision(self) -> float | None:
        """Share of the SAE's pairs that are true; None if it has none."""
        return self.correct / self.learned if self.learned else None

    @property
    def recall(self) -> float | None:
        """Share of the true pairs that the SAE has; None if there are none."""
        return self.correct / self.true if self.true else None

    @property
    def chance_precision(self) -> float | None:
        """The precision expected under the exchange; None if the SAE has no pair."""
        return self.chance / self.learned if self.learned else None


def pair_scores(true: Ints, learned: Ints, true_of: Ints, *, directed: bool = False) -> PairScores:
    """Compare pairs of the SAE with true pairs.

    Parameters
    ----------
    true
        int64, (pairs, 2). Pairs of true features.
    learned
        int64, (pairs, 2). Pairs of features of the SAE.
    true_of
        int64, (features of the SAE,). The true feature that each recovers; -1 for none.
    directed
        Whether the order within a pair matters.
    """
    size = 1 + int(max(true_of.max(initial=-1), true.max(initial=-1)))
    keys = _keys(true, size, directed=directed)
    mapped = true_of[learned] if len(learned) else np.empty((0, 2), dtype=np.int64)
    mapped = mapped[(mapped >= 0).all(axis=1)]
    correct = np.isin(_keys(mapped, size, directed=directed), keys)
    recovered = np.unique(true_of[true_of >= 0])
    inside = int(np.isin(true, recovered).all(axis=1).sum()) if len(true) else 0
    possible = len(recovered) * (len(recovered) - 1) / (1 if directed else 2)
    return PairScores(
        true=len(true),
        learned=len(learned),
        correct=int(correct.sum()),
        chance=len(mapped) * inside / possible if possible else 0.0,
    )


def implied_pairs(
    joint: sparse.csr_array, active: Ints, *, tokens: int, share: float, lift: float
) -> Ints:
    """Return the pairs (child, parent): the parent is active on most tokens of the child.

    Parameters
    ----------
    joint
        (features, features). Tokens on which both are active; its diagonal is ignored.
    active
        int64, (features,). Tokens on which each is active.
    tokens
        Number of tokens.
    share
        Lowest share of the child's tokens on which the parent is active.
    lift
        Lowest ratio of that share to the parent's rate, so that features which are active
        almost everywhere are no parents.

    Returns
    -------
    int64, (pairs, 2)
        The parent is active on more tokens than the child; equally frequent features are no pair.
    """
    entries = joint.tocoo()
    child, parent = entries.row.astype(np.int64), entries.col.astype(np.int64)
    of_child = entries.data / np.maximum(active[child], 1)
    implied = (
        (child != parent)
        & (of_child >= share)
        & (of_child * tokens >= lift * active[parent])
        & (active[child] < active[parent])
    )
    return np.stack([child[implied], parent[implied]], axis=1)


def ancestor_pairs(parent: Sequence[int]) -> Ints:
    """Return all pairs (feature, ancestor), where parents precede their children; -1 is no parent.

    Examples
    --------
    >>> ancestor_pairs([-1, 0, 1]).tolist()
    [[1, 0], [2, 1], [2, 0]]
    """
    pairs = []
    for feature, above in enumerate(parent):
        while above >= 0:
            pairs.append((feature, above))
            above = parent[above]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _keys(pairs: Ints, size: int, *, directed: bool) -> Ints:
    """Return a number for each pair."""
    if not directed:
        pairs = np.sort(pairs, axis=1)
    keys: Ints = pairs[:, 0] * size + pairs[:, 1]
    return keys


def _highest(of: Ints, other: Ints, value: Floats, size: int) -> tuple[Ints, Floats]:
    """Return, for each feature, the other feature of its highest value, and that value."""
    at = np.lexsort((other, -value, of))
    first = at[np.diff(of[at], prepend=-1) > 0]
    found, highest = np.full(size, -1), np.zeros(size)
    found[of[first]], highest[of[first]] = other[first], value[first]
    return found, highest


def _nearest(rows: Floats, others: Floats, n: int) -> tuple[Ints, Ints]:
    """Return each row with its ``n`` nearest rows of ``others``."""
    index = nearest(rows, others, k=n).index
    return np.repeat(np.arange(len(rows)), index.shape[1]), index.ravel()
