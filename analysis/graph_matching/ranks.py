"""Ranks of the true counterpart among all candidates, in expectation over ties."""

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURES", "TOPS", "Ranks", "first", "rank"]

Floats: TypeAlias = NDArray[np.float64]

TOPS = (1, 10, 100)

#: The columns of ``Ranks.scores``.
MEASURES = (*(f"recall@{k}" for k in TOPS), "mrr")

_CHUNK = 1 << 24  # scores compared at once


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the true counterparts, with one entry per query.

    Parameters
    ----------
    better
        int64. Number of candidates with a higher score.
    equal
        int64. Number of candidates with the same score, including the true one. With ties in
        random order, its rank is uniform from ``better + 1`` to ``better + equal``.
    candidates
        int64. Number of candidates.
    """

    better: NDArray[np.int64]
    equal: NDArray[np.int64]
    candidates: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.better)

    def take(self, which: NDArray[np.bool_]) -> "Ranks":
        """Select queries."""
        return Ranks(*(getattr(self, field.name)[which] for field in fields(self)))

    @property
    def informative(self) -> NDArray[np.bool_]:
        """Whether the scores of a query distinguish the true candidate from any other."""
        return self.equal < self.candidates

    @property
    def scores(self) -> Floats:
        """float64, (queries, 4). Expected recall@1, recall@10, recall@100 and reciprocal rank."""
        first, last = self.better, self.better + self.equal
        recalls = [np.clip(k - first, 0, self.equal) / self.equal for k in TOPS]
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, last.max(initial=0) + 1))])
        return np.stack([*recalls, (harmonic[last] - harmonic[first]) / self.equal], axis=1)


def rank(
    scores: NDArray[np.floating], true: NDArray[np.int64], *, tolerance: float = 1e-9
) -> Ranks:
    """Rank the true candidate of each query.

    Parameters
    ----------
    scores
        (queries, candidates). Higher is better; all finite.
    true
        int64, (queries,). The column of the true candidate.
    tolerance
        Largest difference of scores that counts as a tie, since the last digits of a sum depend
        on its order.
    """
    better, equal = (np.zeros(len(true), dtype=np.int64) for _ in range(2))
    step = max(1, _CHUNK // max(1, scores.shape[1]))
    for i in range(0, len(true), step):
        some = slice(i, i + step)
        part = scores[some]
        above = part - np.take_along_axis(part, true[some, None], axis=1)
        better[some] = (above > tolerance).sum(axis=1)
        equal[some] = (np.abs(above) <= tolerance).sum(axis=1)
    return Ranks(better, equal, np.full(len(true), scores.shape[1]))


def first(scores: NDArray[np.floating], *, tolerance: float = 1e-9) -> Floats:
    """Return the share of each candidate in the first rank of each query, split among ties."""
    best = scores >= scores.max(axis=1, keepdims=True) - tolerance
    shares: Floats = best / best.sum(axis=1, keepdims=True)
    return shares
