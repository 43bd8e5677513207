"""Means of the target by token id, shrunk by what predicts documents left out best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from analysis.residual.activations import Rows
from analysis.residual.settings import SHRINKAGES

__all__ = ["Prior", "Sums", "TokenTable"]

#: What the target is taken for on some token ids, from the source's vectors there.
Prior: TypeAlias = Callable[[Tensor], Tensor]

#: Token ids that are looked at together, so that few copies of their sums are held.
AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Shrunk means by token id.

    Parameters
    ----------
    ids
        int64, (ids,), ascending.
    off
        float64, (ids, target). How far the mean of each is from its prior.
    shrunk
        Tokens of the prior that were mixed into the mean of each id; None if that could not
        be chosen, as all tokens are of one half of the documents, and 1 was taken.
    """

    ids: Tensor
    off: Tensor
    shrunk: float | None


class Sums:
    """Sums of the target by token id and half of the documents, in rows made as ids turn up."""

    def __init__(self) -> None:
        self._row: dict[int, int] = {}
        self._sums = torch.zeros(0, 2, 0, dtype=torch.float64)
        self._counts = torch.zeros(0, 2, dtype=torch.float64)
        self._sources = torch.zeros(0, 0)

    def add(self, rows: Rows, halves: Tensor) -> None:
        """Add some tokens; ``halves``, int64 (tokens,), are 0 or 1."""
        each, at = torch.unique(rows.ids, return_inverse=True)
        to = torch.tensor([self._row.setdefault(i, len(self._row)) for i in each.tolist()])
        self._grow(rows.source.shape[1], rows.target.shape[1])
        where = 2 * to[at] + halves
        self._sums.view(-1, self._sums.shape[2]).index_add_(0, where, rows.target.double())
        self._counts.view(-1).index_add_(0, where, torch.ones(len(at), dtype=torch.float64))
        one = torch.zeros(len(each), dtype=torch.int64).scatter_(0, at, torch.arange(len(at)))
        self._sources[to] = rows.source[one]

    def _grow(self, source: int, target: int) -> None:
        """Make room for the ids there are, half as much again as is needed."""
        if len(self._row) > len(self._counts):
            more = len(self._row) + len(self._row) // 2 - len(self._counts)
            shapes = {"_sums": (2, target), "_counts": (2,), "_sources": (source,)}
            for name, shape in shapes.items():
                old: Tensor = getattr(self, name)
                kept = old if len(old) else old.new_zeros(0, *shape)
                setattr(self, name, torch.cat([kept, old.new_zeros(more, *shape)]))

    def table(self, prior: Prior, *, halves: tuple[Prior, Prior]) -> TokenTable:
        """Return the means of the ids, shrunk towards a prior.

        Parameters
        ----------
        prior
            Makes (ids, target), or (target,) for all, of the source's vectors of some ids,
            (ids, source), float64: of one token each, so it is of use where the source is a
            function of the token id.
        halves
            The same as fitted on either half of the documents alone: a prior that has seen
            the other half would leave less of it than it will of other text.
        """
        ids = torch.tensor(sorted(self._row))
        shrunk = self._shrinkage(halves)
        mixed = 1.0 if shrunk is None else shrunk
        off = [
            left.sum(1) / (counts.sum(1, keepdim=True) + mixed)
            for left, counts in self._left(prior)
        ]
        return TokenTable(ids, torch.cat(off), shrunk)

    def _left(self, prior: Prior) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield sums of what the prior leaves, (ids, halves, target), and counts, (ids, halves), by id."""
        rows = torch.tensor([self._row[i] for i in sorted(self._row)])
        for some in torch.split(rows, AT_ONCE):
            counts = self._counts[some]
            told = prior(self._sources[some].double()).reshape(-1, 1, self._sums.shape[2])
            yield self._sums[some] - counts[:, :, None] * told, counts

    def _shrinkage(self, halves: tuple[Prior, Prior]) -> float | None:
        """Return how many tokens of the prior are mixed into the mean of each id.

        Of those in ``SHRINKAGES`` the one by which the prior and the means of one half of
        the documents predict the other best, both ways.
        """
        if not self._counts.sum(0).all():
            return None
        shrinkages = torch.tensor(SHRINKAGES, dtype=torch.float64)
        error = torch.zeros_like(shrinkages)
        for one, other in ((0, 1), (1, 0)):
            for left, counts in self._left(halves[one]):
                n = counts[:, one]
                off = left[:, one] / n.clamp(min=1)[:, None]
                against = (left[:, other] * off).sum(1)
                square = counts[:, other] * (off**2).sum(1)
                weights = n / (n + shrinkages[:, None]).clamp(min=1e-9)  # (shrinkages, ids)
                error += weights**2 @ square - 2 * weights @ against
        return float(shrinkages[error.argmin()])
